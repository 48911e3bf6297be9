/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshake_tls.c - the TLS part of a handshake: drives OpenSSL, waits for the ticket, hands the
 * keys to the kernel. How handshakes begin and end: handshake.c.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "counters.h"
#include "expiry.h"
#include "handshake.h"
#include "hash.h"
#include "inbound.h"
#include "inbound_peek.h"
#include "ktls.h"
#include "log.h"
#include "outbound.h"
#include "peer_paths.h"
#include "policy.h"
#include "rekey.h"
#include "relay.h"
#include "revocation.h"
#include "settings.h"
#include "shared.h"
#include "tls.h"

#define ALERT_FATAL 2
/* Sent instead of the ticket: the application behind us refused. The only use of it. */
#define ALERT_APPLICATION_REFUSED SSL_AD_UNRECOGNIZED_NAME

/* ---- hand-over to the kernel ---- */

/*
 * The server's ticket is the first record under its application key: the client has read it, the
 * server's relay will send it. lives: the flow will be established, and may replace its keys.
 */
static int install_keys(struct kmtls_handshake *handshake, bool lives)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	bool server = handshake->role == KMTLS_ROLE_SERVER;
	struct kmtls_record_key tx_key __cleanup_record_key = {};
	struct kmtls_record_key rx_key __cleanup_record_key = {};
	const struct kmtls_secret *tx, *rx;
	bool rekey;
	int err;

	flow->cipher = handshake->psk
			       ? KMTLS_PSK_CIPHER
			       : SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(handshake->ssl));
	rekey = handshake->psk ? handshake->rekey_agreed : kmtls_tls_rekey_agreed(handshake->ssl);
	tx = server ? &handshake->secrets.server : &handshake->secrets.client;
	rx = server ? &handshake->secrets.client : &handshake->secrets.server;
	err = kmtls_record_key_derive(flow->cipher, tx, &tx_key);
	if (!err)
		err = kmtls_record_key_derive(flow->cipher, rx, &rx_key);
	if (!err)
		err = kmtls_ktls_install_tx(flow->wire_fd, &tx_key, 0);
	if (!err)
		err = kmtls_ktls_install_rx(flow->wire_fd, &rx_key, server ? 0 : 1);
	if (!err && lives && rekey)
		kmtls_rekey_begin(handshake->loop, handshake->slot, tx, rx);
	kmtls_traffic_secrets_wipe(&handshake->secrets);
	return err;
}

/* For CRLs that come later. Where there can be none, it does not matter. */
static int remember_path(struct kmtls_handshake *handshake, struct kmtls_flow *flow)
{
	struct kmtls_daemon *daemon = handshake->loop->daemon;
	int err = kmtls_peer_paths_put(&daemon->shared->peer_paths, daemon->flows, flow,
				       handshake->verify.peer_issuers);

	return daemon->config->identity.crl_files_count ? err : 0;
}

/* Hands the wire over to the kernel. false: that failed, and the handshake is gone. */
static bool hand_over(struct kmtls_handshake *handshake)
{
	bool server = handshake->role == KMTLS_ROLE_SERVER;
	struct kmtls_loop *loop = handshake->loop;
	unsigned slot = handshake->slot;
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	int err;

	/* read_ahead is off: nothing of the application can be in OpenSSL. */
	if (handshake->ssl && SSL_has_pending(handshake->ssl)) {
		kmtls_handshake_fail(handshake, KMTLS_REASON_EARLY_DATA, NULL);
		return false;
	}
	err = remember_path(handshake, flow);
	if (err) {
		kmtls_handshake_fail(handshake, KMTLS_REASON_NO_RESOURCES,
				     "too many paths of intermediate CAs");
		return false;
	}
	err = install_keys(handshake, true);
	if (err) {
		kmtls_handshake_fail(handshake, KMTLS_REASON_KTLS_FAILED, strerror(-err));
		return false;
	}
	if (handshake->ssl)
		kmtls_resumption_remember(handshake->ssl, &handshake->resumption);
	SSL_free(handshake->ssl);
	handshake->ssl = NULL;
	kmtls_handshake_psk_end(handshake);
	flow->ticket = server ? KMTLS_TICKET_DUE : KMTLS_TICKET_NONE;
	err = kmtls_policy_name_put(loop->daemon->bpf, handshake->verify.peer_id,
				    &flow->peer_identity);
	if (!err) /* again: it may have been collected before the slot referred to it */
		err = kmtls_policy_name_put(loop->daemon->bpf, handshake->verify.peer_id,
					    &flow->peer_identity);
	if (err)
		log_warning("peer identity not named", "flow=%u.%u peer_id=%s err=%s", slot,
			    flow->generation, kmtls_log_quote(handshake->verify.peer_id),
			    kmtls_log_quote(strerror(-err)));
	flow->peer_not_after = handshake->verify.peer_not_after;
	flow->peer_certificate = handshake->verify.peer_certificate;
	return true;
}

void kmtls_handshake_establish(struct kmtls_handshake *handshake)
{
	struct kmtls_loop *loop = handshake->loop;
	unsigned slot = handshake->slot;
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	char self[KMTLS_ENDPOINT_TEXT], peer[KMTLS_ENDPOINT_TEXT];

	kmtls_counters_add(KMTLS_REASON_ESTABLISHED);
	log_debug("flow established",
		  "flow=%u.%u pod=%s direction=%s self=%s peer=%s peer_id=%s cipher=%04x "
		  "handshake=%s",
		  slot, flow->generation, kmtls_log_quote(handshake->pod->name),
		  kmtls_handshake_direction(handshake->role),
		  kmtls_endpoint_format(&flow->self, self, sizeof(self)),
		  kmtls_endpoint_format(&flow->peer, peer, sizeof(peer)),
		  kmtls_log_quote(handshake->verify.peer_id), flow->cipher,
		  handshake->kind ? handshake->kind : "\"\"");
	kmtls_handshake_free(handshake);
	/* From here on the flow is kernel objects and the slot. */
	kmtls_flow_set_state(flow, KMTLS_FLOW_ESTABLISHED);
	if (flow->role == KMTLS_ROLE_CLIENT)
		kmtls_outbound_settle(loop, flow);
	if (!kmtls_flow_is_plain(flow)) {
		kmtls_expiry_watch(loop, flow);
		/* What was revoked before this was not seen by a review. */
		if (kmtls_review_revoked(loop, slot))
			return;
	}
	/* Edges of the handshake's time are gone: look at both sides once. */
	kmtls_relay_pump(loop, slot, true);
}

/* ---- TLS ---- */

static bool wants_more(struct kmtls_handshake *handshake, int result)
{
	int error = SSL_get_error(handshake->ssl, result);

	if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
		return false;
	kmtls_tls_rest(handshake->ssl);
	return true;
}

/*
 * The application's connect() may complete; a held one comes to us as a connection then. From
 * here on the flow does not need this process: whoever comes after a crash finds the keys in the
 * kernel, and in the slot which socket's connection to wait for.
 */
void kmtls_handshake_peer_accepted(struct kmtls_handshake *handshake)
{
	struct kmtls_loop *loop = handshake->loop;
	struct kmtls_flow *flow = kmtls_loop_flow(loop, handshake->slot);

	if (!hand_over(handshake))
		return;
	if (flow->local_fd >= 0) {
		kmtls_handshake_establish(handshake);
		return;
	}
	flow->local_cookie = handshake->attempt.cookie;
	flow->syn_sequence = handshake->attempt.sequence;
	kmtls_flow_set_state(flow, KMTLS_FLOW_CONFIRMED);
	handshake->stage = KMTLS_HANDSHAKE_PASSED;
	kmtls_handshake_more_time(handshake);
	kmtls_hold_pass(loop->daemon->hold, handshake);
}

static bool has_bytes(struct kmtls_handshake *handshake)
{
	int count = 0;

	return ioctl(kmtls_loop_flow(handshake->loop, handshake->slot)->wire_fd, FIONREAD,
		     &count) == 0 &&
	       count > 0;
}

/* Exactly one ticket, then the server's application has accepted. */
static void await_ticket(struct kmtls_handshake *handshake)
{
	unsigned char byte;
	int result, tries = 16;

	if (handshake->psk) {
		kmtls_handshake_psk_await_ticket(handshake);
		return;
	}
	/* One call takes one record; a ticket in pieces takes several, and no edge comes. */
	do {
		ERR_clear_error();
		result = SSL_read(handshake->ssl, &byte, 1);
	} while (result <= 0 && wants_more(handshake, result) &&
		 !kmtls_tls_tickets_seen(handshake->ssl) && --tries && has_bytes(handshake));
	if (result > 0)
		kmtls_handshake_fail(handshake, KMTLS_REASON_EARLY_DATA, NULL);
	else if (!wants_more(handshake, result))
		kmtls_handshake_fail_tls(handshake);
	else if (kmtls_tls_tickets_seen(handshake->ssl) == 1)
		kmtls_handshake_peer_accepted(handshake);
}

void kmtls_handshake_proven(struct kmtls_handshake *handshake)
{
	kmtls_expiry_show(handshake->loop->daemon,
			  kmtls_loop_flow(handshake->loop, handshake->slot)->self_identity,
			  kmtls_hash_text(handshake->verify.peer_id),
			  handshake->verify.peer_not_after);
	if (handshake->role == KMTLS_ROLE_CLIENT) {
		handshake->stage = KMTLS_HANDSHAKE_TICKET_WAIT;
		await_ticket(handshake);
	} else if (kmtls_handshake_authorize(handshake)) {
		handshake->stage = KMTLS_HANDSHAKE_DELIVERING;
		kmtls_inbound_deliver(handshake);
	}
}

static void do_handshake(struct kmtls_handshake *handshake)
{
	int result;

	ERR_clear_error();
	result = kmtls_traffic_secrets_handshake(handshake->ssl);
	if (result != 1) {
		if (wants_more(handshake, result))
			return;
		/* It may be for what was offered: not a second time. But a server that has refused a
		 * symmetric handshake may just have ended the connection. */
		kmtls_resumption_leave(&handshake->resumption, !handshake->psk_refused);
		kmtls_handshake_fail_tls(handshake);
		return;
	}
	if (!kmtls_tls_alpn_ok(handshake->ssl)) {
		kmtls_handshake_fail(handshake, KMTLS_REASON_NOT_MESH, "no ALPN");
		return;
	}
	if (!kmtls_resumption_adopt(handshake->ssl, &handshake->resumption)) {
		kmtls_handshake_fail(handshake, KMTLS_REASON_HANDSHAKE_FAILED, "resumed by nobody");
		return;
	}
	handshake->kind = "full";
	if (SSL_session_reused(handshake->ssl)) {
		handshake->kind = "resumed";
		kmtls_counters_add(KMTLS_REASON_RESUMED);
	}
	kmtls_handshake_proven(handshake);
}

static bool is_set(int fd, int level, int name)
{
	socklen_t length = sizeof(int);
	int value = 0;

	return getsockopt(fd, level, name, &value, &length) == 0 && value;
}

/* A peer that was powered off says nothing: ask now and then, and do not wait forever for what it
 * should acknowledge, unless the application had its own idea (outbound.c). */
void kmtls_handshake_watch_wire(struct kmtls_handshake *handshake)
{
	const struct kmtls_config *config = handshake->loop->daemon->config;
	int fd = kmtls_loop_flow(handshake->loop, handshake->slot)->wire_fd;
	int one = 1, idle = config->keepalive.idle, interval = config->keepalive.interval,
	    probes = config->keepalive.probes, milliseconds = config->peer_timeout * 1000;

	if (milliseconds && !is_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT))
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof(milliseconds));
	if (!idle || is_set(fd, SOL_SOCKET, SO_KEEPALIVE))
		return;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

static void begin_resumption(struct kmtls_handshake *handshake)
{
	struct kmtls_daemon *daemon = handshake->loop->daemon;

	handshake->resumption = (struct kmtls_resumption_party){
		.resumption = daemon->resumption,
		.svid = handshake->svid->number,
		.not_after = handshake->svid->not_after,
		.revocations = kmtls_revocation_generation(),
		.seconds = kmtls_setting_get(daemon, KMTLS_SETTING_RESUMPTION),
		.symmetric = kmtls_setting_get(daemon, KMTLS_SETTING_RESUMPTION_SYMMETRIC),
		.peer = kmtls_loop_flow(handshake->loop, handshake->slot)->peer.address,
		.verify = &handshake->verify,
	};
	if (handshake->resumption.seconds &&
	    kmtls_policy_generation(daemon->bpf, &handshake->resumption.policy) < 0)
		handshake->resumption.seconds = 0;
}

void kmtls_handshake_start_tls(struct kmtls_handshake *handshake)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	int err;

	if (!handshake->svid) {
		kmtls_handshake_fail(handshake, KMTLS_REASON_NO_IDENTITY, NULL);
		return;
	}
	/*
	 * Now, not with the keys: the kernel wants an established socket, and a peer that speaks
	 * first and ends at once has sent its FIN by then. Without keys it is plain TCP.
	 */
	err = kmtls_ktls_attach(flow->wire_fd);
	if (err) {
		kmtls_handshake_fail_or_retry(handshake,
					      err == -ENOTCONN ? KMTLS_REASON_HANDSHAKE_RESET
							       : KMTLS_REASON_KTLS_FAILED,
					      strerror(-err));
		return;
	}
	kmtls_handshake_watch_wire(handshake);
	begin_resumption(handshake);
	handshake->stage = KMTLS_HANDSHAKE_TLS;
	if (!kmtls_handshake_psk_begin(handshake))
		kmtls_handshake_start_openssl(handshake);
}

void kmtls_handshake_start_openssl(struct kmtls_handshake *handshake)
{
	bool client = handshake->role == KMTLS_ROLE_CLIENT;
	SSL *ssl = SSL_new(client ? handshake->svid->client : handshake->svid->server);

	handshake->ssl = ssl;
	if (!ssl || kmtls_verify_attach(ssl, &handshake->verify) < 0 ||
	    kmtls_resumption_attach(ssl, &handshake->resumption) < 0 ||
	    kmtls_traffic_secrets_attach(ssl, &handshake->secrets) < 0 ||
	    SSL_set_fd(ssl, kmtls_loop_flow(handshake->loop, handshake->slot)->wire_fd) != 1) {
		kmtls_handshake_fail(handshake, KMTLS_REASON_NO_RESOURCES, NULL);
		return;
	}
	if (client)
		SSL_set_connect_state(ssl);
	else
		SSL_set_accept_state(ssl);
	do_handshake(handshake);
}

/* The relay tells the client, with the ticket. */
void kmtls_handshake_application_accepted(struct kmtls_handshake *handshake)
{
	if (handshake->plain)
		kmtls_inbound_relay_plain(handshake);
	else if (hand_over(handshake))
		kmtls_handshake_establish(handshake);
}

void kmtls_handshake_send_alert(struct kmtls_handshake *handshake, int alert)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);

	/* OpenSSL has no call for an alert now; the kernel sends it, as the first record. */
	if (install_keys(handshake, false) == 0)
		kmtls_ktls_send_alert(flow->wire_fd, ALERT_FATAL, alert);
}

void kmtls_handshake_application_unreachable(struct kmtls_handshake *handshake,
					     enum kmtls_reason reason, const char *detail)
{
	if (!handshake->plain)
		kmtls_handshake_send_alert(handshake, ALERT_APPLICATION_REFUSED);
	kmtls_handshake_fail(handshake, reason, detail);
}

void kmtls_handshake_application_refused(struct kmtls_handshake *handshake, int err)
{
	kmtls_handshake_application_unreachable(handshake, KMTLS_REASON_APPLICATION_REFUSED,
						strerror(err));
}

/* ---- events ---- */

static void on_local(struct kmtls_handshake *handshake, __u32 events)
{
	/* A client that only has finished sending still waits for an answer. */
	if (events & (EPOLLERR | EPOLLHUP) && handshake->stage != KMTLS_HANDSHAKE_DELIVERING)
		kmtls_handshake_fail(handshake, KMTLS_REASON_LOCAL_GONE, NULL);
	else if (handshake->stage == KMTLS_HANDSHAKE_DELIVERING)
		kmtls_inbound_delivered(handshake);
}

void kmtls_handshake_event(struct kmtls_handshake *handshake, enum kmtls_tag side, __u32 events)
{
	if (side == KMTLS_TAG_LOCAL) {
		on_local(handshake, events);
		return;
	}
	switch (handshake->stage) {
	case KMTLS_HANDSHAKE_DIALING:
		kmtls_outbound_dialed(handshake);
		break;
	case KMTLS_HANDSHAKE_TLS:
		if (kmtls_handshake_psk_is_at_work(handshake))
			kmtls_handshake_psk_event(handshake);
		else
			do_handshake(handshake);
		break;
	case KMTLS_HANDSHAKE_TICKET_WAIT:
		await_ticket(handshake);
		break;
	case KMTLS_HANDSHAKE_DELIVERING:
		if (events & (EPOLLERR | EPOLLHUP))
			kmtls_handshake_fail(handshake, KMTLS_REASON_HANDSHAKE_RESET, NULL);
		break;
	case KMTLS_HANDSHAKE_PEEKING:
		kmtls_inbound_peek(handshake);
		break;
	case KMTLS_HANDSHAKE_PASSED:
		break; /* the relay will find it, once there is someone to tell */
	}
}

static void on_accepted(struct kmtls_handshake *handshake, int fd)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);

	if (flow->local_fd >= 0) {
		close(fd); /* cannot be: a cookie connects once */
		return;
	}
	flow->local_fd = fd;
	flow->local_cookie = kmtls_handshake_cookie(fd);
	if (kmtls_loop_watch(handshake->loop, KMTLS_TAG_LOCAL, handshake->slot, fd) < 0)
		kmtls_handshake_fail(handshake, KMTLS_REASON_NO_RESOURCES, strerror(errno));
	else if (handshake->stage == KMTLS_HANDSHAKE_PASSED)
		kmtls_handshake_establish(handshake);
}

void kmtls_handshake_message(struct kmtls_handshake *handshake,
			     const struct kmtls_loop_message *message)
{
	bool waiting = kmtls_loop_flow(handshake->loop, handshake->slot)->local_fd < 0;

	switch (message->type) {
	case KMTLS_MESSAGE_ACCEPTED:
		on_accepted(handshake, message->fd);
		break;
	case KMTLS_MESSAGE_REPEATED:
		/* Held again although it was let go: the verdict was lost. */
		if (waiting && handshake->stage == KMTLS_HANDSHAKE_PASSED)
			kmtls_hold_pass(handshake->loop->daemon->hold, handshake);
		break;
	case KMTLS_MESSAGE_GONE:
		if (waiting)
			kmtls_handshake_fail(handshake, KMTLS_REASON_LOCAL_GONE, NULL);
		break;
	case KMTLS_MESSAGE_STALE:
		if (waiting)
			kmtls_handshake_fail(handshake, KMTLS_REASON_STALE, NULL);
		break;
	case KMTLS_MESSAGE_RESUME:
	case KMTLS_MESSAGE_FORBIDDEN:
	case KMTLS_MESSAGE_LEG:
	case KMTLS_MESSAGE_WIRE:
		break; /* for who has no handshake yet: loop_messages.c */
	}
}
