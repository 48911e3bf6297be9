/* SPDX-License-Identifier: Apache-2.0 */
/* modes.c - see modes.h. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bpf_loader.h"
#include "config.h"
#include "map_walk.h"
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

enum kmtls_mode kmtls_modes_decide(struct kmtls_mode_consulted *consulted)
{
	enum kmtls_mode mesh = kmtls_mode_of_mesh(consulted[KMTLS_MODE_RULE_MESH].mode);

	for (unsigned rule = 0; rule < KMTLS_MODE_RULE_MESH; rule++)
		consulted[rule].ignored = kmtls_mode_is_ignored(rule, consulted[rule].mode, mesh);
	for (unsigned rule = 0; rule < KMTLS_MODE_RULE_MESH; rule++) {
		if (consulted[rule].mode == KMTLS_MODE_UNSET || consulted[rule].ignored)
			continue;
		consulted[rule].decided = true;
		return consulted[rule].mode;
	}
	consulted[KMTLS_MODE_RULE_MESH].decided = true;
	return mesh;
}

enum kmtls_mode kmtls_modes_resolve_by(const struct kmtls_modes_reader *reader, __u64 pod_name,
				       __u64 pod_namespace, enum kmtls_direction direction,
				       __u16 port, struct kmtls_mode_consulted *ret_consulted)
{
	struct kmtls_mode_consulted consulted[KMTLS_MODE_RULE_COUNT] = {};
	enum kmtls_mode result;

	for (unsigned rule = 0; rule < KMTLS_MODE_RULE_COUNT; rule++)
		if (kmtls_mode_rule_key(rule, pod_name, pod_namespace, direction, port,
					&consulted[rule].key))
			consulted[rule].mode = reader->at(reader->context, &consulted[rule].key);
	result = kmtls_modes_decide(consulted);
	if (ret_consulted)
		memcpy(ret_consulted, consulted, sizeof(consulted));
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

struct changed_map {
	struct kmtls_bpf *bpf;
	const struct kmtls_mode_change *change;
};

static enum kmtls_mode read_changed_map(void *context, const struct kmtls_mode_key *key)
{
	const struct changed_map *map = context;
	const struct kmtls_mode_key *changed = &map->change->key;

	if (changed->scope == key->scope && changed->id == key->id && changed->port == key->port &&
	    (!changed->direction || changed->direction == key->direction))
		return map->change->mode;
	return kmtls_modes_at(map->bpf, key);
}

enum kmtls_mode kmtls_modes_resolve_if(struct kmtls_bpf *bpf,
				       const struct kmtls_mode_change *change, __u64 pod_name,
				       __u64 pod_namespace, enum kmtls_direction direction,
				       __u16 port, struct kmtls_mode_consulted *ret_consulted)
{
	struct changed_map map = { .bpf = bpf, .change = change };
	const struct kmtls_modes_reader reader = { .at = read_changed_map, .context = &map };

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

int kmtls_mode_parse(const char *text, enum kmtls_mode *ret_mode)
{
	for (enum kmtls_mode mode = KMTLS_MODE_OFF; mode <= KMTLS_MODE_STRICT; mode++) {
		if (strcmp(text, kmtls_mode_name(mode)) == 0) {
			*ret_mode = mode;
			return 0;
		}
	}
	return -EINVAL;
}

/* ---- changes ---- */

enum kmtls_mode_rule kmtls_modes_rule_of(const struct kmtls_mode_key *key)
{
	switch (key->scope) {
	case KMTLS_SCOPE_MESH:
		return KMTLS_MODE_RULE_MESH;
	case KMTLS_SCOPE_NAMESPACE:
		return KMTLS_MODE_RULE_NAMESPACE;
	case KMTLS_SCOPE_POD:
		return KMTLS_MODE_RULE_POD;
	case KMTLS_SCOPE_PORT:
		return key->id ? KMTLS_MODE_RULE_POD_PORT : KMTLS_MODE_RULE_PORT;
	default:
		return KMTLS_MODE_RULE_COUNT;
	}
}

int kmtls_modes_visit(struct kmtls_bpf *bpf,
		      int (*visit)(void *context, const void *key, const void *value),
		      void *context)
{
	return kmtls_map_walk(kmtls_bpf_map(bpf, KMTLS_MAP_MODES), visit, context);
}

/* UNSET: there is none. */
static int element_put(int fd, const struct kmtls_mode_key *key, __u32 mode)
{
	struct kmtls_mode_value value = { .mode = mode };

	if (mode == KMTLS_MODE_UNSET)
		return bpf_map_delete_elem(fd, key) < 0 && errno != ENOENT ? -errno : 0;
	return bpf_map_update_elem(fd, key, &value, BPF_ANY) < 0 ? kmtls_policy_map_refused(errno)
								 : 0;
}

/* Raw, as it is: what nobody can read must come back the same when a change is taken back. */
static int element_get(int fd, const struct kmtls_mode_key *key, __u32 *ret_mode)
{
	struct kmtls_mode_value value = { .mode = KMTLS_MODE_UNSET };

	if (bpf_map_lookup_elem(fd, key, &value) < 0 && errno != ENOENT)
		return -errno;
	*ret_mode = value.mode;
	return 0;
}

static int apply(int fd, const struct kmtls_mode_change *change)
{
	static const __u8 both[] = { KMTLS_INBOUND, KMTLS_OUTBOUND };
	struct kmtls_mode_key keys[2];
	unsigned count = 0;
	__u32 before[2] = { 0 };
	int err = 0;

	for (unsigned i = 0; i < 2; i++) {
		if (change->key.direction && change->key.direction != both[i])
			continue;
		keys[count] = change->key;
		keys[count].direction = both[i];
		err = element_get(fd, &keys[count], &before[count]);
		if (err)
			return err;
		count++;
	}
	if (change->mode == KMTLS_MODE_UNSET && !before[0] && (count == 1 || !before[1]))
		return -ENOENT;
	for (unsigned i = 0; !err && i < count; i++) {
		err = element_put(fd, &keys[i], change->mode);
		if (err && i)
			element_put(fd, &keys[0], before[0]);
	}
	return err;
}

int kmtls_modes_change(struct kmtls_bpf *bpf, const struct kmtls_mode_change *change, char *ret_why)
{
	int err = apply(kmtls_bpf_map(bpf, KMTLS_MAP_MODES), change);

	if (!err)
		err = kmtls_policy_bump_generation(bpf);
	if (err == -ENOENT)
		snprintf(ret_why, KMTLS_WHY, "nothing is said there");
	else if (err)
		snprintf(ret_why, KMTLS_WHY, "the modes map refused the entry: %s",
			 err == -ENOSPC ? "it is full" : strerror(-err));
	return err;
}

/* ---- the configuration ---- */

static bool is_configured(const struct kmtls_mode_key *key)
{
	return key->id == 0 && (key->scope == KMTLS_SCOPE_MESH || key->scope == KMTLS_SCOPE_PORT);
}

/* Ports excluded by an earlier configuration and not by this one. It says nothing but off: what
 * an operator has made strict for every pod stays so. */
static void delete_configured_ports(struct kmtls_bpf *bpf)
{
	int fd = kmtls_bpf_map(bpf, KMTLS_MAP_MODES);
	struct kmtls_mode_key key, next;
	bool more = bpf_map_get_next_key(fd, NULL, &next) == 0;

	while (more) {
		key = next;
		more = bpf_map_get_next_key(fd, &key, &next) == 0;
		if (is_configured(&key) && key.scope == KMTLS_SCOPE_PORT &&
		    mode_at(fd, &key) == KMTLS_MODE_OFF)
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

/* A configuration that does not name a mode leaves what has been said at run time. */
static int configure_mesh(struct kmtls_bpf *bpf, __u8 direction, enum kmtls_mode mode)
{
	struct kmtls_mode_key key;

	kmtls_mode_rule_key(KMTLS_MODE_RULE_MESH, 0, 0, direction, 0, &key);
	if (mode == KMTLS_MODE_UNSET) {
		if (mode_at(kmtls_bpf_map(bpf, KMTLS_MAP_MODES), &key) != KMTLS_MODE_UNSET)
			return 0;
		mode = KMTLS_MODE_PERMISSIVE;
	}
	return mode_put(bpf, KMTLS_SCOPE_MESH, direction, 0, mode);
}

int kmtls_modes_apply_config(struct kmtls_bpf *bpf, const struct kmtls_config *config,
			     char *ret_why)
{
	int err;

	delete_configured_ports(bpf);
	err = configure_mesh(bpf, KMTLS_INBOUND, config->mode);
	if (!err)
		err = configure_mesh(bpf, KMTLS_OUTBOUND, config->mode);
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
