/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshake_psk.c - where `resumption_symmetric` is on: handshakes that stand on an earlier one and
 * use symmetric cryptography only (psk_handshake.h), and how they become others. The client tries
 * once a connection. A server that does not want to says so by an alert and waits for another
 * ClientHello on the same connection; where it has gone instead, or has said what it must not, the client
 * dials anew. Its application has been told nothing by then, and the server's has not been asked.
 */
#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "address.h"
#include "counters.h"
#include "handshake.h"
#include "inbound_peek.h"
#include "log.h"
#include "refusals.h"
#include "tls.h"

#define ALERT_FATAL 2

bool kmtls_handshake_psk_is_at_work(const struct kmtls_handshake *handshake)
{
	return handshake->psk || handshake->psk_looking;
}

void kmtls_handshake_psk_end(struct kmtls_handshake *handshake)
{
	kmtls_psk_free(handshake->psk);
	handshake->psk = NULL;
	handshake->psk_looking = false;
}

static void report_refusal(const struct kmtls_handshake *handshake, const char *detail)
{
	const struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	char self[KMTLS_ENDPOINT_TEXT], peer[KMTLS_ENDPOINT_TEXT];

	kmtls_counters_add(KMTLS_REASON_SYMMETRIC_REFUSED);
	if (!kmtls_refusals_worth_a_line(KMTLS_REASON_SYMMETRIC_REFUSED))
		return;
	log_info("symmetric handshake refused",
		 "flow=%u.%u pod=%s direction=%s self=%s peer=%s detail=%s", handshake->slot,
		 flow->generation, kmtls_log_quote(handshake->pod->name),
		 kmtls_handshake_direction(handshake->role),
		 kmtls_endpoint_format(&flow->self, self, sizeof(self)),
		 kmtls_endpoint_format(&flow->peer, peer, sizeof(peer)),
		 kmtls_log_quote_long(detail));
}

/* Why it is FAILED or REFUSED. */
static enum kmtls_reason explain(const struct kmtls_psk_handshake *psk,
				 char ret_detail[KMTLS_VERIFY_DETAIL])
{
	const char *why;
	int alert;
	enum kmtls_reason reason = kmtls_psk_reason(psk, &why, &alert);

	if (alert >= 0)
		return kmtls_verify_alert_reason(alert, ret_detail);
	snprintf(ret_detail, KMTLS_VERIFY_DETAIL, "%s", why ? why : "");
	return reason;
}

static void fall_back(struct kmtls_handshake *handshake, bool same_connection)
{
	char detail[KMTLS_VERIFY_DETAIL];

	explain(handshake->psk, detail);
	report_refusal(handshake, detail);
	kmtls_resumption_refuse_symmetric(&handshake->resumption);
	if (!same_connection) {
		kmtls_handshake_dial_again(handshake);
		return;
	}
	kmtls_handshake_psk_end(handshake);
	handshake->psk_refused = true;
	kmtls_handshake_start_openssl(handshake);
}

/* Each side has proven to the other that it has the PSK. */
static void done(struct kmtls_handshake *handshake)
{
	if (handshake->role == KMTLS_ROLE_CLIENT) {
		const unsigned char *selected = kmtls_psk_selected_alpn(handshake->psk);

		if (!selected) {
			kmtls_handshake_fail(handshake, KMTLS_REASON_NOT_MESH, "no ALPN");
			return;
		}
		handshake->rekey_agreed = kmtls_tls_alpn_is_rekey(selected);
	}
	handshake->secrets = *kmtls_psk_secrets(handshake->psk);
	kmtls_resumption_adopt_symmetric(&handshake->resumption);
	kmtls_counters_add(KMTLS_REASON_RESUMED);
	kmtls_counters_add(KMTLS_REASON_RESUMED_SYMMETRIC);
	handshake->kind = "symmetric";
	kmtls_handshake_proven(handshake);
}

static void go_on(struct kmtls_handshake *handshake)
{
	int fd = kmtls_loop_flow(handshake->loop, handshake->slot)->wire_fd;
	char detail[KMTLS_VERIFY_DETAIL];
	enum kmtls_reason reason;

	switch (kmtls_psk_step(handshake->psk, fd)) {
	case KMTLS_PSK_AGAIN:
		break;
	case KMTLS_PSK_DONE:
		done(handshake);
		break;
	case KMTLS_PSK_REFUSED:
		fall_back(handshake, true);
		break;
	case KMTLS_PSK_FAILED:
		if (handshake->role == KMTLS_ROLE_CLIENT) {
			fall_back(handshake, false);
			break;
		}
		reason = explain(handshake->psk, detail);
		kmtls_handshake_fail(handshake, reason, detail);
		break;
	}
}

void kmtls_handshake_psk_await_ticket(struct kmtls_handshake *handshake)
{
	int fd = kmtls_loop_flow(handshake->loop, handshake->slot)->wire_fd;
	char detail[KMTLS_VERIFY_DETAIL];
	enum kmtls_reason reason;

	switch (kmtls_psk_await_ticket(handshake->psk, fd)) {
	case KMTLS_PSK_AGAIN:
		break;
	case KMTLS_PSK_DONE:
		kmtls_handshake_peer_accepted(handshake);
		break;
	default:
		reason = explain(handshake->psk, detail);
		kmtls_handshake_fail_or_retry(handshake, reason, detail);
	}
}

/* ---- the server's choice ---- */

/* The ClientHello was peeked at. */
static bool take(int fd, size_t size)
{
	unsigned char bytes[KMTLS_PSK_RECORD_MAX];

	return recv(fd, bytes, size, MSG_DONTWAIT) == (ssize_t)size;
}

/* The client begins anew. */
static void refuse(struct kmtls_handshake *handshake, size_t size, unsigned char alert,
		   const char *detail)
{
	const unsigned char record[] = { KMTLS_PSK_RECORD_ALERT, 3, 3, 0, 2, ALERT_FATAL, alert };
	int fd = kmtls_loop_flow(handshake->loop, handshake->slot)->wire_fd;

	report_refusal(handshake, detail);
	if (take(fd, size) &&
	    send(fd, record, sizeof(record), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(record))
		kmtls_handshake_start_openssl(handshake);
	else
		kmtls_handshake_fail(handshake, KMTLS_REASON_HANDSHAKE_RESET, detail);
}

/* record: a whole one. false: it is for OpenSSL. */
static bool choose(struct kmtls_handshake *handshake, const unsigned char *record, size_t size)
{
	struct kmtls_psk_parameters parameters = {};
	struct kmtls_psk_client_hello hello;
	const unsigned char *message = record + KMTLS_PSK_RECORD_HEADER;
	size_t length = size - KMTLS_PSK_RECORD_HEADER;
	int err = -ENOENT;

	if (record[0] != KMTLS_PSK_RECORD_HANDSHAKE ||
	    kmtls_psk_read_client_hello(message, length, &hello) ||
	    hello.identity_length != KMTLS_RESUMPTION_SYMMETRIC_IDENTITY || !hello.alpn)
		return false;
	parameters.alpn = kmtls_tls_alpn_select(hello.alpn, hello.alpn_length);
	if (!parameters.alpn)
		return false;
	handshake->rekey_agreed = kmtls_tls_alpn_is_rekey(parameters.alpn);
	parameters.keys = kmtls_resumption_find_symmetric(&handshake->resumption, hello.identity,
							  hello.identity_length);
	if (parameters.keys)
		err = kmtls_psk_server_new(&parameters, message, length, &hello, &handshake->psk);
	if (err) /* who has proven nothing has no part in what was found */
		kmtls_resumption_leave(&handshake->resumption, false);
	if (!err && take(kmtls_loop_flow(handshake->loop, handshake->slot)->wire_fd, size))
		go_on(handshake);
	else if (!err)
		kmtls_handshake_fail(handshake, KMTLS_REASON_HANDSHAKE_RESET, NULL);
	else if (err == -ENOENT && hello.nothing_else)
		refuse(handshake, size, SSL_AD_UNKNOWN_PSK_IDENTITY, "unknown PSK");
	else if (err == -EBADMSG && hello.nothing_else)
		refuse(handshake, size, SSL_AD_DECRYPT_ERROR, "wrong binder");
	else
		return false;
	return true;
}

/* Nothing is taken before it is known whose it is. */
static void look(struct kmtls_handshake *handshake)
{
	int fd = kmtls_loop_flow(handshake->loop, handshake->slot)->wire_fd, size = -1;
	unsigned char bytes[KMTLS_PSK_RECORD_MAX];
	ssize_t length = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);

	if (length < 0 && errno == EAGAIN)
		return;
	if (length > 0)
		size = kmtls_psk_record_size(bytes, (size_t)length);
	if (size == 0 && !kmtls_inbound_has_ended(fd))
		return; /* more will come */
	handshake->psk_looking = false;
	if (size <= 0 || size != length || !choose(handshake, bytes, (size_t)size))
		kmtls_handshake_start_openssl(handshake);
}

/* ---- begin ---- */

static bool begin_client(struct kmtls_handshake *handshake)
{
	struct kmtls_psk_parameters parameters = {
		.identity_length = KMTLS_RESUMPTION_SYMMETRIC_IDENTITY,
	};

	parameters.keys =
		kmtls_resumption_offer_symmetric(&handshake->resumption, &parameters.identity);
	parameters.alpn = kmtls_tls_alpn_offer(&parameters.alpn_length);
	if (!parameters.keys || kmtls_psk_client_new(&parameters, &handshake->psk) < 0)
		return false;
	go_on(handshake);
	return true;
}

bool kmtls_handshake_psk_begin(struct kmtls_handshake *handshake)
{
	const struct kmtls_resumption_party *party = &handshake->resumption;

	if (handshake->psk_over || !party->symmetric || !party->seconds)
		return false;
	handshake->psk_over = true;
	if (handshake->role == KMTLS_ROLE_CLIENT)
		return begin_client(handshake);
	handshake->psk_looking = true;
	look(handshake);
	return true;
}

void kmtls_handshake_psk_event(struct kmtls_handshake *handshake)
{
	if (handshake->psk_looking)
		look(handshake);
	else
		go_on(handshake);
}
