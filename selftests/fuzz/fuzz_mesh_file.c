/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_mesh_file.c - libFuzzer target: a declared policy as `kmtls apply` reads it. Beside the
 * sanitizers: what was accepted is sorted and each thing said once, can be read by the programs,
 * and has its texts; and what was refused says why.
 */
#include <string.h>

#include "authorization.h"
#include "fuzz.h"
#include "hash.h"
#include "mesh_file.h"

static bool is_named(const struct kmtls_mesh_file *file, __u64 hash)
{
	for (size_t i = 0; i < file->peers.name_count; i++)
		if (file->peers.names[i].hash == hash)
			return kmtls_hash_text(file->peers.names[i].text) == hash;
	return false;
}

static void check_modes(const struct kmtls_mesh_file *file)
{
	for (size_t i = 0; i < file->modes.count; i++) {
		const struct kmtls_mode_entry *entry = &file->modes.entries[i];
		const struct kmtls_mode_key *key = &entry->key;

		HOLDS(!i || memcmp(&entry[-1].key, key, sizeof(*key)) < 0);
		HOLDS(entry->mode >= KMTLS_MODE_OFF && entry->mode <= KMTLS_MODE_STRICT);
		HOLDS(key->scope >= KMTLS_SCOPE_MESH && key->scope <= KMTLS_SCOPE_PORT);
		HOLDS(key->direction == KMTLS_INBOUND || key->direction == KMTLS_OUTBOUND);
		HOLDS((key->scope == KMTLS_SCOPE_PORT) == (key->port != 0) && !key->pad);
		HOLDS(key->scope != KMTLS_SCOPE_MESH || !key->id);
		HOLDS(!key->id || is_named(file, key->id));
		HOLDS(entry->line);
	}
}

static void check_rules(const struct kmtls_mesh_file *file)
{
	for (size_t i = 0; i < file->authorizations.count; i++) {
		const struct kmtls_authorization_entry *entry = &file->authorizations.entries[i];
		const struct kmtls_authorization_key *key = &entry->key;

		HOLDS(!i || memcmp(&entry[-1].key, key, sizeof(*key)) < 0);
		HOLDS(kmtls_authorization_is_readable(key));
		HOLDS(entry->action >= KMTLS_AUTHORIZATION_ALLOW &&
		      entry->action <= KMTLS_AUTHORIZATION_DRY_RUN);
		HOLDS(!key->source || is_named(file, key->source));
		HOLDS(!key->destination || is_named(file, key->destination));
	}
}

static void check_peers(const struct kmtls_mesh_file *file)
{
	for (size_t i = 0; i < file->peers.table.count; i++) {
		const struct kmtls_peer_entry *entry = &file->peers.table.entries[i];

		HOLDS(!i || kmtls_peer_key_compare(&entry[-1].key, &entry->key) < 0);
		HOLDS(entry->value.kind == KMTLS_PEER_BYPASS ||
		      is_named(file, entry->value.identity));
		HOLDS(entry->value.port_count <= KMTLS_BYPASS_PORTS);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kmtls_mesh_file_error error = { .line = 0 };
	struct kmtls_mesh_plan plan;
	struct kmtls_mesh_file file;

	if (kmtls_mesh_file_parse((const char *)data, size, &file, &error)) {
		HOLDS(error.rule[0] && strlen(error.rule) < sizeof(error.rule));
		HOLDS(strlen(error.key) < sizeof(error.key));
		return 0;
	}
	check_modes(&file);
	check_rules(&file);
	check_peers(&file);
	HOLDS(file.has_modes || !file.modes.count);
	HOLDS(!kmtls_mesh_plan_make(&file.modes, &file.modes, true, &file.authorizations,
				    &file.authorizations, true, &plan));
	HOLDS(!plan.mode_count && !plan.authorization_count);
	kmtls_mesh_plan_free(&plan);
	kmtls_mesh_file_free(&file);
	return 0;
}
