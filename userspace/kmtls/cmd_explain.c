/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_explain.c - kmtls explain: the rules that are consulted about a connection, in order, the
 * one that decides, and the result. */
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "cli.h"
#include "json.h"
#include "table.h"

#define DESTINATION_MAX 255

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key)) ?: "";
}

/* ---- DST[:PORT] ---- */

/* "b", "b:80", "10.0.0.2:80", "fd00::2", "[fd00::2]", "[fd00::2]:80". ret_host: of
 * DESTINATION_MAX + 1 bytes; *ret_port: 0, there is none. */
static int split_destination(const struct kmtls_cli *cli, const char *text, char *ret_host,
			     unsigned *ret_port)
{
	const char *colon = strrchr(text, ':'), *bracket = strchr(text, ']');
	bool bracketed = *text == '[', port = colon && strchr(text, ':') == colon;
	struct kmtls_address address;
	size_t length = strlen(text);

	*ret_port = 0;
	if (bracketed) {
		if (!bracket || (bracket[1] && bracket[1] != ':'))
			return kmtls_cli_usage(cli, "%s: must be [ADDRESS] or [ADDRESS]:PORT",
					       text);
		port = bracket[1] == ':';
		colon = bracket + 1;
		length = (size_t)(bracket - text) - 1;
	} else if (port) {
		length = (size_t)(colon - text);
	}
	if (!length || length > DESTINATION_MAX)
		return kmtls_cli_usage(cli,
				       "%s: must be a pod or an IP address, and may have a "
				       ":PORT",
				       text);
	snprintf(ret_host, DESTINATION_MAX + 1, "%.*s", (int)length, text + bracketed);
	if ((bracketed || strchr(ret_host, ':')) &&
	    (!strchr(ret_host, ':') || kmtls_address_parse(ret_host, &address)))
		return kmtls_cli_usage(cli, "%s: %s is not an IPv6 address", text, ret_host);
	return port ? kmtls_options_number(cli, text, colon + 1, 1, 65535, ret_port) : 0;
}

/* ---- what is shown ---- */

static enum kmtls_colour colour_of(const char *word)
{
	static const struct {
		const char *word;
		enum kmtls_colour colour;
	} colours[] = {
		{ "encrypted", KMTLS_GREEN }, { "plaintext", KMTLS_YELLOW },
		{ "refused", KMTLS_RED },     { "ignored", KMTLS_YELLOW },
		{ "unreadable", KMTLS_RED },  { "decides", KMTLS_BOLD },
	};

	for (size_t i = 0; i < sizeof(colours) / sizeof(colours[0]); i++)
		if (!strcmp(colours[i].word, word))
			return colours[i].colour;
	return KMTLS_PLAIN;
}

static int put_step(struct kmtls_table *table, const json_t *step)
{
	const char *stage, *rule, *state, *text;

	if (json_unpack((json_t *)step, "{s:s, s:s, s:s, s:s}", "stage", &stage, "rule", &rule,
			"state", &state, "text", &text))
		return -1;
	kmtls_table_cell(table, KMTLS_DIM, "%s", stage);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", rule);
	kmtls_table_cell(table, colour_of(state), "%s", state);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", text);
	return 0;
}

static void put_line(struct kmtls_table *table, const char *label, const char *text)
{
	if (!*text)
		return;
	kmtls_table_cell(table, KMTLS_BOLD, "%s", label);
	kmtls_table_cell(table, colour_of(text), "%s", text);
}

static void put_party(struct kmtls_table *table, const char *label, const json_t *party)
{
	const char *name = text_of(party, "name"), *id = text_of(party, "id");

	kmtls_table_cell(table, KMTLS_BOLD, "%s", label);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s%s%s%s%s", name, *name ? " " : "",
			 text_of(party, "address"), *id ? ", " : "", id);
}

static void put_flows(struct kmtls_table *table, const json_t *result)
{
	const json_t *flow = json_object_get(result, "flow"), *id;
	long long count = json_integer_value(json_object_get(result, "established"));
	char ids[256] = "";
	size_t i;

	if (flow) {
		kmtls_table_cell(table, KMTLS_BOLD, "flow");
		kmtls_table_cell(table, KMTLS_PLAIN, "%s: %s; %s", text_of(flow, "id"),
				 text_of(flow, "is"), text_of(flow, "text"));
	}
	json_array_foreach (json_object_get(result, "flows"), i, id)
		snprintf(ids + strlen(ids), sizeof(ids) - strlen(ids), " %s",
			 json_string_value(id) ?: "");
	kmtls_table_cell(table, KMTLS_BOLD, "flows");
	kmtls_table_cell(table, KMTLS_PLAIN, "%lld established now%s%s%s", count, *ids ? ":" : "",
			 ids, count > (long long)i ? " ..." : "");
}

static int show(const struct kmtls_cli *cli, const json_t *result)
{
	static const char *const headings[] = { "STAGE", "RULE", "STATE", "WHAT IT SAYS", NULL };
	struct kmtls_table ends = { .columns = 2 }, outcome = { .columns = 2 };
	int port = (int)json_integer_value(json_object_get(result, "port")), status;

	put_party(&ends, "from", json_object_get(result, "source"));
	put_party(&ends, "to", json_object_get(result, "destination"));
	kmtls_table_cell(&ends, KMTLS_BOLD, "port");
	if (port)
		kmtls_table_cell(&ends, KMTLS_PLAIN, "%s %d", text_of(result, "protocol"), port);
	else
		kmtls_table_cell(&ends, KMTLS_PLAIN, "%s any", text_of(result, "protocol"));
	kmtls_table_print(&ends);
	putchar('\n');
	status = kmtls_table_list(cli, json_object_get(result, "steps"), headings, put_step);
	putchar('\n');
	put_line(&outcome, "result", text_of(result, "result"));
	put_line(&outcome, "because", text_of(result, "text"));
	put_line(&outcome, "expected", text_of(result, "expected"));
	put_line(&outcome, "reason", text_of(result, "reason"));
	put_line(&outcome, "connect()", text_of(result, "sees"));
	put_flows(&outcome, result);
	kmtls_table_print(&outcome);
	return status;
}

/* ---- the verb ---- */

static int make_arguments(struct kmtls_cli *cli, const char *const *operands, bool udp,
			  json_t **ret_arguments)
{
	char host[DESTINATION_MAX + 1];
	json_t *arguments;
	unsigned port;
	int err = split_destination(cli, operands[1], host, &port);

	if (err)
		return err;
	arguments = json_pack("{s:o, s:o}", "source", kmtls_json_string(operands[0]), "destination",
			      kmtls_json_string(host));
	if (port)
		json_object_set_new(arguments, "port", json_integer(port));
	if (udp)
		json_object_set_new(arguments, "udp", json_true());
	*ret_arguments = arguments;
	return 0;
}

/* With --flow there are no operands, and they are named as unexpected. */
static bool asks_for_flow(int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		if (!strcmp(argv[i], "--flow") || !strncmp(argv[i], "--flow=", 7))
			return true;
	return false;
}

int kmtls_cmd_explain(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "SRC", "DST", NULL };
	__cleanup_json json_t *result = NULL;
	const char *operands[2], *flow = NULL;
	bool udp = false, by_flow = asks_for_flow(argc, argv);
	const struct kmtls_option options[] = {
		{ .name = "--udp", .flag = &udp },
		{ .name = "--flow", .values = &flow, .limit = 1 },
		{ .name = NULL },
	};
	json_t *arguments = NULL;
	int err = kmtls_options_parse(cli, argc, argv, options, by_flow ? NULL : names, operands);

	if (!err && flow && udp)
		return kmtls_cli_usage(cli, "--flow and --udp exclude each other");
	if (!err && flow)
		arguments = json_pack("{s:o}", "flow", kmtls_json_string(flow));
	else if (!err)
		err = make_arguments(cli, operands, udp, &arguments);
	if (!err)
		err = kmtls_client_call(cli, "explain", arguments, KMTLS_CLIENT_SECONDS, &result);
	if (err)
		return err;
	if (!cli->json)
		return show(cli, result);
	kmtls_client_print(result);
	return KMTLS_EXIT_OK;
}
