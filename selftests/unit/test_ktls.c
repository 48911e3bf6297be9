/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ktls.c - kernel TLS with keys that are made up: records, their types and sequence
 * numbers, and that keys are installed once. What OpenSSL makes of it: test_handover.c.
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
#include <unistd.h>

#include "ktls.h"
#include "sockets.h"

static int left, right;

static int setup(void **state)
{
	test_tcp_pair(&left, &right);
	return 0;
}

static int teardown(void **state)
{
	close(left);
	close(right);
	return 0;
}

static struct kmtls_record_key key_of(__u16 cipher, int seed)
{
	struct kmtls_record_key key = { .cipher = cipher };

	memset(key.key, seed, sizeof(key.key));
	memset(key.iv, seed + 1, sizeof(key.iv));
	return key;
}

/* left sends to right from sequence on. */
static void install_one_way(__u16 cipher, __u64 sequence)
{
	struct kmtls_record_key key = key_of(cipher, 0x11);

	assert_int_equal(kmtls_ktls_attach(left), 0);
	assert_int_equal(kmtls_ktls_attach(right), 0);
	assert_int_equal(kmtls_ktls_install_tx(left, &key, sequence), 0);
	assert_int_equal(kmtls_ktls_install_rx(right, &key, sequence), 0);
}

static void probe(void **state)
{
	int err = kmtls_ktls_probe();

	assert_true(err <= 0);
	test_require_ktls();
	assert_int_equal(err, 0);
}

static void refuses_unknown_ciphers(void **state)
{
	struct kmtls_record_key key = key_of(0x1304, 1);
	__u64 sequence = 7;

	assert_int_equal(kmtls_ktls_install_tx(left, &key, 0), -EINVAL);
	assert_int_equal(kmtls_ktls_install_rx(left, &key, 0), -EINVAL);
	assert_int_equal(kmtls_ktls_tx_sequence(left, 0xc02f, &sequence), -EINVAL);
	assert_int_equal(sequence, 7);
}

static void refuses_plain_sockets(void **state)
{
	struct kmtls_record_key key = key_of(0x1301, 1);
	__u64 sequence = 7;

	assert_int_equal(kmtls_ktls_install_tx(left, &key, 0), -ENOPROTOOPT);
	assert_int_equal(kmtls_ktls_install_rx(left, &key, 0), -ENOPROTOOPT);
	assert_true(kmtls_ktls_tx_sequence(left, 0x1301, &sequence) < 0);
	assert_int_equal(sequence, 7);
	assert_int_equal(kmtls_ktls_attach(-1), -EBADF);
	assert_int_equal(kmtls_ktls_send_alert(-1, 1, 0), -EBADF);
}

static void records(void **state)
{
	__u16 cipher = (uintptr_t)*state;
	__u64 sequence = 0;
	char buffer[64];
	__u8 type = 0xff;

	test_require_ktls();
	install_one_way(cipher, 5);
	assert_int_equal(kmtls_ktls_receive(right, false, buffer, sizeof(buffer), &type), -EAGAIN);
	assert_int_equal(kmtls_ktls_tx_sequence(left, cipher, &sequence), 0);
	assert_int_equal(sequence, 5);
	assert_int_equal(send(left, "hello", 5, 0), 5);
	assert_int_equal(kmtls_ktls_send_alert(left, 1, 0), 0);
	assert_int_equal(kmtls_ktls_tx_sequence(left, cipher, &sequence), 0);
	assert_int_equal(sequence, 7);
	shutdown(left, SHUT_WR);

	test_wait_readable(right);
	assert_int_equal(kmtls_ktls_receive(right, true, buffer, sizeof(buffer), &type), 5);
	assert_int_equal(type, KMTLS_RECORD_DATA);
	assert_int_equal(kmtls_ktls_receive(right, false, buffer, sizeof(buffer), &type), 5);
	assert_int_equal(type, KMTLS_RECORD_DATA);
	assert_memory_equal(buffer, "hello", 5);
	test_wait_readable(right);
	assert_int_equal(kmtls_ktls_receive(right, true, buffer, sizeof(buffer), &type), 2);
	assert_int_equal(type, KMTLS_RECORD_ALERT);
	assert_int_equal(kmtls_ktls_receive(right, false, buffer, sizeof(buffer), &type), 2);
	assert_int_equal(type, KMTLS_RECORD_ALERT);
	assert_memory_equal(buffer, "\1\0", 2);
	test_wait_readable(right);
	assert_int_equal(kmtls_ktls_receive(right, false, buffer, sizeof(buffer), &type), 0);
	assert_int_equal(type, 0);
}

/* On the wire nothing of the text is to be seen, and lengths are those of TLS 1.3. */
static void wire_format(void **state)
{
	struct kmtls_record_key key = key_of(0x1301, 1);
	char buffer[64];

	test_require_ktls();
	assert_int_equal(kmtls_ktls_attach(left), 0);
	assert_int_equal(kmtls_ktls_install_tx(left, &key, 0), 0);
	assert_int_equal(send(left, "plaintext", 9, 0), 9);
	test_wait_readable(right);
	assert_int_equal(recv(right, buffer, sizeof(buffer), 0), 5 + 9 + 1 + 16);
	assert_memory_equal(buffer, "\x17\3\3\0\x1a", 5);
	assert_null(memmem(buffer, 31, "plain", 5));
}

static void keys_are_installed_once(void **state)
{
	struct kmtls_record_key key = key_of(0x1301, 0x33);
	__u64 sequence;

	test_require_ktls();
	install_one_way(0x1301, 0);
	assert_int_equal(send(left, "x", 1, 0), 1);
	assert_int_equal(kmtls_ktls_install_tx(left, &key, 0), -EBUSY);
	assert_int_equal(kmtls_ktls_install_rx(right, &key, 0), -EBUSY);
	assert_int_equal(kmtls_ktls_tx_sequence(left, 0x1301, &sequence), 0);
	assert_int_equal(sequence, 1);
	/* The other direction is another key. */
	assert_int_equal(kmtls_ktls_install_tx(right, &key, 0), 0);
	assert_int_equal(kmtls_ktls_attach(left), -EEXIST);
}

/* Replacing asks first: a key that is live is not set again, nor one over a key unknown to us. */
static void keys_are_replaced_once(void **state)
{
	struct kmtls_record_key old = key_of(0x1301, 0x11), next = key_of(0x1301, 0x22);
	struct kmtls_record_key other = key_of(0x1301, 0x33);
	__u64 sequence;

	test_require_ktls();
	install_one_way(0x1301, 3);
	assert_int_equal(kmtls_ktls_which(left, KMTLS_KTLS_TX, &old, &next, &sequence), 0);
	assert_int_equal(sequence, 3);
	assert_int_equal(kmtls_ktls_which(right, KMTLS_KTLS_RX, &next, &old, NULL), 1);
	assert_int_equal(kmtls_ktls_which(left, KMTLS_KTLS_TX, &other, &next, NULL), -ESTALE);
	assert_int_equal(kmtls_ktls_replace(left, KMTLS_KTLS_TX, &other, &next), -ESTALE);
	assert_int_equal(kmtls_ktls_replace(left, KMTLS_KTLS_TX, &next, &old), -EALREADY);
	assert_int_equal(kmtls_ktls_replace(right, KMTLS_KTLS_RX, &next, &old), -EALREADY);
	assert_true(kmtls_ktls_which(right, KMTLS_KTLS_TX, &old, &next, NULL) < 0);
	assert_int_equal(kmtls_ktls_tx_sequence(left, 0x1301, &sequence), 0);
	assert_int_equal(sequence, 3);
	if (kmtls_ktls_probe_rekey() == -EBUSY) {
		assert_int_equal(kmtls_ktls_replace(left, KMTLS_KTLS_TX, &old, &next), -EBUSY);
		return;
	}
	assert_int_equal(kmtls_ktls_replace(left, KMTLS_KTLS_TX, &old, &next), 0);
	assert_int_equal(kmtls_ktls_which(left, KMTLS_KTLS_TX, &old, &next, &sequence), 1);
	assert_int_equal(sequence, 0);
	assert_int_equal(kmtls_ktls_replace(left, KMTLS_KTLS_TX, &old, &next), -EALREADY);
}

static void wrong_sequence(void **state)
{
	struct kmtls_record_key key = key_of(0x1302, 0x11);
	char buffer[64];
	__u8 type;

	test_require_ktls();
	assert_int_equal(kmtls_ktls_attach(left), 0);
	assert_int_equal(kmtls_ktls_attach(right), 0);
	assert_int_equal(kmtls_ktls_install_tx(left, &key, 0), 0);
	assert_int_equal(kmtls_ktls_install_rx(right, &key, 1), 0);
	assert_int_equal(send(left, "hello", 5, 0), 5);
	test_wait_readable(right);
	assert_int_equal(kmtls_ktls_receive(right, false, buffer, sizeof(buffer), &type), -EBADMSG);
}

static void wrong_key(void **state)
{
	struct kmtls_record_key key = key_of(0x1303, 0x11);
	char buffer[64];
	__u8 type;

	test_require_ktls();
	assert_int_equal(kmtls_ktls_attach(left), 0);
	assert_int_equal(kmtls_ktls_attach(right), 0);
	assert_int_equal(kmtls_ktls_install_tx(left, &key, 0), 0);
	key.key[31] ^= 1;
	assert_int_equal(kmtls_ktls_install_rx(right, &key, 0), 0);
	assert_int_equal(send(left, "hello", 5, 0), 5);
	test_wait_readable(right);
	assert_int_equal(kmtls_ktls_receive(right, false, buffer, sizeof(buffer), &type), -EBADMSG);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
#define TEST_WITH(name, function, state)                         \
	{                                                        \
		name, function, setup, teardown, (void *)(state) \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(probe),
		TEST(refuses_unknown_ciphers),
		TEST(refuses_plain_sockets),
		TEST_WITH("records, AES-128-GCM", records, 0x1301),
		TEST_WITH("records, AES-256-GCM", records, 0x1302),
		TEST_WITH("records, ChaCha20-Poly1305", records, 0x1303),
		TEST(wire_format),
		TEST(keys_are_installed_once),
		TEST(keys_are_replaced_once),
		TEST(wrong_sequence),
		TEST(wrong_key),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("ktls", tests, NULL, NULL);
}
