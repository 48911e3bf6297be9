/* SPDX-License-Identifier: Apache-2.0 */
/* rekey_pair.c - see rekey_pair.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ktls.h"
#include "rekey_pair.h"
#include "sockets.h"

#define MIB (1024 * 1024ull)

struct kmtls_flow *test_flows;
struct kmtls_flow_private test_private[2];
struct kmtls_rekey_table *test_rekey;
const struct kmtls_rekey_options test_options = { .wanted = true, .limit = 8 * MIB };

static struct kmtls_flow_table table = { .private = test_private, .capacity = 2 };
static struct kmtls_daemon daemon_ = { .flows = &table };
struct kmtls_loop test_loop = { .daemon = &daemon_ };

bool test_kernel_can_rekey(void)
{
	struct utsname name;
	int major, minor;

	assert_int_equal(uname(&name), 0);
	assert_int_equal(sscanf(name.release, "%d.%d", &major, &minor), 2);
	return major > 6 || (major == 6 && minor >= 14);
}

static struct kmtls_secret secret_of(__u16 cipher, int seed)
{
	struct kmtls_secret secret = { .length = cipher == 0x1302 ? 48 : 32 };

	memset(secret.bytes, seed, secret.length);
	return secret;
}

static void open_flow(int slot, int fd, __u16 cipher, int tx_seed, int rx_seed)
{
	struct kmtls_secret tx = secret_of(cipher, tx_seed), rx = secret_of(cipher, rx_seed);
	struct kmtls_record_key tx_key, rx_key;
	__u32 generation = test_flows[slot].generation;

	memset(&test_flows[slot], 0, sizeof(test_flows[slot]));
	memset(&test_private[slot], 0, sizeof(test_private[slot]));
	test_flows[slot].generation = generation + 1;
	test_flows[slot].cipher = cipher;
	test_flows[slot].wire_fd = fd;
	test_flows[slot].local_fd = -1;
	assert_int_equal(kmtls_record_key_derive(cipher, &tx, &tx_key), 0);
	assert_int_equal(kmtls_record_key_derive(cipher, &rx, &rx_key), 0);
	assert_int_equal(kmtls_ktls_attach(fd), 0);
	assert_int_equal(kmtls_ktls_install_tx(fd, &tx_key, 0), 0);
	assert_int_equal(kmtls_ktls_install_rx(fd, &rx_key, 0), 0);
	kmtls_rekey_begin(&test_loop, slot, &tx, &rx);
}

void test_open_pair(__u16 cipher)
{
	int left, right;

	test_tcp_pair(&left, &right);
	open_flow(TEST_LEFT, left, cipher, 1, 2);
	open_flow(TEST_RIGHT, right, cipher, 2, 1);
}

int test_rekey_setup_group(void **state)
{
	void *memory = mmap(NULL, sizeof(struct kmtls_flow) * 2, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || kmtls_rekey_open(&test_options, NULL, 2, &test_rekey))
		return -1;
	daemon_.rekey = test_rekey;
	table.slots = test_flows = memory;
	return 0;
}

int test_rekey_teardown(void **state)
{
	for (int slot = TEST_LEFT; slot <= TEST_RIGHT; slot++) {
		if (test_flows[slot].wire_fd > 0)
			close(test_flows[slot].wire_fd);
		test_flows[slot].wire_fd = -1;
		kmtls_rekey_end(test_rekey, slot);
	}
	test_loop.lingering = 0;
	test_rekey->close_at_limit = false;
	test_rekey->limit = test_options.limit;
	return 0;
}

enum kmtls_reason test_take_updates(int slot)
{
	enum kmtls_reason reason = KMTLS_REASON_NONE;
	unsigned char record[64];
	__u8 type;

	while (!reason) {
		ssize_t length = kmtls_ktls_receive(test_flows[slot].wire_fd, true, record,
						    sizeof(record), &type);

		if (length == -EKEYEXPIRED)
			reason = kmtls_rekey_resume(&test_loop, slot);
		else if (length > 0 && type == KMTLS_RECORD_HANDSHAKE)
			reason = kmtls_rekey_receive(&test_loop, slot, record, length);
		else
			break;
	}
	return reason;
}

void test_assert_passes(int from, const char *text)
{
	int to = from == TEST_LEFT ? TEST_RIGHT : TEST_LEFT;
	size_t size = strlen(text);
	char buffer[64];
	__u8 type;

	assert_int_equal(send(test_flows[from].wire_fd, text, size, 0), size);
	test_wait_readable(test_flows[to].wire_fd);
	assert_int_equal(test_take_updates(to), KMTLS_REASON_NONE);
	test_wait_readable(test_flows[to].wire_fd);
	assert_int_equal(
		kmtls_ktls_receive(test_flows[to].wire_fd, false, buffer, sizeof(buffer), &type),
		size);
	assert_int_equal(type, KMTLS_RECORD_DATA);
	assert_memory_equal(buffer, text, size);
}

__u64 test_sequence_of(int slot)
{
	__u64 sequence;

	assert_int_equal(kmtls_ktls_tx_sequence(test_flows[slot].wire_fd, test_flows[slot].cipher,
						&sequence),
			 0);
	return sequence;
}

enum kmtls_reason test_update_left(void)
{
	test_private[TEST_LEFT].key_bytes[KMTLS_TO_WIRE] = test_options.limit;
	return kmtls_rekey_serve(&test_loop, TEST_LEFT);
}
