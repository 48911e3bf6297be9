/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify_leaf.c - the rules of the X.509-SVID standard for a leaf certificate by itself,
 * and which keys are good enough. No chain, no clock, no policy: those are in verify.c.
 */
#include "verify.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "spiffe.h"

#define RSA_BITS_MIN 2048

static void free_general_names(GENERAL_NAMES **names)
{
	GENERAL_NAMES_free(*names);
}

/* X.509-SVID sections 2 and 5.2. text may hold any byte, also zero (it is DER). */
static enum kmtls_reason check_id(const ASN1_IA5STRING *uri, char *ret_id)
{
	const char *text = (const char *)ASN1_STRING_get0_data(uri);
	struct kmtls_spiffe_id id;
	const char *rule;

	if (kmtls_spiffe_id_parse(text, ASN1_STRING_length(uri), &id, &rule) || !id.path_length)
		return KMTLS_REASON_SVID_BAD_ID;
	memcpy(ret_id, id.text, id.length);
	ret_id[id.length] = '\0';
	return KMTLS_REASON_NONE;
}

/* Exactly one URI SAN; names of other kinds may stand beside it. */
static enum kmtls_reason read_id(X509 *leaf, char *ret_id)
{
	int critical;
	GENERAL_NAMES *names __attribute__((cleanup(free_general_names))) =
		X509_get_ext_d2i(leaf, NID_subject_alt_name, &critical, NULL);
	const ASN1_IA5STRING *uri = NULL;
	int i;

	if (!names) /* -1: not there; otherwise malformed, or there twice */
		return critical == -1 ? KMTLS_REASON_SVID_NO_ID : KMTLS_REASON_SVID_INVALID;
	for (i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type != GEN_URI)
			continue;
		if (uri)
			return KMTLS_REASON_SVID_MANY_IDS;
		uri = name->d.uniformResourceIdentifier;
	}
	return uri ? check_id(uri, ret_id) : KMTLS_REASON_SVID_NO_ID;
}

static bool is_allowed_curve(const EVP_PKEY *key)
{
	char group[32];
	int explicit_parameters = 0;

	if (!EVP_PKEY_get_group_name(key, group, sizeof(group), NULL))
		return false;
	/* A curve spelled out can look like a named one and not be it (CVE-2020-0601). */
	EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS,
			       &explicit_parameters);
	return !explicit_parameters &&
	       (!strcmp(group, SN_X9_62_prime256v1) || !strcmp(group, SN_secp384r1));
}

bool kmtls_verify_key(const EVP_PKEY *key)
{
	if (!key)
		return false;
	if (EVP_PKEY_is_a(key, "EC"))
		return is_allowed_curve(key);
	return EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) >= RSA_BITS_MIN;
}

/* X.509-SVID section 4.3 wants the extension there; both getters say ~0 when it is not. */
static bool is_leaf_key_usage(X509 *leaf)
{
	__u32 usage = X509_get_key_usage(leaf);

	return usage != UINT32_MAX && (usage & KU_DIGITAL_SIGNATURE) &&
	       !(usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN));
}

/* Section 4.4: may be missing. anyExtendedKeyUsage alone is not enough, as in OpenSSL. */
static bool fits_role(X509 *leaf, enum kmtls_role role)
{
	__u32 wanted = role == KMTLS_ROLE_SERVER ? XKU_SSL_SERVER : XKU_SSL_CLIENT;

	return X509_get_extended_key_usage(leaf) & wanted;
}

enum kmtls_reason kmtls_verify_leaf(X509 *leaf, enum kmtls_role role, char *ret_id)
{
	enum kmtls_reason reason;
	__u32 flags;

	ERR_set_mark(); /* what OpenSSL says about a malformed extension is no one's business */
	reason = read_id(leaf, ret_id);
	flags = X509_get_extension_flags(leaf);
	if (reason)
		;
	else if (flags & EXFLAG_INVALID)
		reason = KMTLS_REASON_SVID_INVALID;
	else if (flags & EXFLAG_CA)
		reason = KMTLS_REASON_SVID_IS_CA;
	else if (!is_leaf_key_usage(leaf))
		reason = KMTLS_REASON_SVID_KEY_USAGE;
	else if (!fits_role(leaf, role))
		reason = KMTLS_REASON_SVID_EXTENDED_KEY_USAGE;
	else if (!kmtls_verify_key(X509_get0_pubkey(leaf)))
		reason = KMTLS_REASON_SVID_WEAK_KEY;
	ERR_pop_to_mark();
	return reason;
}
