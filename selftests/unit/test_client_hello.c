/* SPDX-License-Identifier: Apache-2.0 */
/* test_client_hello.c - which first bytes are a ClientHello of the mesh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "client_hello.h"

#define PARTIAL KMTLS_CLIENT_HELLO_PARTIAL
#define OURS KMTLS_CLIENT_HELLO_OURS
#define OTHER KMTLS_CLIENT_HELLO_OTHER

struct text {
	unsigned char bytes[40000];
	size_t length;
};

static void put(struct text *text, const void *bytes, size_t length)
{
	assert_true(text->length + length <= sizeof(text->bytes));
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
}

static void put_number(struct text *text, size_t value, unsigned width)
{
	while (width--) {
		unsigned char byte = value >> 8 * width;

		put(text, &byte, 1);
	}
}

/* Extensions as type, length, bytes. */
static void put_extension(struct text *text, unsigned type, const void *bytes, size_t length)
{
	put_number(text, type, 2);
	put_number(text, length, 2);
	put(text, bytes, length);
}

/* names: with their length bytes. */
static void put_alpn(struct text *text, const char *names)
{
	struct text list = {};

	put_number(&list, strlen(names), 2);
	put(&list, names, strlen(names));
	put_extension(text, 16, list.bytes, list.length);
}

/* A ClientHello message around these extensions. */
static void make_message(const struct text *extensions, struct text *ret_message)
{
	static const unsigned char zeros[34], suites[] = { 0, 4, 0x13, 1, 0x1a, 0x1a },
					      compression[] = { 1, 0 };
	struct text body = {};

	put(&body, zeros, 34);
	put_number(&body, 32, 1);
	put(&body, zeros, 32);
	put(&body, suites, sizeof(suites));
	put(&body, compression, sizeof(compression));
	put_number(&body, extensions->length, 2);
	put(&body, extensions->bytes, extensions->length);
	ret_message->length = 0;
	put_number(ret_message, 1, 1);
	put_number(ret_message, body.length, 3);
	put(ret_message, body.bytes, body.length);
}

/* In records of at most so many bytes. */
static void make_records(const struct text *message, size_t most, struct text *ret_records)
{
	static const unsigned char header[] = { 22, 3, 1 };

	ret_records->length = 0;
	for (size_t at = 0, part; at < message->length; at += part) {
		part = message->length - at < most ? message->length - at : most;
		put(ret_records, header, sizeof(header));
		put_number(ret_records, part, 2);
		put(ret_records, message->bytes + at, part);
	}
}

static void make_hello(const char *names, struct text *ret_records)
{
	struct text extensions = {}, message = {};

	put_extension(&extensions, 0x2a2a, "", 0); /* GREASE, RFC 8701 */
	put_extension(&extensions, 43, "\4\x3a\x3a\3\4", 5);
	if (names)
		put_alpn(&extensions, names);
	put_extension(&extensions, 0xbaba, "\0", 1);
	make_message(&extensions, &message);
	make_records(&message, 16384, ret_records);
}

static enum kmtls_client_hello look(const struct text *text)
{
	/* Memory of exactly that size: reading on is found out. */
	unsigned char *copy = malloc(text->length ? text->length : 1);
	enum kmtls_client_hello result;

	assert_non_null(copy);
	memcpy(copy, text->bytes, text->length);
	result = kmtls_client_hello_look(copy, text->length);
	free(copy);
	return result;
}

/* Cut off anywhere it is PARTIAL; followed by anything it is what it was. */
static void check_whole(struct text *text, enum kmtls_client_hello expected)
{
	size_t length = text->length;

	for (text->length = 0; text->length < length; text->length++)
		assert_int_equal(look(text), PARTIAL);
	assert_int_equal(look(text), expected);
	put(text, "more", 4);
	assert_int_equal(look(text), expected);
	text->length = length;
}

static void names(void **state)
{
	static const struct {
		const char *names;
		enum kmtls_client_hello expected;
	} rows[] = {
		{ "\7kmtls/1", OURS },
		{ "\15kmtls/1+rekey", OURS },
		{ "\15kmtls/1+rekey\7kmtls/1", OURS },
		{ "\2h2\10http/1.1\7kmtls/1", OURS },
		{ "\2\x6a\x6a\7kmtls/1", OURS }, /* GREASE */
		{ NULL, OTHER },
		{ "\2h2", OTHER },
		{ "\2h2\10http/1.1", OTHER },
		{ "\7kmtls/2", OTHER },
		{ "\6kmtls/", OTHER },
		{ "\10kmtls/1x", OTHER },
		{ "\11\7kmtls/1x", OTHER }, /* a name inside a name */
		{ "\7KMTLS/1", OTHER },
		{ "", OTHER },
		{ "\7kmtls/1\5h2", OTHER }, /* a name longer than the list */
		{ "\10kmtls/1", OTHER },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct text hello = {};

		make_hello(rows[i].names, &hello);
		check_whole(&hello, rows[i].expected);
	}
}

static void fragmented(void **state)
{
	static const size_t sizes[] = { 1, 2, 3, 4, 5, 7, 33, 100 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct text extensions = {}, message = {}, records = {};

		put_alpn(&extensions, "\7kmtls/1");
		make_message(&extensions, &message);
		make_records(&message, sizes[i], &records);
		check_whole(&records, OURS);
		/* The last record is not data, and everything before it is in order. */
		extensions.length = 0;
		make_message(&extensions, &message);
		make_records(&message, sizes[i], &records);
		check_whole(&records, OTHER);
	}
}

static void two_extensions(void **state)
{
	static const char *const pairs[][2] = { { "\7kmtls/1", "\7kmtls/1" },
						{ "\2h2", "\7kmtls/1" },
						{ "\7kmtls/1", "\2h2" } };

	for (size_t i = 0; i < 3; i++) {
		struct text extensions = {}, message = {}, records = {};

		put_alpn(&extensions, pairs[i][0]);
		put_alpn(&extensions, pairs[i][1]);
		make_message(&extensions, &message);
		make_records(&message, 16384, &records);
		check_whole(&records, OTHER);
	}
}

static void garbage(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
		enum kmtls_client_hello expected;
	} rows[] = {
		{ "", 0, PARTIAL },
		{ "G", 1, OTHER },
		{ "GET / HTTP/1.1\r\n", 16, OTHER },
		{ "\0", 1, OTHER },
		{ "\x15\3\1\0\2\2\x28", 7, OTHER }, /* an alert */
		{ "\x17\3\3", 3, OTHER }, /* data */
		{ "\x16", 1, PARTIAL },
		{ "\x16\2", 2, OTHER },
		{ "\x16\3", 2, PARTIAL },
		{ "\x16\3\3\0", 4, PARTIAL },
		{ "\x16\3\1\0\0", 5, OTHER }, /* empty */
		{ "\x16\3\1\x40\1", 5, OTHER }, /* too long */
		{ "\x16\3\1\x40\0", 5, PARTIAL },
		{ "\x16\3\1\0\4\1", 6, PARTIAL },
		{ "\x16\3\1\0\4\2", 6, OTHER }, /* a ServerHello */
		{ "\x16\3\1\0\4\1\0\0\0", 9, OTHER }, /* with nothing in it */
		{ "\x16\3\1\0\4\1\1\0\0", 9, OTHER }, /* 64 KiB */
		{ "\x16\3\1\0\1\1\x17\3\3", 9, OTHER }, /* the next record is data */
		{ "\x80\x2e\1\0\2", 5, OTHER }, /* SSL 2 */
		{ "SSH-2.0-OpenSSH_9.2\r\n", 21, OTHER },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct text text = {};

		put(&text, rows[i].bytes, rows[i].length);
		assert_int_equal(look(&text), rows[i].expected);
	}
}

/* Any length inside it that is wrong: not ours, and nothing is read that is not there. */
static void every_byte_changed(void **state)
{
	struct text hello = {};

	make_hello("\2h2\7kmtls/1", &hello);
	for (size_t i = 0; i < hello.length; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			struct text changed = hello;

			changed.bytes[i] ^= 1 << bit;
			look(&changed);
		}
	}
	/* Its own length: one less leaves a byte over, inside. */
	hello.bytes[8]--;
	assert_int_equal(look(&hello), OTHER);
}

static void huge(void **state)
{
	struct text extensions = {}, message = {}, records = {};
	size_t padding;

	/* The largest that is looked at: padded up to there. */
	put_alpn(&extensions, "\7kmtls/1");
	make_message(&extensions, &message);
	padding = KMTLS_CLIENT_HELLO_MAX - 5 - 4 - message.length;
	put_number(&extensions, 21, 2);
	put_number(&extensions, padding, 2);
	while (padding--)
		put(&extensions, "\0", 1);
	make_message(&extensions, &message);
	make_records(&message, 16384, &records);
	assert_int_equal(records.length, 16384);
	records.length--;
	assert_int_equal(look(&records), PARTIAL);
	records.length++;
	assert_int_equal(look(&records), OURS);
	/* One more byte, and its length alone decides. */
	put(&extensions, "\0", 1);
	make_message(&extensions, &message);
	make_records(&message, 16384, &records);
	records.length = 9;
	assert_int_equal(look(&records), OTHER);
	/* Within the limit, but in records so small that their headers are more. */
	extensions.length = 0;
	for (int i = 0; i < 4000; i++)
		put(&extensions, "\0", 1);
	make_message(&extensions, &message);
	make_records(&message, 1, &records);
	records.length = 16383;
	assert_int_equal(look(&records), PARTIAL);
	records.length = 16384;
	assert_int_equal(look(&records), OTHER);
	records.length = 20000;
	assert_int_equal(look(&records), OTHER);
}

/* What OpenSSL really sends, with and without. */
static void from_openssl(void **state)
{
	static const struct {
		const char *names;
		enum kmtls_client_hello expected;
	} rows[] = { { "\15kmtls/1+rekey\7kmtls/1", OURS }, { "\2h2", OTHER }, { "", OTHER } };

	for (size_t i = 0; i < 3; i++) {
		SSL_CTX *context = SSL_CTX_new(TLS_client_method());
		SSL *ssl = SSL_new(context);
		BIO *out = BIO_new(BIO_s_mem());
		struct text text = {};

		if (*rows[i].names)
			SSL_set_alpn_protos(ssl, (const unsigned char *)rows[i].names,
					    strlen(rows[i].names));
		SSL_set_tlsext_host_name(ssl, "somewhere.example");
		SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
		SSL_connect(ssl);
		text.length = BIO_read(out, text.bytes, sizeof(text.bytes));
		check_whole(&text, rows[i].expected);
		SSL_free(ssl);
		SSL_CTX_free(context);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),	  cmocka_unit_test(fragmented),
		cmocka_unit_test(two_extensions), cmocka_unit_test(garbage),
		cmocka_unit_test(huge),		  cmocka_unit_test(every_byte_changed),
		cmocka_unit_test(from_openssl),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
