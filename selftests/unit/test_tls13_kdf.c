/* SPDX-License-Identifier: Apache-2.0 */
/* test_tls13_kdf.c - the derivation that handshakes use gives what OpenSSL's own gives, and says no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <string.h>

#include "certificates.h"
#include "key_schedule.h"
#include "tls_library.h"

#define ROOM 600

static EVP_KDF *ours, *openssl;
static unsigned char key[48], salt[48], data[48];

static int setup_group(void **state)
{
	assert_non_null(kmtls_tls_library());
	ours = EVP_KDF_fetch(kmtls_tls_library(), OSSL_KDF_NAME_TLS1_3_KDF, NULL);
	openssl = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, NULL);
	assert_non_null(ours);
	assert_non_null(openssl);
	/* Or each would be compared with itself. */
	assert_ptr_not_equal(EVP_KDF_get0_provider(ours), EVP_KDF_get0_provider(openssl));
	for (unsigned i = 0; i < sizeof(key); i++) {
		key[i] = i;
		salt[i] = 100 + i;
		data[i] = 200 - i;
	}
	return 0;
}

static int teardown_group(void **state)
{
	EVP_KDF_free(ours);
	EVP_KDF_free(openssl);
	return 0;
}

/* What libssl gives; NULL: it leaves that out. */
struct request {
	int mode;
	const char *digest;
	const unsigned char *key;
	size_t key_length;
	const unsigned char *salt;
	size_t salt_length;
	const char *label;
	const unsigned char *data;
	size_t data_length;
};

static bool derive(EVP_KDF *kdf, const struct request *request, unsigned char *bytes, size_t length)
{
	OSSL_PARAM params[8], *p = params;
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	int mode = request->mode;
	bool good;

	assert_non_null(ctx);
	*p++ = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
	*p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)request->digest, 0);
	if (request->key)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)request->key,
							 request->key_length);
	if (request->salt)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)request->salt,
							 request->salt_length);
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (void *)"tls13 ", 6);
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (void *)request->label,
						 strlen(request->label));
	if (request->data)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_DATA, (void *)request->data,
							 request->data_length);
	*p = OSSL_PARAM_construct_end();
	good = EVP_KDF_derive(ctx, bytes, length, params) == 1;
	EVP_KDF_CTX_free(ctx);
	ERR_clear_error();
	return good;
}

static void assert_same(const struct request *request, size_t length)
{
	unsigned char a[ROOM], b[ROOM];

	assert_true(length < sizeof(a));
	memset(a, 0xa5, sizeof(a));
	memset(b, 0xa5, sizeof(b));
	assert_true(derive(ours, request, a, length));
	assert_true(derive(openssl, request, b, length));
	assert_memory_equal(a, b, sizeof(a)); /* nothing behind it is written */
}

static void assert_refused(const struct request *request, size_t length)
{
	unsigned char bytes[ROOM];

	assert_false(derive(ours, request, bytes, length));
}

static const struct {
	const char *name;
	size_t length;
} hashes[] = { { "SHA2-256", 32 }, { "SHA256", 32 }, { "sha2-384", 48 }, { "SHA384", 48 } };
#define HASHES (sizeof(hashes) / sizeof(hashes[0]))

static void expand(void **state)
{
	static const size_t lengths[] = { 1, 12, 16, 31, 32, 33, 48, 49, 64, 96, 97, ROOM - 1 };

	for (unsigned h = 0; h < HASHES; h++)
		for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			struct request request = {
				.mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY,
				.digest = hashes[h].name,
				.key = key,
				.key_length = hashes[h].length,
				.label = i & 1 ? "c hs traffic" : "key",
			};

			assert_same(&request, lengths[i]);
			request.data = data;
			assert_same(&request, lengths[i]);
			request.data_length = hashes[h].length;
			assert_same(&request, lengths[i]);
		}
}

static void extract(void **state)
{
	for (unsigned h = 0; h < HASHES; h++)
		for (unsigned which = 0; which < 4; which++) {
			const struct request request = {
				.mode = EVP_KDF_HKDF_MODE_EXTRACT_ONLY,
				.digest = hashes[h].name,
				.key = which & 1 ? key : NULL,
				.key_length = 32, /* of an (EC)DHE, also for SHA-384 */
				.salt = which & 2 ? salt : NULL,
				.salt_length = hashes[h].length,
				.label = "derived",
			};

			assert_same(&request, hashes[h].length);
		}
}

static void refused(void **state)
{
	const struct request good = {
		.mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY,
		.digest = "SHA256",
		.key = key,
		.key_length = 32,
		.salt = salt,
		.salt_length = 32,
		.label = "key",
	};
	struct request request = good;
	char label[256];

	assert_same(&good, 16);
	request.mode = EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND;
	assert_refused(&request, 16);
	request = good;
	request.digest = "SHA1";
	assert_refused(&request, 16);
	request = good;
	request.key = NULL;
	assert_refused(&request, 16);
	request = good;
	request.key_length = 31;
	assert_refused(&request, 16);
	request = good;
	memset(label, 'a', sizeof(label));
	label[250] = '\0';
	request.label = label;
	assert_refused(&request, 16);
	request = good;
	request.mode = EVP_KDF_HKDF_MODE_EXTRACT_ONLY;
	assert_same(&request, 32);
	assert_refused(&request, 31);
	request.salt_length = 31;
	assert_refused(&request, 32);
}

/* It would be forgotten, and something else derived. */
static void set_before(void **state)
{
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(ours);
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key, sizeof(key)),
		OSSL_PARAM_construct_end(),
	};

	assert_int_equal(EVP_KDF_CTX_set_params(ctx, params), 0);
	EVP_KDF_CTX_free(ctx);
	ERR_clear_error();
}

/* Secrets go to the handshake that a thread is at, and to nobody when it is at none. */
static void only_under_way(void **state)
{
	struct request request = {
		.mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY,
		.digest = "SHA256",
		.key = key,
		.key_length = 32,
		.label = "c ap traffic",
	};
	struct kmtls_traffic_secrets secrets = { 0 }, none = { 0 };
	const struct test_spec spec = { .id = TEST_CLIENT_ID };
	struct test_certificate leaf = test_certificate_make(&spec, NULL);
	SSL_CTX *context = test_context_make(KMTLS_ROLE_CLIENT, &leaf, NULL, NULL);
	SSL *ssl = SSL_new(context);
	BIO *here, *there;

	assert_int_equal(BIO_new_bio_pair(&here, 0, &there, 0), 1);
	SSL_set_bio(ssl, here, here);
	SSL_set_connect_state(ssl);
	assert_int_equal(kmtls_traffic_secrets_attach(ssl, &secrets), 0);
	assert_int_equal(kmtls_traffic_secrets_handshake(ssl), -1);
	assert_same(&request, 32);
	assert_memory_equal(&secrets, &none, sizeof(secrets));
	SSL_free(ssl);
	BIO_free(there);
	SSL_CTX_free(context);
	test_certificate_free(&leaf);
	ERR_clear_error();
}

/* libssl has no line to make of a secret. */
static void no_keylog(void **state)
{
	const struct test_spec ec = { .id = TEST_CLIENT_ID };
	const struct test_spec rsa = { .id = TEST_CLIENT_ID, .algorithm = "RSA2048" };
	struct test_certificate leaf = test_certificate_make(&ec, NULL);
	SSL_CTX *context = test_context_make(KMTLS_ROLE_SERVER, &leaf, NULL, NULL);

	assert_null(SSL_CTX_get_keylog_callback(context));
	SSL_CTX_free(context);
	test_certificate_free(&leaf);
	leaf = test_certificate_make(&rsa, NULL);
	context = test_context_make(KMTLS_ROLE_SERVER, &leaf, NULL, NULL);
	assert_ptr_equal(SSL_CTX_get_keylog_callback(context), kmtls_traffic_secrets_keylog);
	SSL_CTX_free(context);
	test_certificate_free(&leaf);
}

/* One side's secrets come from the derivation, the other's from the lines: they are the same. */
static void both_ways(void **state)
{
	const struct test_spec ec = { .id = TEST_CLIENT_ID };
	const struct test_spec rsa = { .id = TEST_SERVER_ID, .algorithm = "RSA2048" };
	struct test_certificate root = test_certificate_make(&test_root_spec, NULL);
	struct test_certificate here = test_certificate_make(&ec, &root);
	struct test_certificate there = test_certificate_make(&rsa, &root);
	SSL_CTX *ours_context = test_context_make(KMTLS_ROLE_CLIENT, &here, NULL, root.certificate);
	SSL_CTX *other_context =
		test_context_make(KMTLS_ROLE_SERVER, &there, NULL, root.certificate);
	struct test_side client, server;

	test_sides_open(&client, ours_context, &server, other_context);
	test_sides_run(&client, &server);
	assert_true(client.ready && server.ready);
	assert_int_not_equal(client.secrets.client.length, 0);
	assert_memory_not_equal(client.secrets.client.bytes, client.secrets.server.bytes, 32);
	assert_memory_equal(&client.secrets, &server.secrets, sizeof(client.secrets));
	test_side_close(&client);
	test_side_close(&server);
	SSL_CTX_free(ours_context);
	SSL_CTX_free(other_context);
	test_certificate_free(&here);
	test_certificate_free(&there);
	test_certificate_free(&root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(expand),	  cmocka_unit_test(extract),
		cmocka_unit_test(refused),	  cmocka_unit_test(set_before),
		cmocka_unit_test(only_under_way), cmocka_unit_test(no_keylog),
		cmocka_unit_test(both_ways),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
