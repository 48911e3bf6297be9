/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netns.h - a pod's network namespace: its cookie, its addresses, sockets made inside it. A
 * socket stays in the namespace its thread was in when it was made, so threads enter and
 * remember where they are; they need not come back after each socket.
 */
#ifndef KMTLS_NETNS_H
#define KMTLS_NETNS_H

#include <linux/types.h>

#include "kmtls/abi.h"

#define KMTLS_NETNS_ADDRESSES 64

struct kmtls_netns_addresses {
	struct kmtls_address primary4, primary6; /* zero: has none */
	struct kmtls_address all[KMTLS_NETNS_ADDRESSES]; /* without loopback */
	unsigned count;
};

/* Moves the calling thread. fd: of the namespace; cookie: its cookie, to skip the move when
 * the thread is there already. */
int kmtls_netns_enter(int fd, __u64 cookie);
/* Back to the namespace the process started in. Call kmtls_netns_init() first, once. */
int kmtls_netns_leave(void);
int kmtls_netns_init(void);

/* Opens a path as a network namespace. -EINVAL: it is something else. */
int kmtls_netns_open(const char *path, char *ret_why);
/* SO_NETNS_COOKIE of a socket made inside. */
int kmtls_netns_cookie(int fd, __u64 *ret_cookie);
int kmtls_netns_addresses(int fd, __u64 cookie, struct kmtls_netns_addresses *ret_addresses);

/* false: the path leads elsewhere or nowhere. true also when that cannot be found out. */
bool kmtls_netns_is_at(const char *path, int fd);

#endif
