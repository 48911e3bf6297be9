/* SPDX-License-Identifier: Apache-2.0 */
/* identity.c - see identity.h: the table of types, and all backends that are configured. */
#include "identity.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "svid_store.h"

static const struct {
	const char *name;
	int (*open)(const struct kmtls_identity_options *options,
		    struct kmtls_identity **ret_identity, char *ret_why);
} types[] = {
	[KMTLS_BACKEND_BUILTIN] = { "builtin", kmtls_identity_builtin_open },
	[KMTLS_BACKEND_PROVIDED] = { "provided", kmtls_identity_provided_open },
	[KMTLS_BACKEND_FILES] = { "files", kmtls_identity_files_open },
	[KMTLS_BACKEND_WORKLOAD_API] = { "workload-api", kmtls_identity_workload_open },
	[KMTLS_BACKEND_DELEGATED_IDENTITY] = { "delegated-identity",
					       kmtls_identity_delegated_open },
};

struct kmtls_identities {
	const struct kmtls_config *config;
	struct kmtls_secret_region *secrets; /* or NULL */
	struct kmtls_identity *all[KMTLS_BACKENDS_MAX]; /* by place; NULL: not opened */
	char why[KMTLS_BACKENDS_MAX][KMTLS_IDENTITY_WHY]; /* of those */
	struct kmtls_identity *enabled; /* or NULL */
};

const char *kmtls_backend_type_name(enum kmtls_backend_type type)
{
	return types[type].name;
}

const char *kmtls_identity_state_name(enum kmtls_identity_state state)
{
	return state == KMTLS_IDENTITY_OK	 ? "ok"
	       : state == KMTLS_IDENTITY_WAITING ? "waiting"
						 : "refused";
}

const char *kmtls_backend_kept_name(const struct kmtls_config_backend *backend, char *buffer)
{
	snprintf(buffer, KMTLS_BACKEND_KEPT_NAME, "%s/%s", kmtls_backend_type_name(backend->type),
		 backend->name);
	return buffer;
}

void kmtls_identity_material_clear(struct kmtls_identity_material *material)
{
	EVP_PKEY_free(material->key); /* wipes */
	X509_free(material->leaf);
	sk_X509_pop_free(material->chain, X509_free);
	kmtls_trust_put(material->others);
	*material = (struct kmtls_identity_material){ 0 };
}

static int open_one(const struct kmtls_identities_options *options, unsigned place,
		    struct kmtls_identities *identities, char *ret_why)
{
	const struct kmtls_config *config = options->config;
	const struct kmtls_config_backend *backend = &config->identity.backends[place];
	const struct kmtls_identity_options one = {
		.backend = backend,
		.trust_domain = config->identity.trust_domain,
		.enabled = backend == config->identity.enabled,
		.secrets = options->secrets,
		.prefer_kept = options->prefer_kept,
		.not_taken = options->not_taken,
	};
	char *why = identities->why[place];
	int err = types[backend->type].open(&one, &identities->all[place], why);

	if (!err) {
		if (backend == config->identity.enabled)
			identities->enabled = identities->all[place];
		return 0;
	}
	if (backend != config->identity.enabled) {
		log_warning("identity backend not opened, its SVIDs are not trusted",
			    "backend=%s err=%s", kmtls_log_quote(backend->name),
			    kmtls_log_quote(why));
		return 0;
	}
	snprintf(ret_why, KMTLS_IDENTITY_WHY, "%s", why);
	return err;
}

int kmtls_identities_open(const struct kmtls_identities_options *options,
			  struct kmtls_identities **ret_identities, char *ret_why)
{
	const struct kmtls_config *config = options->config;
	struct kmtls_identities *identities = calloc(1, sizeof(*identities));
	int err = 0;

	if (!identities) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "identity: out of memory");
		return -ENOMEM;
	}
	identities->config = config;
	identities->secrets = options->secrets;
	for (unsigned i = 0; !err && i < config->identity.backends_count; i++)
		err = open_one(options, i, identities, ret_why);
	if (err) {
		kmtls_identities_close(identities);
		return err;
	}
	if (!identities->enabled)
		log_warning("no identity backend is enabled: mutual TLS is off",
			    "key=identity.enabled");
	*ret_identities = identities;
	return 0;
}

/* A root that two backends share is there once. */
static bool add_root(STACK_OF(X509) * bundle, X509 *root)
{
	for (int i = 0; i < sk_X509_num(bundle); i++)
		if (X509_cmp(sk_X509_value(bundle, i), root) == 0)
			return true;
	if (!X509_up_ref(root))
		return false;
	if (sk_X509_push(bundle, root) > 0)
		return true;
	X509_free(root);
	return false;
}

static bool add_roots(STACK_OF(X509) * bundle, struct kmtls_identity *one,
		      const struct kmtls_identity_subject *subject)
{
	STACK_OF(X509) *roots = one->operations->roots(one, subject);
	bool added = roots != NULL;

	for (int i = 0; added && i < sk_X509_num(roots); i++)
		added = add_root(bundle, sk_X509_value(roots, i));
	sk_X509_pop_free(roots, X509_free);
	return added;
}

/* The roots of all that are trusted, to be freed with sk_X509_pop_free(). NULL: no memory. */
static STACK_OF(X509) * make_bundle(const struct kmtls_identities *identities,
				    const struct kmtls_identity_subject *subject)
{
	STACK_OF(X509) *bundle = sk_X509_new_null();
	bool made = bundle != NULL;

	for (unsigned i = 0; made && i < KMTLS_BACKENDS_MAX; i++) {
		struct kmtls_identity *one = identities->all[i];

		if (one && one->options.backend->trust)
			made = add_roots(bundle, one, subject);
	}
	if (made)
		return bundle;
	sk_X509_pop_free(bundle, X509_free);
	return NULL;
}

/* The own bundle and those of other trust domains. */
static int make_federated(const struct kmtls_identities *identities,
			  const struct kmtls_identity_material *material, STACK_OF(X509) * own,
			  struct kmtls_svid **ret_svid, const char **ret_rule)
{
	struct kmtls_trust_bundle bundles[KMTLS_TRUST_DOMAINS_MAX];
	struct kmtls_trust *trust = NULL;
	unsigned count = 0;
	int err;

	bundles[count++] = (struct kmtls_trust_bundle){
		.trust_domain = identities->config->identity.trust_domain,
		.roots = own,
	};
	for (unsigned i = 0; i < material->others->count && count < KMTLS_TRUST_DOMAINS_MAX; i++)
		bundles[count++] = material->others->bundles[i];
	err = kmtls_trust_new(bundles, count, &trust, ret_rule);
	if (!err)
		err = kmtls_svid_new_federated(material->leaf, material->chain, material->key,
					       trust, ret_svid, ret_rule);
	kmtls_trust_put(trust);
	return err;
}

static int make_svid(const struct kmtls_identities *identities,
		     const struct kmtls_identity_subject *subject,
		     const struct kmtls_identity_material *material, struct kmtls_svid **ret_svid,
		     const char **ret_rule)
{
	STACK_OF(X509) *own = make_bundle(identities, subject);
	int err;

	*ret_rule = "out of memory";
	if (!own)
		return -ENOMEM;
	err = material->others ? make_federated(identities, material, own, ret_svid, ret_rule)
			       : kmtls_svid_new(material->leaf, material->chain, material->key, own,
						ret_svid, ret_rule);
	sk_X509_pop_free(own, X509_free);
	return err;
}

int kmtls_identities_issue(struct kmtls_identities *identities,
			   const struct kmtls_identity_subject *subject,
			   struct kmtls_svid **ret_svid, char *ret_why)
{
	struct kmtls_identity *enabled = identities->enabled;
	struct kmtls_identity_material material = {};
	const char *rule;
	int err;

	if (!enabled) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY,
			 "no identity backend is enabled (identity.enabled): mutual TLS is off");
		return -ENOTSUP;
	}
	err = enabled->operations->issue(enabled, subject, &material, ret_why);
	if (err)
		return err;
	err = make_svid(identities, subject, &material, ret_svid, &rule);
	if (err)
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.120s: %s", subject->id, rule);
	kmtls_identity_material_clear(&material);
	return err;
}

bool kmtls_identities_enabled(const struct kmtls_identities *identities)
{
	return identities->enabled != NULL;
}

bool kmtls_identities_given(const struct kmtls_identities *identities)
{
	return identities->enabled && identities->enabled->operations->version;
}

unsigned kmtls_identities_version(struct kmtls_identities *identities,
				  const struct kmtls_identity_subject *subject)
{
	unsigned version = 0;

	/* Each only grows, so the sum is another one whenever one of them is. */
	for (unsigned i = 0; i < KMTLS_BACKENDS_MAX; i++) {
		struct kmtls_identity *one = identities->all[i];

		if (one && one->options.backend->trust && one->operations->version)
			version += one->operations->version(one, subject);
	}
	return version;
}

enum kmtls_identity_state kmtls_identities_state(struct kmtls_identities *identities,
						 const struct kmtls_identity_subject *subject,
						 char *ret_why)
{
	struct kmtls_identity *enabled = identities->enabled;

	if (!enabled || !enabled->operations->state)
		return KMTLS_IDENTITY_OK;
	return enabled->operations->state(enabled, subject, ret_why);
}

int kmtls_identities_refresh(struct kmtls_identities *identities, bool *ret_changed, char *ret_why)
{
	bool changed = false;
	int result = 0;

	for (unsigned i = 0; i < KMTLS_BACKENDS_MAX; i++) {
		struct kmtls_identity *one = identities->all[i];
		char why[KMTLS_IDENTITY_WHY] = "";
		bool other = false;
		int err;

		if (!one || !one->options.backend->trust || !one->operations->refresh)
			continue;
		err = one->operations->refresh(one, &other, why);
		changed = changed || other;
		if (!err)
			continue;
		log_warning("identity backend not read anew", "backend=%s err=%s",
			    kmtls_log_quote(one->options.backend->name), kmtls_log_quote(why));
		if (!result || one == identities->enabled)
			snprintf(ret_why, KMTLS_IDENTITY_WHY, "%s", why);
		result = result ? result : err;
	}
	*ret_changed = changed;
	return result;
}

void kmtls_identities_tick(struct kmtls_identities *identities)
{
	for (unsigned i = 0; i < KMTLS_BACKENDS_MAX; i++)
		if (identities->all[i] && identities->all[i]->operations->tick)
			identities->all[i]->operations->tick(identities->all[i]);
}

/* ---- whose is it? ---- */

static bool has_issued(X509 *authority, X509 *certificate)
{
	return X509_check_issued(authority, certificate) == X509_V_OK &&
	       X509_verify(certificate, X509_get0_pubkey(authority)) == 1;
}

/* For a source that does not know who signs: the chain ends in a root of it. */
static bool ends_in(struct kmtls_identity *one, const struct kmtls_svid *svid)
{
	STACK_OF(X509) *roots = one->operations->roots(one, NULL), *chain = NULL;
	X509 *top = SSL_CTX_get0_certificate(svid->client);
	bool found = false;

	SSL_CTX_get0_chain_certs(svid->client, &chain);
	if (sk_X509_num(chain) > 0)
		top = sk_X509_value(chain, sk_X509_num(chain) - 1);
	for (int i = 0; !found && i < sk_X509_num(roots); i++)
		found = has_issued(sk_X509_value(roots, i), top);
	sk_X509_pop_free(roots, X509_free);
	return found;
}

const char *kmtls_identities_source(const struct kmtls_identities *identities,
				    const struct kmtls_svid *svid)
{
	X509 *leaf = SSL_CTX_get0_certificate(svid->client);
	const char *name = "";

	for (unsigned i = 0; !*name && i < KMTLS_BACKENDS_MAX; i++) {
		const struct kmtls_identity *one = identities->all[i];
		X509 *authority = one ? one->operations->authority(one) : NULL;

		if (authority && has_issued(authority, leaf))
			name = one->options.backend->name;
	}
	for (unsigned i = 0; !*name && i < KMTLS_BACKENDS_MAX; i++) {
		struct kmtls_identity *one = identities->all[i];

		if (one && !one->operations->authority(one) && ends_in(one, svid))
			name = one->options.backend->name;
	}
	ERR_clear_error();
	return name;
}

struct kmtls_identity *kmtls_identities_at(const struct kmtls_identities *identities,
					   unsigned place, const char **ret_why)
{
	if (!identities->all[place])
		*ret_why = identities->why[place];
	return identities->all[place];
}

const char *kmtls_identities_role(const struct kmtls_identities *identities, unsigned place)
{
	const struct kmtls_config_backend *backend = &identities->config->identity.backends[place];

	if (!identities->all[place])
		return "unavailable";
	if (backend == identities->config->identity.enabled)
		return "enabled";
	return backend->trust ? "trusted" : "not-trusted";
}

static void forget_others(const struct kmtls_identities *identities)
{
	const struct kmtls_config *config = identities->config;
	char buffers[KMTLS_BACKENDS_MAX][KMTLS_BACKEND_KEPT_NAME];
	const char *names[KMTLS_BACKENDS_MAX];
	unsigned count = config->identity.backends_count;

	for (unsigned i = 0; i < count; i++)
		names[i] = kmtls_backend_kept_name(&config->identity.backends[i], buffers[i]);
	if (identities->secrets)
		kmtls_svid_store_keep_cas(identities->secrets, names, count);
}

void kmtls_identities_keep(const struct kmtls_identities *identities)
{
	forget_others(identities);
	for (unsigned i = 0; i < KMTLS_BACKENDS_MAX; i++) {
		const struct kmtls_identity *one = identities->all[i];

		if (one && one->operations->keep && one->operations->keep(one) < 0)
			log_warning("identity backend not kept for the next worker", "backend=%s",
				    kmtls_log_quote(one->options.backend->name));
	}
}

void kmtls_identities_close(struct kmtls_identities *identities)
{
	if (!identities)
		return;
	for (unsigned i = 0; i < KMTLS_BACKENDS_MAX; i++)
		kmtls_identity_close(identities->all[i]);
	free(identities);
}
