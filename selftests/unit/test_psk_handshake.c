/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_psk_handshake.c - handshakes with symmetric cryptography only: both of our sides with each
 * other, whole and in single bytes, and each with what is changed on the way. With OpenSSL:
 * test_psk_openssl.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "psk_handshake.h"
#include "psk_parts.h"

#define IDENTITY "0123456789abcdef"
#define OFFERED "\15kmtls/1+rekey\7kmtls/1"
#define SELECTED "\7kmtls/1"

static struct kmtls_psk_keys keys;
static struct kmtls_psk_handshake *client, *server;
static struct kmtls_psk_parameters client_parameters, server_parameters;
static int client_fd, server_fd;

static struct kmtls_psk_keys make_keys(unsigned char byte)
{
	struct kmtls_secret psk = { .length = KMTLS_PSK_HASH };
	struct kmtls_psk_keys made;

	memset(psk.bytes, byte, psk.length);
	assert_int_equal(kmtls_psk_keys_derive(&psk, &made), 0);
	return made;
}

static int setup(void **state)
{
	int fds[2];

	keys = make_keys(1);
	client_parameters = (struct kmtls_psk_parameters){
		.keys = &keys,
		.identity = (const unsigned char *)IDENTITY,
		.identity_length = sizeof(IDENTITY) - 1,
		.alpn = (const unsigned char *)OFFERED,
		.alpn_length = sizeof(OFFERED) - 1,
	};
	server_parameters = (struct kmtls_psk_parameters){
		.keys = &keys,
		.alpn = (const unsigned char *)SELECTED,
	};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	client_fd = fds[0];
	server_fd = fds[1];
	return 0;
}

static void close_both(void)
{
	kmtls_psk_free(client);
	kmtls_psk_free(server);
	client = server = NULL;
}

static int teardown(void **state)
{
	close_both();
	close(client_fd);
	close(server_fd);
	return 0;
}

/* ---- what is on the way ---- */

static size_t receive_all(int fd, unsigned char *bytes, size_t size)
{
	ssize_t length = recv(fd, bytes, size, MSG_DONTWAIT);

	return length < 0 ? 0 : (size_t)length;
}

static void send_all(int fd, const unsigned char *bytes, size_t length)
{
	assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
}

/* The client's first flight: its size, header and all. */
static size_t begin(unsigned char *ret_bytes, size_t size)
{
	assert_int_equal(kmtls_psk_client_new(&client_parameters, &client), 0);
	assert_int_equal(kmtls_psk_step(client, client_fd), KMTLS_PSK_AGAIN);
	return receive_all(server_fd, ret_bytes, size);
}

/* The server reads it. NULL: it goes on; else what it finds wrong. */
static const char *accept_hello(const unsigned char *bytes, size_t length)
{
	struct kmtls_psk_client_hello hello;
	const unsigned char *message = bytes + KMTLS_PSK_RECORD_HEADER;
	const char *why;
	int err;

	if (kmtls_psk_record_size(bytes, length) != (int)length ||
	    bytes[0] != KMTLS_PSK_RECORD_HANDSHAKE)
		return "no record";
	length -= KMTLS_PSK_RECORD_HEADER;
	why = kmtls_psk_read_client_hello(message, length, &hello);
	if (why)
		return why;
	if (hello.identity_length != sizeof(IDENTITY) - 1 ||
	    memcmp(hello.identity, IDENTITY, hello.identity_length) != 0)
		return "unknown identity";
	err = kmtls_psk_server_new(&server_parameters, message, length, &hello, &server);
	assert_true(err == 0 || err == -EBADMSG);
	return err ? "wrong binder" : NULL;
}

/* Up to where the client's Finished is on its way. */
static void up_to_finished(void)
{
	unsigned char bytes[KMTLS_PSK_RECORD_MAX];
	size_t length = begin(bytes, sizeof(bytes));

	assert_null(accept_hello(bytes, length));
	assert_int_equal(kmtls_psk_step(server, server_fd), KMTLS_PSK_AGAIN);
	assert_int_equal(kmtls_psk_step(client, client_fd), KMTLS_PSK_DONE);
}

static void both_done(void)
{
	up_to_finished();
	assert_int_equal(kmtls_psk_step(server, server_fd), KMTLS_PSK_DONE);
}

/* A record of the server under its application key. */
static size_t seal(__u8 type, const unsigned char *content, size_t length,
		   unsigned char *ret_record)
{
	struct kmtls_psk_crypto crypto;
	struct kmtls_record_key key;
	int size;

	assert_int_equal(kmtls_psk_crypto_open(&crypto), 0);
	/* The other implementation of it. */
	assert_int_equal(
		kmtls_record_key_derive(KMTLS_PSK_CIPHER, &kmtls_psk_secrets(server)->server, &key),
		0);
	size = kmtls_psk_seal(&crypto, &key, type, content, length, ret_record);
	assert_true(size > 0);
	kmtls_psk_crypto_close(&crypto);
	return (size_t)size;
}

static const unsigned char ticket[] = { 4, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0 };

static void assert_failed(struct kmtls_psk_handshake *psk, enum kmtls_reason reason,
			  const char *why, int alert)
{
	const char *is;
	int number;

	assert_int_equal(kmtls_psk_reason(psk, &is, &number), reason);
	if (why)
		assert_string_equal(is, why);
	assert_int_equal(number, alert);
}

/* ---- tests ---- */

static void whole(void **state)
{
	unsigned char record[128], left[16];
	size_t size;

	both_done();
	assert_memory_equal(kmtls_psk_secrets(client), kmtls_psk_secrets(server),
			    sizeof(struct kmtls_traffic_secrets));
	assert_int_equal(kmtls_psk_secrets(client)->client.length, KMTLS_PSK_HASH);
	assert_memory_not_equal(kmtls_psk_secrets(client)->client.bytes,
				kmtls_psk_secrets(client)->server.bytes, KMTLS_PSK_HASH);
	assert_memory_equal(kmtls_psk_selected_alpn(client), SELECTED, sizeof(SELECTED) - 1);
	assert_int_equal(kmtls_psk_await_ticket(client, client_fd), KMTLS_PSK_AGAIN);
	size = seal(KMTLS_PSK_RECORD_HANDSHAKE, ticket, sizeof(ticket), record);
	memcpy(record + size, "more", 4); /* is for the kernel */
	send_all(server_fd, record, size + 4);
	assert_int_equal(kmtls_psk_await_ticket(client, client_fd), KMTLS_PSK_DONE);
	assert_int_equal(receive_all(client_fd, left, sizeof(left)), 4);
	assert_memory_equal(left, "more", 4);
}

static void without_alpn(void **state)
{
	client_parameters.alpn = server_parameters.alpn = NULL;
	both_done();
	assert_null(kmtls_psk_selected_alpn(client));
}

static void never_the_same(void **state)
{
	struct kmtls_traffic_secrets before;

	both_done();
	before = *kmtls_psk_secrets(client);
	close_both();
	both_done();
	assert_memory_not_equal(&before, kmtls_psk_secrets(client), sizeof(before));
}

static unsigned calls; /* every third finds nothing, or no room */

static ssize_t receive_byte(int fd, void *bytes, size_t size)
{
	if (++calls % 3)
		return recv(fd, bytes, 1, MSG_DONTWAIT);
	errno = EAGAIN;
	return -1;
}

static ssize_t send_byte(int fd, const void *bytes, size_t size)
{
	if (++calls % 3)
		return send(fd, bytes, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	errno = EAGAIN;
	return -1;
}

static void byte_by_byte(void **state)
{
	static const struct kmtls_psk_transport bytewise = { receive_byte, send_byte };
	enum kmtls_psk_step client_step = KMTLS_PSK_AGAIN, server_step = KMTLS_PSK_AGAIN;
	unsigned char bytes[KMTLS_PSK_RECORD_MAX], record[128];
	size_t length = 0;

	client_parameters.transport = server_parameters.transport = &bytewise;
	assert_int_equal(kmtls_psk_client_new(&client_parameters, &client), 0);
	for (unsigned i = 0; i < 2000 && !server; i++) {
		kmtls_psk_step(client, client_fd);
		length += receive_all(server_fd, bytes + length, sizeof(bytes) - length);
		if (kmtls_psk_record_size(bytes, length) > 0)
			assert_null(accept_hello(bytes, length));
	}
	for (unsigned i = 0; i < 5000 && server_step == KMTLS_PSK_AGAIN; i++) {
		server_step = kmtls_psk_step(server, server_fd);
		if (client_step == KMTLS_PSK_AGAIN)
			client_step = kmtls_psk_step(client, client_fd);
	}
	assert_int_equal(client_step, KMTLS_PSK_DONE);
	assert_int_equal(server_step, KMTLS_PSK_DONE);
	send_all(server_fd, record,
		 seal(KMTLS_PSK_RECORD_HANDSHAKE, ticket, sizeof(ticket), record));
	client_step = KMTLS_PSK_AGAIN;
	for (unsigned i = 0; i < 5000 && client_step == KMTLS_PSK_AGAIN; i++)
		client_step = kmtls_psk_await_ticket(client, client_fd);
	assert_int_equal(client_step, KMTLS_PSK_DONE);
}

static void hello_changed(void **state)
{
	unsigned char bytes[KMTLS_PSK_RECORD_MAX];
	size_t length = begin(bytes, sizeof(bytes));

	for (size_t i = 0; i < length; i++) {
		if (i == 1 || i == 2)
			continue; /* legacy_record_version: not looked at */
		for (unsigned bit = 0; bit < 8; bit++) {
			bytes[i] ^= 1u << bit;
			assert_non_null(accept_hello(bytes, length));
			bytes[i] ^= 1u << bit;
		}
		assert_non_null(accept_hello(bytes, i));
	}
	assert_null(accept_hello(bytes, length));
}

static void another_key(void **state)
{
	const struct kmtls_psk_keys others = make_keys(2);
	unsigned char bytes[KMTLS_PSK_RECORD_MAX];
	size_t length = begin(bytes, sizeof(bytes));

	server_parameters.keys = &others;
	assert_string_equal(accept_hello(bytes, length), "wrong binder");
}

/* The client has a hello under way; the server's answer with one bit of one byte changed. */
static void answer_changed(void **state)
{
	unsigned char bytes[KMTLS_PSK_RECORD_MAX], answer[KMTLS_PSK_RECORD_MAX];
	size_t size = 1;

	for (size_t i = 0; i < size; i++) {
		size_t length = begin(bytes, sizeof(bytes));

		assert_null(accept_hello(bytes, length));
		assert_int_equal(kmtls_psk_step(server, server_fd), KMTLS_PSK_AGAIN);
		size = receive_all(client_fd, answer, sizeof(answer));
		answer[i] ^= 1u << i % 8;
		if (i != 2) { /* legacy_record_version: not looked at in the first record */
			send_all(server_fd, answer, size);
			shutdown(server_fd, SHUT_WR);
			assert_int_equal(kmtls_psk_step(client, client_fd), KMTLS_PSK_FAILED);
			/* and stays so */
			assert_int_equal(kmtls_psk_step(client, client_fd), KMTLS_PSK_FAILED);
		}
		close_both();
		teardown(state);
		setup(state);
	}
	assert_true(size > 100);
}

static void finished_changed(void **state)
{
	unsigned char bytes[KMTLS_PSK_RECORD_MAX];
	size_t size = 1;

	for (size_t i = 0; i < size; i++) {
		up_to_finished();
		size = receive_all(server_fd, bytes, sizeof(bytes));
		bytes[i] ^= 1u << i % 8;
		send_all(client_fd, bytes, size);
		shutdown(client_fd, SHUT_WR);
		assert_int_equal(kmtls_psk_step(server, server_fd), KMTLS_PSK_FAILED);
		teardown(state);
		setup(state);
	}
	assert_true(size > 50);
}

/* A Finished that is encrypted as it must be, and says something else: of the client, or the server's
 * behind EncryptedExtensions. */
static void finished_wrong(void **state)
{
	unsigned char messages[2 * KMTLS_PSK_MESSAGE_MAX], bytes[KMTLS_PSK_RECORD_MAX];
	struct kmtls_psk_handshake *from;
	bool of_client = *state != NULL;
	struct kmtls_record_key key;
	size_t length, size;

	*state = NULL;
	setup(state);
	length = begin(bytes, sizeof(bytes));
	assert_null(accept_hello(bytes, length));
	assert_int_equal(kmtls_psk_step(server, server_fd), KMTLS_PSK_AGAIN);
	if (of_client)
		assert_int_equal(kmtls_psk_step(client, client_fd), KMTLS_PSK_DONE);
	from = of_client ? client : server;
	assert_int_equal(kmtls_record_key_derive(KMTLS_PSK_CIPHER,
						 of_client ? &from->handshake.client
							   : &from->handshake.server,
						 &key),
			 0);
	length = of_client ? 0
			   : kmtls_psk_write_encrypted_extensions((const unsigned char *)SELECTED,
								  messages);
	memset(bytes, 7, KMTLS_PSK_HASH);
	length += kmtls_psk_write_finished(bytes, messages + length);
	size = receive_all(of_client ? server_fd : client_fd, bytes, sizeof(bytes));
	assert_true(size > 0);
	if (!of_client) /* the ServerHello may pass */
		size = (size_t)kmtls_psk_record_size(bytes, size);
	else
		size = 0;
	size += (size_t)kmtls_psk_seal(&from->crypto, &key, KMTLS_PSK_RECORD_HANDSHAKE, messages,
				       length, bytes + size);
	send_all(of_client ? client_fd : server_fd, bytes, size);
	from = of_client ? server : client;
	assert_int_equal(kmtls_psk_step(from, of_client ? server_fd : client_fd), KMTLS_PSK_FAILED);
	assert_failed(from, KMTLS_REASON_HANDSHAKE_FAILED, "wrong Finished", -1);
}

static void refused(void **state)
{
	static const unsigned char alert[] = { 21, 3, 3, 0, 2, 2, SSL_AD_UNKNOWN_PSK_IDENTITY };
	unsigned char bytes[KMTLS_PSK_RECORD_MAX];

	begin(bytes, sizeof(bytes));
	send_all(server_fd, alert, sizeof(alert));
	assert_int_equal(kmtls_psk_step(client, client_fd), KMTLS_PSK_REFUSED);
	assert_failed(client, KMTLS_REASON_REFUSED_BY_PEER, NULL, SSL_AD_UNKNOWN_PSK_IDENTITY);
	close_both();
	begin(bytes, sizeof(bytes));
	memcpy(bytes, alert, sizeof(alert));
	bytes[sizeof(alert)] = 22; /* a server that goes on does not wait for a new ClientHello */
	send_all(server_fd, bytes, sizeof(alert) + 1);
	assert_int_equal(kmtls_psk_step(client, client_fd), KMTLS_PSK_FAILED);
	assert_failed(client, KMTLS_REASON_HANDSHAKE_FAILED, "bytes behind an alert", -1);
}

static void gone(void **state)
{
	unsigned char bytes[KMTLS_PSK_RECORD_MAX];

	begin(bytes, sizeof(bytes));
	shutdown(server_fd, SHUT_WR);
	assert_int_equal(kmtls_psk_step(client, client_fd), KMTLS_PSK_FAILED);
	assert_failed(client, KMTLS_REASON_HANDSHAKE_RESET, "the connection ended", -1);
}

static void garbage(void **state)
{
	unsigned char bytes[KMTLS_PSK_RECORD_MAX];

	begin(bytes, sizeof(bytes));
	send_all(server_fd, (const unsigned char *)"HTTP/1.1 400 Bad Request\r\n", 26);
	assert_int_equal(kmtls_psk_step(client, client_fd), KMTLS_PSK_FAILED);
	assert_failed(client, KMTLS_REASON_HANDSHAKE_FAILED, "no TLS record", -1);
}

static void change_cipher_spec(void **state)
{
	static const unsigned char change[] = { 20, 3, 3, 0, 1, 1 },
				   other[] = { 20, 3, 3, 0, 1, 2 };
	unsigned char bytes[KMTLS_PSK_RECORD_MAX];
	size_t size;

	for (unsigned i = 0; i < 3; i++) {
		up_to_finished();
		size = receive_all(server_fd, bytes, sizeof(bytes));
		send_all(client_fd, i == 2 ? other : change, sizeof(change));
		if (i == 1)
			send_all(client_fd, change, sizeof(change)); /* one is enough */
		send_all(client_fd, bytes, size);
		assert_int_equal(kmtls_psk_step(server, server_fd),
				 i ? KMTLS_PSK_FAILED : KMTLS_PSK_DONE);
		teardown(state);
		setup(state);
	}
}

/* Nobody may say anything between Finished and the ticket. */
static void too_early(void **state)
{
	up_to_finished();
	send_all(client_fd, (const unsigned char *)"\27", 1);
	assert_int_equal(kmtls_psk_step(server, server_fd), KMTLS_PSK_FAILED);
	assert_failed(server, KMTLS_REASON_EARLY_DATA, "bytes behind Finished", -1);
}

static void no_ticket(void **state)
{
	static const unsigned char alert[] = { 2, SSL_AD_UNRECOGNIZED_NAME };
	unsigned char record[256], two[2 * sizeof(ticket)];

	for (unsigned i = 0; i < 5; i++) {
		size_t size = 0;

		both_done();
		memcpy(two, ticket, sizeof(ticket));
		memcpy(two + sizeof(ticket), ticket, sizeof(ticket));
		if (i == 0)
			size = seal(KMTLS_PSK_RECORD_ALERT, alert, sizeof(alert), record);
		else if (i == 1)
			size = seal(KMTLS_PSK_RECORD_DATA, alert, sizeof(alert), record);
		else if (i == 2)
			size = seal(KMTLS_PSK_RECORD_HANDSHAKE, two, sizeof(two), record);
		else if (i == 3)
			size = seal(KMTLS_PSK_RECORD_HANDSHAKE, ticket, sizeof(ticket) - 1, record);
		else
			memcpy(record, "\25\3\3\0\2\2\50", size = 7); /* in the clear */
		send_all(server_fd, record, size);
		assert_int_equal(kmtls_psk_await_ticket(client, client_fd), KMTLS_PSK_FAILED);
		if (i == 0)
			assert_failed(client, KMTLS_REASON_REFUSED_BY_PEER, NULL,
				      SSL_AD_UNRECOGNIZED_NAME);
		else if (i == 1)
			assert_failed(client, KMTLS_REASON_EARLY_DATA, NULL, -1);
		else
			assert_failed(client, KMTLS_REASON_HANDSHAKE_FAILED,
				      i == 4 ? "record that cannot be decrypted"
					     : "no session ticket",
				      -1);
		teardown(state);
		setup(state);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(whole),
		TEST(without_alpn),
		TEST(never_the_same),
		TEST(byte_by_byte),
		TEST(hello_changed),
		TEST(another_key),
		TEST(answer_changed),
		TEST(finished_changed),
		{ "Finished of the client", finished_wrong, NULL, teardown, (void *)1 },
		{ "Finished of the server", finished_wrong, NULL, teardown, NULL },
		TEST(refused),
		TEST(gone),
		TEST(garbage),
		TEST(too_early),
		TEST(change_cipher_spec),
		TEST(no_ticket),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("psk_handshake", tests, NULL, NULL);
}
