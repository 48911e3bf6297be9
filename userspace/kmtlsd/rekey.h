/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rekey.h - the keys of established flows: how much each has encrypted, replacing them in time
 * by KeyUpdate (RFC 8446 sections 4.6.3 and 7.2), and what becomes of flows where that is not
 * possible.
 *
 * The traffic secrets this takes are the only thing of a flow that is not in the kernel or in
 * its slot. They live, one record per slot, in memory that outlives a worker, and only of flows
 * whose handshake agreed on it (tls.h). A worker may be killed between any two instructions:
 *  - sending: store the TX sequence, store INTENT, send the KeyUpdate, replace the key, store
 *    the next secret together with the end of INTENT. After a crash with INTENT the kernel
 *    tells what happened: next key live, it is done; sequence unchanged, nothing was sent;
 *    one further, sent and not replaced.
 *  - receiving: peek, store INTENT, take, replace the key, store the next secret together with
 *    the end of INTENT. As long as it is taken and not replaced the kernel answers EKEYEXPIRED to
 *    every read. After a crash with INTENT the next key may be live.
 * No key is replaced before the kernel was asked which one is live: installed twice, it would
 * encrypt twice with the same nonces.
 */
#ifndef KMTLS_REKEY_H
#define KMTLS_REKEY_H

#include <linux/types.h>
#include <stdbool.h>

#include "flow_table.h"
#include "key_schedule.h"
#include "loop.h"

/* One direction. The current secret is bytes[state & KMTLS_REKEY_HALF]. */
struct kmtls_rekey_key {
	unsigned char bytes[2][48];
	__u64 sequence; /* TX: before the KeyUpdate */
	__u64 base; /* TCP's count of bytes when the key was installed, or less */
	__u32 state;
	__u32 pad;
};
#define KMTLS_REKEY_HALF 1u
#define KMTLS_REKEY_INTENT 2u

struct kmtls_rekey_secrets {
	__u32 generation; /* of the slot; stored last; 0: nothing here */
	__u32 answer_due; /* the peer asked for a KeyUpdate */
	struct kmtls_rekey_key keys[2]; /* by enum kmtls_way: TX, RX */
	__u64 pad;
};
_Static_assert(sizeof(struct kmtls_rekey_secrets) == 256, "layout of the secret region");

struct kmtls_rekey_table {
	struct kmtls_rekey_secrets *secrets; /* one per slot; NULL: none are kept */
	size_t own_bytes; /* of memory made here */
	bool offered; /* kernel and configuration allow it */
	bool close_at_limit;
	__u64 limit; /* bytes under one AES-GCM key */
};

struct kmtls_rekey_options {
	bool wanted;
	bool close_at_limit;
	__u64 limit;
};

/*
 * Asks the kernel whether it can, if wanted. memory: kmtls_rekey_size() bytes that outlive the
 * worker, zero at first; NULL: locked memory of its own. Without memory that can be locked, and
 * on kernels that cannot, `offered` is false; one line in the log says why. -ENOMEM.
 */
int kmtls_rekey_open(const struct kmtls_rekey_options *options, void *memory, unsigned capacity,
		     struct kmtls_rekey_table **ret_table);
void kmtls_rekey_close(struct kmtls_rekey_table *table);
size_t kmtls_rekey_size(unsigned capacity);

/* Keys are in the kernel and both sides can: keep their secrets. */
void kmtls_rekey_begin(struct kmtls_loop *loop, unsigned slot, const struct kmtls_secret *tx,
		       const struct kmtls_secret *rx);
/* The slot is given back: wipes them. Before it is FREE. */
void kmtls_rekey_end(struct kmtls_rekey_table *table, unsigned slot);
/*
 * A flow of a worker that died, before anything is moved: finishes what had begun, and counts
 * anew, rather too much than too little. A reason: it cannot be told what the kernel has, so
 * the flow must be reset. Afterwards the flow must be pumped once whether there is an event or
 * not: as long as a KeyUpdate was taken and the key not replaced, poll is silent.
 */
enum kmtls_reason kmtls_rekey_adopt(struct kmtls_loop *loop, unsigned slot);

/* A handshake record is next on the wire, as peeked. NONE: a KeyUpdate, taken and followed. */
enum kmtls_reason kmtls_rekey_receive(struct kmtls_loop *loop, unsigned slot,
				      const unsigned char *record, size_t length);
/* A read said EKEYEXPIRED: the KeyUpdate was taken, the key not replaced. NONE: now it is. */
enum kmtls_reason kmtls_rekey_resume(struct kmtls_loop *loop, unsigned slot);
/* What is due: a KeyUpdate, a warning, the end. To be called if kmtls_rekey_wanted(). */
enum kmtls_reason kmtls_rekey_serve(struct kmtls_loop *loop, unsigned slot);
/* reason, or KEY_LIMIT for a flow that was ending because of it. */
enum kmtls_reason kmtls_rekey_end_reason(struct kmtls_loop *loop, unsigned slot,
					 enum kmtls_reason reason);

/* Bits of kmtls_flow_private.key_flags. */
#define KMTLS_KEY_DUE 1u /* answer_due, seen by this worker */
#define KMTLS_KEY_ASKED 2u /* the peer was asked to replace its key */
#define KMTLS_KEY_CLOSING 4u /* nothing more is taken from either side */
#define KMTLS_KEY_SAID 8u /* and the peer knows */
#define KMTLS_KEY_WARNED(way) (16u << (way))
#define KMTLS_KEY_WAITING 64u /* a KeyUpdate waits for room on the wire, and data for it */

/* Moved size bytes. An AES-GCM record costs its bytes in whole blocks and one block more. */
static inline void kmtls_rekey_count(struct kmtls_flow_private *private, enum kmtls_way way,
				     size_t size)
{
	private->key_bytes[way] += size + 32 + (size >> 14) * 32;
	private->key_since += (size >> 10) + 1;
}

/* Cheap, for every round: is there perhaps something to do? */
static inline bool kmtls_rekey_wanted(const struct kmtls_loop *loop,
				      const struct kmtls_flow_private *private)
{
	__u64 quarter = loop->daemon->rekey->limit / 4;

	return private->key_bytes[KMTLS_TO_WIRE] >= quarter ||
	       private->key_bytes[KMTLS_TO_LOCAL] >= quarter ||
	       private->key_flags & (KMTLS_KEY_DUE | KMTLS_KEY_CLOSING);
}

/* Nothing may be moved this way for now: poll tells when. */
static inline bool kmtls_rekey_blocks(const struct kmtls_flow_private *private, enum kmtls_way way)
{
	return way == KMTLS_TO_WIRE && private->key_flags & KMTLS_KEY_WAITING;
}

/* Nothing more is taken from either side. */
static inline bool kmtls_rekey_closing(const struct kmtls_flow_private *private)
{
	return private->key_flags & KMTLS_KEY_CLOSING;
}

#endif
