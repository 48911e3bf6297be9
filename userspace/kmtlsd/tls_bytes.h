/* SPDX-License-Identifier: Apache-2.0 */
/* tls_bytes.h - reading what TLS is written in (RFC 8446 section 3): numbers, and vectors with their
 * length in front. Nothing is read beyond what is there. */
#ifndef KMTLS_TLS_BYTES_H
#define KMTLS_TLS_BYTES_H

#include <stdbool.h>
#include <stddef.h>

/* What is left of something of known length. */
struct kmtls_tls_bytes {
	const unsigned char *at;
	size_t left;
};

static inline bool kmtls_tls_take(struct kmtls_tls_bytes *from, size_t size,
				  struct kmtls_tls_bytes *ret_part)
{
	if (from->left < size)
		return false;
	ret_part->at = from->at;
	ret_part->left = size;
	from->at += size;
	from->left -= size;
	return true;
}

static inline size_t kmtls_tls_number(const unsigned char *at, unsigned width)
{
	size_t value = 0;

	for (unsigned i = 0; i < width; i++)
		value = value << 8 | at[i];
	return value;
}

/* A part with its length, width bytes, in front. */
static inline bool kmtls_tls_take_vector(struct kmtls_tls_bytes *from, unsigned width,
					 struct kmtls_tls_bytes *ret_part)
{
	struct kmtls_tls_bytes length;

	return kmtls_tls_take(from, width, &length) &&
	       kmtls_tls_take(from, kmtls_tls_number(length.at, width), ret_part);
}

#endif
