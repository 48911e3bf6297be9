/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tally.h - how many of something each of several owners has: flows of a pod, handshakes of
 * a source. Room is for a fixed number of owners who have any; who has none takes no room.
 * Not locked: the user's lock is held.
 */
#ifndef KMTLS_TALLY_H
#define KMTLS_TALLY_H

#include <linux/types.h>

struct kmtls_tally_key {
	__u64 high, low;
};

struct kmtls_tally;

/* NULL: out of memory. */
struct kmtls_tally *kmtls_tally_open(unsigned owners);
void kmtls_tally_close(struct kmtls_tally *tally);

/* One more, unless key has limit already (0: no limit): -EDQUOT. -ENOSPC: too many owners. */
int kmtls_tally_add(struct kmtls_tally *tally, const struct kmtls_tally_key *key, unsigned limit);
/* One less. */
void kmtls_tally_remove(struct kmtls_tally *tally, const struct kmtls_tally_key *key);
unsigned kmtls_tally_count(const struct kmtls_tally *tally, const struct kmtls_tally_key *key);

#endif
