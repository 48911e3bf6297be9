/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay_tls.c - a wire that is kernel TLS: control records, close_notify, the ticket, keys.
 * The order of stores is in relay.c.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "ktls.h"
#include "rekey.h"
#include "relay_wire.h"

#define ALERT_WARNING 1
#define ALERT_CLOSE_NOTIFY 0

/* A verdict of rekey.c on a flow. */
static enum kmtls_step follow(struct kmtls_loop *loop, unsigned slot, enum kmtls_reason reason)
{
	return reason ? kmtls_relay_end(loop, slot, reason) : KMTLS_STEP_MOVED;
}

/* The next record on the wire is not data. */
static enum kmtls_step take_control_record(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	unsigned char record[64];
	__u8 type;
	ssize_t length;

	length = kmtls_ktls_receive(flow->wire_fd, true, record, sizeof(record), &type);
	if (length == -EAGAIN) /* splice said EINVAL: junk on the wire */
		return kmtls_relay_end(loop, slot, KMTLS_REASON_BAD_RECORD);
	if (length < 0)
		return kmtls_relay_end(loop, slot, kmtls_relay_failure(KMTLS_TAG_WIRE, -length));
	if (type == KMTLS_RECORD_HANDSHAKE)
		return follow(loop, slot, kmtls_rekey_receive(loop, slot, record, length));
	if (type != KMTLS_RECORD_ALERT)
		return kmtls_relay_end(loop, slot, KMTLS_REASON_UNEXPECTED_RECORD);
	if (length != 2 || record[1] != ALERT_CLOSE_NOTIFY)
		return kmtls_relay_end(loop, slot, KMTLS_REASON_PEER_ALERT);
	flow->to_local.source_closed = 1;
	kmtls_loop_private(loop, slot)->source_ended[KMTLS_TO_LOCAL] = true;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	kmtls_ktls_receive(flow->wire_fd, false, record, sizeof(record), &type);
	return KMTLS_STEP_MOVED;
}

/* With INTENT stored: did the close_notify go out? Nothing else can have been sent since. */
static bool was_notified(const struct kmtls_flow *flow)
{
	__u64 sequence;

	return kmtls_ktls_tx_sequence(flow->wire_fd, flow->cipher, &sequence) == 0 &&
	       sequence != flow->to_wire.notify_sequence;
}

/* Tells the peer that our application has ended. */
static enum kmtls_step say_end(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct pollfd wire = { .fd = flow->wire_fd, .events = POLLOUT };
	int err;

	if (flow->to_wire.notify == KMTLS_NOTIFY_INTENT && was_notified(flow))
		flow->to_wire.notify = KMTLS_NOTIFY_SENT;
	if (flow->to_wire.notify == KMTLS_NOTIFY_SENT)
		return KMTLS_STEP_MOVED;
	/* As long as records wait inside kernel TLS the alert would wait behind them, and the
	 * FIN would overtake both. Asking also arms the edge that tells. */
	if (poll(&wire, 1, 0) != 1)
		return KMTLS_STEP_IDLE;
	err = kmtls_ktls_tx_sequence(flow->wire_fd, flow->cipher, &flow->to_wire.notify_sequence);
	if (!err) {
		__atomic_store_n(&flow->to_wire.notify, KMTLS_NOTIFY_INTENT, __ATOMIC_RELEASE);
		err = kmtls_ktls_send_alert(flow->wire_fd, ALERT_WARNING, ALERT_CLOSE_NOTIFY);
	}
	if (err == -EAGAIN)
		return KMTLS_STEP_IDLE;
	if (err)
		return kmtls_relay_end(loop, slot, kmtls_relay_failure(KMTLS_TAG_WIRE, -err));
	__atomic_store_n(&flow->to_wire.notify, KMTLS_NOTIFY_SENT, __ATOMIC_RELEASE);
	return KMTLS_STEP_MOVED;
}

/* After close_notify only the FIN may come. Closing before it was read would send RST. */
static enum kmtls_step await_end(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	unsigned char record[64];
	__u8 type;
	ssize_t length;

	if (!private->source_ended[KMTLS_TO_LOCAL] || private->wire_finished)
		return KMTLS_STEP_IDLE;
	length = kmtls_ktls_receive(flow->wire_fd, false, record, sizeof(record), &type);
	if (length == -EAGAIN)
		return KMTLS_STEP_IDLE;
	if (length < 0)
		return kmtls_relay_end(loop, slot, kmtls_relay_failure(KMTLS_TAG_WIRE, -length));
	if (length > 0 && type == KMTLS_RECORD_ALERT)
		return KMTLS_STEP_MOVED; /* a second close_notify, after a crash of the peer */
	if (type)
		return kmtls_relay_end(loop, slot, KMTLS_REASON_UNEXPECTED_RECORD);
	private->wire_finished = true;
	return KMTLS_STEP_MOVED;
}

/*
 * The server's first record: our application has accepted. Nothing is resumed with it, so it
 * says "forget me at once" (RFC 8446 section 4.6.1: a lifetime of zero) and can be made again by
 * whoever comes after a crash.
 */
static enum kmtls_step send_ticket(struct kmtls_loop *loop, unsigned slot)
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
		return KMTLS_STEP_IDLE;
	if (err)
		return kmtls_relay_end(loop, slot, kmtls_relay_failure(KMTLS_TAG_WIRE, -err));
	flow->ticket = KMTLS_TICKET_NONE;
	return KMTLS_STEP_MOVED;
}

static enum kmtls_step prepare(struct kmtls_loop *loop, unsigned slot, bool *ret_wait)
{
	enum kmtls_step step;

	if (kmtls_loop_flow(loop, slot)->ticket == KMTLS_TICKET_DUE) {
		step = send_ticket(loop, slot);
		*ret_wait = step == KMTLS_STEP_IDLE;
		return step;
	}
	if (kmtls_rekey_wanted(loop, kmtls_loop_private(loop, slot)) &&
	    follow(loop, slot, kmtls_rekey_serve(loop, slot)) == KMTLS_STEP_ENDED)
		return KMTLS_STEP_ENDED;
	return KMTLS_STEP_IDLE;
}

static void count(struct kmtls_flow_private *private, enum kmtls_way way, size_t size)
{
	kmtls_rekey_count(private, way, size);
}

static enum kmtls_step no_data(struct kmtls_loop *loop, unsigned slot, int error)
{
	switch (error) {
	case 0:
		return kmtls_relay_end(loop, slot, KMTLS_REASON_TRUNCATED);
	case EINVAL:
		return take_control_record(loop, slot);
	case EKEYEXPIRED:
		return follow(loop, slot, kmtls_rekey_resume(loop, slot));
	}
	return kmtls_relay_end(loop, slot, kmtls_relay_failure(KMTLS_TAG_WIRE, error));
}

const struct kmtls_relay_wire kmtls_relay_tls = {
	.prepare = prepare,
	.count = count,
	.no_data = no_data,
	.say_end = say_end,
	.await_end = await_end,
};
