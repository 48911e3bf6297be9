/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rekey.c - keys of flows in the kernel that are replaced, with both ends in this process:
 * KeyUpdates sent, followed, asked for and refused; limits and what happens at them. Workers
 * that die meanwhile: test_rekey_crash.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "ktls.h"
#include "rekey_pair.h"
#include "sockets.h"

/* ---- replacing ---- */

static void probe(void **state)
{
	test_require_ktls();
	assert_int_equal(kmtls_ktls_probe_rekey(), test_kernel_can_rekey() ? 0 : -EBUSY);
	assert_int_equal(test_rekey->offered, test_kernel_can_rekey());
}

static void both_directions(void **state)
{
	__u16 cipher = (uintptr_t)*state;

	REQUIRE_REKEY();
	test_open_pair(cipher);
	for (unsigned i = 1; i <= 5; i++) {
		test_assert_passes(TEST_LEFT, "there");
		test_assert_passes(TEST_RIGHT, "back");
		test_private[TEST_LEFT].key_flags |= KMTLS_KEY_DUE;
		assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
		assert_int_equal(test_sequence_of(TEST_LEFT), 0);
		test_assert_passes(TEST_RIGHT, "the other way");
		test_assert_passes(TEST_LEFT, "next key");
		assert_int_equal(test_flows[TEST_LEFT].rekeys, i);
		assert_int_equal(test_flows[TEST_RIGHT].rekeys, i);
	}
	/* Keys are not those that were installed first, nor the same ones again. */
	assert_memory_not_equal(test_rekey->secrets[TEST_LEFT].keys[KMTLS_TO_WIRE].bytes[1],
				test_rekey->secrets[TEST_LEFT].keys[KMTLS_TO_LOCAL].bytes[0], 32);
}

static void at_a_quarter(void **state)
{
	REQUIRE_REKEY();
	test_open_pair(0x1301);
	test_private[TEST_LEFT].key_bytes[KMTLS_TO_WIRE] = test_options.limit / 4 - 1;
	assert_false(kmtls_rekey_wanted(&test_loop, &test_private[TEST_LEFT]));
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
	assert_int_equal(test_flows[TEST_LEFT].rekeys, 0);
	kmtls_rekey_count(&test_private[TEST_LEFT], KMTLS_TO_WIRE, 1);
	assert_true(kmtls_rekey_wanted(&test_loop, &test_private[TEST_LEFT]));
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
	assert_int_equal(test_flows[TEST_LEFT].rekeys, 1);
	assert_int_equal(test_private[TEST_LEFT].key_bytes[KMTLS_TO_WIRE], 0);
	test_assert_passes(TEST_LEFT, "x");
	assert_int_equal(test_flows[TEST_RIGHT].rekeys, 1);
	assert_false(test_private[TEST_RIGHT].key_flags & KMTLS_KEY_DUE);
}

/* right has received three eighths under one key: it asks, once, and is answered, once. */
static void asked(void **state)
{
	REQUIRE_REKEY();
	test_open_pair(0x1301);
	test_private[TEST_RIGHT].key_bytes[KMTLS_TO_LOCAL] = test_options.limit / 8 * 3;
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_RIGHT), KMTLS_REASON_NONE);
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_RIGHT), KMTLS_REASON_NONE);
	assert_int_equal(test_flows[TEST_RIGHT].rekeys, 1);
	test_assert_passes(TEST_RIGHT, "and more");
	assert_int_equal(test_flows[TEST_LEFT].rekeys, 1);
	assert_true(test_private[TEST_LEFT].key_flags & KMTLS_KEY_DUE);
	assert_int_equal(test_rekey->secrets[TEST_LEFT].answer_due, 1);
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
	assert_int_equal(test_rekey->secrets[TEST_LEFT].answer_due, 0);
	assert_int_equal(test_flows[TEST_LEFT].rekeys, 2);
	test_assert_passes(TEST_LEFT, "under the next key");
	assert_int_equal(test_flows[TEST_RIGHT].rekeys, 2);
	assert_int_equal(test_private[TEST_RIGHT].key_bytes[KMTLS_TO_LOCAL], 0);
	assert_int_equal(test_private[TEST_RIGHT].key_flags, 0);
}

/* After our close_notify there is no more answer. */
static void not_after_the_end(void **state)
{
	REQUIRE_REKEY();
	test_open_pair(0x1301);
	test_flows[TEST_LEFT].to_wire.notify = KMTLS_NOTIFY_SENT;
	test_private[TEST_LEFT].key_flags = KMTLS_KEY_DUE;
	assert_int_equal(test_update_left(), KMTLS_REASON_NONE);
	assert_int_equal(test_flows[TEST_LEFT].rekeys, 0);
	assert_int_equal(test_sequence_of(TEST_LEFT), 0);
}

static void malformed(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
	} records[] = {
		{ "\x18", 1 },
		{ "\x18\0\0\1", 4 },
		{ "\x18\0\0\1\2", 5 },
		{ "\x18\0\0\1\0\x18", 6 },
		{ "\x18\0\0\2\0\0", 6 },
		{ "\x04\0\0\1\0", 5 },
		{ "\x18\0\0\1\0\x18\0\0\1\0", 10 },
		{ "\x18\1\0\1\0", 5 },
	};

	REQUIRE_REKEY();
	for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
		test_open_pair(0x1301);
		assert_int_equal(kmtls_ktls_send(test_flows[TEST_LEFT].wire_fd,
						 KMTLS_RECORD_HANDSHAKE, records[i].bytes,
						 records[i].length),
				 0);
		test_wait_readable(test_flows[TEST_RIGHT].wire_fd);
		assert_int_equal(test_take_updates(TEST_RIGHT), KMTLS_REASON_UNEXPECTED_RECORD);
		assert_int_equal(test_flows[TEST_RIGHT].rekeys, 0);
		test_rekey_teardown(NULL);
	}
}

static void without_secrets(void **state)
{
	test_require_ktls();
	test_open_pair(0x1301);
	kmtls_rekey_end(test_rekey, TEST_RIGHT);
	assert_int_equal(kmtls_ktls_send(test_flows[TEST_LEFT].wire_fd, KMTLS_RECORD_HANDSHAKE,
					 "\x18\0\0\1\0", 5),
			 0);
	test_wait_readable(test_flows[TEST_RIGHT].wire_fd);
	assert_int_equal(test_take_updates(TEST_RIGHT), KMTLS_REASON_PEER_REKEYED);
}

static void secrets_of_another_life(void **state)
{
	static const struct kmtls_rekey_secrets none;

	REQUIRE_REKEY();
	test_open_pair(0x1301);
	test_flows[TEST_RIGHT].generation++;
	assert_int_equal(kmtls_rekey_resume(&test_loop, TEST_RIGHT), KMTLS_REASON_PEER_REKEYED);
	assert_int_not_equal(test_rekey->secrets[TEST_RIGHT].generation, 0);
	kmtls_rekey_end(test_rekey, TEST_RIGHT);
	assert_memory_equal(&test_rekey->secrets[TEST_RIGHT], &none, sizeof(none));
}

static void foreign_key(void **state)
{
	REQUIRE_REKEY();
	test_open_pair(0x1301);
	test_rekey->secrets[TEST_LEFT].keys[KMTLS_TO_WIRE].bytes[0][0] ^= 1;
	assert_int_equal(test_update_left(), KMTLS_REASON_REKEY_FAILED);
	assert_int_equal(test_sequence_of(TEST_LEFT), 0); /* nothing was sent */
}

static void storm(void **state)
{
	unsigned passed = 0;

	REQUIRE_REKEY();
	test_open_pair(0x1301);
	while (passed < 100) {
		test_private[TEST_LEFT].key_flags |= KMTLS_KEY_DUE;
		assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
		test_wait_readable(test_flows[TEST_RIGHT].wire_fd);
		if (test_take_updates(TEST_RIGHT))
			break;
		passed++;
	}
	assert_in_range(passed, 16, 30); /* a second may pass meanwhile */
	test_rekey_teardown(NULL);
	test_open_pair(0x1301);
	for (passed = 0; passed < 100; passed++) {
		test_private[TEST_LEFT].key_flags |= KMTLS_KEY_DUE;
		assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
		kmtls_rekey_count(&test_private[TEST_RIGHT], passed & 1, 64 * 1024);
		test_wait_readable(test_flows[TEST_RIGHT].wire_fd);
		assert_int_equal(test_take_updates(TEST_RIGHT), KMTLS_REASON_NONE);
	}
}

/* ---- limits ---- */

static void warned_once(void **state)
{
	test_require_ktls();
	test_open_pair(0x1301);
	kmtls_rekey_end(test_rekey, TEST_LEFT);
	test_private[TEST_LEFT].key_bytes[KMTLS_TO_WIRE] = test_options.limit / 2 - 1;
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
	assert_int_equal(test_private[TEST_LEFT].key_flags, 0);
	test_private[TEST_LEFT].key_bytes[KMTLS_TO_WIRE] = test_options.limit * 10;
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
	assert_int_equal(test_private[TEST_LEFT].key_flags, KMTLS_KEY_WARNED(KMTLS_TO_WIRE));
	test_private[TEST_LEFT].key_bytes[KMTLS_TO_LOCAL] = test_options.limit;
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
	assert_int_equal(test_private[TEST_LEFT].key_flags,
			 KMTLS_KEY_WARNED(KMTLS_TO_WIRE) | KMTLS_KEY_WARNED(KMTLS_TO_LOCAL));
}

static void chacha20_has_none(void **state)
{
	test_require_ktls();
	test_rekey->close_at_limit = true;
	test_open_pair(0x1303);
	test_private[TEST_LEFT].key_bytes[KMTLS_TO_LOCAL] = 1ull << 60;
	test_private[TEST_LEFT].key_bytes[KMTLS_TO_WIRE] = 1ull << 60;
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
	assert_int_equal(test_private[TEST_LEFT].key_flags, 0);
	assert_int_equal(test_flows[TEST_LEFT].rekeys, 0);
}

/* What is in the pipes is delivered first; then an alert, then the peer's end is awaited. */
static void closing(void **state)
{
	unsigned char record[8];
	__u8 type;

	test_require_ktls();
	test_rekey->close_at_limit = true;
	test_open_pair(0x1301);
	kmtls_rekey_end(test_rekey, TEST_LEFT);
	test_private[TEST_LEFT].key_bytes[KMTLS_TO_WIRE] = test_options.limit - 1000;
	test_private[TEST_LEFT].queued[KMTLS_TO_WIRE] = 1;
	assert_false(kmtls_rekey_closing(&test_private[TEST_LEFT]));
	assert_int_equal(kmtls_rekey_end_reason(&test_loop, TEST_LEFT, KMTLS_REASON_PEER_RESET),
			 KMTLS_REASON_PEER_RESET);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
		assert_true(kmtls_rekey_closing(&test_private[TEST_LEFT]));
		assert_int_equal(test_loop.lingering, 1);
		assert_int_equal(test_sequence_of(TEST_LEFT), 0);
	}
	test_private[TEST_LEFT].queued[KMTLS_TO_WIRE] = 0;
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
	test_wait_readable(test_flows[TEST_RIGHT].wire_fd);
	assert_int_equal(kmtls_ktls_receive(test_flows[TEST_RIGHT].wire_fd, false, record,
					    sizeof(record), &type),
			 2);
	assert_int_equal(type, KMTLS_RECORD_ALERT);
	assert_memory_equal(record, "\2\x50", 2);
	assert_int_equal(kmtls_ktls_receive(test_flows[TEST_RIGHT].wire_fd, false, record,
					    sizeof(record), &type),
			 0);
	shutdown(test_flows[TEST_RIGHT].wire_fd, SHUT_WR);
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_KEY_LIMIT);
	assert_int_equal(kmtls_rekey_end_reason(&test_loop, TEST_LEFT, KMTLS_REASON_PEER_RESET),
			 KMTLS_REASON_KEY_LIMIT);
}

#define TEST(function) cmocka_unit_test_teardown(function, test_rekey_teardown)
#define TEST_WITH(name, function, state)                                   \
	{                                                                  \
		name, function, NULL, test_rekey_teardown, (void *)(state) \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(probe),
		TEST_WITH("both directions, AES-128-GCM", both_directions, 0x1301),
		TEST_WITH("both directions, AES-256-GCM", both_directions, 0x1302),
		TEST_WITH("both directions, ChaCha20-Poly1305", both_directions, 0x1303),
		TEST(at_a_quarter),
		TEST(asked),
		TEST(not_after_the_end),
		TEST(malformed),
		TEST(without_secrets),
		TEST(secrets_of_another_life),
		TEST(foreign_key),
		TEST(storm),
		TEST(warned_once),
		TEST(chacha20_has_none),
		TEST(closing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("rekey", tests, test_rekey_setup_group, NULL);
}
