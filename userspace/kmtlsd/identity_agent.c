/* SPDX-License-Identifier: Apache-2.0 */
/* identity_agent.c - see identity_agent.h. */
#include "identity_agent.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "spiffe.h"
#include "svid_store.h"

#define PATIENCE 2000
#define LOOK_EVERY 5

void kmtls_identity_agent_init(struct kmtls_identity_agent *agent,
			       const struct kmtls_identity_operations *operations,
			       const struct kmtls_identity_options *options,
			       STACK_OF(X509) * (*told)(struct kmtls_identity_agent * agent,
							unsigned *ret_version))
{
	char name[KMTLS_BACKEND_KEPT_NAME];

	agent->identity.operations = operations;
	agent->identity.options = *options;
	agent->told = told;
	agent->patience = PATIENCE;
	pthread_mutex_init(&agent->lock, NULL);
	if (options->secrets && options->prefer_kept)
		kmtls_svid_store_get_roots(options->secrets,
					   kmtls_backend_kept_name(options->backend, name),
					   &agent->kept);
}

void kmtls_identity_agent_clear(struct kmtls_identity_agent *agent)
{
	sk_X509_pop_free(agent->kept, X509_free);
	pthread_mutex_destroy(&agent->lock);
}

X509 *kmtls_identity_agent_authority(const struct kmtls_identity *identity)
{
	return NULL;
}

/* ---- SVIDs ---- */

int kmtls_identity_agent_check(const struct kmtls_identity *identity,
			       const struct kmtls_identity_subject *subject, char *ret_why)
{
	const char *trust_domain = identity->options.trust_domain, *rule = "";
	struct kmtls_spiffe_id id;

	if (kmtls_spiffe_id_parse(subject->id, strlen(subject->id), &id, &rule) == 0 &&
	    id.trust_domain_length == strlen(trust_domain) &&
	    !memcmp(subject->id + id.trust_domain_offset, trust_domain, id.trust_domain_length))
		return 0;
	snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.120s: is not of the trust domain %.100s",
		 subject->id, trust_domain);
	return -EINVAL;
}

/* All but the first, which is the own one. What is too much for one SVID is left out: nobody of those
 * is believed then. */
static int fill_others(const struct kmtls_workload_bundles *from, struct kmtls_trust **ret_others,
		       const char **ret_rule)
{
	struct kmtls_trust_bundle bundles[KMTLS_TRUST_DOMAINS_MAX - 1];
	unsigned count = 0;

	for (size_t i = 1; i < from->count && count < KMTLS_TRUST_DOMAINS_MAX - 1; i++)
		bundles[count++] = (struct kmtls_trust_bundle){
			.trust_domain = from->items[i].trust_domain,
			.roots = from->items[i].roots,
		};
	return count ? kmtls_trust_new(bundles, count, ret_others, ret_rule) : 0;
}

int kmtls_identity_agent_fill(const struct kmtls_workload_identity *from,
			      struct kmtls_identity_material *ret_material, char *ret_why)
{
	struct kmtls_identity_material material = { .key = NULL };
	const char *rule = "out of memory";
	int err = fill_others(&from->bundles, &material.others, &rule);

	if (!err && sk_X509_num(from->chain) > 0) {
		material.chain = X509_chain_up_ref(from->chain);
		err = material.chain ? 0 : -ENOMEM;
	}
	if (err) {
		kmtls_identity_material_clear(&material);
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.120s: %s", from->id, rule);
		return err;
	}
	X509_up_ref(from->leaf);
	EVP_PKEY_up_ref(from->key);
	material.leaf = from->leaf;
	material.key = from->key;
	*ret_material = material;
	return 0;
}

/* ---- states ---- */

enum kmtls_identity_state kmtls_identity_agent_state(const struct kmtls_agent_view *view,
						     char *ret_why)
{
	switch (view->state) {
	case KMTLS_AGENT_STREAMING:
		ret_why[0] = '\0';
		return KMTLS_IDENTITY_OK;
	case KMTLS_AGENT_REFUSED:
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%s", view->why);
		return KMTLS_IDENTITY_REFUSED;
	default:
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%s",
			 view->why[0] ? view->why : "the agent has not answered yet");
		return KMTLS_IDENTITY_WAITING;
	}
}

void kmtls_identity_agent_wait(struct kmtls_identity_agent *agent,
			       bool (*is_open)(struct kmtls_identity_agent *agent,
					       const struct kmtls_identity_subject *subject),
			       const struct kmtls_identity_subject *subject)
{
	unsigned patience = __atomic_load_n(&agent->patience, __ATOMIC_RELAXED);
	int64_t begin = kmtls_grpc_now(), passed = 0;
	bool open = is_open(agent, subject);

	if (!open)
		return;
	while (open && passed < patience) {
		poll(NULL, 0, LOOK_EVERY);
		open = is_open(agent, subject);
		passed = kmtls_grpc_now() - begin;
	}
	/* Not again and again for one that hangs: pods are enrolled one after the other. */
	patience = !open ? PATIENCE : passed < patience ? patience - (unsigned)passed : 0;
	__atomic_store_n(&agent->patience, patience, __ATOMIC_RELAXED);
}

/* ---- roots ---- */

static struct kmtls_identity_agent *agent_of(const struct kmtls_identity *identity)
{
	return (struct kmtls_identity_agent *)identity;
}

STACK_OF(X509) * kmtls_identity_agent_roots(struct kmtls_identity *identity,
					    const struct kmtls_identity_subject *subject)
{
	struct kmtls_identity_agent *agent = agent_of(identity);
	unsigned ignored;
	STACK_OF(X509) *told = agent->told(agent, &ignored);

	if (!told || sk_X509_num(told) > 0)
		return told;
	pthread_mutex_lock(&agent->lock);
	if (agent->kept) {
		sk_X509_free(told);
		told = X509_chain_up_ref(agent->kept);
	}
	pthread_mutex_unlock(&agent->lock);
	return told;
}

unsigned kmtls_identity_agent_version(struct kmtls_identity_agent *agent)
{
	unsigned version;

	sk_X509_pop_free(agent->told(agent, &version), X509_free);
	return version;
}

int kmtls_identity_agent_keep(const struct kmtls_identity *identity)
{
	struct kmtls_identity_agent *agent = agent_of(identity);
	const struct kmtls_identity_options *options = &identity->options;
	char name[KMTLS_BACKEND_KEPT_NAME];
	unsigned version;
	STACK_OF(X509) *told = agent->told(agent, &version);
	int err = 0;

	pthread_mutex_lock(&agent->lock);
	if (options->secrets && sk_X509_num(told) > 0 && version != agent->kept_version) {
		agent->kept_version = version;
		err = kmtls_svid_store_put_roots(
			options->secrets, kmtls_backend_kept_name(options->backend, name), told);
	}
	pthread_mutex_unlock(&agent->lock);
	sk_X509_pop_free(told, X509_free);
	return err;
}
