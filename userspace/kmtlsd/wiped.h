/* SPDX-License-Identifier: Apache-2.0 */
/* wiped.h - a buffer for texts that hold a private key: it is wiped when it goes out of scope. */
#ifndef KMTLS_WIPED_H
#define KMTLS_WIPED_H

#include <openssl/crypto.h>
#include <stddef.h>
#include <stdlib.h>

struct kmtls_wiped {
	char *bytes; /* malloc() */
	size_t length, size;
};

static inline void kmtls_wiped_free(struct kmtls_wiped *buffer)
{
	if (buffer->bytes)
		OPENSSL_cleanse(buffer->bytes, buffer->size);
	free(buffer->bytes);
}

#define __cleanup_wiped __attribute__((cleanup(kmtls_wiped_free)))

#endif
