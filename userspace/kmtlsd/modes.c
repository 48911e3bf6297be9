/* SPDX-License-Identifier: Apache-2.0 */
/* modes.c - see modes.h. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bpf_loader.h"
#include "config.h"
#include "modes.h"
#include "pods.h"
#include "policy.h"

static int mode_put(struct kmtls_bpf *bpf, __u8 scope, __u8 direction, __u16 port,
		    enum kmtls_mode mode)
{
	struct kmtls_mode_key key = { .scope = scope, .direction = direction, .port = port };
	struct kmtls_mode_value value = { .mode = mode };

	return bpf_map_update_elem(kmtls_bpf_map(bpf, KMTLS_MAP_MODES), &key, &value, BPF_ANY) < 0
		       ? -errno
		       : 0;
}

static enum kmtls_mode mode_at(int fd, const struct kmtls_mode_key *key)
{
	struct kmtls_mode_value value;

	/* Only "no such element" says nothing; what cannot be read must not open anything. */
	if (bpf_map_lookup_elem(fd, key, &value) < 0)
		return errno == ENOENT ? KMTLS_MODE_UNSET : KMTLS_MODE_STRICT;
	return kmtls_mode_read(value.mode);
}

enum kmtls_mode kmtls_modes_at(struct kmtls_bpf *bpf, const struct kmtls_mode_key *key)
{
	return mode_at(kmtls_bpf_map(bpf, KMTLS_MAP_MODES), key);
}

enum kmtls_mode kmtls_modes_mesh(struct kmtls_bpf *bpf, enum kmtls_direction direction)
{
	struct kmtls_mode_key key;

	kmtls_mode_rule_key(KMTLS_MODE_RULE_MESH, 0, 0, direction, 0, &key);
	return kmtls_mode_of_mesh(kmtls_modes_at(bpf, &key));
}

enum kmtls_mode kmtls_modes_resolve_by(const struct kmtls_modes_reader *reader, __u64 pod_name,
				       __u64 pod_namespace, enum kmtls_direction direction,
				       __u16 port, struct kmtls_mode_consulted *ret_consulted)
{
	enum kmtls_mode mesh, result = KMTLS_MODE_UNSET;
	struct kmtls_mode_key key;

	kmtls_mode_rule_key(KMTLS_MODE_RULE_MESH, 0, 0, direction, 0, &key);
	mesh = kmtls_mode_of_mesh(reader->at(reader->context, &key));
	for (int rule = 0; rule < KMTLS_MODE_RULE_COUNT; rule++) {
		struct kmtls_mode_consulted consulted = {};

		if (kmtls_mode_rule_key(rule, pod_name, pod_namespace, direction, port,
					&consulted.key))
			consulted.mode = reader->at(reader->context, &consulted.key);
		consulted.ignored = kmtls_mode_is_ignored(rule, consulted.mode, mesh);
		if (rule == KMTLS_MODE_RULE_MESH && !result)
			result = mesh, consulted.decided = true;
		if (!result && consulted.mode && !consulted.ignored)
			result = consulted.mode, consulted.decided = true;
		if (ret_consulted)
			ret_consulted[rule] = consulted;
	}
	return result;
}

static enum kmtls_mode read_map(void *bpf, const struct kmtls_mode_key *key)
{
	return kmtls_modes_at(bpf, key);
}

enum kmtls_mode kmtls_modes_resolve(struct kmtls_bpf *bpf, __u64 pod_name, __u64 pod_namespace,
				    enum kmtls_direction direction, __u16 port,
				    struct kmtls_mode_consulted *ret_consulted)
{
	const struct kmtls_modes_reader reader = { .at = read_map, .context = bpf };

	return kmtls_modes_resolve_by(&reader, pod_name, pod_namespace, direction, port,
				      ret_consulted);
}

const char *kmtls_mode_name(enum kmtls_mode mode)
{
	switch (mode) {
	case KMTLS_MODE_UNSET:
		return "unset";
	case KMTLS_MODE_OFF:
		return "off";
	case KMTLS_MODE_PERMISSIVE:
		return "permissive";
	default:
		return "strict";
	}
}

static bool is_configured(const struct kmtls_mode_key *key)
{
	return key->id == 0 && (key->scope == KMTLS_SCOPE_MESH || key->scope == KMTLS_SCOPE_PORT);
}

/* Ports excluded by an earlier configuration and not by this one. */
static void delete_configured_ports(struct kmtls_bpf *bpf)
{
	int fd = kmtls_bpf_map(bpf, KMTLS_MAP_MODES);
	struct kmtls_mode_key key, next;
	bool more = bpf_map_get_next_key(fd, NULL, &next) == 0;

	while (more) {
		key = next;
		more = bpf_map_get_next_key(fd, &key, &next) == 0;
		if (is_configured(&key) && key.scope == KMTLS_SCOPE_PORT)
			bpf_map_delete_elem(fd, &key);
	}
}

static int exclude_ports(struct kmtls_bpf *bpf, __u8 direction, const uint16_t *ports,
			 unsigned count)
{
	int err = 0;

	for (unsigned i = 0; !err && i < count; i++)
		err = mode_put(bpf, KMTLS_SCOPE_PORT, direction, ports[i], KMTLS_MODE_OFF);
	return err;
}

int kmtls_modes_apply_config(struct kmtls_bpf *bpf, const struct kmtls_config *config,
			     char *ret_why)
{
	int err;

	delete_configured_ports(bpf);
	err = mode_put(bpf, KMTLS_SCOPE_MESH, KMTLS_INBOUND, 0, config->mode);
	if (!err)
		err = mode_put(bpf, KMTLS_SCOPE_MESH, KMTLS_OUTBOUND, 0, config->mode);
	if (!err)
		err = exclude_ports(bpf, KMTLS_OUTBOUND, config->exclude.outbound_ports,
				    config->exclude.outbound_ports_count);
	if (!err)
		err = exclude_ports(bpf, KMTLS_INBOUND, config->exclude.inbound_ports,
				    config->exclude.inbound_ports_count);
	if (!err)
		err = kmtls_policy_bump_generation(bpf);
	if (err)
		snprintf(ret_why, KMTLS_WHY, "the modes map refused an entry: %s", strerror(-err));
	return err;
}
