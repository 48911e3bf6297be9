/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_status.c - kmtls status: is it up, what does it hold, what was refused and why. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "json.h"
#include "table.h"

static const char *meaning(const char *name)
{
	static const struct {
		const char *name, *text;
	} reasons[] = {
#define REASON_TEXT(number, symbol, name, text) { name, text },
		KMTLS_REASONS(REASON_TEXT)
#undef REASON_TEXT
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if (!strcmp(reasons[i].name, name))
			return reasons[i].text;
	}
	return "";
}

static void put_text(struct kmtls_table *table, const json_t *status, const char *label,
		     const char *key)
{
	const char *text = json_string_value(json_object_get(status, key));

	kmtls_table_cell(table, KMTLS_BOLD, "%s", label);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", text ? text : "");
}

static long long number(const json_t *object, const char *key)
{
	return (long long)json_integer_value(json_object_get(object, key));
}

static void put_uptime(struct kmtls_table *table, const json_t *status)
{
	long long up = number(status, "uptime");
	char since[32];

	kmtls_table_cell(table, KMTLS_BOLD, "up");
	kmtls_table_cell(table, KMTLS_PLAIN, "%lldd %02lld:%02lld:%02lld, since %s", up / 86400,
			 up / 3600 % 24, up / 60 % 60, up % 60,
			 kmtls_table_time(number(status, "started"), since));
}

static void put_numbers(struct kmtls_table *table, const json_t *status)
{
	const json_t *flows = json_object_get(status, "flows");
	long long workers = number(status, "workers");

	kmtls_table_cell(table, KMTLS_BOLD, "workers");
	if (workers)
		kmtls_table_cell(table, KMTLS_PLAIN, "%lld", workers);
	else
		kmtls_table_cell(table, KMTLS_PLAIN, "one per CPU");
	kmtls_table_cell(table, KMTLS_BOLD, "pods");
	kmtls_table_cell(table, KMTLS_PLAIN, "%lld", number(status, "pods"));
	kmtls_table_cell(table, KMTLS_BOLD, "flows");
	kmtls_table_cell(table, KMTLS_PLAIN,
			 "%lld established, %lld in handshake, %lld closing, room for %lld",
			 number(flows, "established"), number(flows, "handshake"),
			 number(flows, "closing"), number(flows, "capacity"));
}

static void put_identity(struct kmtls_table *table, const json_t *status)
{
	const char *enabled, *type;

	if (json_unpack((json_t *)json_object_get(status, "identity"), "{s:s, s:s}", "enabled",
			&enabled, "type", &type))
		return; /* an older daemon */
	kmtls_table_cell(table, KMTLS_BOLD, "identity");
	if (*enabled)
		kmtls_table_cell(table, KMTLS_PLAIN, "%s (%s)", enabled, type);
	else
		kmtls_table_cell(table, KMTLS_RED,
				 "no backend is enabled: mutual TLS is off (identity.enabled)");
}

static void put_udp(struct kmtls_table *table, const json_t *status)
{
	const json_t *udp = json_object_get(status, "udp");

	kmtls_table_cell(table, KMTLS_BOLD, "plain UDP");
	kmtls_table_cell(table, KMTLS_PLAIN,
			 "%lld packets (%lld bytes) sent, %lld (%lld) received; %lld of %lld "
			 "entries, %lld packets forgotten",
			 number(udp, "sent_packets"), number(udp, "sent_bytes"),
			 number(udp, "received_packets"), number(udp, "received_bytes"),
			 number(udp, "entries"), number(udp, "capacity"),
			 number(udp, "forgotten_packets"));
}

static void print_counters(const json_t *counters)
{
	static const char *const headings[] = { "COUNTER", "VALUE", "MEANING", NULL };
	struct kmtls_table table = { .columns = 0 };
	const char *name;
	json_t *value;

	if (!json_object_size(counters))
		return;
	putchar('\n');
	kmtls_table_headings(&table, headings);
	json_object_foreach ((json_t *)counters, name, value) {
		kmtls_table_cell(&table, KMTLS_PLAIN, "%s", name);
		kmtls_table_cell(&table, KMTLS_PLAIN, "%lld", (long long)json_integer_value(value));
		kmtls_table_cell(&table, KMTLS_PLAIN, "%s", meaning(name));
	}
	kmtls_table_print(&table);
}

static void print_maps(const json_t *maps)
{
	static const char *const headings[] = { "MAP", "ENTRIES", "ROOM FOR", "FULL", NULL };
	struct kmtls_table table = { .columns = 0 };
	const char *name;
	json_t *map;

	if (!json_object_size(maps))
		return;
	putchar('\n');
	kmtls_table_headings(&table, headings);
	json_object_foreach ((json_t *)maps, name, map) {
		long long entries = number(map, "entries"), capacity = number(map, "capacity");
		long long percent = capacity > 0 ? entries * 100 / capacity : 0;

		kmtls_table_cell(&table, KMTLS_PLAIN, "%s", name);
		kmtls_table_cell(&table, KMTLS_PLAIN, "%lld", entries);
		kmtls_table_cell(&table, KMTLS_PLAIN, "%lld", capacity);
		kmtls_table_cell(&table,
				 percent >= 100	 ? KMTLS_RED
				 : percent >= 80 ? KMTLS_YELLOW
						 : KMTLS_PLAIN,
				 "%lld %%", percent);
	}
	kmtls_table_print(&table);
}

static void print_status(const json_t *status)
{
	struct kmtls_table table = { .columns = 2 };

	put_text(&table, status, "version", "version");
	put_text(&table, status, "OpenSSL", "openssl");
	kmtls_table_cell(&table, KMTLS_BOLD, "keeper");
	kmtls_table_cell(&table, KMTLS_PLAIN, "pid %lld", number(status, "keeper"));
	kmtls_table_cell(&table, KMTLS_BOLD, "worker");
	kmtls_table_cell(&table, KMTLS_PLAIN, "pid %lld, start %lld", number(status, "worker"),
			 number(status, "worker_starts"));
	put_uptime(&table, status);
	put_text(&table, status, "node", "node");
	put_text(&table, status, "kernel", "kernel");
	put_text(&table, status, "mode", "mode");
	put_text(&table, status, "trust domain", "trust_domain");
	put_identity(&table, status);
	kmtls_table_cell(&table, KMTLS_BOLD, "rekey");
	kmtls_table_cell(&table, KMTLS_PLAIN, "%s",
			 json_is_true(json_object_get(status, "rekey")) ? "yes" : "no");
	put_text(&table, status, "log level", "log_level");
	put_numbers(&table, status);
	put_udp(&table, status);
	kmtls_table_print(&table);
	print_maps(json_object_get(status, "maps"));
	print_counters(json_object_get(status, "counters"));
}

int kmtls_cmd_status(struct kmtls_cli *cli, int argc, char **argv)
{
	__cleanup_json json_t *result = NULL;
	int status = kmtls_options_parse(cli, argc, argv, NULL, NULL, NULL);

	if (!status)
		status = kmtls_client_call(cli, "status", NULL, KMTLS_CLIENT_SECONDS, &result);
	if (status)
		return status;
	if (cli->json)
		kmtls_client_print(result);
	else
		print_status(result);
	return KMTLS_EXIT_OK;
}
