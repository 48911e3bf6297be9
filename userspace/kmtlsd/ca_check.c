/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca_check.c - see ca_check.h. First each certificate by itself, then how they stand to each other,
 * then the key, then an SVID on trial: what the rules here do not name (name constraints, critical
 * extensions, signatures too weak) OpenSSL says of that.
 */
#include "ca_check.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "certificate.h"
#include "identity.h"
#include "spiffe.h"
#include "verify.h"

#define SUBJECT KMTLS_CA_SUBJECT
#define CHAIN_MAX 8 /* as many as tls.c sends */
#define SECURITY_LEVEL 2 /* as tls.c has it */

static const char *subject_of(X509 *certificate, char *buffer)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int length = 0;

	if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0,
				      XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0)
		length = BIO_read(bio, buffer, SUBJECT - 1);
	BIO_free(bio);
	buffer[length > 0 ? length : 0] = '\0';
	return length > 0 ? buffer : "certificate without a subject";
}

/* "FILE: SUBJECT: rule"; the rule is always legible. */
static void __attribute__((format(printf, 4, 0)))
put_sentence(char *sentence, const char *name, X509 *certificate, const char *format, va_list list)
{
	char subject[SUBJECT], rule[128];

	vsnprintf(rule, sizeof(rule), format, list);
	snprintf(sentence, KMTLS_IDENTITY_WHY, "%.80s: %.60s: %s", name,
		 subject_of(certificate, subject), rule);
}

static int __attribute__((format(printf, 4, 5)))
refuse(char *ret_why, const char *name, X509 *certificate, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	put_sentence(ret_why, name, certificate, format, list);
	va_end(list);
	return -EINVAL;
}

static void __attribute__((format(printf, 4, 5)))
warn(const struct kmtls_ca_check *check, const char *name, X509 *certificate, const char *format,
     ...)
{
	char sentence[KMTLS_IDENTITY_WHY];
	va_list list;

	if (!check->warn)
		return;
	va_start(list, format);
	put_sentence(sentence, name, certificate, format, list);
	va_end(list);
	check->warn(sentence);
}

/* ---- each by itself ---- */

/* X509_check_ca() is not asked: version 1 and Netscape's bits are no CA for us. */
static const char *ca_rule(X509 *certificate)
{
	__u32 flags = X509_get_extension_flags(certificate);
	__u32 usage = X509_get_key_usage(certificate);

	if (flags & EXFLAG_INVALID)
		return "is malformed: an extension cannot be read, or is there twice";
	if (!(flags & EXFLAG_BCONS) || !(flags & EXFLAG_CA))
		return "is not a CA (basicConstraints CA:TRUE)";
	if (!(flags & EXFLAG_KUSAGE) || !(usage & KU_KEY_CERT_SIGN))
		return "the key usage lacks keyCertSign";
	if (usage & KU_KEY_AGREEMENT)
		return "the key usage has keyAgreement, which a CA must not have";
	if (!kmtls_verify_key(X509_get0_pubkey(certificate)))
		return "the key is not EC P-256 or P-384, nor RSA of 2048 bits or more";
	return NULL;
}

static const char *time_rule(X509 *certificate)
{
	time_t unused;

	if (kmtls_verify_time(X509_get0_notBefore(certificate), &unused) ||
	    kmtls_verify_time(X509_get0_notAfter(certificate), &unused))
		return "the validity cannot be read";
	if (X509_cmp_current_time(X509_get0_notBefore(certificate)) >= 0)
		return "is not valid yet";
	if (X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0)
		return "has expired";
	return NULL;
}

static bool is_usage_odd(X509 *certificate)
{
	return X509_get_key_usage(certificate) & (KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT);
}

/* X.509-SVID section 3: a CA's SPIFFE ID, if it has one, is its trust domain's and has no path. */
static const char *uri_rule(const ASN1_STRING *uri, const char *trust_domain)
{
	const char *text = (const char *)ASN1_STRING_get0_data(uri), *rule;
	struct kmtls_spiffe_id id;

	if (ASN1_STRING_length(uri) < 9 || strncasecmp(text, "spiffe://", 9))
		return NULL; /* some other URI is nothing to us */
	if (kmtls_spiffe_id_parse(text, ASN1_STRING_length(uri), &id, &rule))
		return "the URI SAN is not a SPIFFE ID";
	if (id.trust_domain_length != strlen(trust_domain) ||
	    memcmp(id.text + id.trust_domain_offset, trust_domain, id.trust_domain_length))
		return "the URI SAN is of another trust domain";
	return id.path_length ? "the SPIFFE ID of a CA must not have a path" : NULL;
}

static const char *names_rule(X509 *certificate, const char *trust_domain)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	const char *rule = NULL;

	for (int i = 0; !rule && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_URI)
			rule = uri_rule(name->d.uniformResourceIdentifier, trust_domain);
	}
	GENERAL_NAMES_free(names);
	return rule;
}

static int check_one(const struct kmtls_ca_check *check, const char *name, X509 *certificate,
		     char *ret_why)
{
	const char *rule = ca_rule(certificate);

	if (!rule)
		rule = names_rule(certificate, check->trust_domain);
	if (rule)
		return refuse(ret_why, name, certificate, "%s", rule);
	if (is_usage_odd(certificate))
		warn(check, name, certificate,
		     "the key usage has digitalSignature or keyEncipherment, which a CA should not "
		     "have");
	return 0;
}

static int check_in_chain(const struct kmtls_ca_check *check, X509 *certificate, char *ret_why)
{
	const char *rule = time_rule(certificate);

	return rule ? refuse(ret_why, check->chain_name, certificate, "%s", rule)
		    : check_one(check, check->chain_name, certificate, ret_why);
}

/* Of several roots some may have had their time: see find_root(). */
static int check_in_bundle(const struct kmtls_ca_check *check, X509 *root, char *ret_why)
{
	const char *rule = time_rule(root);

	if (X509_self_signed(root, 1) != 1)
		return refuse(ret_why, check->bundle_name, root,
			      "is not self-signed: a bundle holds roots");
	if (rule)
		warn(check, check->bundle_name, root, "%s", rule);
	return check_one(check, check->bundle_name, root, ret_why);
}

/* ---- how they stand to each other ---- */

static bool is_issued_by(X509 *certificate, X509 *issuer)
{
	return X509_check_issued(issuer, certificate) == X509_V_OK &&
	       X509_verify(certificate, X509_get0_pubkey(issuer)) == 1;
}

/* Its issuer among those, not counting itself; or NULL. */
static X509 *find_issuer(X509 *certificate, const STACK_OF(X509) * among)
{
	for (int i = 0; i < sk_X509_num(among); i++) {
		X509 *issuer = sk_X509_value(among, i);

		if (issuer != certificate && is_issued_by(certificate, issuer))
			return issuer;
	}
	return NULL;
}

static int check_order(const struct kmtls_ca_check *check, const STACK_OF(X509) * chain,
		       char *ret_why)
{
	char subject[SUBJECT];

	for (int i = 0; i + 1 < sk_X509_num(chain); i++) {
		X509 *certificate = sk_X509_value(chain, i), *next = sk_X509_value(chain, i + 1);
		X509 *issuer;

		if (is_issued_by(certificate, next))
			continue;
		if (is_issued_by(next, certificate))
			return refuse(ret_why, check->chain_name, certificate,
				      "stands before %.50s, which it has issued (nearest CA first: "
				      "are the two swapped?)",
				      subject_of(next, subject));
		issuer = find_issuer(certificate, chain);
		if (issuer)
			return refuse(ret_why, check->chain_name, certificate,
				      "is in the wrong place: its issuer %.50s must follow it "
				      "(nearest CA first)",
				      subject_of(issuer, subject));
		return refuse(ret_why, check->chain_name, certificate,
			      "was not issued by %.50s, which follows it (nearest CA first)",
			      subject_of(next, subject));
	}
	return 0;
}

/* The root of the chain, which is valid; or NULL and why. A root at the chain's end is taken off,
 * unless it is alone. */
static X509 *find_root(const struct kmtls_ca_check *check, struct kmtls_ca *ca, char *ret_why)
{
	int last = sk_X509_num(ca->chain) - 1;
	X509 *top = sk_X509_value(ca->chain, last), *root;
	const char *rule;

	for (int i = 0; i < sk_X509_num(ca->roots); i++) {
		if (X509_cmp(sk_X509_value(ca->roots, i), top) != 0)
			continue;
		if (last)
			X509_free(sk_X509_pop(ca->chain));
		return sk_X509_value(ca->roots, i);
	}
	root = find_issuer(top, ca->roots);
	if (!root && X509_self_signed(top, 1) == 1)
		refuse(ret_why, check->chain_name, top, "is a root that is not in the bundle");
	else if (!root)
		refuse(ret_why, check->chain_name, top,
		       "does not end in the bundle: no root there has issued it");
	rule = root ? time_rule(root) : NULL;
	if (rule)
		refuse(ret_why, check->bundle_name, root, "%s", rule);
	return rule ? NULL : root;
}

static bool is_self_issued(X509 *certificate)
{
	return X509_NAME_cmp(X509_get_subject_name(certificate),
			     X509_get_issuer_name(certificate)) == 0;
}

/* RFC 5280 section 4.2.1.9: so many CAs may follow, SVIDs and those that issue themselves aside. */
static int check_path_length(const struct kmtls_ca_check *check, const struct kmtls_ca *ca,
			     X509 *root, char *ret_why)
{
	int count = sk_X509_num(ca->chain), below = 0;

	for (int i = 0; i <= count; i++) {
		X509 *certificate = i < count ? sk_X509_value(ca->chain, i) : root;
		long room = X509_get_pathlen(certificate);

		if (i == count && X509_cmp(root, sk_X509_value(ca->chain, count - 1)) == 0)
			break; /* the root issues by itself */
		if (room >= 0 && room < below)
			return refuse(ret_why, i < count ? check->chain_name : check->bundle_name,
				      certificate,
				      "pathlen:%ld leaves no room for the %d CA%s below it", room,
				      below, below == 1 ? "" : "s");
		if (!is_self_issued(certificate))
			below++;
	}
	return 0;
}

/* ---- the key ---- */

static bool fits(X509 *certificate, EVP_PKEY *key)
{
	return EVP_PKEY_eq(X509_get0_pubkey(certificate), key) == 1;
}

static int check_key(const struct kmtls_ca_check *check, const struct kmtls_ca *ca, char *ret_why)
{
	char subject[SUBJECT], first[SUBJECT];

	if (fits(kmtls_ca_certificate(ca), ca->key))
		return 0;
	subject_of(kmtls_ca_certificate(ca), first);
	for (int i = 1; i < sk_X509_num(ca->chain); i++) {
		if (!fits(sk_X509_value(ca->chain, i), ca->key))
			continue;
		snprintf(ret_why, KMTLS_IDENTITY_WHY,
			 "%.80s: is the key of %.50s, not of %.50s, the nearest CA, which is first",
			 check->key_name, subject_of(sk_X509_value(ca->chain, i), subject), first);
		return -EINVAL;
	}
	snprintf(ret_why, KMTLS_IDENTITY_WHY,
		 "%.80s: is not the key of %.60s, the first certificate of %.80s", check->key_name,
		 first, check->chain_name);
	return -EINVAL;
}

/* ---- an SVID on trial ---- */

static const char *trial_rule(int error)
{
	switch (error) {
	case X509_V_ERR_PERMITTED_VIOLATION:
	case X509_V_ERR_EXCLUDED_VIOLATION:
		return "the name constraints exclude SVIDs of our trust domain";
	case X509_V_ERR_SUBTREE_MINMAX:
	case X509_V_ERR_UNSUPPORTED_CONSTRAINT_TYPE:
	case X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX:
	case X509_V_ERR_UNSUPPORTED_NAME_SYNTAX:
		return "the name constraints are not supported";
	case X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION:
		return "has a critical extension that nobody here knows";
	case X509_V_ERR_CA_MD_TOO_WEAK:
		return "is signed with a hash that is too weak";
	case X509_V_ERR_INVALID_PURPOSE:
		return "the extended key usage does not allow SVIDs (serverAuth and clientAuth)";
	default:
		return X509_verify_cert_error_string(error);
	}
}

static int verify_trial(const struct kmtls_ca_check *check, const struct kmtls_ca *ca, X509 *leaf,
			bool as_server, char *ret_why)
{
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	int err = -ENOMEM;

	if (context && X509_STORE_CTX_init(context, NULL, leaf, ca->chain)) {
		X509_STORE_CTX_set0_trusted_stack(context, ca->roots);
		X509_STORE_CTX_set_default(context, as_server ? "ssl_server" : "ssl_client");
		X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(context),
						 SECURITY_LEVEL);
		err = X509_verify_cert(context) == 1 ? 0 : -EINVAL;
	}
	if (err == -EINVAL) {
		X509 *bad = X509_STORE_CTX_get_current_cert(context);
		int error = X509_STORE_CTX_get_error(context);

		/* Name constraints are those of a CA; OpenSSL names the SVID that breaks them. */
		refuse(ret_why, check->chain_name,
		       bad && bad != leaf ? bad : kmtls_ca_certificate(ca), "%s",
		       trial_rule(error));
	}
	X509_STORE_CTX_free(context);
	return err;
}

static int try_svid(const struct kmtls_ca_check *check, const struct kmtls_ca *ca, char *ret_why)
{
	char id[sizeof("spiffe:///trial") + 256];
	struct kmtls_identity_material material = {};
	int err;

	snprintf(id, sizeof(id), "spiffe://%s/trial", check->trust_domain);
	err = kmtls_ca_issue(ca, check->trust_domain, id, KMTLS_KEY_EC_P256, 60, &material,
			     ret_why);
	if (!err)
		err = verify_trial(check, ca, material.leaf, true, ret_why);
	if (!err)
		err = verify_trial(check, ca, material.leaf, false, ret_why);
	kmtls_identity_material_clear(&material);
	return err;
}

/* ---- all ---- */

static int check_all(const struct kmtls_ca_check *check, struct kmtls_ca *ca, char *ret_why)
{
	X509 *root;
	int err = 0;

	for (int i = 0; !err && i < sk_X509_num(ca->chain); i++)
		err = check_in_chain(check, sk_X509_value(ca->chain, i), ret_why);
	for (int i = 0; !err && i < sk_X509_num(ca->roots); i++)
		if (sk_X509_value(ca->roots, i) != kmtls_ca_certificate(ca))
			err = check_in_bundle(check, sk_X509_value(ca->roots, i), ret_why);
	if (!err)
		err = check_order(check, ca->chain, ret_why);
	if (!err)
		err = check_key(check, ca, ret_why);
	if (err)
		return err;
	root = find_root(check, ca, ret_why);
	if (!root)
		return -EINVAL;
	err = check_path_length(check, ca, root, ret_why);
	return err ? err : try_svid(check, ca, ret_why);
}

/* No bundle: the certificate is the root. */
static int use_as_root(const struct kmtls_ca_check *check, struct kmtls_ca *ca, char *ret_why)
{
	X509 *root = kmtls_ca_certificate(ca);

	if (sk_X509_num(ca->chain) != 1)
		return refuse(ret_why, check->chain_name, root,
			      "is one of several certificates: a chain needs a bundle with its "
			      "root");
	if (X509_self_signed(root, 1) != 1)
		return refuse(ret_why, check->chain_name, root,
			      "is not self-signed: an intermediate needs a bundle with its root");
	if (!ca->roots)
		ca->roots = sk_X509_new_null();
	if (!ca->roots || !X509_up_ref(root))
		return -ENOMEM;
	if (sk_X509_push(ca->roots, root))
		return 0;
	X509_free(root);
	return -ENOMEM;
}

int kmtls_ca_check(const struct kmtls_ca_check *check, struct kmtls_ca *ca, char *ret_why)
{
	int err = 0;

	snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.120s: cannot be checked: out of memory",
		 check->chain_name);
	if (sk_X509_num(ca->chain) > CHAIN_MAX)
		return refuse(ret_why, check->chain_name, kmtls_ca_certificate(ca),
			      "is the first of %d certificates, a chain has at most %d",
			      sk_X509_num(ca->chain), CHAIN_MAX);
	if (sk_X509_num(ca->roots) < 1)
		err = use_as_root(check, ca, ret_why);
	if (!err)
		err = check_all(check, ca, ret_why);
	ERR_clear_error();
	return err;
}

/* ---- for others ---- */

const char *kmtls_ca_check_rule(X509 *certificate, const char *trust_domain)
{
	const char *rule = ca_rule(certificate);

	return rule ? rule : names_rule(certificate, trust_domain);
}

const char *kmtls_ca_check_subject(X509 *certificate, char *buffer)
{
	return subject_of(certificate, buffer);
}

const char *kmtls_ca_check_error(int error)
{
	return trial_rule(error);
}
