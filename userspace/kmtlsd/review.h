/* SPDX-License-Identifier: Apache-2.0 */
/*
 * review.h - authorization of what is established already. Twice a second the daemon looks whether
 * what decides has changed, by whomever; if so each event loop asks again for each of its flows
 * whose pod is the server, a few at a time, and resets those that are denied now; and of all its
 * flows those whose peer a CRL revokes by now.
 */
#ifndef KMTLS_REVIEW_H
#define KMTLS_REVIEW_H

#include <linux/types.h>
#include <stdbool.h>

#include "walk.h"

struct kmtls_daemon;
struct kmtls_loop;

#define KMTLS_REVIEW_ANSWERS 64

/* A loop's; in no other thread's hands. */
struct kmtls_review {
	struct kmtls_walk walk;
	/* Who was allowed in this review: flows of the same identities and port share an answer. */
	struct kmtls_review_answer {
		__u64 peer, self; /* 0: none */
		__u16 port;
	} answers[KMTLS_REVIEW_ANSWERS];
};

/* Twice a second, in one thread. A new worker's first look is always a change. */
void kmtls_review_tick(struct kmtls_daemon *daemon);
/* In the loop's thread: begins anew with every flow. */
void kmtls_review_begin(struct kmtls_loop *loop);
/* In the loop's thread, for a flow that is established: resets it if its peer is revoked. */
bool kmtls_review_revoked(struct kmtls_loop *loop, unsigned slot);
/* Looks at some; loop->review.walk.left tells whether there are more. */
void kmtls_review_some(struct kmtls_loop *loop);

#endif
