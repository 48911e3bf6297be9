/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agentctl.c - drives the daemon's clients of SPIFFE agents by hand or from a test: JSON lines out,
 * commands in.
 *
 *   agentctl workload|delegated SOCKET [NAME=VALUE]...
 *   agentctl backend CONFIG                                (backend.c)
 *
 * NAME is id, hint; deadline, ping, min, max, refused (ms); sandbox=1: in the worker's, which takes root.
 * A line for each change; commands:
 *
 *   look [KEY]                how it stands with the source, or one pod of it
 *   get [KEY]                 what there is now
 *   add KEY SELECTOR...       delegated: a pod; "pid=N" in place of selectors
 *   remove KEY                delegated
 *   retry                     no more waiting
 *   cpu                       ms of processor time used so far
 */
#include <errno.h>
#include <jansson.h>
#include <openssl/bn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend.h"
#include "delegated_identity.h"
#include "json.h"
#include "key_memory.h"
#include "sandbox.h"
#include "workload_api.h"

#define WORDS_MAX 40

static struct kmtls_workload_api *workload;
static struct kmtls_delegated_identity *delegated;
static struct kmtls_workload_choice choice;
static bool sandbox, backend;

static void print(json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT);

	/* One write: two threads print. */
	printf("%s\n", text);
	fflush(stdout);
	free(text);
	json_decref(json);
}

static json_t *describe_bundles(const struct kmtls_workload_bundles *bundles)
{
	json_t *json = json_object();

	for (size_t i = 0; i < bundles->count; i++)
		json_object_set_new(json, bundles->items[i].trust_domain,
				    json_integer(sk_X509_num(bundles->items[i].roots)));
	return json;
}

static json_t *describe(struct kmtls_workload_identity *identity)
{
	BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(identity->leaf), NULL);
	char *serial = BN_bn2hex(number);
	json_t *json =
		json_pack("{s:s, s:o, s:s, s:I, s:i, s:b, s:o, s:s, s:i, s:i}", "id", identity->id,
			  "hint", kmtls_json_string(identity->hint), "serial", serial, "not_after",
			  (json_int_t)identity->not_after, "chain", sk_X509_num(identity->chain),
			  "fits", X509_check_private_key(identity->leaf, identity->key), "bundles",
			  describe_bundles(&identity->bundles), "own",
			  identity->bundles.items[0].trust_domain, "crls",
			  identity->bundles.crls ? sk_X509_CRL_num(identity->bundles.crls) : 0,
			  "skipped", (int)identity->bundles.skipped);

	OPENSSL_free(serial);
	BN_free(number);
	return json;
}

/* Takes the reference. */
static void print_identity(const char *event, uint64_t key,
			   struct kmtls_workload_identity *identity)
{
	print(json_pack("{s:s, s:I, s:o}", "event", event, "key", (json_int_t)key, "identity",
			identity ? describe(identity) : json_null()));
	kmtls_workload_identity_put(identity);
}

static void on_pod_changed(struct kmtls_delegated_identity *source, uint64_t key, void *unused)
{
	print_identity("changed", key, kmtls_delegated_identity_get(source, key));
}

static void on_changed(struct kmtls_workload_api *api, void *unused)
{
	print_identity("changed", 0, kmtls_workload_api_get(api));
}

static void get(int count, char **words)
{
	uint64_t key = count > 1 ? strtoull(words[1], NULL, 10) : 0;

	print_identity("get", key,
		       workload ? kmtls_workload_api_get(workload)
				: kmtls_delegated_identity_get(delegated, key));
}

static void print_view(const struct kmtls_agent_view *view)
{
	print(json_pack("{s:s, s:s, s:s, s:o, s:i, s:I, s:I, s:I, s:I}", "event", "look", "state",
			kmtls_agent_state_name(view->state), "code",
			kmtls_grpc_code_name(view->code), "why", kmtls_json_string(view->why),
			"retry_in", (int)view->retry_in, "tries", (json_int_t)view->tries,
			"failures", (json_int_t)view->failures, "answers",
			(json_int_t)view->answers, "bad_answers", (json_int_t)view->bad_answers));
}

static void look(int count, char **words)
{
	struct kmtls_agent_view view;

	if (workload)
		kmtls_workload_api_look(workload, &view);
	else if (count < 2)
		kmtls_delegated_identity_look(delegated, &view);
	else if (kmtls_delegated_identity_look_at(delegated, strtoull(words[1], NULL, 10), &view))
		memset(&view, 0, sizeof(view));
	print_view(&view);
}

static void add(int count, char **words)
{
	struct kmtls_delegated_workload pod = { .choice = choice };
	char why[KMTLS_GRPC_WHY] = "";
	int err;

	if (!strncmp(words[2], "pid=", 4)) {
		pod.pid = atoi(words[2] + 4);
	} else {
		pod.selectors = (const char *const *)words + 2;
		pod.selector_count = count - 2;
	}
	err = kmtls_delegated_identity_add(delegated, strtoull(words[1], NULL, 10), &pod, why);
	print(json_pack("{s:s, s:i, s:s}", "event", "add", "err", err, "why", err ? why : ""));
}

/* ---- commands ---- */

static void print_cpu(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	print(json_pack("{s:s, s:I}", "event", "cpu", "ms",
			(json_int_t)(used.tv_sec * 1000 + used.tv_nsec / 1000000)));
}

static void obey(int count, char **words)
{
	if (backend)
		print(backend_obey(count, words));
	else if (!strcmp(words[0], "look"))
		look(count, words);
	else if (!strcmp(words[0], "get"))
		get(count, words);
	else if (!strcmp(words[0], "cpu"))
		print_cpu();
	else if (!strcmp(words[0], "add") && delegated && count > 2)
		add(count, words);
	else if (!strcmp(words[0], "remove") && delegated && count > 1)
		print(json_pack(
			"{s:s, s:i}", "event", "remove", "err",
			kmtls_delegated_identity_remove(delegated, strtoull(words[1], NULL, 10))));
	else if (!strcmp(words[0], "retry") && workload)
		kmtls_workload_api_retry(workload);
	else if (!strcmp(words[0], "retry"))
		kmtls_delegated_identity_retry(delegated);
	else
		print(json_pack("{s:s}", "event", "unknown"));
}

static void read_commands(void)
{
	char line[8192], *words[WORDS_MAX];

	while (fgets(line, sizeof(line), stdin)) {
		int count = 0;

		for (char *word = strtok(line, " \n"); word && count < WORDS_MAX;
		     word = strtok(NULL, " \n"))
			words[count++] = word;
		if (count)
			obey(count, words);
	}
}

static int set_option(struct kmtls_agent_options *options, char *text)
{
	char *value = strchr(text, '=');

	if (!value)
		return -EINVAL;
	*value++ = '\0';
	if (!strcmp(text, "id"))
		choice.id = value;
	else if (!strcmp(text, "hint"))
		choice.hint = value;
	else if (!strcmp(text, "deadline"))
		options->deadline_ms = atoi(value);
	else if (!strcmp(text, "ping"))
		options->ping_ms = atoi(value);
	else if (!strcmp(text, "min"))
		options->pause_min_ms = atoi(value);
	else if (!strcmp(text, "max"))
		options->pause_max_ms = atoi(value);
	else if (!strcmp(text, "refused"))
		options->refused_ms = atoi(value);
	else if (!strcmp(text, "sandbox"))
		sandbox = atoi(value);
	else
		return -EINVAL;
	return 0;
}

static int run_backend(const char *path)
{
	int err = backend_open(path);

	if (!err)
		read_commands();
	backend_close();
	return err ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct kmtls_workload_api_options options = { .changed = on_changed };
	struct kmtls_delegated_identity_options many = { .changed = on_pod_changed };
	char why[KMTLS_GRPC_WHY] = "";
	int err = argc < 3 ? -EINVAL : kmtls_key_memory_wipe_freed() ? 0 : -EBUSY;

	backend = !err && !strcmp(argv[1], "backend");
	if (backend)
		return run_backend(argv[2]);
	for (int i = 3; !err && i < argc; i++)
		err = set_option(&options.agent, argv[i]);
	if (err) {
		fprintf(stderr, "usage: agentctl workload|delegated SOCKET [NAME=VALUE]...\n");
		return 2;
	}
	options.agent.socket = argv[2];
	if (sandbox && kmtls_sandbox_enter(NULL, why)) {
		fprintf(stderr, "agentctl: %s\n", why);
		return 1;
	}
	many.agent = options.agent;
	options.choice = choice;
	err = !strcmp(argv[1], "workload") ? kmtls_workload_api_open(&options, &workload, why)
					   : kmtls_delegated_identity_open(&many, &delegated, why);
	if (err) {
		fprintf(stderr, "agentctl: %s\n", why);
		return 1;
	}
	read_commands();
	kmtls_workload_api_close(workload);
	kmtls_delegated_identity_close(delegated);
	return 0;
}
