/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_flows.c - kmtls flows: one line per flow. */
#include <string.h>

#include "cli.h"
#include "table.h"

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

int kmtls_cmd_flows(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const headings[] = { "ID",	   "STATE",   "ROLE",	"LOCAL", "PEER",
						"SELF-ID", "PEER-ID", "CIPHER", "KTLS",	 NULL };

	return kmtls_table_show(cli, argc, argv, "flows", headings, put_flow);
}
