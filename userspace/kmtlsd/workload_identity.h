/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload_identity.h - what a SPIFFE agent has said about one workload: SVID, key, trust bundles,
 * revocation lists; made of DER and checked, so that whoever gets one may use it. Immutable and
 * reference counted.
 */
#ifndef KMTLS_WORKLOAD_IDENTITY_H
#define KMTLS_WORKLOAD_IDENTITY_H

#include <kmtls/abi.h>
#include <openssl/x509.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define KMTLS_WORKLOAD_WHY 256
#define KMTLS_WORKLOAD_TRUST_DOMAIN_MAX 255
#define KMTLS_WORKLOAD_HINT_MAX 1024
#define KMTLS_WORKLOAD_CHAIN_MAX 8 /* certificates above the leaf */
#define KMTLS_WORKLOAD_CERTIFICATE_MAX 16384 /* bytes */
#define KMTLS_WORKLOAD_KEY_MAX 16384
#define KMTLS_WORKLOAD_ROOTS_MAX 64 /* of one trust domain */
#define KMTLS_WORKLOAD_BUNDLES_MAX 1024
#define KMTLS_WORKLOAD_CRLS_MAX 1024

struct kmtls_workload_bundle {
	char trust_domain[KMTLS_WORKLOAD_TRUST_DOMAIN_MAX + 1]; /* without spiffe:// */
	STACK_OF(X509) * roots; /* one at least */
};

/* Bundles of trust domains, each once, and revocation lists. All zero: empty. */
struct kmtls_workload_bundles {
	struct kmtls_workload_bundle *items;
	size_t count;
	/* Bundles of other trust domains that are of no use: what others do wrong must not cost us our
	 * own SVID. The last one's rule. */
	unsigned skipped;
	char skipped_why[KMTLS_WORKLOAD_WHY];
	STACK_OF(X509_CRL) * crls; /* NULL: none */
};

struct kmtls_workload_identity {
	int references; /* atomic */
	char id[KMTLS_SPIFFE_ID_MAX + 1];
	char hint[KMTLS_WORKLOAD_HINT_MAX + 1]; /* "" if there is none; bytes of any kind */
	time_t not_before, not_after; /* of the leaf */
	X509 *leaf;
	STACK_OF(X509) * chain; /* nearest issuer first; may be empty */
	EVP_PKEY *key;
	struct kmtls_workload_bundles bundles; /* the first is that of the ID's trust domain */
};

/*
 * All below: 0, -ENOMEM, -EINVAL (or -EKEYEXPIRED: not valid now), and in ret_why
 * (KMTLS_WORKLOAD_WHY) a sentence that names the rule. The queue of OpenSSL's errors is empty.
 */

/*
 * Adds the roots, DER one after the other, of a trust domain: its name, or its SPIFFE ID. Certificates
 * must be CAs, and of no other trust domain if they say of which they are. -EINVAL: nothing was
 * added; -EEXIST: it is there already.
 */
int kmtls_workload_bundles_add(struct kmtls_workload_bundles *bundles, const char *trust_domain,
			       ProtobufCBinaryData der, char *ret_why);
int kmtls_workload_bundles_add_crls(struct kmtls_workload_bundles *bundles,
				    const ProtobufCBinaryData *ders, size_t count, char *ret_why);
void kmtls_workload_bundles_free(struct kmtls_workload_bundles *bundles); /* it may be used again */
/* NULL: none. trust_domain: name or SPIFFE ID. */
const struct kmtls_workload_bundle *
kmtls_workload_bundles_find(const struct kmtls_workload_bundles *bundles, const char *trust_domain);

/* What an answer says of one SVID. */
struct kmtls_workload_raw {
	const char *id, *hint;
	const ProtobufCBinaryData *certificates; /* each of one or several; the leaf is the first */
	size_t certificate_count;
	ProtobufCBinaryData key;
};

/* An identity without bundles; join() makes it one that is of use. */
int kmtls_workload_svid_make(const struct kmtls_workload_raw *raw,
			     struct kmtls_workload_identity **ret_svid, char *ret_why);

/*
 * The SVID with bundles: its own trust domain's, which must be there and must have issued it, and of
 * the others those in names (all, if names is NULL); names without a bundle are passed over. Nothing
 * is taken from its arguments.
 */
int kmtls_workload_identity_join(const struct kmtls_workload_identity *svid,
				 const struct kmtls_workload_bundles *bundles, char *const *names,
				 size_t name_count, struct kmtls_workload_identity **ret_identity,
				 char *ret_why);

/* The same SVID with the same bundles. */
bool kmtls_workload_identity_is_same(const struct kmtls_workload_identity *a,
				     const struct kmtls_workload_identity *b);

struct kmtls_workload_identity *
kmtls_workload_identity_get(struct kmtls_workload_identity *identity);
void kmtls_workload_identity_put(struct kmtls_workload_identity *identity); /* NULL is fine */

/* The name in a name or in a SPIFFE ID without a path; NULL and the rule: neither. */
const char *kmtls_workload_trust_domain(const char *text, const char **ret_rule);

#endif
