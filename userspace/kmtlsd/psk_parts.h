/* SPDX-License-Identifier: Apache-2.0 */
/* psk_parts.h - between the psk_*.c. */
#ifndef KMTLS_PSK_PARTS_H
#define KMTLS_PSK_PARTS_H

#include "psk_handshake.h"

/* ---- numbers of the wire ---- */

#define VERSION_LEGACY 0x0303
#define VERSION_TLS13 0x0304
#define MODE_PSK_KE 0

enum extension {
	EXTENSION_ALPN = 16,
	EXTENSION_PRE_SHARED_KEY = 41,
	EXTENSION_EARLY_DATA = 42,
	EXTENSION_SUPPORTED_VERSIONS = 43,
	EXTENSION_PSK_MODES = 45,
};

/* ---- a handshake ---- */

/* ClientHello, ServerHello, and what the server encrypts. */
#define TRANSCRIPT_MAX (3 * KMTLS_PSK_MESSAGE_MAX)

enum state {
	STATE_SERVER_HELLO, /* client: waits for it */
	STATE_SERVER_FINISHED, /* client: for EncryptedExtensions and Finished */
	STATE_CLIENT_FINISHED, /* server: for it */
	STATE_DONE,
	STATE_FAILED,
};

struct kmtls_psk_handshake {
	struct kmtls_psk_parameters parameters;
	enum state state;
	struct kmtls_psk_crypto crypto;
	struct kmtls_traffic_secrets handshake, application;
	struct kmtls_record_key rx_key; /* of what the peer sends now */
	__u64 rx_sequence;
	bool changed; /* a ChangeCipherSpec has come */
	bool extensions_seen; /* client: EncryptedExtensions */
	const unsigned char *selected;
	unsigned char in[KMTLS_PSK_RECORD_MAX], out[2 * KMTLS_PSK_RECORD_MAX];
	size_t in_length, out_length, out_sent;
	unsigned char transcript[TRANSCRIPT_MAX]; /* and behind it what was not read yet */
	size_t transcript_length, received_length;
	enum kmtls_reason reason;
	const char *why;
	int alert;
	bool spoken;
};

extern const struct kmtls_psk_transport kmtls_psk_socket_transport;

enum kmtls_psk_step kmtls_psk_fail(struct kmtls_psk_handshake *psk, enum kmtls_reason reason,
				   const char *why);
enum kmtls_psk_step kmtls_psk_fail_protocol(struct kmtls_psk_handshake *psk, const char *why);

/* DONE: all of it has gone out. */
enum kmtls_psk_step kmtls_psk_flush(struct kmtls_psk_handshake *psk, int fd);
/* Takes at most so many bytes in all. DONE: some more have come. */
enum kmtls_psk_step kmtls_psk_receive(struct kmtls_psk_handshake *psk, int fd, size_t most);

/* Of the record, of that size, that is first in `in`. */
bool kmtls_psk_is_change(struct kmtls_psk_handshake *psk, size_t size);
bool kmtls_psk_is_alert(const struct kmtls_psk_handshake *psk, size_t size);
void kmtls_psk_drop_record(struct kmtls_psk_handshake *psk, size_t size);
/* Decrypts it behind the transcript. false: FAILED. */
bool kmtls_psk_open_record(struct kmtls_psk_handshake *psk, size_t size);

/* The next message that is whole; 0: none. It is part of the transcript once it is taken. */
size_t kmtls_psk_next_message(const struct kmtls_psk_handshake *psk,
			      const unsigned char **ret_message);
void kmtls_psk_take_message(struct kmtls_psk_handshake *psk, size_t size);

#endif
