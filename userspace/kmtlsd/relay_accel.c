/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay_accel.c - from an accelerated local leg into the wire (docs/accel.md). splice() does not see
 * bytes that were redirected, and would even overtake them with what came by TCP: so they are read and
 * written, the one place where bytes of an established flow are in user space. `in_hand` in the slot
 * says so: a worker that dies meanwhile has taken them along, and the next one resets the flow. What the
 * wire does not take at once goes into the pipe, which outlives us, and on from there as ever.
 *
 * The other direction needs none of it: what is spliced into the leg is redirected into the
 * application's own queue.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rekey.h"
#include "relay_wire.h"

/* Two full records. An empty pipe has room for it: 16 pages. */
#define BUFFER_BYTES 32768
_Static_assert(BUFFER_BYTES <= KMTLS_PIPE_BYTES, "what is left fits into the pipe");

static void set_in_hand(struct kmtls_flow *flow, bool in_hand)
{
	__atomic_store_n(&flow->in_hand, in_hand, __ATOMIC_SEQ_CST);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* How many of them the wire takes, none if it cannot now. -errno */
static ssize_t give(const struct kmtls_flow *flow, const struct kmtls_flow_private *private,
		    const char *bytes, size_t size)
{
	ssize_t sent;

	if (kmtls_rekey_blocks(private, KMTLS_TO_WIRE))
		return 0;
	sent = send(flow->wire_fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return errno == EAGAIN ? 0 : -errno;
	return sent;
}

enum kmtls_step kmtls_relay_carry(struct kmtls_loop *loop, unsigned slot, ssize_t *ret_taken)
{
	static _Thread_local char buffer[BUFFER_BYTES];
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	ssize_t taken, sent = 0;
	int error;

	/* When all loops are that far this worker is killed: what is in the socket stays there. */
	if (loop->drained) {
		*ret_taken = -1;
		errno = EAGAIN;
		return KMTLS_STEP_IDLE;
	}
	set_in_hand(flow, true);
	taken = recv(flow->local_fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	error = errno;
	if (taken > 0) {
		sent = give(flow, private, buffer, taken);
		if (sent < 0)
			return kmtls_relay_end(loop, slot,
					       kmtls_relay_failure(KMTLS_TAG_WIRE, -sent));
		if (sent < taken &&
		    write(flow->to_wire.pipe_write, buffer + sent, taken - sent) != taken - sent)
			return kmtls_relay_end(loop, slot, KMTLS_REASON_RELAY_FAILED);
		private->queued[KMTLS_TO_WIRE] += taken - sent;
		/* Asked before the next read, so that nothing seems to be in hand that is not. */
		private->source_short[KMTLS_TO_WIRE] = taken < BUFFER_BYTES;
	}
	set_in_hand(flow, false);
	if (taken > 0)
		explicit_bzero(buffer, taken);
	*ret_taken = taken;
	errno = error;
	if (sent > 0)
		kmtls_relay_wire_of(flow)->count(private, KMTLS_TO_WIRE, sent);
	return taken > 0 ? KMTLS_STEP_MOVED : KMTLS_STEP_IDLE;
}
