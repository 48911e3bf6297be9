/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca.h - a certificate authority whose key the daemon has: what sources that sign SVIDs
 * themselves have in common, wherever the CA came from.
 */
#ifndef KMTLS_CA_H
#define KMTLS_CA_H

#include <openssl/x509.h>

#include "key_type.h"

struct kmtls_identity_material;

struct kmtls_ca {
	EVP_PKEY *key; /* of the first of chain; freeing it wipes it */
	/* Nearest CA first, without the root; a CA that is the root itself: only that. */
	STACK_OF(X509) * chain;
	STACK_OF(X509) * roots; /* one at least */
};

/* The certificate that signs SVIDs. */
X509 *kmtls_ca_certificate(const struct kmtls_ca *ca);

/*
 * A fresh SVID for id, which must be of trust_domain; it does not outlive any certificate above
 * it. -EINVAL, -EKEYEXPIRED, -EIO and a sentence in ret_why (256 bytes).
 */
int kmtls_ca_issue(const struct kmtls_ca *ca, const char *trust_domain, const char *id,
		   enum kmtls_key_type key_type, unsigned ttl,
		   struct kmtls_identity_material *ret_material, char *ret_why);

/* Frees what is in it. */
void kmtls_ca_clear(struct kmtls_ca *ca);

#endif
