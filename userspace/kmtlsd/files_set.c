/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files_set.c - see files_set.h. Whoever writes changes files one by one, or all at once by turning
 * a symbolic link (`..data` of Kubernetes, or the directory itself) to other ones. So the directory
 * is resolved once and all are read relative to it; if it is another one afterwards, or one of the
 * files is, what was read may be of two states, and is read again.
 */
#include "files_set.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "identity.h"
#include "pem_file.h"

#define TRIES 5
#define DATA "..data"

enum { SVID, KEY, BUNDLE };

static void stamp(const struct stat *status, struct kmtls_files_stamp *ret_stamp)
{
	ret_stamp->device = status->st_dev;
	ret_stamp->inode = status->st_ino;
	/* Other files in a directory come and go. */
	if (S_ISDIR(status->st_mode))
		return;
	ret_stamp->size = status->st_size;
	ret_stamp->modified = status->st_mtim;
	ret_stamp->changed = status->st_ctim;
}

/* Of what is there now, the files as generation has them. */
static void take_mark(const struct kmtls_files_place *place, int generation,
		      struct kmtls_files_mark *ret_mark)
{
	char data[PATH_MAX];
	struct stat status;

	memset(ret_mark, 0, sizeof(*ret_mark));
	if (stat(place->directory, &status) == 0)
		stamp(&status, &ret_mark->stamps[0]);
	snprintf(data, sizeof(data), "%s/" DATA, place->directory);
	if (stat(data, &status) == 0)
		stamp(&status, &ret_mark->stamps[1]);
	for (int i = 0; generation >= 0 && i < KMTLS_FILES; i++)
		if (fstatat(generation, place->names[i], &status, 0) == 0)
			stamp(&status, &ret_mark->stamps[2 + i]);
}

static bool is_same(const struct kmtls_files_mark *a, const struct kmtls_files_mark *b)
{
	return memcmp(a, b, sizeof(*a)) == 0; /* both were cleared before: padding is zero */
}

/* The directory that has the files, in this state of it: ..data where there is one. */
static int open_generation(const struct kmtls_files_place *place)
{
	int fd __cleanup_fd = open(place->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int generation;

	if (fd < 0)
		return -errno;
	generation = openat(fd, DATA, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (generation >= 0)
		return generation;
	/* Turned away at this moment, or of no use: not the files beside it, which lead there. */
	return errno == ENOENT ? kmtls_take_fd(fd) : -errno;
}

/* It may have been turned away between opening it and looking. */
static bool is_current(int generation, const struct kmtls_files_mark *mark)
{
	const struct kmtls_files_stamp *now = &mark->stamps[mark->stamps[1].inode ? 1 : 0];
	struct stat status;

	return fstat(generation, &status) == 0 && status.st_dev == now->device &&
	       status.st_ino == now->inode;
}

bool kmtls_files_mark_holds(const struct kmtls_files_place *place,
			    const struct kmtls_files_mark *mark)
{
	int generation __cleanup_fd = open_generation(place);
	struct kmtls_files_mark now;

	take_mark(place, generation, &now);
	return is_same(&now, mark);
}

void kmtls_files_set_clear(struct kmtls_files_set *set)
{
	EVP_PKEY_free(set->key); /* wipes */
	X509_free(set->leaf);
	sk_X509_pop_free(set->chain, X509_free);
	sk_X509_pop_free(set->roots, X509_free);
	*set = (struct kmtls_files_set){ 0 };
}

static int read_files(const struct kmtls_files_place *place, int generation,
		      struct kmtls_files_set *set, char *ret_why)
{
	char names[KMTLS_FILES][PATH_MAX];
	struct kmtls_pem_source sources[KMTLS_FILES];
	int err;

	for (int i = 0; i < KMTLS_FILES; i++) {
		snprintf(names[i], sizeof(names[i]), "%s/%s", place->directory, place->names[i]);
		sources[i] = (struct kmtls_pem_source){
			.name = names[i],
			.path = place->names[i],
			.directory = generation,
			.group_may_read = true,
		};
	}
	err = kmtls_pem_certificates(&sources[SVID], &set->chain, ret_why);
	if (!err)
		err = kmtls_pem_key(&sources[KEY], &set->key, ret_why);
	return err ? err : kmtls_pem_certificates(&sources[BUNDLE], &set->roots, ret_why);
}

/* -EAGAIN: something has changed meanwhile. */
static int try_read(const struct kmtls_files_place *place, struct kmtls_files_set *set,
		    struct kmtls_files_mark *ret_mark, char *ret_why)
{
	int generation __cleanup_fd = open_generation(place);
	struct kmtls_files_mark after;
	int err;

	take_mark(place, generation, ret_mark);
	if (generation < 0) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.120s: cannot be opened: %s",
			 place->directory, strerror(-generation));
		return generation;
	}
	if (!is_current(generation, ret_mark))
		return -EAGAIN;
	err = read_files(place, generation, set, ret_why);
	take_mark(place, generation, &after);
	return is_same(ret_mark, &after) ? err : -EAGAIN;
}

int kmtls_files_set_read(const struct kmtls_files_place *place, struct kmtls_files_set *ret_set,
			 struct kmtls_files_mark *ret_mark, char *ret_why)
{
	struct kmtls_files_set set = {};
	int err = -EAGAIN;

	for (int i = 0; err == -EAGAIN && i < TRIES; i++) {
		kmtls_files_set_clear(&set);
		err = try_read(place, &set, ret_mark, ret_why);
	}
	if (err == -EAGAIN)
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.120s: changes faster than it can be read",
			 place->directory);
	if (!err)
		err = kmtls_files_set_check(place, &set, ret_why);
	if (err)
		kmtls_files_set_clear(&set);
	else
		*ret_set = set;
	return err;
}
