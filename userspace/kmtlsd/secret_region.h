/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secret_region.h - memory for what must outlive a worker and must not get out: SVIDs with
 * their keys, the CAs' keys, the traffic secrets of flows that may rekey. Made by the keeper,
 * which never looks into it; shared with workers and, by its descriptor, with the next keeper.
 *
 * memfd_secret(2) where the kernel allows it: not in core dumps, not for ptrace, not in the
 * kernel's own map of memory. Else a memfd, locked and left out of core dumps.
 */
#ifndef KMTLS_SECRET_REGION_H
#define KMTLS_SECRET_REGION_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct kmtls_secret_region;

/* Longest value: a chain of certificates with its key. */
#define KMTLS_SECRET_MAX 16384u
/* Bytes for each slot of the flow table. */
#define KMTLS_SECRET_FLOW_SIZE 256u

enum kmtls_secret_kind {
	KMTLS_SECRET_CA = 1, /* of a backend; key: hash of its name */
	KMTLS_SECRET_SVID = 2, /* key: hash of the SPIFFE ID */
	KMTLS_SECRET_ROOTS = 3, /* of a backend whose CA is elsewhere; key: hash of its name */
};

/* ret_why: 256 bytes. */
int kmtls_secret_region_create(unsigned max_flows, struct kmtls_secret_region **ret_region,
			       int *ret_fd, char *ret_why);
/* -EPROTO: of another version. */
int kmtls_secret_region_map(int fd, struct kmtls_secret_region **ret_region, char *ret_why);
/* Worker: locks are not inherited. */
void kmtls_secret_region_lock(struct kmtls_secret_region *region);
/* Is it memfd_secret? */
bool kmtls_secret_region_is_secret(const struct kmtls_secret_region *region);

/* A descriptor of so much memory of the same kind, all zero; -errno. Not locked yet if it is no
 * memfd_secret. */
int kmtls_secret_memory(size_t size, bool *ret_secret);

/*
 * Values by kind and key; any thread of a worker. Replacing one is a single store: after a
 * crash there is the old one or the new one. -E2BIG, -ENOSPC.
 */
int kmtls_secret_put(struct kmtls_secret_region *region, enum kmtls_secret_kind kind, __u64 key,
		     const void *bytes, size_t length);
/* The length, at most size; -ENOENT. The caller wipes buffer. */
ssize_t kmtls_secret_get(struct kmtls_secret_region *region, enum kmtls_secret_kind kind, __u64 key,
			 void *buffer, size_t size);
void kmtls_secret_delete(struct kmtls_secret_region *region, enum kmtls_secret_kind kind,
			 __u64 key); /* wipes */

/* Wipes all of a kind but those. */
void kmtls_secret_delete_others(struct kmtls_secret_region *region, enum kmtls_secret_kind kind,
				const __u64 *keys, unsigned count);

/* KMTLS_SECRET_FLOW_SIZE bytes of a slot, zero at first; whoever uses them wipes them. */
void *kmtls_secret_of_flow(struct kmtls_secret_region *region, unsigned slot);

#endif
