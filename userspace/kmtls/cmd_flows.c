/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_flows.c - kmtls flows: one line per flow. */
#include <string.h>

#include "cli.h"
#include "json.h"
#include "table.h"
#include "watch.h"

static enum kmtls_colour colour_of(const char *state)
{
	if (!strcmp(state, "established"))
		return KMTLS_GREEN;
	return strcmp(state, "handshake") ? KMTLS_DIM : KMTLS_YELLOW;
}

static void put_endpoint(struct kmtls_table *table, const char *address, int port)
{
	if (strchr(address, ':'))
		kmtls_table_cell(table, KMTLS_PLAIN, "[%s]:%d", address, port);
	else
		kmtls_table_cell(table, KMTLS_PLAIN, "%s:%d", address, port);
}

/* Sending, then receiving. Nothing is in the kernel's hands before the handshake is done. */
static void put_ktls(struct kmtls_table *table, const char *tx, const char *rx)
{
	if (!strcmp(tx, "none") && !strcmp(rx, "none"))
		kmtls_table_cell(table, KMTLS_PLAIN, "-");
	else
		kmtls_table_cell(table, KMTLS_GREEN, "kTLS %s/%s", tx, rx);
}

static int put_flow(struct kmtls_table *table, const json_t *flow)
{
	const char *id, *state, *role, *self_id, *self, *peer_id, *peer, *tx, *rx, *cipher;
	int self_port, peer_port;

	if (json_unpack((json_t *)flow,
			"{s:s, s:s, s:s, s:{s:s, s:s, s:i}, s:{s:s, s:s, s:i}, s:s, s:s}", "id",
			&id, "state", &state, "role", &role, "self", "id", &self_id, "address",
			&self, "port", &self_port, "peer", "id", &peer_id, "address", &peer, "port",
			&peer_port, "ktls_tx", &tx, "ktls_rx", &rx))
		return -1;
	cipher = json_string_value(json_object_get(flow, "cipher"));
	if (json_is_true(json_object_get(flow, "plaintext"))) {
		cipher = "plaintext";
		peer_id = "-";
	}
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", id);
	kmtls_table_cell(table, colour_of(state), "%s", state);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", role);
	put_endpoint(table, self, self_port);
	put_endpoint(table, peer, peer_port);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", self_id);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", peer_id);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", cipher ? cipher : "");
	put_ktls(table, tx, rx);
	return 0;
}

static int show(const struct kmtls_cli *cli, void *arguments)
{
	static const char *const headings[] = { "ID",	   "STATE",   "ROLE",	"LOCAL", "PEER",
						"SELF-ID", "PEER-ID", "CIPHER", "KTLS",	 NULL };
	__cleanup_json json_t *result = NULL;
	int status = kmtls_client_call(cli, "flows", json_incref(arguments), KMTLS_CLIENT_SECONDS,
				       &result);

	if (status)
		return status;
	if (!cli->json)
		return kmtls_table_list(cli, result, headings, put_flow);
	kmtls_client_print(result);
	return KMTLS_EXIT_OK;
}

struct filters {
	const char *pod, *peer, *id, *port, *state;
};

static void add_text(json_t *arguments, const char *name, const char *text)
{
	if (text)
		json_object_set_new(arguments, name, kmtls_json_string(text));
}

/* 0 with the daemon's arguments, or KMTLS_EXIT_USAGE. */
static int check_filters(const struct kmtls_cli *cli, const struct filters *filters,
			 json_t *arguments)
{
	unsigned port;
	int err = 0;

	if (filters->peer)
		err = kmtls_options_prefix(cli, filters->peer);
	if (!err && filters->id)
		err = kmtls_options_spiffe_id(cli, "--id", filters->id);
	if (!err && filters->port) {
		err = kmtls_options_number(cli, "--port", filters->port, 1, 65535, &port);
		json_object_set_new(arguments, "port", json_integer(port));
	}
	add_text(arguments, "pod", filters->pod);
	add_text(arguments, "peer", filters->peer);
	add_text(arguments, "id", filters->id);
	add_text(arguments, "state", filters->state);
	return err;
}

int kmtls_cmd_flows(struct kmtls_cli *cli, int argc, char **argv)
{
	__cleanup_json json_t *arguments = json_object();
	struct filters filters = { .pod = NULL };
	struct kmtls_watch watch = { .on = false };
	const struct kmtls_option options[] = {
		{ .name = "--pod", .values = &filters.pod, .limit = 1 },
		{ .name = "--peer", .values = &filters.peer, .limit = 1 },
		{ .name = "--id", .values = &filters.id, .limit = 1 },
		{ .name = "--port", .values = &filters.port, .limit = 1 },
		{ .name = "--state", .values = &filters.state, .limit = 1 },
		KMTLS_WATCH_OPTIONS(watch),
		{ .name = NULL },
	};
	int err = kmtls_options_parse(cli, argc, argv, options, NULL, NULL);

	if (!err)
		err = check_filters(cli, &filters, arguments);
	return err ? err : kmtls_watch_run(cli, &watch, show, arguments);
}
