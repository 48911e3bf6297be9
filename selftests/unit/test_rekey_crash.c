/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rekey_crash.c - a worker that is killed while it replaces a key: at every system call, and
 * at random between them. What the next one makes of it must decrypt, and counts are not lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ktls.h"
#include "rekey_pair.h"
#include "sockets.h"

#define MIB (1024 * 1024ull)
#define STEPS 400 /* instructions after a system call within which a worker is killed, too */
#define ROUNDS 20

/* The secrets are those of the keys that the kernel has. */
static void assert_in_step(int slot)
{
	static const enum kmtls_ktls_way ways[] = { KMTLS_KTLS_TX, KMTLS_KTLS_RX };

	for (int way = KMTLS_TO_WIRE; way <= KMTLS_TO_LOCAL; way++) {
		struct kmtls_rekey_key *key = &test_rekey->secrets[slot].keys[way];
		__u16 cipher = test_flows[slot].cipher;
		struct kmtls_secret secret = { .length = kmtls_secret_length(cipher) };
		struct kmtls_record_key live;

		memcpy(secret.bytes, key->bytes[key->state & KMTLS_REKEY_HALF],
		       sizeof(secret.bytes));
		assert_int_equal(kmtls_record_key_derive(cipher, &secret, &live), 0);
		assert_int_equal(
			kmtls_ktls_which(test_flows[slot].wire_fd, ways[way], &live, &live, NULL),
			0);
	}
}

/* The next worker: knows nothing but the slot, the secrets and the kernel. */
static void take_over(int slot)
{
	memset(&test_private[slot], 0, sizeof(test_private[slot]));
	assert_int_equal(kmtls_rekey_adopt(&test_loop, slot), KMTLS_REASON_NONE);
	assert_in_step(slot);
	assert_false(test_rekey->secrets[slot].keys[KMTLS_TO_WIRE].state & KMTLS_REKEY_INTENT);
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
	return test_take_updates(TEST_RIGHT);
}

/* Everything still decrypts, in both directions, also after one more key. */
static void assert_works(void)
{
	test_assert_passes(TEST_LEFT, "after the take-over");
	test_assert_passes(TEST_RIGHT, "and back");
	assert_int_equal(test_update_left(), KMTLS_REASON_NONE);
	test_assert_passes(TEST_LEFT, "one key more");
	test_assert_passes(TEST_RIGHT, "and back again");
}

static bool die_sending(unsigned stops, unsigned steps)
{
	bool died;

	test_open_pair(0x1301);
	test_assert_passes(TEST_LEFT, "before");
	died = killed(test_update_left, stops, steps);
	take_over(TEST_LEFT);
	/* Twice is as good as once: the next worker may die as well. */
	take_over(TEST_LEFT);
	assert_works();
	test_rekey_teardown(NULL);
	return died;
}

static bool die_receiving(unsigned stops, unsigned steps)
{
	bool died;

	test_open_pair(0x1302);
	test_assert_passes(TEST_LEFT, "before");
	test_private[TEST_LEFT].key_flags |= KMTLS_KEY_DUE;
	assert_int_equal(kmtls_rekey_serve(&test_loop, TEST_LEFT), KMTLS_REASON_NONE);
	test_wait_readable(test_flows[TEST_RIGHT].wire_fd);
	died = killed(follow_right, stops, steps);
	take_over(TEST_RIGHT);
	take_over(TEST_RIGHT);
	/* Poll may be silent: after a take-over every flow is tried once. */
	assert_int_equal(test_take_updates(TEST_RIGHT), KMTLS_REASON_NONE);
	assert_works();
	test_rekey_teardown(NULL);
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
	test_open_pair(0x1301);
	for (int round = 0; round < 2; round++) {
		for (size_t size = 1; size <= sizeof(buffer); size += size / 2 + 1) {
			assert_int_equal(send(test_flows[TEST_LEFT].wire_fd, buffer, size, 0),
					 size);
			kmtls_rekey_count(&test_private[TEST_LEFT], KMTLS_TO_WIRE, size);
			test_wait_readable(test_flows[TEST_RIGHT].wire_fd);
			assert_int_equal(test_take_updates(TEST_RIGHT), KMTLS_REASON_NONE);
			test_wait_readable(test_flows[TEST_RIGHT].wire_fd);
			assert_int_equal(kmtls_ktls_receive(test_flows[TEST_RIGHT].wire_fd, false,
							    buffer, sizeof(buffer), &type),
					 size);
			kmtls_rekey_count(&test_private[TEST_RIGHT], KMTLS_TO_LOCAL, size);
		}
		counted = test_private[TEST_LEFT].key_bytes[KMTLS_TO_WIRE];
		take_over(TEST_LEFT);
		assert_in_range(test_private[TEST_LEFT].key_bytes[KMTLS_TO_WIRE], counted,
				2 * counted + 200);
		counted = test_private[TEST_RIGHT].key_bytes[KMTLS_TO_LOCAL];
		take_over(TEST_RIGHT);
		assert_in_range(test_private[TEST_RIGHT].key_bytes[KMTLS_TO_LOCAL], counted, MIB);
		assert_int_equal(test_update_left(), KMTLS_REASON_NONE);
	}
}

/* What waits to be read when a key is replaced is under the next one already. */
static void counts_what_waits(void **state)
{
	char buffer[4096] = "";
	unsigned got = 0;
	ssize_t length;
	__u8 type;

	REQUIRE_REKEY();
	test_open_pair(0x1301);
	assert_int_equal(test_update_left(), KMTLS_REASON_NONE);
	for (int i = 0; i < 50; i++)
		assert_int_equal(send(test_flows[TEST_LEFT].wire_fd, buffer, sizeof(buffer), 0),
				 sizeof(buffer));
	test_wait_readable(test_flows[TEST_RIGHT].wire_fd);
	assert_int_equal(test_take_updates(TEST_RIGHT), KMTLS_REASON_NONE);
	while ((length = kmtls_ktls_receive(test_flows[TEST_RIGHT].wire_fd, false, buffer,
					    sizeof(buffer), &type)) > 0)
		got += length;
	assert_int_equal(got, 50 * sizeof(buffer));
	take_over(TEST_RIGHT);
	assert_in_range(test_private[TEST_RIGHT].key_bytes[KMTLS_TO_LOCAL], got, MIB);
}

static void lost_state(void **state)
{
	REQUIRE_REKEY();
	test_open_pair(0x1301);
	test_rekey->secrets[TEST_LEFT].keys[KMTLS_TO_WIRE].state |= KMTLS_REKEY_INTENT;
	test_rekey->secrets[TEST_LEFT].keys[KMTLS_TO_WIRE].sequence = 7;
	assert_int_equal(kmtls_rekey_adopt(&test_loop, TEST_LEFT), KMTLS_REASON_REKEY_FAILED);
	test_rekey->secrets[TEST_RIGHT].keys[KMTLS_TO_LOCAL].bytes[0][5] ^= 1;
	/* Nothing says that a key was about to be replaced: the kernel is not asked. */
	assert_int_equal(kmtls_rekey_adopt(&test_loop, TEST_RIGHT), KMTLS_REASON_NONE);
	test_rekey->secrets[TEST_RIGHT].keys[KMTLS_TO_LOCAL].state |= KMTLS_REKEY_INTENT;
	assert_int_equal(kmtls_rekey_adopt(&test_loop, TEST_RIGHT), KMTLS_REASON_REKEY_FAILED);
}

#define TEST(function) cmocka_unit_test_teardown(function, test_rekey_teardown)
#define TEST_WITH(name, function, state)                                   \
	{                                                                  \
		name, function, NULL, test_rekey_teardown, (void *)(state) \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_WITH("a worker dies sending", dies, die_sending),
		TEST_WITH("a worker dies receiving", dies, die_receiving),
		TEST(counts_anew),
		TEST(counts_what_waits),
		TEST(lost_state),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("rekey_crash", tests, test_rekey_setup_group, NULL);
}
