/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verify_policy.c - certificates that are right, of a peer that is not the promised one; and
 * what the callback says about a peer it accepts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

#include "certificates.h"
#include "reason.h"
#include "tls.h"

#define OTHER_ID "spiffe://example.org/other"

static struct test_certificate root, client_leaf, server_leaf;

static void assert_reason(const struct test_side *side, enum kmtls_reason wanted)
{
	if (side->reason != wanted)
		print_message("# got %s (%s), wanted %s\n", kmtls_reason_name(side->reason),
			      side->detail, kmtls_reason_name(wanted));
	assert_int_equal(side->reason, wanted);
	assert_int_equal(side->ready, wanted == KMTLS_REASON_NONE);
	if (wanted)
		assert_true(side->detail[0]);
}

static void open_good(struct test_side *client, struct test_side *server)
{
	SSL_CTX *client_context =
		test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, root.certificate);
	SSL_CTX *server_context =
		test_context_make(KMTLS_ROLE_SERVER, &server_leaf, NULL, root.certificate);

	test_sides_open(client, client_context, server, server_context);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
}

static void close_both(struct test_side *client, struct test_side *server)
{
	test_side_close(client);
	test_side_close(server);
}

static void wrong_peer(void **state)
{
	struct test_side client, server;

	open_good(&client, &server);
	client.verify.expected_id = *state;
	test_sides_run(&client, &server);
	assert_reason(&client, KMTLS_REASON_WRONG_PEER);
	assert_reason(&server, KMTLS_REASON_REFUSED_CERTIFICATE);
	assert_string_equal(client.verify.peer_id, TEST_SERVER_ID);
	close_both(&client, &server);
}

struct promise {
	unsigned match;
	const char *text;
	bool kept; /* by spiffe://example.org/ns/shop/sa/db */
};

static void any_of(void **state)
{
	const struct test_spec spec = { .id = "spiffe://example.org/ns/shop/sa/db" };
	struct test_certificate leaf = test_certificate_make(&spec, &root);
	SSL_CTX *client_context =
		test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, root.certificate);
	SSL_CTX *server_context =
		test_context_make(KMTLS_ROLE_SERVER, &leaf, NULL, root.certificate);
	const struct promise *promise = *state;
	struct test_side client, server;

	test_sides_open(&client, client_context, &server, server_context);
	client.verify.expected_id = promise->text;
	client.verify.expected_match = promise->match;
	test_sides_run(&client, &server);
	assert_reason(&client, promise->kept ? KMTLS_REASON_NONE : KMTLS_REASON_WRONG_PEER);
	assert_reason(&server,
		      promise->kept ? KMTLS_REASON_NONE : KMTLS_REASON_REFUSED_CERTIFICATE);
	/* Who it is in truth, not what was promised. */
	assert_string_equal(client.verify.peer_id, spec.id);
	close_both(&client, &server);
	test_certificate_free(&leaf);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
}

static struct promise promises[] = {
	{ KMTLS_MATCH_NAMESPACE, "spiffe://example.org/ns/shop", true },
	{ KMTLS_MATCH_NAMESPACE, "spiffe://example.org/ns/sho", false },
	{ KMTLS_MATCH_TRUST_DOMAIN, "spiffe://example.org", true },
	{ KMTLS_MATCH_TRUST_DOMAIN, "spiffe://example.com", false },
	{ 0, "spiffe://example.org/ns/shop/sa/db", false },
	{ 4, "spiffe://example.org/ns/shop/sa/db", false },
};

static void accepted(void **state)
{
	struct test_side client, server;

	open_good(&client, &server);
	test_sides_run(&client, &server);
	assert_reason(&server, KMTLS_REASON_NONE);
	assert_reason(&client, KMTLS_REASON_NONE);
	assert_string_equal(server.verify.peer_id, TEST_CLIENT_ID);
	close_both(&client, &server);
}

static void nothing_attached(void **state)
{
	struct test_side client, server;

	open_good(&client, &server);
	kmtls_verify_attach(client.ssl, NULL);
	test_sides_run(&client, &server);
	assert_reason(&client, KMTLS_REASON_HANDSHAKE_FAILED);
	assert_reason(&server, KMTLS_REASON_REFUSED_BY_PEER);
	close_both(&client, &server);
}

static void ends_with_the_ca(void **state)
{
	struct test_spec spec = test_intermediate_spec, leaf_of = { .id = TEST_SERVER_ID };
	struct test_certificate intermediate, leaf;
	SSL_CTX *client_context, *server_context;
	struct test_side client, server;
	time_t end;

	spec.not_after = 600;
	intermediate = test_certificate_make(&spec, &root);
	leaf = test_certificate_make(&leaf_of, &intermediate);
	kmtls_verify_time(X509_get0_notAfter(intermediate.certificate), &end);
	client_context = test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, root.certificate);
	server_context = test_context_make(KMTLS_ROLE_SERVER, &leaf, intermediate.certificate,
					   root.certificate);
	test_sides_open(&client, client_context, &server, server_context);
	test_sides_run(&client, &server);
	assert_reason(&client, KMTLS_REASON_NONE);
	assert_int_equal(client.verify.peer_not_after, end);
	close_both(&client, &server);
	test_certificate_free(&leaf);
	test_certificate_free(&intermediate);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
}

/* A bundle that holds what is not a CA: its owner's mistake, not a reason to trust. */
static void root_without_basic_constraints(void **state)
{
	struct test_spec spec = test_root_spec;
	const struct test_spec leaf_of = { .id = TEST_SERVER_ID };
	struct test_certificate odd, leaf;
	SSL_CTX *client_context, *server_context;
	struct test_side client, server;

	spec.constraints = "";
	odd = test_certificate_make(&spec, NULL);
	leaf = test_certificate_make(&leaf_of, &odd);
	client_context = test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, odd.certificate);
	server_context = test_context_make(KMTLS_ROLE_SERVER, &leaf, NULL, root.certificate);
	test_sides_open(&client, client_context, &server, server_context);
	test_sides_run(&client, &server);
	assert_reason(&client, KMTLS_REASON_ISSUER_NOT_CA);
	assert_reason(&server, KMTLS_REASON_REFUSED_CERTIFICATE);
	close_both(&client, &server);
	test_certificate_free(&leaf);
	test_certificate_free(&odd);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
}

static int setup(void **state)
{
	test_trio_make(&root, &client_leaf, &server_leaf);
	return 0;
}

static int teardown(void **state)
{
	test_trio_free(&root, &client_leaf, &server_leaf);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "wrong peer: another id", wrong_peer, NULL, NULL, OTHER_ID },
		{ "wrong peer: a prefix is promised", wrong_peer, NULL, NULL,
		  "spiffe://example.org/serve" },
		{ "wrong peer: one byte more is promised", wrong_peer, NULL, NULL,
		  "spiffe://example.org/server1" },
		{ "wrong peer: another case is promised", wrong_peer, NULL, NULL,
		  "spiffe://example.org/Server" },
		{ "wrong peer: the trust domain is promised", wrong_peer, NULL, NULL,
		  "spiffe://example.org" },
		{ "wrong peer: nothing is promised", wrong_peer, NULL, NULL, NULL },
		{ "any of a namespace", any_of, NULL, NULL, &promises[0] },
		{ "any of another namespace", any_of, NULL, NULL, &promises[1] },
		{ "any of a trust domain", any_of, NULL, NULL, &promises[2] },
		{ "any of another trust domain", any_of, NULL, NULL, &promises[3] },
		{ "no match", any_of, NULL, NULL, &promises[4] },
		{ "a match this version does not know", any_of, NULL, NULL, &promises[5] },
		cmocka_unit_test(accepted),
		cmocka_unit_test(nothing_attached),
		cmocka_unit_test(ends_with_the_ca),
		cmocka_unit_test(root_without_basic_constraints),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("verify_policy", tests, setup, teardown);
}
