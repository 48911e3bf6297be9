/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity_files.c - SVIDs that somebody else writes into a directory, one for the node or one for
 * each pod. They are read when they change, and a short while after they stopped changing; what is
 * torn, or breaks a rule, is not taken: the set before stays in use, and it is tried again.
 */
#include "identity.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "files_directory.h"
#include "hash.h"
#include "pods.h"
#include "svid_store.h"

#define POD "{pod}"
#define IDLE 60000 /* a pod's directory that nobody asks for any more */

struct files {
	struct kmtls_identity identity; /* first: what the interface passes around */
	pthread_mutex_t lock; /* of all below */
	struct kmtls_files_source source;
	bool by_pod;
	unsigned count, tags;
	struct kmtls_files_directory *directories[KMTLS_PODS_MAX];
};

static struct files *files_of(struct kmtls_identity *identity)
{
	return (struct files *)identity;
}

/* ---- directories ---- */

/* A pod's name is a part of the path, or two. */
static int expand(const struct files *files, const struct kmtls_identity_subject *subject,
		  char *path, char *ret_why)
{
	const char *from = files->identity.options.backend->directory, *at;
	size_t length = 0;

	for (const char *part = subject->pod; *part; part += strcspn(part, "/")) {
		part += *part == '/';
		if (strspn(part, ".") < 3 && strcspn(part, "/") == strspn(part, ".")) {
			snprintf(ret_why, KMTLS_IDENTITY_WHY,
				 "pod %.128s: its name cannot be part of a path", subject->pod);
			return -EINVAL;
		}
	}
	for (; (at = strstr(from, POD)) && length < PATH_MAX; from = at + strlen(POD))
		length += snprintf(path + length, PATH_MAX - length, "%.*s%s", (int)(at - from),
				   from, subject->pod);
	if (length < PATH_MAX)
		length += snprintf(path + length, PATH_MAX - length, "%s", from);
	/* Files follow. */
	if (length < PATH_MAX - NAME_MAX - 1)
		return 0;
	snprintf(ret_why, KMTLS_IDENTITY_WHY, "pod %.128s: its directory's path is too long",
		 subject->pod);
	return -ENAMETOOLONG;
}

static struct kmtls_files_directory *add(struct files *files, const char *path)
{
	struct kmtls_files_directory *directory = NULL;

	if (files->count < KMTLS_PODS_MAX)
		directory = kmtls_files_directory_new(&files->source, path, files->tags++);
	if (directory)
		files->directories[files->count++] = directory;
	return directory;
}

/* That of subject, which is looked at if it is new. NULL, and why. */
static struct kmtls_files_directory *
find(struct files *files, const struct kmtls_identity_subject *subject, char *ret_why)
{
	char path[PATH_MAX];
	struct kmtls_files_directory *directory = files->by_pod ? NULL : files->directories[0];
	__u64 hash;

	if (!directory && expand(files, subject, path, ret_why))
		return NULL;
	hash = directory ? 0 : kmtls_hash_text(path);
	for (unsigned i = 0; !directory && i < files->count; i++)
		if (files->directories[i]->hash == hash &&
		    !strcmp(files->directories[i]->path, path))
			directory = files->directories[i];
	if (!directory)
		directory = add(files, path);
	if (directory)
		directory->asked = kmtls_files_now_ms();
	else
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.120s: no memory or no place for it", path);
	return directory;
}

static void forget_idle(struct files *files)
{
	__u64 now = kmtls_files_now_ms();

	for (unsigned i = 0; files->by_pod && i < files->count;) {
		struct kmtls_files_directory *directory = files->directories[i];

		if (now < directory->asked + IDLE) {
			i++;
			continue;
		}
		kmtls_files_directory_free(&files->source, directory);
		files->directories[i] = files->directories[--files->count];
	}
}

/* ---- the interface ---- */

static int fill(const struct kmtls_files_directory *directory,
		const struct kmtls_identity_subject *subject, const char *name,
		struct kmtls_identity_material *ret_material, char *ret_why)
{
	const struct kmtls_files_set *set = &directory->set;

	if (!set->leaf) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%s", directory->why);
		return -ENOENT;
	}
	if (strcmp(set->id, subject->id) != 0) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.50s/%.30s: is of %.70s, the pod is %.70s",
			 directory->path, name, set->id, subject->id);
		return -EINVAL;
	}
	if (set->not_after <= time(NULL)) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.80s/%.40s: the SVID has expired%s%.90s",
			 directory->path, name, directory->why[0] ? "; now " : "", directory->why);
		return -EKEYEXPIRED;
	}
	ret_material->chain = set->chain ? X509_chain_up_ref(set->chain) : NULL;
	if (set->chain && !ret_material->chain) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "out of memory");
		return -ENOMEM;
	}
	X509_up_ref(set->leaf);
	EVP_PKEY_up_ref(set->key);
	ret_material->leaf = set->leaf;
	ret_material->key = set->key;
	return 0;
}

static int issue(struct kmtls_identity *identity, const struct kmtls_identity_subject *subject,
		 struct kmtls_identity_material *ret_material, char *ret_why)
{
	struct files *files = files_of(identity);
	struct kmtls_files_directory *directory;
	int err = -ENOENT;

	pthread_mutex_lock(&files->lock);
	directory = find(files, subject, ret_why);
	if (directory)
		err = fill(directory, subject, identity->options.backend->svid_name, ret_material,
			   ret_why);
	pthread_mutex_unlock(&files->lock);
	return err;
}

static bool add_roots(const struct kmtls_files_directory *directory, STACK_OF(X509) * to)
{
	STACK_OF(X509) *roots = directory->set.leaf ? directory->set.roots : directory->kept;

	for (int i = 0; i < sk_X509_num(roots); i++)
		if (!X509_add_cert(to, sk_X509_value(roots, i),
				   X509_ADD_FLAG_UP_REF | X509_ADD_FLAG_NO_DUP))
			return false;
	return true;
}

static STACK_OF(X509) *
	roots(struct kmtls_identity *identity, const struct kmtls_identity_subject *subject)
{
	struct files *files = files_of(identity);
	STACK_OF(X509) *all = sk_X509_new_null();
	char ignored[KMTLS_IDENTITY_WHY];
	const struct kmtls_files_directory *directory;
	bool added = all != NULL;

	pthread_mutex_lock(&files->lock);
	directory = subject ? find(files, subject, ignored) : NULL;
	if (added && directory)
		added = add_roots(directory, all);
	for (unsigned i = 0; added && !subject && i < files->count; i++)
		added = add_roots(files->directories[i], all);
	pthread_mutex_unlock(&files->lock);
	if (added)
		return all;
	sk_X509_pop_free(all, X509_free);
	return NULL;
}

static X509 *authority(const struct kmtls_identity *identity)
{
	return NULL;
}

static unsigned version(struct kmtls_identity *identity,
			const struct kmtls_identity_subject *subject)
{
	struct files *files = files_of(identity);
	char ignored[KMTLS_IDENTITY_WHY];
	const struct kmtls_files_directory *directory;
	unsigned number = 0;

	pthread_mutex_lock(&files->lock);
	directory = find(files, subject, ignored);
	if (directory)
		number = directory->version;
	pthread_mutex_unlock(&files->lock);
	return number;
}

static enum kmtls_identity_state state(struct kmtls_identity *identity,
				       const struct kmtls_identity_subject *subject, char *ret_why)
{
	struct files *files = files_of(identity);
	enum kmtls_identity_state worst = KMTLS_IDENTITY_OK;
	const struct kmtls_files_directory *one;

	ret_why[0] = '\0';
	pthread_mutex_lock(&files->lock);
	one = subject ? find(files, subject, ret_why) : NULL;
	if (subject && !one)
		worst = KMTLS_IDENTITY_REFUSED;
	for (unsigned i = 0; i < files->count; i++) {
		const struct kmtls_files_directory *directory = files->directories[i];

		if (directory->state <= worst || (subject && directory != one))
			continue;
		worst = directory->state;
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%s", directory->why);
	}
	pthread_mutex_unlock(&files->lock);
	return worst;
}

/* So that they are trusted on, should a worker die while the directory is away. The roots of a pod's
 * own directory are kept with its SVID. */
static int keep_roots(struct files *files)
{
	struct kmtls_files_directory *directory = files->by_pod ? NULL : files->directories[0];
	const struct kmtls_identity_options *options = &files->identity.options;
	char name[KMTLS_BACKEND_KEPT_NAME];

	if (!directory || !directory->unkept || !options->secrets)
		return 0;
	directory->unkept = false;
	return kmtls_svid_store_put_roots(options->secrets,
					  kmtls_backend_kept_name(options->backend, name),
					  directory->set.roots);
}

static int keep(const struct kmtls_identity *identity)
{
	struct files *files = files_of((struct kmtls_identity *)identity);
	int err;

	pthread_mutex_lock(&files->lock);
	err = keep_roots(files);
	pthread_mutex_unlock(&files->lock);
	return err;
}

static void changed(void *context, unsigned tag)
{
	struct files *files = context;

	for (unsigned i = 0; i < files->count; i++)
		if (tag == KMTLS_FILES_WATCH_ALL || files->directories[i]->tag == tag)
			kmtls_files_directory_touch(files->directories[i]);
}

static void tick(struct kmtls_identity *identity)
{
	struct files *files = files_of(identity);

	pthread_mutex_lock(&files->lock);
	if (files->source.watch)
		kmtls_files_watch_poll(files->source.watch, changed, files);
	for (unsigned i = 0; i < files->count; i++)
		kmtls_files_directory_tick(&files->source, files->directories[i]);
	forget_idle(files);
	keep_roots(files);
	pthread_mutex_unlock(&files->lock);
}

static int refresh(struct kmtls_identity *identity, bool *ret_changed, char *ret_why)
{
	struct files *files = files_of(identity);
	bool changed = false;
	int result = 0;

	pthread_mutex_lock(&files->lock);
	for (unsigned i = 0; i < files->count; i++) {
		unsigned before = files->directories[i]->version;
		char why[KMTLS_IDENTITY_WHY];
		int err = kmtls_files_directory_look(&files->source, files->directories[i], why);

		if (err && !result)
			snprintf(ret_why, KMTLS_IDENTITY_WHY, "%s", why);
		result = result ? result : err;
		changed = changed || files->directories[i]->version != before;
	}
	keep_roots(files);
	pthread_mutex_unlock(&files->lock);
	*ret_changed = changed;
	return result;
}

static void close_files(struct kmtls_identity *identity)
{
	struct files *files = files_of(identity);

	while (files->count)
		kmtls_files_directory_free(&files->source, files->directories[--files->count]);
	kmtls_files_watch_close(files->source.watch);
	pthread_mutex_destroy(&files->lock);
	free(files);
}

static const struct kmtls_identity_operations operations = {
	.issue = issue,
	.roots = roots,
	.authority = authority,
	.version = version,
	.tick = tick,
	.state = state,
	.refresh = refresh,
	.keep = keep,
	.close = close_files,
};

/* What is not there yet may come: that is no reason not to start. */
int kmtls_identity_files_open(const struct kmtls_identity_options *options,
			      struct kmtls_identity **ret_identity, char *ret_why)
{
	struct files *files = calloc(1, sizeof(*files));
	struct kmtls_files_directory *directory;
	char name[KMTLS_BACKEND_KEPT_NAME];

	snprintf(ret_why, KMTLS_IDENTITY_WHY, "out of memory");
	if (!files)
		return -ENOMEM;
	files->identity.operations = &operations;
	files->identity.options = *options;
	pthread_mutex_init(&files->lock, NULL);
	files->by_pod = strstr(options->backend->directory, POD) != NULL;
	files->source.options = &files->identity.options;
	kmtls_files_source_open(&files->source);
	if (!files->by_pod) {
		directory = add(files, options->backend->directory);
		if (!directory) {
			close_files(&files->identity);
			return -ENOMEM;
		}
		if (!directory->set.leaf && options->secrets && options->prefer_kept)
			kmtls_svid_store_get_roots(options->secrets,
						   kmtls_backend_kept_name(options->backend, name),
						   &directory->kept);
	}
	*ret_identity = &files->identity;
	return 0;
}
