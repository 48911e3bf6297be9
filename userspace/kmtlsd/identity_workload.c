/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity_workload.c - SVIDs by the SPIFFE Workload API. The agent decides by our process which ones we
 * may have; a pod gets the one with its SPIFFE ID.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "identity_agent.h"
#include "pods.h"
#include "workload_api.h"

struct workload {
	struct kmtls_identity_agent agent; /* first */
	struct kmtls_workload_api *api;
	__u64 given[KMTLS_PODS_MAX]; /* hashes of the SPIFFE IDs that SVIDs were given of */
	unsigned given_count;
};

static struct workload *workload_of(struct kmtls_identity *identity)
{
	return (struct workload *)identity;
}

/* ---- what was given ---- */

/* Whether it was among them. */
static bool forget(struct workload *workload, const char *id)
{
	__u64 hash = kmtls_hash_text(id);
	bool found = false;

	pthread_mutex_lock(&workload->agent.lock);
	for (unsigned i = 0; !found && i < workload->given_count; i++) {
		if (workload->given[i] != hash)
			continue;
		workload->given[i] = workload->given[--workload->given_count];
		found = true;
	}
	pthread_mutex_unlock(&workload->agent.lock);
	return found;
}

static void remember(struct workload *workload, const char *id)
{
	forget(workload, id);
	pthread_mutex_lock(&workload->agent.lock);
	/* With no more room, what is taken back is used until it expires. */
	if (workload->given_count < KMTLS_PODS_MAX)
		workload->given[workload->given_count++] = kmtls_hash_text(id);
	pthread_mutex_unlock(&workload->agent.lock);
}

/* ---- the interface ---- */

static bool is_open(struct kmtls_identity_agent *agent,
		    const struct kmtls_identity_subject *subject)
{
	struct kmtls_agent_view view;

	kmtls_workload_api_look(((struct workload *)agent)->api, &view);
	return view.state == KMTLS_AGENT_CONNECTING && !view.answers;
}

/* Why there is none of subject, and what there is instead. */
static enum kmtls_identity_state
explain(struct workload *workload, const struct kmtls_identity_subject *subject, char *ret_why)
{
	struct kmtls_workload_identity *first;
	struct kmtls_agent_view view;
	enum kmtls_identity_state state;

	kmtls_workload_api_look(workload->api, &view);
	state = kmtls_identity_agent_state(&view, ret_why);
	if (state != KMTLS_IDENTITY_OK)
		return state;
	first = kmtls_workload_api_get(workload->api);
	if (first)
		snprintf(ret_why, KMTLS_IDENTITY_WHY,
			 "the agent has no SVID of %.90s; the first that it has is of %.90s",
			 subject->id, first->id);
	else
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "the agent has no SVID of %.180s",
			 subject->id);
	kmtls_workload_identity_put(first);
	return KMTLS_IDENTITY_REFUSED;
}

static int refuse(struct workload *workload, const struct kmtls_identity_subject *subject,
		  char *ret_why)
{
	_Atomic __u32 *not_taken = workload->agent.identity.options.not_taken;

	if (explain(workload, subject, ret_why) == KMTLS_IDENTITY_REFUSED && not_taken)
		__atomic_add_fetch((__u32 *)not_taken, 1, __ATOMIC_RELAXED);
	return forget(workload, subject->id) ? -EKEYREVOKED : -ENOENT;
}

static int issue(struct kmtls_identity *identity, const struct kmtls_identity_subject *subject,
		 struct kmtls_identity_material *ret_material, char *ret_why)
{
	struct workload *workload = workload_of(identity);
	struct kmtls_workload_identity *found;
	unsigned ignored;
	int err = kmtls_identity_agent_check(identity, subject, ret_why);

	if (err)
		return err;
	kmtls_identity_agent_wait(&workload->agent, is_open, subject);
	found = kmtls_workload_api_find(workload->api, subject->id, &ignored);
	if (!found)
		return refuse(workload, subject, ret_why);
	err = kmtls_identity_agent_fill(found, ret_material, ret_why);
	kmtls_workload_identity_put(found);
	if (!err)
		remember(workload, subject->id);
	return err;
}

static STACK_OF(X509) * told(struct kmtls_identity_agent *agent, unsigned *ret_version)
{
	struct workload *workload = (struct workload *)agent;

	return kmtls_workload_api_roots(workload->api,
					workload->agent.identity.options.trust_domain, ret_version);
}

static unsigned version(struct kmtls_identity *identity,
			const struct kmtls_identity_subject *subject)
{
	struct workload *workload = workload_of(identity);
	unsigned number;

	if (!identity->options.enabled)
		return kmtls_identity_agent_version(&workload->agent);
	kmtls_workload_identity_put(kmtls_workload_api_find(workload->api, subject->id, &number));
	return number;
}

static enum kmtls_identity_state state(struct kmtls_identity *identity,
				       const struct kmtls_identity_subject *subject, char *ret_why)
{
	struct workload *workload = workload_of(identity);
	struct kmtls_workload_identity *found;
	struct kmtls_agent_view view;
	enum kmtls_identity_state state;
	unsigned ignored;

	kmtls_workload_api_look(workload->api, &view);
	state = kmtls_identity_agent_state(&view, ret_why);
	if (state != KMTLS_IDENTITY_OK || !subject || !identity->options.enabled)
		return state;
	found = kmtls_workload_api_find(workload->api, subject->id, &ignored);
	if (!found)
		return explain(workload, subject, ret_why);
	kmtls_workload_identity_put(found);
	return KMTLS_IDENTITY_OK;
}

static void look(struct kmtls_identity *identity, struct kmtls_agent_view *ret_view)
{
	kmtls_workload_api_look(workload_of(identity)->api, ret_view);
}

static void tick(struct kmtls_identity *identity)
{
	kmtls_identity_agent_keep(identity);
}

static void close_workload(struct kmtls_identity *identity)
{
	struct workload *workload = workload_of(identity);

	kmtls_workload_api_close(workload->api);
	kmtls_identity_agent_clear(&workload->agent);
	free(workload);
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
	.close = close_workload,
};

/* An agent that is not there yet may come: that is no reason not to start. */
int kmtls_identity_workload_open(const struct kmtls_identity_options *options,
				 struct kmtls_identity **ret_identity, char *ret_why)
{
	const struct kmtls_workload_api_options api = {
		.agent = { .socket = options->backend->socket, .bad_answers = options->not_taken },
		.choice = { .hint = options->backend->hint },
		.all = true,
	};
	struct workload *workload = calloc(1, sizeof(*workload));
	int err;

	if (!workload) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "out of memory");
		return -ENOMEM;
	}
	kmtls_identity_agent_init(&workload->agent, &operations, options, told);
	err = kmtls_workload_api_open(&api, &workload->api, ret_why);
	if (err)
		close_workload(&workload->agent.identity);
	else
		*ret_identity = &workload->agent.identity;
	return err;
}
