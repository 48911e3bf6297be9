/* SPDX-License-Identifier: Apache-2.0 */
/* test_address.c - what is an address, an endpoint and a prefix, and what is none. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "address.h"

static void test_parse(void **state)
{
	static const __u8 v4[16] = { [10] = 0xff, 0xff, 10, 1, 2, 255 };
	static const __u8 v6[16] = { 0xfd, [15] = 1 };
	struct kmtls_address address;

	assert_int_equal(kmtls_address_parse("10.1.2.255", &address), 0);
	assert_memory_equal(address.bytes, v4, 16);
	assert_true(kmtls_address_is_v4(&address));
	assert_int_equal(kmtls_address_parse("::ffff:10.1.2.255", &address), 0);
	assert_memory_equal(address.bytes, v4, 16);
	assert_int_equal(kmtls_address_parse("fd00::1", &address), 0);
	assert_memory_equal(address.bytes, v6, 16);
	assert_false(kmtls_address_is_v4(&address));
	assert_false(kmtls_address_is_zero(&address));
	assert_int_equal(kmtls_address_parse("::", &address), 0);
	assert_true(kmtls_address_is_zero(&address));
	/* 0.0.0.0 is an IPv4 address, not "none". */
	assert_int_equal(kmtls_address_parse("0.0.0.0", &address), 0);
	assert_false(kmtls_address_is_zero(&address));
}

static void test_parse_refuses(void **state)
{
	static const char *const texts[] = {
		"",
		" ",
		"10.0.0",
		"10.0.0.256",
		"10.0.0.1 ",
		" 10.0.0.1",
		"10.0.0.01",
		"0x0a.0.0.1",
		"10.0.0.1.1",
		"167772161",
		"10.0.0.-1",
		"localhost",
		"fe80::1%lo",
		"[::1]",
		":::",
		"1:2:3:4:5:6:7",
		"::g",
		"1::2::3",
		"::1:80:",
		"12345::",
		"10.0.0.1:80",
		"1:2:3:4:5:6:7:8:9",
	};
	struct kmtls_address address, untouched;

	memset(&address, 0x5a, sizeof(address));
	untouched = address;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (kmtls_address_parse(texts[i], &address) != -EINVAL)
			fail_msg("'%s' was taken", texts[i]);
		assert_memory_equal(&address, &untouched, sizeof(address));
	}
}

static void test_round_trip(void **state)
{
	static const char *const texts[] = {
		"0.0.0.0", "255.255.255.255",	   "127.0.0.1",	    "::", "::1",
		"fd00::1", "2001:db8:1:2:3:4:5:6", "ff02::1:ff00:1"
	};
	char text[KMTLS_ENDPOINT_TEXT];
	struct kmtls_address address;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(kmtls_address_parse(texts[i], &address), 0);
		assert_ptr_equal(kmtls_address_format(&address, text, sizeof(text)), text);
		assert_string_equal(text, texts[i]);
	}
}

static const struct {
	const char *text, *formatted;
	unsigned length;
} prefixes[] = {
	{ "10.0.0.0/8", "10.0.0.0/8", 104 },
	{ "10.1.2.3", "10.1.2.3/32", 128 },
	{ "10.1.2.3/32", "10.1.2.3/32", 128 },
	{ "0.0.0.0/0", "0.0.0.0/0", 96 },
	{ "128.0.0.0/1", "128.0.0.0/1", 97 },
	{ "10.1.2.254/31", "10.1.2.254/31", 127 },
	{ "::/0", "::/0", 0 },
	{ "8000::/1", "8000::/1", 1 },
	{ "fd00::/8", "fd00::/8", 8 },
	{ "fd00::1", "fd00::1/128", 128 },
	{ "fd00::1/128", "fd00::1/128", 128 },
	{ "::ffff:10.0.0.0/104", "10.0.0.0/8", 104 },
	{ "::ffff:0.0.0.0/96", "0.0.0.0/0", 96 },
	{ "::ffff:10.1.2.3", "10.1.2.3/32", 128 },
	{ "::fffe:0:0/95", "::fffe:0:0/95", 95 },
};

static void test_prefix(void **state)
{
	char text[KMTLS_ENDPOINT_TEXT];
	struct kmtls_peer_key key;

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		assert_int_equal(kmtls_prefix_parse(prefixes[i].text, &key), 0);
		assert_int_equal(key.prefix_len, prefixes[i].length);
		kmtls_prefix_format(&key, text, sizeof(text));
		assert_string_equal(text, prefixes[i].formatted);
	}
}

static void test_prefix_refuses(void **state)
{
	static const struct {
		const char *text;
		int err;
	} refused[] = {
		{ "", -EINVAL },
		{ "/8", -EINVAL },
		{ "10.0.0.0/", -EINVAL },
		{ "10.0.0.0/08", -EINVAL },
		{ "10.0.0.0/+8", -EINVAL },
		{ "10.0.0.0/-1", -EINVAL },
		{ "10.0.0.0/8 ", -EINVAL },
		{ "10.0.0.0/ 8", -EINVAL },
		{ "10.0.0.0/8/8", -EINVAL },
		{ "10.0.0.0/0x8", -EINVAL },
		{ "10.0.0.0/255.0.0.0", -EINVAL },
		{ "10.0.0/8", -EINVAL },
		{ "fd00::%eth0/8", -EINVAL },
		{ "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa/8", -EINVAL },
		{ "10.0.0.0/33", -ERANGE },
		{ "10.0.0.0/40", -ERANGE },
		{ "10.0.0.0/4294967304", -ERANGE },
		{ "fd00::/129", -ERANGE },
		{ "fd00::/999", -ERANGE },
		{ "10.0.0.1/31", -EDOM },
		{ "10.0.0.1/8", -EDOM },
		{ "0.0.0.1/0", -EDOM },
		{ "fd00::1/127", -EDOM },
		{ "::1/0", -EDOM },
		{ "::ffff:10.0.0.0/8", -EDOM }, /* an IPv6 length, so the mapping is beyond it */
	};
	struct kmtls_peer_key key = { .prefix_len = 77 };

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (kmtls_prefix_parse(refused[i].text, &key) != refused[i].err)
			fail_msg("'%s': not %d", refused[i].text, refused[i].err);
		assert_int_equal(key.prefix_len, 77);
	}
}

static void test_every_length(void **state)
{
	char text[KMTLS_ENDPOINT_TEXT], again[KMTLS_ENDPOINT_TEXT];
	struct kmtls_peer_key key, parsed;

	for (unsigned length = 0; length <= 128; length++) {
		memset(&key, 0, sizeof(key));
		key.prefix_len = length;
		for (unsigned bit = 0; bit < length; bit++)
			key.address.bytes[bit / 8] |= (__u8)(0x80 >> bit % 8);
		kmtls_prefix_format(&key, text, sizeof(text));
		assert_int_equal(kmtls_prefix_parse(text, &parsed), 0);
		assert_memory_equal(&parsed, &key, sizeof(key));
		/* One bit less, and the last set bit is beyond it. */
		snprintf(again, sizeof(again), "%.*s/%u", (int)strcspn(text, "/"), text,
			 length - 1);
		if (length)
			assert_int_equal(kmtls_prefix_parse(again, &parsed), -EDOM);
	}
}

static void test_endpoint(void **state)
{
	struct kmtls_endpoint a = { .port = 65535 }, b;
	struct sockaddr_storage storage;
	char text[KMTLS_ENDPOINT_TEXT];

	assert_int_equal(kmtls_address_parse("10.0.0.1", &a.address), 0);
	assert_string_equal(kmtls_endpoint_format(&a, text, sizeof(text)), "10.0.0.1:65535");
	assert_int_equal(kmtls_endpoint_to_sockaddr(&a, &storage), sizeof(struct sockaddr_in));
	assert_int_equal(storage.ss_family, AF_INET);
	assert_int_equal(((struct sockaddr_in *)&storage)->sin_port, htons(65535));
	assert_int_equal(kmtls_endpoint_from_sockaddr(&storage, &b), 0);
	assert_true(kmtls_endpoint_equal(&a, &b));
	b.port = 1;
	assert_false(kmtls_endpoint_equal(&a, &b));

	assert_int_equal(kmtls_address_parse("fd00::1", &a.address), 0);
	assert_string_equal(kmtls_endpoint_format(&a, text, sizeof(text)), "[fd00::1]:65535");
	assert_int_equal(kmtls_endpoint_to_sockaddr(&a, &storage), sizeof(struct sockaddr_in6));
	assert_int_equal(kmtls_endpoint_from_sockaddr(&storage, &b), 0);
	assert_true(kmtls_endpoint_equal(&a, &b));
	b.address.bytes[15] ^= 1;
	assert_false(kmtls_endpoint_equal(&a, &b));
}

static void test_sockaddr_mapped(void **state)
{
	struct sockaddr_storage storage = { .ss_family = AF_INET6 };
	struct kmtls_endpoint endpoint = { .port = 9 };

	assert_int_equal(inet_pton(AF_INET6, "::ffff:10.0.0.1",
				   &((struct sockaddr_in6 *)&storage)->sin6_addr),
			 1);
	assert_int_equal(kmtls_endpoint_from_sockaddr(&storage, &endpoint), 0);
	assert_true(kmtls_address_is_v4(&endpoint.address));
	assert_int_equal(endpoint.port, 0);
	assert_int_equal(kmtls_endpoint_to_sockaddr(&endpoint, &storage),
			 sizeof(struct sockaddr_in));
	endpoint.port = 9;
	storage.ss_family = AF_UNIX;
	assert_int_equal(kmtls_endpoint_from_sockaddr(&storage, &endpoint), -EAFNOSUPPORT);
	assert_int_equal(endpoint.port, 9);
}

static void test_small_buffers(void **state)
{
	struct kmtls_endpoint endpoint = { .port = 80 };
	struct kmtls_peer_key key;
	char text[8];

	assert_int_equal(kmtls_address_parse("fd00::abcd", &endpoint.address), 0);
	memset(text, 'x', sizeof(text));
	kmtls_endpoint_format(&endpoint, text, 5);
	assert_memory_equal(text, "[fd0\0xxx", 8);
	memset(text, 'x', sizeof(text));
	kmtls_address_format(&endpoint.address, text, 3);
	assert_memory_equal(text, "fd\0xxxxx", 8);
	assert_int_equal(kmtls_prefix_parse("fd00::/8", &key), 0);
	memset(text, 'x', sizeof(text));
	kmtls_prefix_format(&key, text, 1);
	assert_memory_equal(text, "\0xxxxxxx", 8);
	/* The longest of all fits the size that the header promises. */
	memset(&endpoint, 0xff, sizeof(endpoint));
	endpoint.address.bytes[3] = 0x10;
	assert_true(strlen(kmtls_endpoint_format(&endpoint, (char[KMTLS_ENDPOINT_TEXT]){ 0 },
						 KMTLS_ENDPOINT_TEXT)) < KMTLS_ENDPOINT_TEXT - 1);
}

static void test_prefix_has(void **state)
{
	static const struct {
		const char *prefix, *address;
		bool has;
	} table[] = {
		{ "10.1.0.0/16", "10.1.255.255", true },
		{ "10.1.0.0/16", "10.2.0.0", false },
		{ "10.1.2.4/30", "10.1.2.7", true },
		{ "10.1.2.4/30", "10.1.2.8", false },
		{ "10.1.2.4", "10.1.2.4", true },
		{ "10.1.2.4", "10.1.2.5", false },
		{ "0.0.0.0/0", "255.1.2.3", true },
		{ "0.0.0.0/0", "fd00::1", false },
		{ "::/0", "10.1.2.3", true },
		{ "fd00:1::/33", "fd00:1:7fff::1", true },
		{ "fd00:1::/33", "fd00:1:8000::1", false },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct kmtls_address address;
		struct kmtls_peer_key prefix;

		assert_int_equal(kmtls_prefix_parse(table[i].prefix, &prefix), 0);
		assert_int_equal(kmtls_address_parse(table[i].address, &address), 0);
		assert_int_equal(kmtls_prefix_has(&prefix, &address), table[i].has);
	}
}

static void loopback(void **state)
{
	static const struct {
		const char *text;
		bool loopback;
	} rows[] = {
		{ "127.0.0.1", true },
		{ "127.255.255.254", true },
		{ "0.0.0.0", true },
		{ "::", true },
		{ "::1", true },
		{ "::ffff:127.1.2.3", true },
		{ "::ffff:0.0.0.0", true },
		{ "126.0.0.1", false },
		{ "128.0.0.1", false },
		{ "0.0.0.1", false },
		{ "::2", false },
		{ "1::1", false },
		{ "::127.0.0.1", false },
	};
	struct kmtls_address address;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(kmtls_address_parse(rows[i].text, &address), 0);
		assert_int_equal(kmtls_address_is_loopback(&address), rows[i].loopback);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prefix_has),     cmocka_unit_test(loopback),
		cmocka_unit_test(test_parse),	       cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_prefix_refuses), cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_endpoint),       cmocka_unit_test(test_sockaddr_mapped),
		cmocka_unit_test(test_small_buffers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
