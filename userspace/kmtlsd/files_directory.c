/* SPDX-License-Identifier: Apache-2.0 */
/* files_directory.c - see files_directory.h. */
#include "files_directory.h"

#include <limits.h>
#include <stdatomic.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hash.h"
#include "log.h"

#define NAMES_MAX 16384 /* watched */
/* Milliseconds. A set is written in several steps: wait for silence, but not forever. */
#define QUIET 200
#define PATIENCE 2000
/* From one look to the next without an event: always, for there are file systems that tell nothing;
 * and where there is no inotify, or something is wrong, which the clock alone may put right. */
#define LOOK_SELDOM 30000
#define LOOK_OFTEN 2000

__u64 kmtls_files_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)now.tv_sec * 1000 + (__u64)now.tv_nsec / 1000000;
}

static struct kmtls_files_place place_of(const struct kmtls_files_source *source,
					 const struct kmtls_files_directory *directory)
{
	const struct kmtls_config_backend *backend = source->options->backend;

	return (struct kmtls_files_place){
		.directory = directory->path,
		.names = { backend->svid_name, backend->key_name, backend->bundle_name },
		.trust_domain = source->options->trust_domain,
	};
}

/* ---- watching ---- */

static void complain(struct kmtls_files_source *source, int err)
{
	if (!source->complained)
		log_warning("files cannot be watched, they are looked at every 2 s",
			    "backend=%s err=%s", kmtls_log_quote(source->options->backend->name),
			    kmtls_log_quote(strerror(-err)));
	source->complained = true;
}

static void follow(struct kmtls_files_source *source, struct kmtls_files_directory *directory)
{
	const struct kmtls_files_place place = place_of(source, directory);
	char path[PATH_MAX];
	int err = 0;

	directory->watched = false;
	if (!source->watch)
		return;
	kmtls_files_watch_forget(source->watch, directory->tag);
	for (int i = 0; !err && i < KMTLS_FILES; i++) {
		snprintf(path, sizeof(path), "%s/%s", directory->path, place.names[i]);
		err = kmtls_files_watch_follow(source->watch, directory->tag, path);
	}
	/* By what all turns at once, whether or not the files lead through it. */
	snprintf(path, sizeof(path), "%s/..data", directory->path);
	if (!err)
		err = kmtls_files_watch_follow(source->watch, directory->tag, path);
	directory->watched = !err;
	if (!err)
		return;
	kmtls_files_watch_forget(source->watch, directory->tag);
	complain(source, err);
}

void kmtls_files_directory_touch(struct kmtls_files_directory *directory)
{
	__u64 now = kmtls_files_now_ms();

	if (!directory->dirty)
		directory->first_change = now;
	directory->dirty = true;
	directory->last_change = now;
}

/* ---- looking ---- */

static bool is_same_stack(const STACK_OF(X509) * a, const STACK_OF(X509) * b)
{
	int count = a ? sk_X509_num(a) : 0;

	if (count != (b ? sk_X509_num(b) : 0))
		return false;
	for (int i = 0; i < count; i++)
		if (X509_cmp(sk_X509_value(a, i), sk_X509_value(b, i)) != 0)
			return false;
	return true;
}

static bool is_same_set(const struct kmtls_files_set *a, const struct kmtls_files_set *b)
{
	return a->leaf && b->leaf && X509_cmp(a->leaf, b->leaf) == 0 &&
	       is_same_stack(a->chain, b->chain) && is_same_stack(a->roots, b->roots);
}

static void take(struct kmtls_files_source *source, struct kmtls_files_directory *directory,
		 struct kmtls_files_set *set)
{
	if (directory->state != KMTLS_IDENTITY_OK || !directory->set.leaf)
		log_info("files taken", "backend=%s directory=%s id=%s",
			 kmtls_log_quote(source->options->backend->name),
			 kmtls_log_quote(directory->path), kmtls_log_quote(set->id));
	directory->state = KMTLS_IDENTITY_OK;
	directory->why[0] = '\0';
	if (is_same_set(&directory->set, set)) {
		kmtls_files_set_clear(set);
		return;
	}
	kmtls_files_set_clear(&directory->set);
	directory->set = *set;
	sk_X509_pop_free(directory->kept, X509_free);
	directory->kept = NULL;
	directory->unkept = true;
	directory->version++;
}

/* One line and one count for each change, however often it is tried again. */
static void refuse(struct kmtls_files_source *source, struct kmtls_files_directory *directory,
		   int err, const char *why, bool again)
{
	enum kmtls_identity_state state =
		err == -ENOENT ? KMTLS_IDENTITY_WAITING : KMTLS_IDENTITY_REFUSED;
	bool known = again && directory->state == state && !strcmp(directory->why, why);

	directory->state = state;
	snprintf(directory->why, sizeof(directory->why), "%s", why);
	if (known)
		return;
	if (state == KMTLS_IDENTITY_WAITING && !directory->set.leaf) {
		log_warning("files are waited for", "backend=%s err=%s",
			    kmtls_log_quote(source->options->backend->name), kmtls_log_quote(why));
		return;
	}
	if (source->options->not_taken)
		atomic_fetch_add(source->options->not_taken, 1);
	log_warning("files not taken", "backend=%s in_use=%s err=%s",
		    kmtls_log_quote(source->options->backend->name),
		    kmtls_log_quote(directory->set.leaf ? directory->set.id : "none"),
		    kmtls_log_quote(why));
}

static void look(struct kmtls_files_source *source, struct kmtls_files_directory *directory)
{
	const struct kmtls_files_place place = place_of(source, directory);
	struct kmtls_files_mark mark;
	struct kmtls_files_set set = {};
	char why[KMTLS_IDENTITY_WHY];
	int err;

	follow(source, directory); /* first: what changes from here on is seen */
	directory->dirty = false;
	err = kmtls_files_set_read(&place, &set, &mark, why);
	if (err)
		refuse(source, directory, err, why, !memcmp(&mark, &directory->mark, sizeof(mark)));
	else
		take(source, directory, &set);
	directory->mark = mark;
	directory->next_look =
		kmtls_files_now_ms() + (!err && directory->watched ? LOOK_SELDOM : LOOK_OFTEN);
}

/* ---- the interface ---- */

void kmtls_files_source_open(struct kmtls_files_source *source)
{
	int err = kmtls_files_watch_open(NAMES_MAX, &source->watch);

	if (err)
		complain(source, err);
}

struct kmtls_files_directory *kmtls_files_directory_new(struct kmtls_files_source *source,
							const char *path, unsigned tag)
{
	struct kmtls_files_directory *directory = calloc(1, sizeof(*directory));

	if (directory)
		directory->path = strdup(path);
	if (!directory || !directory->path) {
		free(directory);
		return NULL;
	}
	directory->hash = kmtls_hash_text(path);
	directory->tag = tag;
	look(source, directory);
	return directory;
}

void kmtls_files_directory_free(struct kmtls_files_source *source,
				struct kmtls_files_directory *directory)
{
	if (source->watch)
		kmtls_files_watch_forget(source->watch, directory->tag);
	kmtls_files_set_clear(&directory->set);
	sk_X509_pop_free(directory->kept, X509_free);
	free(directory->path);
	free(directory);
}

int kmtls_files_directory_look(struct kmtls_files_source *source,
			       struct kmtls_files_directory *directory, char *ret_why)
{
	look(source, directory);
	if (directory->state == KMTLS_IDENTITY_OK)
		return 0;
	snprintf(ret_why, KMTLS_IDENTITY_WHY, "%s", directory->why);
	return directory->state == KMTLS_IDENTITY_WAITING ? -ENOENT : -EINVAL;
}

static bool is_settled(const struct kmtls_files_directory *directory, __u64 now)
{
	return now >= directory->last_change + QUIET || now >= directory->first_change + PATIENCE;
}

void kmtls_files_directory_tick(struct kmtls_files_source *source,
				struct kmtls_files_directory *directory)
{
	const struct kmtls_files_place place = place_of(source, directory);
	__u64 now = kmtls_files_now_ms();

	if (directory->dirty) {
		if (is_settled(directory, now))
			look(source, directory);
		return;
	}
	if (now < directory->next_look)
		return;
	if (directory->state != KMTLS_IDENTITY_OK) {
		look(source, directory);
		return;
	}
	directory->next_look = now + (directory->watched ? LOOK_SELDOM : LOOK_OFTEN);
	if (!kmtls_files_mark_holds(&place, &directory->mark))
		kmtls_files_directory_touch(directory);
}
