/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity_builtin.c - the embedded CA: a root of its own, in a file or in memory, signs SVIDs
 * for the pods of this node directly. Nodes that shall trust each other share the file.
 */
#include "identity.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "certificate.h"
#include "cleanup.h"
#include "log.h"
#include "root_file.h"
#include "spiffe.h"
#include "svid_store.h"
#include "verify.h"

#define WHY_SIZE 256
#define TRUST_DOMAIN_MAX 255

struct builtin {
	struct kmtls_identity identity; /* first: what the interface passes around */
	char trust_domain[TRUST_DOMAIN_MAX + 1];
	unsigned svid_ttl;
	struct kmtls_secret_region *secrets; /* or NULL */
	/* Read only once made, which is what makes issue() thread-safe. */
	X509 *root;
	EVP_PKEY *root_key;
	STACK_OF(X509) * bundle; /* the root */
};

static void free_certificate(X509 **certificate)
{
	X509_free(*certificate);
}

static void free_key(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

/* -EINVAL unless id is a SPIFFE ID with a path of our trust domain. */
static int check_id(const struct builtin *builtin, const char *id, char *ret_why)
{
	struct kmtls_spiffe_id parsed;
	const char *rule;

	if (kmtls_spiffe_id_parse(id, strlen(id), &parsed, &rule)) {
		snprintf(ret_why, WHY_SIZE, "%.120s: not a SPIFFE ID: %s", id, rule);
		return -EINVAL;
	}
	if (!parsed.path_length) {
		snprintf(ret_why, WHY_SIZE, "%.120s: names a trust domain, not a workload", id);
		return -EINVAL;
	}
	if (parsed.trust_domain_length != strlen(builtin->trust_domain) ||
	    memcmp(id + parsed.trust_domain_offset, builtin->trust_domain,
		   parsed.trust_domain_length)) {
		snprintf(ret_why, WHY_SIZE, "%.100s: is not of the trust domain %.100s", id,
			 builtin->trust_domain);
		return -EINVAL;
	}
	return 0;
}

static int issue(struct kmtls_identity *identity, const char *id, struct kmtls_svid **ret_svid,
		 char *ret_why)
{
	struct builtin *builtin = (struct builtin *)identity;
	EVP_PKEY *key __attribute__((cleanup(free_key))) = NULL;
	X509 *leaf __attribute__((cleanup(free_certificate))) = NULL;
	const char *rule;
	int err = check_id(builtin, id, ret_why);

	if (err)
		return err;
	err = kmtls_certificate_new_leaf(id, time(NULL), builtin->svid_ttl, builtin->root,
					 builtin->root_key, &leaf, &key);
	if (err) {
		snprintf(ret_why, WHY_SIZE, "%.120s: %s", id,
			 err == -EKEYEXPIRED ? "the root has expired or is not valid yet"
					     : "OpenSSL could not make the certificate");
		return err;
	}
	err = kmtls_svid_new(leaf, NULL, key, builtin->bundle, ret_svid, &rule);
	if (err)
		snprintf(ret_why, WHY_SIZE, "%.120s: %s", id, rule);
	return err;
}

static void keep(struct kmtls_identity *identity)
{
	struct builtin *builtin = (struct builtin *)identity;

	if (builtin->secrets &&
	    kmtls_svid_store_put_root(builtin->secrets, builtin->root, builtin->root_key) < 0)
		log_warning("root not kept for the next worker", NULL);
}

static void close_builtin(struct kmtls_identity *identity)
{
	struct builtin *builtin = (struct builtin *)identity;

	sk_X509_free(builtin->bundle);
	X509_free(builtin->root);
	EVP_PKEY_free(builtin->root_key); /* wipes */
	free(builtin);
}

static const struct kmtls_identity_operations operations = {
	.name = "builtin",
	.issue = issue,
	.keep = keep,
	.close = close_builtin,
};

/* ---- the root ----------------------------------------------------------------------- */

/* A root of another trust domain would sign what no peer accepts. */
static bool names_trust_domain(X509 *root, const char *trust_domain)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(root, NID_subject_alt_name, NULL, NULL);
	char uri[sizeof("spiffe://") + TRUST_DOMAIN_MAX];
	bool found = false;
	int i, length;

	length = snprintf(uri, sizeof(uri), "spiffe://%s", trust_domain);
	for (i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		const ASN1_STRING *text = name->d.ia5;

		if (name->type == GEN_URI && ASN1_STRING_length(text) == length &&
		    !memcmp(ASN1_STRING_get0_data(text), uri, length))
			found = true;
	}
	GENERAL_NAMES_free(names);
	ERR_clear_error();
	return found;
}

/* What a CA that signs leaves must and must not be (RFC 5280, X.509-SVID section 3). */
static const char *root_rule(X509 *root, const EVP_PKEY *key, const char *trust_domain)
{
	__u32 flags = X509_get_extension_flags(root), usage = X509_get_key_usage(root);

	if ((flags & EXFLAG_INVALID) || !(flags & EXFLAG_CA))
		return "the certificate is not a CA (basicConstraints CA:TRUE)";
	if (!(flags & EXFLAG_KUSAGE) || !(usage & KU_KEY_CERT_SIGN))
		return "the certificate's key usage lacks keyCertSign";
	if (usage & KU_KEY_AGREEMENT)
		return "the certificate's key usage has keyAgreement";
	if (X509_self_signed(root, 1) != 1)
		return "the certificate is not self-signed";
	if (!kmtls_verify_key(key))
		return "the key is not EC P-256 or P-384, nor RSA of 2048 bits or more";
	if (!names_trust_domain(root, trust_domain))
		return "the certificate is of another trust domain";
	if (X509_cmp_current_time(X509_get0_notBefore(root)) >= 0)
		return "the certificate is not valid yet";
	if (X509_cmp_current_time(X509_get0_notAfter(root)) <= 0)
		return "the certificate has expired";
	return NULL;
}

static int check_root(const struct builtin *builtin, const char *file, char *ret_why)
{
	const char *rule = root_rule(builtin->root, builtin->root_key, builtin->trust_domain);

	ERR_clear_error();
	if (!rule)
		return 0;
	snprintf(ret_why, WHY_SIZE, "%.120s: %s", file, rule);
	return -EINVAL;
}

static int make_root(struct builtin *builtin, unsigned ttl, char *ret_why)
{
	int err = kmtls_certificate_new_root(builtin->trust_domain, time(NULL), ttl, &builtin->root,
					     &builtin->root_key);

	if (err)
		snprintf(ret_why, WHY_SIZE, "OpenSSL could not make the root");
	return err;
}

static int load_root(struct builtin *builtin, const char *file, char *ret_why)
{
	int err = kmtls_root_file_load(file, &builtin->root, &builtin->root_key, ret_why);

	return err ? err : check_root(builtin, file, ret_why);
}

/* Loads the root, or makes it; whoever loses the race for making it loads the winner's. */
static int load_or_make_root(struct builtin *builtin, const char *file, unsigned ttl, char *ret_why)
{
	int err = load_root(builtin, file, ret_why);

	if (err != -ENOENT)
		return err;
	err = make_root(builtin, ttl, ret_why);
	if (err)
		return err;
	err = kmtls_root_file_create(file, builtin->root, builtin->root_key, ret_why);
	if (err != -EEXIST)
		return err;
	X509_free(kmtls_take_pointer(builtin->root));
	EVP_PKEY_free(kmtls_take_pointer(builtin->root_key));
	return load_root(builtin, file, ret_why);
}

/* The root that a worker before this one had. */
static int load_kept(struct builtin *builtin, const struct kmtls_identity_builtin_options *options,
		     char *ret_why)
{
	int err = options->secrets ? kmtls_svid_store_get_root(options->secrets, &builtin->root,
							       &builtin->root_key)
				   : -ENOENT;

	return err ? err : check_root(builtin, "the root in memory", ret_why);
}

static void drop_root(struct builtin *builtin)
{
	X509_free(kmtls_take_pointer(builtin->root));
	EVP_PKEY_free(kmtls_take_pointer(builtin->root_key));
}

/* From the file, or from memory if that is preferred, or all there is. */
static int find_root(struct builtin *builtin, const struct kmtls_identity_builtin_options *options,
		     char *ret_why)
{
	char ignored[WHY_SIZE];
	int err;

	if (options->prefer_kept || !options->root_file) {
		if (!load_kept(builtin, options, ignored))
			return 0;
		drop_root(builtin);
	}
	if (!options->root_file)
		return make_root(builtin, options->root_ttl, ret_why);
	err = load_or_make_root(builtin, options->root_file, options->root_ttl, ret_why);
	if (!err)
		return 0;
	drop_root(builtin);
	if (load_kept(builtin, options, ignored)) {
		drop_root(builtin);
		return err;
	}
	log_warning("root file not read, the root in memory is used", "err=%s",
		    kmtls_log_quote(ret_why));
	return 0;
}

static int check_options(const struct kmtls_identity_builtin_options *options, char *ret_why)
{
	char id[sizeof("spiffe://") + TRUST_DOMAIN_MAX];
	struct kmtls_spiffe_id parsed;
	const char *rule = NULL;

	if (!options->root_ttl || !options->svid_ttl)
		rule = "a lifetime of 0 seconds";
	else if (strlen(options->trust_domain) > TRUST_DOMAIN_MAX)
		rule = "the trust domain is longer than 255 bytes";
	else if (strchr(options->trust_domain, '/'))
		rule = "the trust domain has a slash";
	if (rule)
		goto refuse;
	snprintf(id, sizeof(id), "spiffe://%s", options->trust_domain);
	if (!kmtls_spiffe_id_parse(id, strlen(id), &parsed, &rule))
		return 0;
refuse:
	snprintf(ret_why, WHY_SIZE, "built-in CA: %s", rule);
	return -EINVAL;
}

int kmtls_identity_builtin_open(const struct kmtls_identity_builtin_options *options,
				struct kmtls_identity **ret_identity, char *ret_why)
{
	struct builtin *builtin;
	int err = check_options(options, ret_why);

	if (err)
		return err;
	builtin = calloc(1, sizeof(*builtin));
	if (!builtin)
		goto no_memory;
	builtin->identity.operations = &operations;
	snprintf(builtin->trust_domain, sizeof(builtin->trust_domain), "%s", options->trust_domain);
	builtin->svid_ttl = options->svid_ttl;
	builtin->secrets = options->secrets;
	err = find_root(builtin, options, ret_why);
	if (err)
		goto fail;
	builtin->bundle = sk_X509_new_null();
	if (!builtin->bundle || !sk_X509_push(builtin->bundle, builtin->root))
		goto no_memory;
	*ret_identity = &builtin->identity;
	return 0;
no_memory:
	err = -ENOMEM;
	snprintf(ret_why, WHY_SIZE, "built-in CA: out of memory");
fail:
	if (builtin)
		close_builtin(&builtin->identity);
	return err;
}
