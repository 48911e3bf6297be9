/* SPDX-License-Identifier: Apache-2.0 */
/* map_walk.c - see map_walk.h. */
#include "map_walk.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "cleanup.h"

/* Entries of one system call; more than any bucket of a hash holds, which comes whole. */
#define BATCH 512
/* Where a batch ended: a key of a trie or array, the number of a bucket of a hash. */
#define TOKEN 64
/* A trie whose key went away while it was read begins again. */
#define ROUNDS 4

static int get_info(int fd, struct bpf_map_info *ret_info)
{
	__u32 length = sizeof(*ret_info);

	return bpf_obj_get_info_by_fd(fd, ret_info, &length) < 0 ? -errno : 0;
}

int kmtls_map_walk(int fd, int (*visit)(void *context, const void *key, const void *value),
		   void *context)
{
	__cleanup_free char *keys = NULL, *values = NULL;
	struct bpf_map_info info = {};
	char tokens[2][TOKEN];
	size_t seen = 0;
	int err = get_info(fd, &info);

	if (err)
		return err;
	if (info.key_size > TOKEN)
		return -E2BIG;
	keys = calloc(BATCH, info.key_size);
	values = calloc(BATCH, info.value_size);
	if (!keys || !values)
		return -ENOMEM;
	for (unsigned round = 0; !err; round++) {
		__u32 count = BATCH;

		if (bpf_map_lookup_batch(fd, round ? tokens[round % 2] : NULL,
					 tokens[(round + 1) % 2], keys, values, &count, NULL) < 0)
			err = -errno;
		if (err && err != -ENOENT)
			return err;
		seen += count;
		if (seen / ROUNDS > info.max_entries)
			return -EAGAIN;
		for (__u32 i = 0; i < count; i++) {
			int stop = visit(context, keys + (size_t)i * info.key_size,
					 values + (size_t)i * info.value_size);

			if (stop)
				return stop;
		}
	}
	return 0; /* -ENOENT is the end */
}

int kmtls_map_count(int fd, size_t *ret_entries, size_t *ret_capacity)
{
	struct bpf_map_info info = {};
	char keys[2][TOKEN] = {};
	size_t entries = 0;
	int err = get_info(fd, &info);

	if (err)
		return err;
	if (info.key_size > TOKEN)
		return -E2BIG;
	while (bpf_map_get_next_key(fd, entries ? keys[entries % 2] : NULL,
				    keys[(entries + 1) % 2]) == 0) {
		/* Begun again, because the key before was deleted: it was as full as that. */
		if (++entries > info.max_entries)
			break;
	}
	*ret_entries = entries > info.max_entries ? info.max_entries : entries;
	*ret_capacity = info.max_entries;
	return 0;
}
