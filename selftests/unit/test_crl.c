/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_crl.c - which CRLs are taken, and what a certificate that is revoked meets on both sides:
 * the reason, and alert 44. A CA revokes what it has signed itself and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "certificates.h"
#include "crl.h"
#include "reason.h"
#include "revocation.h"

static struct test_certificate root, same_name, mute, client_leaf, server_leaf;

/* Seconds from now; revoked may be NULL. */
static X509_CRL *make_crl(const struct test_certificate *ca, X509 *revoked, long begin, long end)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *at = ASN1_TIME_adj(NULL, time(NULL), 0, begin);

	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->certificate));
	X509_CRL_set1_lastUpdate(crl, at);
	if (revoked) {
		X509_REVOKED *entry = X509_REVOKED_new();

		X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked));
		X509_REVOKED_set_revocationDate(entry, at);
		X509_CRL_add0_revoked(crl, entry);
	}
	ASN1_TIME_free(at);
	at = ASN1_TIME_adj(NULL, time(NULL), 0, end);
	X509_CRL_set1_nextUpdate(crl, at);
	ASN1_TIME_free(at);
	assert_true(X509_CRL_sign(crl, ca->key, EVP_sha256()));
	return crl;
}

static const char *rule_of(X509_CRL *crl, const struct test_certificate *ca)
{
	const char *rule = kmtls_crl_rule(crl, ca->certificate, time(NULL));

	X509_CRL_free(crl);
	return rule;
}

static X509_CRL *with_extension(const char *kind, const void *bytes, int length)
{
	X509_CRL *crl = make_crl(&root, NULL, -60, 60);
	ASN1_OBJECT *object = OBJ_txt2obj(kind, 1);
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension;

	ASN1_OCTET_STRING_set(value, bytes, length);
	extension = X509_EXTENSION_create_by_OBJ(NULL, object, 1, value);
	assert_true(X509_CRL_add_ext(crl, extension, -1));
	assert_true(X509_CRL_sign(crl, root.key, EVP_sha256()));
	X509_EXTENSION_free(extension);
	ASN1_OCTET_STRING_free(value);
	ASN1_OBJECT_free(object);
	return crl;
}

static void rules(void **state)
{
	assert_null(rule_of(make_crl(&root, NULL, -60, 60), &root));
	assert_null(rule_of(make_crl(&root, client_leaf.certificate, -60, 60), &root));
	assert_string_equal(rule_of(make_crl(&same_name, NULL, -60, 60), &root),
			    "is not signed by the CA it names");
	assert_string_equal(rule_of(make_crl(&mute, NULL, -60, 60), &mute),
			    "its CA may not sign CRLs (key usage cRLSign)");
	assert_string_equal(rule_of(make_crl(&root, NULL, 3600, 7200), &root), "is not valid yet");
	assert_string_equal(rule_of(with_extension("2.5.29.27", "\2\1\1", 3), &root),
			    "a delta CRL");
	assert_string_equal(rule_of(with_extension("2.5.29.28", "\x30\3\x84\1\xff", 5), &root),
			    "an indirect CRL");
	assert_null(rule_of(with_extension("2.5.29.28", "\x30\3\x81\1\xff", 5), &root));
	assert_string_equal(rule_of(with_extension("2.5.29.28", "\x30\3\x84", 3), &root),
			    "its issuing distribution point cannot be read");
	assert_string_equal(rule_of(with_extension("1.3.6.1.4.1.55555.1", "\5\0", 2), &root),
			    "a critical extension not known here");
}

static void expiry(void **state)
{
	X509_CRL *fresh = make_crl(&root, NULL, -60, 60), *old = make_crl(&root, NULL, -60, -1);

	assert_false(kmtls_crl_is_expired(fresh, time(NULL)));
	assert_true(kmtls_crl_is_expired(old, time(NULL)));
	X509_CRL_free(fresh);
	X509_CRL_free(old);
}

static int count(const void *bytes, size_t length)
{
	STACK_OF(X509_CRL) *crls = kmtls_crl_parse(bytes, length);
	int number = crls ? sk_X509_CRL_num(crls) : -1;

	sk_X509_CRL_pop_free(crls, X509_CRL_free);
	return number;
}

static void forms(void **state)
{
	X509_CRL *crl = make_crl(&root, client_leaf.certificate, -60, 60);
	BIO *text = BIO_new(BIO_s_mem());
	unsigned char *der = NULL;
	int length = i2d_X509_CRL(crl, &der);
	char *pem;
	long size;

	assert_int_equal(PEM_write_bio_X509_CRL(text, crl), 1);
	assert_int_equal(PEM_write_bio_X509_CRL(text, crl), 1);
	size = BIO_get_mem_data(text, &pem);
	assert_int_equal(count(der, (size_t)length), 1);
	assert_int_equal(count(pem, (size_t)size), 2);
	assert_int_equal(count(pem, (size_t)size / 2), 1);
	/* Cut off in the middle: none of it, not the first half. */
	assert_int_equal(count(pem, (size_t)size - 40), -1);
	assert_int_equal(count(der, (size_t)length - 1), -1);
	der = OPENSSL_realloc(der, (size_t)length + 1);
	der[length] = 0;
	assert_int_equal(count(der, (size_t)length + 1), -1);
	assert_int_equal(count("", 0), -1);
	assert_int_equal(count("0", 1), -1);
	assert_int_equal(count("hello\n", 6), -1);
	OPENSSL_free(der);
	BIO_free(text);
	X509_CRL_free(crl);
}

/* ---- revoked -------------------------------------------------------------------------------- */

static bool revoke(const struct test_certificate *ca, const struct test_certificate *leaf)
{
	__u64 *hashes = calloc(2, sizeof(*hashes));

	hashes[0] = 77;
	if (leaf)
		hashes[1] = kmtls_revocation_hash(ca->certificate,
						  X509_get_serialNumber(leaf->certificate));
	return kmtls_revocation_replace(hashes, leaf ? 2 : 1);
}

/* Client and server, and whom to blame. */
static void handshake(enum kmtls_reason client_reason, enum kmtls_reason server_reason)
{
	SSL_CTX *client_context =
		test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, root.certificate);
	SSL_CTX *server_context =
		test_context_make(KMTLS_ROLE_SERVER, &server_leaf, NULL, root.certificate);
	struct test_side client, server;

	test_sides_open(&client, client_context, &server, server_context);
	test_sides_run(&client, &server);
	assert_int_equal(client.reason, client_reason);
	assert_int_equal(server.reason, server_reason);
	assert_int_equal(client.ready, !client_reason);
	if (client_reason == KMTLS_REASON_REFUSED_CERTIFICATE)
		assert_int_equal(strncmp(client.detail, "alert 44 ", 9), 0);
	if (server_reason == KMTLS_REASON_REFUSED_CERTIFICATE)
		assert_int_equal(strncmp(server.detail, "alert 44 ", 9), 0);
	if (!client_reason)
		assert_int_equal(
			client.verify.peer_certificate,
			kmtls_revocation_hash(root.certificate,
					      X509_get_serialNumber(server_leaf.certificate)));
	test_side_close(&client);
	test_side_close(&server);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
}

static void revoked(void **state)
{
	handshake(0, 0);
	assert_true(revoke(&root, &server_leaf));
	assert_false(revoke(&root, &server_leaf)); /* nothing new */
	handshake(KMTLS_REASON_REVOKED, KMTLS_REASON_REFUSED_CERTIFICATE);
	assert_true(revoke(&root, &client_leaf));
	handshake(KMTLS_REASON_REFUSED_CERTIFICATE, KMTLS_REASON_REVOKED);
	/* The same serial number of a CA of the same name with another key. */
	assert_true(revoke(&same_name, &client_leaf));
	handshake(0, 0);
	assert_true(revoke(NULL, NULL));
	handshake(0, 0);
	assert_true(kmtls_revocation_holds(77));
	assert_false(kmtls_revocation_holds(0));
	assert_true(kmtls_revocation_replace(NULL, 0));
	assert_false(kmtls_revocation_holds(77));
}

/* Of a chain the hashes of all below the root, for flows that are there when a CRL comes. */
static void intermediates(void **state)
{
	struct test_certificate middle = test_certificate_make(&test_intermediate_spec, &root);
	const struct test_spec spec = { .id = TEST_SERVER_ID };
	struct test_certificate leaf = test_certificate_make(&spec, &middle);
	SSL_CTX *client_context =
		test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, root.certificate);
	SSL_CTX *server_context =
		test_context_make(KMTLS_ROLE_SERVER, &leaf, middle.certificate, root.certificate);
	struct test_side client, server;

	test_sides_open(&client, client_context, &server, server_context);
	test_sides_run(&client, &server);
	assert_true(client.ready);
	assert_int_equal(
		client.verify.peer_certificate,
		kmtls_revocation_hash(middle.certificate, X509_get_serialNumber(leaf.certificate)));
	assert_int_equal(
		client.verify.peer_issuers[0],
		kmtls_revocation_hash(root.certificate, X509_get_serialNumber(middle.certificate)));
	assert_int_equal(client.verify.peer_issuers[1], 0);
	assert_int_equal(server.verify.peer_issuers[0], 0); /* the client's is of the root */
	test_side_close(&client);
	test_side_close(&server);
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
	test_certificate_free(&leaf);
	test_certificate_free(&middle);
}

static int setup(void **state)
{
	struct test_spec mute_spec = test_root_spec;

	mute_spec.key_usage = "critical,keyCertSign";
	test_trio_make(&root, &client_leaf, &server_leaf);
	same_name = test_certificate_make(&test_root_spec, NULL);
	mute = test_certificate_make(&mute_spec, NULL);
	return 0;
}

static int teardown(void **state)
{
	test_trio_free(&root, &client_leaf, &server_leaf);
	test_certificate_free(&same_name);
	test_certificate_free(&mute);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules),   cmocka_unit_test(expiry),	    cmocka_unit_test(forms),
		cmocka_unit_test(revoked), cmocka_unit_test(intermediates),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("crl", tests, setup, teardown);
}
