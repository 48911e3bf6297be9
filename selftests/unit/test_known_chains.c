/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_known_chains.c - a chain that was verified before is known to the next handshake, and each of
 * the things that must make it new again: then it is verified, and refused, as any other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <string.h>
#include <stdatomic.h>
#include <time.h>

#include "certificates.h"
#include "clock.h"
#include "known_chains.h"
#include "revocation.h"
#include "tls.h"
#include "tls_library.h"

static struct test_certificate root, other_root, intermediate, client_leaf, server_leaf;
static SSL_CTX *client_context, *server_context;
static struct test_side client, server;
static __u64 known_before, new_before;
static struct kmtls_clock fake_clock;

static int setup_group(void **state)
{
	const struct test_spec client_spec = { .id = TEST_CLIENT_ID };
	const struct test_spec server_spec = { .id = TEST_SERVER_ID };

	root = test_certificate_make(&test_root_spec, NULL);
	other_root = test_certificate_make(&test_root_spec, NULL);
	intermediate = test_certificate_make(&test_intermediate_spec, &root);
	client_leaf = test_certificate_make(&client_spec, &root);
	server_leaf = test_certificate_make(&server_spec, &intermediate);
	return 0;
}

static int teardown_group(void **state)
{
	test_certificate_free(&root);
	test_certificate_free(&other_root);
	test_certificate_free(&intermediate);
	test_certificate_free(&client_leaf);
	test_certificate_free(&server_leaf);
	return 0;
}

static void count(void)
{
	kmtls_known_chains_count(&known_before, &new_before);
}

static void make(struct test_certificate *client_certificate,
		 struct test_certificate *server_certificate)
{
	bool below = server_certificate == &server_leaf;

	client_context =
		test_context_make(KMTLS_ROLE_CLIENT, client_certificate, NULL, root.certificate);
	server_context =
		test_context_make(KMTLS_ROLE_SERVER, server_certificate,
				  below ? intermediate.certificate : NULL, root.certificate);
}

static void drop(void)
{
	test_side_close(&client);
	test_side_close(&server);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
	client_context = server_context = NULL;
}

static int setup(void **state)
{
	kmtls_known_chains_clear();
	make(&client_leaf, &server_leaf);
	count();
	return 0;
}

static int teardown(void **state)
{
	drop();
	kmtls_revocation_replace(NULL, 0);
	atomic_store(&fake_clock.seen, 0);
	kmtls_known_chains_clear();
	return 0;
}

static void shake_hands_with(const char *expected_id)
{
	test_side_close(&client);
	test_side_close(&server);
	test_sides_open(&client, client_context, &server, server_context);
	client.verify.expected_id = expected_id;
	test_sides_run(&client, &server);
}

static void shake_hands(void)
{
	shake_hands_with(TEST_SERVER_ID);
}

/* Chains that were known and such that were new, of both sides, since count(). */
static void assert_counted(unsigned known, unsigned new)
{
	__u64 known_now, new_now;

	kmtls_known_chains_count(&known_now, &new_now);
	assert_int_equal(known_now - known_before, known);
	assert_int_equal(new_now - new_before, new);
	count();
}

static void assert_good(unsigned known, unsigned new)
{
	assert_int_equal(client.reason, KMTLS_REASON_NONE);
	assert_int_equal(server.reason, KMTLS_REASON_NONE);
	assert_true(client.ready && server.ready);
	assert_counted(known, new);
}

/* The first handshake of a test: all is new. And the second: nothing is. */
static void get_known(void)
{
	shake_hands();
	assert_good(0, 2);
	shake_hands();
	assert_good(2, 0);
}

static void second_time(void **state)
{
	struct kmtls_verify first;

	shake_hands();
	assert_good(0, 2);
	first = client.verify;
	shake_hands();
	assert_good(2, 0);
	assert_string_equal(client.verify.peer_id, TEST_SERVER_ID);
	assert_string_equal(server.verify.peer_id, TEST_CLIENT_ID);
	assert_int_not_equal(first.peer_certificate, 0);
	assert_int_not_equal(first.peer_issuers[0], 0);
	assert_int_equal(client.verify.peer_certificate, first.peer_certificate);
	assert_memory_equal(client.verify.peer_issuers, first.peer_issuers,
			    sizeof(first.peer_issuers));
	assert_int_equal(client.verify.peer_not_before, first.peer_not_before);
	assert_int_equal(client.verify.peer_not_after, first.peer_not_after);
}

static void another_leaf(void **state)
{
	const struct test_spec spec = { .id = TEST_CLIENT_ID };
	struct test_certificate leaf;

	get_known();
	drop();
	leaf = test_certificate_make(&spec, &root);
	make(&leaf, &server_leaf);
	shake_hands();
	assert_good(1, 1);
	test_certificate_free(&leaf);
}

/* The same leaf, and what it is below is not sent any more. */
static void without_the_intermediate(void **state)
{
	get_known();
	SSL_CTX_free(server_context);
	server_context = test_context_make(KMTLS_ROLE_SERVER, &server_leaf, NULL, root.certificate);
	shake_hands();
	assert_int_equal(client.reason, KMTLS_REASON_UNKNOWN_CA);
	assert_counted(0, 1);
}

static void client_trusts(struct kmtls_trust *trust)
{
	SSL_CTX_free(client_context);
	assert_int_equal(kmtls_tls_context_new(
				 KMTLS_ROLE_CLIENT,
				 &(struct kmtls_tls_credentials){ .leaf = client_leaf.certificate,
								  .key = client_leaf.key,
								  .trust = trust },
				 &client_context),
			 0);
	kmtls_trust_put(trust);
}

static void trust_only(X509 *first, X509 *second)
{
	STACK_OF(X509) *roots = sk_X509_new_null();
	struct kmtls_trust_bundle bundle = { .trust_domain = TEST_TRUST_DOMAIN, .roots = roots };
	struct kmtls_trust *trust;
	const char *why;

	sk_X509_push(roots, first);
	if (second)
		sk_X509_push(roots, second);
	assert_int_equal(kmtls_trust_new(&bundle, 1, &trust, &why), 0);
	client_trusts(trust);
	sk_X509_free(roots);
}

static void other_bundle(void **state)
{
	get_known();
	trust_only(other_root.certificate, NULL);
	shake_hands();
	assert_int_equal(client.reason, KMTLS_REASON_UNKNOWN_CA);
	assert_counted(0, 1);
}

/* One more root: it could be that one by which it is verified now. And both bundles stay in use. */
static void larger_bundle(void **state)
{
	get_known();
	trust_only(root.certificate, other_root.certificate);
	shake_hands();
	assert_good(1, 1);
	shake_hands();
	assert_good(2, 0);
	trust_only(root.certificate, NULL);
	shake_hands();
	assert_good(2, 0);
}

/* The bundle was read again: other objects, the same roots. */
static void same_bundle(void **state)
{
	X509 *copy = X509_dup(root.certificate);

	get_known();
	trust_only(copy, NULL);
	shake_hands();
	assert_good(2, 0);
	X509_free(copy);
}

static void no_bundle(void **state)
{
	struct kmtls_trust *trust = test_trust_make("elsewhere", root.certificate);

	get_known();
	client_trusts(trust);
	shake_hands();
	assert_int_equal(client.reason, KMTLS_REASON_UNKNOWN_TRUST_DOMAIN);
	assert_counted(0, 1);
}

static void revoke(__u64 hash)
{
	__u64 *hashes = malloc(sizeof(*hashes));

	assert_non_null(hashes);
	*hashes = hash;
	assert_true(kmtls_revocation_replace(hashes, 1));
}

/* number: of the certificate in the chain that is revoked. */
static void revoked(void **state)
{
	bool ca = *state;

	get_known();
	revoke(ca ? client.verify.peer_issuers[0] : client.verify.peer_certificate);
	shake_hands();
	assert_int_equal(client.reason, KMTLS_REASON_REVOKED);
	assert_counted(0, 1);
}

static void other_crl(void **state)
{
	get_known();
	revoke(4711);
	shake_hands();
	assert_good(0, 2);
	shake_hands();
	assert_good(2, 0);
}

/* The clock is so many seconds ahead, 0: it is right. More than its tolerance, or it is not doubted. */
static void set_clock(long seconds)
{
	kmtls_clock_open(&fake_clock);
	atomic_store(&fake_clock.seen, seconds != 0);
	if (seconds)
		atomic_fetch_add(&fake_clock.latest, seconds);
}

static void expired_since(void **state)
{
	get_known();
	set_clock(7200);
	shake_hands();
	assert_int_equal(client.reason, KMTLS_REASON_SVID_EXPIRED);
	assert_counted(0, 1);
}

/* A CA above it ends sooner. */
static void issuer_expired_since(void **state)
{
	struct test_spec spec = test_intermediate_spec;
	const struct test_spec leaf_spec = { .id = TEST_CLIENT_ID, .not_after = 7200 };
	struct test_certificate ca, leaf;

	spec.not_after = 600;
	ca = test_certificate_make(&spec, &root);
	leaf = test_certificate_make(&leaf_spec, &ca);
	drop();
	make(&client_leaf, &server_leaf);
	SSL_CTX_free(client_context);
	client_context =
		test_context_make(KMTLS_ROLE_CLIENT, &leaf, ca.certificate, root.certificate);
	get_known();
	set_clock(1200);
	shake_hands();
	assert_int_equal(server.reason, KMTLS_REASON_SVID_EXPIRED);
	assert_counted(1, 1);
	test_certificate_free(&ca);
	test_certificate_free(&leaf);
}

static void not_yet_valid(void **state)
{
	const struct test_spec spec = { .id = TEST_SERVER_ID, .not_before = 900 };
	struct test_certificate leaf = test_certificate_make(&spec, &root);

	drop();
	make(&client_leaf, &leaf);
	set_clock(1200);
	get_known();
	set_clock(0);
	shake_hands();
	assert_int_equal(client.reason, KMTLS_REASON_SVID_NOT_YET_VALID);
	assert_counted(0, 1);
	test_certificate_free(&leaf);
}

/* A leaf for clients only, known as such, shows itself as a server. */
static void other_side(void **state)
{
	const struct test_spec spec = { .id = TEST_SERVER_ID, .extended_key_usage = "clientAuth" };
	struct test_certificate leaf = test_certificate_make(&spec, &root);

	drop();
	make(&leaf, &server_leaf);
	get_known();
	drop();
	make(&client_leaf, &leaf);
	count();
	shake_hands();
	assert_int_equal(client.reason, KMTLS_REASON_SVID_EXTENDED_KEY_USAGE);
	assert_counted(0, 1);
	test_certificate_free(&leaf);
}

static void promised_somebody_else(void **state)
{
	get_known();
	shake_hands_with(TEST_CLIENT_ID);
	assert_int_equal(client.reason, KMTLS_REASON_WRONG_PEER);
	assert_counted(1, 0);
	shake_hands_with(NULL);
	assert_int_equal(client.reason, KMTLS_REASON_WRONG_PEER);
	assert_counted(1, 0);
}

/* What was refused is not known. */
static void refused(void **state)
{
	const struct test_spec spec = { .id = TEST_SERVER_ID };
	struct test_certificate leaf = test_certificate_make(&spec, &other_root);

	drop();
	make(&client_leaf, &leaf);
	for (int i = 0; i < 2; i++) {
		shake_hands();
		assert_int_equal(client.reason, KMTLS_REASON_UNKNOWN_CA);
		assert_counted(0, 1);
	}
	test_certificate_free(&leaf);
}

/* The public key of one and the private key of another. */
static EVP_PKEY *mix(EVP_PKEY *public, EVP_PKEY *private)
{
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	unsigned char point[256];
	EVP_PKEY *mixed = NULL;
	BIGNUM *number = NULL;
	OSSL_PARAM *params;
	size_t length;

	assert_int_equal(EVP_PKEY_get_octet_string_param(public, OSSL_PKEY_PARAM_PUB_KEY, point,
							 sizeof(point), &length),
			 1);
	assert_int_equal(EVP_PKEY_get_bn_param(private, OSSL_PKEY_PARAM_PRIV_KEY, &number), 1);
	OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0);
	OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, length);
	OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, number);
	params = OSSL_PARAM_BLD_to_param(build);
	assert_int_equal(EVP_PKEY_fromdata_init(context), 1);
	assert_int_equal(EVP_PKEY_fromdata(context, &mixed, EVP_PKEY_KEYPAIR, params), 1);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(build);
	EVP_PKEY_CTX_free(context);
	BN_clear_free(number);
	return mixed;
}

/* Anybody can have the chain. It takes the key. */
static void without_the_key(void **state)
{
	bool at_client = *state;
	struct test_certificate *victim = at_client ? &client_leaf : &server_leaf;
	EVP_PKEY *key = victim->key, *mixed = mix(key, other_root.key);

	get_known();
	drop();
	victim->key = mixed;
	make(&client_leaf, &server_leaf);
	victim->key = key;
	shake_hands();
	assert_int_equal(at_client ? server.reason : client.reason, KMTLS_REASON_HANDSHAKE_FAILED);
	assert_counted(at_client ? 2 : 1, 0);
	EVP_PKEY_free(mixed);
}

/* ---- how many there may be ---- */

/* The chain of the client, by the name of another one. */
static struct kmtls_known_chain_name number(unsigned i, size_t bytes)
{
	struct kmtls_known_chain_name name = {
		.role = KMTLS_ROLE_CLIENT,
		.bytes = bytes,
		.revocations = kmtls_revocation_generation(),
	};

	memcpy(name.digest, &i, sizeof(i));
	return name;
}

static bool is_known(unsigned i, size_t bytes)
{
	const struct kmtls_known_chain_name name = number(i, bytes);
	STACK_OF(X509) *presented = sk_X509_new_null();
	struct kmtls_verify verify;
	bool known;

	X509_up_ref(client_leaf.certificate);
	sk_X509_push(presented, client_leaf.certificate);
	known = kmtls_known_chains_find(&name, kmtls_tls_trust(server.ssl), presented, &verify);
	sk_X509_pop_free(presented, X509_free);
	return known;
}

static void remember(unsigned i, size_t bytes)
{
	const struct kmtls_known_chain_name name = number(i, bytes);
	STACK_OF(X509) *presented = sk_X509_new_null();

	sk_X509_push(presented, client_leaf.certificate);
	kmtls_known_chains_remember(&name, kmtls_tls_trust(server.ssl), presented, &server.verify);
	sk_X509_free(presented);
}

static void room(void **state)
{
	shake_hands();
	kmtls_known_chains_clear();
	for (unsigned i = 0; i < KMTLS_KNOWN_CHAINS_ROOM; i++)
		remember(i, 1);
	assert_true(is_known(0, 1)); /* used last, from now on */
	remember(KMTLS_KNOWN_CHAINS_ROOM, 1);
	assert_true(is_known(0, 1));
	assert_false(is_known(1, 1));
	assert_true(is_known(2, 1));
	assert_true(is_known(KMTLS_KNOWN_CHAINS_ROOM, 1));
}

static void bytes(void **state)
{
	const size_t third = KMTLS_KNOWN_CHAINS_BYTES / 3;

	shake_hands();
	kmtls_known_chains_clear();
	for (unsigned i = 0; i < 3; i++)
		remember(i, third);
	remember(3, 2 * third);
	assert_false(is_known(0, third) || is_known(1, third));
	assert_true(is_known(2, third) && is_known(3, 2 * third));
	remember(4, KMTLS_KNOWN_CHAINS_BYTES + 1);
	assert_false(is_known(4, KMTLS_KNOWN_CHAINS_BYTES + 1));
	assert_true(is_known(2, third) && is_known(3, 2 * third));
}

/* libssl does not read keys here, or what is above would say nothing of what the daemon does. */
static void library(void **state)
{
	unsigned char *der = NULL;
	int length = i2d_X509(server_leaf.certificate, &der);
	const unsigned char *at = der;
	X509 *certificate = X509_new_ex(kmtls_tls_library(), NULL);

	assert_non_null(kmtls_tls_library());
	assert_non_null(d2i_X509(&certificate, &at, length));
	assert_null(X509_get0_pubkey(certificate));
	X509_free(certificate);
	OPENSSL_free(der);
	assert_non_null(X509_get0_pubkey(server_leaf.certificate));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
#define TEST_WITH(name, function, state)                         \
	{                                                        \
		name, function, setup, teardown, (void *)(state) \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(second_time),
		TEST(another_leaf),
		TEST(without_the_intermediate),
		TEST(other_bundle),
		TEST(larger_bundle),
		TEST(same_bundle),
		TEST(no_bundle),
		TEST_WITH("leaf revoked", revoked, 0),
		TEST_WITH("issuer revoked", revoked, 1),
		TEST(other_crl),
		TEST(expired_since),
		TEST(issuer_expired_since),
		TEST(not_yet_valid),
		TEST(other_side),
		TEST(promised_somebody_else),
		TEST(refused),
		TEST_WITH("client without the key", without_the_key, 1),
		TEST_WITH("server without the key", without_the_key, 0),
		TEST(room),
		TEST(bytes),
		TEST(library),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("known_chains", tests, setup_group, teardown_group);
}
