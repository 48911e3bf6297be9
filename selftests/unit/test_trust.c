/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_trust.c - bundles of several trust domains: each is asked about its own peers only, and a new
 * worker finds them again in the secret region.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "certificates.h"
#include "hash.h"
#include "reason.h"
#include "secret_region.h"
#include "svid.h"
#include "svid_store.h"

#define PARTNER "partner.org"
#define PARTNER_ID "spiffe://" PARTNER "/client"

static struct test_certificate root, partner_root, server_leaf, partner_leaf;
static STACK_OF(X509) * roots, *partner_roots, *none;

static const char *refusal(const struct kmtls_trust_bundle *bundles, unsigned count)
{
	struct kmtls_trust *trust = NULL;
	const char *why = NULL;

	assert_int_equal(kmtls_trust_new(bundles, count, &trust, &why), -EINVAL);
	assert_null(trust);
	return why;
}

static void rules(void **state)
{
	struct kmtls_trust_bundle bundles[KMTLS_TRUST_DOMAINS_MAX + 1];
	char names[KMTLS_TRUST_DOMAINS_MAX + 1][16];

	for (unsigned i = 0; i <= KMTLS_TRUST_DOMAINS_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "td%u", i);
		bundles[i] = (struct kmtls_trust_bundle){ names[i], roots };
	}
	assert_string_equal(refusal(bundles, 0), "there is no trust bundle");
	assert_string_equal(refusal(bundles, KMTLS_TRUST_DOMAINS_MAX + 1),
			    "there are bundles of more than 256 trust domains");
	bundles[1].trust_domain = "td0";
	assert_string_equal(refusal(bundles, 2), "there are two bundles of one trust domain");
	bundles[0].roots = none;
	assert_string_equal(refusal(bundles, 1), "the trust bundle is empty");
}

static struct kmtls_trust *trust_both(void)
{
	const struct kmtls_trust_bundle bundles[] = { { TEST_TRUST_DOMAIN, roots },
						      { PARTNER, partner_roots } };
	struct kmtls_trust *trust = NULL;
	const char *why;

	assert_int_equal(kmtls_trust_new(bundles, 2, &trust, &why), 0);
	return trust;
}

static X509 *first(const struct kmtls_trust *trust, const char *domain)
{
	STACK_OF(X509) *found = kmtls_trust_roots(trust, domain, strlen(domain));

	return found ? sk_X509_value(found, 0) : NULL;
}

static void byte_by_byte(void **state)
{
	struct kmtls_trust *trust = trust_both();

	assert_ptr_equal(first(trust, TEST_TRUST_DOMAIN), root.certificate);
	assert_ptr_equal(first(trust, PARTNER), partner_root.certificate);
	assert_null(first(trust, "example.or"));
	assert_null(first(trust, "example.org2"));
	assert_null(first(trust, "Example.org"));
	assert_null(first(trust, ""));
	kmtls_trust_put(trust);
	kmtls_trust_put(NULL);
}

static struct kmtls_svid *svid_of(const struct test_certificate *leaf, struct kmtls_trust *trust)
{
	struct kmtls_svid *svid = NULL;
	const char *why;

	assert_int_equal(
		kmtls_svid_new_federated(leaf->certificate, NULL, leaf->key, trust, &svid, &why),
		0);
	kmtls_trust_put(trust);
	return svid;
}

/* The partner's client to our server; whom the server blames. */
static void meet(const struct kmtls_svid *client_svid, const struct kmtls_svid *server_svid,
		 enum kmtls_reason client_reason, enum kmtls_reason server_reason)
{
	struct test_side client, server;

	test_sides_open(&client, client_svid->client, &server, server_svid->server);
	test_sides_run(&client, &server);
	assert_int_equal(client.reason, client_reason);
	assert_int_equal(server.reason, server_reason);
	if (!server_reason)
		assert_string_equal(server.verify.peer_id, PARTNER_ID);
	test_side_close(&client);
	test_side_close(&server);
}

static void federated(void **state)
{
	struct kmtls_svid *partner = svid_of(&partner_leaf, trust_both());
	struct kmtls_svid *ours = svid_of(&server_leaf, trust_both());
	struct kmtls_svid *alone =
		svid_of(&server_leaf, test_trust_make(TEST_TRUST_DOMAIN, root.certificate));

	meet(partner, ours, KMTLS_REASON_NONE, KMTLS_REASON_NONE);
	meet(partner, alone, KMTLS_REASON_REFUSED_UNKNOWN_CA, KMTLS_REASON_UNKNOWN_TRUST_DOMAIN);
	kmtls_svid_put(partner);
	kmtls_svid_put(ours);
	kmtls_svid_put(alone);
}

static void own_bundle_needed(void **state)
{
	struct kmtls_trust *trust = test_trust_make(PARTNER, partner_root.certificate);
	struct kmtls_svid *svid = NULL;
	const char *why = NULL;

	assert_int_equal(kmtls_svid_new_federated(server_leaf.certificate, NULL, server_leaf.key,
						  trust, &svid, &why),
			 -EINVAL);
	assert_string_equal(why, "there is no trust bundle of the certificate's own trust domain");
	kmtls_trust_put(trust);
}

static void kept(void **state)
{
	struct kmtls_svid *svid = svid_of(&server_leaf, trust_both()), *again = NULL;
	struct kmtls_svid *partner = svid_of(&partner_leaf, trust_both());
	struct kmtls_secret_region *region = NULL;
	char why[256];
	int fd;

	assert_int_equal(kmtls_secret_region_create(64, &region, &fd, why), 0);
	assert_int_equal(kmtls_svid_store_put(region, svid), 0);
	assert_int_equal(kmtls_svid_store_get(region, TEST_SERVER_ID, &again), 0);
	assert_int_equal(again->trust->count, 2);
	assert_int_equal(X509_cmp(first(again->trust, PARTNER), partner_root.certificate), 0);
	assert_int_equal(X509_cmp(first(again->trust, TEST_TRUST_DOMAIN), root.certificate), 0);
	meet(partner, again, KMTLS_REASON_NONE, KMTLS_REASON_NONE);
	/* Cut off anywhere it is nothing. */
	for (size_t length = 0; length < 1200; length += 7) {
		unsigned char blob[KMTLS_SECRET_MAX];
		struct kmtls_svid *part = NULL;
		ssize_t whole;

		assert_int_equal(kmtls_svid_store_put(region, svid), 0);
		whole = kmtls_secret_get(region, KMTLS_SECRET_SVID, svid->id_hash, blob,
					 sizeof(blob));
		assert_true(whole > 1200);
		assert_int_equal(kmtls_secret_put(region, KMTLS_SECRET_SVID, svid->id_hash, blob,
						  (size_t)whole - 1 - length),
				 0);
		assert_int_not_equal(kmtls_svid_store_get(region, TEST_SERVER_ID, &part), 0);
	}
	kmtls_svid_put(svid);
	kmtls_svid_put(again);
	kmtls_svid_put(partner);
}

static int setup(void **state)
{
	const struct test_spec server_spec = { .id = TEST_SERVER_ID };
	const struct test_spec partner_spec = { .id = PARTNER_ID };
	struct test_spec spec = test_root_spec;

	root = test_certificate_make(&spec, NULL);
	spec.id = "spiffe://" PARTNER; /* and the same name: it is the trust domain that counts */
	partner_root = test_certificate_make(&spec, NULL);
	server_leaf = test_certificate_make(&server_spec, &root);
	partner_leaf = test_certificate_make(&partner_spec, &partner_root);
	roots = sk_X509_new_null();
	partner_roots = sk_X509_new_null();
	none = sk_X509_new_null();
	sk_X509_push(roots, root.certificate);
	sk_X509_push(partner_roots, partner_root.certificate);
	return 0;
}

static int teardown(void **state)
{
	sk_X509_free(roots);
	sk_X509_free(partner_roots);
	sk_X509_free(none);
	test_certificate_free(&root);
	test_certificate_free(&partner_root);
	test_certificate_free(&server_leaf);
	test_certificate_free(&partner_leaf);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules),     cmocka_unit_test(byte_by_byte),
		cmocka_unit_test(federated), cmocka_unit_test(own_bundle_needed),
		cmocka_unit_test(kept),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("trust", tests, setup, teardown);
}
