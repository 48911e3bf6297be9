/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certificate.h - makes the two kinds of certificate of the built-in CA: its root and the
 * SVIDs below it. What they contain is fixed here; whom they are for is the caller's.
 */
#ifndef KMTLS_CERTIFICATE_H
#define KMTLS_CERTIFICATE_H

#include <openssl/x509.h>
#include <time.h>

/* Seconds a certificate is valid before it was made: clocks of nodes differ. */
#define KMTLS_CERTIFICATE_SKEW 300

/* A new EC P-256 key and its self-signed root. -EIO: OpenSSL. */
int kmtls_certificate_new_root(const char *trust_domain, time_t now, unsigned ttl, X509 **ret_root,
			       EVP_PKEY **ret_key);

/*
 * A new EC P-256 key and a leaf for the SPIFFE ID id (not checked here), within the
 * validity of the root. -EKEYEXPIRED: now is outside of that; -EIO: OpenSSL.
 */
int kmtls_certificate_new_leaf(const char *id, time_t now, unsigned ttl, X509 *root,
			       EVP_PKEY *root_key, X509 **ret_leaf, EVP_PKEY **ret_key);

#endif
