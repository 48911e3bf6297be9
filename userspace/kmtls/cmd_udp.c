/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_udp.c - kmtls udp: what pods send and receive in the clear by UDP, most bytes first. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "json.h"
#include "table.h"
#include "watch.h"

static const char *const headings[] = {
	"POD",	      "PROTOCOL",	  "REMOTE",	    "PORT", "SENT-PACKETS",
	"SENT-BYTES", "RECEIVED-PACKETS", "RECEIVED-BYTES", "LAST", NULL
};

static void put_number(struct kmtls_table *table, json_int_t number)
{
	kmtls_table_cell(table, KMTLS_PLAIN, "%lld", (long long)number);
}

static int put_row(struct kmtls_table *table, const json_t *row)
{
	json_int_t sent_packets, sent_bytes, received_packets, received_bytes, last;
	const char *pod, *protocol, *remote;
	int port, forgotten;
	char time[32];

	if (json_unpack((json_t *)row, "{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:b}", "pod",
			&pod, "protocol", &protocol, "remote", &remote, "port", &port,
			"sent_packets", &sent_packets, "sent_bytes", &sent_bytes,
			"received_packets", &received_packets, "received_bytes", &received_bytes,
			"last", &last, "forgotten", &forgotten))
		return -1;
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", pod);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", protocol);
	kmtls_table_cell(table, forgotten ? KMTLS_DIM : KMTLS_PLAIN, "%s",
			 forgotten ? "(forgotten)" : remote);
	if (port)
		put_number(table, port);
	else
		kmtls_table_cell(table, KMTLS_PLAIN, "-");
	put_number(table, sent_packets);
	put_number(table, sent_bytes);
	put_number(table, received_packets);
	put_number(table, received_bytes);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", kmtls_table_time(last, time));
	return 0;
}

static int show(const struct kmtls_cli *cli, void *arguments)
{
	__cleanup_json json_t *result = NULL;
	int status;

	/* The call takes what it is given. */
	json_incref(arguments);
	status = kmtls_client_call(cli, "udp", arguments, KMTLS_CLIENT_SECONDS, &result);
	if (status)
		return status;
	if (!cli->json)
		return kmtls_table_list(cli, result, headings, put_row);
	kmtls_client_print(result);
	return KMTLS_EXIT_OK;
}

int kmtls_cmd_udp(struct kmtls_cli *cli, int argc, char **argv)
{
	__cleanup_json json_t *arguments = json_object();
	struct kmtls_watch watch = { .on = false };
	const char *pod = NULL, *peer = NULL;
	const struct kmtls_option options[] = {
		{ .name = "--pod", .values = &pod, .limit = 1 },
		{ .name = "--peer", .values = &peer, .limit = 1 },
		KMTLS_WATCH_OPTIONS(watch),
		{ .name = NULL },
	};
	int err = kmtls_options_parse(cli, argc, argv, options, NULL, NULL);

	if (!err && peer)
		err = kmtls_options_prefix(cli, peer);
	if (err)
		return err;
	if (pod)
		json_object_set_new(arguments, "pod", kmtls_json_string(pod));
	if (peer)
		json_object_set_new(arguments, "peer", kmtls_json_string(peer));
	return kmtls_watch_run(cli, &watch, show, arguments);
}
