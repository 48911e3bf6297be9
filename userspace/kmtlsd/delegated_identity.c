/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delegated_identity.c - see delegated_identity.h. The connection, the stream of bundles, and the list
 * of pods; delegated_pod.c has what belongs to one pod. Calls are begun and cancelled on the thread
 * only: others leave a mark on a pod and wake it.
 */
#include "delegated_identity.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "delegated_parts.h"
#include "log.h"

#define SUBSCRIBE_BUNDLES \
	"/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/SubscribeToX509Bundles"

static struct kmtls_delegated_pod *find(struct kmtls_delegated_identity *source, uint64_t key)
{
	for (struct kmtls_delegated_pod *pod = source->pods; pod; pod = pod->next)
		if (pod->key == key && !pod->removed)
			return pod;
	return NULL;
}

/* ---- bundles ---- */

static int on_bundles(void *context, const uint8_t *bytes, size_t length)
{
	struct kmtls_delegated_identity *source = context;
	struct kmtls_workload_bundles bundles = { 0 };
	char why[KMTLS_WORKLOAD_WHY];
	int err = kmtls_delegated_answer_bundles(bytes, length, &bundles, why);

	if (!err && !bundles.count) {
		snprintf(why, sizeof(why), "the answer has no bundle that is of use%s%s",
			 bundles.skipped ? ": " : "", bundles.skipped_why);
		err = -EINVAL;
	}
	pthread_mutex_lock(&source->lock);
	if (err) {
		kmtls_agent_view_bad(source->agent, &source->view);
		kmtls_agent_drop(source->agent, KMTLS_GRPC_UNKNOWN, why);
	} else {
		if (bundles.skipped)
			log_warning("bundles not taken", "source=delegated count=%u why=%s",
				    bundles.skipped, kmtls_log_quote(bundles.skipped_why));
		kmtls_workload_bundles_free(&source->bundles);
		source->bundles = bundles;
		source->has_bundles = true;
		kmtls_agent_view_good(&source->view);
		kmtls_agent_view_set(&source->view, KMTLS_AGENT_STREAMING);
		kmtls_agent_good(source->agent);
		for (struct kmtls_delegated_pod *pod = source->pods; pod; pod = pod->next)
			if (!pod->removed)
				kmtls_delegated_pod_join(pod);
	}
	pthread_mutex_unlock(&source->lock);
	if (err)
		kmtls_workload_bundles_free(&bundles);
	return err;
}

/* Without bundles no SVID is of use; and who is denied them is denied everything. */
static void on_bundles_closed(void *context, unsigned code, const char *why)
{
	struct kmtls_delegated_identity *source = context;
	char text[KMTLS_GRPC_WHY];

	snprintf(text, sizeof(text), "%s: %s", kmtls_grpc_code_name(code),
		 *why ? why : "the agent ended the stream");
	kmtls_agent_drop(source->agent, code, text);
}

/* ---- the connection ---- */

static int start(void *context, struct kmtls_grpc *grpc)
{
	static const struct kmtls_grpc_handler handler = { on_bundles, on_bundles_closed };
	struct kmtls_delegated_identity *source = context;
	struct kmtls_grpc_call *call;

	pthread_mutex_lock(&source->lock);
	kmtls_agent_view_set(&source->view, KMTLS_AGENT_CONNECTING);
	for (struct kmtls_delegated_pod *pod = source->pods; pod; pod = pod->next)
		pod->retry = 0;
	pthread_mutex_unlock(&source->lock);
	return kmtls_grpc_call(grpc, SUBSCRIBE_BUNDLES, NULL, 0, &handler, source, &call);
}

static void stop(void *context, unsigned code, const char *why)
{
	struct kmtls_delegated_identity *source = context;
	bool news;

	pthread_mutex_lock(&source->lock);
	news = strcmp(source->view.why, why) != 0;
	kmtls_agent_view_fail(&source->view, code, why);
	for (struct kmtls_delegated_pod *pod = source->pods; pod; pod = pod->next) {
		if (pod->call)
			kmtls_agent_view_fail(&pod->view, code, why);
		pod->call = NULL;
	}
	pthread_mutex_unlock(&source->lock);
	if (news && code != KMTLS_GRPC_CANCELLED)
		log_warning("identity source does not answer", "source=delegated state=%s why=%s",
			    kmtls_agent_state_name(kmtls_agent_failed_state(code)),
			    kmtls_log_quote(why));
}

/* Where SVID and bundles did not fit the identity is older than the SVID. */
static void expire(struct kmtls_delegated_pod *pod, int64_t *due)
{
	time_t now = time(NULL);
	int64_t left;

	if (pod->svid && now > pod->svid->not_after)
		kmtls_delegated_pod_take_back(pod, "it has expired");
	if (pod->identity && now > pod->identity->not_after) {
		kmtls_workload_identity_put(pod->identity);
		pod->identity = NULL;
		pod->changed = true;
	}
	if (!pod->svid)
		return;
	left = (pod->identity ? pod->identity : pod->svid)->not_after - now + 1;
	if (kmtls_grpc_now() + left * 1000 < *due)
		*due = kmtls_grpc_now() + left * 1000;
}

/* Returns whether the pod is there still. */
static bool look_after(struct kmtls_delegated_pod *pod, struct kmtls_grpc *grpc, int64_t *due)
{
	int64_t now = kmtls_grpc_now();

	if (pod->removed) {
		if (pod->call)
			kmtls_grpc_cancel(pod->call);
		kmtls_delegated_pod_free(pod);
		return false;
	}
	expire(pod, due);
	if (grpc && !pod->call && pod->retry <= now)
		kmtls_delegated_pod_call(pod, grpc);
	if (grpc && !pod->call && pod->retry < *due)
		*due = pod->retry;
	return true;
}

/* Calls back without the lock. */
static void tell_changes(struct kmtls_delegated_identity *source)
{
	struct kmtls_delegated_pod *pod;

	pthread_mutex_lock(&source->lock);
	for (pod = source->pods; pod;) {
		uint64_t key = pod->key;

		if (pod->removed || !pod->changed) {
			pod = pod->next;
			continue;
		}
		pod->changed = false;
		pthread_mutex_unlock(&source->lock);
		if (source->changed)
			source->changed(source, key, source->context);
		pthread_mutex_lock(&source->lock);
		/* Only this thread frees pods, so it is there still; others may stand before it. */
		pod = pod->next;
	}
	pthread_mutex_unlock(&source->lock);
}

static int64_t tick(void *context, struct kmtls_grpc *grpc)
{
	struct kmtls_delegated_identity *source = context;
	int64_t due = KMTLS_GRPC_NEVER;

	pthread_mutex_lock(&source->lock);
	for (struct kmtls_delegated_pod **at = &source->pods, *pod; (pod = *at);) {
		struct kmtls_delegated_pod *next = pod->next;

		if (look_after(pod, grpc, &due)) {
			at = &pod->next;
		} else {
			*at = next;
			source->pod_count--;
		}
	}
	pthread_mutex_unlock(&source->lock);
	tell_changes(source);
	return due;
}

static const struct kmtls_agent_handler handler = { start, stop, tick };

/* ---- for the rest of the daemon ---- */

int kmtls_delegated_identity_add(struct kmtls_delegated_identity *source, uint64_t key,
				 const struct kmtls_delegated_workload *workload, char *ret_why)
{
	struct kmtls_delegated_pod *pod;
	int err = 0;

	pthread_mutex_lock(&source->lock);
	if (find(source, key)) {
		snprintf(ret_why, KMTLS_GRPC_WHY, "the pod is there already");
		err = -EEXIST;
	} else if (source->pod_count >= KMTLS_DELEGATED_PODS_MAX) {
		snprintf(ret_why, KMTLS_GRPC_WHY, "more than %d pods", KMTLS_DELEGATED_PODS_MAX);
		err = -E2BIG;
	} else {
		err = kmtls_delegated_pod_new(source, key, workload, &pod, ret_why);
	}
	if (!err) {
		pod->next = source->pods;
		source->pods = pod;
		source->pod_count++;
	}
	pthread_mutex_unlock(&source->lock);
	if (!err)
		kmtls_agent_wake(source->agent);
	return err;
}

int kmtls_delegated_identity_remove(struct kmtls_delegated_identity *source, uint64_t key)
{
	struct kmtls_delegated_pod *pod;

	pthread_mutex_lock(&source->lock);
	pod = find(source, key);
	if (pod)
		pod->removed = true;
	pthread_mutex_unlock(&source->lock);
	if (!pod)
		return -ENOENT;
	kmtls_agent_wake(source->agent);
	return 0;
}

struct kmtls_workload_identity *
kmtls_delegated_identity_get(struct kmtls_delegated_identity *source, uint64_t key)
{
	struct kmtls_workload_identity *identity = NULL;
	struct kmtls_delegated_pod *pod;

	pthread_mutex_lock(&source->lock);
	pod = find(source, key);
	if (pod && pod->identity && time(NULL) <= pod->identity->not_after)
		identity = kmtls_workload_identity_get(pod->identity);
	pthread_mutex_unlock(&source->lock);
	return identity;
}

STACK_OF(X509) * kmtls_delegated_identity_roots(struct kmtls_delegated_identity *source,
						const char *trust_domain, unsigned *ret_version)
{
	const struct kmtls_workload_bundle *bundle;
	STACK_OF(X509) * roots;

	pthread_mutex_lock(&source->lock);
	bundle = kmtls_workload_bundles_find(&source->bundles, trust_domain);
	roots = bundle ? X509_chain_up_ref(bundle->roots) : sk_X509_new_null();
	*ret_version = (unsigned)source->view.answers;
	pthread_mutex_unlock(&source->lock);
	return roots;
}

void kmtls_delegated_identity_look(struct kmtls_delegated_identity *source,
				   struct kmtls_agent_view *ret_view)
{
	pthread_mutex_lock(&source->lock);
	*ret_view = source->view;
	pthread_mutex_unlock(&source->lock);
	ret_view->tries = kmtls_agent_tries(source->agent);
	ret_view->retry_in = kmtls_agent_retry_in(source->agent);
}

int kmtls_delegated_identity_look_at(struct kmtls_delegated_identity *source, uint64_t key,
				     struct kmtls_agent_view *ret_view)
{
	struct kmtls_delegated_pod *pod;
	int64_t now = kmtls_grpc_now();

	pthread_mutex_lock(&source->lock);
	pod = find(source, key);
	if (pod) {
		*ret_view = pod->view;
		ret_view->retry_in = pod->call		? 0
				     : pod->retry > now ? (unsigned)(pod->retry - now)
							: kmtls_agent_retry_in(source->agent);
	}
	pthread_mutex_unlock(&source->lock);
	return pod ? 0 : -ENOENT;
}

void kmtls_delegated_identity_retry(struct kmtls_delegated_identity *source)
{
	pthread_mutex_lock(&source->lock);
	for (struct kmtls_delegated_pod *pod = source->pods; pod; pod = pod->next)
		pod->retry = 0;
	pthread_mutex_unlock(&source->lock);
	kmtls_agent_retry(source->agent);
}

static void free_source(struct kmtls_delegated_identity *source)
{
	while (source->pods) {
		struct kmtls_delegated_pod *pod = source->pods;

		source->pods = pod->next;
		kmtls_delegated_pod_free(pod);
	}
	kmtls_workload_bundles_free(&source->bundles);
	pthread_mutex_destroy(&source->lock);
	free(source);
}

int kmtls_delegated_identity_open(const struct kmtls_delegated_identity_options *options,
				  struct kmtls_delegated_identity **ret_source, char *ret_why)
{
	struct kmtls_delegated_identity *source = calloc(1, sizeof(*source));
	int err;

	if (!source) {
		snprintf(ret_why, KMTLS_GRPC_WHY, "out of memory");
		return -ENOMEM;
	}
	pthread_mutex_init(&source->lock, NULL);
	source->changed = options->changed;
	source->context = options->context;
	kmtls_agent_view_set(&source->view, KMTLS_AGENT_CONNECTING);
	err = kmtls_agent_open(&options->agent, &handler, source, &source->agent, ret_why);
	if (err)
		free_source(source);
	else
		*ret_source = source;
	return err;
}

void kmtls_delegated_identity_close(struct kmtls_delegated_identity *source)
{
	if (!source)
		return;
	kmtls_agent_close(source->agent);
	free_source(source);
}
