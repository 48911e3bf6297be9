/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_key_schedule.c - against published vectors: RFC 8448 section 3 (AES-128-GCM), RFC 9001
 * appendix A.5 (ChaCha20-Poly1305; its labels are HKDF-Expand-Label's of TLS 1.3), and, where
 * nothing is published, against HKDF-Expand written out with HMAC (RFC 5869 section 2.3) and
 * OpenSSL's TLS13-KDF.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "key_schedule.h"
#include "tls_library.h"

#define CLIENT_SECRET "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
#define SERVER_SECRET "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"
#define RANDOM "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define HEX_96 CLIENT_SECRET "00112233445566778899aabbccddeeff"

static size_t unhex(const char *text, unsigned char *bytes)
{
	size_t length = strlen(text) / 2, i;

	for (i = 0; i < length; i++) {
		const char pair[3] = { text[2 * i], text[2 * i + 1], 0 };

		bytes[i] = strtoul(pair, NULL, 16);
	}
	return length;
}

static struct kmtls_secret secret_of(const char *text)
{
	struct kmtls_secret secret = { 0 };

	secret.length = unhex(text, secret.bytes);
	return secret;
}

static void assert_hex(const unsigned char *bytes, const char *text)
{
	unsigned char wanted[64];
	size_t length = unhex(text, wanted);

	assert_memory_equal(bytes, wanted, length);
}

static void rfc8448_client(void **state)
{
	struct kmtls_secret secret = secret_of(CLIENT_SECRET);
	struct kmtls_record_key key;

	assert_int_equal(kmtls_record_key_derive(0x1301, &secret, &key), 0);
	assert_int_equal(key.cipher, 0x1301);
	assert_hex(key.key, "17422dda596ed5d9acd890e3c63f5051");
	assert_hex(key.iv, "5b78923dee08579033e523d9");
}

static void rfc8448_server(void **state)
{
	struct kmtls_secret secret = secret_of(SERVER_SECRET);
	struct kmtls_record_key key;

	assert_int_equal(kmtls_record_key_derive(0x1301, &secret, &key), 0);
	assert_hex(key.key, "9f02283b6c9c07efc26bb9f2ac92e356");
	assert_hex(key.iv, "cf782b88dd83549aadf1e984");
}

static void rfc9001_chacha20(void **state)
{
	struct kmtls_secret secret =
		secret_of("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b");
	unsigned char bytes[32];

	assert_int_equal(kmtls_expand_label(0x1303, &secret, "quic key", bytes, 32), 0);
	assert_hex(bytes, "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8");
	assert_int_equal(kmtls_expand_label(0x1303, &secret, "quic iv", bytes, 12), 0);
	assert_hex(bytes, "e0459b3474bdd0e44a41c144");
	assert_int_equal(kmtls_expand_label(0x1303, &secret, "quic ku", bytes, 32), 0);
	assert_hex(bytes, "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9");
}

/* struct HkdfLabel of RFC 8446 section 7.1 by hand; lengths here need one block only. */
static void expand_by_hand(const EVP_MD *digest, const struct kmtls_secret *secret,
			   const char *label, unsigned char *ret_bytes, size_t length)
{
	unsigned char info[64] = { length >> 8, length, 6 + strlen(label) }, block[64];
	size_t used = 3;
	unsigned size;

	memcpy(info + used, "tls13 ", 6);
	memcpy(info + used + 6, label, strlen(label));
	used += 6 + strlen(label);
	info[used++] = 0; /* no context */
	info[used++] = 1; /* the counter of HKDF-Expand */
	assert_non_null(HMAC(digest, secret->bytes, secret->length, info, used, block, &size));
	assert_true(length <= size);
	memcpy(ret_bytes, block, length);
}

static void sha384(void **state)
{
	struct kmtls_secret secret = secret_of(HEX_96);
	struct kmtls_record_key key;
	unsigned char wanted[48], bytes[48];

	assert_int_equal(secret.length, 48);
	assert_int_equal(kmtls_record_key_derive(0x1302, &secret, &key), 0);
	assert_int_equal(key.cipher, 0x1302);
	expand_by_hand(EVP_sha384(), &secret, "key", wanted, 32);
	assert_memory_equal(key.key, wanted, 32);
	expand_by_hand(EVP_sha384(), &secret, "iv", wanted, 12);
	assert_memory_equal(key.iv, wanted, 12);
	assert_int_equal(kmtls_expand_label(0x1302, &secret, "traffic upd", bytes, 48), 0);
	expand_by_hand(EVP_sha384(), &secret, "traffic upd", wanted, 48);
	assert_memory_equal(bytes, wanted, 48);
}

static void expand_by_openssl(const char *digest, const struct kmtls_secret *secret,
			      const char *label, unsigned char *ret_bytes, size_t length)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret->bytes,
						  secret->length),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (void *)"tls13 ", 6),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (void *)label,
						  strlen(label)),
		OSSL_PARAM_construct_end(),
	};

	assert_int_equal(EVP_KDF_derive(ctx, ret_bytes, length, params), 1);
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
}

static void as_openssl_does(void **state)
{
	static const struct {
		__u16 cipher;
		size_t hash, key;
		const char *digest;
	} rows[] = { { 0x1301, 32, 16, "SHA256" },
		     { 0x1302, 48, 32, "SHA384" },
		     { 0x1303, 32, 32, "SHA256" } };

	assert_non_null(kmtls_tls_library()); /* or it would be compared with itself */
	for (size_t i = 0; i < 100 * sizeof(rows) / sizeof(rows[0]); i++) {
		size_t row = i % 3;
		struct kmtls_secret secret = { .length = rows[row].hash }, next;
		unsigned char wanted[48], zeros[32] = { 0 };
		struct kmtls_record_key key;

		assert_int_equal(RAND_bytes(secret.bytes, secret.length), 1);
		assert_int_equal(kmtls_record_key_derive(rows[row].cipher, &secret, &key), 0);
		expand_by_openssl(rows[row].digest, &secret, "key", wanted, rows[row].key);
		assert_memory_equal(key.key, wanted, rows[row].key);
		assert_memory_equal(key.key + rows[row].key, zeros, 32 - rows[row].key);
		expand_by_openssl(rows[row].digest, &secret, "iv", wanted, 12);
		assert_memory_equal(key.iv, wanted, 12);
		assert_int_equal(kmtls_secret_next(rows[row].cipher, &secret, &next), 0);
		expand_by_openssl(rows[row].digest, &secret, "traffic upd", wanted, next.length);
		assert_memory_equal(next.bytes, wanted, next.length);
	}
}

/* Where OpenSSL's configuration has other providers than the default one, they derive. What is found
 * out once per process must not have been: it comes first, in a process of its own. */
static void by_other_providers(void **state)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (!child) {
		struct kmtls_secret secret = secret_of(CLIENT_SECRET), of_48 = secret_of(HEX_96);
		unsigned char key[16], bytes[32], wanted[32];

		unhex("17422dda596ed5d9acd890e3c63f5051", key);
		if (!OSSL_PROVIDER_load(NULL, "default") || !OSSL_PROVIDER_load(NULL, "base") ||
		    kmtls_tls_library())
			_exit(1);
		if (kmtls_expand_label(0x1301, &secret, "key", bytes, 16) || memcmp(bytes, key, 16))
			_exit(2);
		expand_by_openssl("SHA384", &of_48, "key", wanted, 32);
		if (kmtls_expand_label(0x1302, &of_48, "key", bytes, 32) ||
		    memcmp(bytes, wanted, 32))
			_exit(3);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void traffic_update(void **state)
{
	struct kmtls_secret secret = secret_of(SERVER_SECRET);
	unsigned char wanted[32], bytes[32];

	assert_int_equal(kmtls_expand_label(0x1301, &secret, "traffic upd", bytes, 32), 0);
	expand_by_hand(EVP_sha256(), &secret, "traffic upd", wanted, 32);
	assert_memory_equal(bytes, wanted, 32);
}

/* Twice in a row, for each cipher; what must not change stays. */
static void next_secrets(void **state)
{
	static const struct {
		__u16 cipher;
		const char *secret;
	} rows[] = { { 0x1301, CLIENT_SECRET }, { 0x1302, HEX_96 }, { 0x1303, SERVER_SECRET } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct kmtls_secret secret = secret_of(rows[i].secret), next;
		unsigned char wanted[48];

		assert_int_equal(kmtls_secret_length(rows[i].cipher), secret.length);
		for (int round = 0; round < 2; round++) {
			expand_by_hand(secret.length == 48 ? EVP_sha384() : EVP_sha256(), &secret,
				       "traffic upd", wanted, secret.length);
			assert_int_equal(kmtls_secret_next(rows[i].cipher, &secret, &next), 0);
			assert_int_equal(next.length, secret.length);
			assert_memory_equal(next.bytes, wanted, next.length);
			secret = next;
		}
	}
}

static void bad_arguments(void **state)
{
	struct kmtls_secret of_32 = secret_of(CLIENT_SECRET), of_48 = secret_of(HEX_96);
	struct kmtls_secret unset = { 0 };
	struct kmtls_record_key key, before;
	struct kmtls_secret next = { .length = 7 };
	unsigned char byte;

	memset(&key, 0x5a, sizeof(key));
	before = key;
	assert_int_equal(kmtls_record_key_derive(0x1302, &of_32, &key), -EINVAL);
	assert_int_equal(kmtls_record_key_derive(0x1301, &of_48, &key), -EINVAL);
	assert_int_equal(kmtls_record_key_derive(0x1303, &of_48, &key), -EINVAL);
	assert_int_equal(kmtls_record_key_derive(0x1301, &unset, &key), -EINVAL);
	assert_int_equal(kmtls_record_key_derive(0x1304, &of_32, &key), -EINVAL);
	assert_int_equal(kmtls_record_key_derive(0, &of_32, &key), -EINVAL);
	assert_int_equal(kmtls_expand_label(0x009c, &of_32, "key", &byte, 1), -EINVAL);
	assert_memory_equal(&key, &before, sizeof(key));
	assert_int_equal(kmtls_secret_next(0x1302, &of_32, &next), -EINVAL);
	assert_int_equal(kmtls_secret_next(0x1304, &of_32, &next), -EINVAL);
	assert_int_equal(next.length, 7);
	assert_int_equal(kmtls_secret_length(0x1304), 0);
}

static void wiping(void **state)
{
	struct kmtls_traffic_secrets secrets = { secret_of(CLIENT_SECRET), secret_of(HEX_96) };
	static const struct kmtls_traffic_secrets no_secrets;
	static const struct kmtls_record_key no_key;
	struct kmtls_record_key key = { .cipher = 0x1301 };

	memset(key.key, 0xff, sizeof(key.key));
	memset(key.iv, 0xff, sizeof(key.iv));
	kmtls_record_key_wipe(&key);
	assert_memory_equal(&key, &no_key, sizeof(key));
	kmtls_secret_wipe(&secrets.client);
	assert_memory_equal(&secrets.client, &no_secrets.client, sizeof(secrets.client));
	assert_int_equal(secrets.server.length, 48);
	kmtls_traffic_secrets_wipe(&secrets);
	assert_memory_equal(&secrets, &no_secrets, sizeof(secrets));
}

/* ---- the keylog ---------------------------------------------------------------------------- */

struct keylog {
	SSL_CTX *context;
	SSL *ssl;
	struct kmtls_traffic_secrets secrets;
};

static int setup(void **state)
{
	static struct keylog keylog;

	memset(&keylog, 0, sizeof(keylog));
	keylog.context = SSL_CTX_new(TLS_client_method());
	keylog.ssl = SSL_new(keylog.context);
	assert_int_equal(kmtls_traffic_secrets_attach(keylog.ssl, &keylog.secrets), 0);
	*state = &keylog;
	return 0;
}

static int teardown(void **state)
{
	struct keylog *keylog = *state;

	SSL_free(keylog->ssl);
	SSL_CTX_free(keylog->context);
	return 0;
}

static void keylog_takes_both(void **state)
{
	struct keylog *keylog = *state;

	kmtls_traffic_secrets_keylog(keylog->ssl,
				     "CLIENT_TRAFFIC_SECRET_0 " RANDOM " " CLIENT_SECRET);
	assert_int_equal(keylog->secrets.client.length, 32);
	assert_int_equal(keylog->secrets.server.length, 0);
	assert_hex(keylog->secrets.client.bytes, CLIENT_SECRET);
	kmtls_traffic_secrets_keylog(keylog->ssl, "SERVER_TRAFFIC_SECRET_0 " RANDOM " " HEX_96);
	assert_int_equal(keylog->secrets.server.length, 48);
	assert_hex(keylog->secrets.server.bytes, HEX_96);
}

static void keylog_ignores_the_rest(void **state)
{
	static const char *const lines[] = {
		"CLIENT_HANDSHAKE_TRAFFIC_SECRET " RANDOM " " CLIENT_SECRET,
		"SERVER_HANDSHAKE_TRAFFIC_SECRET " RANDOM " " CLIENT_SECRET,
		"EXPORTER_SECRET " RANDOM " " CLIENT_SECRET,
		"CLIENT_TRAFFIC_SECRET_1 " RANDOM " " CLIENT_SECRET,
		"CLIENT_TRAFFIC_SECRET_00 " RANDOM " " CLIENT_SECRET,
		"XCLIENT_TRAFFIC_SECRET_0 " RANDOM " " CLIENT_SECRET,
		"client_traffic_secret_0 " RANDOM " " CLIENT_SECRET,
		"",
		"CLIENT_TRAFFIC_SECRET_0",
		"CLIENT_TRAFFIC_SECRET_0 ",
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM,
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM " ",
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM CLIENT_SECRET, /* no space */
		"CLIENT_TRAFFIC_SECRET_0" RANDOM " " CLIENT_SECRET,
		"CLIENT_TRAFFIC_SECRET_0  " RANDOM " " CLIENT_SECRET,
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM "  " CLIENT_SECRET,
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM "0 " CLIENT_SECRET,
		"CLIENT_TRAFFIC_SECRET_0 00 " CLIENT_SECRET,
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM " " CLIENT_SECRET "0", /* odd */
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM " " CLIENT_SECRET "00",
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM " " CLIENT_SECRET "\n",
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM " " HEX_96 "00", /* too long */
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM " " HEX_96 HEX_96 HEX_96,
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM " 00",
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM
		" gg1af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643",
		"CLIENT_TRAFFIC_SECRET_0 " RANDOM
		" a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb63164 ",
	};
	static const struct kmtls_traffic_secrets none;
	struct keylog *keylog = *state;
	size_t i;

	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		kmtls_traffic_secrets_keylog(keylog->ssl, lines[i]);
		assert_memory_equal(&keylog->secrets, &none, sizeof(none));
	}
}

static void keylog_without_secrets(void **state)
{
	struct keylog *keylog = *state;
	SSL *other = SSL_new(keylog->context);

	kmtls_traffic_secrets_keylog(other, "CLIENT_TRAFFIC_SECRET_0 " RANDOM " " CLIENT_SECRET);
	SSL_free(other);
	assert_int_equal(keylog->secrets.client.length, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_other_providers),
		cmocka_unit_test(rfc8448_client),
		cmocka_unit_test(rfc8448_server),
		cmocka_unit_test(rfc9001_chacha20),
		cmocka_unit_test(sha384),
		cmocka_unit_test(as_openssl_does),
		cmocka_unit_test(traffic_update),
		cmocka_unit_test(next_secrets),
		cmocka_unit_test(bad_arguments),
		cmocka_unit_test(wiping),
		cmocka_unit_test_setup_teardown(keylog_takes_both, setup, teardown),
		cmocka_unit_test_setup_teardown(keylog_ignores_the_rest, setup, teardown),
		cmocka_unit_test_setup_teardown(keylog_without_secrets, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("key_schedule", tests, NULL, NULL);
}
