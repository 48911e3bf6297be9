/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_tls_messages.c - what a handshake says, message by message: the same with each version of OpenSSL. New
 * ones bring extensions, groups and certificates in compressed form that nobody here has asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "certificates.h"
#include "tls.h"

#define TEXT 512

/* What one side has sent, each message and its extensions, but for their order. */
static char said[TEXT], groups[TEXT], shares[TEXT];

static void add(char *text, const char *format, unsigned number)
{
	size_t length = strlen(text);

	assert_true((size_t)snprintf(text + length, TEXT - length, format, number) < TEXT - length);
}

static unsigned number_at(const unsigned char *bytes)
{
	return bytes[0] << 8 | bytes[1];
}

static void read_groups(const unsigned char *list, size_t length)
{
	for (size_t i = 2; i + 2 <= length; i += 2)
		add(groups, " %u", number_at(list + i));
}

static void read_shares(const unsigned char *list, size_t length)
{
	for (size_t i = 2; i + 4 <= length; i += 4 + number_at(list + i + 2)) {
		add(shares, " %u:", number_at(list + i));
		add(shares, "%u", number_at(list + i + 2));
	}
}

/* list: with its length in front. */
static void read_extensions(const unsigned char *list, size_t room, bool of_client)
{
	unsigned char seen[256] = { 0 };
	size_t length = number_at(list), i;

	assert_true(length + 2 == room);
	for (i = 2; i < room; i += 4 + number_at(list + i + 2)) {
		unsigned type = number_at(list + i), size = number_at(list + i + 2);

		assert_true(type < sizeof(seen) && i + 4 + size <= room);
		seen[type] = 1;
		if (of_client && type == TLSEXT_TYPE_supported_groups)
			read_groups(list + i + 4, size);
		if (of_client && type == TLSEXT_TYPE_key_share)
			read_shares(list + i + 4, size);
	}
	for (i = 0; i < sizeof(seen); i++)
		if (seen[i])
			add(said, " %u", (unsigned)i);
}

/* A session's ID, and in a ClientHello lists of suites and of compressions, come before. */
static void read_hello(const unsigned char *body, size_t length, bool of_client)
{
	size_t at = 2 + SSL3_RANDOM_SIZE;

	at += 1 + body[at];
	if (of_client) {
		at += 2 + number_at(body + at);
		at += 1 + body[at];
	} else {
		at += 3;
	}
	read_extensions(body + at, length - at, of_client);
}

static void on_message(int is_written, int version, int type, const void *bytes, size_t length,
		       SSL *ssl, void *of_server)
{
	const unsigned char *message = bytes;

	if (!is_written || type != SSL3_RT_HANDSHAKE)
		return;
	assert_true(length >= 4);
	add(said, of_server ? " s%u" : " c%u", message[0]);
	if (message[0] == SSL3_MT_CLIENT_HELLO || message[0] == SSL3_MT_SERVER_HELLO)
		read_hello(message + 4, length - 4, message[0] == SSL3_MT_CLIENT_HELLO);
	else if (message[0] == SSL3_MT_ENCRYPTED_EXTENSIONS)
		read_extensions(message + 4, length - 4, false);
	else if (message[0] == SSL3_MT_CERTIFICATE_REQUEST)
		read_extensions(message + 5, length - 5, false);
}

/* *state: the algorithm of the SVIDs' keys. Those of RSA are in OpenSSL's own library context, tls.c. */
static void messages(void **state)
{
	struct test_spec client_spec = { .id = TEST_CLIENT_ID, .algorithm = *state };
	struct test_spec server_spec = { .id = TEST_SERVER_ID, .algorithm = *state };
	struct test_certificate root = test_certificate_make(&test_root_spec, NULL);
	struct test_certificate client_leaf = test_certificate_make(&client_spec, &root);
	struct test_certificate server_leaf = test_certificate_make(&server_spec, &root);
	SSL_CTX *client_context =
		test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, root.certificate);
	SSL_CTX *server_context =
		test_context_make(KMTLS_ROLE_SERVER, &server_leaf, NULL, root.certificate);
	struct test_side client, server;

	said[0] = groups[0] = shares[0] = '\0';
	SSL_CTX_set_msg_callback(client_context, on_message);
	SSL_CTX_set_msg_callback(server_context, on_message);
	SSL_CTX_set_msg_callback_arg(server_context, server_context);
	test_sides_open(&client, client_context, &server, server_context);
	test_sides_run(&client, &server);
	assert_true(client.ready && server.ready);
	/* Nothing but X25519 and P-256, and one key, whatever OpenSSL has by default. */
	assert_string_equal(groups, " 29 23");
	assert_string_equal(shares, " 29:32");
	assert_string_equal(said,
			    " c1 10 11 13 16 22 23 35 43 45 51" /* ClientHello */
			    " s2 43 51 s8 16 s13 13 s11 s15 s20" /* to the server's Finished */
			    " c11 c15 c20 s4");
	test_side_close(&client);
	test_side_close(&server);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
	test_trio_free(&root, &client_leaf, &server_leaf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "messages of a handshake, EC", messages, NULL, NULL, NULL },
		{ "messages of a handshake, RSA", messages, NULL, NULL, "RSA2048" },
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("tls messages", tests, NULL, NULL);
}
