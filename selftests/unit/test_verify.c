/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verify.c - every rule of verify.h broken once, in a real handshake, by a bad server and
 * by a bad client: the reason on the side that verifies and the one the other side makes of
 * the alert. Each row is a test of its own, so that a rule that is lost has a name.
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

static struct test_certificate root, other_root, client_leaf, server_leaf;
static char id_2048[2048 + 1], id_2049[2049 + 1];

struct row {
	const char *name;
	struct test_spec leaf; /* of the bad side */
	const struct test_spec *intermediate; /* between root and leaf */
	bool other_root; /* signed by a root the verifier does not know */
	bool other_key; /* by one of the same name and with other key */
	bool self_signed;
	bool no_chain; /* the intermediate is not sent */
	enum kmtls_reason reason; /* of the verifier */
	enum kmtls_reason refused; /* of the bad side */
	const char *only_role; /* "client" or "server": the bad side's, NULL: both */
};

#define CA .constraints = "critical,CA:TRUE"
#define SIGNS .key_usage = "critical,keyCertSign"
#define ANY_USE .extended_key_usage = "", .name = "intermediate"
static const struct test_spec good_ca = { CA, SIGNS, ANY_USE },
			      expired_ca = { CA, SIGNS, ANY_USE, .not_after = -60 },
			      future_ca = { CA, SIGNS, ANY_USE, .not_before = 60 },
			      no_ca = { .key_usage = "digitalSignature", ANY_USE },
			      silent_ca = { .constraints = "", SIGNS, ANY_USE },
			      crl_ca = { CA, .key_usage = "cRLSign", ANY_USE },
			      code_ca = { CA, SIGNS, .extended_key_usage = "codeSigning",
					  .name = "intermediate" },
			      weak_ca = { CA, SIGNS, ANY_USE, .algorithm = "RSA1024" },
			      foreign_ca = { CA, SIGNS, ANY_USE,
					     .name_constraints =
						     "critical,permitted;URI:elsewhere.org" },
			      own_ca = { CA, SIGNS, ANY_USE,
					 .name_constraints = "critical,permitted;URI:example.org" };

#define REASON(x) KMTLS_REASON_##x

/* The leaf's id is that of its role unless a row says otherwise: see leaf_spec(). */
#define ROLE_ID "role"

static const struct row rows[] = {
	/* what must be accepted */
	{ .name = "good", .leaf = { .id = ROLE_ID } },
	{ .name = "good, below an intermediate",
	  .leaf = { .id = ROLE_ID },
	  .intermediate = &good_ca },
	{ .name = "good, no extended key usage",
	  .leaf = { .id = ROLE_ID, .extended_key_usage = "" } },
	{ .name = "good, a DNS name beside", .leaf = { .id = ROLE_ID, .dns = "a.example.org" } },
	{ .name = "good, no basicConstraints", .leaf = { .id = ROLE_ID, .constraints = "" } },
	{ .name = "good, P-384", .leaf = { .id = ROLE_ID, .algorithm = "P-384" } },
	{ .name = "good, RSA 2048", .leaf = { .id = ROLE_ID, .algorithm = "RSA2048" } },
	{ .name = "good, id of 2048 bytes", .leaf = { .id = id_2048 } },
	{ .name = "good, key encipherment too",
	  .leaf = { .id = ROLE_ID, .key_usage = "digitalSignature,keyEncipherment" } },
	/* the chain */
	{ .name = "unknown CA",
	  .leaf = { .id = ROLE_ID },
	  .other_root = true,
	  .reason = REASON(UNKNOWN_CA),
	  .refused = REASON(REFUSED_UNKNOWN_CA) },
	{ .name = "CA of the same name, other key",
	  .leaf = { .id = ROLE_ID },
	  .other_key = true,
	  .reason = REASON(UNKNOWN_CA),
	  .refused = REASON(REFUSED_UNKNOWN_CA) },
	{ .name = "forged in the name of the CA",
	  .leaf = { .id = ROLE_ID, .no_key_ids = true },
	  .other_key = true,
	  .reason = REASON(UNKNOWN_CA),
	  .refused = REASON(REFUSED_UNKNOWN_CA) },
	{ .name = "self-signed",
	  .leaf = { .id = ROLE_ID },
	  .self_signed = true,
	  .reason = REASON(UNKNOWN_CA),
	  .refused = REASON(REFUSED_UNKNOWN_CA) },
	{ .name = "intermediate not sent",
	  .leaf = { .id = ROLE_ID },
	  .intermediate = &good_ca,
	  .no_chain = true,
	  .reason = REASON(UNKNOWN_CA),
	  .refused = REASON(REFUSED_UNKNOWN_CA) },
	{ .name = "expired",
	  .leaf = { .id = ROLE_ID, .not_before = -7200, .not_after = -3600 },
	  .reason = REASON(SVID_EXPIRED),
	  .refused = REASON(REFUSED_EXPIRED) },
	{ .name = "expired one second ago",
	  .leaf = { .id = ROLE_ID, .not_after = -1 },
	  .reason = REASON(SVID_EXPIRED),
	  .refused = REASON(REFUSED_EXPIRED) },
	{ .name = "not yet valid",
	  .leaf = { .id = ROLE_ID, .not_before = 1800 },
	  .reason = REASON(SVID_NOT_YET_VALID),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "expired intermediate",
	  .leaf = { .id = ROLE_ID },
	  .intermediate = &expired_ca,
	  .reason = REASON(SVID_EXPIRED),
	  .refused = REASON(REFUSED_EXPIRED) },
	{ .name = "intermediate not yet valid",
	  .leaf = { .id = ROLE_ID },
	  .intermediate = &future_ca,
	  .reason = REASON(SVID_NOT_YET_VALID),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "issued by a leaf",
	  .leaf = { .id = ROLE_ID },
	  .intermediate = &no_ca,
	  .reason = REASON(ISSUER_NOT_CA),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "issued by a keyCertSign without CA",
	  .leaf = { .id = ROLE_ID },
	  .intermediate = &silent_ca,
	  .reason = REASON(ISSUER_NOT_CA),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "issued by a CA without keyCertSign",
	  .leaf = { .id = ROLE_ID },
	  .intermediate = &crl_ca,
	  .reason = REASON(ISSUER_NOT_CA),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "issued by a CA for another use",
	  .leaf = { .id = ROLE_ID },
	  .intermediate = &code_ca,
	  .reason = REASON(ISSUER_NOT_CA),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "intermediate of RSA 1024",
	  .leaf = { .id = ROLE_ID },
	  .intermediate = &weak_ca,
	  .reason = REASON(SVID_WEAK_KEY),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "outside of the CA's name constraints",
	  .leaf = { .id = ROLE_ID },
	  .intermediate = &foreign_ca,
	  .reason = REASON(NAME_CONSTRAINTS),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "good, inside of the CA's name constraints",
	  .leaf = { .id = ROLE_ID },
	  .intermediate = &own_ca },
	{ .name = "another trust domain",
	  .leaf = { .id = "spiffe://elsewhere.org/server" },
	  .reason = REASON(UNKNOWN_TRUST_DOMAIN),
	  .refused = REASON(REFUSED_UNKNOWN_CA) },
	/* the leaf */
	{ .name = "no SAN",
	  .leaf = { .id = NULL },
	  .reason = REASON(SVID_NO_ID),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "no URI SAN",
	  .leaf = { .id = NULL, .dns = "example.org" },
	  .reason = REASON(SVID_NO_ID),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "two URI SANs",
	  .leaf = { .id = ROLE_ID, .second_id = OTHER_ID },
	  .reason = REASON(SVID_MANY_IDS),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "same URI SAN twice",
	  .leaf = { .id = OTHER_ID, .second_id = OTHER_ID },
	  .reason = REASON(SVID_MANY_IDS),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "URI that is not SPIFFE",
	  .leaf = { .id = "https://example.org/server" },
	  .reason = REASON(SVID_BAD_ID),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "bad path",
	  .leaf = { .id = "spiffe://example.org/a/../server" },
	  .reason = REASON(SVID_BAD_ID),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "no path",
	  .leaf = { .id = "spiffe://example.org" },
	  .reason = REASON(SVID_BAD_ID),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "upper-case trust domain",
	  .leaf = { .id = "spiffe://EXAMPLE.org/server" },
	  .reason = REASON(SVID_BAD_ID),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "zero byte behind the id",
	  .leaf = { .id = TEST_SERVER_ID "\0x", .id_length = sizeof(TEST_SERVER_ID) + 1 },
	  .reason = REASON(SVID_BAD_ID),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "zero byte at the end",
	  .leaf = { .id = TEST_SERVER_ID "\0", .id_length = sizeof(TEST_SERVER_ID) },
	  .reason = REASON(SVID_BAD_ID),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "id of 2049 bytes",
	  .leaf = { .id = id_2049 },
	  .reason = REASON(SVID_BAD_ID),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "leaf is a CA",
	  .leaf = { .id = ROLE_ID, .constraints = "critical,CA:TRUE" },
	  .reason = REASON(SVID_IS_CA),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "no digitalSignature",
	  .leaf = { .id = ROLE_ID, .key_usage = "critical,keyEncipherment" },
	  .reason = REASON(SVID_KEY_USAGE),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "no key usage",
	  .leaf = { .id = ROLE_ID, .key_usage = "" },
	  .reason = REASON(SVID_KEY_USAGE),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "keyCertSign",
	  .leaf = { .id = ROLE_ID, .key_usage = "critical,digitalSignature,keyCertSign" },
	  .reason = REASON(SVID_KEY_USAGE),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "cRLSign",
	  .leaf = { .id = ROLE_ID, .key_usage = "critical,digitalSignature,cRLSign" },
	  .reason = REASON(SVID_KEY_USAGE),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "serverAuth only",
	  .leaf = { .id = ROLE_ID, .extended_key_usage = "serverAuth" },
	  .reason = REASON(SVID_EXTENDED_KEY_USAGE),
	  .refused = REASON(REFUSED_CERTIFICATE),
	  .only_role = "client" },
	{ .name = "clientAuth only",
	  .leaf = { .id = ROLE_ID, .extended_key_usage = "clientAuth" },
	  .reason = REASON(SVID_EXTENDED_KEY_USAGE),
	  .refused = REASON(REFUSED_CERTIFICATE),
	  .only_role = "server" },
	{ .name = "good, serverAuth only",
	  .leaf = { .id = ROLE_ID, .extended_key_usage = "serverAuth" },
	  .only_role = "server" },
	{ .name = "good, clientAuth only",
	  .leaf = { .id = ROLE_ID, .extended_key_usage = "clientAuth" },
	  .only_role = "client" },
	{ .name = "codeSigning only",
	  .leaf = { .id = ROLE_ID, .extended_key_usage = "codeSigning" },
	  .reason = REASON(SVID_EXTENDED_KEY_USAGE),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "RSA 1024",
	  .leaf = { .id = ROLE_ID, .algorithm = "RSA1024" },
	  .reason = REASON(SVID_WEAK_KEY),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "P-521",
	  .leaf = { .id = ROLE_ID, .algorithm = "P-521" },
	  .reason = REASON(SVID_WEAK_KEY),
	  .refused = REASON(REFUSED_CERTIFICATE) },
	{ .name = "Ed25519",
	  .leaf = { .id = ROLE_ID, .algorithm = "ED25519" },
	  .reason = REASON(SVID_WEAK_KEY),
	  .refused = REASON(REFUSED_CERTIFICATE) },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static struct test_spec leaf_spec(const struct row *row, enum kmtls_role role)
{
	struct test_spec spec = row->leaf;

	if (spec.id && !strcmp(spec.id, ROLE_ID))
		spec.id = role == KMTLS_ROLE_SERVER ? TEST_SERVER_ID : TEST_CLIENT_ID;
	return spec;
}

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

static struct test_certificate make_issuer(const struct row *row)
{
	const struct test_spec spec = test_root_spec; /* the name of the known root */

	if (row->other_key)
		return test_certificate_make(&spec, NULL);
	X509_up_ref(row->other_root ? other_root.certificate : root.certificate);
	EVP_PKEY_up_ref(row->other_root ? other_root.key : root.key);
	return row->other_root ? other_root : root;
}

static SSL_CTX *make_bad_context(const struct row *row, enum kmtls_role role)
{
	struct test_spec spec = leaf_spec(row, role);
	struct test_certificate issuer = make_issuer(row), intermediate = { 0 }, leaf;
	SSL_CTX *context;

	if (row->intermediate)
		intermediate = test_certificate_make(row->intermediate, &issuer);
	leaf = test_certificate_make(&spec, row->self_signed	? NULL
					    : row->intermediate ? &intermediate
								: &issuer);
	context = test_context_make(role, &leaf, row->no_chain ? NULL : intermediate.certificate,
				    root.certificate);
	test_certificate_free(&leaf);
	test_certificate_free(&intermediate);
	test_certificate_free(&issuer);
	return context;
}

static void bad_server(void **state)
{
	const struct row *row = *state;
	struct test_spec spec = leaf_spec(row, KMTLS_ROLE_SERVER);
	SSL_CTX *server_context = make_bad_context(row, KMTLS_ROLE_SERVER);
	SSL_CTX *client_context =
		test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, root.certificate);
	struct test_side client, server;

	test_sides_open(&client, client_context, &server, server_context);
	if (row->reason == KMTLS_REASON_NONE)
		client.verify.expected_id = spec.id;
	test_sides_run(&client, &server);
	assert_reason(&client, row->reason);
	assert_reason(&server, row->refused);
	assert_int_equal(client.verify.reason, row->reason);
	if (!row->reason) {
		assert_string_equal(client.verify.peer_id, spec.id);
		assert_true(client.verify.peer_not_after > 0);
	}
	test_side_close(&client);
	test_side_close(&server);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
}

static void bad_client(void **state)
{
	const struct row *row = *state;
	struct test_spec spec = leaf_spec(row, KMTLS_ROLE_CLIENT);
	SSL_CTX *client_context = make_bad_context(row, KMTLS_ROLE_CLIENT);
	SSL_CTX *server_context =
		test_context_make(KMTLS_ROLE_SERVER, &server_leaf, NULL, root.certificate);
	struct test_side client, server;

	test_sides_open(&client, client_context, &server, server_context);
	test_sides_run(&client, &server);
	assert_reason(&server, row->reason);
	assert_reason(&client, row->refused);
	assert_int_equal(server.verify.reason, row->reason);
	if (!row->reason)
		assert_string_equal(server.verify.peer_id, spec.id);
	test_side_close(&client);
	test_side_close(&server);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
}

/* ---- groups ---------------------------------------------------------------------------- */

static int setup(void **state)
{
	struct test_spec other = test_root_spec;

	memset(id_2049, 'a', sizeof(id_2049) - 1);
	memcpy(id_2049, "spiffe://example.org/", strlen("spiffe://example.org/"));
	memcpy(id_2048, id_2049, sizeof(id_2048) - 1);
	other.name = "other root";
	test_trio_make(&root, &client_leaf, &server_leaf);
	other_root = test_certificate_make(&other, NULL);
	return 0;
}

static int teardown(void **state)
{
	test_trio_free(&root, &client_leaf, &server_leaf);
	test_certificate_free(&other_root);
	return 0;
}

static size_t add_row(struct CMUnitTest *test, const struct row *row, const char *role,
		      CMUnitTestFunction function)
{
	static char names[2 * ROWS][80];
	static size_t used;

	if (row->only_role && strcmp(row->only_role, role))
		return 0;
	snprintf(names[used], sizeof(names[used]), "%s: %s", role, row->name);
	*test = (struct CMUnitTest){ names[used++], function, NULL, NULL, (void *)row };
	return 1;
}

int main(void)
{
	static struct CMUnitTest tests[2 * ROWS];
	size_t count = 0, i;

	for (i = 0; i < ROWS; i++) {
		count += add_row(&tests[count], &rows[i], "server", bad_server);
		count += add_row(&tests[count], &rows[i], "client", bad_client);
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests("verify", tests, count, setup, teardown);
}
