/* SPDX-License-Identifier: Apache-2.0 */
/* test_x25519_keys.c - keys that handshakes make are those that OpenSSL would make of the same number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <string.h>

#include "tls_library.h"

#define LENGTH 32
#define ROUNDS 50

/* As libssl makes one. */
static EVP_PKEY *make(OSSL_LIB_CTX *library)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(library, "X25519", NULL);
	EVP_PKEY *key = NULL;

	assert_non_null(ctx);
	assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
	assert_int_equal(EVP_PKEY_CTX_set_group_name(ctx, "x25519"), 1);
	assert_int_equal(EVP_PKEY_keygen(ctx, &key), 1);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

static void raw(const EVP_PKEY *key, unsigned char *private, unsigned char *public)
{
	size_t length = LENGTH;

	assert_int_equal(EVP_PKEY_get_raw_private_key(key, private, &length), 1);
	assert_int_equal(length, LENGTH);
	assert_int_equal(EVP_PKEY_get_raw_public_key(key, public, &length), 1);
	assert_int_equal(length, LENGTH);
}

static void same_public_key(void **state)
{
	unsigned char private[LENGTH], public[LENGTH], again[LENGTH], before[LENGTH] = { 0 };

	assert_non_null(kmtls_tls_library());
	for (int i = 0; i < ROUNDS; i++) {
		EVP_PKEY *key = make(kmtls_tls_library()), *same;

		raw(key, private, public);
		assert_memory_not_equal(private, before, LENGTH);
		memcpy(before, private, LENGTH);
		/* RFC 7748, section 5. */
		assert_int_equal(private[0] & 7, 0);
		assert_int_equal(private[LENGTH - 1] & 0xc0, 0x40);
		same = EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", NULL, private, LENGTH);
		assert_non_null(same);
		raw(same, private, again);
		assert_memory_equal(public, again, LENGTH);
		EVP_PKEY_free(same);
		EVP_PKEY_free(key);
	}
}

static void derive(OSSL_LIB_CTX *library, EVP_PKEY *mine, const EVP_PKEY *other,
		   unsigned char *ret_secret)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(library, mine, NULL);
	unsigned char public[LENGTH];
	size_t length = LENGTH;
	EVP_PKEY *peer;

	assert_int_equal(EVP_PKEY_get_raw_public_key(other, public, &length), 1);
	peer = EVP_PKEY_new_raw_public_key_ex(library, "X25519", NULL, public, LENGTH);
	assert_non_null(peer);
	assert_int_equal(EVP_PKEY_derive_init(ctx), 1);
	assert_int_equal(EVP_PKEY_derive_set_peer(ctx, peer), 1);
	assert_int_equal(EVP_PKEY_derive(ctx, ret_secret, &length), 1);
	assert_int_equal(length, LENGTH);
	EVP_PKEY_free(peer);
	EVP_PKEY_CTX_free(ctx);
}

static void same_secret(void **state)
{
	for (int i = 0; i < ROUNDS; i++) {
		EVP_PKEY *ours = make(kmtls_tls_library()), *openssl = make(NULL);
		unsigned char here[LENGTH], there[LENGTH];

		derive(kmtls_tls_library(), ours, openssl, here);
		derive(NULL, openssl, ours, there);
		assert_memory_equal(here, there, LENGTH);
		EVP_PKEY_free(ours);
		EVP_PKEY_free(openssl);
	}
}

/* A client's parameters are no key: the server's public one goes in there. */
static void parameters(void **state)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(kmtls_tls_library(), "X25519", NULL);
	unsigned char private[LENGTH];
	size_t length = LENGTH;
	EVP_PKEY *key = NULL;

	assert_int_equal(EVP_PKEY_paramgen_init(ctx), 1);
	assert_int_equal(EVP_PKEY_CTX_set_group_name(ctx, "x25519"), 1);
	assert_int_equal(EVP_PKEY_paramgen(ctx, &key), 1);
	assert_int_not_equal(EVP_PKEY_get_raw_private_key(key, private, &length), 1);
	EVP_PKEY_free(key);
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
}

static void wrong_group(void **state)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(kmtls_tls_library(), "X25519", NULL);

	assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
	assert_int_not_equal(EVP_PKEY_CTX_set_group_name(ctx, "x448"), 1);
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
}

/* Or the tests above would show that OpenSSL is like OpenSSL. */
static void is_ours(void **state)
{
	EVP_KEYMGMT *ours = EVP_KEYMGMT_fetch(kmtls_tls_library(), "X25519", NULL);
	EVP_KEYMGMT *openssl = EVP_KEYMGMT_fetch(NULL, "X25519", NULL);

	assert_ptr_not_equal(EVP_KEYMGMT_get0_provider(ours), EVP_KEYMGMT_get0_provider(openssl));
	EVP_KEYMGMT_free(ours);
	EVP_KEYMGMT_free(openssl);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_public_key), cmocka_unit_test(same_secret),
		cmocka_unit_test(parameters),	   cmocka_unit_test(wrong_group),
		cmocka_unit_test(is_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
