/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_inject.c - the packets put onto loopback in answer to a held SYN, byte by byte. Checksums
 * are compared with numbers worked out elsewhere (Python), and verified with a sum of this file's
 * own that adds 32-bit words, so that no mistake is made twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

#include "inject.h"

/* What a kernel sends: 127.0.0.1:40000 -> 127.64.1.2:15001, options MSS, SACK, TS, WS. */
static const __u8 syn4[] = {
	0x45, 0x00, 0x00, 0x3c, 0x12, 0x34, 0x40, 0x00, 0x40, 0x06, 0x29, 0x45, 0x7f, 0x00, 0x00,
	0x01, 0x7f, 0x40, 0x01, 0x02, 0x9c, 0x40, 0x3a, 0x99, 0xde, 0xad, 0xbe, 0xef, 0x00, 0x00,
	0x00, 0x00, 0xa0, 0x02, 0xff, 0xd7, 0xfe, 0x72, 0x00, 0x00, 0x02, 0x04, 0xff, 0xd7, 0x04,
	0x02, 0x08, 0x0a, 0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0x00, 0x00, 0x01, 0x03, 0x03, 0x07,
};

/* [::1]:40000 -> [::1]:15104, a flow label, no TCP option. */
static const __u8 syn6[] = {
	0x60, 0x0a, 0xbc, 0xde, 0x00, 0x14, 0x06, 0x40, 0,    0,    0,	  0,	0,    0,    0,
	0,    0,    0,	  0,	0,    0,    0,	  0,	0x01, 0,    0,	  0,	0,    0,    0,
	0,    0,    0,	  0,	0,    0,    0,	  0,	0,    0x01, 0x9c, 0x40, 0x3b, 0x00, 0x00,
	0x00, 0,    1,	  0,	0,    0,    0,	  0x50, 0x02, 0xff, 0xc4, 0x00, 0x1c, 0x00, 0x00,
};

static const enum kmtls_inject answers[] = {
	KMTLS_INJECT_RESET,
	KMTLS_INJECT_NET_UNREACHABLE,
	KMTLS_INJECT_HOST_UNREACHABLE,
	KMTLS_INJECT_PROHIBITED,
};

/* ---- a checksum of our own: native words, end-around carry, folded at the end ---- */

static uint64_t add(const void *bytes, size_t length, uint64_t total)
{
	const __u8 *at = bytes;

	for (; length; length -= length < 4 ? length : 4, at += 4) {
		__u8 word[4] = { 0 };
		uint32_t value;

		memcpy(word, at, length < 4 ? length : 4);
		memcpy(&value, word, sizeof(value));
		total += value;
	}
	return total;
}

static __u16 finish(uint64_t total)
{
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (__u16)~total;
}

/* Over a whole message with its checksum in it: 0 if that is right. */
static __u16 transport_sum(const __u8 *packet, size_t length)
{
	bool v4 = packet[0] >> 4 == 4;
	size_t network = v4 ? (packet[0] & 15) * 4u : 40;
	__u8 protocol = packet[v4 ? 9 : 6];
	__u8 tail[4] = { 0, protocol, 0, 0 };
	__u16 size = htons((__u16)(length - network));
	uint64_t total = 0;

	memcpy(tail + 2, &size, sizeof(size));
	if (!(v4 && protocol == IPPROTO_ICMP)) {
		total = add(packet + (v4 ? 12 : 8), v4 ? 8 : 32, 0);
		total = add(tail, sizeof(tail), total);
	}
	return finish(add(packet + network, length - network, total));
}

static void assert_sums(const __u8 *packet, size_t length)
{
	if (packet[0] >> 4 == 4)
		assert_int_equal(finish(add(packet, (packet[0] & 15) * 4u, 0)), 0);
	assert_int_equal(transport_sum(packet, length), 0);
}

static unsigned get16(const __u8 *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static unsigned long get32(const __u8 *at)
{
	return (unsigned long)get16(at) << 16 | get16(at + 2);
}

static size_t build(enum kmtls_inject kind, const __u8 *headers, size_t length, __u8 *packet)
{
	int size;

	memset(packet, 0xee, KMTLS_INJECT_MAX);
	size = kmtls_inject_build(kind, headers, length, packet);
	assert_true(size > 0 && size <= KMTLS_INJECT_MAX);
	for (int i = size; i < KMTLS_INJECT_MAX; i++)
		assert_int_equal(packet[i], 0xee);
	return (size_t)size;
}

/* ---- parsing ---- */

static void parses_ipv4(void **state)
{
	struct kmtls_syn syn;

	assert_int_equal(kmtls_inject_parse(syn4, sizeof(syn4), &syn), 0);
	assert_memory_equal(syn.from.address.bytes, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01", 16);
	assert_memory_equal(syn.to.address.bytes, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\x40\x01\x02",
			    16);
	assert_int_equal(syn.from.port, 40000);
	assert_int_equal(syn.to.port, 15001);
	assert_int_equal(syn.sequence, 0xdeadbeef);
}

static void parses_ipv6(void **state)
{
	struct kmtls_syn syn;

	assert_int_equal(kmtls_inject_parse(syn6, sizeof(syn6), &syn), 0);
	assert_memory_equal(syn.from.address.bytes, &in6addr_loopback, 16);
	assert_memory_equal(syn.to.address.bytes, &in6addr_loopback, 16);
	assert_int_equal(syn.from.port, 40000);
	assert_int_equal(syn.to.port, 15104);
	assert_int_equal(syn.sequence, 1);
}

static void assert_refused(const __u8 *headers, size_t length)
{
	__u8 packet[KMTLS_INJECT_MAX];
	struct kmtls_syn syn;

	assert_int_equal(kmtls_inject_parse(headers, length, &syn), -EINVAL);
	assert_int_equal(kmtls_inject_build(KMTLS_INJECT_SYN, headers, length, packet), -EINVAL);
	assert_int_equal(kmtls_inject_build(KMTLS_INJECT_RESET, headers, length, packet), -EINVAL);
}

static void refuses_short_and_long(void **state)
{
	__u8 longer[sizeof(syn4) + 1] = { 0 };

	/* From the heap, so that the sanitizer sees a read beyond the end. */
	for (size_t length = 0; length < sizeof(syn4); length++) {
		__u8 *copy = malloc(length ? length : 1);

		memcpy(copy, syn4, length);
		assert_refused(copy, length);
		free(copy);
	}
	for (size_t length = 0; length < sizeof(syn6); length++) {
		__u8 *copy = malloc(length ? length : 1);

		memcpy(copy, syn6, length);
		assert_refused(copy, length);
		free(copy);
	}
	memcpy(longer, syn4, sizeof(syn4));
	assert_refused(longer, sizeof(longer));
}

/* Copies of a good SYN with one byte changed. */
static void refuses_changed(void **state)
{
	static const struct {
		size_t at;
		__u8 value;
	} changes4[] = {
		{ 0, 0x44 }, /* network header too short */
		{ 0, 0x4f }, /* and longer than there are bytes for */
		{ 0, 0x55 }, /* version 5 */
		{ 0, 0x05 },
		{ 0, 0x65 }, /* IPv6, whose next header would be byte 6 */
		{ 9, IPPROTO_UDP },
		{ 32, 0x40 }, /* TCP header too short */
		{ 32, 0xb0 }, /* and longer than there are bytes for */
		{ 32, 0x90 }, /* and shorter: the rest would be data */
		{ 33, 0x00 }, /* no flag */
		{ 33, 0x12 }, /* SYN|ACK */
		{ 33, 0x10 },
		{ 33, 0x04 },
	}, changes6[] = {
		{ 6, IPPROTO_HOPOPTS },
		{ 6, IPPROTO_ICMPV6 },
		{ 52, 0x40 },
		{ 52, 0x60 },
		{ 53, 0x12 },
	};
	__u8 copy[sizeof(syn4)];

	for (size_t i = 0; i < sizeof(changes4) / sizeof(changes4[0]); i++) {
		memcpy(copy, syn4, sizeof(syn4));
		copy[changes4[i].at] = changes4[i].value;
		assert_refused(copy, sizeof(syn4));
	}
	for (size_t i = 0; i < sizeof(changes6) / sizeof(changes6[0]); i++) {
		memcpy(copy, syn6, sizeof(syn6));
		copy[changes6[i].at] = changes6[i].value;
		assert_refused(copy, sizeof(syn6));
	}
}

/* Consistent in themselves, and yet no SYN that a kernel sends. */
static void refuses_crafted(void **state)
{
	__u8 headers[40], version5[sizeof(syn6)];

	/* A network header of 16 bytes, and 24 of TCP. */
	memcpy(headers, syn4, 16);
	headers[0] = 0x44;
	memcpy(headers + 16, syn4 + 20, 24);
	headers[28] = 0x60;
	assert_refused(headers, sizeof(headers));
	memcpy(version5, syn6, sizeof(syn6));
	version5[0] = 0x50;
	assert_refused(version5, sizeof(version5));
}

/* Anything at all: either refused, or a packet that fits and whose sums are right. */
static void garbage(void **state)
{
	__u8 headers[128], packet[KMTLS_INJECT_MAX];
	uint32_t seed = 1;
	unsigned built = 0;

	for (unsigned round = 0; round < 200000; round++) {
		size_t length = (seed >> 8) % (sizeof(headers) + 1);
		int size;

		for (size_t i = 0; i < sizeof(headers); i++) {
			seed = seed * 1664525 + 1013904223;
			headers[i] = (__u8)(seed >> 24);
		}
		/* Half of them look right at first sight. */
		if (round & 1) {
			headers[0] = round & 2 ? 0x45 : 0x60;
			headers[round & 2 ? 9 : 6] = IPPROTO_TCP;
			headers[round & 2 ? 33 : 53] = 0x02;
			headers[round & 2 ? 32 : 52] &= 0xf0;
			length = (round & 2 ? 20u : 40u) + (headers[round & 2 ? 32 : 52] >> 4) * 4u;
		}
		size = kmtls_inject_build((enum kmtls_inject)(round / 4 % 5), headers, length,
					  packet);
		assert_true(size == -EINVAL || (size > 0 && size <= KMTLS_INJECT_MAX));
		if (size > 0) {
			assert_sums(packet, (size_t)size);
			built++;
		}
	}
	assert_true(built > 50000);
}

static void refuses_unknown_kind(void **state)
{
	__u8 packet[KMTLS_INJECT_MAX];

	assert_int_equal(kmtls_inject_build((enum kmtls_inject)99, syn4, sizeof(syn4), packet),
			 -EINVAL);
}

/* ---- the SYN itself ---- */

static void sends_on_the_same_syn(void **state)
{
	__u8 packet[KMTLS_INJECT_MAX], expected[sizeof(syn4)];
	size_t size = build(KMTLS_INJECT_SYN, syn4, sizeof(syn4), packet);

	assert_int_equal(size, sizeof(syn4));
	assert_sums(packet, size);
	/* What was captured has a partial checksum; the right one was worked out in Python. */
	memcpy(expected, syn4, sizeof(syn4));
	memcpy(expected + 36, "\xd6\x43", 2);
	assert_memory_equal(packet, expected, sizeof(expected));
}

static void sends_on_the_same_syn6(void **state)
{
	__u8 packet[KMTLS_INJECT_MAX];
	size_t size = build(KMTLS_INJECT_SYN, syn6, sizeof(syn6), packet);

	assert_int_equal(size, sizeof(syn6));
	assert_sums(packet, size);
	assert_memory_equal(packet, syn6, 56); /* flow label included, up to the checksum */
	assert_int_equal(get16(packet + 56), 0xd8da);
}

/* A Fast Open SYN says a length with data that was not captured. */
static void cuts_data_off(void **state)
{
	__u8 headers[sizeof(syn4)], packet[KMTLS_INJECT_MAX];
	size_t size;

	memcpy(headers, syn4, sizeof(syn4));
	headers[2] = 0x02; /* 572 bytes in all */
	size = build(KMTLS_INJECT_SYN, headers, sizeof(headers), packet);
	assert_int_equal(size, sizeof(syn4));
	assert_int_equal(get16(packet + 2), sizeof(syn4));
	assert_sums(packet, size);

	memcpy(headers, syn6, sizeof(syn6));
	headers[4] = 0x02;
	size = build(KMTLS_INJECT_SYN, headers, sizeof(syn6), packet);
	assert_int_equal(size, sizeof(syn6));
	assert_int_equal(get16(packet + 4), 20);
	assert_sums(packet, size);
	/* The same in what an ICMP error quotes. */
	build(KMTLS_INJECT_HOST_UNREACHABLE, headers, sizeof(syn6), packet);
	assert_int_equal(get16(packet + 48 + 4), 20);
}

/* IPv4 options (here eight no-operations) are the SYN's own; an answer has none. */
static void ipv4_options(void **state)
{
	__u8 headers[sizeof(syn4) + 8], packet[KMTLS_INJECT_MAX];
	struct kmtls_syn syn;
	size_t size;

	memcpy(headers, syn4, 20);
	memset(headers + 20, 1, 8);
	memcpy(headers + 28, syn4 + 20, sizeof(syn4) - 20);
	headers[0] = 0x47;
	headers[3] = sizeof(headers);
	assert_int_equal(kmtls_inject_parse(headers, sizeof(headers), &syn), 0);
	assert_int_equal(syn.from.port, 40000);
	assert_int_equal(syn.sequence, 0xdeadbeef);
	size = build(KMTLS_INJECT_SYN, headers, sizeof(headers), packet);
	assert_int_equal(size, sizeof(headers));
	assert_memory_equal(packet + 20, headers + 20, 8);
	assert_sums(packet, size);
	size = build(KMTLS_INJECT_RESET, headers, sizeof(headers), packet);
	assert_int_equal(size, 40);
	assert_sums(packet, size);
	size = build(KMTLS_INJECT_HOST_UNREACHABLE, headers, sizeof(headers), packet);
	assert_int_equal(size, 20 + 8 + sizeof(headers));
	assert_sums(packet, size);
	assert_int_equal(finish(add(packet + 28, 28, 0)), 0);
}

/* The longest there is: 60 and 60 bytes, and 40 and 60. */
static void longest(void **state)
{
	__u8 headers[120], packet[KMTLS_INJECT_MAX];

	for (int v6 = 0; v6 < 2; v6++) {
		size_t network = v6 ? 40 : 60, length = network + 60;

		memset(headers, 1, sizeof(headers));
		memcpy(headers, v6 ? syn6 : syn4, v6 ? 40 : 20);
		if (!v6)
			headers[0] = 0x4f;
		memcpy(headers + network, syn4 + 20, 20);
		headers[network + 12] = 0xf0;
		assert_int_equal(build(KMTLS_INJECT_SYN, headers, length, packet), length);
		assert_sums(packet, length);
		for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
			assert_sums(packet, build(answers[i], headers, length, packet));
	}
}

/* ---- RST ---- */

static void resets(void **state)
{
	__u8 packet[KMTLS_INJECT_MAX];
	size_t size = build(KMTLS_INJECT_RESET, syn4, sizeof(syn4), packet);

	assert_int_equal(size, 40);
	assert_int_equal(packet[0], 0x45);
	assert_int_equal(get16(packet + 2), 40);
	assert_int_equal(packet[9], IPPROTO_TCP);
	assert_memory_equal(packet + 12, syn4 + 16, 4); /* from where it went, */
	assert_memory_equal(packet + 16, syn4 + 12, 4); /* to where it came from */
	assert_int_equal(get16(packet + 20), 15001);
	assert_int_equal(get16(packet + 22), 40000);
	assert_int_equal(get32(packet + 24), 0); /* RFC 9293 3.5.2: SEQ 0, ACK SEG.SEQ + 1 */
	assert_int_equal(get32(packet + 28), 0xdeadbef0);
	assert_int_equal(packet[32], 0x50);
	assert_int_equal(packet[33], 0x14); /* RST|ACK */
	assert_int_equal(get16(packet + 34), 0);
	assert_int_equal(get16(packet + 36), 0x3c15);
	assert_int_equal(get16(packet + 38), 0);
	assert_int_equal(get16(packet + 10), 0x3b8d); /* identification 0, don't fragment */
	assert_sums(packet, size);
}

static void resets_ipv6(void **state)
{
	__u8 headers[sizeof(syn6)], packet[KMTLS_INJECT_MAX];
	size_t size;

	memcpy(headers, syn6, sizeof(syn6));
	headers[8] = 0xfd; /* so that both ends differ */
	memset(headers + 44, 0xff, 4); /* and the sequence number goes around */
	size = build(KMTLS_INJECT_RESET, headers, sizeof(headers), packet);
	assert_int_equal(size, 60);
	assert_int_equal(packet[0] >> 4, 6);
	assert_int_equal(get16(packet + 4), 20);
	assert_int_equal(packet[6], IPPROTO_TCP);
	assert_memory_equal(packet + 8, headers + 24, 16);
	assert_memory_equal(packet + 24, headers + 8, 16);
	assert_int_equal(get16(packet + 40), 15104);
	assert_int_equal(get16(packet + 42), 40000);
	assert_int_equal(get32(packet + 44), 0);
	assert_int_equal(get32(packet + 48), 0);
	assert_int_equal(packet[53], 0x14);
	assert_sums(packet, size);
}

/* ---- ICMP ---- */

static void unreachable(void **state)
{
	static const struct {
		enum kmtls_inject kind;
		__u8 code4, code6;
	} kinds[] = {
		{ KMTLS_INJECT_NET_UNREACHABLE, 0, 0 },
		{ KMTLS_INJECT_HOST_UNREACHABLE, 1, 3 },
		{ KMTLS_INJECT_PROHIBITED, 13, 1 },
	};
	__u8 packet[KMTLS_INJECT_MAX];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t size = build(kinds[i].kind, syn4, sizeof(syn4), packet);

		assert_int_equal(size, 28 + sizeof(syn4));
		assert_int_equal(packet[9], IPPROTO_ICMP);
		assert_memory_equal(packet + 12, syn4 + 16, 4);
		assert_memory_equal(packet + 16, syn4 + 12, 4);
		assert_int_equal(packet[20], 3);
		assert_int_equal(packet[21], kinds[i].code4);
		assert_int_equal(get32(packet + 24), 0);
		assert_sums(packet, size);
		/* It quotes the SYN, so that the kernel finds the socket and takes the sequence. */
		assert_memory_equal(packet + 28, syn4, 10);
		assert_memory_equal(packet + 28 + 12, syn4 + 12, 24);
		assert_sums(packet + 28, sizeof(syn4));

		size = build(kinds[i].kind, syn6, sizeof(syn6), packet);
		assert_int_equal(size, 48 + sizeof(syn6));
		assert_int_equal(packet[6], IPPROTO_ICMPV6);
		assert_int_equal(packet[40], 1);
		assert_int_equal(packet[41], kinds[i].code6);
		assert_int_equal(get32(packet + 44), 0);
		assert_sums(packet, size);
		assert_memory_equal(packet + 48, syn6, 56);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_ipv4),
		cmocka_unit_test(parses_ipv6),
		cmocka_unit_test(refuses_short_and_long),
		cmocka_unit_test(refuses_changed),
		cmocka_unit_test(refuses_crafted),
		cmocka_unit_test(garbage),
		cmocka_unit_test(refuses_unknown_kind),
		cmocka_unit_test(sends_on_the_same_syn),
		cmocka_unit_test(sends_on_the_same_syn6),
		cmocka_unit_test(cuts_data_off),
		cmocka_unit_test(ipv4_options),
		cmocka_unit_test(longest),
		cmocka_unit_test(resets),
		cmocka_unit_test(resets_ipv6),
		cmocka_unit_test(unreachable),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("inject", tests, NULL, NULL);
}
