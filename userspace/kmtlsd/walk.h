/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk.h - a loop looks at every slot of the flow table, some at a time, so that other work gets
 * its turn (expiry.c, review.c).
 */
#ifndef KMTLS_WALK_H
#define KMTLS_WALK_H

/* What a loop does before other work gets its turn, at most. */
#define KMTLS_WALK_SLOTS 4096

/* A loop's; in no other thread's hands. */
struct kmtls_walk {
	unsigned slot, count, left; /* the next to look at, of how many, and how many are left */
};

/* Anew with every slot, going on where the one before is: if each second has a reason to begin, all get
 * their turn. */
static inline void kmtls_walk_begin(struct kmtls_walk *walk, unsigned count)
{
	walk->count = walk->left = count;
	if (walk->slot >= count)
		walk->slot = 0;
}

/* The next slot; only while some are left. */
static inline unsigned kmtls_walk_next(struct kmtls_walk *walk)
{
	unsigned slot = walk->slot;

	walk->slot = slot + 1 < walk->count ? slot + 1 : 0;
	walk->left--;
	return slot;
}

#endif
