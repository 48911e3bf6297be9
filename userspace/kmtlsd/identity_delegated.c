/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity_delegated.c - SVIDs of this node's pods by the SPIRE agent's Delegated Identity API. Each pod
 * has its own stream, asked for by its selectors; of what the agent finds by them the SVID with the
 * pod's SPIFFE ID is taken.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "delegated_identity.h"
#include "hash.h"
#include "identity_agent.h"
#include "pods.h"
#include "selectors.h"

#define IDLE 60000 /* ms; a pod that nobody asks for any more */

struct pod {
	__u64 key; /* what the client calls it */
	char *name, *id;
	unsigned version;
	struct kmtls_workload_identity *seen; /* by changed(); NULL: nothing */
	bool given; /* an SVID, to whoever asked */
	int64_t asked;
};

struct delegated {
	struct kmtls_identity_agent agent; /* first; its lock is that of all below */
	struct kmtls_delegated_identity *source;
	struct pod *pods[KMTLS_PODS_MAX];
	unsigned count;
};

static struct delegated *delegated_of(struct kmtls_identity *identity)
{
	return (struct delegated *)identity;
}

/* ---- pods, with the lock ---- */

static void free_pod(struct pod *pod)
{
	kmtls_workload_identity_put(pod->seen);
	free(pod->name);
	free(pod->id);
	free(pod);
}

static struct pod *new_pod(const struct kmtls_identity_subject *subject, __u64 key)
{
	struct pod *pod = calloc(1, sizeof(*pod));

	if (!pod)
		return NULL;
	pod->key = key;
	pod->name = strdup(subject->pod);
	pod->id = strdup(subject->id);
	if (pod->name && pod->id)
		return pod;
	free_pod(pod);
	return NULL;
}

/* Whoever has the name by tomorrow may have another SPIFFE ID. */
static __u64 key_of(const struct kmtls_identity_subject *subject)
{
	char text[KMTLS_POD_NAME_MAX + KMTLS_SPIFFE_ID_MAX + 2];

	snprintf(text, sizeof(text), "%s %s", subject->pod, subject->id);
	return kmtls_hash_text(text);
}

static struct pod *find_key(const struct delegated *delegated, __u64 key)
{
	for (unsigned i = 0; i < delegated->count; i++)
		if (delegated->pods[i]->key == key)
			return delegated->pods[i];
	return NULL;
}

static int subscribe(struct delegated *delegated, const struct pod *pod,
		     const struct kmtls_identity_subject *subject, char *ret_why)
{
	const struct kmtls_config_backend *backend = delegated->agent.identity.options.backend;
	struct kmtls_selectors selectors = { .count = 0 };
	struct kmtls_delegated_workload workload = {
		.selectors = (const char *const *)selectors.items,
		.choice = { .id = pod->id, .hint = backend->hint },
		.name = pod->name,
	};
	int err = kmtls_selectors_make(backend->selectors, backend->selectors_count, subject,
				       &selectors, ret_why);

	if (err)
		return err;
	workload.selector_count = selectors.count;
	err = kmtls_delegated_identity_add(delegated->source, pod->key, &workload, ret_why);
	kmtls_selectors_free(&selectors);
	return err;
}

static struct pod *add(struct delegated *delegated, const struct kmtls_identity_subject *subject,
		       __u64 key, char *ret_why)
{
	struct pod *pod = NULL;

	snprintf(ret_why, KMTLS_IDENTITY_WHY, "pod %.120s: no memory or no place for it",
		 subject->pod);
	if (delegated->count < KMTLS_PODS_MAX)
		pod = new_pod(subject, key);
	if (pod && subscribe(delegated, pod, subject, ret_why)) {
		free_pod(pod);
		return NULL;
	}
	if (pod)
		delegated->pods[delegated->count++] = pod;
	return pod;
}

/* That of subject, which is asked for if it is new. NULL, and why. */
static struct pod *find(struct delegated *delegated, const struct kmtls_identity_subject *subject,
			char *ret_why)
{
	__u64 key = key_of(subject);
	struct pod *pod = find_key(delegated, key);

	if (!pod)
		pod = add(delegated, subject, key, ret_why);
	if (pod)
		pod->asked = kmtls_grpc_now();
	return pod;
}

static void forget_idle(struct delegated *delegated)
{
	int64_t now = kmtls_grpc_now();

	for (unsigned i = 0; i < delegated->count;) {
		struct pod *pod = delegated->pods[i];

		if (now < pod->asked + IDLE) {
			i++;
			continue;
		}
		kmtls_delegated_identity_remove(delegated->source, pod->key);
		delegated->pods[i] = delegated->pods[--delegated->count];
		free_pod(pod);
	}
}

/* On the client's thread. The same once more, after a reconnect, is no news. */
static void changed(struct kmtls_delegated_identity *source, uint64_t key, void *context)
{
	struct delegated *delegated = context;
	struct kmtls_workload_identity *now = kmtls_delegated_identity_get(source, key);
	struct pod *pod;

	pthread_mutex_lock(&delegated->agent.lock);
	pod = find_key(delegated, key);
	if (pod &&
	    (!now != !pod->seen || (now && !kmtls_workload_identity_is_same(now, pod->seen)))) {
		struct kmtls_workload_identity *before = pod->seen;

		pod->seen = now;
		pod->version++;
		now = before;
	}
	pthread_mutex_unlock(&delegated->agent.lock);
	kmtls_workload_identity_put(now);
}

/* ---- the interface ---- */

static bool is_open(struct kmtls_identity_agent *agent,
		    const struct kmtls_identity_subject *subject)
{
	struct delegated *delegated = (struct delegated *)agent;
	struct kmtls_agent_view source, pod;

	kmtls_delegated_identity_look(delegated->source, &source);
	return source.state <= KMTLS_AGENT_STREAMING &&
	       kmtls_delegated_identity_look_at(delegated->source, key_of(subject), &pod) == 0 &&
	       pod.state == KMTLS_AGENT_CONNECTING && !pod.answers;
}

/* How it stands with subject, and why there is nothing if there is nothing. */
static enum kmtls_identity_state
explain(struct delegated *delegated, const struct kmtls_identity_subject *subject, char *ret_why)
{
	struct kmtls_workload_identity *found;
	struct kmtls_agent_view view;
	enum kmtls_identity_state state;

	/* What ails the connection is the reason for all. */
	kmtls_delegated_identity_look(delegated->source, &view);
	if (view.state == KMTLS_AGENT_STREAMING &&
	    kmtls_delegated_identity_look_at(delegated->source, key_of(subject), &view)) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "the agent has not been asked yet");
		return KMTLS_IDENTITY_WAITING;
	}
	state = kmtls_identity_agent_state(&view, ret_why);
	if (state != KMTLS_IDENTITY_OK)
		return state;
	found = kmtls_delegated_identity_get(delegated->source, key_of(subject));
	kmtls_workload_identity_put(found);
	if (found)
		return KMTLS_IDENTITY_OK;
	snprintf(ret_why, KMTLS_IDENTITY_WHY,
		 "the SVID has expired, the agent has given no other one");
	return KMTLS_IDENTITY_WAITING;
}

static int issue(struct kmtls_identity *identity, const struct kmtls_identity_subject *subject,
		 struct kmtls_identity_material *ret_material, char *ret_why)
{
	struct delegated *delegated = delegated_of(identity);
	struct kmtls_workload_identity *found = NULL;
	bool was_given = false;
	struct pod *pod;
	int err = kmtls_identity_agent_check(identity, subject, ret_why);

	if (err)
		return err;
	pthread_mutex_lock(&delegated->agent.lock);
	pod = find(delegated, subject, ret_why);
	pthread_mutex_unlock(&delegated->agent.lock);
	if (!pod)
		return -EINVAL;
	kmtls_identity_agent_wait(&delegated->agent, is_open, subject);
	pthread_mutex_lock(&delegated->agent.lock);
	pod = find_key(delegated, key_of(subject));
	if (pod) {
		found = kmtls_delegated_identity_get(delegated->source, pod->key);
		was_given = pod->given;
		pod->given = found != NULL;
	}
	pthread_mutex_unlock(&delegated->agent.lock);
	if (!found) {
		explain(delegated, subject, ret_why);
		return was_given ? -EKEYREVOKED : -ENOENT;
	}
	err = kmtls_identity_agent_fill(found, ret_material, ret_why);
	kmtls_workload_identity_put(found);
	return err;
}

static STACK_OF(X509) * told(struct kmtls_identity_agent *agent, unsigned *ret_version)
{
	struct delegated *delegated = (struct delegated *)agent;

	return kmtls_delegated_identity_roots(
		delegated->source, delegated->agent.identity.options.trust_domain, ret_version);
}

static unsigned version(struct kmtls_identity *identity,
			const struct kmtls_identity_subject *subject)
{
	struct delegated *delegated = delegated_of(identity);
	char ignored[KMTLS_IDENTITY_WHY];
	unsigned number = 0;
	struct pod *pod;

	if (!identity->options.enabled)
		return kmtls_identity_agent_version(&delegated->agent);
	pthread_mutex_lock(&delegated->agent.lock);
	pod = find(delegated, subject, ignored);
	if (pod)
		number = pod->version;
	pthread_mutex_unlock(&delegated->agent.lock);
	return number;
}

static void look_at_pods(struct delegated *delegated, enum kmtls_identity_state *worst,
			 char *ret_why)
{
	pthread_mutex_lock(&delegated->agent.lock);
	for (unsigned i = 0; i < delegated->count; i++) {
		const struct pod *pod = delegated->pods[i];
		char why[KMTLS_IDENTITY_WHY];
		struct kmtls_agent_view view;
		enum kmtls_identity_state state;

		if (kmtls_delegated_identity_look_at(delegated->source, pod->key, &view))
			continue;
		state = kmtls_identity_agent_state(&view, why);
		if (state <= *worst)
			continue;
		*worst = state;
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "pod %.60s: %.180s", pod->name, why);
	}
	pthread_mutex_unlock(&delegated->agent.lock);
}

static enum kmtls_identity_state state(struct kmtls_identity *identity,
				       const struct kmtls_identity_subject *subject, char *ret_why)
{
	struct delegated *delegated = delegated_of(identity);
	struct kmtls_agent_view view;
	enum kmtls_identity_state state;

	if (subject && identity->options.enabled)
		return explain(delegated, subject, ret_why);
	kmtls_delegated_identity_look(delegated->source, &view);
	state = kmtls_identity_agent_state(&view, ret_why);
	if (state == KMTLS_IDENTITY_OK)
		look_at_pods(delegated, &state, ret_why);
	return state;
}

static void look(struct kmtls_identity *identity, struct kmtls_agent_view *ret_view)
{
	kmtls_delegated_identity_look(delegated_of(identity)->source, ret_view);
}

static void tick(struct kmtls_identity *identity)
{
	struct delegated *delegated = delegated_of(identity);

	kmtls_identity_agent_keep(identity);
	pthread_mutex_lock(&delegated->agent.lock);
	forget_idle(delegated);
	pthread_mutex_unlock(&delegated->agent.lock);
}

static void close_delegated(struct kmtls_identity *identity)
{
	struct delegated *delegated = delegated_of(identity);

	kmtls_delegated_identity_close(delegated->source); /* its thread has used all of this */
	while (delegated->count)
		free_pod(delegated->pods[--delegated->count]);
	kmtls_identity_agent_clear(&delegated->agent);
	free(delegated);
}

static const struct kmtls_identity_operations operations = {
	.issue = issue,
	.roots = kmtls_identity_agent_roots,
	.authority = kmtls_identity_agent_authority,
	.version = version,
	.tick = tick,
	.state = state,
	.look = look,
	.keep = kmtls_identity_agent_keep,
	.close = close_delegated,
};

/* An agent that is not there yet may come: that is no reason not to start. */
int kmtls_identity_delegated_open(const struct kmtls_identity_options *options,
				  struct kmtls_identity **ret_identity, char *ret_why)
{
	struct delegated *delegated = calloc(1, sizeof(*delegated));
	const struct kmtls_delegated_identity_options source = {
		.agent = { .socket = options->backend->socket, .bad_answers = options->not_taken },
		.changed = changed,
		.context = delegated,
	};
	int err;

	if (!delegated) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "out of memory");
		return -ENOMEM;
	}
	kmtls_identity_agent_init(&delegated->agent, &operations, options, told);
	err = kmtls_delegated_identity_open(&source, &delegated->source, ret_why);
	if (err)
		close_delegated(&delegated->agent.identity);
	else
		*ret_identity = &delegated->agent.identity;
	return err;
}
