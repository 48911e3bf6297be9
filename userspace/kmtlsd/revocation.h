/* SPDX-License-Identifier: Apache-2.0 */
/*
 * revocation.h - the certificates that the CRLs in use (crl.h) revoke, for quick questions from
 * any thread. A certificate is named by its issuer's key and its serial number, so that a CA can
 * revoke what it has signed itself and nothing else, whatever its name.
 */
#ifndef KMTLS_REVOCATION_H
#define KMTLS_REVOCATION_H

#include <linux/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>

/* The first eight bytes of SHA-256 of the issuer's public key (DER of the bits) and the serial
 * number, big-endian; never 0. */
__u64 kmtls_revocation_hash(const X509 *issuer, const ASN1_INTEGER *serial);

/* 0, what has no hash, is not revoked. */
bool kmtls_revocation_holds(__u64 hash);

/* All that are revoked from now on; sorts hashes and takes them over (free()). true: that is
 * something else than before. */
bool kmtls_revocation_replace(__u64 *hashes, size_t count);
/* How often that was so. */
__u64 kmtls_revocation_generation(void);

#endif
