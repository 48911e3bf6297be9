/* SPDX-License-Identifier: Apache-2.0 */
/* map_write.c - see map_write.h. */
#include "map_write.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <unistd.h>

#define ENOMEM_TRIES 10

int kmtls_map_error(void)
{
	return errno == E2BIG ? -ENOSPC : -errno;
}

/*
 * Entries of a map that is not preallocated come from a small stock, which an interrupt fills up:
 * a writer that is faster than that gets ENOMEM, and finds more a moment later. Written again from
 * the beginning, which changes nothing.
 */
int kmtls_map_update(int fd, const void *keys, const void *values, __u32 count)
{
	for (unsigned tries = 1;; tries++) {
		__u32 written = count;

		if (bpf_map_update_batch(fd, keys, values, &written, NULL) == 0)
			return 0;
		if (errno != ENOMEM || tries == ENOMEM_TRIES)
			return kmtls_map_error();
		usleep(10 * 1000);
	}
}

int kmtls_map_put(int fd, const void *key, const void *value)
{
	if (value)
		return kmtls_map_update(fd, key, value, 1);
	return bpf_map_delete_elem(fd, key) < 0 && errno != ENOENT ? -errno : 0;
}
