/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files_directory.h - one directory into which somebody else writes SVID, key and bundle: the set of
 * them that is in use, and when to look for the next. Not thread-safe.
 */
#ifndef KMTLS_FILES_DIRECTORY_H
#define KMTLS_FILES_DIRECTORY_H

#include <linux/types.h>
#include <stdbool.h>

#include "files_set.h"
#include "files_watch.h"
#include "identity.h"

/* What directories of a backend have in common. */
struct kmtls_files_source {
	const struct kmtls_identity_options *options;
	struct kmtls_files_watch *watch; /* NULL: there is no inotify */
	bool complained; /* that directories are looked at by the clock */
};

struct kmtls_files_directory {
	char *path;
	__u64 hash; /* of path */
	unsigned tag, version;
	struct kmtls_files_set set; /* in use; without a leaf: none yet */
	STACK_OF(X509) * kept; /* roots of a worker before, until there is a set */
	struct kmtls_files_mark mark; /* of the last look */
	enum kmtls_identity_state state;
	char why[KMTLS_IDENTITY_WHY];
	bool watched, dirty, unkept;
	__u64 first_change, last_change, next_look, asked; /* ms, monotonic */
};

/* NULL if there is no inotify, which is said. */
void kmtls_files_source_open(struct kmtls_files_source *source);

/* It has been looked at. tag: no other directory's. NULL: no memory. */
struct kmtls_files_directory *kmtls_files_directory_new(struct kmtls_files_source *source,
							const char *path, unsigned tag);
void kmtls_files_directory_free(struct kmtls_files_source *source,
				struct kmtls_files_directory *directory);
/* Something has happened to it. */
void kmtls_files_directory_touch(struct kmtls_files_directory *directory);
/* Looks at it now. 0, or its state as an error and why. */
int kmtls_files_directory_look(struct kmtls_files_source *source,
			       struct kmtls_files_directory *directory, char *ret_why);
/* Looks at it if it is time. */
void kmtls_files_directory_tick(struct kmtls_files_source *source,
				struct kmtls_files_directory *directory);
__u64 kmtls_files_now_ms(void);

#endif
