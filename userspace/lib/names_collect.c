/* SPDX-License-Identifier: Apache-2.0 */
/* names_collect.c - see names_collect.h. Mark and sweep; the marks are a sorted list. */
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
#include "map_walk.h"

struct hashes {
	__u64 *list;
	size_t count, size;
};

struct scan {
	const struct hashes *candidates;
	bool *used; /* by index of candidates */
	__u32 key_size, value_size;
};

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
static int scan_map(const char *path, struct scan *scan)
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
	return kmtls_map_walk(fd, mark_entry, scan);
}

static int scan_directory(const char *directory, struct scan *scan)
{
	DIR *entries = opendir(directory);
	struct dirent *entry;
	char path[PATH_MAX];
	struct stat status;
	int err = 0;

	if (!entries)
		return -errno;
	while (!err && (entry = readdir(entries))) {
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		if (!strcmp(entry->d_name, "names") || stat(path, &status) < 0 ||
		    !S_ISREG(status.st_mode))
			continue;
		err = scan_map(path, scan);
	}
	closedir(entries);
	return err;
}

static size_t sweep(int names, const struct hashes *candidates, const bool *used)
{
	size_t removed = 0;

	for (size_t i = 0; i < candidates->count; i++)
		if (!used[i] && bpf_map_delete_elem(names, &candidates->list[i]) == 0)
			removed++;
	return removed;
}

int kmtls_names_collect(const char *directory, const __u64 *candidates, size_t count,
			const __u64 *keep, size_t keep_count, size_t *ret_removed)
{
	struct hashes hashes = { .list = NULL };
	struct scan scan = { .candidates = &hashes };
	__cleanup_fd int names = -1;
	char path[PATH_MAX];
	int err = 0;

	snprintf(path, sizeof(path), "%s/names", directory);
	names = bpf_obj_get(path);
	if (names < 0)
		return -errno;
	for (size_t i = 0; !err && candidates && i < count; i++)
		err = append(&hashes, candidates[i]);
	if (!candidates)
		err = kmtls_map_walk(names, append_key, &hashes);
	sort(&hashes);
	scan.used = calloc(hashes.count + 1, sizeof(*scan.used));
	if (!err && !scan.used)
		err = -ENOMEM;
	for (size_t i = 0; !err && i < hashes.count; i++)
		scan.used[i] = keep && bsearch(&hashes.list[i], keep, keep_count, sizeof(*keep),
					       kmtls_names_compare);
	if (!err && hashes.count)
		err = scan_directory(directory, &scan);
	if (!err)
		*ret_removed = sweep(names, &hashes, scan.used);
	free(scan.used);
	free(hashes.list);
	return err;
}
