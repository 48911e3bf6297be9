/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow_table.h - the pinned, mmapped map `flows`: one slot per flow, written by the event
 * loop that owns the slot, readable by anyone. Beside it, in the daemon's own memory, what
 * can be derived again from the slot and the kernel.
 */
#ifndef KMTLS_FLOW_TABLE_H
#define KMTLS_FLOW_TABLE_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "kmtls/abi.h"

struct kmtls_bpf;
struct kmtls_daemon;
struct kmtls_handshake;

enum kmtls_way { KMTLS_TO_WIRE = 0, KMTLS_TO_LOCAL = 1 };

/* Per slot, at most 64 bytes. Ways are indices of queued[], source_ended[], sink_ended[]. */
struct kmtls_flow_private {
	struct kmtls_handshake *handshake; /* while the state is HANDSHAKE */
	__u32 queued[2]; /* bytes in the pipe of each way (FIONREAD) */
	bool source_ended[2]; /* nothing more will come out of the source */
	bool sink_ended[2]; /* close_notify sent and shut down, or shut down */
	bool wire_finished; /* the peer's FIN was seen */
	bool again; /* on the loop's list of flows with work left */
	bool error; /* an event said that a socket failed; not looked into yet */
	__u32 linger_deadline; /* seconds on the monotonic clock, 0: none */
	/* rekey.h */
	__u64 key_bytes[2]; /* moved under the live key of each way */
	__u32 key_since; /* KiB, rounded up, moved either way since the peer's last KeyUpdate */
	__u16 key_second; /* of that KeyUpdate, monotonic */
	__u8 key_updates; /* how many came faster than they should */
	__u8 key_flags; /* KMTLS_KEY_* */
};

struct kmtls_flow_table {
	struct kmtls_flow *slots; /* the map, mmapped */
	struct kmtls_flow_private *private;
	unsigned capacity;
	size_t map_bytes;
};

/* Maps the table; slots left by an earlier daemon are freed: their sockets died with it.
 * ret_why: 256 bytes. */
int kmtls_flow_table_open(struct kmtls_bpf *bpf, unsigned capacity,
			  struct kmtls_flow_table **ret_table, char *ret_why);
void kmtls_flow_table_close(struct kmtls_flow_table *table);

/* State with the order that makes it mean something to other readers. */
static inline __u32 kmtls_flow_state(const struct kmtls_flow *flow)
{
	return __atomic_load_n(&flow->state, __ATOMIC_ACQUIRE);
}

static inline void kmtls_flow_set_state(struct kmtls_flow *flow, enum kmtls_flow_state state)
{
	__atomic_store_n(&flow->state, state, __ATOMIC_RELEASE);
}

static inline struct kmtls_flow_direction *kmtls_flow_way(struct kmtls_flow *flow,
							  enum kmtls_way way)
{
	return way == KMTLS_TO_WIRE ? &flow->to_wire : &flow->to_local;
}

/* What `kmtls flows` shows of a slot. */
struct kmtls_flow_info {
	__u32 slot;
	struct kmtls_flow flow; /* a snapshot */
	const char *self_id, *peer_id; /* texts, "" if unknown */
	/* From TCP_INFO and inet_diag of the wire socket at the time of the call. */
	__u64 bytes_sent, bytes_received; /* on the wire, TLS included */
	__u8 offload_tx, offload_rx; /* KMTLS_OFFLOAD_*: what the kernel says */
};

/* Every slot that is not free, in slot order. A non-zero return of visit stops it. */
int kmtls_flow_table_visit(struct kmtls_daemon *daemon,
			   int (*visit)(void *context, const struct kmtls_flow_info *info),
			   void *context);

struct kmtls_flow_totals {
	unsigned capacity, handshake, established, closing;
};
void kmtls_flow_table_totals(struct kmtls_daemon *daemon, struct kmtls_flow_totals *ret_totals);
/* Flows of one pod that are not free. */
unsigned kmtls_flow_table_count(const struct kmtls_flow_table *table, __u64 netns_cookie);

#endif
