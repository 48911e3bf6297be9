/* SPDX-License-Identifier: Apache-2.0 */
/*
 * psk_handshake.c - see psk_handshake.h; records and messages: psk_io.c. Section numbers are those of
 * RFC 8446.
 */
#include "psk_handshake.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "psk_parts.h"

static enum kmtls_psk_step fail_openssl(struct kmtls_psk_handshake *psk)
{
	return kmtls_psk_fail(psk, KMTLS_REASON_NO_RESOURCES, "OpenSSL");
}

static struct kmtls_psk_transcript transcript_of(const struct kmtls_psk_handshake *psk)
{
	return (struct kmtls_psk_transcript){ psk->transcript, psk->transcript_length };
}

/* ---- what is sent ---- */

static int make_random(unsigned char ret_random[KMTLS_PSK_RANDOM])
{
	if (RAND_bytes(ret_random, KMTLS_PSK_RANDOM) == 1)
		return 0;
	ERR_clear_error();
	return -EIO;
}

/* Puts a message in the clear into a record to be sent. */
static void put_plain(struct kmtls_psk_handshake *psk, const unsigned char *message, size_t length)
{
	kmtls_psk_write_record(psk->out + psk->out_length, KMTLS_PSK_RECORD_HANDSHAKE, length);
	psk->out_length += KMTLS_PSK_RECORD_HEADER;
	memcpy(psk->out + psk->out_length, message, length);
	psk->out_length += length;
}

/* Seals messages as the first record under the handshake key of secret. */
static int put_sealed(struct kmtls_psk_handshake *psk, const struct kmtls_secret *secret,
		      const unsigned char *messages, size_t length)
{
	struct kmtls_record_key key __cleanup_record_key = {};
	int size = kmtls_record_key_derive(KMTLS_PSK_CIPHER, secret, &key);

	if (!size)
		size = kmtls_psk_seal(&psk->crypto, &key, KMTLS_PSK_RECORD_HANDSHAKE, messages,
				      length, psk->out + psk->out_length);
	if (size < 0)
		return size;
	psk->out_length += (size_t)size;
	return 0;
}

/* The MAC of a Finished over the transcript so far (section 4.4.4). */
static int finished_mac(struct kmtls_psk_handshake *psk, const struct kmtls_secret *secret,
			unsigned char ret_mac[KMTLS_PSK_HASH])
{
	const struct kmtls_psk_transcript transcript = transcript_of(psk);
	struct kmtls_secret key __cleanup_secret = {};
	int err = kmtls_psk_finished_key(&psk->crypto, secret, &key);

	return err ? err : kmtls_psk_mac(&psk->crypto, &key, &transcript, ret_mac);
}

static int handshake_secrets(struct kmtls_psk_handshake *psk)
{
	const struct kmtls_psk_transcript transcript = transcript_of(psk);

	return kmtls_psk_traffic_secrets(&psk->crypto, &psk->parameters.keys->handshake,
					 "hs traffic", &transcript, &psk->handshake);
}

/* The transcript goes up to the server's Finished. */
static int application_secrets(struct kmtls_psk_handshake *psk)
{
	const struct kmtls_psk_transcript transcript = transcript_of(psk);

	return kmtls_psk_traffic_secrets(&psk->crypto, &psk->parameters.keys->master, "ap traffic",
					 &transcript, &psk->application);
}

/* Is it the Finished that the peer's secret makes of the transcript? */
static enum kmtls_psk_step check_finished(struct kmtls_psk_handshake *psk,
					  const struct kmtls_secret *secret,
					  const unsigned char *message, size_t size)
{
	unsigned char wanted[KMTLS_PSK_HASH];
	const unsigned char *mac;
	const char *why = kmtls_psk_read_finished(message, size, &mac);

	if (why)
		return kmtls_psk_fail_protocol(psk, why);
	if (finished_mac(psk, secret, wanted) < 0)
		return fail_openssl(psk);
	if (CRYPTO_memcmp(mac, wanted, sizeof(wanted)) != 0)
		return kmtls_psk_fail_protocol(psk, "wrong Finished");
	kmtls_psk_take_message(psk, size);
	/* Before the ticket, or before our own Finished, nobody has anything else to say. */
	if (psk->received_length || psk->in_length)
		return kmtls_psk_fail(psk, KMTLS_REASON_EARLY_DATA, "bytes behind Finished");
	return KMTLS_PSK_DONE;
}

/* ---- client ---- */

/* A message in the clear. */
static enum kmtls_psk_step take_server_hello(struct kmtls_psk_handshake *psk, size_t size)
{
	const unsigned char *message = psk->in + KMTLS_PSK_RECORD_HEADER;
	size_t length = size - KMTLS_PSK_RECORD_HEADER;
	const char *why;

	if (kmtls_psk_is_alert(psk, size)) {
		if (psk->in_length > size)
			return kmtls_psk_fail_protocol(psk, "bytes behind an alert");
		psk->alert = message[1];
		kmtls_psk_fail(psk, KMTLS_REASON_REFUSED_BY_PEER, "alert");
		return KMTLS_PSK_REFUSED;
	}
	why = psk->in[0] == KMTLS_PSK_RECORD_HANDSHAKE
		      ? kmtls_psk_read_server_hello(message, length)
		      : "no ServerHello";
	if (why)
		return kmtls_psk_fail_protocol(psk, why);
	memcpy(psk->transcript + psk->transcript_length, message, length);
	psk->transcript_length += length;
	if (handshake_secrets(psk) < 0 ||
	    kmtls_record_key_derive(KMTLS_PSK_CIPHER, &psk->handshake.server, &psk->rx_key) < 0)
		return fail_openssl(psk);
	psk->state = STATE_SERVER_FINISHED;
	return KMTLS_PSK_DONE;
}

/* Everything of the server is there: our answer, and the keys of what comes then. */
static enum kmtls_psk_step answer_server(struct kmtls_psk_handshake *psk)
{
	unsigned char mac[KMTLS_PSK_HASH], message[KMTLS_PSK_MESSAGE_MAX];
	size_t length;

	if (finished_mac(psk, &psk->handshake.client, mac) < 0)
		return fail_openssl(psk);
	length = kmtls_psk_write_finished(mac, message);
	if (put_sealed(psk, &psk->handshake.client, message, length) < 0 ||
	    application_secrets(psk) < 0 ||
	    kmtls_record_key_derive(KMTLS_PSK_CIPHER, &psk->application.server, &psk->rx_key) < 0)
		return fail_openssl(psk);
	psk->rx_sequence = 0;
	psk->state = STATE_DONE;
	return KMTLS_PSK_DONE;
}

static enum kmtls_psk_step take_server_messages(struct kmtls_psk_handshake *psk)
{
	const unsigned char *message;
	enum kmtls_psk_step step;
	const char *why;
	size_t size;

	while ((size = kmtls_psk_next_message(psk, &message)) > 0) {
		if (psk->extensions_seen) {
			step = check_finished(psk, &psk->handshake.server, message, size);
			return step == KMTLS_PSK_DONE ? answer_server(psk) : step;
		}
		why = kmtls_psk_read_encrypted_extensions(message, size, psk->parameters.alpn,
							  psk->parameters.alpn_length,
							  &psk->selected);
		if (why)
			return kmtls_psk_fail_protocol(psk, why);
		psk->extensions_seen = true;
		kmtls_psk_take_message(psk, size);
	}
	return KMTLS_PSK_DONE;
}

/* ---- server ---- */

static enum kmtls_psk_step take_client_messages(struct kmtls_psk_handshake *psk)
{
	const unsigned char *message;
	enum kmtls_psk_step step = KMTLS_PSK_DONE;
	size_t size = kmtls_psk_next_message(psk, &message);

	if (size > 0) {
		step = check_finished(psk, &psk->handshake.client, message, size);
		if (step == KMTLS_PSK_DONE)
			psk->state = STATE_DONE;
	}
	return step;
}

/* ServerHello, and sealed in one record EncryptedExtensions and Finished. */
static int answer_client(struct kmtls_psk_handshake *psk,
			 const struct kmtls_psk_client_hello *hello)
{
	unsigned char random[KMTLS_PSK_RANDOM], mac[KMTLS_PSK_HASH];
	const struct kmtls_psk_server_hello answer = {
		.random = random,
		.session_id = hello->session_id,
		.session_id_length = hello->session_id_length,
	};
	unsigned char *at = psk->transcript + psk->transcript_length;
	size_t length, sealed;
	int err = make_random(random);

	if (err)
		return err;
	length = kmtls_psk_write_server_hello(&answer, at);
	put_plain(psk, at, length);
	psk->transcript_length += length;
	err = handshake_secrets(psk);
	if (err)
		return err;
	at += length;
	sealed = kmtls_psk_write_encrypted_extensions(psk->parameters.alpn, at);
	psk->transcript_length += sealed;
	err = finished_mac(psk, &psk->handshake.server, mac);
	if (err)
		return err;
	length = kmtls_psk_write_finished(mac, at + sealed);
	psk->transcript_length += length;
	err = put_sealed(psk, &psk->handshake.server, at, sealed + length);
	if (!err)
		err = application_secrets(psk);
	if (!err)
		err = kmtls_record_key_derive(KMTLS_PSK_CIPHER, &psk->handshake.client,
					      &psk->rx_key);
	return err;
}

/* ---- both ---- */

/* A whole record is in `in`; it is dropped afterwards. */
static enum kmtls_psk_step take_record(struct kmtls_psk_handshake *psk, size_t size)
{
	enum state state = psk->state;

	if (state == STATE_SERVER_HELLO) {
		enum kmtls_psk_step step = take_server_hello(psk, size);

		kmtls_psk_drop_record(psk, size);
		return step;
	}
	if (kmtls_psk_is_change(psk, size)) {
		kmtls_psk_drop_record(psk, size);
		return KMTLS_PSK_DONE;
	}
	if (kmtls_psk_is_alert(psk, size)) {
		psk->alert = psk->in[KMTLS_PSK_RECORD_HEADER + 1];
		return kmtls_psk_fail(psk, KMTLS_REASON_REFUSED_BY_PEER, "alert");
	}
	if (!kmtls_psk_open_record(psk, size))
		return KMTLS_PSK_FAILED;
	kmtls_psk_drop_record(psk, size);
	return state == STATE_SERVER_FINISHED ? take_server_messages(psk)
					      : take_client_messages(psk);
}

enum kmtls_psk_step kmtls_psk_step(struct kmtls_psk_handshake *psk, int fd)
{
	enum kmtls_psk_step step = KMTLS_PSK_DONE;
	int size;

	while (step == KMTLS_PSK_DONE) {
		if (psk->state == STATE_FAILED)
			return KMTLS_PSK_FAILED;
		step = kmtls_psk_flush(psk, fd);
		if (step != KMTLS_PSK_DONE || psk->state == STATE_DONE)
			return step;
		size = kmtls_psk_record_size(psk->in, psk->in_length);
		if (size < 0)
			step = kmtls_psk_fail_protocol(psk, "no TLS record");
		else if (size == 0)
			step = kmtls_psk_receive(psk, fd, sizeof(psk->in));
		else
			step = take_record(psk, (size_t)size);
	}
	return step;
}

/* Record by record, and no byte more: what is behind belongs to kernel TLS. */
enum kmtls_psk_step kmtls_psk_await_ticket(struct kmtls_psk_handshake *psk, int fd)
{
	enum kmtls_psk_step step;
	const unsigned char *message;
	const char *why = NULL;
	size_t most = KMTLS_PSK_RECORD_HEADER;
	int size;

	while ((size = kmtls_psk_record_size(psk->in, psk->in_length)) == 0) {
		if (psk->in_length >= KMTLS_PSK_RECORD_HEADER)
			most = KMTLS_PSK_RECORD_HEADER + ((size_t)psk->in[3] << 8 | psk->in[4]);
		step = kmtls_psk_receive(psk, fd, most);
		if (step != KMTLS_PSK_DONE)
			return step;
	}
	if (size < 0)
		return kmtls_psk_fail_protocol(psk, "no TLS record");
	if (!kmtls_psk_open_record(psk, (size_t)size))
		return KMTLS_PSK_FAILED;
	kmtls_psk_drop_record(psk, (size_t)size);
	if (kmtls_psk_next_message(psk, &message) != psk->received_length)
		return kmtls_psk_fail_protocol(psk, "no session ticket");
	why = kmtls_psk_read_ticket(message, psk->received_length);
	return why ? kmtls_psk_fail_protocol(psk, why) : KMTLS_PSK_DONE;
}

/* ---- begin and end ---- */

static int psk_new(const struct kmtls_psk_parameters *parameters,
		   struct kmtls_psk_handshake **ret_psk)
{
	struct kmtls_psk_handshake *psk = calloc(1, sizeof(*psk));
	int err = psk ? kmtls_psk_crypto_open(&psk->crypto) : -ENOMEM;

	if (err) {
		free(psk);
		return err;
	}
	psk->parameters = *parameters;
	if (!parameters->transport)
		psk->parameters.transport = &kmtls_psk_socket_transport;
	psk->alert = -1;
	*ret_psk = psk;
	return 0;
}

/* The binder covers what is in front of it (section 4.2.11.2). */
static int make_binder(struct kmtls_psk_handshake *psk, const unsigned char *message,
		       size_t truncated, unsigned char ret_binder[KMTLS_PSK_HASH])
{
	const struct kmtls_psk_transcript covered = { message, truncated };

	return kmtls_psk_mac(&psk->crypto, &psk->parameters.keys->binder, &covered, ret_binder);
}

int kmtls_psk_client_new(const struct kmtls_psk_parameters *parameters,
			 struct kmtls_psk_handshake **ret_psk)
{
	const struct kmtls_psk_client_hello hello = {
		.alpn = parameters->alpn,
		.alpn_length = parameters->alpn_length,
		.identity = parameters->identity,
		.identity_length = parameters->identity_length,
	};
	unsigned char random[KMTLS_PSK_RANDOM];
	struct kmtls_psk_handshake *psk;
	size_t truncated;
	int err = psk_new(parameters, &psk);

	if (!err)
		err = make_random(random);
	else
		return err;
	if (!err) {
		psk->transcript_length =
			kmtls_psk_write_client_hello(&hello, random, psk->transcript, &truncated);
		err = psk->transcript_length ? make_binder(psk, psk->transcript, truncated,
							   psk->transcript + truncated + 3)
					     : -EINVAL;
	}
	if (err) {
		kmtls_psk_free(psk);
		return err;
	}
	put_plain(psk, psk->transcript, psk->transcript_length);
	*ret_psk = psk;
	return 0;
}

int kmtls_psk_server_new(const struct kmtls_psk_parameters *parameters,
			 const unsigned char *message, size_t length,
			 const struct kmtls_psk_client_hello *hello,
			 struct kmtls_psk_handshake **ret_psk)
{
	unsigned char wanted[KMTLS_PSK_HASH];
	struct kmtls_psk_handshake *psk;
	int err;

	if (length > KMTLS_PSK_MESSAGE_MAX)
		return -EINVAL;
	err = psk_new(parameters, &psk);
	if (err)
		return err;
	psk->state = STATE_CLIENT_FINISHED;
	err = make_binder(psk, message, hello->truncated, wanted);
	if (!err && CRYPTO_memcmp(wanted, hello->binder, sizeof(wanted)) != 0)
		err = -EBADMSG;
	if (!err) {
		memcpy(psk->transcript, message, length);
		psk->transcript_length = length;
		err = answer_client(psk, hello);
	}
	if (err)
		kmtls_psk_free(psk);
	else
		*ret_psk = psk;
	return err;
}

void kmtls_psk_free(struct kmtls_psk_handshake *psk)
{
	if (!psk)
		return;
	kmtls_psk_crypto_close(&psk->crypto);
	OPENSSL_cleanse(psk, sizeof(*psk));
	free(psk);
}

const struct kmtls_traffic_secrets *kmtls_psk_secrets(const struct kmtls_psk_handshake *psk)
{
	return &psk->application;
}

const unsigned char *kmtls_psk_selected_alpn(const struct kmtls_psk_handshake *psk)
{
	return psk->selected;
}

enum kmtls_reason kmtls_psk_reason(const struct kmtls_psk_handshake *psk, const char **ret_why,
				   int *ret_alert)
{
	*ret_why = psk->why;
	*ret_alert = psk->alert;
	return psk->reason;
}

bool kmtls_psk_has_spoken(const struct kmtls_psk_handshake *psk)
{
	return psk->spoken;
}
