/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names_collect.c - see names_collect.h. Mark and sweep; the marks are a sorted list. Then marked
 * again: what was taken away and is referred to by now comes back.
 */
#include "names_collect.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "kmtls/abi.h"
#include "map_walk.h"

struct hashes {
	__u64 *list;
	size_t count, size;
};

struct scan {
	const struct hashes *candidates;
	bool *used; /* by index of candidates */
	__u32 key_size, value_size;
	bool flows; /* the map is that of flows: its free slots refer to nothing */
	unsigned seen; /* maps of `referring`, as bits */
};

/* Without having seen all of these nobody knows what is unused. */
static const char *const referring[] = { "modes", "peers", "authorizations", "pods", "flows" };

#define REFERRING (sizeof(referring) / sizeof(referring[0]))

int kmtls_names_compare(const void *a, const void *b)
{
	__u64 left = *(const __u64 *)a, right = *(const __u64 *)b;

	return (left > right) - (left < right);
}

static int append(struct hashes *hashes, __u64 hash)
{
	if (hashes->count == hashes->size) {
		size_t size = hashes->size ? hashes->size * 2 : 1024;
		__u64 *list = reallocarray(hashes->list, size, sizeof(*list));

		if (!list)
			return -ENOMEM;
		hashes->list = list;
		hashes->size = size;
	}
	hashes->list[hashes->count++] = hash;
	return 0;
}

/* Each once: only one of two would be marked. */
static void sort(struct hashes *hashes)
{
	size_t kept = 0;

	if (hashes->count)
		qsort(hashes->list, hashes->count, sizeof(*hashes->list), kmtls_names_compare);
	for (size_t i = 0; i < hashes->count; i++)
		if (!kept || hashes->list[kept - 1] != hashes->list[i])
			hashes->list[kept++] = hashes->list[i];
	hashes->count = kept;
}

static int append_key(void *hashes, const void *key, const void *value)
{
	__u64 hash;

	memcpy(&hash, key, sizeof(hash));
	return append(hashes, hash);
}

static void mark(const struct scan *scan, const char *bytes, size_t size)
{
	for (size_t at = 0; at + sizeof(__u64) <= size; at += sizeof(__u64)) {
		const __u64 *found;
		__u64 hash;

		memcpy(&hash, bytes + at, sizeof(hash));
		found = bsearch(&hash, scan->candidates->list, scan->candidates->count,
				sizeof(hash), kmtls_names_compare);
		if (found)
			scan->used[found - scan->candidates->list] = true;
	}
}

static int mark_entry(void *context, const void *key, const void *value)
{
	const struct scan *scan = context;

	if (scan->flows && ((const struct kmtls_flow *)value)->state == KMTLS_FLOW_FREE)
		return 0;
	mark(scan, key, scan->key_size);
	mark(scan, value, scan->value_size);
	return 0;
}

static bool is_per_cpu(__u32 type)
{
	return type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_PERCPU_HASH ||
	       type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

/* One pinned object below directory; what is no map, or counts only, refers to nothing. */
static int scan_map(const char *path, const char *name, struct scan *scan)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	__cleanup_fd int fd = bpf_obj_get(path);

	if (fd < 0)
		return -errno;
	if (bpf_obj_get_info_by_fd(fd, &info, &length) < 0)
		return -errno;
	if (is_per_cpu(info.type))
		return 0;
	scan->key_size = info.key_size;
	scan->value_size = info.value_size;
	scan->flows = !strcmp(name, "flows") && info.value_size == sizeof(struct kmtls_flow);
	return kmtls_map_walk(fd, mark_entry, scan);
}

static int scan_entry(const char *directory, const char *name, struct scan *scan)
{
	char path[PATH_MAX];
	struct stat status;
	int err;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	if (!strcmp(name, "names"))
		return 0;
	if (stat(path, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return 0;
	err = scan_map(path, name, scan);
	for (size_t i = 0; !err && i < REFERRING; i++)
		if (!strcmp(name, referring[i]))
			scan->seen |= 1u << i;
	return err;
}

static int scan_directory(const char *directory, struct scan *scan)
{
	DIR *entries = opendir(directory);
	struct dirent *entry;
	int err = 0;

	if (!entries)
		return -errno;
	scan->seen = 0;
	while (!err) {
		errno = 0;
		entry = readdir(entries);
		if (!entry) {
			err = -errno;
			break;
		}
		err = scan_entry(directory, entry->d_name, scan);
	}
	closedir(entries);
	if (!err && scan->seen != (1u << REFERRING) - 1)
		err = -ENOENT;
	return err;
}

/* Removes one text. ret_text: it, to be freed, or NULL where nothing was removed. */
static int remove_text(int names, __u64 hash, char **ret_text)
{
	struct kmtls_name_value value;

	*ret_text = NULL;
	if (bpf_map_lookup_elem(names, &hash, &value) < 0)
		return errno == ENOENT ? 0 : -errno;
	value.text[KMTLS_SPIFFE_ID_MAX] = '\0';
	*ret_text = strdup(value.text);
	if (!*ret_text)
		return -ENOMEM;
	if (bpf_map_delete_elem(names, &hash) < 0) {
		free(*ret_text);
		*ret_text = NULL;
	}
	return 0;
}

static void put_back(int names, __u64 hash, const char *text)
{
	struct kmtls_name_value value = { .length = strlen(text) };

	memcpy(value.text, text, value.length);
	bpf_map_update_elem(names, &hash, &value, BPF_NOEXIST);
}

/* texts: by index of candidates, what was removed. */
static int sweep(int names, const struct scan *scan, char **texts, size_t *ret_removed)
{
	int err = 0;

	for (size_t i = 0; !err && i < scan->candidates->count; i++) {
		if (scan->used[i])
			continue;
		err = remove_text(names, scan->candidates->list[i], &texts[i]);
		*ret_removed += texts[i] != NULL;
	}
	return err;
}

/* What is referred to by now; all of it if that cannot be found out. */
static void restore(const char *directory, int names, struct scan *scan, char **texts,
		    size_t *removed)
{
	int err = scan_directory(directory, scan);

	for (size_t i = 0; i < scan->candidates->count; i++) {
		if (!texts[i] || (!err && !scan->used[i]))
			continue;
		put_back(names, scan->candidates->list[i], texts[i]);
		--*removed;
	}
}

static int list_candidates(int names, const __u64 *candidates, size_t count,
			   struct hashes *ret_hashes)
{
	int err = 0;

	for (size_t i = 0; !err && candidates && i < count; i++)
		err = append(ret_hashes, candidates[i]);
	if (!candidates)
		err = kmtls_map_walk(names, append_key, ret_hashes);
	sort(ret_hashes);
	return err;
}

int kmtls_names_collect(const char *directory, const __u64 *candidates, size_t count,
			const __u64 *keep, size_t keep_count, size_t *ret_removed)
{
	struct hashes hashes = { .list = NULL };
	struct scan scan = { .candidates = &hashes };
	__cleanup_fd int names = -1;
	char path[PATH_MAX], **texts;
	int err;

	*ret_removed = 0;
	snprintf(path, sizeof(path), "%s/names", directory);
	names = bpf_obj_get(path);
	if (names < 0)
		return -errno;
	err = list_candidates(names, candidates, count, &hashes);
	scan.used = calloc(hashes.count + 1, sizeof(*scan.used));
	texts = calloc(hashes.count + 1, sizeof(*texts));
	if (!err && (!scan.used || !texts))
		err = -ENOMEM;
	for (size_t i = 0; !err && i < hashes.count; i++)
		scan.used[i] = keep && bsearch(&hashes.list[i], keep, keep_count, sizeof(*keep),
					       kmtls_names_compare);
	if (!err && hashes.count)
		err = scan_directory(directory, &scan);
	if (!err) {
		err = sweep(names, &scan, texts, ret_removed);
		if (*ret_removed)
			restore(directory, names, &scan, texts, ret_removed);
	}
	for (size_t i = 0; texts && i < hashes.count; i++)
		free(texts[i]);
	free(texts);
	free(scan.used);
	free(hashes.list);
	return err;
}
