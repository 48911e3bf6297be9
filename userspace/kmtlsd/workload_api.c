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
	bool all;
	void (*changed)(struct kmtls_workload_api *api, void *context);
	void *context;
	bool answered; /* by this connection; the thread's own */
	pthread_mutex_t lock; /* of all below, which the thread alone changes */
	struct kmtls_agent_view view;
	struct kmtls_workload_svids svids;
	unsigned versions[KMTLS_WORKLOAD_SVIDS_MAX]; /* of svids, by place */
	unsigned changes; /* a number that only grows */
	unsigned absent; /* the version of what is not among svids */
};

/* ---- what there is to give ---- */

static int find(const struct kmtls_workload_svids *svids, const char *id)
{
	for (size_t i = 0; i < svids->count; i++)
		if (!strcmp(svids->items[i]->id, id))
			return (int)i;
	return -1;
}

/* What is as it was keeps its version; IDs that come or go are news for those that have none. */
static void number(struct kmtls_workload_api *api, const struct kmtls_workload_svids *svids,
		   unsigned *ret_versions)
{
	bool same_ids = api->changes && svids->count == api->svids.count;

	for (size_t i = 0; i < svids->count; i++) {
		int old = find(&api->svids, svids->items[i]->id);

		same_ids = same_ids && old >= 0;
		ret_versions[i] = old >= 0 && kmtls_workload_identity_is_same(api->svids.items[old],
									      svids->items[i])
					  ? api->versions[old]
					  : ++api->changes;
	}
	if (!same_ids)
		api->absent = ++api->changes;
}

/* Takes the references. good: by an answer. */
static void replace(struct kmtls_workload_api *api, const struct kmtls_workload_svids *svids,
		    bool good)
{
	unsigned versions[KMTLS_WORKLOAD_SVIDS_MAX];
	struct kmtls_workload_svids before;

	pthread_mutex_lock(&api->lock);
	number(api, svids, versions);
	before = api->svids;
	api->svids = *svids;
	memcpy(api->versions, versions, sizeof(versions));
	if (good) {
		kmtls_agent_view_good(&api->view);
		kmtls_agent_view_set(&api->view, KMTLS_AGENT_STREAMING);
	}
	pthread_mutex_unlock(&api->lock);
	kmtls_workload_svids_clear(&before);
	if (api->changed)
		api->changed(api, api->context);
}

static void log_gone(const struct kmtls_workload_identity *identity, const char *why)
{
	log_warning("SVID gone", "source=workload-api id=%s why=%s", kmtls_log_quote(identity->id),
		    kmtls_log_quote(why));
}

static void take_back(struct kmtls_workload_api *api, const char *why)
{
	const struct kmtls_workload_svids none = { .count = 0 };

	for (size_t i = 0; i < api->svids.count; i++)
		log_gone(api->svids.items[i], why);
	replace(api, &none, false);
}

static void note_bad_answer(struct kmtls_workload_api *api, const char *why)
{
	log_warning("answer not taken", "source=workload-api why=%s", kmtls_log_quote(why));
	pthread_mutex_lock(&api->lock);
	kmtls_agent_view_bad(api->agent, &api->view);
	pthread_mutex_unlock(&api->lock);
}

static void warn_of_bundles(unsigned skipped, const char *why)
{
	if (skipped)
		log_warning("bundles of other trust domains not taken",
			    "source=workload-api count=%u why=%s", skipped, kmtls_log_quote(why));
}

/* ---- FetchX509SVID ---- */

static int read_answer(struct kmtls_workload_api *api, const uint8_t *bytes, size_t length,
		       struct kmtls_workload_svids *svids, char *ret_why)
{
	int err;

	if (api->all)
		return kmtls_workload_answer_svids(bytes, length, api->choice.hint, &api->svids,
						   svids, ret_why);
	err = kmtls_workload_answer_svid(bytes, length, &api->choice, &svids->items[0], ret_why);
	svids->count = !err;
	return err;
}

/* What came, and what did not come again. */
static void log_answer(struct kmtls_workload_api *api, const struct kmtls_workload_svids *svids)
{
	for (size_t i = 0; i < svids->count; i++) {
		const struct kmtls_workload_identity *identity = svids->items[i];
		int old = find(&api->svids, identity->id);

		if (old >= 0 && kmtls_workload_identity_is_same(api->svids.items[old], identity))
			continue;
		log_info("SVID received", "source=workload-api id=%s not_after=%lld bundles=%zu",
			 kmtls_log_quote(identity->id), (long long)identity->not_after,
			 identity->bundles.count);
	}
	for (size_t i = 0; i < api->svids.count; i++)
		if (find(svids, api->svids.items[i]->id) < 0)
			log_gone(api->svids.items[i],
				 "the agent's answer does not have it any more");
	warn_of_bundles(svids->items[0]->bundles.skipped, svids->items[0]->bundles.skipped_why);
	if (svids->items[0]->bundles.crls)
		log_warning("revocation lists of an agent are not used (identity.crl_files)",
			    "source=workload-api");
}

static int on_svid(void *context, const uint8_t *bytes, size_t length)
{
	struct kmtls_workload_api *api = context;
	struct kmtls_workload_svids svids = { .count = 0 };
	char why[KMTLS_WORKLOAD_WHY];
	int err = read_answer(api, bytes, length, &svids, why);

	if (err) {
		note_bad_answer(api, why);
		kmtls_agent_drop(api->agent, KMTLS_GRPC_UNKNOWN, why);
		return err;
	}
	if (svids.skipped)
		note_bad_answer(api, svids.skipped_why);
	api->answered = true;
	kmtls_agent_good(api->agent);
	log_answer(api, &svids);
	replace(api, &svids, true);
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
	if (code == KMTLS_GRPC_PERMISSION_DENIED && api->answered && api->svids.count)
		take_back(api, text);
	kmtls_agent_drop(api->agent, code, text);
}

/* ---- FetchX509Bundles ---- */

static int on_bundles(void *context, const uint8_t *bytes, size_t length)
{
	struct kmtls_workload_api *api = context;
	struct kmtls_workload_bundles bundles = { 0 };
	struct kmtls_workload_svids svids = { .count = 0 };
	char why[KMTLS_WORKLOAD_WHY];
	int err;

	/* The SVID's answer has its own, and will be the later one. */
	if (!api->answered || !api->svids.count)
		return 0;
	err = kmtls_workload_answer_bundles(bytes, length, &bundles, why);
	for (size_t i = 0; !err && i < api->svids.count; i++) {
		err = kmtls_workload_identity_join(api->svids.items[i], &bundles, NULL, 0,
						   &svids.items[i], why);
		svids.count += !err;
	}
	warn_of_bundles(bundles.skipped, bundles.skipped_why);
	kmtls_workload_bundles_free(&bundles);
	if (err) {
		kmtls_workload_svids_clear(&svids);
		note_bad_answer(api, why);
	} else {
		replace(api, &svids, true);
	}
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

/* Those that are left, with a reference of each; whether there are fewer. */
static bool drop_expired(struct kmtls_workload_api *api, struct kmtls_workload_svids *left,
			 time_t *first_end)
{
	time_t now = time(NULL);

	for (size_t i = 0; i < api->svids.count; i++) {
		struct kmtls_workload_identity *identity = api->svids.items[i];

		if (now > identity->not_after) {
			log_gone(identity, "it has expired");
			continue;
		}
		if (!left->count || identity->not_after < *first_end)
			*first_end = identity->not_after;
		left->items[left->count++] = kmtls_workload_identity_get(identity);
	}
	return left->count < api->svids.count;
}

static int64_t tick(void *context, struct kmtls_grpc *grpc)
{
	struct kmtls_workload_api *api = context;
	struct kmtls_workload_svids left = { .count = 0 };
	time_t first_end = 0;
	bool any;

	if (!api->svids.count)
		return KMTLS_GRPC_NEVER;
	if (drop_expired(api, &left, &first_end)) {
		any = left.count;
		replace(api, &left, false);
	} else {
		any = true;
		kmtls_workload_svids_clear(&left);
	}
	return any ? kmtls_grpc_now() + (int64_t)(first_end - time(NULL) + 1) * 1000
		   : KMTLS_GRPC_NEVER;
}

static const struct kmtls_agent_handler handler = { start, stop, tick };

/* ---- for the rest of the daemon ---- */

static struct kmtls_workload_identity *get_at(struct kmtls_workload_api *api, int place)
{
	struct kmtls_workload_identity *identity =
		place >= 0 && (size_t)place < api->svids.count ? api->svids.items[place] : NULL;

	return identity && time(NULL) <= identity->not_after ? kmtls_workload_identity_get(identity)
							     : NULL;
}

struct kmtls_workload_identity *kmtls_workload_api_get(struct kmtls_workload_api *api)
{
	struct kmtls_workload_identity *identity;

	pthread_mutex_lock(&api->lock);
	identity = get_at(api, 0);
	pthread_mutex_unlock(&api->lock);
	return identity;
}

struct kmtls_workload_identity *kmtls_workload_api_find(struct kmtls_workload_api *api,
							const char *id, unsigned *ret_version)
{
	struct kmtls_workload_identity *identity;
	int place;

	pthread_mutex_lock(&api->lock);
	place = find(&api->svids, id);
	identity = get_at(api, place);
	*ret_version = place < 0 ? api->absent : api->versions[place];
	pthread_mutex_unlock(&api->lock);
	return identity;
}

STACK_OF(X509) * kmtls_workload_api_roots(struct kmtls_workload_api *api, const char *trust_domain,
					  unsigned *ret_version)
{
	const struct kmtls_workload_bundle *bundle = NULL;
	STACK_OF(X509) * roots;

	pthread_mutex_lock(&api->lock);
	for (size_t i = 0; !bundle && i < api->svids.count; i++)
		bundle = kmtls_workload_bundles_find(&api->svids.items[i]->bundles, trust_domain);
	roots = bundle ? X509_chain_up_ref(bundle->roots) : sk_X509_new_null();
	*ret_version = api->changes;
	pthread_mutex_unlock(&api->lock);
	return roots;
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
	kmtls_workload_svids_clear(&api->svids);
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
	api->all = options->all;
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
