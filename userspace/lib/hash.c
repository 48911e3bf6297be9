/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash.c - the 64-bit name of a text in map keys: the head of its SHA-256, so that anyone
 * with sha256sum can compute a key (see abi.h, names).
 */
#include "hash.h"

#include <openssl/sha.h>
#include <string.h>

__u64 kmtls_hash_text(const char *text)
{
	return kmtls_hash_bytes(text, strlen(text));
}

__u64 kmtls_hash_bytes(const char *bytes, size_t length)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	__u64 hash = 0;
	int i;

	SHA256((const unsigned char *)bytes, length, digest);
	for (i = 0; i < 8; i++)
		hash = hash << 8 | digest[i];
	return hash;
}
