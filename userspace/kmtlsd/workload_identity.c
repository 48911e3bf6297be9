/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload_identity.c - SVID and key out of DER, and what they are together with bundles.
 */
#include "workload_identity.h"
#include "key_memory.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "reason.h"
#include "spiffe.h"
#include "verify.h"
#include "workload_parts.h"

#define refuse kmtls_workload_refuse

/* ---- the SVID ---- */

static int read_chain(const struct kmtls_workload_raw *raw, struct kmtls_workload_identity *svid,
		      char *ret_why)
{
	int err = 0;

	if (!raw->certificate_count)
		return refuse(-EINVAL, ret_why, "the SVID has no certificate");
	svid->chain = sk_X509_new_null();
	if (!svid->chain)
		return refuse(-ENOMEM, ret_why, "out of memory");
	for (size_t i = 0; !err && i < raw->certificate_count; i++)
		err = kmtls_workload_read_certificates(raw->certificates[i], "the SVID",
						       KMTLS_WORKLOAD_CHAIN_MAX + 1, svid->chain,
						       ret_why);
	if (err)
		return err;
	svid->leaf = sk_X509_shift(svid->chain);
	for (int i = 0; i < sk_X509_num(svid->chain); i++)
		if (!(X509_get_extension_flags(sk_X509_value(svid->chain, i)) & EXFLAG_CA))
			return refuse(-EINVAL, ret_why,
				      "certificate %d of the SVID's chain is not a CA's", i + 2);
	return 0;
}

static int check_leaf(struct kmtls_workload_identity *svid, char *ret_why)
{
	char id[KMTLS_SPIFFE_ID_MAX + 1] = "";
	enum kmtls_reason reason;

	if (X509_get_extension_flags(svid->leaf) & EXFLAG_CA)
		return refuse(-EINVAL, ret_why, "the SVID's first certificate is a CA's");
	reason = kmtls_verify_leaf(svid->leaf, KMTLS_ROLE_CLIENT, id);
	if (!reason)
		reason = kmtls_verify_leaf(svid->leaf, KMTLS_ROLE_SERVER, id);
	if (reason)
		return refuse(-EINVAL, ret_why, "the SVID breaks a rule: %s",
			      kmtls_reason_text(reason));
	if (strcmp(id, svid->id))
		return refuse(-EINVAL, ret_why, "the SVID's certificate has another SPIFFE ID");
	return 0;
}

static int check_time(struct kmtls_workload_identity *svid, char *ret_why)
{
	time_t now = time(NULL);

	if (kmtls_verify_time(X509_get0_notBefore(svid->leaf), &svid->not_before) ||
	    kmtls_verify_time(X509_get0_notAfter(svid->leaf), &svid->not_after))
		return refuse(-EINVAL, ret_why, "the SVID's validity cannot be read");
	if (now > svid->not_after)
		return refuse(-EKEYEXPIRED, ret_why, "the SVID has expired");
	if (now < svid->not_before)
		return refuse(-EKEYEXPIRED, ret_why, "the SVID is not valid yet");
	return 0;
}

/* PKCS#8, unencrypted, and nothing behind it. */
static EVP_PKEY *read_key(ProtobufCBinaryData der, const char **ret_rule)
{
	const unsigned char *at = der.data;
	PKCS8_PRIV_KEY_INFO *info = NULL;
	EVP_PKEY *key;

	*ret_rule = "is not PKCS#8 in DER";
	if (der.len && der.len <= KMTLS_WORKLOAD_KEY_MAX)
		info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)der.len);
	if (!info)
		return NULL;
	if (at != der.data + der.len) {
		PKCS8_PRIV_KEY_INFO_free(info);
		*ret_rule = "has bytes behind it";
		return NULL;
	}
	key = kmtls_key_memory_settle(EVP_PKCS82PKEY(info));
	PKCS8_PRIV_KEY_INFO_free(info); /* wipes */
	*ret_rule = "is of no kind that can be read";
	return key;
}

static int check_key(struct kmtls_workload_identity *svid, ProtobufCBinaryData der, char *ret_why)
{
	const char *rule;

	svid->key = read_key(der, &rule);
	if (svid->key && !kmtls_verify_key(svid->key))
		rule = "is not EC P-256 or P-384, nor RSA of 2048 bits or more";
	else if (svid->key && X509_check_private_key(svid->leaf, svid->key) != 1)
		rule = "does not fit the certificate";
	else if (svid->key)
		rule = NULL;
	return rule ? refuse(-EINVAL, ret_why, "the SVID's key %s", rule) : 0;
}

static int check_names(const struct kmtls_workload_raw *raw, struct kmtls_workload_identity *svid,
		       char *ret_why)
{
	struct kmtls_spiffe_id id;
	const char *rule;

	if (kmtls_spiffe_id_parse(raw->id, strlen(raw->id), &id, &rule))
		return refuse(-EINVAL, ret_why, "the SVID's SPIFFE ID is none: %s", rule);
	if (!id.path_length)
		return refuse(-EINVAL, ret_why, "the SVID's SPIFFE ID has no path");
	if (strlen(raw->hint) > KMTLS_WORKLOAD_HINT_MAX)
		return refuse(-EINVAL, ret_why, "the SVID's hint is longer than %d bytes",
			      KMTLS_WORKLOAD_HINT_MAX);
	strcpy(svid->id, raw->id);
	strcpy(svid->hint, raw->hint);
	return 0;
}

int kmtls_workload_svid_make(const struct kmtls_workload_raw *raw,
			     struct kmtls_workload_identity **ret_svid, char *ret_why)
{
	struct kmtls_workload_identity *svid = calloc(1, sizeof(*svid));
	int err;

	if (!svid)
		return refuse(-ENOMEM, ret_why, "out of memory");
	svid->references = 1;
	err = check_names(raw, svid, ret_why);
	if (!err)
		err = read_chain(raw, svid, ret_why);
	if (!err)
		err = check_leaf(svid, ret_why);
	if (!err)
		err = check_time(svid, ret_why);
	if (!err)
		err = check_key(svid, raw->key, ret_why);
	ERR_clear_error();
	if (err)
		kmtls_workload_identity_put(svid);
	else
		*ret_svid = svid;
	return err;
}

/* ---- with bundles ---- */

/* No look at the clock: the leaf's time was checked, and a root that is over does not make the SVID
 * someone else's. */
static int check_issuer(const struct kmtls_workload_identity *identity, char *ret_why)
{
	const struct kmtls_workload_bundle *own = &identity->bundles.items[0];
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	X509_STORE *store = X509_STORE_new();
	int verified = -1, error = X509_V_ERR_OUT_OF_MEM;

	if (context && store &&
	    X509_STORE_CTX_init(context, store, identity->leaf, identity->chain)) {
		X509_STORE_CTX_set0_trusted_stack(context, own->roots);
		X509_STORE_CTX_set_flags(context, X509_V_FLAG_NO_CHECK_TIME);
		verified = X509_verify_cert(context);
		error = X509_STORE_CTX_get_error(context);
	}
	X509_STORE_CTX_free(context);
	X509_STORE_free(store);
	ERR_clear_error();
	if (verified == 1)
		return 0;
	return refuse(-EINVAL, ret_why, "the SVID is not of its trust domain's bundle: %s",
		      X509_verify_cert_error_string(error));
}

static int copy_bundle(struct kmtls_workload_bundles *to, const struct kmtls_workload_bundle *from)
{
	struct kmtls_workload_bundle *bundle = kmtls_workload_bundles_extend(to);

	if (!bundle)
		return -ENOMEM;
	memcpy(bundle->trust_domain, from->trust_domain, sizeof(bundle->trust_domain));
	bundle->roots = X509_chain_up_ref(from->roots);
	return bundle->roots ? 0 : -ENOMEM;
}

static int copy_crls(struct kmtls_workload_bundles *to, STACK_OF(X509_CRL) * from)
{
	if (!from)
		return 0;
	to->crls = sk_X509_CRL_new_null();
	for (int i = 0; to->crls && i < sk_X509_CRL_num(from); i++) {
		X509_CRL *crl = sk_X509_CRL_value(from, i);

		if (!sk_X509_CRL_push(to->crls, crl))
			return -ENOMEM;
		X509_CRL_up_ref(crl);
	}
	return to->crls ? 0 : -ENOMEM;
}

static int copy_svid(struct kmtls_workload_identity *to, const struct kmtls_workload_identity *from)
{
	strcpy(to->id, from->id);
	strcpy(to->hint, from->hint);
	to->not_before = from->not_before;
	to->not_after = from->not_after;
	X509_up_ref(from->leaf);
	to->leaf = from->leaf;
	EVP_PKEY_up_ref(from->key);
	to->key = from->key;
	to->chain = sk_X509_num(from->chain) ? X509_chain_up_ref(from->chain) : sk_X509_new_null();
	return to->chain ? 0 : -ENOMEM;
}

/* The own one first, then those in names, or all. */
static int copy_bundles(struct kmtls_workload_identity *to,
			const struct kmtls_workload_bundles *bundles,
			const struct kmtls_workload_bundle *own, char *const *names,
			size_t name_count)
{
	int err = copy_bundle(&to->bundles, own);

	to->bundles.skipped = bundles->skipped;
	memcpy(to->bundles.skipped_why, bundles->skipped_why, sizeof(bundles->skipped_why));
	for (size_t i = 0; !err && !names && i < bundles->count; i++)
		if (&bundles->items[i] != own)
			err = copy_bundle(&to->bundles, &bundles->items[i]);
	for (size_t i = 0; !err && names && i < name_count; i++) {
		const struct kmtls_workload_bundle *bundle =
			kmtls_workload_bundles_find(bundles, names[i]);

		if (bundle && !kmtls_workload_bundles_find(&to->bundles, bundle->trust_domain))
			err = copy_bundle(&to->bundles, bundle);
	}
	return err ? err : copy_crls(&to->bundles, bundles->crls);
}

static const struct kmtls_workload_bundle *own_bundle(const struct kmtls_workload_identity *svid,
						      const struct kmtls_workload_bundles *bundles)
{
	char name[KMTLS_WORKLOAD_TRUST_DOMAIN_MAX + 1];
	struct kmtls_spiffe_id id;
	const char *rule;

	if (kmtls_spiffe_id_parse(svid->id, strlen(svid->id), &id, &rule) ||
	    id.trust_domain_length >= sizeof(name))
		return NULL;
	memcpy(name, svid->id + id.trust_domain_offset, id.trust_domain_length);
	name[id.trust_domain_length] = '\0';
	return kmtls_workload_bundles_find(bundles, name);
}

int kmtls_workload_identity_join(const struct kmtls_workload_identity *svid,
				 const struct kmtls_workload_bundles *bundles, char *const *names,
				 size_t name_count, struct kmtls_workload_identity **ret_identity,
				 char *ret_why)
{
	const struct kmtls_workload_bundle *own = own_bundle(svid, bundles);
	struct kmtls_workload_identity *identity;
	int err;

	if (!own)
		return refuse(-EINVAL, ret_why,
			      "there is no bundle of the SVID's own trust domain");
	identity = calloc(1, sizeof(*identity));
	if (!identity)
		return refuse(-ENOMEM, ret_why, "out of memory");
	identity->references = 1;
	err = copy_svid(identity, svid);
	if (!err)
		err = copy_bundles(identity, bundles, own, names, name_count);
	if (err)
		refuse(err, ret_why, "out of memory");
	else
		err = check_issuer(identity, ret_why);
	if (err)
		kmtls_workload_identity_put(identity);
	else
		*ret_identity = identity;
	return err;
}

/* ---- is it news? ---- */

static bool is_same_stack(const STACK_OF(X509) * a, const STACK_OF(X509) * b)
{
	if (sk_X509_num(a) != sk_X509_num(b))
		return false;
	for (int i = 0; i < sk_X509_num(a); i++)
		if (X509_cmp(sk_X509_value(a, i), sk_X509_value(b, i)) != 0)
			return false;
	return true;
}

/* Those of other trust domains come in no order. */
static bool are_same_bundles(const struct kmtls_workload_bundles *a,
			     const struct kmtls_workload_bundles *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		const struct kmtls_workload_bundle *other =
			kmtls_workload_bundles_find(b, a->items[i].trust_domain);

		if (!other || !is_same_stack(a->items[i].roots, other->roots))
			return false;
	}
	return true;
}

bool kmtls_workload_identity_is_same(const struct kmtls_workload_identity *a,
				     const struct kmtls_workload_identity *b)
{
	return !strcmp(a->id, b->id) && X509_cmp(a->leaf, b->leaf) == 0 &&
	       is_same_stack(a->chain, b->chain) && are_same_bundles(&a->bundles, &b->bundles);
}

/* ---- references ---- */

struct kmtls_workload_identity *
kmtls_workload_identity_get(struct kmtls_workload_identity *identity)
{
	__atomic_add_fetch(&identity->references, 1, __ATOMIC_RELAXED);
	return identity;
}

void kmtls_workload_identity_put(struct kmtls_workload_identity *identity)
{
	if (!identity || __atomic_sub_fetch(&identity->references, 1, __ATOMIC_ACQ_REL))
		return;
	X509_free(identity->leaf);
	sk_X509_pop_free(identity->chain, X509_free);
	EVP_PKEY_free(identity->key); /* wipes */
	kmtls_workload_bundles_free(&identity->bundles);
	free(identity);
}
