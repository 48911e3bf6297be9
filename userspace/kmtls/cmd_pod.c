/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_pod.c - kmtls pod add, del, list. */
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "cli.h"
#include "json.h"
#include "table.h"

/* Loading and attaching programs for a pod takes the kernel's verifier its time. */
#define ADD_SECONDS 60

static const char *const name_only[] = { "NAME", NULL };

static int add(struct kmtls_cli *cli, const char *name, const char *netns, const char *cgroup,
	       const char *id, const char *connect, const char *accel)
{
	__cleanup_free char *netns_path = NULL, *cgroup_path = NULL;
	json_t *arguments;
	int err;

	if (connect && strcmp(connect, "held") != 0 && strcmp(connect, "at-once") != 0)
		return kmtls_cli_usage(cli, "--connect: %s: must be held or at-once", connect);
	if (accel && strcmp(accel, "off") != 0 && strcmp(accel, "on") != 0 &&
	    strcmp(accel, "auto") != 0)
		return kmtls_cli_usage(cli, "--accel: %s: must be off, on or auto", accel);
	err = kmtls_options_path(cli, "--netns", netns, &netns_path);
	if (!err)
		err = kmtls_options_path(cli, "--cgroup", cgroup, &cgroup_path);
	if (!err)
		err = kmtls_options_spiffe_id(cli, "--id", id);
	if (err)
		return err;
	arguments = json_pack("{s:o, s:o, s:o, s:o}", "name", kmtls_json_string(name), "netns",
			      kmtls_json_string(netns_path), "cgroup",
			      kmtls_json_string(cgroup_path), "id", kmtls_json_string(id));
	if (connect)
		json_object_set_new(arguments, "connect", kmtls_json_string(connect));
	if (accel)
		json_object_set_new(arguments, "accel", kmtls_json_string(accel));
	return kmtls_client_do(cli, "pod-add", arguments, ADD_SECONDS);
}

int kmtls_cmd_pod_add(struct kmtls_cli *cli, int argc, char **argv)
{
	const char *name, *netns = NULL, *cgroup = NULL, *id = NULL, *connect = NULL, *accel = NULL;
	const struct kmtls_option options[] = {
		{ .name = "--netns", .values = &netns, .limit = 1 },
		{ .name = "--cgroup", .values = &cgroup, .limit = 1 },
		{ .name = "--id", .values = &id, .limit = 1 },
		{ .name = "--connect", .values = &connect, .limit = 1 },
		{ .name = "--accel", .values = &accel, .limit = 1 },
		{ .name = NULL },
	};
	int err = kmtls_options_parse(cli, argc, argv, options, name_only, &name);

	if (err)
		return err;
	for (const struct kmtls_option *option = options; option->name; option++) {
		if (!*option->values && option->values != &connect && option->values != &accel)
			return kmtls_cli_usage(cli, "%s: is missing", option->name);
	}
	return add(cli, name, netns, cgroup, id, connect, accel);
}

int kmtls_cmd_pod_delete(struct kmtls_cli *cli, int argc, char **argv)
{
	const char *name;
	int err = kmtls_options_parse(cli, argc, argv, NULL, name_only, &name);

	if (err)
		return err;
	return kmtls_client_do(cli, "pod-del", json_pack("{s:o}", "name", kmtls_json_string(name)),
			       KMTLS_CLIENT_SECONDS);
}

static void put_addresses(struct kmtls_table *table, const json_t *list)
{
	const char *first = json_string_value(json_array_get(list, 0));
	const char *second = json_string_value(json_array_get(list, 1));

	kmtls_table_cell(table, KMTLS_PLAIN, "%s%s%s", first ? first : "", second ? "," : "",
			 second ? second : "");
}

static void put_expiry(struct kmtls_table *table, long long not_after)
{
	char text[32];

	if (!not_after)
		kmtls_table_cell(table, KMTLS_RED, "none");
	else
		kmtls_table_cell(table, not_after < time(NULL) ? KMTLS_RED : KMTLS_PLAIN, "%s",
				 kmtls_table_time(not_after, text));
}

static int put_pod(struct kmtls_table *table, const json_t *pod)
{
	const char *name, *id, *netns, *cgroup, *connect, *accel;
	int accelerated;
	json_int_t not_after, flows;
	json_t *addresses;

	if (json_unpack((json_t *)pod, "{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:o, s:I, s:I}", "name",
			&name, "id", &id, "netns", &netns, "cgroup", &cgroup, "connect", &connect,
			"accel", &accel, "accelerated", &accelerated, "addresses", &addresses,
			"svid_not_after", &not_after, "flows", &flows))
		return -1;
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", name);
	put_addresses(table, addresses);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", id);
	put_expiry(table, not_after);
	kmtls_table_cell(table, KMTLS_PLAIN, "%lld", (long long)flows);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", connect);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s%s", accel,
			 strcmp(accel, "auto") ? ""
			 : accelerated	       ? "/on"
					       : "/off");
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", netns);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", cgroup);
	return 0;
}

int kmtls_cmd_pod_list(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const headings[] = { "NAME",	  "ADDRESS", "ID",    "SVID-EXPIRES",
						"FLOWS",  "CONNECT", "ACCEL", "NETNS",
						"CGROUP", NULL };

	return kmtls_table_show(cli, argc, argv, "pod-list", headings, put_pod);
}
