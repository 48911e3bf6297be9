/* SPDX-License-Identifier: Apache-2.0 */
/*
 * svid.c - puts leaf, chain, key and trust bundle of a pod together into one object that the
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

static X509_STORE *make_store(STACK_OF(X509) * bundle)
{
	X509_STORE *store = X509_STORE_new();
	int i;

	for (i = 0; store && i < sk_X509_num(bundle); i++) {
		if (X509_STORE_add_cert(store, sk_X509_value(bundle, i)) == 1)
			continue;
		ERR_clear_error();
		X509_STORE_free(store);
		return NULL;
	}
	return store;
}

static char *copy_trust_domain(const char *id)
{
	struct kmtls_spiffe_id parsed;
	const char *rule;

	if (kmtls_spiffe_id_parse(id, strlen(id), &parsed, &rule))
		return NULL;
	return strndup(id + parsed.trust_domain_offset, parsed.trust_domain_length);
}

static int make_contexts(struct kmtls_svid *svid, X509 *leaf, STACK_OF(X509) * chain, EVP_PKEY *key,
			 X509_STORE *store)
{
	char *trust_domain __cleanup_free = copy_trust_domain(svid->id);
	struct kmtls_tls_credentials credentials = {
		.leaf = leaf,
		.chain = chain,
		.key = key,
		.store = store,
		.trust_domain = trust_domain,
	};
	int err;

	if (!trust_domain)
		return -ENOMEM;
	err = kmtls_tls_context_new(KMTLS_ROLE_CLIENT, &credentials, &svid->client);
	return err ? err : kmtls_tls_context_new(KMTLS_ROLE_SERVER, &credentials, &svid->server);
}

int kmtls_svid_new(X509 *leaf, STACK_OF(X509) * chain, EVP_PKEY *key, STACK_OF(X509) * bundle,
		   struct kmtls_svid **ret_svid, const char **ret_why)
{
	struct kmtls_svid *svid;
	X509_STORE *store;
	int err = -ENOMEM;

	*ret_why = "out of memory";
	svid = calloc(1, sizeof(*svid));
	if (!svid)
		return -ENOMEM;
	svid->references = 1;
	err = check_leaf(leaf, key, svid, ret_why);
	if (err)
		goto fail_svid;
	err = -EINVAL;
	if (sk_X509_num(bundle) < 1) {
		*ret_why = "the trust bundle is empty";
		goto fail_svid;
	}
	err = -ENOMEM;
	store = make_store(bundle);
	if (!store)
		goto fail_svid;
	err = make_contexts(svid, leaf, chain, key, store);
	X509_STORE_free(store); /* the contexts hold it */
	if (err) {
		if (err == -EINVAL)
			*ret_why = "OpenSSL refuses the certificate or its chain";
		goto fail_svid;
	}
	*ret_svid = svid;
	return 0;
fail_svid:
	kmtls_svid_put(svid);
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
	free(svid);
}
