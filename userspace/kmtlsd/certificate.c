/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certificate.c - the contents of the certificates that the daemon makes (RFC 5280, X.509-SVID
 * sections 3 and 4). Texts that depend on input, the URI SAN, are built as objects and never
 * through OpenSSL's extension strings, which have a syntax of their own.
 */
#include "certificate.h"

#include <errno.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "hash.h"
#include "verify.h"

#define ORGANIZATION "kmtls"
#define COMMON_NAME_MAX 64 /* ub-common-name, RFC 5280 appendix A.1 */
#define SERIAL_BITS 128

struct extension {
	int nid;
	const char *value; /* in the syntax of x509v3_config(5) */
};

/* It issues leaves and nothing else: a path length of 0. */
static const struct extension root_extensions[] = {
	{ NID_basic_constraints, "critical,CA:TRUE,pathlen:0" },
	{ NID_key_usage, "critical,keyCertSign,cRLSign" },
	{ NID_subject_key_identifier, "hash" },
	{ NID_authority_key_identifier, "keyid:always" },
	{ 0, NULL },
};

static const struct extension leaf_extensions[] = {
	{ NID_basic_constraints, "critical,CA:FALSE" },
	{ NID_key_usage, "critical,digitalSignature" },
	{ NID_ext_key_usage, "serverAuth,clientAuth" },
	{ NID_subject_key_identifier, "hash" },
	{ NID_authority_key_identifier, "keyid:always" },
	{ 0, NULL },
};

static void free_bignum(BIGNUM **number)
{
	BN_free(*number);
}

static void free_extension(X509_EXTENSION **extension)
{
	X509_EXTENSION_free(*extension);
}

static void free_general_name(GENERAL_NAME **name)
{
	GENERAL_NAME_free(*name);
}

static void free_general_names(GENERAL_NAMES **names)
{
	/* The names in it are someone else's. */
	sk_GENERAL_NAME_free(*names);
}

/* Positive and unpredictable (RFC 5280 section 4.1.2.2). */
static bool set_serial(X509 *certificate)
{
	BIGNUM *number __attribute__((cleanup(free_bignum))) = BN_new();

	if (!number)
		return false;
	do {
		if (!BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY))
			return false;
	} while (BN_is_zero(number));
	return BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
}

static bool set_validity(X509 *certificate, time_t not_before, time_t not_after)
{
	return ASN1_TIME_set(X509_getm_notBefore(certificate), not_before) &&
	       ASN1_TIME_set(X509_getm_notAfter(certificate), not_after);
}

static bool add_name_entry(X509_NAME *name, const char *field, const char *text)
{
	return X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC, (const unsigned char *)text,
					  -1, -1, 0);
}

/* O=kmtls and, for a root, CN=<trust domain>, or its hash where it is too long for a CN. */
static bool set_subject(X509 *certificate, const char *trust_domain)
{
	X509_NAME *name = X509_get_subject_name(certificate);
	char hash[17];

	if (!add_name_entry(name, "O", ORGANIZATION))
		return false;
	if (!trust_domain)
		return true;
	snprintf(hash, sizeof(hash), "%016llx", kmtls_hash_text(trust_domain));
	return add_name_entry(name, "CN",
			      strlen(trust_domain) > COMMON_NAME_MAX ? hash : trust_domain);
}

static bool add_uri(X509 *certificate, const char *uri)
{
	GENERAL_NAMES *names __attribute__((cleanup(free_general_names))) =
		sk_GENERAL_NAME_new_null();
	GENERAL_NAME *name __attribute__((cleanup(free_general_name))) = GENERAL_NAME_new();
	ASN1_IA5STRING *text = ASN1_IA5STRING_new();

	if (!names || !name || !text || !ASN1_STRING_set(text, uri, -1)) {
		ASN1_IA5STRING_free(text);
		return false;
	}
	GENERAL_NAME_set0_value(name, GEN_URI, text);
	return sk_GENERAL_NAME_push(names, name) > 0 &&
	       X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) ==
		       1;
}

static bool add_extensions(X509 *certificate, X509 *issuer, const struct extension *extensions)
{
	X509V3_CTX context;

	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	for (; extensions->value; extensions++) {
		X509_EXTENSION *extension __attribute__((cleanup(free_extension))) =
			X509V3_EXT_conf_nid(NULL, &context, extensions->nid, extensions->value);

		if (!extension || !X509_add_ext(certificate, extension, -1))
			return false;
	}
	return true;
}

/* Everything that root and leaf have in common, up to the signature. */
static bool fill(X509 *certificate, EVP_PKEY *key, const char *trust_domain, const char *uri,
		 time_t not_before, time_t not_after)
{
	return X509_set_version(certificate, X509_VERSION_3) && set_serial(certificate) &&
	       set_validity(certificate, not_before, not_after) &&
	       set_subject(certificate, trust_domain) && X509_set_pubkey(certificate, key) &&
	       add_uri(certificate, uri);
}

/* SHA-384 where the key is worth it (as CNSA and RFC 5480 section 4 have it). */
static const EVP_MD *digest_for(const EVP_PKEY *key)
{
	return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_bits(key) > 256 ? EVP_sha384()
									: EVP_sha256();
}

static bool sign(X509 *certificate, X509 *issuer, EVP_PKEY *issuer_key,
		 const struct extension *extensions)
{
	return X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) &&
	       add_extensions(certificate, issuer, extensions) &&
	       X509_sign(certificate, issuer_key, digest_for(issuer_key)) > 0;
}

X509 *kmtls_certificate_read_again(X509 *certificate)
{
	unsigned char *der = NULL;
	int length = i2d_X509(certificate, &der);
	const unsigned char *at = der;
	X509 *again = length > 0 ? d2i_X509(NULL, &at, length) : NULL;

	OPENSSL_free(der);
	if (again)
		X509_free(certificate);
	return again;
}

int kmtls_certificate_new_root(const char *trust_domain, enum kmtls_key_type key_type, time_t now,
			       unsigned ttl, X509 **ret_root, EVP_PKEY **ret_key)
{
	EVP_PKEY *key = kmtls_key_type_generate(key_type);
	X509 *root = X509_new();
	char uri[512];

	snprintf(uri, sizeof(uri), "spiffe://%s", trust_domain);
	if (!key || !root ||
	    !fill(root, key, trust_domain, uri, now - KMTLS_CERTIFICATE_SKEW, now + (time_t)ttl) ||
	    !sign(root, root, key, root_extensions))
		goto fail;
	*ret_root = root;
	*ret_key = key;
	return 0;
fail:
	X509_free(root);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return -EIO;
}

int kmtls_certificate_new_leaf(const char *id, enum kmtls_key_type key_type, time_t now,
			       unsigned ttl, time_t end, X509 *issuer, EVP_PKEY *issuer_key,
			       X509 **ret_leaf, EVP_PKEY **ret_key)
{
	time_t not_before = now - KMTLS_CERTIFICATE_SKEW, not_after = now + (time_t)ttl;
	time_t issuer_not_before, issuer_not_after;
	EVP_PKEY *key;
	X509 *leaf, *again;

	if (kmtls_verify_time(X509_get0_notBefore(issuer), &issuer_not_before) ||
	    kmtls_verify_time(X509_get0_notAfter(issuer), &issuer_not_after))
		return -EIO;
	if (issuer_not_after > end)
		issuer_not_after = end;
	if (now < issuer_not_before || now >= issuer_not_after)
		return -EKEYEXPIRED;
	if (not_before < issuer_not_before)
		not_before = issuer_not_before;
	if (not_after > issuer_not_after)
		not_after = issuer_not_after;
	key = kmtls_key_type_generate(key_type);
	leaf = X509_new();
	if (!key || !leaf || !fill(leaf, key, NULL, id, not_before, not_after) ||
	    !sign(leaf, issuer, issuer_key, leaf_extensions))
		goto fail;
	/* What OpenSSL has made it encodes anew whenever it is sent; what it has read it keeps as it was. */
	again = kmtls_certificate_read_again(leaf);
	if (!again)
		goto fail;
	*ret_leaf = again;
	*ret_key = key;
	return 0;
fail:
	X509_free(leaf);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return -EIO;
}
