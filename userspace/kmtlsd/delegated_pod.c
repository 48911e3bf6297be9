/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delegated_pod.c - one pod of a Delegated Identity source: its request, its stream of answers, and
 * when to call again after that ended.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "delegated.pb-c.h"
#include "delegated_parts.h"
#include "log.h"

#define SERVICE "/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/"

/* ---- the request ---- */

static int check_selector(const char *selector, char *ret_why)
{
	const char *colon = strchr(selector, ':');

	if (strlen(selector) > KMTLS_DELEGATED_SELECTOR_MAX) {
		snprintf(ret_why, KMTLS_GRPC_WHY, "selector %.80s...: longer than %d bytes",
			 selector, KMTLS_DELEGATED_SELECTOR_MAX);
		return -EINVAL;
	}
	if (colon && colon != selector && colon[1])
		return 0;
	snprintf(ret_why, KMTLS_GRPC_WHY, "selector %.150s: not TYPE:VALUE", selector);
	return -EINVAL;
}

static int pack(struct kmtls_delegated_pod *pod, const ProtobufCMessage *message)
{
	pod->request_length = protobuf_c_message_get_packed_size(message);
	pod->request = malloc(pod->request_length + 1);
	if (!pod->request)
		return -ENOMEM;
	protobuf_c_message_pack(message, pod->request);
	return 0;
}

static int pack_pid(struct kmtls_delegated_pod *pod, int pid)
{
	Kmtls__Delegated__PidRequest request = KMTLS__DELEGATED__PID_REQUEST__INIT;

	pod->path = SERVICE "SubscribeToX509SVIDsByPID";
	request.pid = pid;
	return pack(pod, &request.base);
}

/* The first colon of each becomes the end of its type. */
static int pack_selectors(struct kmtls_delegated_pod *pod,
			  const struct kmtls_delegated_workload *workload)
{
	Kmtls__Delegated__SelectorsRequest request = KMTLS__DELEGATED__SELECTORS_REQUEST__INIT;
	Kmtls__Delegated__Selector selectors[KMTLS_DELEGATED_SELECTORS_MAX];
	Kmtls__Delegated__Selector *list[KMTLS_DELEGATED_SELECTORS_MAX];
	char *texts[KMTLS_DELEGATED_SELECTORS_MAX] = { 0 };
	int err = 0;

	pod->path = SERVICE "SubscribeToX509SVIDs";
	for (size_t i = 0; !err && i < workload->selector_count; i++) {
		char *colon;

		texts[i] = strdup(workload->selectors[i]);
		colon = texts[i] ? strchr(texts[i], ':') : NULL;
		if (!colon) {
			err = -ENOMEM;
			break;
		}
		*colon = '\0';
		kmtls__delegated__selector__init(&selectors[i]);
		selectors[i].type = texts[i];
		selectors[i].value = colon + 1;
		list[i] = &selectors[i];
	}
	request.selectors = list;
	request.n_selectors = workload->selector_count;
	if (!err)
		err = pack(pod, &request.base);
	for (size_t i = 0; i < workload->selector_count; i++)
		free(texts[i]);
	return err;
}

static int check_workload(const struct kmtls_delegated_workload *workload, char *ret_why)
{
	const char *rule = NULL;
	int err = 0;

	if (workload->pid < 0)
		rule = "a process number below 0";
	else if (workload->pid && workload->selector_count)
		rule = "a process number or selectors, not both";
	else if (!workload->pid && !workload->selector_count)
		rule = "neither selectors nor a process number";
	else if (workload->selector_count > KMTLS_DELEGATED_SELECTORS_MAX)
		rule = "more than 32 selectors";
	if (rule) {
		snprintf(ret_why, KMTLS_GRPC_WHY, "%s", rule);
		return -EINVAL;
	}
	for (size_t i = 0; !err && i < workload->selector_count; i++)
		err = check_selector(workload->selectors[i], ret_why);
	return err;
}

static int copy_choice(struct kmtls_delegated_pod *pod, const struct kmtls_workload_choice *choice)
{
	if (choice->id)
		pod->choice.id = pod->wanted_id = strdup(choice->id);
	if (choice->hint)
		pod->choice.hint = pod->wanted_hint = strdup(choice->hint);
	return !choice->id == !pod->wanted_id && !choice->hint == !pod->wanted_hint ? 0 : -ENOMEM;
}

int kmtls_delegated_pod_new(struct kmtls_delegated_identity *source, uint64_t key,
			    const struct kmtls_delegated_workload *workload,
			    struct kmtls_delegated_pod **ret_pod, char *ret_why)
{
	struct kmtls_delegated_pod *pod;
	int err = check_workload(workload, ret_why);

	if (err)
		return err;
	snprintf(ret_why, KMTLS_GRPC_WHY, "out of memory");
	pod = calloc(1, sizeof(*pod));
	if (!pod)
		return -ENOMEM;
	pod->source = source;
	pod->key = key;
	pod->pause = kmtls_agent_new_pause(source->agent);
	kmtls_agent_view_set(&pod->view, KMTLS_AGENT_CONNECTING);
	err = workload->pid ? pack_pid(pod, workload->pid) : pack_selectors(pod, workload);
	if (!err)
		err = copy_choice(pod, &workload->choice);
	if (!err && workload->name) {
		pod->name = strdup(workload->name);
		err = pod->name ? 0 : -ENOMEM;
	}
	if (err)
		kmtls_delegated_pod_free(pod);
	else
		*ret_pod = pod;
	return err;
}

void kmtls_delegated_pod_free(struct kmtls_delegated_pod *pod)
{
	kmtls_workload_identity_put(pod->identity);
	kmtls_workload_identity_put(pod->svid);
	kmtls_workload_names_free(&pod->names);
	free(pod->request);
	free(pod->name);
	free(pod->wanted_id);
	free(pod->wanted_hint);
	free(pod);
}

/* ---- answers ---- */

static void fail(struct kmtls_delegated_pod *pod, unsigned code, const char *why)
{
	if (strcmp(pod->view.why, why))
		log_warning("no SVID of a pod", "source=delegated pod=%s id=%s state=%s why=%s",
			    kmtls_log_quote(pod->name ? pod->name : "?"),
			    kmtls_log_quote(pod->choice.id ? pod->choice.id : "any"),
			    kmtls_agent_state_name(kmtls_agent_failed_state(code)),
			    kmtls_log_quote(why));
	kmtls_agent_view_fail(&pod->view, code, why);
}

/* The call is over, or is about to be. */
static void end_call(struct kmtls_delegated_pod *pod, unsigned code, const char *why)
{
	fail(pod, code, why);
	pod->call = NULL;
	pod->retry =
		kmtls_grpc_now() + kmtls_agent_pause_for(pod->source->agent, &pod->pause, code);
}

void kmtls_delegated_pod_take_back(struct kmtls_delegated_pod *pod, const char *why)
{
	if (pod->identity)
		log_warning("SVID gone", "source=delegated id=%s why=%s",
			    kmtls_log_quote(pod->identity->id), kmtls_log_quote(why));
	pod->changed = pod->changed || pod->identity;
	kmtls_workload_identity_put(pod->identity);
	kmtls_workload_identity_put(pod->svid);
	pod->identity = pod->svid = NULL;
	kmtls_workload_names_free(&pod->names);
}

/* Where it cannot be made, the one before stays until it expires: SVIDs and bundles come on streams
 * of their own, and the other half may be on its way. */
void kmtls_delegated_pod_join(struct kmtls_delegated_pod *pod)
{
	struct kmtls_workload_identity *identity;
	char why[KMTLS_WORKLOAD_WHY];

	if (!pod->svid || !pod->source->has_bundles)
		return;
	if (kmtls_workload_identity_join(pod->svid, &pod->source->bundles, pod->names.items,
					 pod->names.count, &identity, why)) {
		fail(pod, KMTLS_GRPC_UNKNOWN, why);
		return;
	}
	kmtls_workload_identity_put(pod->identity);
	pod->identity = identity;
	pod->changed = true;
	kmtls_agent_pause_reset(&pod->pause);
	kmtls_agent_view_set(&pod->view, KMTLS_AGENT_STREAMING);
}

static int take_answer(struct kmtls_delegated_pod *pod, const uint8_t *bytes, size_t length)
{
	struct kmtls_workload_names names = { 0 };
	struct kmtls_workload_identity *svid;
	char why[KMTLS_WORKLOAD_WHY];
	int err = kmtls_delegated_answer_svid(bytes, length, &pod->choice, &svid, &names, why);

	if (err == -ENOENT) { /* the stream stays: there may be one later */
		kmtls_delegated_pod_take_back(pod, why);
		fail(pod, KMTLS_GRPC_PERMISSION_DENIED, why);
		return 0;
	}
	if (err) {
		kmtls_agent_view_bad(pod->source->agent, &pod->view);
		end_call(pod, KMTLS_GRPC_UNKNOWN, why);
		return err;
	}
	kmtls_agent_view_good(&pod->view);
	kmtls_workload_identity_put(pod->svid);
	kmtls_workload_names_free(&pod->names);
	pod->svid = svid;
	pod->names = names;
	kmtls_delegated_pod_join(pod);
	return 0;
}

static int on_message(void *context, const uint8_t *bytes, size_t length)
{
	struct kmtls_delegated_pod *pod = context;
	struct kmtls_delegated_identity *source = pod->source;
	int err;

	pthread_mutex_lock(&source->lock);
	err = take_answer(pod, bytes, length);
	pthread_mutex_unlock(&source->lock);
	return err;
}

static void on_closed(void *context, unsigned code, const char *why)
{
	struct kmtls_delegated_pod *pod = context;
	struct kmtls_delegated_identity *source = pod->source;
	char text[KMTLS_GRPC_WHY];

	snprintf(text, sizeof(text), "%s: %s", kmtls_grpc_code_name(code),
		 *why ? why : "the agent ended the stream");
	/* Also after PermissionDenied: that is about us, the delegate, not about the pod. */
	pthread_mutex_lock(&source->lock);
	end_call(pod, code, text);
	pthread_mutex_unlock(&source->lock);
}

void kmtls_delegated_pod_call(struct kmtls_delegated_pod *pod, struct kmtls_grpc *grpc)
{
	static const struct kmtls_grpc_handler handler = { on_message, on_closed };
	int err;

	pod->view.tries++;
	err = kmtls_grpc_call(grpc, pod->path, pod->request, pod->request_length, &handler, pod,
			      &pod->call);
	if (err)
		end_call(pod, KMTLS_GRPC_UNAVAILABLE, strerror(-err));
}
