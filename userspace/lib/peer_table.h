/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_table.h - entries of the peers map in memory, sorted, and what must be written to get from
 * one set of them to another.
 */
#ifndef KMTLS_PEER_TABLE_H
#define KMTLS_PEER_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "kmtls/abi.h"

struct kmtls_peer_entry {
	struct kmtls_peer_key key;
	struct kmtls_peer_value value;
	unsigned line; /* of the file it is from, or 0 */
};

struct kmtls_peer_table {
	struct kmtls_peer_entry *entries;
	size_t count, size;
};

int kmtls_peer_key_compare(const struct kmtls_peer_key *a, const struct kmtls_peer_key *b);

/* -ENOMEM. */
int kmtls_peer_table_append(struct kmtls_peer_table *table, const struct kmtls_peer_entry *entry);
/* By address, then by length, then by line. */
void kmtls_peer_table_sort(struct kmtls_peer_table *table);
/* In a sorted table; NULL: exactly this prefix is not there. */
const struct kmtls_peer_entry *kmtls_peer_table_find(const struct kmtls_peer_table *table,
						     const struct kmtls_peer_key *key);
void kmtls_peer_table_free(struct kmtls_peer_table *table);

enum kmtls_peer_action { KMTLS_PEER_ADD, KMTLS_PEER_CHANGE, KMTLS_PEER_DELETE, KMTLS_PEER_ACTIONS };

struct kmtls_peer_step {
	struct kmtls_peer_key key;
	struct kmtls_peer_value before, after; /* zero where there is none */
};

/* Steps in the order in which they may be taken: at no moment is an address without the entry it
 * has before or the one it will have, deleted ones apart, which come last. */
struct kmtls_peer_plan {
	struct kmtls_peer_step *steps;
	size_t first[KMTLS_PEER_ACTIONS], count[KMTLS_PEER_ACTIONS];
	size_t total, unchanged;
};

/* Both tables sorted. replace: what is not wanted goes. -ENOMEM. */
int kmtls_peer_plan_make(const struct kmtls_peer_table *before,
			 const struct kmtls_peer_table *wanted, bool replace,
			 struct kmtls_peer_plan *ret_plan);
void kmtls_peer_plan_free(struct kmtls_peer_plan *plan);

#endif
