/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inbound_peek.c - see inbound_peek.h. Edge-triggered: each segment that arrives is another event,
 * so bytes that are left in the socket wake nobody a second time.
 */
#include "inbound_peek.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "client_hello.h"
#include "counters.h"
#include "handshake.h"
#include "inbound.h"
#include "kmtls/decision_rules.h"
#include "log.h"
#include "modes.h"
#include "policy.h"
#include "relay.h"

bool kmtls_inbound_allows_plaintext(struct kmtls_bpf *bpf, const struct kmtls_pod *pod,
				    const struct kmtls_endpoint *self,
				    const struct kmtls_endpoint *peer)
{
	/* OFF: it was not when the SYN came, and is for the next. */
	enum kmtls_mode mode = kmtls_modes_resolve(bpf, pod->name_hash, pod->namespace_hash,
						   KMTLS_INBOUND, self->port, NULL);
	int err;
	struct kmtls_peer_value entry;

	err = kmtls_policy_peer_lookup(bpf, &peer->address, &entry);
	if (err && err != -ENOENT)
		return false;
	return kmtls_decide_accepted(mode, kmtls_peer_read(err ? NULL : &entry, self->port))
		       .verdict == KMTLS_VERDICT_SNIFF;
}

bool kmtls_inbound_has_ended(int fd)
{
	struct pollfd wire = { .fd = fd, .events = POLLRDHUP };

	return poll(&wire, 1, 0) == 1;
}

enum kmtls_first_bytes kmtls_inbound_look(int fd, int *ret_error)
{
	unsigned char bytes[KMTLS_CLIENT_HELLO_MAX];
	ssize_t length = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);

	if (length == 0)
		return KMTLS_FIRST_PLAIN;
	if (length < 0) {
		*ret_error = errno;
		return errno == EAGAIN ? KMTLS_FIRST_NOTHING : KMTLS_FIRST_FAILED;
	}
	switch (kmtls_client_hello_look(bytes, length)) {
	case KMTLS_CLIENT_HELLO_PARTIAL:
		return kmtls_inbound_has_ended(fd) ? KMTLS_FIRST_PLAIN : KMTLS_FIRST_PARTIAL;
	case KMTLS_CLIENT_HELLO_OURS:
		return KMTLS_FIRST_MESH;
	default:
		return KMTLS_FIRST_PLAIN;
	}
}

/* Whoever dies with the wire resets it; with TLS there is no need, close_notify is the end. */
static void set_linger(int fd, bool reset)
{
	struct linger linger = { .l_onoff = reset, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

void kmtls_inbound_peek_begin(struct kmtls_handshake *handshake)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);

	handshake->stage = KMTLS_HANDSHAKE_PEEKING;
	kmtls_handshake_wait_for_peek(handshake);
	set_linger(flow->wire_fd, true);
	__atomic_store_n(&flow->untaken, 1, __ATOMIC_RELEASE);
	kmtls_inbound_peek(handshake);
}

static void begin_tls(struct kmtls_handshake *handshake)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);

	__atomic_store_n(&flow->untaken, 0, __ATOMIC_RELEASE);
	set_linger(flow->wire_fd, false);
	kmtls_handshake_more_time(handshake);
	kmtls_handshake_start_tls(handshake);
}

/* decided: it is no client of the mesh; else it may still turn out to be one. */
static void begin_plain(struct kmtls_handshake *handshake, bool decided)
{
	handshake->plain = true;
	handshake->plain_decided = decided;
	handshake->stage = KMTLS_HANDSHAKE_DELIVERING;
	kmtls_handshake_more_time(handshake);
	kmtls_handshake_watch_wire(handshake);
	kmtls_inbound_deliver(handshake);
}

void kmtls_inbound_peek(struct kmtls_handshake *handshake)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	int error;

	switch (kmtls_inbound_look(flow->wire_fd, &error)) {
	case KMTLS_FIRST_NOTHING:
		break;
	case KMTLS_FIRST_PARTIAL:
		/* Whoever begins must go on; each byte is not a reason to wait longer. */
		if (!handshake->begun_hello)
			kmtls_handshake_more_time(handshake);
		handshake->begun_hello = true;
		break;
	case KMTLS_FIRST_MESH:
		begin_tls(handshake);
		break;
	case KMTLS_FIRST_PLAIN:
		begin_plain(handshake, true);
		break;
	case KMTLS_FIRST_FAILED:
		kmtls_handshake_fail(handshake, KMTLS_REASON_HANDSHAKE_RESET, strerror(error));
		break;
	}
}

void kmtls_inbound_peek_expire(struct kmtls_handshake *handshake)
{
	begin_plain(handshake, false);
}

void kmtls_inbound_relay_plain(struct kmtls_handshake *handshake)
{
	struct kmtls_loop *loop = handshake->loop;
	unsigned slot = handshake->slot;
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);

	log_debug("flow established", "flow=%u.%u pod=%s direction=inbound plaintext=%s", slot,
		  flow->generation, kmtls_log_quote(handshake->pod->name),
		  handshake->plain_decided ? "true" : "undecided");
	if (handshake->plain_decided) {
		kmtls_counters_add(KMTLS_REASON_PLAINTEXT);
		flow->untaken = 0;
	}
	kmtls_handshake_free(handshake);
	kmtls_flow_set_state(flow, KMTLS_FLOW_ESTABLISHED);
	/* Edges of the time before are gone: look at both sides once. */
	kmtls_relay_pump(loop, slot, true);
}
