/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_resumption.c - a handshake stands on an earlier one, and on none that does not hold any more:
 * with (EC)DHE; and all of it once more where that is also possible without.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "certificates.h"
#include "resumption.h"
#include "revocation.h"

#define CLIENT_SVID 1
#define SERVER_SVID 2

static struct test_certificate root, client_leaf, server_leaf;
static SSL_CTX *client_context, *server_context;
static struct test_side client, server;
static struct kmtls_resumption *here, *there; /* of the client's node, and of the server's */
static struct kmtls_resumption_party client_party, server_party;
static bool with_symmetric;

static int setup_group(void **state)
{
	test_trio_make(&root, &client_leaf, &server_leaf);
	client_context = test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, root.certificate);
	server_context = test_context_make(KMTLS_ROLE_SERVER, &server_leaf, NULL, root.certificate);
	return 0;
}

static int teardown_group(void **state)
{
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
	test_trio_free(&root, &client_leaf, &server_leaf);
	return 0;
}

/* ---- one handshake after the other ---- */

static struct kmtls_resumption_party make_party(struct kmtls_resumption *resumption, __u64 svid)
{
	return (struct kmtls_resumption_party){
		.resumption = resumption,
		.svid = svid,
		.not_after = time(NULL) + 1000,
		.policy = 5,
		.seconds = 100,
		.symmetric = with_symmetric,
	};
}

static int setup(void **state)
{
	assert_int_equal(kmtls_resumption_open(&here), 0);
	assert_int_equal(kmtls_resumption_open(&there), 0);
	client_party = make_party(here, CLIENT_SVID);
	server_party = make_party(there, SERVER_SVID);
	client_party.peer.bytes[15] = 1;
	return 0;
}

static void open_sides(void)
{
	test_sides_open(&client, client_context, &server, server_context);
	client_party.verify = &client.verify;
	server_party.verify = &server.verify;
	client_party.revocations = server_party.revocations = kmtls_revocation_generation();
	assert_int_equal(kmtls_resumption_attach(client.ssl, &client_party), 0);
	assert_int_equal(kmtls_resumption_attach(server.ssl, &server_party), 0);
}

static void close_sides(bool failed)
{
	test_side_close(&client);
	test_side_close(&server);
	kmtls_resumption_leave(&client_party, failed);
	kmtls_resumption_leave(&server_party, failed);
}

static int teardown(void **state)
{
	close_sides(false);
	kmtls_resumption_close(here);
	kmtls_resumption_close(there);
	return 0;
}

static void assert_same(const struct kmtls_secret *a, const struct kmtls_secret *b)
{
	assert_int_not_equal(a->length, 0);
	assert_int_equal(a->length, b->length);
	assert_memory_equal(a->bytes, b->bytes, a->length);
}

/* Handshakes, and both remember it. */
static void handshake(bool resumed)
{
	open_sides();
	test_sides_run(&client, &server);
	assert_true(client.ready && server.ready);
	assert_int_equal(SSL_session_reused(client.ssl), resumed);
	assert_int_equal(SSL_session_reused(server.ssl), resumed);
	assert_true(kmtls_resumption_adopt(client.ssl, &client_party));
	assert_true(kmtls_resumption_adopt(server.ssl, &server_party));
	/* Whichever it was, the same is known of the peer. */
	assert_string_equal(client.verify.peer_id, TEST_SERVER_ID);
	assert_string_equal(server.verify.peer_id, TEST_CLIENT_ID);
	assert_int_not_equal(client.verify.peer_not_after, 0);
	assert_int_not_equal(server.verify.peer_certificate, 0);
	/* There are none: they stand for some that were. */
	if (!resumed)
		client.verify.peer_issuers[0] = 77;
	assert_int_equal(client.verify.peer_issuers[0], 77);
	assert_same(&client.secrets.client, &server.secrets.client);
	assert_same(&client.secrets.server, &server.secrets.server);
	kmtls_resumption_remember(client.ssl, &client_party);
	kmtls_resumption_remember(server.ssl, &server_party);
}

/* Both find the same keys without (EC)DHE, and know by them whom they talk to. */
static bool is_symmetric(void)
{
	const struct kmtls_psk_keys *offered, *found = NULL;
	const unsigned char *identity;

	open_sides();
	offered = kmtls_resumption_offer_symmetric(&client_party, &identity);
	if (offered)
		found = kmtls_resumption_find_symmetric(&server_party, identity,
							KMTLS_RESUMPTION_SYMMETRIC_IDENTITY);
	if (found) {
		assert_memory_equal(offered, found, sizeof(*found));
		assert_int_equal(found->master.length, KMTLS_PSK_HASH);
		kmtls_resumption_adopt_symmetric(&client_party);
		kmtls_resumption_adopt_symmetric(&server_party);
		assert_string_equal(client.verify.peer_id, TEST_SERVER_ID);
		assert_string_equal(server.verify.peer_id, TEST_CLIENT_ID);
		assert_int_not_equal(client.verify.peer_not_after, 0);
		assert_int_not_equal(server.verify.peer_certificate, 0);
		assert_int_equal(client.verify.peer_issuers[0], 77);
	}
	close_sides(false);
	return found;
}

static void full(void)
{
	assert_false(is_symmetric());
	handshake(false);
	close_sides(false);
}

static void resumed(void)
{
	assert_int_equal(is_symmetric(), with_symmetric);
	handshake(true);
	close_sides(false);
}

/* ---- tests ---- */

static void again_and_again(void **state)
{
	struct kmtls_secret before;

	full();
	handshake(true);
	before = client.secrets.client;
	close_sides(false);
	handshake(true);
	/* Fresh keys, by (EC)DHE. */
	assert_memory_not_equal(before.bytes, client.secrets.client.bytes, before.length);
	assert_null(SSL_get0_peer_certificate(client.ssl));
	assert_null(SSL_get0_peer_certificate(server.ssl));
}

static void svid_of_client(void **state)
{
	full();
	client_party.svid++;
	full();
	resumed();
}

static void svid_of_server(void **state)
{
	full();
	server_party.svid++;
	full();
	resumed();
}

static void address(void **state)
{
	full();
	client_party.peer.bytes[15]++;
	full();
	resumed();
	client_party.peer.bytes[15]--;
	resumed();
}

static void policy(void **state)
{
	struct kmtls_resumption_party *party = *state ? &client_party : &server_party;

	setup(NULL);
	full();
	party->policy++;
	full();
	resumed();
}

static void revoke_hash(__u64 hash)
{
	__u64 *hashes = calloc(1, sizeof(*hashes));

	assert_non_null(hashes);
	*hashes = hash;
	assert_true(kmtls_revocation_replace(hashes, 1));
}

static void revocation(void **state)
{
	full();
	revoke_hash(77);
	full();
	resumed();
	assert_true(kmtls_revocation_replace(NULL, 0));
	full();
}

/* Who has looked at a certificate before that may have missed it. */
static void revocation_meanwhile(void **state)
{
	assert_false(is_symmetric());
	open_sides();
	revoke_hash(77);
	test_sides_run(&client, &server);
	assert_true(client.ready && server.ready);
	kmtls_resumption_remember(client.ssl, &client_party);
	kmtls_resumption_remember(server.ssl, &server_party);
	close_sides(false);
	handshake(false);
	assert_true(kmtls_revocation_replace(NULL, 0));
}

static void time_of(void **state)
{
	struct kmtls_resumption_party *party = *state ? &client_party : &server_party;

	setup(NULL);
	full();
	sleep(1);
	resumed();
	party->seconds = 1; /* since the full one */
	full();
}

static void svid_expires(void **state)
{
	struct kmtls_resumption_party *party = *state ? &client_party : &server_party;

	setup(NULL);
	party->not_after = time(NULL);
	full();
	while (time(NULL) <= party->not_after)
		usleep(100000);
	full();
}

static void switched_off(void **state)
{
	struct kmtls_resumption_party *party = *state ? &client_party : &server_party;

	setup(NULL);
	full();
	party->seconds = 0;
	full();
	party->seconds = 100;
	/* The client knows only the last one, which the server has not remembered. */
	if (party == &server_party)
		full();
	resumed();
	kmtls_resumption_clear(party->resumption);
	full();
}

/* The peers map promises somebody else now: nothing is offered, and the certificate says why not. */
static void promised(void **state)
{
	full();
	open_sides();
	client.verify.expected_id = TEST_SERVER_ID "2";
	test_sides_run(&client, &server);
	assert_int_equal(client.reason, KMTLS_REASON_WRONG_PEER);
	close_sides(true);
	resumed(); /* and it is he again */
}

static int other_key(SSL *ssl, const EVP_MD *digest, const unsigned char **ret_identity,
		     size_t *ret_length, SSL_SESSION **ret_session)
{
	static const unsigned char key[32] = { 1 };
	int result = kmtls_resumption_offer(ssl, digest, ret_identity, ret_length, ret_session);

	assert_non_null(*ret_session);
	SSL_SESSION_set1_master_key(*ret_session, key, sizeof(key));
	return result;
}

/* Somebody knows the identity and not the key. */
static void wrong_key(void **state)
{
	full();
	SSL_CTX_set_psk_use_session_callback(client_context, other_key);
	open_sides();
	test_sides_run(&client, &server);
	SSL_CTX_set_psk_use_session_callback(client_context, kmtls_resumption_offer);
	assert_true(server.reason && client.reason);
	assert_false(server.verify.peer_id[0]);
	close_sides(true);
	full(); /* the client does not try it again */
	resumed();
}

static void room(void **state)
{
	handshake(false);
	for (unsigned i = 2; i <= KMTLS_RESUMPTION_ROOM + 1; i++) {
		memcpy(client_party.peer.bytes, &i, sizeof(i));
		kmtls_resumption_remember(client.ssl, &client_party);
	}
	close_sides(false);
	resumed(); /* the last */
	client_party.peer = (struct kmtls_address){ .bytes[15] = 1 };
	full(); /* the first had to go */
}

/* What one side does not want, or has not taken, the other has for nothing. */
static void symmetric_at_both(void **state)
{
	struct kmtls_resumption_party *party = *state ? &client_party : &server_party;

	setup(NULL);
	party->symmetric = false;
	full();
	party->symmetric = true;
	assert_false(is_symmetric()); /* there are no keys */
	handshake(true);
	close_sides(false);
	kmtls_resumption_clear(here);
	full();
	assert_true(is_symmetric());
	party->symmetric = false;
	assert_false(is_symmetric());
	handshake(true);
	close_sides(false);
}

/* The server has forgotten it, or will not: once is enough until the next full handshake. */
static void symmetric_refused(void **state)
{
	const unsigned char *identity;

	full();
	resumed();
	open_sides();
	assert_non_null(kmtls_resumption_offer_symmetric(&client_party, &identity));
	kmtls_resumption_refuse_symmetric(&client_party);
	close_sides(false);
	assert_false(is_symmetric());
	handshake(true);
	close_sides(false);
	kmtls_resumption_clear(here);
	full();
	resumed();
}

/* Half an identity is for one kind of handshake, a whole one for the other. */
static void symmetric_identity(void **state)
{
	const unsigned char *identity;

	full();
	open_sides();
	assert_non_null(kmtls_resumption_offer_symmetric(&client_party, &identity));
	for (size_t length = 0; length <= 32; length++)
		assert_int_equal(kmtls_resumption_find_symmetric(&server_party, identity, length) !=
					 NULL,
				 length == KMTLS_RESUMPTION_SYMMETRIC_IDENTITY);
}

/* Who has agreed on another cipher does not get this one. */
static void symmetric_cipher(void **state)
{
	SSL_CTX_set_ciphersuites(client_context, "TLS_AES_256_GCM_SHA384");
	full();
	assert_false(is_symmetric());
	SSL_CTX_set_ciphersuites(client_context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
#define TEST_OF(name, function, state)                          \
	{                                                       \
		name, function, NULL, teardown, (void *)(state) \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(again_and_again),
		TEST(svid_of_client),
		TEST(svid_of_server),
		TEST(address),
		TEST_OF("policy, client", policy, 1),
		TEST_OF("policy, server", policy, 0),
		TEST(revocation),
		TEST(revocation_meanwhile),
		TEST_OF("time, client", time_of, 1),
		TEST_OF("time, server", time_of, 0),
		TEST_OF("SVID expires, client", svid_expires, 1),
		TEST_OF("SVID expires, server", svid_expires, 0),
		TEST_OF("off, client", switched_off, 1),
		TEST_OF("off, server", switched_off, 0),
		TEST(promised),
		TEST(wrong_key),
		TEST(room),
	};
	const struct CMUnitTest symmetric_tests[] = {
		TEST_OF("symmetric, off at the client", symmetric_at_both, 1),
		TEST_OF("symmetric, off at the server", symmetric_at_both, 0),
		TEST(symmetric_refused),
		TEST(symmetric_identity),
		TEST(symmetric_cipher),
	};
	int failed;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests_name("resumption", tests, setup_group, teardown_group);
	with_symmetric = true;
	failed += cmocka_run_group_tests_name("resumption, symmetric", tests, setup_group,
					      teardown_group);
	failed += cmocka_run_group_tests_name("symmetric", symmetric_tests, setup_group,
					      teardown_group);
	return failed;
}
