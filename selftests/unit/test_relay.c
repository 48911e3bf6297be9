/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_relay.c - what the relay believes about its sources, on each kernel: bytes are never left
 * where no event will tell of them again.
 * An application and a peer, both in this process, and the flow between them. How flows end is
 * tested with whole daemons.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ktls.h"
#include "loop.h"
#include "pipes.h"
#include "rekey_pair.h"
#include "relay.h"
#include "sockets.h"
#include "tally.h"

#define MIB (1024 * 1024)
#define BITS 200
#define QUEUED (8 * MIB)
/* Of one turn at most: 16 rounds of 64 KiB, which may be in five records. */
#define TURN_RECORDS (16 * 5)
#define TO_WIRE 1 /* a test's state */

static int application, peer;
static int other[2]; /* a connection that only takes room between bytes of the first */
static unsigned again[2];
static unsigned char bytes[MIB], got[MIB];

static int setup(void **state)
{
	static const struct linger reset = { .l_onoff = 1 };
	struct kmtls_flow *flow = &test_flows[TEST_LEFT];

	if (kmtls_ktls_probe())
		return 0; /* each test says so itself */
	test_open_pair(0x1301);
	test_tcp_pair(&application, &flow->local_fd);
	setsockopt(flow->local_fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	test_tcp_pair(&other[0], &other[1]);
	flow->to_wire.pipe_read = flow->to_wire.pipe_write = -1;
	flow->to_local.pipe_read = flow->to_local.pipe_write = -1;
	flow->state = KMTLS_FLOW_ESTABLISHED;
	peer = test_flows[TEST_RIGHT].wire_fd;
	test_loop.again = again;
	test_loop.again_count = 0;
	test_loop.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = i * 31 + (i >> 12);
	memset(got, 0, sizeof(got));
	return kmtls_loop_watch(&test_loop, KMTLS_TAG_LOCAL, TEST_LEFT, flow->local_fd) ||
	       kmtls_loop_watch(&test_loop, KMTLS_TAG_WIRE, TEST_LEFT, flow->wire_fd);
}

static int teardown(void **state)
{
	if (kmtls_ktls_probe())
		return 0;
	close(application);
	close(other[0]);
	close(other[1]);
	if (test_flows[TEST_LEFT].local_fd >= 0)
		close(test_flows[TEST_LEFT].local_fd);
	close(test_loop.epoll_fd);
	kmtls_pipes_close(&test_loop.pipes);
	return test_rekey_teardown(state);
}

static void pump_again(void)
{
	if (!test_private[TEST_LEFT].again)
		return;
	test_private[TEST_LEFT].again = false;
	test_loop.again_count = 0;
	kmtls_relay_pump(&test_loop, TEST_LEFT, false);
}

/* What epoll says now, as the loop does. false: nothing, within so many ms. */
static bool serve(int timeout)
{
	struct epoll_event events[8];
	int count = epoll_wait(test_loop.epoll_fd, events, 8,
			       test_private[TEST_LEFT].again ? 0 : timeout);
	bool left = test_private[TEST_LEFT].again;

	for (int i = 0; i < count && test_flows[TEST_LEFT].state == KMTLS_FLOW_ESTABLISHED; i++)
		kmtls_relay_event(&test_loop, TEST_LEFT, events[i].data.u64 >> 56,
				  events[i].events);
	pump_again();
	if (test_flows[TEST_LEFT].state != KMTLS_FLOW_ESTABLISHED)
		return true;
	return count > 0 || left;
}

/* The edges of two new sockets. */
static void settle(void)
{
	while (serve(20))
		;
}

/* Something comes of waiting: an event of the flow, or bytes at its other end. */
static bool goes_on(int to)
{
	struct pollfd sink = { .fd = to, .events = POLLIN };

	for (int i = 0; i < 40; i++)
		if (serve(25) || poll(&sink, 1, 25) > 0)
			return true;
	return false;
}

/* Sends and reads until all is there, serving the flow only when epoll speaks of it. */
static void pass(int from, int to, size_t size)
{
	size_t sent = 0, have = 0;
	ssize_t done;

	while (have < size) {
		done = sent < size ? send(from, bytes + sent, size - sent, MSG_NOSIGNAL) : 0;
		sent += done > 0 ? done : 0;
		done = recv(to, got + have, size - have, 0);
		have += done > 0 ? done : 0;
		if (done <= 0 && have < size && !goes_on(to))
			fail_msg("%zu of %zu bytes sent, %zu came, and there is no event", sent,
				 size, have);
	}
	assert_memory_equal(got, bytes, size);
}

/* Each byte has a buffer of its own, more than a pipe has slots; all are there before the first
 * event. */
static void many_buffers(void **state)
{
	bool to_wire = (uintptr_t)*state == TO_WIRE;
	size_t have = 0;
	int from, to;

	test_require_ktls();
	from = to_wire ? application : peer;
	to = to_wire ? peer : application;
	settle();
	for (size_t i = 0; i < BITS; i++) {
		assert_int_equal(send(from, bytes + i, 1, 0), 1);
		assert_int_equal(send(other[0], bytes, 33, 0), 33);
	}
	while (have < BITS) {
		ssize_t done;

		if (!serve(1000))
			fail_msg("%zu of %u bytes came, and there is no event", have, BITS);
		while ((done = recv(to, got + have, BITS - have, 0)) > 0)
			have += done;
	}
	assert_memory_equal(got, bytes, BITS);
}

static void bulk(void **state)
{
	test_require_ktls();
	settle();
	pass(application, peer, MIB);
	pass(peer, application, MIB);
}

/* Messages and answers, of all sizes about a record's, with nothing beside them that could wake. */
static void one_by_one(void **state)
{
	test_require_ktls();
	settle();
	for (size_t size = 1; size < 70000; size = size * 2 + 1) {
		pass(application, peer, size);
		pass(peer, application, size);
	}
	pass(application, peer, 16384);
	pass(application, peer, 16385);
	pass(peer, application, 16384);
	pass(peer, application, 16385);
}

/* Much waits, and the wire takes all of it: others get their turn nevertheless, soon, and this flow another one. */
static void bounded_turn(void **state)
{
	static const int room = 16 * MIB;
	__u64 before, after, most = 0;
	size_t sent = 0, have = 0;
	unsigned turns = 0;
	ssize_t done;

	test_require_ktls();
	settle();
	test_rekey->limit = 8 * QUEUED; /* no KeyUpdate on the way, which peer would have to read */
	setsockopt(application, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	setsockopt(test_flows[TEST_LEFT].local_fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	setsockopt(test_flows[TEST_LEFT].wire_fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	while (sent < QUEUED &&
	       (done = send(application, bytes + sent % MIB, MIB - sent % MIB, 0)) > 0)
		sent += done;
	assert_int_equal(sent, QUEUED);
	kmtls_relay_pump(&test_loop, TEST_LEFT, false);
	assert_true(test_private[TEST_LEFT].again);
	for (; have < QUEUED && turns < 10000; turns++) {
		kmtls_ktls_tx_sequence(test_flows[TEST_LEFT].wire_fd, 0x1301, &before);
		serve(10);
		kmtls_ktls_tx_sequence(test_flows[TEST_LEFT].wire_fd, 0x1301, &after);
		most = after - before > most ? after - before : most;
		while ((done = recv(peer, got, MIB - have % MIB, 0)) > 0) {
			assert_memory_equal(got, bytes + have % MIB, done);
			have += done;
		}
	}
	assert_int_equal(have, QUEUED);
	assert_in_range(most, 1, 2 * TURN_RECORDS); /* an event may come on top of what was left */
}

/* The application's end comes with its last bytes, in one event. */
static void end_with_bytes(void **state)
{
	unsigned char record[64];
	ssize_t length;
	__u8 type;

	test_require_ktls();
	settle();
	assert_int_equal(send(application, bytes, 10, 0), 10);
	shutdown(application, SHUT_WR);
	while (serve(200))
		;
	length = kmtls_ktls_receive(peer, false, record, sizeof(record), &type);
	assert_int_equal(length, 10);
	assert_int_equal(type, KMTLS_RECORD_DATA);
	length = kmtls_ktls_receive(peer, false, record, sizeof(record), &type);
	assert_int_equal(length, 2);
	assert_int_equal(type, KMTLS_RECORD_ALERT);
}

/* As if the slot had been taken from the table. */
static void make_returnable(struct kmtls_flow_table *table)
{
	static const struct kmtls_tally_key key;
	static unsigned free_slots[2];

	if (!table->per_pod)
		table->per_pod = kmtls_tally_open(1);
	assert_int_equal(kmtls_tally_add(table->per_pod, &key, 0), 0);
	table->free_slots = free_slots;
	table->free_count = 0;
}

/* The peer's TCP ends behind a whole record, without close_notify: both come in one event. */
static void truncated(void **state)
{
	char byte;

	test_require_ktls();
	settle();
	errno = 0;
	make_returnable(test_loop.daemon->flows);
	assert_int_equal(send(peer, bytes, 10, 0), 10);
	shutdown(peer, SHUT_WR);
	while (test_flows[TEST_LEFT].state == KMTLS_FLOW_ESTABLISHED)
		if (!serve(1000))
			fail_msg("nothing tells of the end");
	/* The reset may overtake the bytes. */
	while (recv(application, &byte, 1, 0) > 0)
		;
	assert_int_equal(errno, ECONNRESET);
	test_flows[TEST_LEFT].local_fd = test_flows[TEST_LEFT].wire_fd = -1;
}

#define TEST(name, function, state)                              \
	{                                                        \
		name, function, setup, teardown, (void *)(state) \
	}
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("many buffers to the wire", many_buffers, TO_WIRE),
		TEST("many records to the application", many_buffers, 0),
		TEST("bulk", bulk, 0),
		TEST("one by one", one_by_one, 0),
		TEST("a turn is bounded", bounded_turn, 0),
		TEST("end with bytes", end_with_bytes, 0),
		TEST("truncated", truncated, 0),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("relay", tests, test_rekey_setup_group, NULL);
}
