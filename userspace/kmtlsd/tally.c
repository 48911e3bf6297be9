/* SPDX-License-Identifier: Apache-2.0 */
/* tally.c - see tally.h: an open hash table with linear probing, at most half full. */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "tally.h"

struct entry {
	struct kmtls_tally_key key;
	unsigned count; /* 0: the place is empty */
};

struct kmtls_tally {
	__u64 seed; /* strangers choose addresses: nobody shall know where they meet */
	unsigned size, used, owners; /* size: a power of two */
	struct entry entries[];
};

struct kmtls_tally *kmtls_tally_open(unsigned owners)
{
	struct kmtls_tally *tally;
	unsigned size = 16;

	while (size < 2 * owners)
		size *= 2;
	tally = calloc(1, sizeof(*tally) + size * sizeof(tally->entries[0]));
	if (!tally)
		return NULL;
	tally->size = size;
	tally->owners = owners;
	/* Early in the life of a machine there may be no randomness: then without. */
	(void)!getrandom(&tally->seed, sizeof(tally->seed), GRND_NONBLOCK);
	return tally;
}

void kmtls_tally_close(struct kmtls_tally *tally)
{
	free(tally);
}

static __u64 mix(__u64 value)
{
	value = (value ^ value >> 32) * 0x9e3779b97f4a7c15ull;
	return value ^ value >> 29;
}

static unsigned home(const struct kmtls_tally *tally, const struct kmtls_tally_key *key)
{
	return mix(mix(key->high ^ tally->seed) + key->low) & (tally->size - 1);
}

/* Where key is, or the empty place where it would be. */
static unsigned find(const struct kmtls_tally *tally, const struct kmtls_tally_key *key)
{
	unsigned place = home(tally, key);

	while (tally->entries[place].count && (tally->entries[place].key.high != key->high ||
					       tally->entries[place].key.low != key->low))
		place = (place + 1) & (tally->size - 1);
	return place;
}

int kmtls_tally_add(struct kmtls_tally *tally, const struct kmtls_tally_key *key, unsigned limit)
{
	struct entry *entry = &tally->entries[find(tally, key)];

	if (limit && entry->count >= limit)
		return -EDQUOT;
	if (!entry->count) {
		if (tally->used == tally->owners)
			return -ENOSPC;
		tally->used++;
		entry->key = *key;
	}
	entry->count++;
	return 0;
}

/* Moves up those who were pushed behind the place that became empty. */
static void close_gap(struct kmtls_tally *tally, unsigned gap)
{
	unsigned mask = tally->size - 1;

	for (unsigned place = (gap + 1) & mask; tally->entries[place].count;
	     place = (place + 1) & mask) {
		unsigned from_home = (place - home(tally, &tally->entries[place].key)) & mask;

		if (from_home < ((place - gap) & mask))
			continue; /* its home is behind the gap */
		tally->entries[gap] = tally->entries[place];
		tally->entries[place].count = 0;
		gap = place;
	}
}

void kmtls_tally_remove(struct kmtls_tally *tally, const struct kmtls_tally_key *key)
{
	unsigned place = find(tally, key);

	if (!tally->entries[place].count || --tally->entries[place].count)
		return;
	tally->used--;
	close_gap(tally, place);
}

unsigned kmtls_tally_count(const struct kmtls_tally *tally, const struct kmtls_tally_key *key)
{
	return tally->entries[find(tally, key)].count;
}
