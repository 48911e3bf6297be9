/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_upgrade.c - kmtls upgrade: the daemon is replaced by a new version of itself, flows go on.
 * The answer comes before anything happens; how it went is asked of whoever answers afterwards.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "cleanup.h"
#include "json.h"

/* The new version loads its programs, and the old one waits a minute for it. */
#define TIMEOUT_SECONDS 90
#define POLL_MS 50

static void pause_ms(long ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

/* -1: it is still under way, or nobody answers just now; otherwise an exit status. */
static int look(struct kmtls_cli *cli, json_int_t number, json_t **ret_status)
{
	struct kmtls_cli silent = *cli;
	__cleanup_json json_t *status = NULL;
	const char *outcome, *why;
	json_t *upgrade;

	silent.quiet = true;
	if (kmtls_client_call(&silent, "status", NULL, KMTLS_CLIENT_SECONDS, &status) !=
	    KMTLS_EXIT_OK)
		return -1;
	upgrade = json_object_get(status, "upgrade");
	outcome = json_string_value(json_object_get(upgrade, "outcome"));
	why = json_string_value(json_object_get(upgrade, "why"));
	if (!outcome || json_integer_value(json_object_get(upgrade, "begun")) < number)
		return -1;
	if (strcmp(outcome, "rolled-back") == 0) {
		kmtls_cli_error(cli, "the old version goes on: %s", why ? why : "");
		return KMTLS_EXIT_REFUSED;
	}
	if (strcmp(outcome, "done") != 0)
		return -1;
	*ret_status = json_incref(status);
	return KMTLS_EXIT_OK;
}

static int await(struct kmtls_cli *cli, json_int_t number)
{
	for (int i = 0; i < TIMEOUT_SECONDS * 1000 / POLL_MS; i++) {
		__cleanup_json json_t *status = NULL;
		int result;

		pause_ms(POLL_MS);
		result = look(cli, number, &status);
		if (result < 0)
			continue;
		if (result == KMTLS_EXIT_OK && cli->json)
			kmtls_client_print(status);
		else if (result == KMTLS_EXIT_OK)
			printf("upgraded: version %s, keeper pid %lld, worker pid %lld\n",
			       json_string_value(json_object_get(status, "version")),
			       json_integer_value(json_object_get(status, "keeper")),
			       json_integer_value(json_object_get(status, "worker")));
		return result;
	}
	kmtls_cli_error(cli, "no answer for %d seconds", TIMEOUT_SECONDS);
	return KMTLS_EXIT_REFUSED;
}

int kmtls_cmd_upgrade(struct kmtls_cli *cli, int argc, char **argv)
{
	__cleanup_json json_t *begun = NULL;
	__cleanup_free char *path = NULL;
	const char *program = NULL;
	const struct kmtls_option options[] = {
		{ .name = "--program", .values = &program, .limit = 1 },
		{ .name = NULL },
	};
	json_t *arguments = NULL;
	int err = kmtls_options_parse(cli, argc, argv, options, NULL, NULL);

	if (!err && program)
		err = kmtls_options_path(cli, "--program", program, &path);
	if (err)
		return err;
	if (path)
		arguments = json_pack("{s:o}", "program", kmtls_json_string(path));
	err = kmtls_client_call(cli, "upgrade", arguments, KMTLS_CLIENT_SECONDS, &begun);
	return err ? err : await(cli, json_integer_value(json_object_get(begun, "number")));
}
