/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rekey.c - keys of flows in the kernel that are replaced, with both ends in this process:
 * KeyUpdates sent, followed, asked for and refused; and a worker that is killed at any system
 * call, and between them, while it replaces one. What it leaves must decrypt.
 */
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
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ktls.h"
#include "rekey.h"
#include "sockets.h"

#define LEFT 0
#define RIGHT 1
#define MIB (1024 * 1024ull)
#define STEPS 400 /* instructions after a system call within which a worker is killed, too */
#define ROUNDS 60

/* What outlives a worker. */
static struct kmtls_flow *flows;
/* What does not. */
static struct kmtls_flow_private private[2];

static struct kmtls_flow_table table = { .private = private, .capacity = 2 };
static const struct kmtls_rekey_options options = { .wanted = true, .limit = 8 * MIB };
static struct kmtls_daemon daemon_ = { .flows = &table };
static struct kmtls_loop loop = { .daemon = &daemon_ };
static bool can;

static bool kernel_can(void)
{
	struct utsname name;
	int major, minor;

	assert_int_equal(uname(&name), 0);
	assert_int_equal(sscanf(name.release, "%d.%d", &major, &minor), 2);
	return major > 6 || (major == 6 && minor >= 14);
}

/* Kernels that cannot: nothing to test, and no failure. */
#define REQUIRE_REKEY()              \
	do {                         \
		test_require_ktls(); \
		if (!can)            \
			return;      \
	} while (0)

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
	__u32 generation = flows[slot].generation;

	memset(&flows[slot], 0, sizeof(flows[slot]));
	memset(&private[slot], 0, sizeof(private[slot]));
	flows[slot].generation = generation + 1;
	flows[slot].cipher = cipher;
	flows[slot].wire_fd = fd;
	flows[slot].local_fd = -1;
	assert_int_equal(kmtls_record_key_derive(cipher, &tx, &tx_key), 0);
	assert_int_equal(kmtls_record_key_derive(cipher, &rx, &rx_key), 0);
	assert_int_equal(kmtls_ktls_attach(fd), 0);
	assert_int_equal(kmtls_ktls_install_tx(fd, &tx_key, 0), 0);
	assert_int_equal(kmtls_ktls_install_rx(fd, &rx_key, 0), 0);
	kmtls_rekey_begin(&loop, slot, &tx, &rx);
}

static void open_pair(__u16 cipher)
{
	int left, right;

	test_tcp_pair(&left, &right);
	open_flow(LEFT, left, cipher, 1, 2);
	open_flow(RIGHT, right, cipher, 2, 1);
}

static int setup_group(void **state)
{
	void *memory = mmap(NULL, sizeof(struct kmtls_flow) * 2, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || kmtls_rekey_open(&options, NULL, 2, &daemon_.rekey))
		return -1;
	table.slots = flows = memory;
	can = daemon_.rekey->offered;
	return 0;
}

static int teardown(void **state)
{
	for (int slot = LEFT; slot <= RIGHT; slot++) {
		if (flows[slot].wire_fd > 0)
			close(flows[slot].wire_fd);
		flows[slot].wire_fd = -1;
		kmtls_rekey_end(daemon_.rekey, slot);
	}
	loop.lingering = 0;
	daemon_.rekey->close_at_limit = false;
	return 0;
}

/* What relay.c does with a record that is not data, until data comes or nothing is left. */
static enum kmtls_reason take_updates(int slot)
{
	enum kmtls_reason reason = KMTLS_REASON_NONE;
	unsigned char record[64];
	__u8 type;

	while (!reason) {
		ssize_t length = kmtls_ktls_receive(flows[slot].wire_fd, true, record,
						    sizeof(record), &type);

		if (length == -EKEYEXPIRED)
			reason = kmtls_rekey_resume(&loop, slot);
		else if (length > 0 && type == KMTLS_RECORD_HANDSHAKE)
			reason = kmtls_rekey_receive(&loop, slot, record, length);
		else
			break;
	}
	return reason;
}

/* A text gets from one end to the other, past any KeyUpdate. */
static void assert_passes(int from, const char *text)
{
	int to = from == LEFT ? RIGHT : LEFT;
	size_t size = strlen(text);
	char buffer[64];
	__u8 type;

	assert_int_equal(send(flows[from].wire_fd, text, size, 0), size);
	test_wait_readable(flows[to].wire_fd);
	assert_int_equal(take_updates(to), KMTLS_REASON_NONE);
	test_wait_readable(flows[to].wire_fd);
	assert_int_equal(
		kmtls_ktls_receive(flows[to].wire_fd, false, buffer, sizeof(buffer), &type), size);
	assert_int_equal(type, KMTLS_RECORD_DATA);
	assert_memory_equal(buffer, text, size);
}

static __u64 sequence_of(int slot)
{
	__u64 sequence;

	assert_int_equal(kmtls_ktls_tx_sequence(flows[slot].wire_fd, flows[slot].cipher, &sequence),
			 0);
	return sequence;
}

/* left replaces its key because it has encrypted enough. */
static enum kmtls_reason update_left(void)
{
	private[LEFT].key_bytes[KMTLS_TO_WIRE] = options.limit;
	return kmtls_rekey_serve(&loop, LEFT);
}

/* ---- replacing ---- */

static void probe(void **state)
{
	test_require_ktls();
	assert_int_equal(kmtls_ktls_probe_rekey(), kernel_can() ? 0 : -EBUSY);
	assert_int_equal(can, kernel_can());
}

static void both_directions(void **state)
{
	__u16 cipher = (uintptr_t)*state;

	REQUIRE_REKEY();
	open_pair(cipher);
	for (unsigned i = 1; i <= 5; i++) {
		assert_passes(LEFT, "there");
		assert_passes(RIGHT, "back");
		private[LEFT].key_flags |= KMTLS_KEY_DUE;
		assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
		assert_int_equal(sequence_of(LEFT), 0);
		assert_passes(RIGHT, "the other way");
		assert_passes(LEFT, "next key");
		assert_int_equal(flows[LEFT].rekeys, i);
		assert_int_equal(flows[RIGHT].rekeys, i);
	}
	/* Keys are not those that were installed first, nor the same ones again. */
	assert_memory_not_equal(daemon_.rekey->secrets[LEFT].keys[KMTLS_TO_WIRE].bytes[1],
				daemon_.rekey->secrets[LEFT].keys[KMTLS_TO_LOCAL].bytes[0], 32);
}

static void at_a_quarter(void **state)
{
	REQUIRE_REKEY();
	open_pair(0x1301);
	private[LEFT].key_bytes[KMTLS_TO_WIRE] = options.limit / 4 - 1;
	assert_false(kmtls_rekey_wanted(&loop, &private[LEFT]));
	assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
	assert_int_equal(flows[LEFT].rekeys, 0);
	kmtls_rekey_count(&private[LEFT], KMTLS_TO_WIRE, 1);
	assert_true(kmtls_rekey_wanted(&loop, &private[LEFT]));
	assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
	assert_int_equal(flows[LEFT].rekeys, 1);
	assert_int_equal(private[LEFT].key_bytes[KMTLS_TO_WIRE], 0);
	assert_passes(LEFT, "x");
	assert_int_equal(flows[RIGHT].rekeys, 1);
	assert_false(private[RIGHT].key_flags & KMTLS_KEY_DUE);
}

/* right has received three eighths under one key: it asks, once, and is answered, once. */
static void asked(void **state)
{
	REQUIRE_REKEY();
	open_pair(0x1301);
	private[RIGHT].key_bytes[KMTLS_TO_LOCAL] = options.limit / 8 * 3;
	assert_int_equal(kmtls_rekey_serve(&loop, RIGHT), KMTLS_REASON_NONE);
	assert_int_equal(kmtls_rekey_serve(&loop, RIGHT), KMTLS_REASON_NONE);
	assert_int_equal(flows[RIGHT].rekeys, 1);
	assert_passes(RIGHT, "and more");
	assert_int_equal(flows[LEFT].rekeys, 1);
	assert_true(private[LEFT].key_flags & KMTLS_KEY_DUE);
	assert_int_equal(daemon_.rekey->secrets[LEFT].answer_due, 1);
	assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
	assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
	assert_int_equal(daemon_.rekey->secrets[LEFT].answer_due, 0);
	assert_int_equal(flows[LEFT].rekeys, 2);
	assert_passes(LEFT, "under the next key");
	assert_int_equal(flows[RIGHT].rekeys, 2);
	assert_int_equal(private[RIGHT].key_bytes[KMTLS_TO_LOCAL], 0);
	assert_int_equal(private[RIGHT].key_flags, 0);
}

/* After our close_notify there is no more answer. */
static void not_after_the_end(void **state)
{
	REQUIRE_REKEY();
	open_pair(0x1301);
	flows[LEFT].to_wire.notify = KMTLS_NOTIFY_SENT;
	private[LEFT].key_flags = KMTLS_KEY_DUE;
	assert_int_equal(update_left(), KMTLS_REASON_NONE);
	assert_int_equal(flows[LEFT].rekeys, 0);
	assert_int_equal(sequence_of(LEFT), 0);
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
		open_pair(0x1301);
		assert_int_equal(kmtls_ktls_send_handshake(flows[LEFT].wire_fd, records[i].bytes,
							   records[i].length),
				 0);
		test_wait_readable(flows[RIGHT].wire_fd);
		assert_int_equal(take_updates(RIGHT), KMTLS_REASON_UNEXPECTED_RECORD);
		assert_int_equal(flows[RIGHT].rekeys, 0);
		teardown(NULL);
	}
}

static void without_secrets(void **state)
{
	test_require_ktls();
	open_pair(0x1301);
	kmtls_rekey_end(daemon_.rekey, RIGHT);
	assert_int_equal(kmtls_ktls_send_handshake(flows[LEFT].wire_fd, "\x18\0\0\1\0", 5), 0);
	test_wait_readable(flows[RIGHT].wire_fd);
	assert_int_equal(take_updates(RIGHT), KMTLS_REASON_PEER_REKEYED);
}

static void secrets_of_another_life(void **state)
{
	static const struct kmtls_rekey_secrets none;

	REQUIRE_REKEY();
	open_pair(0x1301);
	flows[RIGHT].generation++;
	assert_int_equal(kmtls_rekey_resume(&loop, RIGHT), KMTLS_REASON_PEER_REKEYED);
	assert_int_not_equal(daemon_.rekey->secrets[RIGHT].generation, 0);
	kmtls_rekey_end(daemon_.rekey, RIGHT);
	assert_memory_equal(&daemon_.rekey->secrets[RIGHT], &none, sizeof(none));
}

static void foreign_key(void **state)
{
	REQUIRE_REKEY();
	open_pair(0x1301);
	daemon_.rekey->secrets[LEFT].keys[KMTLS_TO_WIRE].bytes[0][0] ^= 1;
	assert_int_equal(update_left(), KMTLS_REASON_REKEY_FAILED);
	assert_int_equal(sequence_of(LEFT), 0); /* nothing was sent */
}

static void storm(void **state)
{
	unsigned passed = 0;

	REQUIRE_REKEY();
	open_pair(0x1301);
	while (passed < 100) {
		private[LEFT].key_flags |= KMTLS_KEY_DUE;
		assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
		test_wait_readable(flows[RIGHT].wire_fd);
		if (take_updates(RIGHT))
			break;
		passed++;
	}
	assert_in_range(passed, 16, 30); /* a second may pass meanwhile */
	teardown(NULL);
	open_pair(0x1301);
	for (passed = 0; passed < 100; passed++) {
		private[LEFT].key_flags |= KMTLS_KEY_DUE;
		assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
		kmtls_rekey_count(&private[RIGHT], passed & 1, 64 * 1024);
		test_wait_readable(flows[RIGHT].wire_fd);
		assert_int_equal(take_updates(RIGHT), KMTLS_REASON_NONE);
	}
}

/* ---- limits ---- */

static void warned_once(void **state)
{
	test_require_ktls();
	open_pair(0x1301);
	kmtls_rekey_end(daemon_.rekey, LEFT);
	private[LEFT].key_bytes[KMTLS_TO_WIRE] = options.limit / 2 - 1;
	assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
	assert_int_equal(private[LEFT].key_flags, 0);
	private[LEFT].key_bytes[KMTLS_TO_WIRE] = options.limit * 10;
	assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
	assert_int_equal(private[LEFT].key_flags, KMTLS_KEY_WARNED(KMTLS_TO_WIRE));
	private[LEFT].key_bytes[KMTLS_TO_LOCAL] = options.limit;
	assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
	assert_int_equal(private[LEFT].key_flags,
			 KMTLS_KEY_WARNED(KMTLS_TO_WIRE) | KMTLS_KEY_WARNED(KMTLS_TO_LOCAL));
}

static void chacha20_has_none(void **state)
{
	test_require_ktls();
	daemon_.rekey->close_at_limit = true;
	open_pair(0x1303);
	private[LEFT].key_bytes[KMTLS_TO_LOCAL] = 1ull << 60;
	private[LEFT].key_bytes[KMTLS_TO_WIRE] = 1ull << 60;
	assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
	assert_int_equal(private[LEFT].key_flags, 0);
	assert_int_equal(flows[LEFT].rekeys, 0);
}

/* What is in the pipes is delivered first; then an alert, then the peer's end is awaited. */
static void closing(void **state)
{
	unsigned char record[8];
	__u8 type;

	test_require_ktls();
	daemon_.rekey->close_at_limit = true;
	open_pair(0x1301);
	kmtls_rekey_end(daemon_.rekey, LEFT);
	private[LEFT].key_bytes[KMTLS_TO_WIRE] = options.limit - 1000;
	private[LEFT].queued[KMTLS_TO_WIRE] = 1;
	assert_false(kmtls_rekey_closing(&private[LEFT]));
	assert_int_equal(kmtls_rekey_end_reason(&loop, LEFT, KMTLS_REASON_PEER_RESET),
			 KMTLS_REASON_PEER_RESET);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
		assert_true(kmtls_rekey_closing(&private[LEFT]));
		assert_int_equal(loop.lingering, 1);
		assert_int_equal(sequence_of(LEFT), 0);
	}
	private[LEFT].queued[KMTLS_TO_WIRE] = 0;
	assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
	assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
	test_wait_readable(flows[RIGHT].wire_fd);
	assert_int_equal(
		kmtls_ktls_receive(flows[RIGHT].wire_fd, false, record, sizeof(record), &type), 2);
	assert_int_equal(type, KMTLS_RECORD_ALERT);
	assert_memory_equal(record, "\2\x50", 2);
	assert_int_equal(
		kmtls_ktls_receive(flows[RIGHT].wire_fd, false, record, sizeof(record), &type), 0);
	shutdown(flows[RIGHT].wire_fd, SHUT_WR);
	assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_KEY_LIMIT);
	assert_int_equal(kmtls_rekey_end_reason(&loop, LEFT, KMTLS_REASON_PEER_RESET),
			 KMTLS_REASON_KEY_LIMIT);
}

/* ---- a worker that dies ---- */

/* The next worker: knows nothing but the slot, the secrets and the kernel. */
static void take_over(int slot)
{
	memset(&private[slot], 0, sizeof(private[slot]));
	assert_int_equal(kmtls_rekey_adopt(&loop, slot), KMTLS_REASON_NONE);
	assert_false(daemon_.rekey->secrets[slot].keys[KMTLS_TO_WIRE].state & KMTLS_REKEY_INTENT);
}

static void resume_child(pid_t child, int request)
{
	int status;

	assert_int_equal(ptrace(request, child, NULL, NULL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSTOPPED(status) || WIFEXITED(status));
	errno = WIFEXITED(status) ? ESRCH : 0;
}

/*
 * Runs work in a worker of its own and kills it after so many stops at system calls (each has
 * two: before and after) and so many instructions more. false: it came to its end.
 */
static bool killed(enum kmtls_reason (*work)(void), unsigned stops, unsigned steps)
{
	pid_t child = fork();
	bool alive = true;
	int status;

	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		work();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	for (unsigned i = 0; alive && i < stops; i++) {
		resume_child(child, PTRACE_SYSCALL);
		alive = !errno;
	}
	for (unsigned i = 0; alive && i < steps; i++) {
		resume_child(child, PTRACE_SINGLESTEP);
		alive = !errno;
	}
	if (alive) {
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
	}
	return alive;
}

static enum kmtls_reason follow_right(void)
{
	return take_updates(RIGHT);
}

/* Everything still decrypts, in both directions, also after one more key. */
static void assert_works(void)
{
	assert_passes(LEFT, "after the take-over");
	assert_passes(RIGHT, "and back");
	assert_int_equal(update_left(), KMTLS_REASON_NONE);
	assert_passes(LEFT, "one key more");
	assert_passes(RIGHT, "and back again");
}

static bool die_sending(unsigned stops, unsigned steps)
{
	bool died;

	open_pair(0x1301);
	assert_passes(LEFT, "before");
	died = killed(update_left, stops, steps);
	take_over(LEFT);
	/* Twice is as good as once: the next worker may die as well. */
	take_over(LEFT);
	assert_works();
	teardown(NULL);
	return died;
}

static bool die_receiving(unsigned stops, unsigned steps)
{
	bool died;

	open_pair(0x1302);
	assert_passes(LEFT, "before");
	private[LEFT].key_flags |= KMTLS_KEY_DUE;
	assert_int_equal(kmtls_rekey_serve(&loop, LEFT), KMTLS_REASON_NONE);
	test_wait_readable(flows[RIGHT].wire_fd);
	died = killed(follow_right, stops, steps);
	take_over(RIGHT);
	take_over(RIGHT);
	/* Poll may be silent: after a take-over every flow is tried once. */
	assert_int_equal(take_updates(RIGHT), KMTLS_REASON_NONE);
	assert_works();
	teardown(NULL);
	return died;
}

/* At every system call, and at random within the instructions after each. */
static void dies(void **state)
{
	bool (*die)(unsigned stops, unsigned steps) = *state;
	unsigned calls = 0;

	REQUIRE_REKEY();
	srandom(1);
	while (die(calls, 0))
		calls++;
	assert_in_range(calls, 8, 60); /* getsockopt, sendmsg or recvmsg, setsockopt at least */
	for (unsigned i = 0; i < ROUNDS; i++)
		die(random() % calls, random() % STEPS);
}

/* Over-counting is allowed, under-counting is not. */
static void counts_anew(void **state)
{
	char buffer[4096] = "";
	__u64 counted;
	__u8 type;

	REQUIRE_REKEY();
	open_pair(0x1301);
	for (int round = 0; round < 2; round++) {
		for (size_t size = 1; size <= sizeof(buffer); size += size / 2 + 1) {
			assert_int_equal(send(flows[LEFT].wire_fd, buffer, size, 0), size);
			kmtls_rekey_count(&private[LEFT], KMTLS_TO_WIRE, size);
			test_wait_readable(flows[RIGHT].wire_fd);
			assert_int_equal(take_updates(RIGHT), KMTLS_REASON_NONE);
			test_wait_readable(flows[RIGHT].wire_fd);
			assert_int_equal(kmtls_ktls_receive(flows[RIGHT].wire_fd, false, buffer,
							    sizeof(buffer), &type),
					 size);
			kmtls_rekey_count(&private[RIGHT], KMTLS_TO_LOCAL, size);
		}
		counted = private[LEFT].key_bytes[KMTLS_TO_WIRE];
		take_over(LEFT);
		assert_in_range(private[LEFT].key_bytes[KMTLS_TO_WIRE], counted, 2 * counted + 200);
		counted = private[RIGHT].key_bytes[KMTLS_TO_LOCAL];
		take_over(RIGHT);
		assert_in_range(private[RIGHT].key_bytes[KMTLS_TO_LOCAL], counted, MIB);
		assert_int_equal(update_left(), KMTLS_REASON_NONE);
	}
}

static void lost_state(void **state)
{
	REQUIRE_REKEY();
	open_pair(0x1301);
	daemon_.rekey->secrets[LEFT].keys[KMTLS_TO_WIRE].state |= KMTLS_REKEY_INTENT;
	daemon_.rekey->secrets[LEFT].keys[KMTLS_TO_WIRE].sequence = 7;
	assert_int_equal(kmtls_rekey_adopt(&loop, LEFT), KMTLS_REASON_REKEY_FAILED);
	daemon_.rekey->secrets[RIGHT].keys[KMTLS_TO_LOCAL].bytes[0][5] ^= 1;
	assert_int_equal(kmtls_rekey_adopt(&loop, RIGHT), KMTLS_REASON_REKEY_FAILED);
}

#define TEST(function) cmocka_unit_test_teardown(function, teardown)
#define TEST_WITH(name, function, state)                        \
	{                                                       \
		name, function, NULL, teardown, (void *)(state) \
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
		TEST_WITH("a worker dies sending", dies, die_sending),
		TEST_WITH("a worker dies receiving", dies, die_receiving),
		TEST(counts_anew),
		TEST(lost_state),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("rekey", tests, setup_group, NULL);
}
