/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_peer.c - kmtls peer add, del, list. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "json.h"
#include "match.h"
#include "table.h"

static const char *const prefix_only[] = { "PREFIX", NULL };

static int add_mesh(struct kmtls_cli *cli, const char *prefix, const char *id)
{
	const char *rule;

	if (kmtls_match_check(KMTLS_MATCH_EXACT, id, strlen(id), &rule))
		return kmtls_cli_usage(cli, "--id %s: %s", id, rule);
	return kmtls_client_do(cli, "peer-add",
			       json_pack("{s:o, s:o}", "prefix", kmtls_json_string(prefix), "id",
					 kmtls_json_string(id)),
			       KMTLS_CLIENT_SECONDS);
}

static int add_any_of(struct kmtls_cli *cli, const char *prefix, const char *namespace_,
		      const char *trust_domain)
{
	char text[KMTLS_SPIFFE_ID_MAX + 1];
	json_t *arguments;
	const char *rule;

	if (kmtls_match_text(namespace_, trust_domain, text, &rule))
		return kmtls_cli_usage(
			cli, "%s%s%s--trust-domain %s: %s", namespace_ ? "--namespace " : "",
			namespace_ ? namespace_ : "", namespace_ ? " " : "", trust_domain, rule);
	arguments = json_pack("{s:o, s:o}", "prefix", kmtls_json_string(prefix), "trust_domain",
			      kmtls_json_string(trust_domain));
	if (namespace_)
		json_object_set_new(arguments, "namespace", kmtls_json_string(namespace_));
	return kmtls_client_do(cli, "peer-add", arguments, KMTLS_CLIENT_SECONDS);
}

static int add_bypass(struct kmtls_cli *cli, const char *prefix, const char **ports, unsigned count)
{
	json_t *list = json_array();
	unsigned port;
	int err;

	for (unsigned i = 0; i < count; i++) {
		err = kmtls_options_number(cli, "--port", ports[i], 1, 65535, &port);
		if (err) {
			json_decref(list);
			return err;
		}
		json_array_append_new(list, json_integer(port));
	}
	return kmtls_client_do(cli, "peer-add",
			       json_pack("{s:o, s:b, s:o}", "prefix", kmtls_json_string(prefix),
					 "bypass", 1, "ports", list),
			       KMTLS_CLIENT_SECONDS);
}

int kmtls_cmd_peer_add(struct kmtls_cli *cli, int argc, char **argv)
{
	const char *prefix, *id = NULL, *namespace_ = NULL, *trust_domain = NULL;
	const char *ports[KMTLS_BYPASS_PORTS] = { NULL };
	bool bypass = false;
	unsigned count = 0;
	const struct kmtls_option options[] = {
		{ .name = "--id", .values = &id, .limit = 1 },
		{ .name = "--namespace", .values = &namespace_, .limit = 1 },
		{ .name = "--trust-domain", .values = &trust_domain, .limit = 1 },
		{ .name = "--bypass", .flag = &bypass },
		{ .name = "--port", .values = ports, .limit = KMTLS_BYPASS_PORTS, .count = &count },
		{ .name = NULL },
	};
	int err = kmtls_options_parse(cli, argc, argv, options, prefix_only, &prefix);

	if (!err)
		err = kmtls_options_prefix(cli, prefix);
	if (err)
		return err;
	if (!!id + !!trust_domain + bypass != 1)
		return kmtls_cli_usage(
			cli,
			"--id ID, --trust-domain TD or --bypass: exactly one of them is needed");
	if (namespace_ && !trust_domain)
		return kmtls_cli_usage(cli, "--namespace: only together with --trust-domain");
	if (!bypass && count)
		return kmtls_cli_usage(cli, "--port: only together with --bypass");
	if (bypass)
		return add_bypass(cli, prefix, ports, count);
	return id ? add_mesh(cli, prefix, id) : add_any_of(cli, prefix, namespace_, trust_domain);
}

int kmtls_cmd_peer_delete(struct kmtls_cli *cli, int argc, char **argv)
{
	const char *prefix;
	int err = kmtls_options_parse(cli, argc, argv, NULL, prefix_only, &prefix);

	if (!err)
		err = kmtls_options_prefix(cli, prefix);
	if (err)
		return err;
	return kmtls_client_do(cli, "peer-del",
			       json_pack("{s:o}", "prefix", kmtls_json_string(prefix)),
			       KMTLS_CLIENT_SECONDS);
}

static void put_ports(struct kmtls_table *table, const json_t *ports, bool bypass)
{
	char text[KMTLS_BYPASS_PORTS * 8] = "";
	size_t used = 0, i;
	json_t *port;

	json_array_foreach (ports, i, port) {
		if (used + 8 < sizeof(text))
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u",
						 used ? "," : "",
						 (unsigned)json_integer_value(port) & 0xffff);
	}
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", bypass && !used ? "all" : text);
}

static int put_peer(struct kmtls_table *table, const json_t *peer)
{
	const char *prefix, *kind, *match, *id;
	enum kmtls_colour colour;
	json_t *ports;

	if (json_unpack((json_t *)peer, "{s:s, s:s, s:s, s:s, s:o}", "prefix", &prefix, "kind",
			&kind, "match", &match, "id", &id, "ports", &ports))
		return -1;
	colour = !strcmp(kind, "mesh")	   ? KMTLS_GREEN
		 : !strcmp(kind, "bypass") ? KMTLS_YELLOW
					   : KMTLS_RED;
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", prefix);
	kmtls_table_cell(table, colour, "%s", kind);
	kmtls_table_cell(table, strcmp(match, "unknown") ? KMTLS_PLAIN : KMTLS_RED, "%s", match);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", id);
	put_ports(table, ports, !strcmp(kind, "bypass"));
	return 0;
}

int kmtls_cmd_peer_list(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const headings[] = { "PREFIX", "KIND", "MATCH", "ID", "PORTS", NULL };

	return kmtls_table_show(cli, argc, argv, "peer-list", headings, put_peer);
}
