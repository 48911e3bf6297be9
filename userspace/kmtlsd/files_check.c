/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files_check.c - may this set of SVID, key and bundle be used? Rules of the X.509-SVID standard and
 * of RFC 5280, each with its own sentence; that the SVID is the right pod's, its source knows.
 */
#include "files_set.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "ca_check.h"
#include "identity.h"
#include "spiffe.h"
#include "svid.h"
#include "verify.h"

#define CHAIN_MAX 8 /* as many as tls.c sends */
#define SECURITY_LEVEL 2 /* as tls.c has it */

enum { SVID, KEY, BUNDLE };

/* "DIRECTORY/FILE: rule"; the rule is always legible. */
static int __attribute__((format(printf, 4, 5)))
refuse(const struct kmtls_files_place *place, int file, char *ret_why, const char *format, ...)
{
	char rule[176];
	va_list list;

	va_start(list, format);
	vsnprintf(rule, sizeof(rule), format, list);
	va_end(list);
	snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.60s/%.40s: %.150s", place->directory,
		 place->names[file], rule);
	return -EINVAL;
}

static const char *time_rule(const X509 *certificate)
{
	if (X509_cmp_current_time(X509_get0_notBefore(certificate)) >= 0)
		return "is not valid yet";
	if (X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0)
		return "has expired";
	return NULL;
}

/* ---- the leaf ---- */

static bool is_of(const char *id, const char *trust_domain)
{
	struct kmtls_spiffe_id parsed;
	const char *rule;

	return kmtls_spiffe_id_parse(id, strlen(id), &parsed, &rule) == 0 &&
	       parsed.trust_domain_length == strlen(trust_domain) &&
	       !memcmp(id + parsed.trust_domain_offset, trust_domain, parsed.trust_domain_length);
}

static int check_leaf(const struct kmtls_files_place *place, struct kmtls_files_set *set,
		      char *ret_why)
{
	enum kmtls_reason reason;
	const char *rule;

	/* Before its ID, which a CA need not have. */
	if (X509_get_extension_flags(set->leaf) & EXFLAG_CA)
		return refuse(place, SVID, ret_why,
			      "the first certificate is a CA: the SVID must be first");
	reason = kmtls_verify_leaf(set->leaf, KMTLS_ROLE_CLIENT, set->id);
	if (!reason)
		reason = kmtls_verify_leaf(set->leaf, KMTLS_ROLE_SERVER, set->id);
	if (reason)
		return refuse(place, SVID, ret_why, "%s", kmtls_svid_rule(reason));
	if (!is_of(set->id, place->trust_domain))
		return refuse(place, SVID, ret_why, "%.80s is not of the trust domain %.50s",
			      set->id, place->trust_domain);
	if (kmtls_verify_time(X509_get0_notAfter(set->leaf), &set->not_after))
		return refuse(place, SVID, ret_why, "the certificate's validity cannot be read");
	rule = time_rule(set->leaf);
	return rule ? refuse(place, SVID, ret_why, "the SVID %s", rule) : 0;
}

static int check_key(const struct kmtls_files_place *place, const struct kmtls_files_set *set,
		     char *ret_why)
{
	if (X509_check_private_key(set->leaf, set->key) == 1)
		return 0;
	for (int i = 0; i < sk_X509_num(set->chain); i++)
		if (EVP_PKEY_eq(X509_get0_pubkey(sk_X509_value(set->chain, i)), set->key) == 1)
			return refuse(place, KEY, ret_why,
				      "is the key of a CA of the chain, not of the SVID");
	return refuse(place, KEY, ret_why, "is not the key of the SVID in %.40s",
		      place->names[SVID]);
}

/* ---- chain and bundle ---- */

/* The leaf out of the chain, and a root at its end, which the peer knows. */
static int split_chain(const struct kmtls_files_place *place, struct kmtls_files_set *set,
		       char *ret_why)
{
	X509 *last;

	if (sk_X509_num(set->chain) > 1 + CHAIN_MAX)
		return refuse(place, SVID, ret_why,
			      "holds %d certificates, an SVID and its chain are at most %d",
			      sk_X509_num(set->chain), 1 + CHAIN_MAX);
	set->leaf = sk_X509_shift(set->chain);
	last = sk_X509_value(set->chain, sk_X509_num(set->chain) - 1);
	for (int i = 0; last && i < sk_X509_num(set->roots); i++) {
		if (X509_cmp(sk_X509_value(set->roots, i), last) != 0)
			continue;
		X509_free(sk_X509_pop(set->chain));
		break;
	}
	return 0;
}

static bool is_issued_by(X509 *certificate, X509 *issuer)
{
	return X509_check_issued(issuer, certificate) == X509_V_OK &&
	       X509_verify(certificate, X509_get0_pubkey(issuer)) == 1;
}

/* Peers may take the order as it is (RFC 5246); so must we. */
static int check_order(const struct kmtls_files_place *place, const struct kmtls_files_set *set,
		       char *ret_why)
{
	char subject[KMTLS_CA_SUBJECT], next_subject[KMTLS_CA_SUBJECT];
	X509 *certificate = set->leaf;

	for (int i = 0; i < sk_X509_num(set->chain); i++) {
		X509 *next = sk_X509_value(set->chain, i);

		if (!is_issued_by(certificate, next))
			return refuse(place, SVID, ret_why,
				      "%.50s does not follow from %.50s: nearest issuer first",
				      kmtls_ca_check_subject(next, next_subject),
				      i ? kmtls_ca_check_subject(certificate, subject)
					: "the SVID");
		certificate = next;
	}
	return 0;
}

static int check_cas(const struct kmtls_files_place *place, int file, STACK_OF(X509) * cas,
		     char *ret_why)
{
	char subject[KMTLS_CA_SUBJECT];

	for (int i = 0; i < sk_X509_num(cas); i++) {
		X509 *ca = sk_X509_value(cas, i);
		const char *rule = kmtls_ca_check_rule(ca, place->trust_domain);

		if (!rule && file == SVID)
			rule = time_rule(ca);
		if (!rule && file == BUNDLE && X509_self_signed(ca, 1) != 1)
			rule = "is not self-signed: a bundle holds roots";
		if (rule)
			return refuse(place, file, ret_why, "%.60s: %s",
				      kmtls_ca_check_subject(ca, subject), rule);
	}
	return 0;
}

static int refuse_chain(const struct kmtls_files_place *place, const struct kmtls_files_set *set,
			const X509_STORE_CTX *context, char *ret_why)
{
	int error = X509_STORE_CTX_get_error(context);
	char subject[KMTLS_CA_SUBJECT];
	X509 *bad;

	switch (error) {
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		return refuse(place, BUNDLE, ret_why, "has no root that the SVID in %.40s ends in",
			      place->names[SVID]);
	default:
		bad = X509_STORE_CTX_get_current_cert(context);
		return refuse(place, SVID, ret_why, "%.60s: %s",
			      bad && bad != set->leaf ? kmtls_ca_check_subject(bad, subject)
						      : "the SVID",
			      kmtls_ca_check_error(error));
	}
}

static int verify(const struct kmtls_files_place *place, const struct kmtls_files_set *set,
		  const char *role, char *ret_why)
{
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	int err = -ENOMEM;

	if (context && X509_STORE_CTX_init(context, NULL, set->leaf, set->chain)) {
		X509_STORE_CTX_set0_trusted_stack(context, set->roots);
		X509_STORE_CTX_set_default(context, role);
		X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(context),
						 SECURITY_LEVEL);
		err = X509_verify_cert(context) == 1 ? 0
						     : refuse_chain(place, set, context, ret_why);
	}
	if (err == -ENOMEM)
		refuse(place, SVID, ret_why, "cannot be checked: out of memory");
	X509_STORE_CTX_free(context);
	return err;
}

int kmtls_files_set_check(const struct kmtls_files_place *place, struct kmtls_files_set *set,
			  char *ret_why)
{
	int err = split_chain(place, set, ret_why);

	if (!err)
		err = check_leaf(place, set, ret_why);
	if (!err)
		err = check_key(place, set, ret_why);
	if (!err)
		err = check_cas(place, SVID, set->chain, ret_why);
	if (!err)
		err = check_order(place, set, ret_why);
	if (!err)
		err = check_cas(place, BUNDLE, set->roots, ret_why);
	if (!err)
		err = verify(place, set, "ssl_server", ret_why);
	if (!err)
		err = verify(place, set, "ssl_client", ret_why);
	ERR_clear_error();
	return err;
}
