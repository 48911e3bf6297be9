/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hkdf.h - HMAC (RFC 2104) and what TLS 1.3 derives with it (RFC 5869, RFC 8446 section 7.1), on
 * OpenSSL's hashes. Its own objects for HMAC and HKDF cost several times what they compute.
 */
#ifndef KMTLS_HKDF_H
#define KMTLS_HKDF_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>

struct kmtls_bytes {
	const unsigned char *at;
	size_t length;
};

/* A hash of the cipher suites, and what it is computed in; all zero is none. */
struct kmtls_hkdf {
	EVP_MD_CTX *ctx;
	const EVP_MD *digest;
	size_t length, block; /* bytes: 32 and 64, 48 and 128 */
};

/* false, here and below: OpenSSL does not, its error queue says why; or lengths are not TLS 1.3's. */

/* length: of the hash, 32 is SHA-256, 48 SHA-384. */
bool kmtls_hkdf_open(struct kmtls_hkdf *hkdf, size_t length);
void kmtls_hkdf_close(struct kmtls_hkdf *hkdf); /* wipes what was computed */
#define __cleanup_hkdf __attribute__((cleanup(kmtls_hkdf_close)))

bool kmtls_hkdf_hash(const struct kmtls_hkdf *hkdf, const struct kmtls_bytes *parts, unsigned count,
		     unsigned char *ret_hash);
/* HMAC, which HKDF-Extract is, too, with the salt as key. The key is not longer than a block. */
bool kmtls_hkdf_hmac(const struct kmtls_hkdf *hkdf, const struct kmtls_bytes *key,
		     const struct kmtls_bytes *data, unsigned char *ret_mac);
/* HKDF-Expand-Label(secret, prefix + label, data, length). */
bool kmtls_hkdf_expand_label(const struct kmtls_hkdf *hkdf, const struct kmtls_bytes *secret,
			     const struct kmtls_bytes *prefix, const struct kmtls_bytes *label,
			     const struct kmtls_bytes *data, unsigned char *ret_bytes,
			     size_t length);

#endif
