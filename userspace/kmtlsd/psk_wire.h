/* SPDX-License-Identifier: Apache-2.0 */
/*
 * psk_wire.h - the messages of a TLS 1.3 handshake with symmetric cryptography only (RFC 8446
 * section 4; psk_ke of 4.2.9, one external PSK, TLS_AES_128_GCM_SHA256, no (EC)DHE, no certificates).
 * Pure functions of bytes. Writers write one shape; readers take that, and from a ClientHello what
 * RFC 8446 wants ignored. Readers return NULL, or what is wrong as a constant sentence.
 */
#ifndef KMTLS_PSK_WIRE_H
#define KMTLS_PSK_WIRE_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#define KMTLS_PSK_CIPHER 0x1301 /* TLS_AES_128_GCM_SHA256 */
#define KMTLS_PSK_HASH 32 /* bytes of SHA-256 */
#define KMTLS_PSK_RANDOM 32
#define KMTLS_PSK_SESSION_ID_MAX 32
#define KMTLS_PSK_IDENTITY_MAX 64
#define KMTLS_PSK_ALPN_MAX 64
/* One message, and one record with its header, of those that we look at. */
#define KMTLS_PSK_MESSAGE_MAX 1000
#define KMTLS_PSK_RECORD_MAX 1024
#define KMTLS_PSK_RECORD_HEADER 5
#define KMTLS_PSK_MESSAGE_HEADER 4
#define KMTLS_PSK_FINISHED (KMTLS_PSK_MESSAGE_HEADER + KMTLS_PSK_HASH)

#define KMTLS_PSK_RECORD_CHANGE_CIPHER_SPEC 20
#define KMTLS_PSK_RECORD_ALERT 21
#define KMTLS_PSK_RECORD_HANDSHAKE 22
#define KMTLS_PSK_RECORD_DATA 23

enum kmtls_psk_message {
	KMTLS_PSK_CLIENT_HELLO = 1,
	KMTLS_PSK_SERVER_HELLO = 2,
	KMTLS_PSK_NEW_SESSION_TICKET = 4,
	KMTLS_PSK_ENCRYPTED_EXTENSIONS = 8,
	KMTLS_PSK_MESSAGE_FINISHED = 20,
};

/* Pointers lead into the message it was read from. */
struct kmtls_psk_client_hello {
	const unsigned char *session_id; /* to be echoed */
	size_t session_id_length;
	const unsigned char *alpn; /* names with a length byte in front; NULL: none offered */
	size_t alpn_length;
	const unsigned char *identity;
	size_t identity_length;
	const unsigned char *binder; /* KMTLS_PSK_HASH bytes */
	size_t truncated; /* bytes of the message that the binder covers (section 4.2.11.2) */
	bool nothing_else; /* psk_ke is the only mode it offers */
};

struct kmtls_psk_server_hello {
	const unsigned char *random;
	const unsigned char *session_id;
	size_t session_id_length;
};

/*
 * The record at the beginning of bytes: its size with header; 0: more bytes will tell; -1: none that
 * we look at (another version, empty, longer than KMTLS_PSK_RECORD_MAX).
 */
int kmtls_psk_record_size(const unsigned char *bytes, size_t length);
/* The header of a record with so many bytes in it. */
void kmtls_psk_write_record(unsigned char ret_header[KMTLS_PSK_RECORD_HEADER], __u8 type,
			    size_t length);
/* The first message of bytes, header and all; 0: it is not whole, or longer than we look at. */
size_t kmtls_psk_message_size(const unsigned char *bytes, size_t length);

/*
 * hello: identity, alpn and random (session_id and binder are ignored; no session ID is sent, so
 * no middlebox compatibility mode, appendix D.4). The message goes to ret_message; its last bytes,
 * from ret_truncated + 3 on, are room for the binder. Its length; 0: what it says is too long.
 */
size_t kmtls_psk_write_client_hello(const struct kmtls_psk_client_hello *hello,
				    const unsigned char random[KMTLS_PSK_RANDOM],
				    unsigned char ret_message[KMTLS_PSK_MESSAGE_MAX],
				    size_t *ret_truncated);
const char *kmtls_psk_read_client_hello(const unsigned char *message, size_t length,
					struct kmtls_psk_client_hello *ret_hello);

size_t kmtls_psk_write_server_hello(const struct kmtls_psk_server_hello *hello,
				    unsigned char ret_message[KMTLS_PSK_MESSAGE_MAX]);
/* An answer to a ClientHello of ours. */
const char *kmtls_psk_read_server_hello(const unsigned char *message, size_t length);

/* alpn: one name with its length byte in front; NULL: none. */
size_t kmtls_psk_write_encrypted_extensions(const unsigned char *alpn,
					    unsigned char ret_message[KMTLS_PSK_MESSAGE_MAX]);
/* ret_alpn: likewise; NULL: none was selected. It must be one of offered, which may be NULL. */
const char *kmtls_psk_read_encrypted_extensions(const unsigned char *message, size_t length,
						const unsigned char *offered, size_t offered_length,
						const unsigned char **ret_alpn);

size_t kmtls_psk_write_finished(const unsigned char verify_data[KMTLS_PSK_HASH],
				unsigned char ret_message[KMTLS_PSK_MESSAGE_MAX]);
const char *kmtls_psk_read_finished(const unsigned char *message, size_t length,
				    const unsigned char **ret_verify_data);

/* What it says is of no interest (section 4.6.1). */
const char *kmtls_psk_read_ticket(const unsigned char *message, size_t length);

#endif
