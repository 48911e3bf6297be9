/* SPDX-License-Identifier: Apache-2.0 */
/* pod_store.c - see pod_store.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "hash.h"
#include "log.h"
#include "pod_store.h"

static int make_directory(const char *path, char *ret_why)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		int err = -errno;

		snprintf(ret_why, KMTLS_WHY, "%.150s: cannot be made: %s", path, strerror(-err));
		return err;
	}
	return 0;
}

int kmtls_pod_store_open(const char *run_dir, char *ret_why)
{
	char path[PATH_MAX];
	int err;

	err = make_directory(run_dir, ret_why);
	snprintf(path, sizeof(path), "%s/pods", run_dir);
	return err ? err : make_directory(path, ret_why);
}

/* A pod's name may hold a slash: its hash names the file. */
static void file_path(const char *run_dir, const char *name, const char *suffix, char *ret_path)
{
	snprintf(ret_path, PATH_MAX, "%s/pods/%016llx.json%s", run_dir,
		 (unsigned long long)kmtls_hash_text(name), suffix);
}

int kmtls_pod_store_put(const char *run_dir, const struct kmtls_pod_spec *spec, char *ret_why)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	json_t *pod;
	int err = 0;

	file_path(run_dir, spec->name, "", path);
	file_path(run_dir, spec->name, ".new", temporary);
	pod = json_pack("{s:s, s:s, s:s, s:s, s:b}", "name", spec->name, "netns", spec->netns,
			"cgroup", spec->cgroup, "id", spec->id, "connect_at_once",
			spec->connect_at_once);
	/* Versions that do not know the field read no file that has it. */
	if (pod && spec->accel != KMTLS_ACCEL_DEFAULT)
		json_object_set_new(pod, "accel", json_string(kmtls_accel_name(spec->accel)));
	if (!pod || json_dump_file(pod, temporary, JSON_INDENT(2)) < 0 ||
	    rename(temporary, path) < 0) {
		err = -EIO;
		snprintf(ret_why, KMTLS_WHY, "%.150s: cannot be written", path);
		unlink(temporary);
	}
	json_decref(pod);
	return err;
}

bool kmtls_pod_store_has(const char *run_dir, const char *name)
{
	char path[PATH_MAX];

	file_path(run_dir, name, "", path);
	return access(path, F_OK) == 0;
}

void kmtls_pod_store_delete(const char *run_dir, const char *name)
{
	char path[PATH_MAX];

	file_path(run_dir, name, "", path);
	unlink(path);
}

static void visit_file(const char *path,
		       void (*visit)(void *context, const struct kmtls_pod_spec *spec),
		       void *context)
{
	struct kmtls_pod_spec spec = {};
	const char *accel = NULL;
	int at_once = 0;
	json_error_t error;
	json_t *pod = json_load_file(path, JSON_REJECT_DUPLICATES, &error);

	if (!pod ||
	    json_unpack_ex(pod, &error, JSON_STRICT, "{s:s, s:s, s:s, s:s, s?b, s?s}", "name",
			   &spec.name, "netns", &spec.netns, "cgroup", &spec.cgroup, "id", &spec.id,
			   "connect_at_once", &at_once, "accel", &accel) < 0 ||
	    kmtls_accel_parse(accel, &spec.accel) < 0)
		log_error("remembered pod unreadable", "file=%s err=%s", kmtls_log_quote(path),
			  kmtls_log_quote(error.text));
	else {
		spec.connect_at_once = at_once;
		visit(context, &spec);
	}
	json_decref(pod);
}

void kmtls_pod_store_visit(const char *run_dir,
			   void (*visit)(void *context, const struct kmtls_pod_spec *spec),
			   void *context)
{
	struct dirent **entries = NULL;
	char path[PATH_MAX];
	int count;

	snprintf(path, sizeof(path), "%s/pods", run_dir);
	count = scandir(path, &entries, NULL, alphasort);
	for (int i = 0; i < count; i++) {
		size_t length = strlen(entries[i]->d_name);

		if (length > 5 && strcmp(entries[i]->d_name + length - 5, ".json") == 0) {
			snprintf(path, sizeof(path), "%s/pods/%s", run_dir, entries[i]->d_name);
			visit_file(path, visit, context);
		}
		free(entries[i]);
	}
	free(entries);
}

struct uses {
	const char *id;
	bool found;
};

static void compare_id(void *context, const struct kmtls_pod_spec *spec)
{
	struct uses *uses = context;

	uses->found = uses->found || strcmp(spec->id, uses->id) == 0;
}

bool kmtls_pod_store_uses(const char *run_dir, const char *id)
{
	struct uses uses = { .id = id };

	kmtls_pod_store_visit(run_dir, compare_id, &uses);
	return uses.found;
}

static void copy_id(void *context, const struct kmtls_pod_spec *spec)
{
	*(char **)context = strdup(spec->id);
}

int kmtls_pod_store_id(const char *run_dir, const char *name, char **ret_id)
{
	char path[PATH_MAX];

	if (!kmtls_pod_store_has(run_dir, name))
		return -ENOENT;
	*ret_id = NULL;
	file_path(run_dir, name, "", path);
	visit_file(path, copy_id, ret_id);
	return *ret_id ? 0 : -EINVAL;
}
