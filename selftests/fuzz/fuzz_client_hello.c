/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_client_hello.c - the first bytes of a stranger's connection. Beside the sanitizers: what is
 * decided does not change with more bytes, ours has our name in it, and nothing is undecided
 * forever.
 */
#include <string.h>

#include "client_hello.h"
#include "fuzz.h"
#include "tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum kmtls_client_hello before = KMTLS_CLIENT_HELLO_PARTIAL, now;
	uint8_t *copy = malloc(size ? size : 1);

	HOLDS(copy);
	for (size_t length = 0; length <= size; length++) {
		/* It ends where the block does: reading on is found out. */
		memcpy(copy + size - length, data, length);
		now = kmtls_client_hello_look(copy + size - length, length);
		HOLDS(before == KMTLS_CLIENT_HELLO_PARTIAL || now == before);
		HOLDS(now != KMTLS_CLIENT_HELLO_PARTIAL || length < KMTLS_CLIENT_HELLO_MAX);
		/* Its records may be cut anywhere, so only its letters are there for certain. */
		HOLDS(now != KMTLS_CLIENT_HELLO_OURS ||
		      (memchr(data, KMTLS_ALPN[0], length) && length > 60));
		before = now;
	}
	free(copy);
	return 0;
}
