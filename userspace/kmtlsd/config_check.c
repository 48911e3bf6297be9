/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_check.c - what a schema cannot say about the configuration: ranges, spelling of
 * numbers and durations, paths, duplicates, and what excludes what.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_parts.h"
#include "metrics_socket.h"

bool kmtls_config_has(const struct kmtls_config_load *load, const char *key)
{
	return kmtls_yaml_find(&load->yaml, key, -1) != NULL;
}

bool kmtls_config_is_path(const char *text, size_t limit)
{
	if (*text != '/' || strlen(text) > limit)
		return false;
	for (const char *c = text; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return false;
		if (!strncmp(c, "/..", 3) && (c[3] == '/' || !c[3]))
			return false;
	}
	return true;
}

bool kmtls_config_is_name(const char *text, const char *letters, size_t limit)
{
	size_t length = strlen(text);

	return length && length <= limit && strspn(text, letters) == length;
}

/* Plain decimal digits: libcyaml would take 0x10, 010 and "-18446744073709551615" as well. */
static bool is_number(const struct kmtls_yaml_entry *entry)
{
	size_t digits = entry->text ? strspn(entry->text, "0123456789") : 0;

	return entry->plain && digits && !entry->text[digits] &&
	       (digits == 1 || *entry->text != '0');
}

int kmtls_config_parse_duration(const char *text, unsigned *ret_seconds)
{
	static const struct {
		const char *unit;
		unsigned seconds;
	} units[] = { { "", 1 },
		      { "s", 1 },
		      { "m", KMTLS_CONFIG_MINUTE },
		      { "h", KMTLS_CONFIG_HOUR },
		      { "d", KMTLS_CONFIG_DAY } };
	size_t digits = strspn(text, "0123456789");
	unsigned long long value;

	if (!digits || digits > 10 || (digits > 1 && *text == '0'))
		return -EINVAL;
	value = strtoull(text, NULL, 10);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(text + digits, units[i].unit))
			continue;
		if (value > UINT_MAX / units[i].seconds)
			return -ERANGE;
		*ret_seconds = (unsigned)value * units[i].seconds;
		return 0;
	}
	return -EINVAL;
}

int kmtls_config_check_duration(struct kmtls_config_load *load, const char *key, const char *text,
				unsigned from, unsigned to, unsigned *seconds)
{
	unsigned value;

	if (!kmtls_config_has(load, key))
		return 0;
	if (kmtls_config_parse_duration(text, &value) || value < from || value > to)
		return kmtls_config_refuse(load, key);
	*seconds = value;
	return 0;
}

/* "250ms", or a duration in whole seconds -> milliseconds. */
static int check_peek_timeout(struct kmtls_config_load *load, struct kmtls_config *config)
{
	const char *text = load->file->peek_timeout;
	unsigned value;
	size_t digits;

	if (!kmtls_config_has(load, "peek_timeout"))
		return 0;
	digits = strspn(text, "0123456789");
	if (digits && digits < 6 && *text != '0' && !strcmp(text + digits, "ms"))
		value = strtoul(text, NULL, 10);
	else if (kmtls_config_parse_duration(text, &value) == 0 && value <= 10)
		value *= 1000;
	else
		value = 0;
	if (value < 10 || value > 10000)
		return kmtls_config_refuse(load, "peek_timeout");
	config->peek_timeout_ms = value;
	return 0;
}

/* "1048576", "64MiB", "2GiB" -> bytes. */
static int parse_size(const char *text, uint64_t *ret_bytes)
{
	static const struct {
		const char *unit;
		unsigned shift;
	} units[] = { { "", 0 }, { "KiB", 10 }, { "MiB", 20 }, { "GiB", 30 } };
	size_t digits = strspn(text, "0123456789");
	unsigned long long value;

	if (!digits || digits > 15 || (digits > 1 && *text == '0'))
		return -EINVAL;
	value = strtoull(text, NULL, 10);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(text + digits, units[i].unit))
			continue;
		if (value > UINT64_MAX >> units[i].shift)
			return -ERANGE;
		*ret_bytes = value << units[i].shift;
		return 0;
	}
	return -EINVAL;
}

static int check_keys(struct kmtls_config_load *load, struct kmtls_config *config)
{
	const struct kmtls_config_file *file = load->file;
	uint64_t limit;

	config->rekey = file->rekey != 2;
	config->close_at_key_limit = file->key_limit_action == 2;
	config->prefer_chacha20 = file->prefer_chacha20 == 1;
	config->resumption_symmetric = file->resumption_symmetric == 1;
	if (!kmtls_config_has(load, "key_limit"))
		return 0;
	if (parse_size(file->key_limit, &limit) || limit < 1024 * 1024 ||
	    limit > KMTLS_CONFIG_KEY_LIMIT)
		return kmtls_config_refuse(load, "key_limit");
	config->key_limit = limit;
	return 0;
}

int kmtls_config_check_number(struct kmtls_config_load *load, const char *key, unsigned value,
			      unsigned from, unsigned to, unsigned *number)
{
	const struct kmtls_yaml_entry *entry = kmtls_yaml_find(&load->yaml, key, -1);

	if (!entry)
		return 0;
	if (!is_number(entry) || value < from || value > to)
		return kmtls_config_refuse(load, key);
	*number = value;
	return 0;
}

static int check_ports(struct kmtls_config_load *load, const char *key, const uint16_t *ports,
		       unsigned count)
{
	unsigned char seen[65536 / 8] = { 0 };
	char rule[64];

	for (unsigned i = 0; i < load->yaml.count; i++) {
		const struct kmtls_yaml_entry *entry = &load->yaml.entries[i];

		if (entry->item >= 0 && !strcmp(entry->key, key) && !is_number(entry))
			return kmtls_config_refuse_item(load, key, entry->item,
							kmtls_config_rule(key));
	}
	for (unsigned i = 0; i < count; i++) {
		if (!ports[i])
			return kmtls_config_refuse_item(load, key, (int)i, kmtls_config_rule(key));
		if (seen[ports[i] / 8] & 1 << ports[i] % 8) {
			snprintf(rule, sizeof(rule), "port %u is listed twice", ports[i]);
			return kmtls_config_refuse_item(load, key, (int)i, rule);
		}
		seen[ports[i] / 8] |= (unsigned char)(1 << ports[i] % 8);
	}
	return 0;
}

static int check_paths(struct kmtls_config_load *load)
{
	const struct kmtls_config_file *file = load->file;
	const struct {
		const char *key, *value;
		size_t limit;
	} paths[] = {
		{ "bpf_dir", file->bpf_dir, KMTLS_CONFIG_PATH_MAX },
		{ "run_dir", file->run_dir, KMTLS_CONFIG_PATH_MAX },
		{ "control_socket", file->control_socket, KMTLS_CONFIG_SOCKET_MAX },
		{ "cgroup", file->cgroup, KMTLS_CONFIG_PATH_MAX },
	};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		if (paths[i].value && !kmtls_config_is_path(paths[i].value, paths[i].limit))
			return kmtls_config_refuse(load, paths[i].key);
	}
	return 0;
}

static int check_metrics(struct kmtls_config_load *load)
{
	const char *listen = load->file->metrics.listen;
	struct kmtls_endpoint endpoint;

	if (!listen)
		return kmtls_config_has(load, "metrics")
			       ? kmtls_config_refuse_item(load, "metrics", -1,
							  "has no key `listen`")
			       : 0;
	if (listen[0] == '/' ? !kmtls_config_is_path(listen, KMTLS_CONFIG_SOCKET_MAX)
			     : kmtls_metrics_socket_parse(listen, &endpoint) < 0)
		return kmtls_config_refuse(load, "metrics.listen");
	return 0;
}

static int check_limits(struct kmtls_config_load *load, struct kmtls_config *config)
{
	const struct kmtls_config_file_limits *file = &load->file->limits;
	const struct {
		const char *key;
		unsigned value, from, to, *number;
	} limits[] = {
		{ "limits.handshakes", file->handshakes, 0, 1048576, &config->limits.handshakes },
		{ "limits.handshakes_per_source", file->handshakes_per_source, 0, 1048576,
		  &config->limits.handshakes_per_source },
		{ "limits.flows_per_pod", file->flows_per_pod, 0, 1048576,
		  &config->limits.flows_per_pod },
		{ "limits.memory_percent", file->memory_percent, 0, 100,
		  &config->limits.memory_percent },
		{ "limits.refusal_lines", file->refusal_lines, 0, 1000000,
		  &config->limits.refusal_lines },
	};
	int err = 0;

	for (size_t i = 0; !err && i < sizeof(limits) / sizeof(limits[0]); i++)
		err = kmtls_config_check_number(load, limits[i].key, limits[i].value,
						limits[i].from, limits[i].to, limits[i].number);
	return err;
}

/* The kernel takes at most 32767 seconds. */
#define KEEPALIVE_MAX (9 * KMTLS_CONFIG_HOUR)

static int check_timeouts(struct kmtls_config_load *load, struct kmtls_config *config)
{
	const struct kmtls_config_file_keepalive *keepalive = &load->file->keepalive;
	int err;

	err = kmtls_config_check_duration(load, "handshake_timeout", load->file->handshake_timeout,
					  1, 5 * KMTLS_CONFIG_MINUTE, &config->handshake_timeout);
	if (!err)
		err = check_peek_timeout(load, config);
	if (!err)
		err = kmtls_config_check_duration(load, "peer_timeout", load->file->peer_timeout, 0,
						  KMTLS_CONFIG_DAY, &config->peer_timeout);
	if (!err)
		err = kmtls_config_check_duration(load, "resumption", load->file->resumption, 0,
						  KMTLS_CONFIG_HOUR, &config->resumption);
	if (!err)
		err = kmtls_config_check_duration(load, "keepalive.idle", keepalive->idle, 0,
						  KEEPALIVE_MAX, &config->keepalive.idle);
	if (!err)
		err = kmtls_config_check_duration(load, "keepalive.interval", keepalive->interval,
						  1, KEEPALIVE_MAX, &config->keepalive.interval);
	if (!err)
		err = kmtls_config_check_number(load, "keepalive.probes", keepalive->probes, 1, 127,
						&config->keepalive.probes);
	return err;
}

int kmtls_config_check(struct kmtls_config_load *load, struct kmtls_config *config)
{
	const struct kmtls_config_file *file = load->file;
	int err;

	if (file->node &&
	    !kmtls_config_is_name(file->node, KMTLS_CONFIG_LOWER KMTLS_CONFIG_UPPER, 253))
		return kmtls_config_refuse(load, "node");
	err = check_paths(load);
	if (!err)
		err = kmtls_config_check_number(load, "workers", file->workers, 0, 256,
						&config->workers);
	if (!err)
		err = kmtls_config_check_number(load, "max_flows", file->max_flows, 64, 1048576,
						&config->max_flows);
	if (!err)
		err = kmtls_config_check_number(load, "max_udp_peers", file->max_udp_peers, 64,
						1048576, &config->max_udp_peers);
	if (!err)
		err = check_timeouts(load, config);
	if (!err)
		err = check_keys(load, config);
	if (!err)
		err = check_ports(load, "exclude.outbound_ports", file->exclude.outbound_ports,
				  file->exclude.outbound_ports_count);
	if (!err)
		err = check_ports(load, "exclude.inbound_ports", file->exclude.inbound_ports,
				  file->exclude.inbound_ports_count);
	if (!err)
		err = check_limits(load, config);
	if (!err)
		err = check_metrics(load);
	return err ? err : kmtls_config_check_identity(load, config);
}
