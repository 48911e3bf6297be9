/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_authz.c - kmtls authz list, add, del, default, test. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "json.h"
#include "subject.h"
#include "table.h"

static int check_subject(const struct kmtls_cli *cli, const char *text)
{
	struct kmtls_subject subject;
	const char *rule;

	if (!kmtls_subject_parse(text, &subject, &rule))
		return 0;
	return kmtls_cli_usage(cli, "%s: %s", text, rule);
}

/* Takes the reference to arguments; port_text may be NULL. */
static int call(struct kmtls_cli *cli, const char *verb, json_t *arguments, const char *port_text)
{
	unsigned port;
	int err;

	if (port_text) {
		err = kmtls_options_number(cli, "--port", port_text, 1, 65535, &port);
		if (err) {
			json_decref(arguments);
			return err;
		}
		json_object_set_new(arguments, "port", json_integer(port));
	}
	return kmtls_client_do(cli, verb, arguments, KMTLS_CLIENT_SECONDS);
}

int kmtls_cmd_authz_add(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "ACTION", "SOURCE", "DESTINATION", NULL };
	const char *operands[3], *port = NULL;
	const struct kmtls_option options[] = {
		{ .name = "--port", .values = &port, .limit = 1 },
		{ .name = NULL },
	};
	int err = kmtls_options_parse(cli, argc, argv, options, names, operands);

	if (err)
		return err;
	if (strcmp(operands[0], "allow") && strcmp(operands[0], "deny") &&
	    strcmp(operands[0], "dry-run"))
		return kmtls_cli_usage(cli, "%s: must be allow, deny or dry-run", operands[0]);
	err = check_subject(cli, operands[1]);
	if (!err)
		err = check_subject(cli, operands[2]);
	if (err)
		return err;
	return call(cli, "authz-add",
		    json_pack("{s:o, s:o, s:o}", "action", kmtls_json_string(operands[0]), "source",
			      kmtls_json_string(operands[1]), "destination",
			      kmtls_json_string(operands[2])),
		    port);
}

int kmtls_cmd_authz_delete(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "SOURCE", "DESTINATION", NULL };
	const char *operands[2], *port = NULL;
	const struct kmtls_option options[] = {
		{ .name = "--port", .values = &port, .limit = 1 },
		{ .name = NULL },
	};
	int err = kmtls_options_parse(cli, argc, argv, options, names, operands);

	if (!err)
		err = check_subject(cli, operands[0]);
	if (!err)
		err = check_subject(cli, operands[1]);
	if (err)
		return err;
	return call(cli, "authz-del",
		    json_pack("{s:o, s:o}", "source", kmtls_json_string(operands[0]), "destination",
			      kmtls_json_string(operands[1])),
		    port);
}

static enum kmtls_colour colour_of(const char *action)
{
	return !strcmp(action, "allow")	    ? KMTLS_GREEN
	       : !strcmp(action, "dry-run") ? KMTLS_YELLOW
					    : KMTLS_RED;
}

static int put_rule(struct kmtls_table *table, const json_t *rule)
{
	const char *action, *source, *destination;
	int port, readable;

	if (json_unpack((json_t *)rule, "{s:s, s:s, s:s, s:i, s:b}", "action", &action, "source",
			&source, "destination", &destination, "port", &port, "readable", &readable))
		return -1;
	kmtls_table_cell(table, colour_of(action), "%s%s", action, readable ? "" : " (unreadable)");
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", source);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", destination);
	if (port)
		kmtls_table_cell(table, KMTLS_PLAIN, "%d", port);
	else
		kmtls_table_cell(table, KMTLS_PLAIN, "any");
	return 0;
}

int kmtls_cmd_authz_list(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const headings[] = { "ACTION", "SOURCE", "DESTINATION", "PORT", NULL };

	return kmtls_table_show(cli, argc, argv, "authz-list", headings, put_rule);
}

int kmtls_cmd_authz_default(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "ACTION", NULL };
	__cleanup_json json_t *result = NULL;
	json_t *arguments = NULL;
	const char *action = NULL;
	bool sets = false;
	int err;

	for (int i = 0; i < argc; i++)
		sets = sets || strcmp(argv[i], "--json");
	err = kmtls_options_parse(cli, argc, argv, NULL, sets ? names : NULL, &action);
	if (!err && action && strcmp(action, "allow") && strcmp(action, "deny"))
		return kmtls_cli_usage(cli, "%s: must be allow or deny", action);
	if (!err && action)
		arguments = json_pack("{s:o}", "action", kmtls_json_string(action));
	if (!err)
		err = kmtls_client_call(cli, "authz-default", arguments, KMTLS_CLIENT_SECONDS,
					&result);
	if (err)
		return err;
	if (cli->json)
		kmtls_client_print(result);
	else if (!action)
		puts(json_string_value(json_object_get(result, "default")) ?: "?");
	return KMTLS_EXIT_OK;
}

/* "result: ..." and what decided; a dry-run rule that would have. */
static int show_verdict(const struct kmtls_cli *cli, const json_t *result)
{
	const char *verdict, *decided_by, *source, *destination;
	const json_t *dry_run = json_object_get(result, "dry_run");
	int port;

	if (cli->json) {
		kmtls_client_print(result);
		return KMTLS_EXIT_OK;
	}
	if (json_unpack((json_t *)result, "{s:s, s:s}", "result", &verdict, "decided_by",
			&decided_by)) {
		kmtls_cli_error(cli, "an answer this version does not understand");
		return KMTLS_EXIT_REFUSED;
	}
	printf("%s: %s\n", verdict, decided_by);
	if (dry_run && !json_unpack((json_t *)dry_run, "{s:s, s:s, s:i}", "source", &source,
				    "destination", &destination, "port", &port))
		printf(port ? "would be denied by: rule dry-run %s to %s port %d\n"
			    : "would be denied by: rule dry-run %s to %s port any\n",
		       source, destination, port);
	return KMTLS_EXIT_OK;
}

int kmtls_cmd_authz_test(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "SOURCE-ID", "DESTINATION-ID", "PORT", NULL };
	__cleanup_json json_t *result = NULL;
	const char *operands[3];
	unsigned port;
	int err = kmtls_options_parse(cli, argc, argv, NULL, names, operands);

	if (!err)
		err = kmtls_options_spiffe_id(cli, "SOURCE-ID", operands[0]);
	if (!err)
		err = kmtls_options_spiffe_id(cli, "DESTINATION-ID", operands[1]);
	if (!err)
		err = kmtls_options_number(cli, "PORT", operands[2], 1, 65535, &port);
	if (err)
		return err;
	err = kmtls_client_call(cli, "authz-test",
				json_pack("{s:o, s:o, s:i}", "source",
					  kmtls_json_string(operands[0]), "destination",
					  kmtls_json_string(operands[1]), "port", (int)port),
				KMTLS_CLIENT_SECONDS, &result);
	return err ? err : show_verdict(cli, result);
}
