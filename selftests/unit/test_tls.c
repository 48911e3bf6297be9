/* SPDX-License-Identifier: Apache-2.0 */
/* test_tls.c - what two contexts agree on: the ALPN variant with rekey, and the cipher. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <string.h>

#include "certificates.h"
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

static int teardown(void **state)
{
	test_side_close(&client);
	test_side_close(&server);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
	client_context = server_context = NULL;
	kmtls_tls_configure(&(struct kmtls_tls_options){});
	return 0;
}

static void make_client(const struct kmtls_tls_options *options)
{
	kmtls_tls_configure(options);
	client_context = test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, root.certificate);
}

static void make_server(const struct kmtls_tls_options *options)
{
	kmtls_tls_configure(options);
	server_context = test_context_make(KMTLS_ROLE_SERVER, &server_leaf, NULL, root.certificate);
}

static void run_sides(void)
{
	test_sides_open(&client, client_context, &server, server_context);
	test_sides_run(&client, &server);
}

static void assert_agreed(bool agreed)
{
	assert_true(client.ready && server.ready);
	assert_true(kmtls_tls_alpn_ok(client.ssl) && kmtls_tls_alpn_ok(server.ssl));
	assert_int_equal(kmtls_tls_rekey_agreed(client.ssl), agreed);
	assert_int_equal(kmtls_tls_rekey_agreed(server.ssl), agreed);
}

static const struct kmtls_tls_options with = { .rekey = true }, without = {};

static void both_can(void **state)
{
	make_client(&with);
	make_server(&with);
	run_sides();
	assert_agreed(true);
}

static void client_cannot(void **state)
{
	make_client(&without);
	make_server(&with);
	run_sides();
	assert_agreed(false);
}

static void server_cannot(void **state)
{
	make_client(&with);
	make_server(&without);
	run_sides();
	assert_agreed(false);
}

/* A client that offers nothing but the variant. */
static void only_the_variant(void **state)
{
	static const unsigned char list[] = "\15" KMTLS_ALPN_REKEY;
	bool can = *state;

	make_client(&with);
	SSL_CTX_set_alpn_protos(client_context, list, sizeof(list) - 1);
	make_server(can ? &with : &without);
	run_sides();
	if (can)
		assert_agreed(true);
	else
		assert_int_equal(server.reason, KMTLS_REASON_NOT_MESH);
}

static int choose_variant(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_length,
			  const unsigned char *list, unsigned length, void *unused)
{
	*ret_name = (const unsigned char *)KMTLS_ALPN_REKEY;
	*ret_length = sizeof(KMTLS_ALPN_REKEY) - 1;
	return SSL_TLSEXT_ERR_OK;
}

/* A server that selects what was not offered. */
static void unasked(void **state)
{
	make_client(&without);
	make_server(&without);
	SSL_CTX_set_alpn_select_cb(server_context, choose_variant, NULL);
	run_sides();
	assert_false(client.ready);
	/* Newer versions of OpenSSL notice before we do. */
	if (client.reason != KMTLS_REASON_HANDSHAKE_FAILED)
		assert_int_equal(client.reason, KMTLS_REASON_NOT_MESH);
}

static void ciphers(void **state)
{
	static const struct {
		bool client, server;
		__u16 cipher;
	} rows[] = { { false, false, 0x1301 },
		     { true, false, 0x1303 },
		     { false, true, 0x1303 },
		     { true, true, 0x1303 } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		make_client(&(struct kmtls_tls_options){ .prefer_chacha20 = rows[i].client });
		make_server(&(struct kmtls_tls_options){ .prefer_chacha20 = rows[i].server });
		run_sides();
		assert_true(client.ready && server.ready);
		assert_int_equal(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(client.ssl)),
				 rows[i].cipher);
		teardown(NULL);
	}
}

#define TEST(function) cmocka_unit_test_teardown(function, teardown)
#define TEST_WITH(name, function, state)                        \
	{                                                       \
		name, function, NULL, teardown, (void *)(state) \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(both_can),
		TEST(client_cannot),
		TEST(server_cannot),
		TEST_WITH("only the variant, server can", only_the_variant, 1),
		TEST_WITH("only the variant, server cannot", only_the_variant, 0),
		TEST(unasked),
		TEST(ciphers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("tls", tests, setup_group, teardown_group);
}
