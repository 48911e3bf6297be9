/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expiry.h - an established flow does not outlive the peer's certificate. When the SVID that its
 * handshake showed has expired, the flow ends, unless the newest handshake between the same two
 * identities has shown one that has not: the peer still gets SVIDs. What that has shown is in
 * the map `peer_expiries`, so the next worker knows it, too.
 */
#ifndef KMTLS_EXPIRY_H
#define KMTLS_EXPIRY_H

#include <linux/types.h>
#include <time.h>

#include "walk.h"

struct kmtls_daemon;
struct kmtls_flow;
struct kmtls_loop;

/* A loop's; but for next in no other thread's hands. */
struct kmtls_expiry {
	/* The earliest end of a peer's SVID among its flows, as far as it has looked; seconds since
	 * the epoch. 0 at first: the flows of a worker before this one have not been looked at. */
	__u64 next;
	struct kmtls_walk walk;
};

/* A handshake of self has succeeded; peer has shown an SVID that ends at not_after. */
void kmtls_expiry_show(struct kmtls_daemon *daemon, __u64 self, __u64 peer, time_t not_after);
/* In the loop's thread: a flow of it is established. */
void kmtls_expiry_watch(struct kmtls_loop *loop, const struct kmtls_flow *flow);

/* Once a second, in one thread: tells the loops that have something to look at. */
void kmtls_expiry_tick(struct kmtls_daemon *daemon);
/* In the loop's thread: begins with every flow, unless it is still at it. */
void kmtls_expiry_begin(struct kmtls_loop *loop);
/* Looks at some; loop->expiry.walk.left tells whether there are more. */
void kmtls_expiry_some(struct kmtls_loop *loop);

#endif
