/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay.c - see relay.h. What depends on what the wire speaks is in relay_tls.c and relay_plain.c.
 * The rules (each was found out, see docs/kernel.md):
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
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "counters.h"
#include "flow_log.h"
#include "log.h"
#include "loop.h"
#include "reason.h"
#include "rekey.h"
#include "relay.h"
#include "relay_wire.h"

/* A flow's turn, after which others get theirs: so many rounds of both directions, or so long after
 * the first. A round moves 64 KiB each way at most. */
#define TURN_ROUNDS 16
#define TURN_US 1000
/* So often is a source asked before what it gave goes on. A pipe has sixteen slots; a record takes
 * two, or four where memory is in pieces. */
#define FILLS 4
/* A full record of TLS. A source that gives less has probably no more for now. */
#define RECORD 16384
/* The peer has acknowledged the end with close_notify and must now close TCP. */
#define LINGER_SECONDS 30

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
void kmtls_relay_release(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);

	kmtls_flow_set_state(flow, KMTLS_FLOW_CLOSING);
	close_pipe(loop, &flow->to_wire, !private->queued[KMTLS_TO_WIRE]);
	close_pipe(loop, &flow->to_local, !private->queued[KMTLS_TO_LOCAL]);
	if (flow->local_fd >= 0)
		close(flow->local_fd);
	if (flow->wire_fd >= 0)
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
	kmtls_relay_release(loop, slot);
}

enum kmtls_step kmtls_relay_end(struct kmtls_loop *loop, unsigned slot, enum kmtls_reason reason)
{
	kmtls_relay_reset(loop, slot, reason);
	return KMTLS_STEP_ENDED;
}

static enum kmtls_step end_in_order(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);

	kmtls_flow_log_end(loop, slot, KMTLS_REASON_ENDED);
	setsockopt(flow->local_fd, SOL_SOCKET, SO_LINGER, &close_in_order, sizeof(close_in_order));
	/* A plain one has it from birth, too. */
	setsockopt(flow->wire_fd, SOL_SOCKET, SO_LINGER, &close_in_order, sizeof(close_in_order));
	kmtls_relay_release(loop, slot);
	return KMTLS_STEP_ENDED;
}

/* Which side failed with err, as a reason. */
enum kmtls_reason kmtls_relay_failure(enum kmtls_tag side, int error)
{
	switch (error) {
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
bool kmtls_relay_was_reset(int fd)
{
	struct tcp_info tcp;
	socklen_t length = sizeof(tcp);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &tcp, &length) < 0 ||
	       tcp.tcpi_state == TCP_CLOSE;
}

const struct kmtls_relay_wire *kmtls_relay_wire_of(const struct kmtls_flow *flow)
{
	return kmtls_flow_is_plain(flow) ? &kmtls_relay_plain : &kmtls_relay_tls;
}

/*
 * A source that gave little has probably no more, and a splice that finds nothing costs more than
 * asking. But a short one proves nothing: the pipe may have run out of slots, a record may wait
 * behind the first.
 */
static bool may_have_more(struct kmtls_flow_private *own, enum kmtls_way way, int source)
{
	struct pollfd ask = { .fd = source, .events = POLLIN | POLLRDHUP };

	if (own->source_short[way] && poll(&ask, 1, 0) == 0)
		own->source_empty[way] = true;
	own->source_short[way] = false;
	return !own->source_empty[way];
}

/* An accelerated leg is read when its pipe is empty: the pipe must have room for all that comes. */
static __u32 room(const struct kmtls_flow *flow, const struct kmtls_flow_private *private,
		  enum kmtls_way way)
{
	if (way == KMTLS_TO_WIRE && flow->accel && private->queued[way])
		return 0;
	return private->queued[way] < KMTLS_PIPE_BYTES ? KMTLS_PIPE_BYTES - private->queued[way]
						       : 0;
}

/* Bytes out of the source. IDLE: none, *ret_moved and errno as splice() leaves them. */
static enum kmtls_step take(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way,
			    ssize_t *ret_moved)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	int source = way == KMTLS_TO_WIRE ? flow->local_fd : flow->wire_fd;

	if (way == KMTLS_TO_WIRE && flow->accel)
		return kmtls_relay_carry(loop, slot, ret_moved);
	*ret_moved = splice(source, NULL, kmtls_flow_way(flow, way)->pipe_write, NULL,
			    room(flow, private, way), SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (*ret_moved <= 0)
		return KMTLS_STEP_IDLE;
	private->queued[way] += *ret_moved;
	private->source_short[way] = *ret_moved < RECORD;
	if (way == KMTLS_TO_LOCAL)
		kmtls_relay_wire_of(flow)->count(private, way, *ret_moved);
	return KMTLS_STEP_MOVED;
}

/* Source into pipe. */
static enum kmtls_step fill(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	struct kmtls_flow_direction *direction = kmtls_flow_way(flow, way);
	int source = way == KMTLS_TO_WIRE ? flow->local_fd : flow->wire_fd;
	enum kmtls_step step;
	ssize_t moved;

	if (private->source_empty[way] || private->source_ended[way] || !room(flow, private, way) ||
	    kmtls_rekey_closing(private) || !may_have_more(private, way, source))
		return KMTLS_STEP_IDLE;
	if (direction->pipe_read < 0) {
		int read_fd, write_fd;

		if (kmtls_pipes_get(&loop->pipes, &read_fd, &write_fd) < 0) {
			if (!private->pipe_wait)
				kmtls_counters_add(KMTLS_REASON_PIPE_WAIT);
			private->pipe_wait = true;
			kmtls_loop_again_later(loop, slot);
			return KMTLS_STEP_IDLE;
		}
		private->pipe_wait = false;
		direction->pipe_write = write_fd;
		__atomic_store_n(&direction->pipe_read, read_fd, __ATOMIC_RELEASE);
	}
	step = take(loop, slot, way, &moved);
	if (step != KMTLS_STEP_IDLE)
		return step;
	if (moved < 0 && errno == EAGAIN) {
		/* Or the pipe has no slot left, where something is in it. */
		private->source_empty[way] = !private->queued[way];
		return KMTLS_STEP_IDLE;
	}
	if (way == KMTLS_TO_LOCAL)
		return kmtls_relay_wire_of(flow)->no_data(loop, slot, moved ? errno : 0);
	if (moved < 0)
		return kmtls_relay_end(loop, slot, kmtls_relay_failure(KMTLS_TAG_LOCAL, errno));
	if (!flow->to_local.source_closed && kmtls_relay_was_reset(source))
		return kmtls_relay_end(loop, slot, KMTLS_REASON_LOCAL_RESET);
	private->source_ended[way] = true;
	watch_local(flow->local_fd);
	return KMTLS_STEP_MOVED;
}

/* Pipe into sink. */
static enum kmtls_step drain(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	struct kmtls_flow_direction *direction = kmtls_flow_way(flow, way);
	int sink = way == KMTLS_TO_WIRE ? flow->wire_fd : flow->local_fd;
	enum kmtls_step step = KMTLS_STEP_IDLE;

	if (private->queued[way] && !kmtls_rekey_blocks(private, way)) {
		ssize_t moved = splice(direction->pipe_read, NULL, sink, NULL, private->queued[way],
				       SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

		if (moved < 0 && errno != EAGAIN)
			return kmtls_relay_end(loop, slot,
					       kmtls_relay_failure(way == KMTLS_TO_WIRE
									   ? KMTLS_TAG_WIRE
									   : KMTLS_TAG_LOCAL,
								   errno));
		if (moved > 0) {
			private->queued[way] -= moved;
			if (way == KMTLS_TO_WIRE)
				kmtls_relay_wire_of(flow)->count(private, way, moved);
			step = KMTLS_STEP_MOVED;
		}
	}
	if (!private->queued[way])
		close_pipe(loop, direction, true);
	return step;
}

/* The source has ended and all its bytes are delivered: pass the end on. */
static enum kmtls_step end_sink(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	enum kmtls_step step;

	if (!private->source_ended[way] || private->queued[way] || private->sink_ended[way])
		return KMTLS_STEP_IDLE;
	if (way == KMTLS_TO_WIRE) {
		step = kmtls_relay_wire_of(flow)->say_end(loop, slot);
		if (step != KMTLS_STEP_MOVED)
			return step;
	}
	shutdown(way == KMTLS_TO_WIRE ? flow->wire_fd : flow->local_fd, SHUT_WR);
	private->sink_ended[way] = true;
	return KMTLS_STEP_MOVED;
}

/* Records come one at a time; as many as there are, and as the pipe takes, go on together. */
static enum kmtls_step fill_up(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way)
{
	enum kmtls_step result = KMTLS_STEP_IDLE, step = KMTLS_STEP_MOVED;

	for (int i = 0; i < FILLS && step == KMTLS_STEP_MOVED; i++) {
		step = fill(loop, slot, way);
		if (step != KMTLS_STEP_IDLE)
			result = step;
	}
	return result;
}

static enum kmtls_step move_one_way(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way)
{
	static enum kmtls_step (*const steps[])(struct kmtls_loop *, unsigned,
						enum kmtls_way) = { fill_up, drain, end_sink };
	enum kmtls_step result = KMTLS_STEP_IDLE;

	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		enum kmtls_step step = steps[i](loop, slot, way);

		if (step == KMTLS_STEP_ENDED)
			return KMTLS_STEP_ENDED;
		if (step == KMTLS_STEP_MOVED)
			result = KMTLS_STEP_MOVED;
	}
	return result;
}

/* One round of everything. */
static enum kmtls_step move(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	const struct kmtls_relay_wire *wire = kmtls_relay_wire_of(kmtls_loop_flow(loop, slot));
	enum kmtls_step first, to_wire, to_local, fin;
	bool wait = false;

	first = wire->prepare(loop, slot, &wait);
	if (first != KMTLS_STEP_IDLE || wait)
		return first;
	to_wire = move_one_way(loop, slot, KMTLS_TO_WIRE);
	if (to_wire == KMTLS_STEP_ENDED)
		return KMTLS_STEP_ENDED;
	to_local = move_one_way(loop, slot, KMTLS_TO_LOCAL);
	if (to_local == KMTLS_STEP_ENDED)
		return KMTLS_STEP_ENDED;
	fin = wire->await_end(loop, slot);
	if (fin == KMTLS_STEP_ENDED)
		return KMTLS_STEP_ENDED;
	if (private->sink_ended[KMTLS_TO_WIRE] && private->sink_ended[KMTLS_TO_LOCAL]) {
		if (private->wire_finished)
			return end_in_order(loop, slot);
		if (!private->linger_deadline) {
			private->linger_deadline = kmtls_loop_now_ms() / 1000 + LINGER_SECONDS;
			loop->lingering++;
		}
	}
	return to_wire == KMTLS_STEP_MOVED || to_local == KMTLS_STEP_MOVED ||
			       fin == KMTLS_STEP_MOVED
		       ? KMTLS_STEP_MOVED
		       : KMTLS_STEP_IDLE;
}

/* An error the moving calls did not meet, e.g. a reset of a side that has ended already. */
static enum kmtls_step check_errors(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	static const enum kmtls_tag sides[] = { KMTLS_TAG_LOCAL, KMTLS_TAG_WIRE };

	kmtls_loop_private(loop, slot)->error = false;
	for (int i = 0; i < 2; i++) {
		int fd = sides[i] == KMTLS_TAG_LOCAL ? flow->local_fd : flow->wire_fd;
		socklen_t length = sizeof(int);
		int error = 0;

		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error)
			return kmtls_relay_end(loop, slot, kmtls_relay_failure(sides[i], error));
	}
	return KMTLS_STEP_IDLE;
}

/* Nothing is left that could be moved before an event tells so. */
static bool is_settled(const struct kmtls_loop *loop, const struct kmtls_flow_private *private)
{
	return private->source_empty[KMTLS_TO_WIRE] && private->source_empty[KMTLS_TO_LOCAL] &&
	       !private->queued[KMTLS_TO_WIRE] && !private->queued[KMTLS_TO_LOCAL] &&
	       !private->key_flags && !kmtls_rekey_wanted(loop, private);
}

static void take_turn(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	enum kmtls_step step;
	__u64 end = 0, now;
	int round = 0;

	for (;;) {
		step = move(loop, slot);
		if (step != KMTLS_STEP_MOVED)
			break;
		/* Most turns are one message: they are over, and nobody has looked at the clock. */
		if (is_settled(loop, private)) {
			step = KMTLS_STEP_IDLE;
			break;
		}
		if (++round == TURN_ROUNDS)
			break;
		now = kmtls_loop_now_us();
		if (!end)
			end = now + TURN_US;
		else if (now >= end)
			break;
	}
	if (step == KMTLS_STEP_MOVED)
		kmtls_loop_again(loop, slot);
	else if (step == KMTLS_STEP_IDLE && private->error)
		check_errors(loop, slot);
}

void kmtls_relay_pump(struct kmtls_loop *loop, unsigned slot, bool error)
{
	struct kmtls_flow_private *own = kmtls_loop_private(loop, slot);

	if (error)
		own->error = true;
	own->source_empty[KMTLS_TO_WIRE] = own->source_empty[KMTLS_TO_LOCAL] = false;
	take_turn(loop, slot);
}

void kmtls_relay_event(struct kmtls_loop *loop, unsigned slot, enum kmtls_tag side, __u32 events)
{
	enum kmtls_way way = side == KMTLS_TAG_LOCAL ? KMTLS_TO_WIRE : KMTLS_TO_LOCAL;
	struct kmtls_flow_private *own = kmtls_loop_private(loop, slot);

	if (events & EPOLLERR)
		own->error = true;
	if (events & ~(__u32)EPOLLOUT)
		own->source_empty[way] = false;
	take_turn(loop, slot);
}
