/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_maps.c - `kmtls check`, the pinned maps: are they there, of the version this command speaks,
 * and how full. Read from the pins, so a daemon that does not answer is not needed.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "cleanup.h"
#include "map_walk.h"

#define WARN_PERCENT 80

static const struct expected {
	const char *name;
	__u32 key_size, value_size;
	bool refuses; /* a write, when it is full */
} maps[] = {
	{ "settings", 4, sizeof(struct kmtls_settings), false },
	{ "modes", sizeof(struct kmtls_mode_key), sizeof(struct kmtls_mode_value), true },
	{ "peers", sizeof(struct kmtls_peer_key), sizeof(struct kmtls_peer_value), true },
	{ "authorizations", sizeof(struct kmtls_authorization_key),
	  sizeof(struct kmtls_authorization_value), true },
	{ "names", 8, sizeof(struct kmtls_name_value), true },
	{ "pods", 8, sizeof(struct kmtls_pod_value), true },
	{ "flows", 4, sizeof(struct kmtls_flow), false },
	{ "counters", 4, 8, false },
	{ "udp_ledger", sizeof(struct kmtls_udp_key), sizeof(struct kmtls_udp_value), false },
	{ "udp_totals", 8, sizeof(struct kmtls_udp_value), true },
	{ "peer_expiries", sizeof(struct kmtls_peer_expiry_key),
	  sizeof(struct kmtls_peer_expiry_value), false },
};
#define MAPS (sizeof(maps) / sizeof(maps[0]))

static int open_map(const struct kmtls_check *check, const char *name)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", check->bpf_dir, name);
	fd = bpf_obj_get(path);
	return fd < 0 ? -errno : fd;
}

static const char *advice_for(int err)
{
	return err == -EPERM || err == -EACCES
		       ? "run kmtls as root"
		       : "start kmtlsd, or name its bpf_dir (--bpf-dir DIR)";
}

/* False: there is nothing to look at. */
static bool check_version(struct kmtls_check *check)
{
	__cleanup_fd int fd = open_map(check, "settings");
	struct kmtls_settings settings = { .abi_version = 0 };
	__u32 zero = 0;

	if (fd < 0) {
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "pinned", advice_for(fd),
				"%s/settings: %s", check->bpf_dir, strerror(-fd));
		return false;
	}
	if (bpf_map_lookup_elem(fd, &zero, &settings) == 0 &&
	    settings.abi_version == KMTLS_ABI_VERSION)
		return true;
	kmtls_check_add(
		check, KMTLS_CHECK_FAILED, "version",
		"use the kmtls of the version that runs, or kmtlsd --uninstall and start anew",
		"%s: the maps are of version %u, this kmtls speaks %u", check->bpf_dir,
		settings.abi_version, KMTLS_ABI_VERSION);
	return false;
}

static void check_shapes(struct kmtls_check *check)
{
	for (size_t i = 0; i < MAPS; i++) {
		struct bpf_map_info info = {};
		__u32 length = sizeof(info);
		__cleanup_fd int fd = open_map(check, maps[i].name);

		if (fd < 0) {
			kmtls_check_add(check, KMTLS_CHECK_FAILED, "pinned", advice_for(fd),
					"%s/%s: %s", check->bpf_dir, maps[i].name, strerror(-fd));
			return;
		}
		if (bpf_obj_get_info_by_fd(fd, &info, &length) == 0 &&
		    info.key_size == maps[i].key_size && info.value_size == maps[i].value_size)
			continue;
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "pinned",
				"kmtlsd --uninstall, then start kmtlsd",
				"%s/%s: keys of %u and values of %u bytes, not %u and %u",
				check->bpf_dir, maps[i].name, info.key_size, info.value_size,
				maps[i].key_size, maps[i].value_size);
		return;
	}
	kmtls_check_add(check, KMTLS_CHECK_OK, "pinned", NULL, "%zu maps at %s, version %u", MAPS,
			check->bpf_dir, KMTLS_ABI_VERSION);
}

static void add_fill(struct kmtls_check *check, const char *name, size_t entries, size_t capacity,
		     const char *advice)
{
	size_t percent = capacity ? entries * 100 / capacity : 0;

	if (percent >= WARN_PERCENT)
		kmtls_check_add(check,
				entries >= capacity ? KMTLS_CHECK_FAILED : KMTLS_CHECK_WARNING,
				"fill", advice, "%s: %s, %zu of %zu entries", name,
				entries >= capacity ? "full" : "almost full", entries, capacity);
}

static int count_flow(void *context, const void *key, const void *value)
{
	const struct kmtls_flow *flow = value;

	*(size_t *)context += flow->state != KMTLS_FLOW_FREE;
	return 0;
}

static void check_flows(struct kmtls_check *check)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	__cleanup_fd int fd = open_map(check, "flows");
	size_t used = 0;

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &length) < 0 ||
	    kmtls_map_walk(fd, count_flow, &used) < 0)
		return; /* check_shapes() has said so */
	add_fill(check, "flows", used, info.max_entries,
		 "raise max_flows (kmtlsd.conf(5)): new connections are refused as table-full");
	if (used * 100 < (size_t)info.max_entries * WARN_PERCENT)
		kmtls_check_add(check, KMTLS_CHECK_OK, "flows", NULL,
				"%zu of %u slots of the flow table are taken", used,
				info.max_entries);
}

static void check_fill(struct kmtls_check *check)
{
	static const char *const internal[] = { "internal/listeners", "internal/own_addresses" };
	static const char advice[] = "remove entries that are not needed: writes are refused when "
				     "it is full";
	size_t entries, capacity, before = json_array_size(check->findings);
	int fd;

	for (size_t i = 0; i < MAPS + 2; i++) {
		const char *name = i < MAPS ? maps[i].name : internal[i - MAPS];

		if (i < MAPS && !maps[i].refuses)
			continue;
		fd = open_map(check, name);
		if (fd < 0)
			continue;
		if (kmtls_map_count(fd, &entries, &capacity) == 0)
			add_fill(check, name, entries, capacity, advice);
		close(fd);
	}
	if (json_array_size(check->findings) == before)
		kmtls_check_add(check, KMTLS_CHECK_OK, "fill", NULL, "all are less than %d %% full",
				WARN_PERCENT);
}

static void check_counter(struct kmtls_check *check)
{
	__cleanup_fd int fd = open_map(check, "counters");
	int cpus = libbpf_num_possible_cpus();
	__u32 reason = KMTLS_REASON_MAP_FULL;
	__cleanup_free __u64 *values = cpus > 0 ? calloc(cpus, sizeof(*values)) : NULL;
	__u64 sum = 0;

	if (fd < 0 || !values || bpf_map_lookup_elem(fd, &reason, values) < 0)
		return;
	for (int i = 0; i < cpus; i++)
		sum += values[i];
	if (sum)
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "map_full",
				"look at the daemon's log for which map, and write again what is "
				"missing",
				"full maps refused %llu writes so far (counter map-full)",
				(unsigned long long)sum);
	else
		kmtls_check_add(check, KMTLS_CHECK_OK, "map_full", NULL,
				"no write was refused by a full map");
}

void kmtls_check_maps(struct kmtls_check *check)
{
	check->group = "maps";
	if (!check_version(check))
		return;
	check_shapes(check);
	check_fill(check);
	check_flows(check);
	check_counter(check);
}
