/* SPDX-License-Identifier: Apache-2.0 */
/*
 * svid.c - puts leaf, chain, key and trust bundles of a pod together into one object that the
 * handshakes share. A context costs more than a handshake, so there is one per SVID and
 * role, never one per connection; whoever holds an SSL made from it may drop the SVID.
 */
#include "svid.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "hash.h"
#include "spiffe.h"
#include "tls.h"
#include "verify.h"

const char *kmtls_svid_rule(enum kmtls_reason reason)
{
	switch (reason) {
	case KMTLS_REASON_SVID_NO_ID:
		return "the certificate has no URI SAN";
	case KMTLS_REASON_SVID_MANY_IDS:
		return "the certificate has several URI SANs";
	case KMTLS_REASON_SVID_BAD_ID:
		return "the certificate's URI SAN is not a SPIFFE ID with a path";
	case KMTLS_REASON_SVID_IS_CA:
		return "the certificate is a CA";
	case KMTLS_REASON_SVID_KEY_USAGE:
		return "the certificate's key usage lacks digitalSignature or may sign "
		       "certificates";
	case KMTLS_REASON_SVID_EXTENDED_KEY_USAGE:
		return "the certificate's extended key usage lacks serverAuth or clientAuth";
	case KMTLS_REASON_SVID_WEAK_KEY:
		return "the key is not EC P-256 or P-384, nor RSA of 2048 bits or more";
	default:
		return "the certificate breaks X.509 rules";
	}
}

/* A pod is client and server with the same SVID, so it must fit both roles. */
static int check_leaf(X509 *leaf, EVP_PKEY *key, struct kmtls_svid *svid, const char **ret_why)
{
	enum kmtls_reason reason = kmtls_verify_leaf(leaf, KMTLS_ROLE_CLIENT, svid->id);

	if (!reason)
		reason = kmtls_verify_leaf(leaf, KMTLS_ROLE_SERVER, svid->id);
	if (reason) {
		*ret_why = kmtls_svid_rule(reason);
		return -EINVAL;
	}
	if (X509_check_private_key(leaf, key) != 1) {
		ERR_clear_error();
		*ret_why = "the key is not that of the certificate";
		return -EINVAL;
	}
	if (kmtls_verify_time(X509_get0_notBefore(leaf), &svid->not_before) ||
	    kmtls_verify_time(X509_get0_notAfter(leaf), &svid->not_after)) {
		*ret_why = "the certificate's validity cannot be read";
		return -EINVAL;
	}
	svid->id_hash = kmtls_hash_text(svid->id);
	return 0;
}

static int make_contexts(struct kmtls_svid *svid, X509 *leaf, STACK_OF(X509) * chain, EVP_PKEY *key)
{
	struct kmtls_tls_credentials credentials = {
		.leaf = leaf,
		.chain = chain,
		.key = key,
		.trust = svid->trust,
	};
	int err = kmtls_tls_context_new(KMTLS_ROLE_CLIENT, &credentials, &svid->client);

	return err ? err : kmtls_tls_context_new(KMTLS_ROLE_SERVER, &credentials, &svid->server);
}

/* The trust domain of an ID that has been checked. */
static const char *domain_of(const char *id, size_t *ret_length)
{
	struct kmtls_spiffe_id parsed;
	const char *rule;

	if (kmtls_spiffe_id_parse(id, strlen(id), &parsed, &rule))
		return NULL;
	*ret_length = parsed.trust_domain_length;
	return id + parsed.trust_domain_offset;
}

/* The rest, once leaf and key are checked. */
static int complete(struct kmtls_svid *svid, X509 *leaf, STACK_OF(X509) * chain, EVP_PKEY *key,
		    struct kmtls_trust *trust, const char **ret_why)
{
	size_t length = 0;
	const char *domain = domain_of(svid->id, &length);
	int err;

	if (!domain || !kmtls_trust_roots(trust, domain, length)) {
		*ret_why = "there is no trust bundle of the certificate's own trust domain";
		return -EINVAL;
	}
	svid->trust = kmtls_trust_get(trust);
	err = make_contexts(svid, leaf, chain, key);
	*ret_why =
		err == -EINVAL ? "OpenSSL refuses the certificate or its chain" : "out of memory";
	return err;
}

static __u64 last_number;

static struct kmtls_svid *allocate(X509 *leaf, EVP_PKEY *key, int *ret_err, const char **ret_why)
{
	struct kmtls_svid *svid = calloc(1, sizeof(*svid));

	*ret_why = "out of memory";
	*ret_err = -ENOMEM;
	if (!svid)
		return NULL;
	svid->references = 1;
	svid->number = __atomic_add_fetch(&last_number, 1, __ATOMIC_RELAXED);
	*ret_err = check_leaf(leaf, key, svid, ret_why);
	if (!*ret_err)
		return svid;
	kmtls_svid_put(svid);
	return NULL;
}

int kmtls_svid_new_federated(X509 *leaf, STACK_OF(X509) * chain, EVP_PKEY *key,
			     struct kmtls_trust *trust, struct kmtls_svid **ret_svid,
			     const char **ret_why)
{
	int err;
	struct kmtls_svid *svid = allocate(leaf, key, &err, ret_why);

	if (!svid)
		return err;
	err = complete(svid, leaf, chain, key, trust, ret_why);
	if (err)
		kmtls_svid_put(svid);
	else
		*ret_svid = svid;
	return err;
}

int kmtls_svid_new(X509 *leaf, STACK_OF(X509) * chain, EVP_PKEY *key, STACK_OF(X509) * bundle,
		   struct kmtls_svid **ret_svid, const char **ret_why)
{
	struct kmtls_trust_bundle own = { .roots = bundle };
	struct kmtls_trust *trust = NULL;
	char *name __cleanup_free = NULL;
	const char *domain;
	size_t length = 0;
	int err;
	struct kmtls_svid *svid = allocate(leaf, key, &err, ret_why);

	if (!svid)
		return err;
	domain = domain_of(svid->id, &length);
	name = domain ? strndup(domain, length) : NULL;
	own.trust_domain = name;
	*ret_why = "out of memory";
	err = name ? kmtls_trust_new(&own, 1, &trust, ret_why) : -ENOMEM;
	if (!err)
		err = complete(svid, leaf, chain, key, trust, ret_why);
	kmtls_trust_put(trust); /* the SVID holds it */
	if (err)
		kmtls_svid_put(svid);
	else
		*ret_svid = svid;
	return err;
}

struct kmtls_svid *kmtls_svid_get(struct kmtls_svid *svid)
{
	__atomic_add_fetch(&svid->references, 1, __ATOMIC_RELAXED);
	return svid;
}

void kmtls_svid_put(struct kmtls_svid *svid)
{
	if (!svid || __atomic_sub_fetch(&svid->references, 1, __ATOMIC_ACQ_REL))
		return;
	SSL_CTX_free(svid->client);
	SSL_CTX_free(svid->server);
	kmtls_trust_put(svid->trust);
	free(svid);
}
