/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resumption_table.h - what full handshakes have left for others to resume (resumption.h): servers
 * find an entry by the identity that a client offers, clients by their SVID and the address they
 * connect to. An entry does not change and is counted, so that a handshake under way keeps what it
 * began with. The calls may come from any thread.
 */
#ifndef KMTLS_RESUMPTION_TABLE_H
#define KMTLS_RESUMPTION_TABLE_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "key_schedule.h"
#include "psk_schedule.h"
#include "resumption.h"

#define KMTLS_RESUMPTION_IDENTITY 32 /* bytes */
#define KMTLS_RESUMPTION_BUCKETS 1024 /* a power of 2 */

struct kmtls_resumption_entry {
	unsigned references; /* atomic */
	struct kmtls_resumption_entry *next; /* in its bucket */
	struct kmtls_resumption_entry *older, *newer; /* by last use */
	unsigned bucket;
	unsigned char identity[KMTLS_RESUMPTION_IDENTITY];
	struct kmtls_secret key;
	struct kmtls_psk_keys symmetric;
	bool has_symmetric; /* atomic; client: and the server has not refused it */
	__u16 cipher;
	__u64 svid, policy, revocations;
	struct kmtls_address peer; /* client */
	struct timespec made; /* CLOCK_BOOTTIME */
	time_t not_after; /* of both SVIDs, the earlier */
	time_t peer_not_after;
	__u64 peer_certificate, peer_issuers[KMTLS_TLS_INTERMEDIATES_MAX];
	char peer_id[]; /* of the one that was verified */
};

struct kmtls_resumption_table {
	pthread_mutex_t lock;
	struct kmtls_resumption_entry *buckets[KMTLS_RESUMPTION_BUCKETS];
	struct kmtls_resumption_entry *oldest, *newest;
	unsigned count;
};

/* Gives a reference back; the last one wipes the keys. NULL is fine. */
void kmtls_resumption_entry_put(struct kmtls_resumption_entry *entry);

void kmtls_resumption_table_init(struct kmtls_resumption_table *table);
void kmtls_resumption_table_clear(struct kmtls_resumption_table *table);
/*
 * The entry, the caller's reference, if it still holds; one that does not is forgotten. identity, of
 * that length: what a client offers; NULL for a client's own, by where it connects to.
 */
struct kmtls_resumption_entry *
kmtls_resumption_table_find(struct kmtls_resumption_table *table,
			    const struct kmtls_resumption_party *party,
			    const unsigned char *identity, size_t length);
/* Takes the reference, in the place of the entry that it replaces. For servers, or for clients. */
void kmtls_resumption_table_store(struct kmtls_resumption_table *table,
				  struct kmtls_resumption_entry *entry, bool server);
/* Takes it out if it is still there. */
void kmtls_resumption_table_forget(struct kmtls_resumption_table *table,
				   struct kmtls_resumption_entry *gone);

#endif
