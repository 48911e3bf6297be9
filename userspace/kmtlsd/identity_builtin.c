/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity_builtin.c - the embedded CA: a root of its own, in a file or in memory, signs SVIDs
 * for the pods of this node directly. Nodes that shall trust each other share the file.
 */
#include "identity_ca.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ca_check.h"
#include "certificate.h"
#include "log.h"
#include "root_file.h"
#include "spiffe.h"

#define TRUST_DOMAIN_MAX 255

static const char in_memory[] = "the root in memory";

static int check_root(struct kmtls_identity_ca *builtin, const char *name, char *ret_why)
{
	const struct kmtls_ca_check check = {
		.chain_name = name,
		.key_name = name,
		.bundle_name = name,
		.trust_domain = builtin->identity.options.trust_domain,
	};

	return kmtls_ca_check(&check, &builtin->ca, ret_why);
}

/* Takes over both, and checks them: whatever made them. */
static int set_root(struct kmtls_identity_ca *builtin, const char *name, X509 *root, EVP_PKEY *key,
		    char *ret_why)
{
	builtin->ca.key = key;
	builtin->ca.chain = sk_X509_new_null();
	if (builtin->ca.chain && sk_X509_push(builtin->ca.chain, root))
		return check_root(builtin, name, ret_why);
	X509_free(root);
	snprintf(ret_why, KMTLS_IDENTITY_WHY, "built-in CA: out of memory");
	return -ENOMEM;
}

static int generate(const struct kmtls_identity_options *options, X509 **ret_root,
		    EVP_PKEY **ret_key, char *ret_why)
{
	const struct kmtls_config_backend *backend = options->backend;
	int err = kmtls_certificate_new_root(options->trust_domain,
					     (enum kmtls_key_type)backend->key_type, time(NULL),
					     backend->root_ttl, ret_root, ret_key);

	if (err)
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "OpenSSL could not make the root");
	return err;
}

static int make_root(struct kmtls_identity_ca *builtin, char *ret_why)
{
	EVP_PKEY *key;
	X509 *root;
	int err = generate(&builtin->identity.options, &root, &key, ret_why);

	return err ? err : set_root(builtin, in_memory, root, key, ret_why);
}

static int load_root(struct kmtls_identity_ca *builtin, const char *file, char *ret_why)
{
	EVP_PKEY *key;
	X509 *root;
	int err = kmtls_root_file_load(file, &root, &key, ret_why);

	return err ? err : set_root(builtin, file, root, key, ret_why);
}

/* Loads the root, or makes it; whoever loses the race for making it loads the winner's. */
static int load_or_make_root(struct kmtls_identity_ca *builtin, const char *file, char *ret_why)
{
	EVP_PKEY *key = NULL;
	X509 *root = NULL;
	int err = load_root(builtin, file, ret_why);

	if (err != -ENOENT)
		return err;
	err = generate(&builtin->identity.options, &root, &key, ret_why);
	if (err)
		return err;
	err = kmtls_root_file_create(file, root, key, ret_why);
	if (!err)
		return set_root(builtin, file, root, key, ret_why);
	X509_free(root);
	EVP_PKEY_free(key);
	return err == -EEXIST ? load_root(builtin, file, ret_why) : err;
}

/* The root that a worker before this one had. */
static int load_kept(struct kmtls_identity_ca *builtin, char *ret_why)
{
	int err = kmtls_identity_ca_kept(builtin);

	if (!err)
		err = check_root(builtin, in_memory, ret_why);
	if (err)
		kmtls_ca_clear(&builtin->ca);
	return err;
}

/* From the file, or from memory if that is preferred, or all there is. */
static int find_root(struct kmtls_identity_ca *builtin, char *ret_why)
{
	const struct kmtls_identity_options *options = &builtin->identity.options;
	const char *file = options->backend->root_file;
	char ignored[KMTLS_IDENTITY_WHY];
	int err;

	if ((options->prefer_kept || !file) && !load_kept(builtin, ignored))
		return 0;
	if (!file)
		return make_root(builtin, ret_why);
	err = load_or_make_root(builtin, file, ret_why);
	if (!err)
		return 0;
	kmtls_ca_clear(&builtin->ca);
	if (load_kept(builtin, ignored) < 0)
		return err;
	log_warning("root file not read, the root in memory is used", "err=%s",
		    kmtls_log_quote(ret_why));
	return 0;
}

static int check_options(const struct kmtls_identity_options *options, char *ret_why)
{
	char id[sizeof("spiffe://") + TRUST_DOMAIN_MAX];
	struct kmtls_spiffe_id parsed;
	const char *rule = NULL;

	if (!options->backend->root_ttl || !options->backend->svid_ttl)
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
	snprintf(ret_why, KMTLS_IDENTITY_WHY, "built-in CA: %s", rule);
	return -EINVAL;
}

int kmtls_identity_builtin_open(const struct kmtls_identity_options *options,
				struct kmtls_identity **ret_identity, char *ret_why)
{
	int err = check_options(options, ret_why);

	return err ? err : kmtls_identity_ca_open(options, find_root, ret_identity, ret_why);
}
