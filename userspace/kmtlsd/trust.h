/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trust.h - the trust bundles of one SVID: for each trust domain the roots that vouch for it, and
 * for it only. Immutable and reference counted: a change makes a new one, handshakes under way
 * keep theirs.
 */
#ifndef KMTLS_TRUST_H
#define KMTLS_TRUST_H

#include <openssl/x509.h>
#include <stddef.h>

/* Trust domains in one set, and certificates in one bundle. */
#define KMTLS_TRUST_DOMAINS_MAX 256
#define KMTLS_TRUST_ROOTS_MAX 64

struct kmtls_trust_bundle {
	const char *trust_domain; /* as in a SPIFFE ID; compared byte by byte */
	STACK_OF(X509) * roots; /* at least one */
};

struct kmtls_trust {
	int references; /* atomic */
	unsigned count;
	struct kmtls_trust_bundle bundles[]; /* texts and stacks are its own */
};

/*
 * Takes references of its own. -EINVAL: none, too many, one of an empty bundle, or a trust domain
 * that is there twice, with a sentence (a constant) in *ret_why; -ENOMEM.
 */
int kmtls_trust_new(const struct kmtls_trust_bundle *bundles, unsigned count,
		    struct kmtls_trust **ret_trust, const char **ret_why);
struct kmtls_trust *kmtls_trust_get(struct kmtls_trust *trust);
void kmtls_trust_put(struct kmtls_trust *trust); /* NULL is fine */

/* The roots of the trust domain of that many bytes; NULL: there is no bundle for it. */
STACK_OF(X509) *
	kmtls_trust_roots(const struct kmtls_trust *trust, const char *trust_domain, size_t length);

#endif
