/* SPDX-License-Identifier: Apache-2.0 */
/* test_psk_wire.c - messages of handshakes with symmetric cryptography only: each field wrong, once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <string.h>

#include "psk_wire.h"

#define OFFERED "\15kmtls/1+rekey\7kmtls/1"

static unsigned char message[KMTLS_PSK_MESSAGE_MAX];
static const unsigned char random_bytes[KMTLS_PSK_RANDOM] = { 1, 2, 3 };

/* One byte of a message, and what is wrong then; NULL: nothing. */
struct row {
	size_t at;
	unsigned char value;
	const char *why;
};

static void assert_why(const char *is, const char *wanted)
{
	if (!wanted)
		assert_null(is);
	else if (!is)
		fail_msg("taken, not: %s", wanted);
	else
		assert_string_equal(is, wanted);
}

static const char *read_client(const unsigned char *bytes, size_t length)
{
	struct kmtls_psk_client_hello hello;

	return kmtls_psk_read_client_hello(bytes, length, &hello);
}

static const char *read_extensions(const unsigned char *bytes, size_t length)
{
	const unsigned char *alpn;

	return kmtls_psk_read_encrypted_extensions(bytes, length, (const unsigned char *)OFFERED,
						   sizeof(OFFERED) - 1, &alpn);
}

static void check_rows(const char *(*read)(const unsigned char *bytes, size_t length),
		       size_t length, const struct row *rows, size_t count)
{
	assert_null(read(message, length));
	for (size_t i = 0; i < count; i++) {
		unsigned char was = message[rows[i].at];

		assert_int_not_equal(was, rows[i].value);
		message[rows[i].at] = rows[i].value;
		assert_why(read(message, length), rows[i].why);
		message[rows[i].at] = was;
	}
	for (size_t cut = 0; cut < length; cut++)
		assert_non_null(read(message, cut));
	assert_non_null(read(message, length + 1));
}

/* supported_versions at 47, psk_key_exchange_modes at 54, pre_shared_key at 60. */
static size_t write_client(void)
{
	const struct kmtls_psk_client_hello hello = {
		.identity = (const unsigned char *)"0123456789abcdef",
		.identity_length = 16,
	};
	size_t truncated, length;

	length = kmtls_psk_write_client_hello(&hello, random_bytes, message, &truncated);
	assert_int_equal(length, 123);
	assert_int_equal(truncated, 88);
	return length;
}

static void client_hello(void **state)
{
	static const struct row rows[] = {
		{ 0, 2, "no ClientHello" },
		{ 3, 0, "no ClientHello" },
		{ 4, 2, "legacy version" },
		{ 5, 1, "legacy version" },
		{ 6, 9, NULL }, /* random */
		{ 38, 33, "malformed session ID" },
		{ 40, 3, "TLS_AES_128_GCM_SHA256 not offered" },
		{ 40, 200, "malformed cipher suites" },
		{ 42, 2, "TLS_AES_128_GCM_SHA256 not offered" },
		{ 43, 2, "compression" },
		{ 44, 1, "compression" },
		{ 46, 1, "malformed extensions" },
		{ 48, 44, "TLS 1.3 not offered" }, /* another extension */
		{ 48, 45, "psk_ke not offered" }, /* its list is none of modes */
		{ 50, 200, "malformed extension" },
		{ 51, 3, "TLS 1.3 not offered" },
		{ 53, 3, "TLS 1.3 not offered" },
		{ 55, 44, "psk_ke not offered" },
		{ 55, 43, "extension repeated" },
		{ 55, 42, "early data" },
		{ 58, 2, "psk_ke not offered" },
		{ 59, 1, "psk_ke not offered" },
		{ 61, 40, "no PSK offered" },
		{ 65, 23, "more than one PSK" }, /* and the rest is no binder */
		{ 67, 0, "malformed PSK identity" },
		{ 67, 15, "more than one PSK" },
		{ 67, 18, "malformed PSK identity" },
		{ 84, 9, NULL }, /* obfuscated_ticket_age */
		{ 89, 32, "malformed PSK binder" },
		{ 90, 31, "malformed PSK binder" },
		{ 91, 9, NULL }, /* the binder is checked by who has the key */
	};

	check_rows(read_client, write_client(), rows, sizeof(rows) / sizeof(rows[0]));
}

static void psk_is_last(void **state)
{
	size_t length = write_client();
	unsigned char modes[6];

	memcpy(modes, message + 54, sizeof(modes));
	memmove(message + 54, message + 60, length - 60);
	memcpy(message + length - 6, modes, sizeof(modes));
	assert_why(read_client(message, length), "PSK is not the last extension");
}

static void identity_length(void **state)
{
	unsigned char long_one[KMTLS_PSK_IDENTITY_MAX + 1] = { 1 };
	struct kmtls_psk_client_hello hello = { .identity = long_one };
	size_t truncated;

	assert_int_equal(kmtls_psk_write_client_hello(&hello, random_bytes, message, &truncated),
			 0);
	hello.identity_length = sizeof(long_one);
	assert_int_equal(kmtls_psk_write_client_hello(&hello, random_bytes, message, &truncated),
			 0);
	hello.identity_length--;
	assert_null(read_client(
		message, kmtls_psk_write_client_hello(&hello, random_bytes, message, &truncated)));
}

static void server_hello(void **state)
{
	static const struct row rows[] = {
		{ 0, 1, "no ServerHello" },
		{ 5, 4, "legacy version" },
		{ 38, 1, "session ID that is not ours" },
		{ 40, 2, "cipher suite that was not offered" },
		{ 40, 3, "cipher suite that was not offered" },
		{ 41, 1, "compression" },
		{ 43, 11, "malformed extensions" },
		{ 45, 51, "extension that was not asked for" }, /* key_share */
		{ 45, 41, "another PSK selected" },
		{ 47, 200, "malformed extension" },
		{ 49, 3, "TLS 1.3 not selected" },
		{ 51, 43, "extension repeated" },
		{ 51, 51, "extension that was not asked for" },
		{ 53, 1, "another PSK selected" },
		{ 55, 1, "another PSK selected" },
	};
	const struct kmtls_psk_server_hello hello = { .random = random_bytes };
	size_t length = kmtls_psk_write_server_hello(&hello, message);

	assert_int_equal(length, 56);
	check_rows(kmtls_psk_read_server_hello, length, rows, sizeof(rows) / sizeof(rows[0]));
	message[43] -= 6; /* without the second extension */
	message[3] -= 6;
	assert_why(kmtls_psk_read_server_hello(message, length - 6), "PSK not selected");
}

/* SHA-256 of "HelloRetryRequest" (RFC 8446 section 4.1.3). */
static void hello_retry_request(void **state)
{
	static const unsigned char retry[KMTLS_PSK_RANDOM] =
		"\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91"
		"\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c";
	const struct kmtls_psk_server_hello hello = { .random = retry };

	assert_why(
		kmtls_psk_read_server_hello(message, kmtls_psk_write_server_hello(&hello, message)),
		"HelloRetryRequest");
}

static void encrypted_extensions(void **state)
{
	static const struct row rows[] = {
		{ 0, 11, "no EncryptedExtensions" },
		{ 5, 13, "malformed extensions" },
		{ 7, 10, "extension that was not asked for" }, /* supported_groups */
		{ 9, 9, "extension that was not asked for" }, /* and one byte more */
		{ 11, 7, "malformed ALPN" },
		{ 12, 6, "malformed ALPN" },
		{ 19, '2', "ALPN that was not offered" },
	};
	size_t length =
		kmtls_psk_write_encrypted_extensions((const unsigned char *)"\7kmtls/1", message);
	const unsigned char *alpn = message;

	assert_int_equal(length, 20);
	check_rows(read_extensions, length, rows, sizeof(rows) / sizeof(rows[0]));
	assert_why(kmtls_psk_read_encrypted_extensions(message, length, NULL, 0, &alpn),
		   "extension that was not asked for");
	length = kmtls_psk_write_encrypted_extensions(NULL, message);
	assert_null(kmtls_psk_read_encrypted_extensions(message, length, NULL, 0, &alpn));
	assert_null(alpn);
}

static void records(void **state)
{
	static const struct {
		unsigned char bytes[6];
		size_t length;
		int size;
	} rows[] = {
		{ "\26\3\1\0\1\1", 6, 6 },
		{ "\26\3\3\0\2\1", 6, 0 },
		{ "\26\3\3\0\0", 5, -1 },
		{ "\26\3\3\3\373", 5, 0 }, /* 1019 */
		{ "\26\3\3\3\374", 5, -1 },
		{ "\26\2", 2, -1 },
		{ "\26", 1, 0 },
		{ "G", 1, -1 },
		{ "\23", 1, -1 },
		{ "\30", 1, -1 },
		{ "", 0, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(kmtls_psk_record_size(rows[i].bytes, rows[i].length),
				 rows[i].size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(client_hello),
		cmocka_unit_test(psk_is_last),
		cmocka_unit_test(identity_length),
		cmocka_unit_test(server_hello),
		cmocka_unit_test(hello_retry_request),
		cmocka_unit_test(encrypted_extensions),
		cmocka_unit_test(records),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("psk_wire", tests, NULL, NULL);
}
