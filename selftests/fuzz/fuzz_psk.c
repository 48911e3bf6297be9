/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_psk.c - what a peer says in a handshake with symmetric cryptography only: the messages by
 * themselves, and both sides as they read from the wire. Beside the sanitizers: what was read lies
 * within the message, and nobody is convinced without the key.
 */
#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "psk_handshake.h"

static const unsigned char offered[] = "\15kmtls/1+rekey\7kmtls/1";
static const uint8_t *rest;
static size_t left;

static ssize_t receive_rest(int fd, void *bytes, size_t size)
{
	/* In pieces of a length that the input chooses. */
	size_t length = left ? 1 + rest[0] % 64u : 0;

	if (!left) {
		errno = EAGAIN;
		return -1;
	}
	if (length > left)
		length = left;
	if (length > size)
		length = size;
	memcpy(bytes, rest, length);
	rest += length;
	left -= length;
	return (ssize_t)length;
}

static ssize_t send_all(int fd, const void *bytes, size_t size)
{
	return (ssize_t)size;
}

static const struct kmtls_psk_transport transport = { receive_rest, send_all };

static bool lies_within(const unsigned char *part, size_t length, const uint8_t *data, size_t size)
{
	return part >= data && length <= size && part + length <= data + size;
}

static void read_hello(const uint8_t *data, size_t size)
{
	struct kmtls_psk_client_hello hello;

	if (kmtls_psk_read_client_hello(data, size, &hello))
		return;
	HOLDS(lies_within(hello.identity, hello.identity_length, data, size));
	HOLDS(hello.identity_length && hello.identity_length <= KMTLS_PSK_IDENTITY_MAX);
	HOLDS(lies_within(hello.binder, KMTLS_PSK_HASH, data, size));
	HOLDS(hello.truncated + 3 + KMTLS_PSK_HASH == size);
	HOLDS(hello.session_id_length <= KMTLS_PSK_SESSION_ID_MAX);
	HOLDS(lies_within(hello.session_id, hello.session_id_length, data, size));
	HOLDS(!hello.alpn || lies_within(hello.alpn, hello.alpn_length, data, size));
}

static void read_others(const uint8_t *data, size_t size)
{
	const unsigned char *part = NULL;

	kmtls_psk_read_server_hello(data, size);
	kmtls_psk_read_ticket(data, size);
	if (!kmtls_psk_read_encrypted_extensions(data, size, offered, sizeof(offered) - 1, &part))
		HOLDS(!part || lies_within(part, 1 + (size_t)part[0], data, size));
	if (!kmtls_psk_read_finished(data, size, &part))
		HOLDS(lies_within(part, KMTLS_PSK_HASH, data, size));
}

static void be_client(const struct kmtls_psk_parameters *parameters)
{
	struct kmtls_psk_handshake *psk;

	HOLDS(kmtls_psk_client_new(parameters, &psk) == 0);
	HOLDS(kmtls_psk_step(psk, -1) != KMTLS_PSK_DONE);
	kmtls_psk_free(psk);
}

static void be_server(const struct kmtls_psk_parameters *parameters)
{
	struct kmtls_psk_client_hello ours = {
		.identity = parameters->identity,
		.identity_length = parameters->identity_length,
	}, hello;
	static const unsigned char random[KMTLS_PSK_RANDOM];
	unsigned char message[KMTLS_PSK_MESSAGE_MAX];
	struct kmtls_psk_handshake *psk;
	struct kmtls_psk_transcript covered = { message, 0 };
	struct kmtls_psk_crypto crypto;
	size_t length;

	length = kmtls_psk_write_client_hello(&ours, random, message, &covered.length);
	HOLDS(length && kmtls_psk_crypto_open(&crypto) == 0);
	HOLDS(kmtls_psk_mac(&crypto, &parameters->keys->binder, &covered,
			    message + covered.length + 3) == 0);
	kmtls_psk_crypto_close(&crypto);
	HOLDS(!kmtls_psk_read_client_hello(message, length, &hello));
	HOLDS(kmtls_psk_server_new(parameters, message, length, &hello, &psk) == 0);
	HOLDS(kmtls_psk_step(psk, -1) != KMTLS_PSK_DONE);
	kmtls_psk_free(psk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct kmtls_psk_keys keys;
	const struct kmtls_psk_parameters parameters = {
		.keys = &keys,
		.identity = (const unsigned char *)"0123456789abcdef",
		.identity_length = 16,
		.transport = &transport,
	};
	uint8_t *copy;

	if (!size)
		return 0;
	if (!keys.master.length) {
		const struct kmtls_secret psk = { .length = KMTLS_PSK_HASH, .bytes = { 1 } };

		HOLDS(kmtls_psk_keys_derive(&psk, &keys) == 0);
	}
	/* It ends where the block does: reading on is found out. */
	copy = malloc(size);
	HOLDS(copy);
	memcpy(copy, data, size);
	rest = copy + 1;
	left = size - 1;
	switch (copy[0] % 4) {
	case 0:
		read_hello(rest, left);
		break;
	case 1:
		read_others(rest, left);
		break;
	case 2:
		be_client(&parameters);
		break;
	default:
		be_server(&parameters);
	}
	free(copy);
	return 0;
}
