/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_policy.c - kmtls policy show, set, unset, dry-run. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "json.h"
#include "table.h"

/* Which element is meant, as it is written on the command line. */
struct selector {
	const char *namespace_, *pod, *port;
	bool inbound, outbound, now;
};

static int check_mode(const struct kmtls_cli *cli, const char *text)
{
	if (!strcmp(text, "off") || !strcmp(text, "permissive") || !strcmp(text, "strict"))
		return 0;
	return kmtls_cli_usage(cli, "%s: must be off, permissive or strict", text);
}

static int check_selector(const struct kmtls_cli *cli, const struct selector *selector,
			  unsigned *ret_port)
{
	if (selector->inbound && selector->outbound)
		return kmtls_cli_usage(
			cli, "--inbound: cannot be together with --outbound; without either it is "
			     "both");
	if (selector->namespace_ && selector->pod)
		return kmtls_cli_usage(cli, "--namespace: cannot be together with --pod");
	if (selector->namespace_ && selector->port)
		return kmtls_cli_usage(cli, "--port: cannot be together with --namespace");
	return selector->port
		       ? kmtls_options_number(cli, "--port", selector->port, 1, 65535, ret_port)
		       : 0;
}

/* NULL: a wrong argument, which has been told, or no memory. mode may be NULL. */
static json_t *pack(const struct kmtls_cli *cli, const char *mode, const struct selector *selector)
{
	unsigned port = 0;
	json_t *arguments;

	if ((mode && check_mode(cli, mode)) || check_selector(cli, selector, &port))
		return NULL;
	arguments = json_object();
	if (mode)
		json_object_set_new(arguments, "mode", json_string(mode));
	if (selector->namespace_)
		json_object_set_new(arguments, "namespace", json_string(selector->namespace_));
	if (selector->pod)
		json_object_set_new(arguments, "pod", json_string(selector->pod));
	if (port)
		json_object_set_new(arguments, "port", json_integer(port));
	if (selector->inbound || selector->outbound)
		json_object_set_new(arguments, "direction",
				    json_string(selector->inbound ? "inbound" : "outbound"));
	if (selector->now)
		json_object_set_new(arguments, "now", json_true());
	return arguments;
}

#define SELECTOR_OPTIONS(selector)                                               \
	{ .name = "--namespace", .values = &(selector).namespace_, .limit = 1 }, \
		{ .name = "--pod", .values = &(selector).pod, .limit = 1 },      \
		{ .name = "--port", .values = &(selector).port, .limit = 1 },    \
		{ .name = "--inbound", .flag = &(selector).inbound },            \
	{                                                                        \
		.name = "--outbound", .flag = &(selector).outbound               \
	}

static int unknown_answer(const struct kmtls_cli *cli)
{
	kmtls_cli_error(cli, "an answer this version does not understand");
	return KMTLS_EXIT_REFUSED;
}

/* ---- set, unset ---- */

static int show_change(const struct kmtls_cli *cli, const struct selector *selector,
		       const json_t *result)
{
	json_int_t reset;
	int ignored;

	if (cli->json) {
		kmtls_client_print(result);
		return KMTLS_EXIT_OK;
	}
	if (json_unpack((json_t *)result, "{s:b, s:I}", "ignored", &ignored, "reset", &reset))
		return unknown_answer(cli);
	if (ignored)
		puts("ignored: the mesh is strict");
	if (selector->now)
		printf("connections reset: %lld\n", (long long)reset);
	return KMTLS_EXIT_OK;
}

static int change(struct kmtls_cli *cli, int argc, char **argv, const char *verb,
		  const char *const *names)
{
	__cleanup_json json_t *result = NULL;
	struct selector selector = {};
	const char *mode = NULL;
	const struct kmtls_option options[] = {
		SELECTOR_OPTIONS(selector),
		{ .name = "--now", .flag = &selector.now },
		{ .name = NULL },
	};
	json_t *arguments;
	int err = kmtls_options_parse(cli, argc, argv, options, names, &mode);

	if (err)
		return err;
	if (!names && !selector.pod && !selector.namespace_ && !selector.port)
		return kmtls_cli_usage(cli, "the mesh always has a mode, which can only be set to "
					    "another; or --namespace, --pod or --port is missing");
	arguments = pack(cli, mode, &selector);
	if (!arguments)
		return KMTLS_EXIT_USAGE;
	err = kmtls_client_call(cli, verb, arguments, KMTLS_CLIENT_SECONDS, &result);
	return err ? err : show_change(cli, &selector, result);
}

int kmtls_cmd_policy_set(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "MODE", NULL };

	return change(cli, argc, argv, "policy-set", names);
}

int kmtls_cmd_policy_unset(struct kmtls_cli *cli, int argc, char **argv)
{
	return change(cli, argc, argv, "policy-unset", NULL);
}

/* ---- dry-run ---- */

struct column {
	const char *name;
	enum kmtls_colour colour;
};

/* Pod, direction, and two more. */
static int put_columns(struct kmtls_table *table, const json_t *element, struct column third,
		       struct column fourth)
{
	const char *pod, *direction, *one, *other;

	if (json_unpack((json_t *)element, "{s:s, s:s, s:s, s:s}", "pod", &pod, "direction",
			&direction, third.name, &one, fourth.name, &other))
		return -1;
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", pod);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", direction);
	kmtls_table_cell(table, third.colour, "%s", one);
	kmtls_table_cell(table, fourth.colour, "%s", other);
	return 0;
}

static int put_changed(struct kmtls_table *table, const json_t *element)
{
	return put_columns(table, element, (struct column){ "before", KMTLS_PLAIN },
			   (struct column){ "after", KMTLS_BOLD });
}

static int put_connection(struct kmtls_table *table, const json_t *element)
{
	return put_columns(table, element, (struct column){ "self", KMTLS_RED },
			   (struct column){ "peer", KMTLS_RED });
}

static int show_dry_run(const struct kmtls_cli *cli, const json_t *result)
{
	static const char *const changed[] = { "POD", "DIRECTION", "NOW", "THEN", NULL };
	static const char *const forbidden[] = { "POD", "DIRECTION", "SELF", "PEER", NULL };
	json_t *pods, *connections;
	int ignored, status;

	if (cli->json) {
		kmtls_client_print(result);
		return KMTLS_EXIT_OK;
	}
	if (json_unpack((json_t *)result, "{s:b, s:o, s:o}", "ignored", &ignored, "pods", &pods,
			"connections", &connections))
		return unknown_answer(cli);
	if (ignored)
		puts("ignored: the mesh is strict");
	printf("pods whose mode would change: %zu\n", json_array_size(pods));
	status = json_array_size(pods) ? kmtls_table_list(cli, pods, changed, put_changed) : 0;
	printf("plaintext connections that would be forbidden: %zu\n",
	       json_array_size(connections));
	if (!status && json_array_size(connections))
		status = kmtls_table_list(cli, connections, forbidden, put_connection);
	return status;
}

int kmtls_cmd_policy_dry_run(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "MODE", NULL };
	__cleanup_json json_t *result = NULL;
	struct selector selector = {};
	const char *mode = NULL;
	const struct kmtls_option options[] = {
		SELECTOR_OPTIONS(selector),
		{ .name = NULL },
	};
	json_t *arguments;
	int err = kmtls_options_parse(cli, argc, argv, options, names, &mode);

	if (err)
		return err;
	arguments = pack(cli, mode, &selector);
	if (!arguments)
		return KMTLS_EXIT_USAGE;
	err = kmtls_client_call(cli, "policy-dry-run", arguments, KMTLS_CLIENT_SECONDS, &result);
	return err ? err : show_dry_run(cli, result);
}

/* ---- show ---- */

static enum kmtls_colour colour_of(const char *mode)
{
	return !strcmp(mode, "strict")	     ? KMTLS_GREEN
	       : !strcmp(mode, "permissive") ? KMTLS_YELLOW
					     : KMTLS_RED;
}

static int put_element(struct kmtls_table *table, const json_t *element)
{
	const char *scope, *name, *direction, *mode;
	int port, ignored, readable, decided = false;

	if (json_unpack((json_t *)element, "{s:s, s:s, s:s, s:i, s:s, s:b, s:b, s?b}", "scope",
			&scope, "name", &name, "direction", &direction, "port", &port, "mode",
			&mode, "ignored", &ignored, "readable", &readable, "decided", &decided))
		return -1;
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", scope);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", name);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", direction);
	if (port)
		kmtls_table_cell(table, KMTLS_PLAIN, "%d", port);
	else
		kmtls_table_cell(table, KMTLS_PLAIN, "%s", "");
	kmtls_table_cell(table, ignored ? KMTLS_DIM : colour_of(mode), "%s", mode);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s",
			 ignored     ? "ignored: the mesh is strict"
			 : !readable ? "unreadable"
			 : decided   ? "decides"
				     : "");
	return 0;
}

static const char *const element_headings[] = { "SCOPE", "NAME",   "DIRECTION", "PORT",
						"MODE",	 "REMARK", NULL };

/* "inbound: strict" and what there is to say about it; the same outbound. */
static int show_pod(const struct kmtls_cli *cli, const json_t *result)
{
	const json_t *side;
	int status = 0;
	size_t i;

	json_array_foreach (result, i, side) {
		const char *direction, *mode;
		json_t *elements;

		if (json_unpack((json_t *)side, "{s:s, s:s, s:o}", "direction", &direction, "mode",
				&mode, "elements", &elements))
			return unknown_answer(cli);
		printf("%s%s: %s\n", i ? "\n" : "", direction, mode);
		if (!status)
			status = kmtls_table_list(cli, elements, element_headings, put_element);
	}
	return status;
}

int kmtls_cmd_policy_show(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "POD", NULL };
	__cleanup_json json_t *result = NULL;
	const char *pod = NULL, *port_text = NULL;
	const struct kmtls_option options[] = {
		{ .name = "--port", .values = &port_text, .limit = 1 },
		{ .name = NULL },
	};
	bool has_pod = false;
	json_t *arguments;
	unsigned port = 0;
	int err;

	for (int i = 0; i < argc; i++)
		has_pod |= argv[i][0] != '-' && (!i || strcmp(argv[i - 1], "--port"));
	err = kmtls_options_parse(cli, argc, argv, options, has_pod ? names : NULL, &pod);
	if (!err && port_text)
		err = kmtls_options_number(cli, "--port", port_text, 1, 65535, &port);
	if (err)
		return err;
	arguments = json_object();
	if (pod)
		json_object_set_new(arguments, "pod", json_string(pod));
	if (port)
		json_object_set_new(arguments, "port", json_integer(port));
	err = kmtls_client_call(cli, "policy-show", arguments, KMTLS_CLIENT_SECONDS, &result);
	if (err)
		return err;
	if (cli->json) {
		kmtls_client_print(result);
		return KMTLS_EXIT_OK;
	}
	return pod ? show_pod(cli, result)
		   : kmtls_table_list(cli, result, element_headings, put_element);
}
