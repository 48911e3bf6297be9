/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity_provided.c - a CA that the user's PKI has made: a root, or an intermediate with its chain
 * and the bundle it ends in. It signs SVIDs for the pods of this node; its files are only read.
 */
#include "identity_ca.h"

#include "ca_check.h"
#include "log.h"
#include "pem_file.h"

static void warn(const char *sentence)
{
	log_warning("provided CA", "warning=%s", kmtls_log_quote(sentence));
}

/* What sentences call a source: its path, or its key in the configuration. */
static struct kmtls_pem_source source_of(const char *path, const char *text, const char *key)
{
	return (struct kmtls_pem_source){ .name = path ? path : key, .path = path, .text = text };
}

static int check(struct kmtls_identity_ca *provided, const char *chain_name, const char *key_name,
		 const char *bundle_name, char *ret_why)
{
	const struct kmtls_ca_check rules = {
		.chain_name = chain_name,
		.key_name = key_name,
		.bundle_name = bundle_name,
		.trust_domain = provided->identity.options.trust_domain,
		.warn = warn,
	};

	return kmtls_ca_check(&rules, &provided->ca, ret_why);
}

static int load(struct kmtls_identity_ca *provided, char *ret_why)
{
	const struct kmtls_config_backend *backend = provided->identity.options.backend;
	struct kmtls_pem_source chain = source_of(backend->cert_file, backend->cert, "cert");
	struct kmtls_pem_source key = source_of(backend->key_file, backend->key, "key");
	struct kmtls_pem_source bundle = source_of(backend->bundle_file, backend->bundle, "bundle");
	int err = kmtls_pem_certificates(&chain, &provided->ca.chain, ret_why);

	if (!err)
		err = kmtls_pem_key(&key, &provided->ca.key, ret_why);
	if (!err && (bundle.path || bundle.text))
		err = kmtls_pem_certificates(&bundle, &provided->ca.roots, ret_why);
	return err ? err : check(provided, chain.name, key.name, bundle.name, ret_why);
}

/* What a worker before this one had; it was checked then, and time has passed. */
static int load_kept(struct kmtls_identity_ca *provided, char *ret_why)
{
	static const char name[] = "the CA in memory";
	int err = kmtls_identity_ca_kept(provided);

	if (!err)
		err = check(provided, name, name, name, ret_why);
	if (err)
		kmtls_ca_clear(&provided->ca);
	return err;
}

/*
 * From memory for a worker that is not its keeper's first. A first one must have the files as they
 * are now: after a change that cannot be used the daemon before it goes on.
 */
static int find(struct kmtls_identity_ca *provided, char *ret_why)
{
	const struct kmtls_config_backend *backend = provided->identity.options.backend;
	char ignored[KMTLS_IDENTITY_WHY];

	provided->load = load;
	if (provided->identity.options.prefer_kept && !load_kept(provided, ignored))
		return 0;
	if (backend->cert || backend->key || backend->bundle)
		log_warning("a CA in the configuration itself is for development only",
			    "backend=%s", kmtls_log_quote(backend->name));
	return load(provided, ret_why);
}

int kmtls_identity_provided_open(const struct kmtls_identity_options *options,
				 struct kmtls_identity **ret_identity, char *ret_why)
{
	return kmtls_identity_ca_open(options, find, ret_identity, ret_why);
}
