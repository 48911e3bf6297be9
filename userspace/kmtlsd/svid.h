/* SPDX-License-Identifier: Apache-2.0 */
/*
 * svid.h - an X.509-SVID with its key and trust bundle, and the two SSL_CTX made from it
 * once. Immutable and reference counted: rotation makes a new one, handshakes under way
 * keep theirs.
 */
#ifndef KMTLS_SVID_H
#define KMTLS_SVID_H

#include <openssl/ssl.h>
#include <time.h>

#include "kmtls/abi.h"
#include "trust.h"

struct kmtls_svid {
	int references; /* atomic */
	__u64 number; /* no other of this process has it */
	char id[KMTLS_SPIFFE_ID_MAX + 1]; /* SPIFFE ID, as in the certificate */
	__u64 id_hash;
	time_t not_before, not_after; /* of the leaf */
	struct kmtls_trust *trust; /* whom the pod believes */
	SSL_CTX *client; /* for connecting pods */
	SSL_CTX *server; /* for accepting pods */
};

/*
 * Takes references of its own to everything given. chain may be NULL (leaf only), nearest
 * issuer first otherwise; bundle is that of the SVID's own trust domain. Checks that key and leaf match and that the leaf is an SVID.
 * -EINVAL: and why as a sentence in *ret_why (a constant); -ENOMEM.
 */
int kmtls_svid_new(X509 *leaf, STACK_OF(X509) * chain, EVP_PKEY *key, STACK_OF(X509) * bundle,
		   struct kmtls_svid **ret_svid, const char **ret_why);
/* What is wrong with a leaf that kmtls_verify_leaf() refuses. */
const char *kmtls_svid_rule(enum kmtls_reason reason);
/* The same with bundles of several trust domains; one of the SVID's own must be among them. */
int kmtls_svid_new_federated(X509 *leaf, STACK_OF(X509) * chain, EVP_PKEY *key,
			     struct kmtls_trust *trust, struct kmtls_svid **ret_svid,
			     const char **ret_why);
struct kmtls_svid *kmtls_svid_get(struct kmtls_svid *svid);
void kmtls_svid_put(struct kmtls_svid *svid); /* NULL is fine */

#endif
