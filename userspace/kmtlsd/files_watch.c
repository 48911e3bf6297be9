/* SPDX-License-Identifier: Apache-2.0 */
/* files_watch.c - see files_watch.h. */
#include "files_watch.h"

#include <errno.h>
#include <limits.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "hash.h"

#define LINKS 40 /* as the kernel has it */
#define NAMES (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB)
/* Of the last directory only: the others may be /tmp. */
#define CONTENTS (IN_MODIFY | IN_CLOSE_WRITE)

/* A name in a directory. */
struct name {
	int directory; /* watch descriptor */
	unsigned tag;
	__u64 hash;
};

struct kmtls_files_watch {
	int fd;
	unsigned limit, count;
	struct name *names;
};

int kmtls_files_watch_open(unsigned limit, struct kmtls_files_watch **ret_watch)
{
	struct kmtls_files_watch *watch = calloc(1, sizeof(*watch));
	int err;

	if (!watch)
		return -ENOMEM;
	watch->limit = limit;
	watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (watch->fd >= 0) {
		*ret_watch = watch;
		return 0;
	}
	err = -errno;
	free(watch);
	return err;
}

void kmtls_files_watch_close(struct kmtls_files_watch *watch)
{
	if (!watch)
		return;
	close(watch->fd);
	free(watch->names);
	free(watch);
}

/* ---- following ---- */

static bool is_known(const struct kmtls_files_watch *watch, const struct name *name)
{
	for (unsigned i = 0; i < watch->count; i++) {
		const struct name *one = &watch->names[i];

		if (one->directory == name->directory && one->tag == name->tag &&
		    one->hash == name->hash)
			return true;
	}
	return false;
}

static int add_name(struct kmtls_files_watch *watch, const struct name *name)
{
	struct name *names;

	if (is_known(watch, name))
		return 0;
	if (watch->count == watch->limit)
		return -ENOSPC;
	names = reallocarray(watch->names, watch->count + 1, sizeof(*names));
	if (!names)
		return -ENOMEM;
	watch->names = names;
	names[watch->count++] = *name;
	return 0;
}

static int watch_name(struct kmtls_files_watch *watch, unsigned tag, const char *directory,
		      const char *text, bool is_last)
{
	struct name name = { .tag = tag, .hash = kmtls_hash_text(text) };

	/* Others, and we for other paths, may watch the same directory for other things. */
	name.directory =
		inotify_add_watch(watch->fd, *directory ? directory : "/",
				  NAMES | (is_last ? CONTENTS : 0) | IN_ONLYDIR | IN_MASK_ADD);
	return name.directory < 0 ? -errno : add_name(watch, &name);
}

/* A path on the way: what is resolved ("" is the root), and what is left of it. */
struct walk {
	char resolved[PATH_MAX], rest[PATH_MAX], name[NAME_MAX + 1];
	unsigned links;
};

/* The next name of the rest; false: there is none. -ENAMETOOLONG by way of an empty name. */
static bool take_name(struct walk *walk)
{
	size_t slashes = strspn(walk->rest, "/");
	size_t length = strcspn(walk->rest + slashes, "/");

	walk->name[0] = '\0';
	if (!length)
		return false;
	if (length <= NAME_MAX) {
		memcpy(walk->name, walk->rest + slashes, length);
		walk->name[length] = '\0';
	}
	memmove(walk->rest, walk->rest + slashes + length,
		strlen(walk->rest + slashes + length) + 1);
	return true;
}

static bool join(char *buffer, const char *first, const char *second)
{
	return snprintf(buffer, PATH_MAX, "%s/%s", first, second) < PATH_MAX;
}

/* Into what the name is: a symbolic link's target, or a directory if it is one. */
static int descend(struct walk *walk)
{
	char path[PATH_MAX], target[PATH_MAX], rest[PATH_MAX];
	ssize_t length;

	if (!join(path, walk->resolved, walk->name))
		return -ENAMETOOLONG;
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0 && errno != EINVAL)
		return -errno;
	if (length < 0) {
		strcpy(walk->resolved, path);
		return 0;
	}
	target[length] = '\0';
	if (++walk->links > LINKS)
		return -ELOOP;
	if (!join(rest, target, walk->rest))
		return -ENAMETOOLONG;
	strcpy(walk->rest, rest);
	if (target[0] == '/')
		walk->resolved[0] = '\0';
	return 0;
}

static int step(struct kmtls_files_watch *watch, unsigned tag, struct walk *walk)
{
	char *slash = strrchr(walk->resolved, '/');
	int err;

	if (!walk->name[0])
		return -ENAMETOOLONG;
	if (!strcmp(walk->name, "."))
		return 0;
	if (!strcmp(walk->name, "..")) {
		if (slash)
			*slash = '\0';
		return 0;
	}
	err = watch_name(watch, tag, walk->resolved, walk->name,
			 !walk->rest[strspn(walk->rest, "/")]);
	return err ? err : descend(walk);
}

int kmtls_files_watch_follow(struct kmtls_files_watch *watch, unsigned tag, const char *path)
{
	struct walk walk = {};
	int err = 0;

	if (strlen(path) >= sizeof(walk.rest))
		return -ENAMETOOLONG;
	strcpy(walk.rest, path);
	while (!err && take_name(&walk))
		err = step(watch, tag, &walk);
	/* As far as there is something; where it ends, a change of it will be seen. */
	return err == -ENOENT || err == -ENOTDIR || err == -EACCES ? 0 : err;
}

static bool is_used(const struct kmtls_files_watch *watch, int directory)
{
	for (unsigned i = 0; i < watch->count; i++)
		if (watch->names[i].directory == directory)
			return true;
	return false;
}

void kmtls_files_watch_forget(struct kmtls_files_watch *watch, unsigned tag)
{
	for (unsigned i = 0; i < watch->count;) {
		int directory = watch->names[i].directory;

		if (watch->names[i].tag != tag) {
			i++;
			continue;
		}
		watch->names[i] = watch->names[--watch->count];
		if (!is_used(watch, directory))
			inotify_rm_watch(watch->fd, directory); /* it may be gone with its inode */
	}
}

/* ---- events ---- */

static void tell(const struct kmtls_files_watch *watch, const struct inotify_event *event,
		 void (*changed)(void *context, unsigned tag), void *context)
{
	__u64 hash = event->len ? kmtls_hash_text(event->name) : 0;

	if (event->mask & IN_Q_OVERFLOW)
		changed(context, KMTLS_FILES_WATCH_ALL);
	for (unsigned i = 0; i < watch->count; i++) {
		const struct name *name = &watch->names[i];

		/* Without a name it is the directory's own: its mode, or that it is gone. */
		if (name->directory == event->wd && (!event->len || name->hash == hash))
			changed(context, name->tag);
	}
}

void kmtls_files_watch_poll(struct kmtls_files_watch *watch,
			    void (*changed)(void *context, unsigned tag), void *context)
{
	char buffer[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t got;

	while ((got = read(watch->fd, buffer, sizeof(buffer))) > 0) {
		const struct inotify_event *event;

		for (char *at = buffer; at < buffer + got; at += sizeof(*event) + event->len) {
			event = (const struct inotify_event *)at;
			tell(watch, event, changed, context);
		}
	}
}
