/* SPDX-License-Identifier: Apache-2.0 */
/* mesh_maps.c - see mesh_maps.h. */
#include "mesh_maps.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "map_walk.h"
#include "map_write.h"
#include "settings_map.h"

/* ---- opening, reading ---- */

int kmtls_mesh_maps_open(const char *directory, struct kmtls_mesh_maps *ret_maps, char *ret_why)
{
	struct kmtls_mesh_maps maps = { .modes = -1, .authorizations = -1 };
	int err = kmtls_peer_maps_open(directory, &maps.peers, ret_why);

	if (err < 0)
		return err;
	err = maps.modes = kmtls_peer_maps_open_map(
		directory, "modes", sizeof(struct kmtls_mode_key), sizeof(struct kmtls_mode_value),
		&maps.mode_capacity, ret_why);
	if (err >= 0)
		err = maps.authorizations = kmtls_peer_maps_open_map(
			directory, "authorizations", sizeof(struct kmtls_authorization_key),
			sizeof(struct kmtls_authorization_value), &maps.authorization_capacity,
			ret_why);
	if (err < 0) {
		kmtls_mesh_maps_close(&maps);
		return err;
	}
	*ret_maps = maps;
	return 0;
}

void kmtls_mesh_maps_close(struct kmtls_mesh_maps *maps)
{
	if (maps->modes >= 0)
		close(maps->modes);
	if (maps->authorizations >= 0)
		close(maps->authorizations);
	maps->modes = maps->authorizations = -1;
	kmtls_peer_maps_close(&maps->peers);
}

static int append_mode(void *table, const void *key, const void *value)
{
	struct kmtls_mode_entry entry = { .line = 0 };

	memcpy(&entry.key, key, sizeof(entry.key));
	memcpy(&entry.mode, value, sizeof(entry.mode));
	return kmtls_mode_table_append(table, &entry);
}

static int append_rule(void *table, const void *key, const void *value)
{
	struct kmtls_authorization_entry entry = { .line = 0 };

	memcpy(&entry.key, key, sizeof(entry.key));
	memcpy(&entry.action, value, sizeof(entry.action));
	return kmtls_authorization_table_append(table, &entry);
}

/* What a walk has seen twice, because others write: once. */
static void drop_doubles(struct kmtls_mesh_state *state)
{
	struct kmtls_mode_table *modes = &state->modes;
	struct kmtls_authorization_table *rules = &state->authorizations;
	size_t kept = 0;

	for (size_t i = 0; i < modes->count; i++)
		if (!kept || memcmp(&modes->entries[kept - 1].key, &modes->entries[i].key,
				    sizeof(modes->entries[i].key)))
			modes->entries[kept++] = modes->entries[i];
	modes->count = kept;
	kept = 0;
	for (size_t i = 0; i < rules->count; i++)
		if (!kept || memcmp(&rules->entries[kept - 1].key, &rules->entries[i].key,
				    sizeof(rules->entries[i].key)))
			rules->entries[kept++] = rules->entries[i];
	rules->count = kept;
}

static int read_default(struct kmtls_mesh_maps *maps, __u32 *ret_default)
{
	struct kmtls_settings settings;
	__u32 zero = 0;

	if (bpf_map_lookup_elem(maps->peers.settings, &zero, &settings) < 0)
		return -errno;
	*ret_default = settings.authorization_default;
	return 0;
}

int kmtls_mesh_maps_read(struct kmtls_mesh_maps *maps, struct kmtls_mesh_state *ret_state,
			 char *ret_why)
{
	struct kmtls_mesh_state state = {};
	int err = kmtls_peer_maps_read(&maps->peers, &state.peers, ret_why);

	if (err)
		return err;
	err = kmtls_map_walk(maps->modes, append_mode, &state.modes);
	if (!err)
		err = kmtls_map_walk(maps->authorizations, append_rule, &state.authorizations);
	if (!err)
		err = read_default(maps, &state.authorization_default);
	if (err) {
		kmtls_mesh_state_free(&state);
		snprintf(ret_why, KMTLS_PEER_MAPS_WHY, "the maps cannot be read: %s",
			 err == -EAGAIN ? "others write them all the time" : strerror(-err));
		return err;
	}
	kmtls_mode_table_sort(&state.modes);
	kmtls_authorization_table_sort(&state.authorizations);
	drop_doubles(&state);
	*ret_state = state;
	return 0;
}

void kmtls_mesh_state_free(struct kmtls_mesh_state *state)
{
	free(state->modes.entries);
	free(state->authorizations.entries);
	kmtls_peer_table_free(&state->peers);
	memset(state, 0, sizeof(*state));
}

/* ---- the change ---- */

int kmtls_mesh_change_make(const struct kmtls_mesh_state *state, const struct kmtls_mesh_file *file,
			   bool prune, struct kmtls_mesh_change *ret_change)
{
	struct kmtls_mesh_change change = {
		.default_before = state->authorization_default,
		.default_after = file->authorization_default ? file->authorization_default
							     : state->authorization_default,
	};
	/* Peers that are left alone: nothing is wanted, and nothing replaced. */
	int err = kmtls_peer_plan_make(&state->peers, &file->peers.table, file->has_peers || prune,
				       &change.peers);

	if (!err)
		err = kmtls_mesh_plan_make(&state->modes, &file->modes, file->has_modes || prune,
					   &state->authorizations, &file->authorizations,
					   file->has_authorizations || prune, &change.plan);
	if (err)
		kmtls_mesh_change_free(&change);
	else
		*ret_change = change;
	return err;
}

bool kmtls_mesh_change_is_empty(const struct kmtls_mesh_change *change)
{
	return !change->plan.mode_count && !change->plan.authorization_count &&
	       !change->peers.total && change->default_before == change->default_after;
}

void kmtls_mesh_change_free(struct kmtls_mesh_change *change)
{
	kmtls_mesh_plan_free(&change->plan);
	kmtls_peer_plan_free(&change->peers);
}

/* ---- writing ---- */

struct writing {
	struct kmtls_mesh_maps *maps;
	const struct kmtls_mesh_change *change;
	bool begun[2]; /* the rounds */
};

/* On the way back only what is still as we have written it: others write, too. */
static bool is_ours(int fd, const void *key, __u32 value)
{
	__u32 now = KMTLS_MESH_NONE;

	if (bpf_map_lookup_elem(fd, key, &now) < 0 && errno != ENOENT)
		return true; /* writing will say why */
	return now == value;
}

/* back: takes back, goes on after errors, and counts them. */
static int put(int fd, const void *key, __u32 from, __u32 to, size_t *back)
{
	int err;

	if (from == to || (back && !is_ours(fd, key, from)))
		return 0;
	if (!back && kmtls_peer_maps_is_interrupted())
		return -EINTR;
	err = kmtls_map_put(fd, key, to == KMTLS_MESH_NONE ? NULL : &to);
	if (err && back)
		++*back;
	return back ? 0 : err;
}

static bool allows(__u32 authorization_default)
{
	return authorization_default == KMTLS_AUTHORIZATION_DEFAULT_UNSET ||
	       authorization_default == KMTLS_AUTHORIZATION_DEFAULT_ALLOW;
}

/* What is written of a step, or of the default, to come to a stage. */
enum stage { BEFORE, MIDDLE, AFTER };

static __u32 value_at(const struct kmtls_mesh_step *step, enum stage stage)
{
	return stage == BEFORE ? step->before : stage == MIDDLE ? step->middle : step->after;
}

static __u32 default_at(const struct kmtls_mesh_change *change, enum stage stage)
{
	bool after = stage == AFTER || (stage == MIDDLE && allows(change->default_before));

	return after ? change->default_after : change->default_before;
}

static int move_default(struct writing *writing, enum stage from, enum stage to, size_t *back)
{
	__u32 value = default_at(writing->change, to);
	int err;

	if (value == default_at(writing->change, from))
		return 0;
	err = kmtls_settings_map_put_default(writing->maps->peers.settings, value);
	if (err && back)
		++*back;
	return back ? 0 : err;
}

/*
 * From one stage to the next, or back, where *back counts what could not be put back. Towards the
 * middle the mesh's own modes come last, away from it first.
 */
static int move(struct writing *writing, enum stage from, enum stage to, size_t *back)
{
	const struct kmtls_mesh_plan *plan = &writing->change->plan;
	int err = 0;

	for (size_t i = 0; !err && i < plan->mode_count; i++) {
		size_t at = to == MIDDLE ? i : plan->mode_count - 1 - i;
		const struct kmtls_mode_step *step = &plan->modes[at];

		err = put(writing->maps->modes, &step->key, value_at(&step->step, from),
			  value_at(&step->step, to), back);
	}
	for (size_t i = 0; !err && i < plan->authorization_count; i++) {
		const struct kmtls_authorization_step *step = &plan->authorizations[i];

		err = put(writing->maps->authorizations, &step->key, value_at(&step->step, from),
			  value_at(&step->step, to), back);
	}
	return err ? err : move_default(writing, from, to, back);
}

static int write_round(void *context, bool second)
{
	struct writing *writing = context;

	writing->begun[second] = true;
	return move(writing, second ? MIDDLE : BEFORE, second ? AFTER : MIDDLE, NULL);
}

static size_t undo_round(void *context, bool second)
{
	struct writing *writing = context;
	size_t left = 0;

	if (writing->begun[second])
		move(writing, second ? AFTER : MIDDLE, second ? MIDDLE : BEFORE, &left);
	return left;
}

static int check_room(struct kmtls_mesh_maps *maps, const char *name, size_t now, size_t added,
		      size_t capacity, char *ret_why)
{
	if (!added || now + added <= capacity)
		return 0;
	kmtls_peer_maps_count_full(&maps->peers);
	snprintf(ret_why, KMTLS_PEER_MAPS_WHY,
		 "the %s map has room for %zu entries, this needs %zu; nothing was written", name,
		 capacity, now + added);
	return -ENOSPC;
}

int kmtls_mesh_maps_apply(struct kmtls_mesh_maps *maps, const struct kmtls_mesh_state *state,
			  const struct kmtls_mesh_file *file,
			  const struct kmtls_mesh_change *change, char *ret_why)
{
	struct writing writing = { .maps = maps, .change = change };
	const struct kmtls_peer_around around = {
		.write = write_round,
		.undo = undo_round,
		.context = &writing,
	};
	int err = check_room(maps, "modes", state->modes.count, change->plan.modes_added,
			     maps->mode_capacity, ret_why);

	if (!err)
		err = check_room(maps, "authorizations", state->authorizations.count,
				 change->plan.authorizations_added, maps->authorization_capacity,
				 ret_why);
	if (err)
		return err;
	maps->peers.around = &around;
	err = kmtls_peer_maps_apply(&maps->peers, &file->peers, &change->peers, ret_why);
	maps->peers.around = NULL;
	return err;
}
