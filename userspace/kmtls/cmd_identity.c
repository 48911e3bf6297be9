/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_identity.c - kmtls identity, identity renew, identity ca show. A private key is not asked of
 * the daemon: whoever may have it can read the file.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "cli.h"
#include "json.h"
#include "table.h"

#define BAR 10
/* A thousand keys, some of them RSA. */
#define RENEW_SECONDS 120

static long long number(const json_t *object, const char *key)
{
	return (long long)json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : "";
}

/* ---- show ---- */

/* How much of the time has passed: "[######----]". */
static void put_bar(struct kmtls_table *table, const json_t *pod, long long renew_at)
{
	long long from = number(pod, "issued"), to = number(pod, "not_after");
	long long passed = time(NULL) - from, percent;
	char bar[BAR + 1];

	if (!from || to <= from) {
		kmtls_table_cell(table, KMTLS_RED, "none");
		return;
	}
	percent = passed < 0 ? 0 : passed * 100 / (to - from);
	percent = percent > 100 ? 100 : percent;
	memset(bar, '-', BAR);
	memset(bar, '#', (size_t)(percent * BAR / 100));
	bar[BAR] = '\0';
	kmtls_table_cell(table,
			 percent >= 100		  ? KMTLS_RED
			 : percent > renew_at + 3 ? KMTLS_YELLOW
						  : KMTLS_GREEN,
			 "[%s]", bar);
}

static void put_pod(struct kmtls_table *table, const json_t *pod, long long renew_at, bool bars)
{
	long long not_after = number(pod, "not_after"), failures = number(pod, "failures");
	char buffer[32];

	kmtls_table_cell(table, KMTLS_PLAIN, "%s", text(pod, "pod"));
	if (bars)
		put_bar(table, pod, renew_at);
	kmtls_table_cell(table, not_after <= time(NULL) ? KMTLS_RED : KMTLS_PLAIN, "%s",
			 kmtls_table_time(not_after, buffer));
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", kmtls_table_time(number(pod, "next"), buffer));
	kmtls_table_cell(table, KMTLS_PLAIN, "%lld", number(pod, "rotations"));
	kmtls_table_cell(table, failures ? KMTLS_YELLOW : KMTLS_PLAIN, "%lld", failures);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", text(pod, "source"));
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", text(pod, "serial"));
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", text(pod, "issuer"));
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", text(pod, "id"));
}

static void print_error(const json_t *pod, const char *what, const char *error)
{
	if (!*error)
		return;
	kmtls_table_put(KMTLS_RED, text(pod, "pod"));
	printf(": %s: ", what);
	kmtls_table_put(KMTLS_PLAIN, error);
	putchar('\n');
}

static void print_pods(const json_t *result, bool bars)
{
	static const char *const with_bars[] = { "POD",	      "LIFETIME", "NOT-AFTER", "NEXT",
						 "ROTATIONS", "FAILURES", "SOURCE",    "SERIAL",
						 "ISSUER",    "ID",	  NULL };
	static const char *const without[] = { "POD",	   "NOT-AFTER", "NEXT",	  "ROTATIONS",
					       "FAILURES", "SOURCE",	"SERIAL", "ISSUER",
					       "ID",	   NULL };
	struct kmtls_table table = { .columns = 0 };
	const json_t *pods = json_object_get(result, "pods"), *pod;
	size_t i;

	kmtls_table_headings(&table, bars ? with_bars : without);
	json_array_foreach (pods, i, pod)
		put_pod(&table, pod, number(result, "renew_at"), bars);
	kmtls_table_print(&table);
	json_array_foreach (pods, i, pod) {
		print_error(pod, "not renewed", text(pod, "last_error"));
		/* It has been said, if it is why there is no other one. */
		if (strcmp(text(pod, "last_error"), text(pod, "source_error")) != 0)
			print_error(pod, text(pod, "source_state"), text(pod, "source_error"));
	}
}

/* Of those that make SVIDs themselves. */
static void put_made(struct kmtls_table *table, const json_t *backend)
{
	if (number(backend, "svid_ttl"))
		kmtls_table_cell(table, KMTLS_PLAIN, "%llds", number(backend, "svid_ttl"));
	else
		kmtls_table_cell(table, KMTLS_PLAIN, "-");
	kmtls_table_cell(table, KMTLS_PLAIN, "%s",
			 *text(backend, "key_type") ? text(backend, "key_type") : "-");
}

static void print_backends(const json_t *result)
{
	static const char *const headings[] = { "BACKEND",  "TYPE",	  "STATE",
						"SOURCE",   "CA-EXPIRES", "SVID-TTL",
						"KEY-TYPE", "ERROR",	  NULL };
	struct kmtls_table table = { .columns = 0 };
	const json_t *backends = json_object_get(result, "backends"), *backend;
	size_t i;

	kmtls_table_headings(&table, headings);
	json_array_foreach (backends, i, backend) {
		const char *state = text(backend, "state"), *source = text(backend, "source");
		char buffer[32];

		kmtls_table_cell(&table, KMTLS_PLAIN, "%s", text(backend, "name"));
		kmtls_table_cell(&table, KMTLS_PLAIN, "%s", text(backend, "type"));
		kmtls_table_cell(&table,
				 !strcmp(state, "enabled")	 ? KMTLS_GREEN
				 : !strcmp(state, "unavailable") ? KMTLS_RED
								 : KMTLS_PLAIN,
				 "%s", state);
		kmtls_table_cell(&table,
				 !*source || !strcmp(source, "ok") ? KMTLS_PLAIN : KMTLS_RED, "%s",
				 *source ? source : "-");
		kmtls_table_cell(&table, KMTLS_PLAIN, "%s",
				 kmtls_table_time(number(backend, "not_after"), buffer));
		put_made(&table, backend);
		kmtls_table_cell(&table, KMTLS_RED, "%s", text(backend, "error"));
	}
	kmtls_table_print(&table);
}

static void print_ago(long long when)
{
	long long seconds = time(NULL) - when;

	if (when)
		printf(", the last answer %lld s ago", seconds < 0 ? 0 : seconds);
	else
		fputs(", no answer so far", stdout);
}

/* One line for each backend behind an agent: is it there, when was it heard, when comes the next try. */
static void print_agents(const json_t *result)
{
	const json_t *backends = json_object_get(result, "backends"), *backend;
	size_t i;

	json_array_foreach (backends, i, backend) {
		const json_t *agent = json_object_get(backend, "agent");
		bool connected = json_is_true(json_object_get(agent, "connected"));

		if (!json_is_object(agent))
			continue;
		kmtls_table_put(KMTLS_PLAIN, text(backend, "name"));
		fputs(": ", stdout);
		kmtls_table_put(connected ? KMTLS_GREEN : KMTLS_RED,
				connected ? "connected" : text(agent, "state"));
		print_ago(number(agent, "updated"));
		if (number(agent, "retry_in_ms"))
			printf(", next try in %lld s", (number(agent, "retry_in_ms") + 999) / 1000);
		printf(" (%lld answers, %lld failures)\n", number(agent, "answers"),
		       number(agent, "failures"));
	}
}

int kmtls_cmd_identity(struct kmtls_cli *cli, int argc, char **argv)
{
	__cleanup_json json_t *result = NULL;
	int status = kmtls_options_parse(cli, argc, argv, NULL, NULL, NULL);

	if (!status)
		status = kmtls_client_call(cli, "identity-show", NULL, KMTLS_CLIENT_SECONDS,
					   &result);
	if (status)
		return status;
	if (cli->json) {
		kmtls_client_print(result);
		return KMTLS_EXIT_OK;
	}
	if (!*text(result, "enabled")) {
		kmtls_table_put(KMTLS_RED, "no backend is enabled: mutual TLS is off");
		fputs(" (identity.enabled, kmtlsd.conf(5))\n", stdout);
	}
	if (number(result, "refused"))
		printf("configurations refused for their identity: %lld (see the log)\n",
		       number(result, "refused"));
	if (number(result, "not_taken"))
		printf("%lld times what a source was given could not be used: see the log\n",
		       number(result, "not_taken"));
	if (json_array_size(json_object_get(result, "backends")))
		print_backends(result);
	print_agents(result);
	if (json_array_size(json_object_get(result, "pods"))) {
		putchar('\n');
		print_pods(result, isatty(STDOUT_FILENO));
	}
	return KMTLS_EXIT_OK;
}

/* ---- renew ---- */

int kmtls_cmd_identity_renew(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "POD", NULL };
	__cleanup_json json_t *result = NULL;
	json_t *arguments = NULL;
	const char *pod = NULL;
	bool named = false;
	int status;

	for (int i = 0; i < argc; i++)
		named = named || strcmp(argv[i], "--json");
	status = kmtls_options_parse(cli, argc, argv, NULL, named ? names : NULL, &pod);
	if (status)
		return status;
	if (pod)
		arguments = json_pack("{s:o}", "pod", kmtls_json_string(pod));
	status = kmtls_client_call(cli, "identity-renew", arguments, RENEW_SECONDS, &result);
	if (status)
		return status;
	if (cli->json)
		kmtls_client_print(result);
	else
		printf("%lld renewed\n", number(result, "renewed"));
	if (*text(result, "not_taken") && !cli->json)
		kmtls_cli_error(cli, "not read anew, what there was goes on: %s",
				text(result, "not_taken"));
	return KMTLS_EXIT_OK;
}

/* ---- the CA ---- */

#define KEY_FILE_MAX 65536

/* The block of PEM that is a private key, to standard output and nowhere else. */
static int copy_key(const struct kmtls_cli *cli, const char *path, const char *bytes)
{
	const char *label = strstr(bytes, "PRIVATE KEY-----"), *begin = label, *end;

	while (begin && begin > bytes && strncmp(begin, "-----BEGIN ", 11) != 0)
		begin--;
	end = label ? strstr(label, "-----END ") : NULL;
	end = end ? strchr(end, '\n') : NULL;
	if (!end) {
		kmtls_cli_error(cli, "%s: holds no key in PEM", path);
		return KMTLS_EXIT_REFUSED;
	}
	while (begin <= end) {
		ssize_t written = write(STDOUT_FILENO, begin, (size_t)(end + 1 - begin));

		if (written < 0) {
			kmtls_cli_error(cli, "standard output: %s", strerror(errno));
			return KMTLS_EXIT_REFUSED;
		}
		begin += written;
	}
	return KMTLS_EXIT_OK;
}

static int print_key(const struct kmtls_cli *cli, const char *path)
{
	__cleanup_file FILE *file = fopen(path, "re");
	char *bytes = calloc(1, KEY_FILE_MAX);
	int status = KMTLS_EXIT_REFUSED;

	if (!file || !bytes) {
		kmtls_cli_error(cli, "%s: %s", path, strerror(errno));
	} else {
		setvbuf(file, NULL, _IONBF, 0); /* no copy of the key in stdio's buffer */
		if (!fread(bytes, 1, KEY_FILE_MAX - 1, file) || ferror(file))
			kmtls_cli_error(cli, "%s: cannot be read", path);
		else
			status = copy_key(cli, path, bytes);
	}
	if (bytes)
		explicit_bzero(bytes, KEY_FILE_MAX);
	free(bytes);
	return status;
}

static int show_ca(const struct kmtls_cli *cli, const json_t *result, bool key)
{
	const char *manager = text(result, "key_manager"), *path = text(result, "key_file");

	if (cli->json) {
		kmtls_client_print(result);
		return KMTLS_EXIT_OK;
	}
	if (key && strcmp(manager, "disk") != 0) {
		if (!strcmp(manager, "memory"))
			kmtls_cli_error(cli,
					"--key: the key manager of %s is memory: its key is "
					"in no file and is not given out",
					text(result, "backend"));
		else
			kmtls_cli_error(cli,
					"--key: %s was provided: its key is where you have "
					"put it%s%s",
					text(result, "backend"), *path ? ", " : "", path);
		return KMTLS_EXIT_REFUSED;
	}
	fputs(text(result, "certificate"), stdout);
	if (!key)
		return KMTLS_EXIT_OK;
	fflush(stdout);
	return print_key(cli, path);
}

int kmtls_cmd_identity_ca(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "show", NULL };
	const char *backend = NULL, *action = NULL;
	bool key = false;
	const struct kmtls_option options[] = {
		{ .name = "--backend", .values = &backend, .limit = 1 },
		{ .name = "--key", .flag = &key },
		{ .name = NULL },
	};
	__cleanup_json json_t *result = NULL;
	int status = kmtls_options_parse(cli, argc, argv, options, names, &action);

	if (status)
		return status;
	if (strcmp(action, "show") != 0)
		return kmtls_cli_usage(cli, "%s: unknown action, there is: show", action);
	if (key && cli->json)
		return kmtls_cli_usage(cli, "--key: cannot be together with --json");
	status = kmtls_client_call(
		cli, "identity-ca",
		backend ? json_pack("{s:o}", "backend", kmtls_json_string(backend)) : NULL,
		KMTLS_CLIENT_SECONDS, &result);
	return status ? status : show_ca(cli, result, key);
}
