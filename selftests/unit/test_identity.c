/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_identity.c - several backends, of which one issues: that a switch from one to another breaks
 * nothing while both are trusted, what happens to backends that cannot be opened; when SVIDs are
 * replaced.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "certificates.h"
#include "identity.h"
#include "rotation.h"
#include "secret_region.h"
#include "svid_store.h"

static char why[KMTLS_IDENTITY_WHY];
static struct kmtls_secret_region *region;
static struct kmtls_config_backend backends[3];
static struct kmtls_config config;

static int setup_group(void **state)
{
	int fd;

	assert_int_equal(kmtls_secret_region_create(4, &region, &fd, why), 0);
	return 0;
}

/* Three roots in memory, the first issues. */
static int setup(void **state)
{
	static const char *const names[] = { "one", "two", "three" };

	for (int i = 0; i < 3; i++)
		backends[i] = (struct kmtls_config_backend){
			.name = (char *)names[i],
			.type = KMTLS_BACKEND_BUILTIN,
			.trust = true,
			.key_type = KMTLS_KEY_EC_P256,
			.root_ttl = 3600,
			.svid_ttl = 60,
		};
	config = (struct kmtls_config){
		.identity = {
			.trust_domain = (char *)TEST_TRUST_DOMAIN,
			.backends = backends,
			.backends_count = 3,
			.enabled = &backends[0],
		},
	};
	return 0;
}

/* On a node whose secrets are ours, so that roots are the same from one to the next. */
static struct kmtls_identities *open_all(void)
{
	const struct kmtls_identities_options options = { .config = &config, .secrets = region };
	struct kmtls_identities *identities = NULL;

	if (kmtls_identities_open(&options, &identities, why))
		fail_msg("%s", why);
	kmtls_identities_keep(identities);
	return identities;
}

static struct kmtls_svid *issue(struct kmtls_identities *identities, const char *id)
{
	const struct kmtls_identity_subject subject = { .id = id, .pod = "pod" };
	struct kmtls_svid *svid = NULL;

	if (kmtls_identities_issue(identities, &subject, &svid, why))
		fail_msg("%s", why);
	return svid;
}

/* The server's reason; NONE: both are ready. */
static enum kmtls_reason handshake(struct kmtls_svid *client, struct kmtls_svid *server)
{
	enum kmtls_reason reason;
	struct test_side a, b;

	test_sides_open(&a, client->client, &b, server->server);
	test_sides_run(&a, &b);
	assert_int_equal(a.ready && b.ready, !b.reason);
	reason = b.reason;
	test_side_close(&a);
	test_side_close(&b);
	return reason;
}

static int bundle_of(struct kmtls_svid *svid)
{
	assert_int_equal(svid->trust->count, 1);
	return sk_X509_num(svid->trust->bundles[0].roots);
}

/* Node by node: whoever has switched talks to whoever has not, both ways. */
static void switching(void **state)
{
	struct kmtls_identities *before = open_all(), *after;
	struct kmtls_svid *old[2] = { issue(before, TEST_CLIENT_ID),
				      issue(before, TEST_SERVER_ID) };
	struct kmtls_svid *new[2];

	config.identity.enabled = &backends[1];
	after = open_all();
	new[0] = issue(after, TEST_CLIENT_ID);
	new[1] = issue(after, TEST_SERVER_ID);
	assert_string_equal(kmtls_identities_source(after, old[0]), "one");
	assert_string_equal(kmtls_identities_source(after, new[0]), "two");
	assert_int_equal(bundle_of(old[0]), 3);
	assert_int_equal(bundle_of(new[0]), 3);
	assert_int_equal(handshake(old[0], old[1]), 0);
	assert_int_equal(handshake(old[0], new[1]), 0);
	assert_int_equal(handshake(new[0], old[1]), 0);
	assert_int_equal(handshake(new[0], new[1]), 0);
	for (int i = 0; i < 2; i++) {
		kmtls_svid_put(old[i]);
		kmtls_svid_put(new[i]);
	}
	kmtls_identities_close(before);
	kmtls_identities_close(after);
}

static void not_trusted(void **state)
{
	struct kmtls_identities *before = open_all(), *after;
	struct kmtls_svid *old = issue(before, TEST_CLIENT_ID), *new;

	backends[0].trust = false;
	config.identity.enabled = &backends[1];
	after = open_all();
	new = issue(after, TEST_SERVER_ID);
	assert_int_equal(bundle_of(new), 2);
	assert_int_equal(handshake(old, new), KMTLS_REASON_UNKNOWN_CA);
	kmtls_svid_put(old);
	kmtls_svid_put(new);
	kmtls_identities_close(before);
	kmtls_identities_close(after);
}

/* Its keys are its own. */
static void not_shared(void **state)
{
	struct kmtls_identities *all = open_all();
	const char *ignored;

	for (unsigned i = 0; i < 3; i++)
		for (unsigned j = 0; j < i; j++) {
			const struct kmtls_identity *a = kmtls_identities_at(all, i, &ignored);
			const struct kmtls_identity *b = kmtls_identities_at(all, j, &ignored);

			assert_int_not_equal(
				EVP_PKEY_eq(X509_get0_pubkey(a->operations->authority(a)),
					    X509_get0_pubkey(b->operations->authority(b))),
				1);
		}
	kmtls_identities_close(all);
}

static void one_cannot_be_opened(void **state)
{
	const struct kmtls_identities_options options = { .config = &config, .secrets = region };
	struct kmtls_identities *all;
	struct kmtls_svid *svid;
	const char *said = "";
	char kept[KMTLS_IDENTITY_WHY];

	backends[1] = (struct kmtls_config_backend){
		.name = (char *)"gone",
		.type = KMTLS_BACKEND_PROVIDED,
		.trust = true,
		.key_type = KMTLS_KEY_EC_P256,
		.svid_ttl = 60,
		.cert_file = (char *)"/nonexistent/cert.pem",
		.key_file = (char *)"/nonexistent/key.pem",
	};
	all = open_all();
	assert_null(kmtls_identities_at(all, 1, &said));
	assert_string_equal(said,
			    "/nonexistent/cert.pem: cannot be opened: No such file or directory");
	snprintf(kept, sizeof(kept), "%s", said);
	svid = issue(all, TEST_CLIENT_ID);
	assert_int_equal(bundle_of(svid), 2);
	kmtls_svid_put(svid);
	kmtls_identities_close(all);
	/* The one that is to issue must be there. */
	config.identity.enabled = &backends[1];
	assert_int_equal(kmtls_identities_open(&options, &all, why), -ENOENT);
	assert_string_equal(why, kept);
}

static void none_enabled(void **state)
{
	const struct kmtls_identity_subject subject = { .id = TEST_CLIENT_ID, .pod = "pod" };
	struct kmtls_identities *all;
	struct kmtls_svid *svid = NULL;

	config.identity.enabled = NULL;
	all = open_all();
	assert_false(kmtls_identities_enabled(all));
	assert_int_equal(kmtls_identities_issue(all, &subject, &svid, why), -ENOTSUP);
	assert_non_null(strstr(why, "identity.enabled"));
	assert_null(svid);
	kmtls_identities_close(all);
	config.identity.backends_count = 0;
	kmtls_identities_close(open_all());
}

/* A backend that is configured no more leaves no key behind. */
static void forgotten(void **state)
{
	struct kmtls_ca ca;

	kmtls_identities_close(open_all());
	assert_int_equal(kmtls_svid_store_get_ca(region, "builtin/three", &ca), 0);
	kmtls_ca_clear(&ca);
	config.identity.backends_count = 2;
	kmtls_identities_close(open_all());
	assert_int_equal(kmtls_svid_store_get_ca(region, "builtin/three", &ca), -ENOENT);
	assert_int_equal(kmtls_svid_store_get_ca(region, "builtin/two", &ca), 0);
	kmtls_ca_clear(&ca);
}

/* What is set at run time holds for the next SVID. */
static void settings(void **state)
{
	struct kmtls_identities *all = open_all();
	struct kmtls_svid *svid;
	time_t now = time(NULL);

	backends[0].svid_ttl = 30;
	backends[0].key_type = KMTLS_KEY_EC_P384;
	svid = issue(all, TEST_CLIENT_ID);
	assert_in_range(svid->not_after, now + 30, now + 32);
	assert_int_equal(
		EVP_PKEY_get_bits(X509_get0_pubkey(SSL_CTX_get0_certificate(svid->client))), 384);
	kmtls_svid_put(svid);
	kmtls_identities_close(all);
}

/* ---- when ---- */

static void due(void **state)
{
	time_t first = 1 << 30, last = 0;

	assert_int_equal(kmtls_rotation_due(1000, 2000, 80, KMTLS_ROTATION_JITTER * 10), 1800);
	for (__u32 random = 0; random < 1000; random++) {
		time_t at = kmtls_rotation_due(1000, 2000, 80, random);

		first = at < first ? at : first;
		last = at > last ? at : last;
	}
	assert_int_equal(first, 1770);
	assert_int_equal(last, 1830);
	/* The shortest and the longest, at both ends. */
	for (__u32 random = 0; random < 1000; random++) {
		assert_in_range(kmtls_rotation_due(0, 10, 95, random), 9, 9);
		assert_in_range(kmtls_rotation_due(0, 10, 10, random), 0, 1);
		assert_in_range(kmtls_rotation_due(0, 315360000, 95, random), 290131200, 309052800);
	}
}

static void retry(void **state)
{
	for (__u32 random = 0; random < 1000; random++) {
		unsigned base = 1;

		assert_int_equal(kmtls_rotation_retry(1, random), 1);
		for (unsigned failures = 1; failures <= 6; failures++, base *= 2)
			assert_in_range(kmtls_rotation_retry(failures, random), base,
					base < 30 ? 2 * base : 60);
		assert_in_range(kmtls_rotation_retry(1000000, random), 30, 60);
	}
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(switching),    TEST(not_trusted), TEST(not_shared), TEST(one_cannot_be_opened),
		TEST(none_enabled), TEST(settings),    TEST(forgotten),	 TEST(due),
		TEST(retry),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("identity", tests, setup_group, NULL);
}
