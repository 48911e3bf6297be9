/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_maps.c - see peer_maps.h. Writing goes in batches: one system call for many entries. A
 * batch that fails may have been written in part, so taking back does not trust any count: it
 * looks at what the map holds.
 */
#include "peer_maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "cleanup.h"
#include "hash.h"
#include "map_walk.h"
#include "map_write.h"
#include "names_collect.h"
#include "settings_map.h"

#define PEER_BATCH 1024
#define NAME_BATCH 128
#define UNDO_TRIES 10

/* ---- reading ---- */

static int append_entry(void *table, const void *key, const void *value)
{
	struct kmtls_peer_entry entry = { .line = 0 };

	memcpy(&entry.key, key, sizeof(entry.key));
	/* The kernel compares no more than prefix_len bits, and keeps whatever was written. */
	kmtls_prefix_mask(&entry.key);
	memcpy(&entry.value, value, sizeof(entry.value));
	return kmtls_peer_table_append(table, &entry);
}

int kmtls_peer_maps_read(struct kmtls_peer_maps *maps, struct kmtls_peer_table *ret_table,
			 char *ret_why)
{
	struct kmtls_peer_table table = { .count = 0 };
	size_t kept = 0;
	int err = kmtls_map_walk(maps->peers, append_entry, &table);

	if (err) {
		kmtls_peer_table_free(&table);
		return kmtls_peer_maps_fail(ret_why, err, "the peers map cannot be read: %s",
					    err == -EAGAIN ? "others write it all the time"
							   : strerror(-err));
	}
	kmtls_peer_table_sort(&table);
	/* What was seen twice because others write: the later one is as good. */
	for (size_t i = 0; i < table.count; i++) {
		if (kept &&
		    !kmtls_peer_key_compare(&table.entries[kept - 1].key, &table.entries[i].key))
			kept--;
		table.entries[kept++] = table.entries[i];
	}
	table.count = kept;
	*ret_table = table;
	return 0;
}

void kmtls_peer_maps_name(struct kmtls_peer_maps *maps, __u64 hash, char *ret_text)
{
	struct kmtls_name_value value;

	*ret_text = '\0';
	if (bpf_map_lookup_elem(maps->names, &hash, &value) < 0)
		return;
	value.text[KMTLS_SPIFFE_ID_MAX] = '\0';
	if (kmtls_hash_text(value.text) == hash)
		strcpy(ret_text, value.text);
}

/* ---- writing ---- */

static void report(const struct kmtls_peer_maps *maps, const char *what, size_t done, size_t total)
{
	if (maps->progress)
		maps->progress(what, done, total);
}

/* As the daemon does it; between it and us one of two may be lost, which is less than none. */
void kmtls_peer_maps_count_full(struct kmtls_peer_maps *maps)
{
	__u32 reason = KMTLS_REASON_MAP_FULL;
	int cpus = libbpf_num_possible_cpus();
	__cleanup_free __u64 *values = cpus > 0 ? calloc((size_t)cpus, sizeof(*values)) : NULL;

	if (!values || bpf_map_lookup_elem(maps->counters, &reason, values) < 0)
		return;
	values[0]++;
	bpf_map_update_elem(maps->counters, &reason, values, BPF_ANY);
}

/* A signal that wants us to end is waiting (kmtls_peer_maps_apply() holds them back). */
bool kmtls_peer_maps_is_interrupted(void)
{
	sigset_t pending;

	return sigpending(&pending) == 0 &&
	       (sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM) ||
		sigismember(&pending, SIGHUP));
}

/* Those of file that the map does not have; -EEXIST with ret_why: a hash names another text. */
static int find_missing(struct kmtls_peer_maps *maps, const struct kmtls_peer_file *file,
			const struct kmtls_peer_name **ret_missing, size_t *ret_count,
			char *ret_why)
{
	struct kmtls_name_value value;
	size_t count = 0;

	for (size_t i = 0; i < file->name_count; i++) {
		const struct kmtls_peer_name *name = &file->names[i];

		if (bpf_map_lookup_elem(maps->names, &name->hash, &value) < 0) {
			if (errno != ENOENT)
				return kmtls_peer_maps_fail(ret_why, -errno,
							    "the names map cannot be read: %s",
							    strerror(errno));
			ret_missing[count++] = name;
		} else if (value.length != strlen(name->text) ||
			   memcmp(value.text, name->text, value.length + 1)) {
			return kmtls_peer_maps_fail(
				ret_why, -EEXIST,
				"the names map has another text under the hash of %.200s",
				name->text);
		}
	}
	*ret_count = count;
	return 0;
}

static int write_names(struct kmtls_peer_maps *maps, const struct kmtls_peer_name **names,
		       size_t count)
{
	__cleanup_free struct kmtls_name_value *values = calloc(NAME_BATCH, sizeof(*values));
	__u64 keys[NAME_BATCH];

	if (!values)
		return -ENOMEM;
	for (size_t done = 0; done < count;) {
		__u32 batch = count - done < NAME_BATCH ? (__u32)(count - done) : NAME_BATCH;
		int err;

		if (kmtls_peer_maps_is_interrupted())
			return -EINTR;
		memset(values, 0, NAME_BATCH * sizeof(*values));
		for (__u32 i = 0; i < batch; i++) {
			keys[i] = names[done + i]->hash;
			values[i].length = (__u32)strlen(names[done + i]->text);
			memcpy(values[i].text, names[done + i]->text, values[i].length);
		}
		err = kmtls_map_update(maps->names, keys, values, batch);
		if (err)
			return err;
		done += batch;
		report(maps, "texts", done, count);
	}
	return 0;
}

/* What somebody else has deleted meanwhile is passed over. */
static int delete_batch(int fd, const struct kmtls_peer_key *keys, __u32 count)
{
	for (__u32 done = 0; done < count;) {
		__u32 deleted = count - done;

		if (bpf_map_delete_batch(fd, keys + done, &deleted, NULL) == 0)
			break;
		if (errno != ENOENT)
			return kmtls_map_error();
		done += deleted + 1;
	}
	return 0;
}

/* ret_begun: steps that have been done, or may have been. */
static int write_steps(struct kmtls_peer_maps *maps, const struct kmtls_peer_plan *plan,
		       size_t *ret_begun)
{
	const size_t deletes = plan->first[KMTLS_PEER_DELETE];
	struct kmtls_peer_key keys[PEER_BATCH];
	struct kmtls_peer_value values[PEER_BATCH];

	for (size_t done = 0; done < plan->total;) {
		size_t end = done < deletes ? deletes : plan->total;
		__u32 batch = end - done < PEER_BATCH ? (__u32)(end - done) : PEER_BATCH;
		int err;

		if (kmtls_peer_maps_is_interrupted())
			return -EINTR;
		for (__u32 i = 0; i < batch; i++) {
			keys[i] = plan->steps[done + i].key;
			values[i] = plan->steps[done + i].after;
		}
		*ret_begun = done + batch;
		if (done < deletes)
			err = kmtls_map_update(maps->peers, keys, values, batch);
		else
			err = delete_batch(maps->peers, keys, batch);
		if (err)
			return err;
		done += batch;
		report(maps, "peers", done, plan->total);
	}
	return 0;
}

/* ---- taking back ---- */

/* One step, unless it was not done or somebody else has changed the entry since. */
static int undo_step(struct kmtls_peer_maps *maps, const struct kmtls_peer_step *step,
		     const struct kmtls_peer_entry *now, bool added, bool deleted)
{
	bool ours = deleted ? !now : now && !memcmp(&now->value, &step->after, sizeof(step->after));

	if (!ours)
		return 0;
	return added ? bpf_map_delete_elem(maps->peers, &step->key)
		     : kmtls_map_update(maps->peers, &step->key, &step->before, 1);
}

/* Puts back what the first steps of the plan have changed: what came goes first, so that there is
 * room. The number of steps that could not be undone. */
static size_t undo_steps(struct kmtls_peer_maps *maps, const struct kmtls_peer_plan *plan,
			 size_t begun)
{
	const size_t adds = plan->count[KMTLS_PEER_ADD], deletes = plan->first[KMTLS_PEER_DELETE];
	struct kmtls_peer_table now = { .count = 0 };
	char why[KMTLS_PEER_MAPS_WHY];
	size_t left = 0;
	int err = -ENOMEM;

	for (unsigned tries = 0; err && tries < UNDO_TRIES; tries++) {
		if (tries)
			usleep(10 * 1000);
		err = kmtls_peer_maps_read(maps, &now, why);
	}
	if (err)
		return begun;
	for (size_t i = 0; i < begun; i++) {
		const struct kmtls_peer_step *step = &plan->steps[i];

		if (undo_step(maps, step, kmtls_peer_table_find(&now, &step->key), i < adds,
			      i >= deletes))
			left++;
	}
	kmtls_peer_table_free(&now);
	return left;
}

/* The texts that were written, but for those somebody else refers to by now. */
static void take_back_names(struct kmtls_peer_maps *maps, const struct kmtls_peer_name **names,
			    size_t count)
{
	__cleanup_free __u64 *candidates = calloc(count + 1, sizeof(*candidates));
	size_t removed;

	for (size_t i = 0; candidates && i < count; i++)
		candidates[i] = names[i]->hash;
	/* If that fails they stay until the map is full. */
	if (candidates && count)
		kmtls_names_collect(maps->directory, candidates, count, NULL, 0, &removed);
}

static int take_back(struct kmtls_peer_maps *maps, const struct kmtls_peer_plan *plan, size_t begun,
		     const struct kmtls_peer_name **names, size_t name_count, int err,
		     char *ret_why)
{
	const struct kmtls_peer_around *around = maps->around;
	size_t left = around ? around->undo(around->context, true) : 0;

	left += begun ? undo_steps(maps, plan, begun) : 0;
	if (around)
		left += around->undo(around->context, false);
	take_back_names(maps, names, name_count);
	kmtls_settings_map_bump(maps->settings);
	if (left)
		kmtls_peer_maps_fail(ret_why, err,
				     "%s; %zu entries could NOT be put back as they were",
				     strerror(-err), left);
	else
		kmtls_peer_maps_fail(ret_why, err, "%s; all is as it was before",
				     err == -ENOSPC  ? "a map is full"
				     : err == -EINTR ? "interrupted"
						     : strerror(-err));
	return err;
}

/* ---- the whole ---- */

/* Room for texts, by throwing away what nothing refers to. */
static int make_room(struct kmtls_peer_maps *maps, const struct kmtls_peer_file *file)
{
	__cleanup_free __u64 *keep = calloc(file->name_count + 1, sizeof(*keep));
	size_t removed;

	if (!keep)
		return -ENOMEM;
	for (size_t i = 0; i < file->name_count; i++)
		keep[i] = file->names[i].hash;
	return kmtls_names_collect(maps->directory, NULL, 0, keep, file->name_count, &removed);
}

/* Texts of what the plan took away, if it was the last that referred to them. */
static void collect_names(struct kmtls_peer_maps *maps, const struct kmtls_peer_plan *plan)
{
	__cleanup_free __u64 *candidates = calloc(plan->total + 1, sizeof(*candidates));
	size_t count = 0, removed;

	for (size_t i = plan->first[KMTLS_PEER_CHANGE]; candidates && i < plan->total; i++)
		if (plan->steps[i].before.kind == KMTLS_PEER_MESH)
			candidates[count++] = plan->steps[i].before.identity;
	/* If that fails they stay until the map is full. */
	if (count)
		kmtls_names_collect(maps->directory, candidates, count, NULL, 0, &removed);
}

/* Those that were collected before anything referred to them: see names_collect.h. */
static int write_lost_names(struct kmtls_peer_maps *maps, const struct kmtls_peer_file *file,
			    char *ret_why)
{
	__cleanup_free const struct kmtls_peer_name **missing =
		calloc(file->name_count + 1, sizeof(*missing));
	size_t count;
	int err;

	if (!missing)
		return -ENOMEM;
	err = find_missing(maps, file, missing, &count, ret_why);
	return err ? err : write_names(maps, missing, count);
}

static int write_all(struct kmtls_peer_maps *maps, const struct kmtls_peer_file *file,
		     const struct kmtls_peer_plan *plan, const struct kmtls_peer_name **missing,
		     size_t count, char *ret_why)
{
	const struct kmtls_peer_around *around = maps->around;
	int err = write_names(maps, missing, count);
	size_t begun = 0;

	if (err == -ENOSPC) {
		kmtls_peer_maps_count_full(maps);
		if (make_room(maps, file) == 0)
			err = write_names(maps, missing, count);
	}
	if (!err && around)
		err = around->write(around->context, false);
	if (!err)
		err = write_steps(maps, plan, &begun);
	if (!err && around)
		err = around->write(around->context, true);
	if (!err)
		err = write_lost_names(maps, file, ret_why);
	if (err == -ENOSPC)
		kmtls_peer_maps_count_full(maps);
	if (err)
		return take_back(maps, plan, begun, missing, count, err, ret_why);
	kmtls_settings_map_bump(maps->settings);
	collect_names(maps, plan);
	return 0;
}

static int check_room(struct kmtls_peer_maps *maps, const struct kmtls_peer_plan *plan,
		      char *ret_why)
{
	/* Deletes come last. */
	size_t most = plan->total + plan->unchanged;

	if (most <= maps->capacity || !plan->count[KMTLS_PEER_ADD])
		return 0;
	kmtls_peer_maps_count_full(maps);
	return kmtls_peer_maps_fail(
		ret_why, -ENOSPC,
		"the peers map has room for %zu entries, this needs %zu%s; nothing was written",
		maps->capacity, most,
		plan->count[KMTLS_PEER_DELETE] ? " before what goes is deleted" : "");
}

int kmtls_peer_maps_apply(struct kmtls_peer_maps *maps, const struct kmtls_peer_file *file,
			  const struct kmtls_peer_plan *plan, char *ret_why)
{
	__cleanup_free const struct kmtls_peer_name **missing =
		calloc(file->name_count + 1, sizeof(*missing));
	sigset_t held;
	size_t count = 0;
	int err;

	if (!missing)
		return kmtls_peer_maps_fail(ret_why, -ENOMEM, "out of memory");
	err = check_room(maps, plan, ret_why);
	if (!err)
		err = find_missing(maps, file, missing, &count, ret_why);
	if (err)
		return err;
	sigemptyset(&held);
	sigaddset(&held, SIGINT);
	sigaddset(&held, SIGTERM);
	sigaddset(&held, SIGHUP);
	/* For good: what comes in must not hide how it went, which is said next. */
	sigprocmask(SIG_BLOCK, &held, NULL);
	return write_all(maps, file, plan, missing, count, ret_why);
}
