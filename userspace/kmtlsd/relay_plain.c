/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay_plain.c - a wire without TLS: permissive mode and bypassed sources (docs/permissive.md).
 * Its end is a FIN, as on the local leg, and like that leg it has SO_LINGER{1,0} from birth, so that
 * whoever dies with the flow resets it.
 *
 * Order of stores, beside that of relay.c:
 *  - `untaken` is cleared before the first byte is taken from either side; until then the client
 *    may still turn out to be of the mesh.
 *  - the client's FIN: store source_closed, then shut the local leg down.
 *  - ours: store SENT, shut down. From then on a wire that is closed was not reset for certain.
 */
#include <errno.h>
#include <sys/socket.h>

#include "counters.h"
#include "inbound.h"
#include "inbound_peek.h"
#include "relay_wire.h"

/* The client has begun a ClientHello and must go on with it. */
static void set_deadline(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);

	if (private->linger_deadline)
		return;
	private->linger_deadline =
		kmtls_loop_now_ms() / 1000 + loop->daemon->config->handshake_timeout;
	loop->lingering++;
}

static void clear_deadline(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);

	if (private->linger_deadline)
		loop->lingering--;
	private->linger_deadline = 0;
}

/* Nobody has said anything the other side knows of: who speaks first? Bytes of the application
 * that nobody has taken count for nothing if the client is of the mesh. */
static enum kmtls_step decide(struct kmtls_loop *loop, unsigned slot, bool *ret_wait)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	enum kmtls_first_bytes first;
	char byte;
	int error;

	first = kmtls_inbound_look(flow->wire_fd, &error);
	if (first == KMTLS_FIRST_FAILED)
		return kmtls_relay_end(loop, slot, kmtls_relay_failure(KMTLS_TAG_WIRE, error));
	if (first == KMTLS_FIRST_MESH) {
		kmtls_inbound_accept_again(loop, slot);
		return KMTLS_STEP_ENDED;
	}
	if (first == KMTLS_FIRST_NOTHING || first == KMTLS_FIRST_PARTIAL) {
		if (recv(flow->local_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0) {
			if (errno != EAGAIN)
				return kmtls_relay_end(loop, slot,
						       kmtls_relay_failure(KMTLS_TAG_LOCAL, errno));
			if (first == KMTLS_FIRST_PARTIAL)
				set_deadline(loop, slot);
			*ret_wait = true;
			return KMTLS_STEP_IDLE;
		}
	}
	clear_deadline(loop, slot);
	kmtls_counters_add(KMTLS_REASON_PLAINTEXT);
	__atomic_store_n(&flow->untaken, 0, __ATOMIC_RELEASE);
	return KMTLS_STEP_IDLE;
}

static enum kmtls_step prepare(struct kmtls_loop *loop, unsigned slot, bool *ret_wait)
{
	return kmtls_loop_flow(loop, slot)->untaken ? decide(loop, slot, ret_wait)
						    : KMTLS_STEP_IDLE;
}

static void count(struct kmtls_flow_private *private, enum kmtls_way way, size_t size)
{
	/* No key, no limit. */
}

static enum kmtls_step no_data(struct kmtls_loop *loop, unsigned slot, int error)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);

	if (error)
		return kmtls_relay_end(loop, slot, kmtls_relay_failure(KMTLS_TAG_WIRE, error));
	if (flow->to_wire.notify == KMTLS_NOTIFY_NONE && kmtls_relay_was_reset(flow->wire_fd))
		return kmtls_relay_end(loop, slot, KMTLS_REASON_PEER_RESET);
	__atomic_store_n(&flow->to_local.source_closed, 1, __ATOMIC_RELEASE);
	kmtls_loop_private(loop, slot)->source_ended[KMTLS_TO_LOCAL] = true;
	return KMTLS_STEP_MOVED;
}

static enum kmtls_step say_end(struct kmtls_loop *loop, unsigned slot)
{
	__atomic_store_n(&kmtls_loop_flow(loop, slot)->to_wire.notify, KMTLS_NOTIFY_SENT,
			 __ATOMIC_RELEASE);
	return KMTLS_STEP_MOVED;
}

static enum kmtls_step await_end(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);

	private->wire_finished = private->source_ended[KMTLS_TO_LOCAL];
	return KMTLS_STEP_IDLE;
}

const struct kmtls_relay_wire kmtls_relay_plain = {
	.prepare = prepare,
	.count = count,
	.no_data = no_data,
	.say_end = say_end,
	.await_end = await_end,
};
