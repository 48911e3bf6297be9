/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload_api.c - see workload_api.h. Two streams on one connection: FetchX509SVID, whose answers
 * have everything and without which there is nothing, and FetchX509Bundles, which agents may use to
 * tell of a bundle alone. What came last holds.
 */
#include "workload_api.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define FETCH_SVID "/SpiffeWorkloadAPI/FetchX509SVID"
#define FETCH_BUNDLES "/SpiffeWorkloadAPI/FetchX509Bundles"

struct kmtls_workload_api {
	struct kmtls_agent *agent;
	struct kmtls_workload_choice choice;
	char *wanted_id, *wanted_hint; /* what choice points to */
	void (*changed)(struct kmtls_workload_api *api, void *context);
	void *context;
	pthread_mutex_t lock; /* of these two: */
	struct kmtls_agent_view view;
	struct kmtls_workload_identity *identity; /* NULL: none */
	bool answered; /* by this connection; the thread's own */
};

/* ---- what there is to give ---- */

/* Takes the reference. */
static void replace(struct kmtls_workload_api *api, struct kmtls_workload_identity *identity)
{
	struct kmtls_workload_identity *before;

	pthread_mutex_lock(&api->lock);
	before = api->identity;
	api->identity = identity;
	if (identity) {
		api->view.answers++;
		kmtls_agent_view_set(&api->view, KMTLS_AGENT_STREAMING);
	}
	pthread_mutex_unlock(&api->lock);
	kmtls_workload_identity_put(before);
	if (api->changed)
		api->changed(api, api->context);
}

static void take_back(struct kmtls_workload_api *api, const char *why)
{
	log_warning("SVID gone", "source=workload-api id=%s why=%s",
		    kmtls_log_quote(api->identity->id), kmtls_log_quote(why));
	replace(api, NULL);
}

static void note_bad_answer(struct kmtls_workload_api *api, const char *why)
{
	log_warning("answer not taken", "source=workload-api why=%s", kmtls_log_quote(why));
	pthread_mutex_lock(&api->lock);
	api->view.bad_answers++;
	pthread_mutex_unlock(&api->lock);
}

static void warn_of_bundles(unsigned skipped, const char *why)
{
	if (skipped)
		log_warning("bundles of other trust domains not taken",
			    "source=workload-api count=%u why=%s", skipped, kmtls_log_quote(why));
}

/* ---- FetchX509SVID ---- */

static int on_svid(void *context, const uint8_t *bytes, size_t length)
{
	struct kmtls_workload_api *api = context;
	struct kmtls_workload_identity *identity;
	char why[KMTLS_WORKLOAD_WHY];
	int err = kmtls_workload_answer_svid(bytes, length, &api->choice, &identity, why);

	if (err) {
		note_bad_answer(api, why);
		kmtls_agent_drop(api->agent, KMTLS_GRPC_UNKNOWN, why);
		return err;
	}
	api->answered = true;
	kmtls_agent_good(api->agent);
	log_info("SVID received", "source=workload-api id=%s not_after=%lld bundles=%zu",
		 kmtls_log_quote(identity->id), (long long)identity->not_after,
		 identity->bundles.count);
	warn_of_bundles(identity->bundles.skipped, identity->bundles.skipped_why);
	replace(api, identity);
	return 0;
}

/* Workload API section 5.2.1: who is denied what he had shall cease to use it. A no to a new call is
 * something else: agents say it also while they do not know yet. */
static void on_svid_closed(void *context, unsigned code, const char *why)
{
	struct kmtls_workload_api *api = context;
	char text[KMTLS_GRPC_WHY];

	snprintf(text, sizeof(text), "%s: %s", kmtls_grpc_code_name(code),
		 *why ? why : "the agent ended the stream");
	if (code == KMTLS_GRPC_PERMISSION_DENIED && api->answered && api->identity)
		take_back(api, text);
	kmtls_agent_drop(api->agent, code, text);
}

/* ---- FetchX509Bundles ---- */

static int on_bundles(void *context, const uint8_t *bytes, size_t length)
{
	struct kmtls_workload_api *api = context;
	struct kmtls_workload_bundles bundles = { 0 };
	struct kmtls_workload_identity *identity;
	char why[KMTLS_WORKLOAD_WHY];
	int err;

	/* The SVID's answer has its own, and will be the later one. */
	if (!api->answered || !api->identity)
		return 0;
	err = kmtls_workload_answer_bundles(bytes, length, &bundles, why);
	if (!err)
		err = kmtls_workload_identity_join(api->identity, &bundles, NULL, 0, &identity,
						   why);
	warn_of_bundles(bundles.skipped, bundles.skipped_why);
	kmtls_workload_bundles_free(&bundles);
	if (err)
		note_bad_answer(api, why);
	else
		replace(api, identity);
	return err;
}

/* The other stream has bundles too. */
static void on_bundles_closed(void *context, unsigned code, const char *why)
{
	log_debug("no stream of bundles", "source=workload-api code=%s why=%s",
		  kmtls_grpc_code_name(code), kmtls_log_quote(why));
}

/* ---- the connection ---- */

static int start(void *context, struct kmtls_grpc *grpc)
{
	static const struct kmtls_grpc_handler svid = { on_svid, on_svid_closed };
	static const struct kmtls_grpc_handler bundles = { on_bundles, on_bundles_closed };
	struct kmtls_workload_api *api = context;
	struct kmtls_grpc_call *call;
	int err;

	api->answered = false;
	pthread_mutex_lock(&api->lock);
	kmtls_agent_view_set(&api->view, KMTLS_AGENT_CONNECTING);
	pthread_mutex_unlock(&api->lock);
	/* Both requests are empty messages. */
	err = kmtls_grpc_call(grpc, FETCH_SVID, NULL, 0, &svid, api, &call);
	if (!err)
		err = kmtls_grpc_call(grpc, FETCH_BUNDLES, NULL, 0, &bundles, api, &call);
	return err;
}

static void stop(void *context, unsigned code, const char *why)
{
	struct kmtls_workload_api *api = context;
	bool news;

	pthread_mutex_lock(&api->lock);
	news = strcmp(api->view.why, why) != 0;
	kmtls_agent_view_fail(&api->view, code, why);
	pthread_mutex_unlock(&api->lock);
	if (news && code != KMTLS_GRPC_CANCELLED)
		log_warning("identity source does not answer",
			    "source=workload-api state=%s why=%s",
			    kmtls_agent_state_name(kmtls_agent_failed_state(code)),
			    kmtls_log_quote(why));
}

static int64_t tick(void *context, struct kmtls_grpc *grpc)
{
	struct kmtls_workload_api *api = context;
	time_t now = time(NULL);

	if (!api->identity)
		return KMTLS_GRPC_NEVER;
	if (now > api->identity->not_after) {
		take_back(api, "it has expired");
		return KMTLS_GRPC_NEVER;
	}
	return kmtls_grpc_now() + (int64_t)(api->identity->not_after - now + 1) * 1000;
}

static const struct kmtls_agent_handler handler = { start, stop, tick };

/* ---- for the rest of the daemon ---- */

struct kmtls_workload_identity *kmtls_workload_api_get(struct kmtls_workload_api *api)
{
	struct kmtls_workload_identity *identity = NULL;

	pthread_mutex_lock(&api->lock);
	if (api->identity && time(NULL) <= api->identity->not_after)
		identity = kmtls_workload_identity_get(api->identity);
	pthread_mutex_unlock(&api->lock);
	return identity;
}

void kmtls_workload_api_look(struct kmtls_workload_api *api, struct kmtls_agent_view *ret_view)
{
	pthread_mutex_lock(&api->lock);
	*ret_view = api->view;
	pthread_mutex_unlock(&api->lock);
	ret_view->tries = kmtls_agent_tries(api->agent);
	ret_view->retry_in = kmtls_agent_retry_in(api->agent);
}

void kmtls_workload_api_retry(struct kmtls_workload_api *api)
{
	kmtls_agent_retry(api->agent);
}

static void free_api(struct kmtls_workload_api *api)
{
	kmtls_workload_identity_put(api->identity);
	pthread_mutex_destroy(&api->lock);
	free(api->wanted_id);
	free(api->wanted_hint);
	free(api);
}

static bool copy_choice(struct kmtls_workload_api *api, const struct kmtls_workload_choice *choice)
{
	if (choice->id)
		api->choice.id = api->wanted_id = strdup(choice->id);
	if (choice->hint)
		api->choice.hint = api->wanted_hint = strdup(choice->hint);
	return !choice->id == !api->wanted_id && !choice->hint == !api->wanted_hint;
}

int kmtls_workload_api_open(const struct kmtls_workload_api_options *options,
			    struct kmtls_workload_api **ret_api, char *ret_why)
{
	struct kmtls_workload_api *api = calloc(1, sizeof(*api));
	int err = -ENOMEM;

	snprintf(ret_why, KMTLS_GRPC_WHY, "out of memory");
	if (!api)
		return err;
	pthread_mutex_init(&api->lock, NULL);
	api->changed = options->changed;
	api->context = options->context;
	kmtls_agent_view_set(&api->view, KMTLS_AGENT_CONNECTING);
	if (copy_choice(api, &options->choice))
		err = kmtls_agent_open(&options->agent, &handler, api, &api->agent, ret_why);
	if (err)
		free_api(api);
	else
		*ret_api = api;
	return err;
}

void kmtls_workload_api_close(struct kmtls_workload_api *api)
{
	if (!api)
		return;
	kmtls_agent_close(api->agent);
	free_api(api);
}
