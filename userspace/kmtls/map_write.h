/* SPDX-License-Identifier: Apache-2.0 */
/* map_write.h - writing entries of pinned maps, with what the kernel says made one. */
#ifndef KMTLS_MAP_WRITE_H
#define KMTLS_MAP_WRITE_H

#include <linux/types.h>

/* -errno of a refused write: a hash says E2BIG when it is full, a trie ENOSPC; here -ENOSPC. */
int kmtls_map_error(void);
/* Many with one system call; entries that are there are replaced. */
int kmtls_map_update(int fd, const void *keys, const void *values, __u32 count);
/* One; value NULL: it goes, and may have gone. */
int kmtls_map_put(int fd, const void *key, const void *value);

#endif
