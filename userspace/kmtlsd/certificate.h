/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certificate.h - makes the two kinds of certificate that the daemon makes: the root of a built-in
 * CA, and SVIDs below any CA it has the key of. What they contain is fixed here; whom they are for
 * is the caller's.
 */
#ifndef KMTLS_CERTIFICATE_H
#define KMTLS_CERTIFICATE_H

#include <openssl/x509.h>
#include <time.h>

#include "key_type.h"

/* Seconds a certificate is valid before it was made: clocks of nodes differ. */
#define KMTLS_CERTIFICATE_SKEW 300

/* A new key and its self-signed root. -EIO: OpenSSL. */
int kmtls_certificate_new_root(const char *trust_domain, enum kmtls_key_type key_type, time_t now,
			       unsigned ttl, X509 **ret_root, EVP_PKEY **ret_key);

/*
 * A new key and a leaf for the SPIFFE ID id (not checked here), within the validity of its
 * issuer and not beyond end. -EKEYEXPIRED: now is outside of that; -EIO: OpenSSL.
 */
int kmtls_certificate_new_leaf(const char *id, enum kmtls_key_type key_type, time_t now,
			       unsigned ttl, time_t end, X509 *issuer, EVP_PKEY *issuer_key,
			       X509 **ret_leaf, EVP_PKEY **ret_key);

/* From its encoding, in OpenSSL's own library context; the given one is freed. NULL, and the given one is
 * as it was: there is no memory. */
X509 *kmtls_certificate_read_again(X509 *certificate);

#endif
