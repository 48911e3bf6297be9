/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshake.h - a connection until its keys are in the kernel. outbound.c and inbound.c begin
 * one and dial; handshake.c does what both have in common: TLS, the ticket, the hand-over,
 * and every way to fail.
 *
 *   client: DIALING -> TLS -> TICKET_WAIT [-> PASSED] -> established
 *   server: [PEEKING ->] TLS -> DELIVERING -> established
 *   server, plaintext: PEEKING -> DELIVERING -> established
 */
#ifndef KMTLS_HANDSHAKE_H
#define KMTLS_HANDSHAKE_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "hold.h"
#include "key_schedule.h"
#include "kmtls/internal_maps.h"
#include "loop.h"
#include "psk_handshake.h"
#include "resumption.h"
#include "svid.h"
#include "verify.h"

enum kmtls_handshake_stage {
	KMTLS_HANDSHAKE_DIALING, /* client: TCP to the peer */
	KMTLS_HANDSHAKE_TLS,
	KMTLS_HANDSHAKE_TICKET_WAIT, /* client: has the server's application accepted? */
	KMTLS_HANDSHAKE_DELIVERING, /* server: TCP to the application */
	/* client: keys are in the kernel, the held SYN is on its way to us; the slot is CONFIRMED */
	KMTLS_HANDSHAKE_PASSED,
	KMTLS_HANDSHAKE_PEEKING, /* server: what does the client speak? (inbound_peek.h) */
};

struct kmtls_handshake {
	struct kmtls_handshake_list *list;
	struct kmtls_handshake *previous, *next; /* in that list, oldest first */
	struct kmtls_loop *loop;
	unsigned slot;
	enum kmtls_role role;
	enum kmtls_handshake_stage stage;
	__u64 deadline; /* ms, monotonic */
	struct kmtls_pod *pod;
	struct kmtls_svid *svid;
	SSL *ssl; /* NULL while dialing, and with psk */
	struct kmtls_psk_handshake *psk; /* handshake_psk.c */
	bool psk_looking; /* server: whether the ClientHello is for psk */
	bool psk_over; /* not, or not any more: with certificates, or as OpenSSL resumes */
	bool psk_refused; /* client: the server would not have it, on this connection */
	bool rekey_agreed; /* psk: in its ALPN */
	const char *kind; /* for the log: what the peer was known by */
	struct kmtls_verify verify;
	struct kmtls_resumption_party resumption;
	struct kmtls_traffic_secrets secrets;
	char expected_id[KMTLS_SPIFFE_ID_MAX + 1]; /* client */
	struct kmtls_socket_options options; /* client: for the wire socket */
	bool port_bound; /* client: the application chose its port itself */
	struct kmtls_attempt attempt; /* client: the SYN it holds, if any */
	bool retried; /* client: this is the second dial */
	bool entered; /* server: its source counts it (sources.h) */
	bool begun_hello; /* PEEKING: the client has sent a part of a ClientHello */
	bool plain, plain_decided; /* server: no TLS; for certain, or as far as one knows */
};

/*
 * Takes a slot for a new flow of pod and puts it into HANDSHAKE. fd is the accepted socket
 * (the local leg of a client, -1 for one whose SYN is held; the wire of a server) and belongs
 * to the handshake from here on; on failure it is closed, refused, counted and logged, and
 * NULL comes back.
 */
struct kmtls_handshake *kmtls_handshake_new(struct kmtls_loop *loop, struct kmtls_pod *pod,
					    enum kmtls_role role, int fd,
					    const struct kmtls_endpoint *self,
					    const struct kmtls_endpoint *peer);

/* After a take-over, for a slot that is CONFIRMED: goes on waiting for the application's
 * connection. */
void kmtls_handshake_resume(struct kmtls_loop *loop, unsigned slot);

/* The wire is connected: make the SSL and go on. The handshake may be gone afterwards. */
void kmtls_handshake_start_tls(struct kmtls_handshake *handshake);
/* The server's application accepted (or not): hand-over, or refusal. Likewise. */
void kmtls_handshake_application_accepted(struct kmtls_handshake *handshake);
void kmtls_handshake_application_refused(struct kmtls_handshake *handshake, int err);
/* The same to the client, for another reason. Likewise. */
void kmtls_handshake_application_unreachable(struct kmtls_handshake *handshake,
					     enum kmtls_reason reason, const char *detail);

/*
 * Server, the client has proven who it is: may it connect to this pod? true: it may. false: it
 * has been told so (alert access_denied), and the handshake is gone.
 */
bool kmtls_handshake_authorize(struct kmtls_handshake *handshake);

/* An event on one of the flow's sockets. Likewise. */
void kmtls_handshake_event(struct kmtls_handshake *handshake, enum kmtls_tag side, __u32 events);

/* Something another loop knows. Likewise. */
void kmtls_handshake_message(struct kmtls_handshake *handshake,
			     const struct kmtls_loop_message *message);

/* Ends it: one log line, one count, everything closed and freed. detail may be NULL. */
void kmtls_handshake_fail(struct kmtls_handshake *handshake, enum kmtls_reason reason,
			  const char *detail);

/* The same, but a client that holds a SYN tries a bare reset once more. Likewise. */
void kmtls_handshake_fail_or_retry(struct kmtls_handshake *handshake, enum kmtls_reason reason,
				   const char *detail);

/* One log line and one count for a connection that never got a slot. */
void kmtls_handshake_refuse(const struct kmtls_pod *pod, enum kmtls_role role,
			    const struct kmtls_endpoint *peer, enum kmtls_reason reason,
			    const char *detail);

/* Fails those whose time is over; ms until the next one's, or -1. */
int kmtls_handshake_expire(struct kmtls_loop *loop);

/*
 * Has it come to where the next worker can neither go on nor begin anew without the other node
 * noticing? Not while it dials, as long as all that a client sent is in the socket, and with its
 * keys in the kernel.
 */
bool kmtls_handshake_is_half_done(const struct kmtls_handshake *handshake);
bool kmtls_handshake_any_half_done(const struct kmtls_loop *loop);

/* Closes a connection that is refused: a reset, not an end. */
void kmtls_handshake_reset_socket(int fd);

/* How many there have been in this process, modulo 2^32. */
unsigned kmtls_handshake_begun(void);
/* SO_COOKIE; 0 if there is none. */
__u64 kmtls_handshake_cookie(int fd);
/* The reason for a failed connect(): dial-refused, ... */
enum kmtls_reason kmtls_handshake_dial_reason(int err);

/* ---- between handshake.c, handshake_tls.c and handshake_psk.c ---- */

void kmtls_handshake_free(struct kmtls_handshake *handshake); /* the flow goes on without it */
/* Both legs are there and the keys are in the kernel: the handshake is over. */
void kmtls_handshake_establish(struct kmtls_handshake *handshake);
/* Server, after the client's Finished: a fatal alert instead of the ticket. */
void kmtls_handshake_send_alert(struct kmtls_handshake *handshake, int alert);
/* Client, before it has proven anything: dials anew. */
void kmtls_handshake_dial_again(struct kmtls_handshake *handshake);
/* The peer is known, and has the keys that it should have: what comes then. */
void kmtls_handshake_proven(struct kmtls_handshake *handshake);
/* Client: the ticket has come. */
void kmtls_handshake_peer_accepted(struct kmtls_handshake *handshake);
/* With OpenSSL from the first byte on. */
void kmtls_handshake_start_openssl(struct kmtls_handshake *handshake);
/* OpenSSL says no: finds out why, and fails or tries once more. */
void kmtls_handshake_fail_tls(struct kmtls_handshake *handshake);
/* The deadline begins anew, for the next part. */
void kmtls_handshake_more_time(struct kmtls_handshake *handshake);
/* The deadline is that of a client that says nothing. */
void kmtls_handshake_wait_for_peek(struct kmtls_handshake *handshake);
/* Keepalive and user timeout of the wire. */
void kmtls_handshake_watch_wire(struct kmtls_handshake *handshake);
const char *kmtls_handshake_direction(enum kmtls_role role); /* for logs */

/* ---- handshake_psk.c: with symmetric cryptography only ---- */

/* The wire is connected. false: not with this one, OpenSSL shall begin. The handshake may be gone
 * afterwards if it is true, here and below. */
bool kmtls_handshake_psk_begin(struct kmtls_handshake *handshake);
bool kmtls_handshake_psk_is_at_work(const struct kmtls_handshake *handshake);
void kmtls_handshake_psk_event(struct kmtls_handshake *handshake); /* stage TLS */
void kmtls_handshake_psk_await_ticket(struct kmtls_handshake *handshake);
/* Forgets its keys, if there are any. */
void kmtls_handshake_psk_end(struct kmtls_handshake *handshake);

#endif
