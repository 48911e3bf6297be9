/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files_watch.h - tells that a path may lead to something else than it did: inotify(7) on every
 * directory in which a name of it is looked up, symbolic links included, so that links turned
 * elsewhere, files replaced, and directories removed and made anew are all seen. By one thread.
 */
#ifndef KMTLS_FILES_WATCH_H
#define KMTLS_FILES_WATCH_H

struct kmtls_files_watch;

/* limit: names watched, all together. -errno: there is no inotify, or no more of it. */
int kmtls_files_watch_open(unsigned limit, struct kmtls_files_watch **ret_watch);
void kmtls_files_watch_close(struct kmtls_files_watch *watch); /* NULL is fine */

/*
 * Whatever changes on an absolute path is told as tag from now on: call it before looking at what is
 * there. It need not be there. -ENOSPC: too many, of ours or of this user; -ELOOP, -ENOMEM.
 */
int kmtls_files_watch_follow(struct kmtls_files_watch *watch, unsigned tag, const char *path);
/* All paths of tag. */
void kmtls_files_watch_forget(struct kmtls_files_watch *watch, unsigned tag);

/* Never waits. changed() once or several times for each tag. */
#define KMTLS_FILES_WATCH_ALL (~0u) /* events were lost: anything may have changed */
void kmtls_files_watch_poll(struct kmtls_files_watch *watch,
			    void (*changed)(void *context, unsigned tag), void *context);

#endif
