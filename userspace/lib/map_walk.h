/* SPDX-License-Identifier: Apache-2.0 */
/* map_walk.h - all entries of a BPF map, and how many there are. */
#ifndef KMTLS_MAP_WALK_H
#define KMTLS_MAP_WALK_H

#include <linux/types.h>
#include <stddef.h>

/*
 * Visits entries in the map's order, many with one system call. What others write meanwhile may be
 * seen or not, or seen twice. Hash, trie and array, not per CPU. A non-zero return of visit stops
 * and is returned. -EAGAIN: it changes faster than it can be read; -ENOMEM; -errno.
 */
int kmtls_map_walk(int fd, int (*visit)(void *context, const void *key, const void *value),
		   void *context);

/* Entries of a hash or trie: the kernel keeps the number to itself. *ret_capacity: room for. */
int kmtls_map_count(int fd, size_t *ret_entries, size_t *ret_capacity);

#endif
