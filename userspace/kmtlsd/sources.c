/* SPDX-License-Identifier: Apache-2.0 */
/* sources.c - see sources.h. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "sources.h"
#include "tally.h"

struct kmtls_sources {
	pthread_mutex_t lock;
	struct kmtls_tally *tally;
	unsigned per_source, total, count;
};

int kmtls_sources_open(unsigned per_source, unsigned total, unsigned room,
		       struct kmtls_sources **ret_sources)
{
	struct kmtls_sources *sources = calloc(1, sizeof(*sources));

	if (!sources)
		return -ENOMEM;
	sources->per_source = per_source;
	sources->total = total ? total : UINT_MAX;
	sources->tally = kmtls_tally_open(room);
	if (!sources->tally) {
		free(sources);
		return -ENOMEM;
	}
	pthread_mutex_init(&sources->lock, NULL);
	*ret_sources = sources;
	return 0;
}

void kmtls_sources_close(struct kmtls_sources *sources)
{
	if (!sources)
		return;
	kmtls_tally_close(sources->tally);
	pthread_mutex_destroy(&sources->lock);
	free(sources);
}

void kmtls_sources_limit(struct kmtls_sources *sources, unsigned per_source, unsigned total)
{
	pthread_mutex_lock(&sources->lock);
	sources->per_source = per_source;
	sources->total = total ? total : UINT_MAX;
	pthread_mutex_unlock(&sources->lock);
}

/* Whoever has one IPv6 address has all of its /64. */
static struct kmtls_tally_key source_of(const struct kmtls_address *address)
{
	struct kmtls_tally_key key;

	memcpy(&key.high, address->bytes, 8);
	memcpy(&key.low, address->bytes + 8, 8);
	if (!kmtls_address_is_v4(address))
		key.low = 0;
	return key;
}

int kmtls_sources_enter(struct kmtls_sources *sources, const struct kmtls_address *address)
{
	struct kmtls_tally_key key = source_of(address);
	int err = -ENOSPC;

	pthread_mutex_lock(&sources->lock);
	if (sources->count < sources->total)
		err = kmtls_tally_add(sources->tally, &key, sources->per_source);
	sources->count += !err;
	pthread_mutex_unlock(&sources->lock);
	return err;
}

void kmtls_sources_leave(struct kmtls_sources *sources, const struct kmtls_address *address)
{
	struct kmtls_tally_key key = source_of(address);

	pthread_mutex_lock(&sources->lock);
	kmtls_tally_remove(sources->tally, &key);
	sources->count--;
	pthread_mutex_unlock(&sources->lock);
}
