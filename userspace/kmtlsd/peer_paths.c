/* SPDX-License-Identifier: Apache-2.0 */
/* peer_paths.c - see peer_paths.h. */
#include "peer_paths.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "flow_table.h"
#include "revocation.h"

#define PATH_BYTES (KMTLS_TLS_INTERMEDIATES_MAX * sizeof(__u64))

/* Of one worker; the one before it is dead. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool is_free(const struct kmtls_peer_paths *paths, unsigned place)
{
	return !__atomic_load_n(&paths->issuers[place][0], __ATOMIC_ACQUIRE);
}

/* Frees what no flow has any more. A slot gets its number under the lock, so none is missed. */
static void sweep(struct kmtls_peer_paths *paths, const struct kmtls_flow_table *table)
{
	bool used[KMTLS_PEER_PATHS + 1] = { false };

	for (unsigned slot = 0; slot < *table->used; slot++) {
		const struct kmtls_flow *flow = &table->slots[slot];
		__u32 path = __atomic_load_n(&flow->peer_path, __ATOMIC_RELAXED);

		if (kmtls_flow_state(flow) != KMTLS_FLOW_FREE && path <= KMTLS_PEER_PATHS)
			used[path] = true;
	}
	for (unsigned place = 0; place < KMTLS_PEER_PATHS; place++)
		if (!used[place + 1])
			__atomic_store_n(&paths->issuers[place][0], 0, __ATOMIC_RELEASE);
}

/* -ENOSPC. */
static int find(const struct kmtls_peer_paths *paths, const __u64 *issuers)
{
	int found = -ENOSPC;

	for (unsigned place = 0; place < KMTLS_PEER_PATHS; place++) {
		if (!memcmp(paths->issuers[place], issuers, PATH_BYTES))
			return (int)place;
		if (found < 0 && is_free(paths, place))
			found = (int)place;
	}
	return found;
}

static void fill(__u64 *place, const __u64 *issuers)
{
	for (unsigned i = KMTLS_TLS_INTERMEDIATES_MAX; i-- > 0;)
		__atomic_store_n(&place[i], issuers[i], __ATOMIC_RELEASE);
}

int kmtls_peer_paths_put(struct kmtls_peer_paths *paths, const struct kmtls_flow_table *table,
			 struct kmtls_flow *flow, const __u64 *issuers)
{
	int place;

	if (!issuers[0])
		return 0; /* issued by a root, which nobody revokes */
	pthread_mutex_lock(&lock);
	place = find(paths, issuers);
	if (place < 0) {
		sweep(paths, table);
		place = find(paths, issuers);
	}
	if (place >= 0) {
		if (is_free(paths, (unsigned)place))
			fill(paths->issuers[place], issuers);
		__atomic_store_n(&flow->peer_path, (__u32)place + 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&lock);
	return place < 0 ? place : 0;
}

bool kmtls_peer_paths_revoked(const struct kmtls_peer_paths *paths, const struct kmtls_flow *flow)
{
	if (!flow->peer_path || flow->peer_path > KMTLS_PEER_PATHS)
		return false;
	for (unsigned i = 0; i < KMTLS_TLS_INTERMEDIATES_MAX; i++)
		if (kmtls_revocation_holds(paths->issuers[flow->peer_path - 1][i]))
			return true;
	return false;
}
