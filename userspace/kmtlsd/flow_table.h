/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow_table.h - the pinned, mmapped map `flows`: one slot per flow, written by the event
 * loop that owns the slot, readable by anyone. Beside it, in the daemon's own memory, what
 * can be derived again from the slot and the kernel.
 */
#ifndef KMTLS_FLOW_TABLE_H
#define KMTLS_FLOW_TABLE_H

#include <linux/types.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "kmtls/abi.h"

struct kmtls_bpf;
struct kmtls_daemon;
struct kmtls_handshake;
struct kmtls_tally;

enum kmtls_way { KMTLS_TO_WIRE = 0, KMTLS_TO_LOCAL = 1 };

/* Per slot, at most 64 bytes. Ways are indices of queued[], source_ended[], sink_ended[],
 * source_empty[], source_short[]. */
struct kmtls_flow_private {
	struct kmtls_handshake *handshake; /* while HANDSHAKE or CONFIRMED */
	__u32 queued[2]; /* bytes in the pipe of each way (FIONREAD) */
	bool source_ended[2]; /* nothing more will come out of the source */
	bool sink_ended[2]; /* close_notify sent and shut down, or shut down */
	bool wire_finished; /* the peer's FIN was seen */
	bool again; /* on the loop's list of flows with work left */
	bool pipe_wait; /* found no descriptors for a pipe, and waits */
	bool error; /* an event said that a socket failed; not looked into yet */
	__u32 linger_deadline; /* seconds on the monotonic clock, 0: none */
	bool source_empty[2]; /* there is nothing to take before an event of the source */
	bool source_short[2]; /* it gave little: asking costs less than trying */
	/* rekey.h */
	__u64 key_bytes[2]; /* moved under the live key of each way */
	__u32 key_since; /* KiB, rounded up, moved either way since the peer's last KeyUpdate */
	__u16 key_second; /* of that KeyUpdate, monotonic */
	__u8 key_updates; /* how many came faster than they should */
	__u8 key_flags; /* KMTLS_KEY_* */
	__u16 loop; /* who owns the slot; the last field: the only one that others look at */
};

struct kmtls_flow_table {
	struct kmtls_flow *slots; /* the map, mmapped */
	struct kmtls_flow_private *private;
	unsigned capacity;
	size_t map_bytes;
	/* Any loop may take any slot: a full share of one's own would refuse while others have room. */
	pthread_mutex_t lock;
	unsigned *free_slots, free_count; /* those below *used */
	_Atomic __u32 *used; /* no slot from here on has ever been taken */
	unsigned usable; /* slots that may be taken at a time; all, unless said otherwise */
	struct kmtls_tally *per_pod; /* slots taken, by the cookie of the pod's namespace */
	unsigned pod_limit; /* of them; 0: none */
};

/* Maps the table. keep: its flows are alive; else slots left by an earlier daemon are freed,
 * whose sockets died with it. pod_limit: slots one pod may have, 0: all. No slot can be taken
 * before kmtls_flow_table_adopt(). ret_why: 256 bytes. */
int kmtls_flow_table_open(struct kmtls_bpf *bpf, unsigned capacity, unsigned pod_limit, bool keep,
			  struct kmtls_flow_table **ret_table, char *ret_why);
/* A worker begins: slots that are not FREE count for their pods, the others can be taken. Those
 * from used on have never been; *used is kept above the highest one in use from here on. */
void kmtls_flow_table_adopt(struct kmtls_flow_table *table, _Atomic __u32 *used);
void kmtls_flow_table_close(struct kmtls_flow_table *table);

/*
 * A slot for a flow of the pod with that namespace, owned by the loop of that number: FREE, of a
 * new generation, its fields cleared but for the cookie. -ENOSPC: the table is full, -EDQUOT:
 * the pod has its share.
 */
int kmtls_flow_table_take(struct kmtls_flow_table *table, unsigned loop, __u64 netns_cookie,
			  unsigned *ret_slot);
/* How many slots the pod has. Any thread. */
unsigned kmtls_flow_table_taken(struct kmtls_flow_table *table, __u64 netns_cookie);
/* Another limit of flows per pod from now on; pods that have more keep them. */
void kmtls_flow_table_limit(struct kmtls_flow_table *table, unsigned pod_limit);
/* Its state is FREE by now. */
void kmtls_flow_table_return(struct kmtls_flow_table *table, unsigned slot);

/* State with the order that makes it mean something to other readers. */
static inline __u32 kmtls_flow_state(const struct kmtls_flow *flow)
{
	return __atomic_load_n(&flow->state, __ATOMIC_ACQUIRE);
}

/*
 * X(FROM, TO, "when"): all that may happen to a slot. Checked at each store; docs/flows.md is
 * generated from it (scripts/gen-flows).
 */
#define KMTLS_FLOW_TRANSITIONS(X)                                                                  \
	X(FREE, HANDSHAKE, "a connection, or a held SYN, gets the slot")                           \
	X(HANDSHAKE, CONFIRMED, "client: the peer accepted, keys are in the kernel")               \
	X(HANDSHAKE, ESTABLISHED, "both legs are there, keys are in the kernel or none is needed") \
	X(CONFIRMED, ESTABLISHED, "the application's connection has come")                         \
	X(HANDSHAKE, CLOSING, "refused, failed, or the worker died")                               \
	X(CONFIRMED, CLOSING, "the application's connection did not come")                         \
	X(ESTABLISHED, CLOSING, "both sides ended, or one failed")                                 \
	X(CLOSING, FREE, "descriptors are closed")

/* By whoever owns the slot. A transition that is not in the list is a bug: it is logged. */
void kmtls_flow_set_state(struct kmtls_flow *flow, enum kmtls_flow_state state);

/*
 * The state of the slot's life of that generation; FREE when that is over. First the state: what
 * is not free has had its generation stored before, so another loop's new flow is not mistaken
 * for one's own old one.
 */
static inline __u32 kmtls_flow_state_of(const struct kmtls_flow *flow, __u32 generation)
{
	__u32 state = kmtls_flow_state(flow);

	return __atomic_load_n(&flow->generation, __ATOMIC_RELAXED) == generation
		       ? state
		       : (__u32)KMTLS_FLOW_FREE;
}

/* Of one that is established: relayed in plaintext. */
static inline bool kmtls_flow_is_plain(const struct kmtls_flow *flow)
{
	return !flow->cipher;
}

/* In use, and by that loop; the answer is exact in that loop's thread. The order matters: what is
 * not free has had its owner stored before. */
static inline bool kmtls_flow_table_owns(const struct kmtls_flow_table *table, unsigned loop,
					 unsigned slot)
{
	return kmtls_flow_state(&table->slots[slot]) != KMTLS_FLOW_FREE &&
	       __atomic_load_n(&table->private[slot].loop, __ATOMIC_RELAXED) == loop;
}

static inline struct kmtls_flow_direction *kmtls_flow_way(struct kmtls_flow *flow,
							  enum kmtls_way way)
{
	return way == KMTLS_TO_WIRE ? &flow->to_wire : &flow->to_local;
}

/* A copy of a slot that is not free, as it was at one moment. */
bool kmtls_flow_table_snapshot(const struct kmtls_flow_table *table, unsigned slot,
			       struct kmtls_flow *ret_flow);
/* Bytes of TCP's payload on the wire that the other side has acknowledged, and received from it. */
bool kmtls_flow_bytes(const struct kmtls_flow *flow, __u64 *ret_acked, __u64 *ret_received);

/* What `kmtls flows` shows of a slot. */
struct kmtls_flow_info {
	__u32 slot;
	struct kmtls_flow flow; /* a snapshot */
	const char *self_id, *peer_id; /* texts, "" if unknown */
	/* From TCP_INFO and inet_diag of the wire socket at the time of the call. */
	__u64 bytes_sent, bytes_received; /* on the wire, TLS included */
	__u8 offload_tx, offload_rx; /* KMTLS_OFFLOAD_*: what the kernel says */
};

/* Every slot that is not free and that wants (NULL: all) says yes to, in slot order. The kernel is
 * asked about those only. A non-zero return of visit stops it. */
int kmtls_flow_table_visit(struct kmtls_daemon *daemon,
			   bool (*wants)(void *context, const struct kmtls_flow *flow),
			   int (*visit)(void *context, const struct kmtls_flow_info *info),
			   void *context);

struct kmtls_flow_totals {
	unsigned capacity, handshake, established, closing;
};
void kmtls_flow_table_totals(struct kmtls_daemon *daemon, struct kmtls_flow_totals *ret_totals);

/* Flows of pods that are not free, by the cookies of their namespaces. */
struct kmtls_flow_count {
	__u64 netns_cookie;
	unsigned flows;
};
/* One look at the table for all of them. The caller has set the cookies; they are sorted. */
void kmtls_flow_table_count(const struct kmtls_flow_table *table, struct kmtls_flow_count *counts,
			    size_t number);
/* What that has found for one; 0 for others. */
unsigned kmtls_flow_count_of(const struct kmtls_flow_count *counts, size_t number,
			     __u64 netns_cookie);

#endif
