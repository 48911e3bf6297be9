/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_identity_builtin.c - the embedded CA: what its certificates contain, that its root lasts
 * and is made once, and handshakes with what it issues. The file itself: test_root_file.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "builtin.h"
#include "certificates.h"
#include "identities.h"
#include "root_file.h"

static char why[256];

static int count_files(void)
{
	DIR *dir = opendir(builtin_directory);
	int count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2; /* . and .. */
}

/* ---- certificates ------------------------------------------------------------------------- */

static X509 *leaf_of(const struct kmtls_svid *svid)
{
	return SSL_CTX_get0_certificate(svid->client);
}

static void leaf_contents(void **state)
{
	struct kmtls_identity *identity = builtin_open(NULL);
	struct kmtls_svid *svid = test_issue(identity, TEST_CLIENT_ID);
	X509 *leaf = leaf_of(svid);
	time_t now = time(NULL);
	BASIC_CONSTRAINTS *constraints;
	BIGNUM *serial;
	int critical;

	assert_string_equal(svid->id, TEST_CLIENT_ID);
	assert_in_range(svid->not_before, now - 310, now - 290);
	assert_in_range(svid->not_after, now + 3590, now + 3600);
	assert_int_equal(X509_get_version(leaf), X509_VERSION_3);
	assert_int_equal(X509_get_key_usage(leaf), KU_DIGITAL_SIGNATURE);
	assert_int_equal(X509_get_extended_key_usage(leaf), XKU_SSL_SERVER | XKU_SSL_CLIENT);
	constraints = X509_get_ext_d2i(leaf, NID_basic_constraints, &critical, NULL);
	assert_non_null(constraints);
	assert_int_equal(critical, 1);
	assert_int_equal(constraints->ca, 0);
	BASIC_CONSTRAINTS_free(constraints);
	assert_int_equal(X509_EXTENSION_get_critical(
				 X509_get_ext(leaf, X509_get_ext_by_NID(leaf, NID_key_usage, -1))),
			 1);
	assert_non_null(X509_get0_subject_key_id(leaf));
	assert_non_null(X509_get0_authority_key_id(leaf));
	assert_true(X509_NAME_entry_count(X509_get_subject_name(leaf)) > 0);
	assert_int_equal(EVP_PKEY_get_bits(X509_get0_pubkey(leaf)), 256);
	serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(leaf), NULL);
	assert_in_range(BN_num_bits(serial), 64, 128); /* below 64 bits once in 2^64 */
	BN_free(serial);
	kmtls_svid_put(svid);
	kmtls_identity_close(identity);
}

static void keys_and_serials_are_fresh(void **state)
{
	struct kmtls_identity *identity = builtin_open(NULL);
	struct kmtls_svid *a = test_issue(identity, TEST_CLIENT_ID);
	struct kmtls_svid *b = test_issue(identity, TEST_CLIENT_ID);

	assert_int_not_equal(
		EVP_PKEY_eq(X509_get0_pubkey(leaf_of(a)), X509_get0_pubkey(leaf_of(b))), 1);
	assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(leaf_of(a)),
					      X509_get0_serialNumber(leaf_of(b))),
			     0);
	kmtls_svid_put(a);
	kmtls_svid_put(b);
	kmtls_identity_close(identity);
}

static void root_contents(void **state)
{
	struct kmtls_identity *identity = builtin_open(builtin_root);
	EVP_PKEY *key;
	X509 *root;
	struct stat status;
	char *name;

	assert_int_equal(kmtls_root_file_load(builtin_root, &root, &key, why), 0);
	assert_int_equal(stat(builtin_root, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(status.st_nlink, 1);
	assert_int_equal(count_files(), 1);
	assert_int_equal(X509_check_ca(root), 1);
	assert_int_equal(X509_get_pathlen(root), 0);
	assert_int_equal(X509_get_key_usage(root), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
	assert_non_null(X509_get0_subject_key_id(root));
	assert_non_null(X509_get0_authority_key_id(root));
	name = X509_NAME_oneline(X509_get_subject_name(root), NULL, 0);
	assert_string_equal(name, "/O=kmtls/CN=" TEST_TRUST_DOMAIN);
	OPENSSL_free(name);
	X509_free(root);
	EVP_PKEY_free(key);
	kmtls_identity_close(identity);
}

static void svid_ends_with_the_root(void **state)
{
	struct kmtls_identity_options wanted = builtin_options(NULL);
	struct kmtls_identity *identity;
	struct kmtls_svid *svid;
	time_t now = time(NULL);

	builtin_backend.root_ttl = 60;
	assert_int_equal(kmtls_identity_builtin_open(&wanted, &identity, why), 0);
	svid = test_issue(identity, TEST_CLIENT_ID);
	assert_in_range(svid->not_after, now + 60, now + 62);
	kmtls_svid_put(svid);
	kmtls_identity_close(identity);
}

static void expired_root_issues_nothing(void **state)
{
	struct kmtls_identity_options wanted = builtin_options(NULL);
	struct kmtls_identity *identity;
	struct kmtls_svid *svid = NULL;

	builtin_backend.root_ttl = 1;
	assert_int_equal(kmtls_identity_builtin_open(&wanted, &identity, why), 0);
	sleep(2);
	assert_int_equal(test_try_issue(identity, TEST_CLIENT_ID, &svid, why), -EKEYEXPIRED);
	assert_non_null(strstr(why, "the CA has expired"));
	assert_null(svid);
	kmtls_identity_close(identity);
}

static void long_root_lifetime(void **state)
{
	struct kmtls_identity_options wanted = builtin_options(builtin_root);
	struct kmtls_identity *identity;

	builtin_backend.root_ttl = 50u * 365 * 86400; /* beyond 2050: another time format */
	assert_int_equal(kmtls_identity_builtin_open(&wanted, &identity, why), 0);
	kmtls_svid_put(test_issue(identity, TEST_CLIENT_ID));
	kmtls_identity_close(identity);
	kmtls_identity_close(builtin_open(builtin_root));
}

static void bad_ids(void **state)
{
	static const struct {
		const char *id, *why;
	} table[] = {
		{ "spiffe://elsewhere.org/a", "is not of the trust domain example.org" },
		{ "spiffe://example.org.evil/a", "is not of the trust domain example.org" },
		{ "spiffe://example.or/a", "is not of the trust domain example.org" },
		{ "spiffe://example.org", "names a trust domain, not a workload" },
		{ "spiffe://example.org/", "not a SPIFFE ID: the path ends with a slash" },
		{ "https://example.org/a", "not a SPIFFE ID: it does not begin with spiffe://" },
		{ "", "not a SPIFFE ID: it does not begin with spiffe://" },
	};
	struct kmtls_identity *identity = builtin_open(NULL);
	struct kmtls_svid *svid = NULL;
	char id[2050];
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(test_try_issue(identity, table[i].id, &svid, why), -EINVAL);
		assert_non_null(strstr(why, table[i].why));
	}
	memset(id, 'a', sizeof(id));
	memcpy(id, "spiffe://example.org/", 21);
	id[2049] = '\0';
	assert_int_equal(test_try_issue(identity, id, &svid, why), -EINVAL);
	assert_non_null(strstr(why, "it is longer than 2048 bytes"));
	assert_null(svid);
	id[2048] = '\0';
	svid = test_issue(identity, id);
	assert_string_equal(svid->id, id);
	kmtls_svid_put(svid);
	kmtls_identity_close(identity);
}

static void bad_options(void **state)
{
	static const char *const trust_domains[] = { "", "a/b", "A", "a:1", "a b", "a/" };
	struct kmtls_identity_options wanted = builtin_options(NULL);
	struct kmtls_identity *identity = NULL;
	char longest[257];
	size_t i;

	for (i = 0; i < sizeof(trust_domains) / sizeof(trust_domains[0]); i++) {
		wanted.trust_domain = trust_domains[i];
		assert_int_equal(kmtls_identity_builtin_open(&wanted, &identity, why), -EINVAL);
	}
	memset(longest, 'a', sizeof(longest));
	longest[256] = '\0';
	wanted.trust_domain = longest;
	assert_int_equal(kmtls_identity_builtin_open(&wanted, &identity, why), -EINVAL);
	longest[255] = '\0'; /* too long for a CN, but allowed */
	assert_int_equal(kmtls_identity_builtin_open(&wanted, &identity, why), 0);
	kmtls_identity_close(identity);
	wanted = builtin_options(NULL);
	builtin_backend.svid_ttl = 0;
	assert_int_equal(kmtls_identity_builtin_open(&wanted, &identity, why), -EINVAL);
}

/* ---- the file ----------------------------------------------------------------------------- */

static void handshake_across_restart(void **state)
{
	struct kmtls_identity *first = builtin_open(builtin_root), *second;
	struct kmtls_svid *client = test_issue(first, TEST_CLIENT_ID), *server;
	struct test_side a, b;

	kmtls_identity_close(first);
	second = builtin_open(builtin_root);
	server = test_issue(second, TEST_SERVER_ID);
	test_sides_open(&a, client->client, &b, server->server);
	test_sides_run(&a, &b);
	assert_true(a.ready && b.ready);
	test_side_close(&a);
	test_side_close(&b);
	kmtls_svid_put(client);
	kmtls_svid_put(server);
	kmtls_identity_close(second);
}

static void two_roots_do_not_trust_each_other(void **state)
{
	struct kmtls_identity *first = builtin_open(NULL), *second = builtin_open(NULL);
	struct kmtls_svid *client = test_issue(first, TEST_CLIENT_ID);
	struct kmtls_svid *server = test_issue(second, TEST_SERVER_ID);
	struct test_side a, b;

	test_sides_open(&a, client->client, &b, server->server);
	test_sides_run(&a, &b);
	assert_int_equal(a.reason, KMTLS_REASON_UNKNOWN_CA);
	assert_int_equal(b.reason, KMTLS_REASON_REFUSED_UNKNOWN_CA);
	test_side_close(&a);
	test_side_close(&b);
	kmtls_svid_put(client);
	kmtls_svid_put(server);
	kmtls_identity_close(first);
	kmtls_identity_close(second);
}

static void *open_in_thread(void *barrier)
{
	const struct kmtls_identity_options wanted = {
		.backend = &builtin_backend,
		.trust_domain = TEST_TRUST_DOMAIN,
	};
	struct kmtls_identity *identity = NULL;
	char thread_why[256];

	pthread_barrier_wait(barrier);
	return kmtls_identity_builtin_open(&wanted, &identity, thread_why) ? NULL : identity;
}

/* All end up with the same root: everyone's SVID is accepted by the first one's. */
static void race_for_the_file(void **state)
{
	enum { RACERS = 8 };
	struct kmtls_identity *identities[RACERS];
	pthread_barrier_t barrier;
	pthread_t threads[RACERS];
	struct kmtls_svid *server, *client;
	struct test_side a, b;
	int i;

	builtin_options(builtin_root);
	pthread_barrier_init(&barrier, NULL, RACERS);
	for (i = 0; i < RACERS; i++)
		pthread_create(&threads[i], NULL, open_in_thread, &barrier);
	for (i = 0; i < RACERS; i++)
		pthread_join(threads[i], (void **)&identities[i]);
	assert_int_equal(count_files(), 1);
	assert_non_null(identities[0]);
	server = test_issue(identities[0], TEST_SERVER_ID);
	for (i = 0; i < RACERS; i++) {
		assert_non_null(identities[i]);
		client = test_issue(identities[i], TEST_CLIENT_ID);
		test_sides_open(&a, client->client, &b, server->server);
		test_sides_run(&a, &b);
		assert_true(a.ready && b.ready);
		test_side_close(&a);
		test_side_close(&b);
		kmtls_svid_put(client);
		kmtls_identity_close(identities[i]);
	}
	kmtls_svid_put(server);
	pthread_barrier_destroy(&barrier);
}

#define TEST(function) cmocka_unit_test_teardown(function, builtin_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(leaf_contents),
		TEST(keys_and_serials_are_fresh),
		TEST(root_contents),
		TEST(svid_ends_with_the_root),
		TEST(expired_root_issues_nothing),
		TEST(long_root_lifetime),
		TEST(bad_ids),
		TEST(bad_options),
		TEST(handshake_across_restart),
		TEST(two_roots_do_not_trust_each_other),
		TEST(race_for_the_file),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("identity_builtin", tests, builtin_setup_group,
					   builtin_teardown_group);
}
