/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verify_error.c - handshakes that fail for other things than a certificate: peers that
 * are not of the mesh, that speak something else, or go away.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <string.h>

#include "certificates.h"
#include "reason.h"
#include "tls.h"

static struct test_certificate root, client_leaf, server_leaf;
static SSL_CTX *client_context, *server_context;
static struct test_side client, server;

static int setup_group(void **state)
{
	test_trio_make(&root, &client_leaf, &server_leaf);
	return 0;
}

static int teardown_group(void **state)
{
	test_trio_free(&root, &client_leaf, &server_leaf);
	return 0;
}

static int setup(void **state)
{
	client_context = test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, root.certificate);
	server_context = test_context_make(KMTLS_ROLE_SERVER, &server_leaf, NULL, root.certificate);
	return 0;
}

static int teardown(void **state)
{
	test_side_close(&client);
	test_side_close(&server);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
	return 0;
}

static void open_sides(void)
{
	test_sides_open(&client, client_context, &server, server_context);
}

static void run_sides(void)
{
	open_sides();
	test_sides_run(&client, &server);
}

/* A side of another program: none of our callbacks, ALPN as given. */
static SSL_CTX *foreign_context(const SSL_METHOD *method, int version)
{
	SSL_CTX *context = SSL_CTX_new(method);

	SSL_CTX_set_min_proto_version(context, version);
	SSL_CTX_set_max_proto_version(context, version);
	SSL_CTX_use_certificate(context, server_leaf.certificate);
	SSL_CTX_use_PrivateKey(context, server_leaf.key);
	return context;
}

static void no_client_certificate(void **state)
{
	SSL_CTX_free(client_context);
	client_context = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_alpn_protos(client_context, (const unsigned char *)"\7" KMTLS_ALPN, 8);
	run_sides();
	assert_int_equal(server.reason, KMTLS_REASON_NO_CERTIFICATE);
	assert_int_equal(client.reason, KMTLS_REASON_REFUSED_BY_PEER);
	assert_string_equal(server.verify.peer_id, "");
}

static void client_without_alpn(void **state)
{
	SSL_CTX_set_alpn_protos(client_context, NULL, 0);
	run_sides();
	assert_int_equal(server.reason, KMTLS_REASON_NOT_MESH);
	assert_int_equal(client.reason, KMTLS_REASON_NOT_MESH);
}

static void client_with_other_alpn(void **state)
{
	SSL_CTX_set_alpn_protos(client_context, *state, strlen(*state));
	run_sides();
	assert_int_equal(server.reason, KMTLS_REASON_NOT_MESH);
	assert_int_equal(client.reason, KMTLS_REASON_NOT_MESH);
	assert_string_equal(server.verify.peer_id, "");
}

static void client_with_more_alpn(void **state)
{
	static const char list[] = "\2h2\7kmtls/1\10http/1.1";

	SSL_CTX_set_alpn_protos(client_context, (const unsigned char *)list, sizeof(list) - 1);
	run_sides();
	assert_true(server.ready && client.ready);
	assert_true(kmtls_tls_alpn_ok(server.ssl) && kmtls_tls_alpn_ok(client.ssl));
}

static void server_without_alpn(void **state)
{
	SSL_CTX_free(server_context);
	server_context = foreign_context(TLS_server_method(), TLS1_3_VERSION);
	run_sides();
	assert_int_equal(client.reason, KMTLS_REASON_NOT_MESH);
	assert_int_equal(server.reason, KMTLS_REASON_REFUSED_BY_PEER);
	assert_string_equal(client.verify.peer_id, "");
}

static int choose_h2(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_length,
		     const unsigned char *list, unsigned length, void *unused)
{
	*ret_name = (const unsigned char *)"kmtls/2";
	*ret_length = 7;
	return SSL_TLSEXT_ERR_OK;
}

static void server_with_other_alpn(void **state)
{
	SSL_CTX_free(server_context);
	server_context = foreign_context(TLS_server_method(), TLS1_3_VERSION);
	SSL_CTX_set_alpn_select_cb(server_context, choose_h2, NULL);
	run_sides();
	/* Newer versions of OpenSSL notice before we do that this was never offered. */
	if (client.reason != KMTLS_REASON_HANDSHAKE_FAILED)
		assert_int_equal(client.reason, KMTLS_REASON_NOT_MESH);
	assert_false(client.ready);
	assert_string_equal(client.verify.peer_id, "");
}

static void client_of_tls12(void **state)
{
	SSL_CTX_free(client_context);
	client_context = foreign_context(TLS_client_method(), TLS1_2_VERSION);
	if (*state) /* even with our ALPN */
		SSL_CTX_set_alpn_protos(client_context, *state, 8);
	run_sides();
	assert_int_equal(server.reason, KMTLS_REASON_NOT_MESH);
	assert_int_equal(client.reason, KMTLS_REASON_NOT_MESH);
}

static void server_of_tls12(void **state)
{
	SSL_CTX_free(server_context);
	server_context = foreign_context(TLS_server_method(), TLS1_2_VERSION);
	run_sides();
	assert_int_equal(client.reason, KMTLS_REASON_NOT_MESH);
	assert_int_equal(server.reason, KMTLS_REASON_NOT_MESH);
}

static void no_shared_group(void **state)
{
	SSL_CTX_set1_groups_list(client_context, "P-521");
	run_sides();
	assert_int_equal(server.reason, KMTLS_REASON_HANDSHAKE_FAILED);
	assert_int_equal(client.reason, KMTLS_REASON_REFUSED_BY_PEER);
}

/* ---- no TLS at all ---------------------------------------------------------------------- */

struct bytes {
	const char *data;
	size_t length;
};

#define BYTES(text) (&(const struct bytes){ text, sizeof(text) - 1 })
#define PADDING_46 "0123456789012345678901234567890123456789012345"

/* What side reads next instead of what its peer would say. */
static void feed(struct test_side *to, struct test_side *from, const struct bytes *bytes)
{
	assert_int_equal(BIO_write(SSL_get_wbio(from->ssl), bytes->data, bytes->length),
			 bytes->length);
	(void)BIO_shutdown_wr(SSL_get_wbio(from->ssl));
	test_side_step(to);
	test_side_step(to);
}

static void plain_client(void **state)
{
	open_sides();
	feed(&server, &client, *state);
	assert_int_equal(server.reason, KMTLS_REASON_NOT_MESH);
}

static void plain_server(void **state)
{
	open_sides();
	test_side_step(&client);
	feed(&client, &server, *state);
	assert_int_equal(client.reason, KMTLS_REASON_NOT_MESH);
}

static void garbage_later(void **state)
{
	open_sides();
	test_side_step(&client);
	test_side_step(&server);
	/* After the ClientHello the peer is known to speak TLS: another fault. */
	(void)BIO_reset(SSL_get_wbio(client.ssl));
	feed(&server, &client, BYTES("\xde\xad\xbe\xef\xde\xad\xbe\xef\xde\xad\xbe\xef"));
	assert_int_equal(server.reason, KMTLS_REASON_HANDSHAKE_FAILED);
}

/* ---- gone ------------------------------------------------------------------------------- */

static void server_gone_at_once(void **state)
{
	open_sides();
	test_side_step(&client);
	(void)BIO_shutdown_wr(SSL_get_wbio(server.ssl));
	test_side_step(&client);
	assert_int_equal(client.reason, KMTLS_REASON_HANDSHAKE_RESET);
}

static void client_gone_at_once(void **state)
{
	open_sides();
	(void)BIO_shutdown_wr(SSL_get_wbio(client.ssl));
	test_side_step(&server);
	assert_int_equal(server.reason, KMTLS_REASON_HANDSHAKE_RESET);
}

static void client_gone_in_the_middle(void **state)
{
	open_sides();
	test_side_step(&client);
	test_side_step(&server);
	(void)BIO_shutdown_wr(SSL_get_wbio(client.ssl));
	test_side_step(&server);
	assert_int_equal(server.reason, KMTLS_REASON_HANDSHAKE_RESET);
}

static void server_gone_before_the_ticket(void **state)
{
	open_sides();
	test_side_step(&client);
	test_side_step(&server);
	test_side_step(&client);
	assert_int_equal(SSL_get_state(client.ssl), TLS_ST_OK);
	(void)BIO_shutdown_wr(SSL_get_wbio(server.ssl));
	test_side_step(&client);
	assert_int_equal(client.reason, KMTLS_REASON_HANDSHAKE_RESET);
}

static void close_notify_instead_of_the_ticket(void **state)
{
	open_sides();
	test_side_step(&client);
	test_side_step(&server);
	test_side_step(&client);
	assert_int_equal(SSL_do_handshake(server.ssl), 1);
	SSL_shutdown(server.ssl);
	test_side_step(&client);
	assert_int_equal(client.reason, KMTLS_REASON_HANDSHAKE_RESET);
	assert_string_equal(client.detail, "close_notify");
}

/* ---- the queue ---------------------------------------------------------------------------- */

static void queue_is_drained(void **state)
{
	struct kmtls_verify verify = { .reason = KMTLS_REASON_DENIED, .detail = "no" };
	char detail[KMTLS_VERIFY_DETAIL];

	open_sides();
	ERR_raise(ERR_LIB_EC, ERR_R_INTERNAL_ERROR);
	ERR_raise(ERR_LIB_SSL, SSL_R_UNEXPECTED_EOF_WHILE_READING);
	ERR_raise(ERR_LIB_SSL, ERR_R_INTERNAL_ERROR);
	assert_int_equal(kmtls_verify_handshake_error(client.ssl, NULL, detail),
			 KMTLS_REASON_HANDSHAKE_RESET);
	assert_int_equal(ERR_peek_error(), 0);
	ERR_raise(ERR_LIB_SSL, ERR_R_INTERNAL_ERROR);
	assert_int_equal(kmtls_verify_handshake_error(client.ssl, &verify, detail),
			 KMTLS_REASON_DENIED);
	assert_string_equal(detail, "no");
	assert_int_equal(ERR_peek_error(), 0);
}

/* Each alert number in a state where nothing is finished. */
static void alerts(void **state)
{
	static const struct {
		int alert;
		enum kmtls_reason reason;
	} table[] = {
		{ 10, KMTLS_REASON_REFUSED_BY_PEER },
		{ 40, KMTLS_REASON_REFUSED_BY_PEER },
		{ 42, KMTLS_REASON_REFUSED_CERTIFICATE },
		{ 43, KMTLS_REASON_REFUSED_CERTIFICATE },
		{ 44, KMTLS_REASON_REFUSED_CERTIFICATE },
		{ 45, KMTLS_REASON_REFUSED_EXPIRED },
		{ 46, KMTLS_REASON_REFUSED_CERTIFICATE },
		{ 48, KMTLS_REASON_REFUSED_UNKNOWN_CA },
		{ 49, KMTLS_REASON_REFUSED_DENIED },
		{ 51, KMTLS_REASON_REFUSED_BY_PEER },
		{ 70, KMTLS_REASON_NOT_MESH },
		{ 80, KMTLS_REASON_REFUSED_BY_PEER },
		{ 112, KMTLS_REASON_REFUSED_BY_APPLICATION },
		{ 116, KMTLS_REASON_REFUSED_BY_PEER },
		{ 120, KMTLS_REASON_NOT_MESH },
		{ 255, KMTLS_REASON_REFUSED_BY_PEER },
	};
	char detail[KMTLS_VERIFY_DETAIL];
	size_t i;

	open_sides();
	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		ERR_raise(ERR_LIB_SSL, SSL_AD_REASON_OFFSET + table[i].alert);
		assert_int_equal(kmtls_verify_handshake_error(client.ssl, NULL, detail),
				 table[i].reason);
		assert_non_null(strstr(detail, "alert"));
	}
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
#define TEST_WITH(name, function, state)                         \
	{                                                        \
		name, function, setup, teardown, (void *)(state) \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_client_certificate),
		TEST(client_without_alpn),
		TEST_WITH("client with ALPN h2", client_with_other_alpn, "\2h2"),
		TEST_WITH("client with ALPN kmtls/2", client_with_other_alpn, "\7kmtls/2"),
		TEST_WITH("client with ALPN kmtls/11", client_with_other_alpn, "\10kmtls/11"),
		TEST_WITH("client with ALPN kmtls/", client_with_other_alpn, "\6kmtls/"),
		TEST(client_with_more_alpn),
		TEST(server_without_alpn),
		TEST(server_with_other_alpn),
		TEST(client_of_tls12),
		TEST_WITH("client of TLS 1.2 with our ALPN", client_of_tls12, "\7kmtls/1"),
		TEST(server_of_tls12),
		TEST(no_shared_group),
		TEST_WITH("HTTP client", plain_client, BYTES("GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
		TEST_WITH("CONNECT client", plain_client, BYTES("CONNECT a:443 HTTP/1.1\r\n\r\n")),
		TEST_WITH("SSH client", plain_client, BYTES("SSH-2.0-OpenSSH_9.2p1\r\n")),
		TEST_WITH("malformed ClientHello", plain_client,
			  BYTES("\x16\x03\x01\x00\x08\x01\x00\x00\x04\xff\xff\xff\xff")),
		TEST_WITH("record too long", plain_client,
			  BYTES("\x16\x03\x01\xff\xff" PADDING_46)),
		TEST_WITH("SSLv2 ClientHello", plain_client,
			  BYTES("\x80\x2e\x01\x03\x01" PADDING_46)),
		TEST_WITH("data record first", plain_client,
			  BYTES("\x17\x03\x03\x00\x2e" PADDING_46)),
		TEST_WITH("garbage client", plain_client,
			  BYTES("\xde\xad\xbe\xef\xde\xad\xbe\xef\xde\xad\xbe\xef")),
		TEST_WITH("HTTP server", plain_server, BYTES("HTTP/1.1 400 Bad Request\r\n\r\n")),
		TEST_WITH("SSH server", plain_server, BYTES("SSH-2.0-OpenSSH_9.2p1\r\n")),
		TEST_WITH("SMTP server", plain_server, BYTES("220 mail.example.org ESMTP\r\n")),
		TEST_WITH("malformed ServerHello", plain_server,
			  BYTES("\x16\x03\x01\x00\x08\x01\x00\x00\x04\xff\xff\xff\xff")),
		TEST_WITH("garbage server", plain_server,
			  BYTES("\xde\xad\xbe\xef\xde\xad\xbe\xef\xde\xad\xbe\xef")),
		TEST(garbage_later),
		TEST(server_gone_at_once),
		TEST(client_gone_at_once),
		TEST(client_gone_in_the_middle),
		TEST(server_gone_before_the_ticket),
		TEST(close_notify_instead_of_the_ticket),
		TEST(queue_is_drained),
		TEST(alerts),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("verify_error", tests, setup_group, teardown_group);
}
