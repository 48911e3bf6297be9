/* SPDX-License-Identifier: Apache-2.0 */
/*
 * psk_handshake.h - both sides of a TLS 1.3 handshake with symmetric cryptography only, over a
 * non-blocking socket: messages of psk_wire.h, keys of psk_schedule.h. It ends where OpenSSL's does:
 * with both application traffic secrets, nothing read ahead, and the server's ticket still to come.
 *
 * Whatever is not as it must be ends it. The client may then begin anew, with certificates; where
 * the server has refused before it said anything else (KMTLS_PSK_REFUSED), on the same connection.
 */
#ifndef KMTLS_PSK_HANDSHAKE_H
#define KMTLS_PSK_HANDSHAKE_H

#include <stdbool.h>
#include <sys/types.h>

#include "kmtls/abi.h"
#include "psk_schedule.h"
#include "psk_wire.h"

enum kmtls_psk_step {
	KMTLS_PSK_AGAIN, /* when the socket is readable, or writable */
	KMTLS_PSK_DONE,
	KMTLS_PSK_REFUSED, /* client: an alert in place of the ServerHello, and nothing behind it */
	KMTLS_PSK_FAILED,
};

/* recv() and send() as they are called, non-blocking; tests have others. */
struct kmtls_psk_transport {
	ssize_t (*receive)(int fd, void *bytes, size_t size);
	ssize_t (*send)(int fd, const void *bytes, size_t size);
};

struct kmtls_psk_handshake;

/* What both sides need. keys is borrowed until the handshake is freed, so is transport. */
struct kmtls_psk_parameters {
	const struct kmtls_psk_keys *keys;
	const unsigned char *identity; /* client */
	size_t identity_length;
	/* Client: the names it offers, borrowed; server: the one it selects, with its length byte in
	 * front. NULL: no ALPN. */
	const unsigned char *alpn;
	size_t alpn_length;
	const struct kmtls_psk_transport *transport; /* NULL: the socket's own */
};

/* -ENOMEM, -EINVAL: what is offered is too long, -EIO: OpenSSL. */
int kmtls_psk_client_new(const struct kmtls_psk_parameters *parameters,
			 struct kmtls_psk_handshake **ret_psk);
/* message: the ClientHello, taken from the socket, as kmtls_psk_read_client_hello() has read it.
 * -EBADMSG: its binder is wrong; otherwise likewise. */
int kmtls_psk_server_new(const struct kmtls_psk_parameters *parameters,
			 const unsigned char *message, size_t length,
			 const struct kmtls_psk_client_hello *hello,
			 struct kmtls_psk_handshake **ret_psk);
void kmtls_psk_free(struct kmtls_psk_handshake *psk); /* wipes; NULL is fine */

/* Goes on. DONE, server: the client has proven that it has the PSK; client: so has the server, and
 * it was told. */
enum kmtls_psk_step kmtls_psk_step(struct kmtls_psk_handshake *psk, int fd);
/* Client, afterwards: DONE: the one ticket has come, and nothing behind it was taken. */
enum kmtls_psk_step kmtls_psk_await_ticket(struct kmtls_psk_handshake *psk, int fd);

/* Once it is DONE. Borrowed. */
const struct kmtls_traffic_secrets *kmtls_psk_secrets(const struct kmtls_psk_handshake *psk);
/* Client: what the server selected, with its length byte in front; NULL: nothing. */
const unsigned char *kmtls_psk_selected_alpn(const struct kmtls_psk_handshake *psk);

/* Once it is FAILED: why. *ret_alert: the number of an alert that the peer has sent, or -1. */
enum kmtls_reason kmtls_psk_reason(const struct kmtls_psk_handshake *psk, const char **ret_why,
				   int *ret_alert);
/* Has anything gone out? */
bool kmtls_psk_has_spoken(const struct kmtls_psk_handshake *psk);

#endif
