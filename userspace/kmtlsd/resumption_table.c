/* SPDX-License-Identifier: Apache-2.0 */
/* resumption_table.c - see resumption_table.h. */
#include "resumption_table.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "revocation.h"

void kmtls_resumption_entry_put(struct kmtls_resumption_entry *entry)
{
	if (!entry || __atomic_sub_fetch(&entry->references, 1, __ATOMIC_ACQ_REL))
		return;
	kmtls_secret_wipe(&entry->key);
	kmtls_psk_keys_wipe(&entry->symmetric);
	free(entry);
}

/* Under the lock, like the rest of the table's. */
static void use(struct kmtls_resumption_table *table, struct kmtls_resumption_entry *entry)
{
	entry->older = table->newest;
	entry->newer = NULL;
	if (table->newest)
		table->newest->newer = entry;
	else
		table->oldest = entry;
	table->newest = entry;
}

static void unuse(struct kmtls_resumption_table *table, struct kmtls_resumption_entry *entry)
{
	if (entry->older)
		entry->older->newer = entry->newer;
	else
		table->oldest = entry->newer;
	if (entry->newer)
		entry->newer->older = entry->older;
	else
		table->newest = entry->older;
}

static void take_out(struct kmtls_resumption_table *table, struct kmtls_resumption_entry *entry)
{
	struct kmtls_resumption_entry **place = &table->buckets[entry->bucket];

	while (*place != entry)
		place = &(*place)->next;
	*place = entry->next;
	unuse(table, entry);
	table->count--;
	kmtls_resumption_entry_put(entry);
}

static void put_in(struct kmtls_resumption_table *table, struct kmtls_resumption_entry *entry)
{
	if (table->count == KMTLS_RESUMPTION_ROOM)
		take_out(table, table->oldest);
	entry->next = table->buckets[entry->bucket];
	table->buckets[entry->bucket] = entry;
	use(table, entry);
	table->count++;
}

void kmtls_resumption_table_init(struct kmtls_resumption_table *table)
{
	*table = (struct kmtls_resumption_table){ 0 };
	pthread_mutex_init(&table->lock, NULL);
}

void kmtls_resumption_table_clear(struct kmtls_resumption_table *table)
{
	pthread_mutex_lock(&table->lock);
	while (table->oldest)
		take_out(table, table->oldest);
	pthread_mutex_unlock(&table->lock);
}

/* FNV-1a; the identities are random, and clients choose where they connect to. */
static unsigned bucket_of(const void *bytes, size_t length)
{
	__u64 hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3ull;
	return (hash ^ hash >> 32) & (KMTLS_RESUMPTION_BUCKETS - 1);
}

/* Of servers by the part of an identity that both kinds of handshake have, of clients by the address. */
static unsigned server_bucket(const unsigned char *identity)
{
	return bucket_of(identity, KMTLS_RESUMPTION_SYMMETRIC_IDENTITY);
}

static unsigned client_bucket(const struct kmtls_address *peer)
{
	return bucket_of(peer, sizeof(*peer));
}

/* identity: as for kmtls_resumption_table_find(). */
static bool is_wanted(const struct kmtls_resumption_entry *entry, __u64 svid,
		      const struct kmtls_address *peer, const unsigned char *identity,
		      size_t length)
{
	if (entry->svid != svid)
		return false;
	return identity ? !memcmp(entry->identity, identity, length)
			: !memcmp(&entry->peer, peer, sizeof(*peer));
}

static bool is_over(const struct kmtls_resumption_entry *entry,
		    const struct kmtls_resumption_party *party)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec - entry->made.tv_sec >= (time_t)party->seconds ||
	       kmtls_clock_now() > entry->not_after || entry->policy != party->policy ||
	       entry->revocations != kmtls_revocation_generation();
}

struct kmtls_resumption_entry *
kmtls_resumption_table_find(struct kmtls_resumption_table *table,
			    const struct kmtls_resumption_party *party,
			    const unsigned char *identity, size_t length)
{
	unsigned bucket = identity ? server_bucket(identity) : client_bucket(&party->peer);
	struct kmtls_resumption_entry *entry;

	pthread_mutex_lock(&table->lock);
	entry = table->buckets[bucket];
	while (entry && !is_wanted(entry, party->svid, &party->peer, identity, length))
		entry = entry->next;
	if (entry && is_over(entry, party)) {
		take_out(table, entry);
		entry = NULL;
	}
	if (entry) {
		unuse(table, entry);
		use(table, entry);
		__atomic_add_fetch(&entry->references, 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&table->lock);
	return entry;
}

void kmtls_resumption_table_store(struct kmtls_resumption_table *table,
				  struct kmtls_resumption_entry *entry, bool server)
{
	const unsigned char *identity = server ? entry->identity : NULL;
	struct kmtls_resumption_entry *old;

	entry->bucket = server ? server_bucket(identity) : client_bucket(&entry->peer);
	pthread_mutex_lock(&table->lock);
	old = table->buckets[entry->bucket];
	while (old &&
	       !is_wanted(old, entry->svid, &entry->peer, identity, KMTLS_RESUMPTION_IDENTITY))
		old = old->next;
	if (old)
		take_out(table, old);
	put_in(table, entry);
	pthread_mutex_unlock(&table->lock);
}

void kmtls_resumption_table_forget(struct kmtls_resumption_table *table,
				   struct kmtls_resumption_entry *gone)
{
	struct kmtls_resumption_entry *entry;

	pthread_mutex_lock(&table->lock);
	entry = table->buckets[gone->bucket];
	while (entry && entry != gone)
		entry = entry->next;
	if (entry)
		take_out(table, entry);
	pthread_mutex_unlock(&table->lock);
}
