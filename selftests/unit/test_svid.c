/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_svid.c - what makes an SVID, its reference count, and what every handshake from its
 * contexts has in common: version, ALPN, the one ticket, no resumption, both secrets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include "certificates.h"
#include "hash.h"
#include "svid.h"
#include "tls.h"

static struct test_certificate root, client_leaf, server_leaf;
static STACK_OF(X509) * bundle;
static struct kmtls_svid *client_svid, *server_svid;

static struct kmtls_svid *svid_of(const struct test_certificate *leaf)
{
	struct kmtls_svid *svid = NULL;
	const char *why;

	assert_int_equal(kmtls_svid_new(leaf->certificate, NULL, leaf->key, bundle, &svid, &why),
			 0);
	return svid;
}

static int setup(void **state)
{
	test_trio_make(&root, &client_leaf, &server_leaf);
	bundle = sk_X509_new_null();
	sk_X509_push(bundle, root.certificate);
	client_svid = svid_of(&client_leaf);
	server_svid = svid_of(&server_leaf);
	return 0;
}

static int teardown(void **state)
{
	kmtls_svid_put(client_svid);
	kmtls_svid_put(server_svid);
	kmtls_svid_put(NULL);
	sk_X509_free(bundle);
	test_trio_free(&root, &client_leaf, &server_leaf);
	return 0;
}

static void fields(void **state)
{
	time_t now = time(NULL);

	assert_string_equal(client_svid->id, TEST_CLIENT_ID);
	assert_int_equal(client_svid->id_hash, kmtls_hash_text(TEST_CLIENT_ID));
	assert_in_range(client_svid->not_before, now - 360, now - 300);
	assert_in_range(client_svid->not_after, now + 3540, now + 3600);
	assert_non_null(client_svid->client);
	assert_non_null(client_svid->server);
}

/* What is remembered of handshakes is an object's: the same leaf under another bundle has nothing of it. */
static void numbers(void **state)
{
	STACK_OF(X509) *other = sk_X509_new_null();
	struct kmtls_svid *same = svid_of(&client_leaf), *svid = NULL;
	const char *why;

	sk_X509_push(other, root.certificate);
	sk_X509_push(other, server_leaf.certificate);
	assert_int_equal(
		kmtls_svid_new(client_leaf.certificate, NULL, client_leaf.key, other, &svid, &why),
		0);
	assert_int_not_equal(svid->number, client_svid->number);
	assert_int_not_equal(svid->number, same->number);
	assert_int_not_equal(same->number, client_svid->number);
	kmtls_svid_put(svid);
	kmtls_svid_put(same);
	sk_X509_free(other);
}

static void refuses(const struct test_spec *spec, const char *wanted)
{
	struct test_certificate leaf = test_certificate_make(spec, &root);
	struct kmtls_svid *svid = NULL;
	const char *why = NULL;

	assert_int_equal(kmtls_svid_new(leaf.certificate, NULL, leaf.key, bundle, &svid, &why),
			 -EINVAL);
	assert_string_equal(why, wanted);
	assert_null(svid);
	test_certificate_free(&leaf);
}

static void bad_leaves(void **state)
{
	static const struct {
		struct test_spec spec;
		const char *why;
	} table[] = {
		{ { .dns = "a" }, "the certificate has no URI SAN" },
		{ { .id = TEST_CLIENT_ID, .second_id = TEST_SERVER_ID },
		  "the certificate has several URI SANs" },
		{ { .id = "spiffe://example.org" },
		  "the certificate's URI SAN is not a SPIFFE ID with a path" },
		{ { .id = TEST_CLIENT_ID, .constraints = "CA:TRUE" }, "the certificate is a CA" },
		{ { .id = TEST_CLIENT_ID, .key_usage = "keyCertSign" },
		  "the certificate's key usage lacks digitalSignature or may sign certificates" },
		{ { .id = TEST_CLIENT_ID, .extended_key_usage = "clientAuth" },
		  "the certificate's extended key usage lacks serverAuth or clientAuth" },
		{ { .id = TEST_CLIENT_ID, .extended_key_usage = "serverAuth" },
		  "the certificate's extended key usage lacks serverAuth or clientAuth" },
		{ { .id = TEST_CLIENT_ID, .algorithm = "RSA1024" },
		  "the key is not EC P-256 or P-384, nor RSA of 2048 bits or more" },
	};
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		refuses(&table[i].spec, table[i].why);
}

static void bad_key_and_bundle(void **state)
{
	STACK_OF(X509) *empty = sk_X509_new_null();
	struct kmtls_svid *svid = NULL;
	const char *why;

	assert_int_equal(
		kmtls_svid_new(client_leaf.certificate, NULL, server_leaf.key, bundle, &svid, &why),
		-EINVAL);
	assert_string_equal(why, "the key is not that of the certificate");
	assert_int_equal(
		kmtls_svid_new(client_leaf.certificate, NULL, client_leaf.key, empty, &svid, &why),
		-EINVAL);
	assert_string_equal(why, "the trust bundle is empty");
	assert_null(svid);
	sk_X509_free(empty);
}

/* An SSL outlives the SVID it was made from: rotation under a handshake. */
static void references(void **state)
{
	struct kmtls_svid *client = svid_of(&client_leaf), *server = svid_of(&server_leaf);
	struct test_side a, b;

	assert_ptr_equal(kmtls_svid_get(client), client);
	kmtls_svid_put(client);
	test_sides_open(&a, client->client, &b, server->server);
	kmtls_svid_put(client);
	kmtls_svid_put(server);
	test_sides_run(&a, &b);
	assert_true(a.ready && b.ready);
	test_side_close(&a);
	test_side_close(&b);
}

static void handshake(void **state)
{
	struct test_side client, server;

	test_sides_open(&client, client_svid->client, &server, server_svid->server);
	test_sides_run(&client, &server);
	assert_true(client.ready && server.ready);
	assert_int_equal(SSL_version(client.ssl), TLS1_3_VERSION);
	assert_true(kmtls_tls_alpn_ok(client.ssl) && kmtls_tls_alpn_ok(server.ssl));
	assert_string_equal(client.verify.peer_id, TEST_SERVER_ID);
	assert_string_equal(server.verify.peer_id, TEST_CLIENT_ID);
	assert_int_equal(client.secrets.client.length, 32);
	assert_memory_equal(&client.secrets, &server.secrets, sizeof(client.secrets));
	assert_memory_not_equal(&client.secrets.client, &client.secrets.server,
				sizeof(client.secrets.client));
	assert_int_equal(SSL_has_pending(client.ssl), 0);
	assert_int_equal(SSL_has_pending(server.ssl), 0);
	test_side_close(&client);
	test_side_close(&server);
}

static void every_cipher(void **state)
{
	static const char *const suites[] = {
		"TLS_AES_128_GCM_SHA256",
		"TLS_AES_256_GCM_SHA384",
		"TLS_CHACHA20_POLY1305_SHA256",
	};
	struct test_side client, server;
	int i;

	for (i = 0; i < 3; i++) {
		test_sides_open(&client, client_svid->client, &server, server_svid->server);
		SSL_set_ciphersuites(client.ssl, suites[i]);
		test_sides_run(&client, &server);
		assert_true(client.ready && server.ready);
		assert_int_equal(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(client.ssl)),
				 0x1301 + i);
		assert_int_equal(client.secrets.server.length, i == 1 ? 48 : 32);
		assert_memory_equal(&client.secrets, &server.secrets, sizeof(client.secrets));
		test_side_close(&client);
		test_side_close(&server);
	}
}

/* The client is not told "accepted" by the handshake as such, only by the ticket. */
static void no_ticket_by_itself(void **state)
{
	struct test_side client, server;
	int i;

	test_sides_open(&client, client_svid->client, &server, server_svid->server);
	for (i = 0; i < 4; i++) {
		test_side_step(&client);
		if (!SSL_is_init_finished(server.ssl))
			SSL_do_handshake(server.ssl);
	}
	assert_true(SSL_is_init_finished(client.ssl) && SSL_is_init_finished(server.ssl));
	assert_int_equal(kmtls_tls_tickets_seen(client.ssl), 0);
	assert_int_equal(BIO_pending(SSL_get_rbio(client.ssl)), 0);
	assert_false(client.ready);
	test_side_step(&server);
	test_side_step(&client);
	assert_true(client.ready);
	assert_int_equal(kmtls_tls_tickets_seen(client.ssl), 1);
	test_side_close(&client);
	test_side_close(&server);
}

static void second_ticket_is_counted(void **state)
{
	struct test_side client, server;
	char byte;

	test_sides_open(&client, client_svid->client, &server, server_svid->server);
	test_sides_run(&client, &server);
	SSL_new_session_ticket(server.ssl);
	assert_int_equal(SSL_do_handshake(server.ssl), 1);
	assert_int_equal(SSL_read(client.ssl, &byte, 1), -1);
	assert_int_equal(kmtls_tls_tickets_seen(client.ssl), 2);
	test_side_close(&client);
	test_side_close(&server);
}

/* What follows the ticket stays in the socket (here: the BIO) for kernel TLS. */
static void one_record_at_a_time(void **state)
{
	struct test_side client, server;
	int tries;

	test_sides_open(&client, client_svid->client, &server, server_svid->server);
	for (tries = 0; !server.ready && tries < 10; tries++) {
		test_side_step(&client);
		test_side_step(&server);
	}
	assert_true(server.ready);
	assert_false(client.ready);
	assert_int_equal(SSL_write(server.ssl, "hello", 5), 5);
	test_side_step(&client);
	assert_true(client.ready);
	/* 5 of header, 5 of data, 1 of type, 16 of tag */
	assert_int_equal(BIO_pending(SSL_get_rbio(client.ssl)), 27);
	assert_int_equal(SSL_has_pending(client.ssl), 0);
	test_side_close(&client);
	test_side_close(&server);
}

static SSL_SESSION *kept_session;

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	kept_session = session;
	return 1;
}

static void no_resumption(void **state)
{
	struct test_side client, server;

	/* A client that is not ours keeps the ticket and comes back with it. */
	SSL_CTX *context =
		test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, root.certificate);

	SSL_CTX_sess_set_new_cb(context, keep_session);
	test_sides_open(&client, context, &server, server_svid->server);
	test_sides_run(&client, &server);
	assert_non_null(kept_session);
	/* Without it OpenSSL takes the end for an accident and spoils the session. */
	SSL_set_shutdown(client.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	assert_int_equal(SSL_SESSION_is_resumable(kept_session), 1);
	test_side_close(&client);
	test_side_close(&server);

	test_sides_open(&client, context, &server, server_svid->server);
	assert_int_equal(SSL_set_session(client.ssl, kept_session), 1);
	SSL_SESSION_free(kept_session);
	test_sides_run(&client, &server);
	assert_true(server.ready);
	assert_int_equal(SSL_session_reused(server.ssl), 0);
	assert_string_equal(server.verify.peer_id, TEST_CLIENT_ID);
	test_side_close(&client);
	test_side_close(&server);
	SSL_SESSION_free(kept_session);
	SSL_CTX_free(context);
}

static void sends_leaf_and_chain_only(void **state)
{
	struct test_certificate intermediate =
		test_certificate_make(&test_intermediate_spec, &root);
	const struct test_spec spec = { .id = TEST_SERVER_ID };
	struct test_certificate leaf = test_certificate_make(&spec, &intermediate);
	STACK_OF(X509) *chain = sk_X509_new_null();
	struct kmtls_svid *svid;
	struct test_side client, server;
	const char *why;

	sk_X509_push(chain, intermediate.certificate);
	assert_int_equal(kmtls_svid_new(leaf.certificate, chain, leaf.key, bundle, &svid, &why), 0);
	sk_X509_free(chain);
	test_sides_open(&client, client_svid->client, &server, svid->server);
	test_sides_run(&client, &server);
	assert_true(client.ready && server.ready);
	/* On the client this is what came, without the root. */
	assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(client.ssl)), 2);
	assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(server.ssl)), 0);
	test_side_close(&client);
	test_side_close(&server);
	kmtls_svid_put(svid);
	test_certificate_free(&leaf);
	test_certificate_free(&intermediate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields),
		cmocka_unit_test(numbers),
		cmocka_unit_test(bad_leaves),
		cmocka_unit_test(bad_key_and_bundle),
		cmocka_unit_test(references),
		cmocka_unit_test(handshake),
		cmocka_unit_test(every_cipher),
		cmocka_unit_test(no_ticket_by_itself),
		cmocka_unit_test(second_ticket_is_counted),
		cmocka_unit_test(one_record_at_a_time),
		cmocka_unit_test(no_resumption),
		cmocka_unit_test(sends_leaf_and_chain_only),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("svid", tests, setup, teardown);
}
