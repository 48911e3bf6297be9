/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_psk_openssl.c - handshakes with symmetric cryptography only: each of our sides with the
 * program of OpenSSL on the other end of a TCP connection, up to data in both directions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "psk_handshake.h"
#include "sockets.h"

#define IDENTITY "known-to-both"
#define PSK "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define ALPN "\7kmtls/1"

struct program {
	pid_t pid;
	int input, output;
};

static struct program program;
static int wire = -1;
static struct kmtls_psk_keys keys;
static struct kmtls_psk_handshake *psk;

static int setup(void **state)
{
	struct kmtls_secret secret = { .length = KMTLS_PSK_HASH };

	for (unsigned i = 0; i < KMTLS_PSK_HASH; i++)
		secret.bytes[i] = (unsigned char)(i % 16 * 0x11);
	assert_int_equal(kmtls_psk_keys_derive(&secret, &keys), 0);
	return 0;
}

static int teardown(void **state)
{
	kmtls_psk_free(psk);
	psk = NULL;
	if (wire >= 0)
		close(wire);
	wire = -1;
	if (program.pid > 0) {
		kill(program.pid, SIGKILL);
		waitpid(program.pid, NULL, 0);
		close(program.input);
		close(program.output);
	}
	program.pid = 0;
	return 0;
}

static void start(const char *const arguments[])
{
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	program.pid = fork();
	if (program.pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(out[1], 2);
		execvp("openssl", (char *const *)arguments);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	program.input = in[1];
	program.output = out[0];
}

/* Reads what the program says until text is in it; the part behind it. */
static const char *await_text(const char *text)
{
	static char said[65536];
	static size_t length;
	char *found = NULL;
	ssize_t size = 1;

	length = 0;
	while (!found && size > 0 && length < sizeof(said) - 1) {
		test_wait_readable(program.output);
		size = read(program.output, said + length, sizeof(said) - 1 - length);
		length += size > 0 ? (size_t)size : 0;
		said[length] = '\0';
		found = strstr(said, text);
	}
	if (!found)
		fail_msg("'%s' is not in: %s", text, said);
	return found + strlen(text);
}

static void assert_step(enum kmtls_psk_step (*call)(struct kmtls_psk_handshake *psk, int fd),
			enum kmtls_psk_step wanted)
{
	enum kmtls_psk_step step;
	const char *why;
	int alert;

	while ((step = call(psk, wire)) == KMTLS_PSK_AGAIN)
		test_wait_readable(wire);
	if (step != wanted && step != KMTLS_PSK_DONE) {
		enum kmtls_reason reason = kmtls_psk_reason(psk, &why, &alert);

		fail_msg("step %d, reason %d: %s, alert %d", step, reason, why ? why : "", alert);
	}
	assert_int_equal(step, wanted);
}

/* The first record that this side sends under its application key, or that the other one does. */
static size_t seal(const struct kmtls_secret *secret, __u8 type, const void *content, size_t length,
		   unsigned char *ret_record)
{
	struct kmtls_psk_crypto crypto;
	struct kmtls_record_key key;
	int size;

	assert_int_equal(kmtls_psk_crypto_open(&crypto), 0);
	assert_int_equal(kmtls_record_key_derive(KMTLS_PSK_CIPHER, secret, &key), 0);
	size = kmtls_psk_seal(&crypto, &key, type, content, length, ret_record);
	kmtls_psk_crypto_close(&crypto);
	assert_true(size > 0);
	return (size_t)size;
}

/* The next record of the peer, as text. */
static void assert_data(const struct kmtls_secret *secret, const char *text)
{
	unsigned char record[KMTLS_PSK_RECORD_MAX], content[KMTLS_PSK_RECORD_MAX];
	struct kmtls_psk_crypto crypto;
	struct kmtls_record_key key;
	size_t size = 0;
	int length;
	__u8 type;

	while (kmtls_psk_record_size(record, size) == 0) {
		test_wait_readable(wire);
		size += (size_t)recv(wire, record + size, sizeof(record) - size, 0);
	}
	assert_int_equal(kmtls_psk_crypto_open(&crypto), 0);
	assert_int_equal(kmtls_record_key_derive(KMTLS_PSK_CIPHER, secret, &key), 0);
	length = kmtls_psk_open(&crypto, &key, 0, record, size, &type, content);
	kmtls_psk_crypto_close(&crypto);
	assert_int_equal(length, strlen(text));
	assert_int_equal(type, KMTLS_PSK_RECORD_DATA);
	assert_memory_equal(content, text, strlen(text));
}

/* ---- our client ---- */

static void start_server(const char *modes, const char *key)
{
	const char *const arguments[] = { "openssl",	  "s_server",	 "-tls1_3",	  "-nocert",
					  "-accept",	  "127.0.0.1:0", "-psk_identity", IDENTITY,
					  "-psk",	  key,		 "-alpn",	  "kmtls/1",
					  "-num_tickets", "1",		 modes,		  NULL };
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	start(arguments);
	address.sin_port = htons((uint16_t)atoi(await_text("ACCEPT 127.0.0.1:")));
	wire = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(wire, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void begin_client(const char *identity)
{
	const struct kmtls_psk_parameters parameters = {
		.keys = &keys,
		.identity = (const unsigned char *)identity,
		.identity_length = strlen(identity),
		.alpn = (const unsigned char *)ALPN,
		.alpn_length = sizeof(ALPN) - 1,
	};

	assert_int_equal(kmtls_psk_client_new(&parameters, &psk), 0);
}

static void client(void **state)
{
	unsigned char record[64];

	start_server("-allow_no_dhe_kex", PSK);
	begin_client(IDENTITY);
	assert_step(kmtls_psk_step, KMTLS_PSK_DONE);
	assert_memory_equal(kmtls_psk_selected_alpn(psk), ALPN, sizeof(ALPN) - 1);
	assert_step(kmtls_psk_await_ticket, KMTLS_PSK_DONE);
	send(wire, record,
	     seal(&kmtls_psk_secrets(psk)->client, KMTLS_PSK_RECORD_DATA, "spoken\n", 7, record),
	     0);
	await_text("spoken");
}

/* What it answers is an alert each time, and nothing else. */
static void client_refused(void **state)
{
	static const struct {
		const char *modes, *key, *identity;
		int alert;
	} cases[] = {
		{ "-allow_no_dhe_kex", "11", IDENTITY,
		  SSL_AD_ILLEGAL_PARAMETER }, /* wrong binder */
		{ "-allow_no_dhe_kex", PSK, "another", -1 },
		{ "-no_ticket", PSK, IDENTITY, -1 }, /* psk_dhe_ke only */
	};

	for (unsigned i = 0; i < 3; i++) {
		const char *why;
		int alert;

		start_server(cases[i].modes, cases[i].key);
		begin_client(cases[i].identity);
		assert_step(kmtls_psk_step, KMTLS_PSK_REFUSED);
		kmtls_psk_reason(psk, &why, &alert);
		if (cases[i].alert >= 0)
			assert_int_equal(alert, cases[i].alert);
		assert_int_not_equal(alert, -1);
		teardown(state);
	}
}

/* ---- our server ---- */

static void start_client(const char *key)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t length = sizeof(address);
	char target[32];
	const char *const arguments[] = { "openssl",	 "s_client", "-tls1_3",
					  "-connect",	 target,     "-psk_identity",
					  IDENTITY,	 "-psk",     key,
					  "-alpn",	 "kmtls/1",  "-allow_no_dhe_kex",
					  "-servername", "name",     NULL };

	assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	snprintf(target, sizeof(target), "127.0.0.1:%u", ntohs(address.sin_port));
	start(arguments);
	test_wait_readable(listener);
	wire = accept(listener, NULL, NULL);
	close(listener);
}

static int accept_client(void)
{
	const struct kmtls_psk_parameters parameters = {
		.keys = &keys,
		.alpn = (const unsigned char *)ALPN,
	};
	unsigned char bytes[KMTLS_PSK_RECORD_MAX];
	struct kmtls_psk_client_hello hello;
	size_t length = 0;

	while (kmtls_psk_record_size(bytes, length) == 0) {
		test_wait_readable(wire);
		length += (size_t)recv(wire, bytes + length, sizeof(bytes) - length, 0);
	}
	assert_int_equal(kmtls_psk_record_size(bytes, length), length);
	length -= KMTLS_PSK_RECORD_HEADER;
	assert_null(kmtls_psk_read_client_hello(bytes + KMTLS_PSK_RECORD_HEADER, length, &hello));
	assert_false(hello.nothing_else); /* it has (EC)DHE to offer as well */
	assert_int_equal(hello.identity_length, strlen(IDENTITY));
	assert_memory_equal(hello.identity, IDENTITY, strlen(IDENTITY));
	return kmtls_psk_server_new(&parameters, bytes + KMTLS_PSK_RECORD_HEADER, length, &hello,
				    &psk);
}

static void server(void **state)
{
	static const unsigned char ticket[] = { 4, 0, 0, 15, 0, 0, 0, 0, 0, 0,
						0, 0, 1, 0,  0, 1, 0, 0, 0 };
	unsigned char record[64];

	start_client(PSK);
	assert_int_equal(accept_client(), 0);
	assert_step(kmtls_psk_step, KMTLS_PSK_DONE);
	send(wire, record,
	     seal(&kmtls_psk_secrets(psk)->server, KMTLS_PSK_RECORD_HANDSHAKE, ticket,
		  sizeof(ticket), record),
	     0);
	await_text("Reused, TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256");
	assert_int_equal(write(program.input, "asked\n", 6), 6);
	assert_data(&kmtls_psk_secrets(psk)->client, "asked\n");
}

static void server_wrong_binder(void **state)
{
	start_client("11");
	assert_int_equal(accept_client(), -EBADMSG);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(client),
		TEST(client_refused),
		TEST(server),
		TEST(server_wrong_binder),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("psk_openssl", tests, NULL, NULL);
}
