/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay.c - see relay.h. The rules (each was found out, see docs/kernel.md):
 *  - splice into kernel TLS with exactly the length that is in the pipe, never SPLICE_F_MORE:
 *    with more, 6.12 and 7.2 leave the last record open.
 *  - one splice out of kernel TLS gives at most one record; EINVAL: the next is a control
 *    record. EAGAIN: source empty or pipe out of slots; drain the pipe and try again.
 *  - an end without close_notify is a truncation, and becomes a reset.
 *
 * Order of stores, so that whoever reads the slot after a crash knows what the kernel did:
 *  0. server: keys in the kernel, ticket DUE, ESTABLISHED; then the ticket, as record 0. After a
 *     crash with DUE the TX sequence tells whether it went out.
 *  1. pipe: the slot names the pipe before bytes go in; it is forgotten when it is empty.
 *  2. close_notify from the peer: peek, store source_closed, then take it from the socket.
 *  3. ours: store the TX sequence, store INTENT, send, store SENT, shut down. After a crash
 *     with INTENT: sequence unchanged, send again; changed, it went out.
 *  4. reset: store why, as soon as the error is known: reading it has cleared it.
 *  5. end: store CLOSING, close each descriptor, store FREE.
 * Byte counts and ends are never stored: FIONREAD, splice and shutdown tell them again.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "counters.h"
#include "flow_log.h"
#include "ktls.h"
#include "log.h"
#include "loop.h"
#include "reason.h"
#include "rekey.h"
#include "relay.h"

#define ALERT_WARNING 1
#define ALERT_CLOSE_NOTIFY 0
/* Rounds of both directions before other flows get their turn. */
#define PUMP_BUDGET 16
/* The peer has acknowledged the end with close_notify and must now close TCP. */
#define LINGER_SECONDS 30

/* What one attempt to move bytes came to. */
enum step {
	STEP_IDLE, /* nothing to do now: wait for an event */
	STEP_MOVED,
	STEP_ENDED, /* the flow is gone: do not touch it */
};

static struct linger reset_on_close = { .l_onoff = 1, .l_linger = 0 };
static struct linger close_in_order = { .l_onoff = 0, .l_linger = 0 };

static void close_pipe(struct kmtls_loop *loop, struct kmtls_flow_direction *direction, bool empty)
{
	int read_fd = direction->pipe_read, write_fd = direction->pipe_write;

	if (read_fd < 0)
		return;
	direction->pipe_read = -1;
	direction->pipe_write = -1;
	if (empty) {
		kmtls_pipes_put(&loop->pipes, read_fd, write_fd);
	} else {
		close(read_fd);
		close(write_fd);
	}
}

/* Closes everything the slot names. The sockets' SO_LINGER decides how. */
static void release(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);

	kmtls_flow_set_state(flow, KMTLS_FLOW_CLOSING);
	close_pipe(loop, &flow->to_wire, !private->queued[KMTLS_TO_WIRE]);
	close_pipe(loop, &flow->to_local, !private->queued[KMTLS_TO_LOCAL]);
	if (flow->local_fd >= 0)
		close(flow->local_fd);
	close(flow->wire_fd);
	if (private->linger_deadline)
		loop->lingering--;
	kmtls_loop_return_slot(loop, slot);
}

void kmtls_relay_reset(struct kmtls_loop *loop, unsigned slot, enum kmtls_reason reason)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);

	/* First of all: the next worker could not know. */
	__atomic_store_n(&flow->reset_reason, reason, __ATOMIC_RELEASE);
	kmtls_flow_log_end(loop, slot, kmtls_rekey_end_reason(loop, slot, reason));
	/* The local leg has it from birth. */
	setsockopt(flow->wire_fd, SOL_SOCKET, SO_LINGER, &reset_on_close, sizeof(reset_on_close));
	release(loop, slot);
}

static enum step reset(struct kmtls_loop *loop, unsigned slot, enum kmtls_reason reason)
{
	kmtls_relay_reset(loop, slot, reason);
	return STEP_ENDED;
}

static enum step end_in_order(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);

	kmtls_flow_log_end(loop, slot, KMTLS_REASON_ENDED);
	setsockopt(flow->local_fd, SOL_SOCKET, SO_LINGER, &close_in_order, sizeof(close_in_order));
	release(loop, slot);
	return STEP_ENDED;
}

/* Which side failed with err, as a reason. */
static enum kmtls_reason failure(enum kmtls_tag side, int err)
{
	switch (err) {
	case ECONNRESET:
	case EPIPE:
	case ECONNABORTED:
		return side == KMTLS_TAG_LOCAL ? KMTLS_REASON_LOCAL_RESET : KMTLS_REASON_PEER_RESET;
	case ETIMEDOUT:
	case EHOSTUNREACH: /* the same, where routers said why */
	case ENETUNREACH:
		return side == KMTLS_TAG_LOCAL ? KMTLS_REASON_LOCAL_RESET
					       : KMTLS_REASON_PEER_TIMEOUT;
	case EBADMSG:
	case EMSGSIZE:
		return KMTLS_REASON_BAD_RECORD;
	}
	return KMTLS_REASON_RELAY_FAILED;
}

/* A verdict of rekey.c on a flow. */
static enum step follow(struct kmtls_loop *loop, unsigned slot, enum kmtls_reason reason)
{
	return reason ? reset(loop, slot, reason) : STEP_MOVED;
}

/* The next record on the wire is not data. */
static enum step take_control_record(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	unsigned char record[64];
	__u8 type;
	ssize_t length;

	length = kmtls_ktls_receive(flow->wire_fd, true, record, sizeof(record), &type);
	if (length == -EAGAIN) /* splice said EINVAL: junk on the wire */
		return reset(loop, slot, KMTLS_REASON_BAD_RECORD);
	if (length < 0)
		return reset(loop, slot, failure(KMTLS_TAG_WIRE, -length));
	if (type == KMTLS_RECORD_HANDSHAKE)
		return follow(loop, slot, kmtls_rekey_receive(loop, slot, record, length));
	if (type != KMTLS_RECORD_ALERT)
		return reset(loop, slot, KMTLS_REASON_UNEXPECTED_RECORD);
	if (length != 2 || record[1] != ALERT_CLOSE_NOTIFY)
		return reset(loop, slot, KMTLS_REASON_PEER_ALERT);
	flow->to_local.source_closed = 1;
	kmtls_loop_private(loop, slot)->source_ended[KMTLS_TO_LOCAL] = true;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	kmtls_ktls_receive(flow->wire_fd, false, record, sizeof(record), &type);
	return STEP_MOVED;
}

/*
 * The application has sent its FIN and may be gone for good; its kernel forgets an orphan after
 * a while and says nothing. Asked, it answers with a reset.
 */
static void watch_local(int fd)
{
	static const int one = 1, idle = 60, interval = 10, probes = 3;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

/*
 * A worker that was killed may have taken the error of a reset with it; what is left then looks
 * like an end in order. But a FIN alone does not close a connection whose other end is open: as
 * long as the peer has not ended we have sent none.
 */
static bool was_reset(int fd)
{
	struct tcp_info tcp;
	socklen_t length = sizeof(tcp);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &tcp, &length) < 0 ||
	       tcp.tcpi_state == TCP_CLOSE;
}

/* Source into pipe. */
static enum step fill(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	struct kmtls_flow_direction *direction = kmtls_flow_way(flow, way);
	int source = way == KMTLS_TO_WIRE ? flow->local_fd : flow->wire_fd;
	ssize_t moved;

	if (private->source_ended[way] || private->queued[way] >= KMTLS_PIPE_BYTES ||
	    kmtls_rekey_closing(private))
		return STEP_IDLE;
	if (direction->pipe_read < 0) {
		int read_fd, write_fd;

		if (kmtls_pipes_get(&loop->pipes, &read_fd, &write_fd) < 0) {
			if (!private->pipe_wait)
				kmtls_counters_add(KMTLS_REASON_PIPE_WAIT);
			private->pipe_wait = true;
			kmtls_loop_again_later(loop, slot);
			return STEP_IDLE;
		}
		private->pipe_wait = false;
		direction->pipe_write = write_fd;
		__atomic_store_n(&direction->pipe_read, read_fd, __ATOMIC_RELEASE);
	}
	moved = splice(source, NULL, direction->pipe_write, NULL,
		       KMTLS_PIPE_BYTES - private->queued[way], SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (moved > 0) {
		private->queued[way] += moved;
		if (way == KMTLS_TO_LOCAL)
			kmtls_rekey_count(private, way, moved);
		return STEP_MOVED;
	}
	if (moved == 0) {
		if (way == KMTLS_TO_LOCAL)
			return reset(loop, slot, KMTLS_REASON_TRUNCATED);
		if (!flow->to_local.source_closed && was_reset(source))
			return reset(loop, slot, KMTLS_REASON_LOCAL_RESET);
		private->source_ended[way] = true;
		watch_local(flow->local_fd);
		return STEP_MOVED;
	}
	if (errno == EAGAIN)
		return STEP_IDLE;
	if (errno == EINVAL && way == KMTLS_TO_LOCAL)
		return take_control_record(loop, slot);
	if (errno == EKEYEXPIRED && way == KMTLS_TO_LOCAL)
		return follow(loop, slot, kmtls_rekey_resume(loop, slot));
	return reset(loop, slot,
		     failure(way == KMTLS_TO_WIRE ? KMTLS_TAG_LOCAL : KMTLS_TAG_WIRE, errno));
}

/* Pipe into sink. */
static enum step drain(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	struct kmtls_flow_direction *direction = kmtls_flow_way(flow, way);
	int sink = way == KMTLS_TO_WIRE ? flow->wire_fd : flow->local_fd;
	enum step step = STEP_IDLE;

	if (private->queued[way] && !kmtls_rekey_blocks(private, way)) {
		ssize_t moved = splice(direction->pipe_read, NULL, sink, NULL, private->queued[way],
				       SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

		if (moved < 0 && errno != EAGAIN)
			return reset(
				loop, slot,
				failure(way == KMTLS_TO_WIRE ? KMTLS_TAG_WIRE : KMTLS_TAG_LOCAL,
					errno));
		if (moved > 0) {
			private->queued[way] -= moved;
			if (way == KMTLS_TO_WIRE)
				kmtls_rekey_count(private, way, moved);
			step = STEP_MOVED;
		}
	}
	if (!private->queued[way])
		close_pipe(loop, direction, true);
	return step;
}

/* With INTENT stored: did the close_notify go out? Nothing else can have been sent since. */
static bool was_notified(const struct kmtls_flow *flow)
{
	__u64 sequence;

	return kmtls_ktls_tx_sequence(flow->wire_fd, flow->cipher, &sequence) == 0 &&
	       sequence != flow->to_wire.notify_sequence;
}

/* Tells the peer that our application has ended. */
static enum step notify_peer(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct pollfd wire = { .fd = flow->wire_fd, .events = POLLOUT };
	int err;

	if (flow->to_wire.notify == KMTLS_NOTIFY_INTENT && was_notified(flow))
		flow->to_wire.notify = KMTLS_NOTIFY_SENT;
	if (flow->to_wire.notify == KMTLS_NOTIFY_SENT)
		return STEP_MOVED;
	/* As long as records wait inside kernel TLS the alert would wait behind them, and the
	 * FIN would overtake both. Asking also arms the edge that tells. */
	if (poll(&wire, 1, 0) != 1)
		return STEP_IDLE;
	err = kmtls_ktls_tx_sequence(flow->wire_fd, flow->cipher, &flow->to_wire.notify_sequence);
	if (!err) {
		__atomic_store_n(&flow->to_wire.notify, KMTLS_NOTIFY_INTENT, __ATOMIC_RELEASE);
		err = kmtls_ktls_send_alert(flow->wire_fd, ALERT_WARNING, ALERT_CLOSE_NOTIFY);
	}
	if (err == -EAGAIN)
		return STEP_IDLE;
	if (err)
		return reset(loop, slot, failure(KMTLS_TAG_WIRE, -err));
	__atomic_store_n(&flow->to_wire.notify, KMTLS_NOTIFY_SENT, __ATOMIC_RELEASE);
	return STEP_MOVED;
}

/* The source has ended and all its bytes are delivered: pass the end on. */
static enum step end_sink(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	enum step step;

	if (!private->source_ended[way] || private->queued[way] || private->sink_ended[way])
		return STEP_IDLE;
	if (way == KMTLS_TO_WIRE) {
		step = notify_peer(loop, slot);
		if (step != STEP_MOVED)
			return step;
	}
	shutdown(way == KMTLS_TO_WIRE ? flow->wire_fd : flow->local_fd, SHUT_WR);
	private->sink_ended[way] = true;
	return STEP_MOVED;
}

/* After close_notify only the FIN may come. Closing before it was read would send RST. */
static enum step await_fin(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	unsigned char record[64];
	__u8 type;
	ssize_t length;

	if (!private->source_ended[KMTLS_TO_LOCAL] || private->wire_finished)
		return STEP_IDLE;
	length = kmtls_ktls_receive(flow->wire_fd, false, record, sizeof(record), &type);
	if (length == -EAGAIN)
		return STEP_IDLE;
	if (length < 0)
		return reset(loop, slot, failure(KMTLS_TAG_WIRE, -length));
	if (length > 0 && type == KMTLS_RECORD_ALERT)
		return STEP_MOVED; /* a second close_notify, after a crash of the peer */
	if (type)
		return reset(loop, slot, KMTLS_REASON_UNEXPECTED_RECORD);
	private->wire_finished = true;
	return STEP_MOVED;
}

static enum step move_one_way(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way)
{
	static enum step (*const steps[])(struct kmtls_loop *, unsigned,
					  enum kmtls_way) = { fill, drain, end_sink };
	enum step result = STEP_IDLE;

	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		enum step step = steps[i](loop, slot, way);

		if (step == STEP_ENDED)
			return STEP_ENDED;
		if (step == STEP_MOVED)
			result = STEP_MOVED;
	}
	return result;
}

/*
 * The server's first record: our application has accepted. Nothing is resumed with it, so it
 * says "forget me at once" (RFC 8446 section 4.6.1: a lifetime of zero) and can be made again by
 * whoever comes after a crash.
 */
static enum step send_ticket(struct kmtls_loop *loop, unsigned slot)
{
	static const unsigned char ticket[] = {
		4, 0, 0, 15, /* NewSessionTicket, length */
		0, 0, 0, 0, /* lifetime */
		0, 0, 0, 0, /* age_add */
		1, 0, /* nonce */
		0, 1, 0, /* ticket */
		0, 0, /* extensions */
	};
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	__u64 sequence;
	int err;

	err = kmtls_ktls_tx_sequence(flow->wire_fd, flow->cipher, &sequence);
	if (!err && sequence == 0)
		err = kmtls_ktls_send(flow->wire_fd, KMTLS_RECORD_HANDSHAKE, ticket,
				      sizeof(ticket));
	if (err == -EAGAIN)
		return STEP_IDLE;
	if (err)
		return reset(loop, slot, failure(KMTLS_TAG_WIRE, -err));
	flow->ticket = KMTLS_TICKET_NONE;
	return STEP_MOVED;
}

/* One round of everything. */
static enum step move(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	enum step to_wire, to_local, fin;

	if (kmtls_loop_flow(loop, slot)->ticket == KMTLS_TICKET_DUE)
		return send_ticket(loop, slot);
	if (kmtls_rekey_wanted(loop, private) &&
	    follow(loop, slot, kmtls_rekey_serve(loop, slot)) == STEP_ENDED)
		return STEP_ENDED;
	to_wire = move_one_way(loop, slot, KMTLS_TO_WIRE);
	if (to_wire == STEP_ENDED)
		return STEP_ENDED;
	to_local = move_one_way(loop, slot, KMTLS_TO_LOCAL);
	if (to_local == STEP_ENDED)
		return STEP_ENDED;
	fin = await_fin(loop, slot);
	if (fin == STEP_ENDED)
		return STEP_ENDED;
	if (private->sink_ended[KMTLS_TO_WIRE] && private->sink_ended[KMTLS_TO_LOCAL]) {
		if (private->wire_finished)
			return end_in_order(loop, slot);
		if (!private->linger_deadline) {
			private->linger_deadline = kmtls_loop_now_ms() / 1000 + LINGER_SECONDS;
			loop->lingering++;
		}
	}
	return to_wire == STEP_MOVED || to_local == STEP_MOVED || fin == STEP_MOVED ? STEP_MOVED
										    : STEP_IDLE;
}

/* An error the moving calls did not meet, e.g. a reset of a side that has ended already. */
static enum step check_errors(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	static const enum kmtls_tag sides[] = { KMTLS_TAG_LOCAL, KMTLS_TAG_WIRE };

	kmtls_loop_private(loop, slot)->error = false;
	for (int i = 0; i < 2; i++) {
		int fd = sides[i] == KMTLS_TAG_LOCAL ? flow->local_fd : flow->wire_fd;
		socklen_t length = sizeof(int);
		int error = 0;

		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error)
			return reset(loop, slot, failure(sides[i], error));
	}
	return STEP_IDLE;
}

void kmtls_relay_pump(struct kmtls_loop *loop, unsigned slot, bool error)
{
	enum step step = STEP_MOVED;

	if (error)
		kmtls_loop_private(loop, slot)->error = true;
	for (int i = 0; i < PUMP_BUDGET && step == STEP_MOVED; i++)
		step = move(loop, slot);
	if (step == STEP_MOVED)
		kmtls_loop_again(loop, slot);
	else if (step == STEP_IDLE && kmtls_loop_private(loop, slot)->error)
		check_errors(loop, slot);
}
