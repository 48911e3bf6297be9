/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_expiry.c - flows end with the peer's SVID, and with a CRL that revokes it: with the pinned maps,
 * slots of the flow table and connections as the daemon has them. Needs BPF; without root it is
 * skipped, in the guest it is not.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "bpf_place.h"
#include "bpf_loader.h"
#include "clock.h"
#include "counters.h"
#include "expiry.h"
#include "flow_table.h"
#include "loop.h"
#include "peer_paths.h"
#include "relay.h"
#include "rekey.h"
#include "review.h"
#include "revocation.h"
#include "shared.h"
#include "sockets.h"
#include "walk.h"

#define SELF 11
#define PEER 22

static atomic_ullong counts[KMTLS_REASON_COUNT];
static _Atomic __u32 used;
static struct kmtls_config config = { .max_flows = 1024, .max_udp_peers = 64 };
static struct kmtls_rekey_table rekey;
static struct kmtls_daemon daemon_ = { .config = &config, .rekey = &rekey };

static struct kmtls_loop *loop(void)
{
	return &daemon_.loops->loops[0];
}

/* An established flow of the loop; the application's and the peer's ends. */
static unsigned establish(__u64 peer, time_t not_after, int *ret_application, int *ret_peer)
{
	struct kmtls_flow *flow;
	unsigned slot;

	test_require_bpf(daemon_.bpf);
	assert_int_equal(kmtls_flow_table_take(daemon_.flows, 0, 1, &slot), 0);
	flow = kmtls_loop_flow(loop(), slot);
	flow->role = KMTLS_ROLE_CLIENT;
	flow->self_identity = SELF;
	flow->peer_identity = peer;
	flow->peer_not_after = (__u64)not_after;
	flow->cipher = 0x1301;
	test_tcp_pair(ret_application, &flow->local_fd);
	test_tcp_pair(ret_peer, &flow->wire_fd);
	kmtls_flow_set_state(flow, KMTLS_FLOW_HANDSHAKE);
	kmtls_flow_set_state(flow, KMTLS_FLOW_ESTABLISHED);
	kmtls_expiry_watch(loop(), flow);
	return slot;
}

static bool is_open(unsigned slot)
{
	return kmtls_flow_state(kmtls_loop_flow(loop(), slot)) == KMTLS_FLOW_ESTABLISHED;
}

/* As the loop and the daemon's thread do; did the loop have anything to do? */
static bool tick(void)
{
	bool pending;

	kmtls_expiry_tick(&daemon_);
	pending = loop()->expiry_pending;
	loop()->expiry_pending = false;
	if (pending)
		kmtls_expiry_begin(loop());
	while (loop()->expiry.walk.left)
		kmtls_expiry_some(loop());
	return pending;
}

static void end(unsigned slot, int application, int peer)
{
	if (is_open(slot))
		kmtls_relay_reset(loop(), slot, KMTLS_REASON_STOPPED);
	close(application);
	close(peer);
}

static int error_of(int fd)
{
	char byte;

	return read(fd, &byte, 1) < 0 ? errno : 0;
}

static void closes(void **state)
{
	unsigned long long before = counts[KMTLS_REASON_PEER_EXPIRED];
	time_t now = kmtls_clock_now();
	int application, peer;
	unsigned slot = establish(PEER, now + 60, &application, &peer);

	assert_true(tick()); /* the first look of a new worker */
	assert_false(tick()); /* nothing is due */
	assert_true(is_open(slot));
	kmtls_loop_flow(loop(), slot)->peer_not_after = (__u64)now;
	kmtls_expiry_watch(loop(), kmtls_loop_flow(loop(), slot));
	assert_true(tick());
	assert_false(is_open(slot));
	assert_int_equal(counts[KMTLS_REASON_PEER_EXPIRED], before + 1);
	test_wait_readable(peer);
	assert_int_equal(error_of(peer), ECONNRESET);
	end(slot, application, peer);
}

static void newer_handshake(void **state)
{
	time_t now = kmtls_clock_now();
	int application, peer, application2, peer2;
	unsigned slot = establish(PEER + 1, now, &application, &peer);
	unsigned other = establish(PEER + 2, now, &application2, &peer2);

	kmtls_expiry_show(&daemon_, SELF, PEER + 1, now + 100);
	kmtls_expiry_show(&daemon_, SELF, PEER + 1, now + 50); /* the newest counts */
	kmtls_expiry_show(&daemon_, SELF + 1, PEER + 2, now + 100); /* another pod's */
	assert_true(tick());
	assert_true(is_open(slot));
	assert_int_equal(kmtls_loop_flow(loop(), slot)->peer_not_after, now + 50);
	assert_false(is_open(other));
	assert_false(tick());
	end(slot, application, peer);
	end(other, application2, peer2);
}

/* A peer that had an SVID of a day, and then one that is over: what it had before keeps nothing open. One
 * whose own is not over yet is not cut short by a later one that is. */
static void older_handshake(void **state)
{
	time_t now = kmtls_clock_now();
	int application, peer, application2, peer2;
	unsigned slot = establish(PEER + 5, now, &application, &peer);
	unsigned own = establish(PEER + 5, now + 86400, &application2, &peer2);

	kmtls_expiry_show(&daemon_, SELF, PEER + 5, now + 86400);
	kmtls_expiry_show(&daemon_, SELF, PEER + 5, now);
	assert_true(tick());
	assert_false(is_open(slot));
	assert_true(is_open(own));
	assert_int_equal(kmtls_loop_flow(loop(), own)->peer_not_after, now + 86400);
	end(slot, application, peer);
	end(own, application2, peer2);
}

static void warns(void **state)
{
	unsigned long long before = counts[KMTLS_REASON_PEER_EXPIRED_KEPT];
	int application, peer;
	unsigned slot = establish(PEER + 3, kmtls_clock_now() - 5, &application, &peer);

	config.identity.keep_expired = true;
	assert_true(tick());
	assert_true(is_open(slot));
	assert_int_equal(counts[KMTLS_REASON_PEER_EXPIRED_KEPT], before + 1);
	assert_false(tick()); /* once */
	loop()->expiry.next = 0; /* a new worker */
	assert_true(tick());
	assert_int_equal(counts[KMTLS_REASON_PEER_EXPIRED_KEPT], before + 1);
	config.identity.keep_expired = false;
	end(slot, application, peer);
}

static void plaintext_has_no_peer(void **state)
{
	int application, peer;
	unsigned slot = establish(0, 0, &application, &peer);

	kmtls_loop_flow(loop(), slot)->cipher = 0;
	loop()->expiry.next = 0;
	assert_true(tick());
	assert_true(is_open(slot));
	end(slot, application, peer);
}

static void revoked(void **state)
{
	unsigned long long before = counts[KMTLS_REASON_PEER_REVOKED];
	__u64 *hashes;
	int application, peer, application2, peer2;
	unsigned slot = establish(PEER + 4, kmtls_clock_now() + 100, &application, &peer);
	unsigned other = establish(PEER + 4, kmtls_clock_now() + 100, &application2, &peer2);

	hashes = calloc(1, sizeof(*hashes));
	kmtls_loop_flow(loop(), slot)->peer_certificate = 4711;
	kmtls_loop_flow(loop(), other)->peer_certificate = 4712;
	hashes[0] = 4711;
	assert_true(kmtls_revocation_replace(hashes, 1));
	kmtls_review_begin(loop());
	while (loop()->review.walk.left)
		kmtls_review_some(loop());
	assert_false(is_open(slot));
	assert_true(is_open(other));
	assert_int_equal(counts[KMTLS_REASON_PEER_REVOKED], before + 1);
	test_wait_readable(peer);
	assert_int_equal(error_of(peer), ECONNRESET);
	kmtls_revocation_replace(NULL, 0);
	end(slot, application, peer);
	end(other, application2, peer2);
}

/* Every slot once, and in turn where it is begun anew before it is over. */
static void walk(void **state)
{
	static const unsigned expected[] = { 2, 3, 4, 0, 1 };
	struct kmtls_walk walk = { .slot = 0 };

	kmtls_walk_begin(&walk, 5);
	assert_int_equal(kmtls_walk_next(&walk), 0);
	assert_int_equal(kmtls_walk_next(&walk), 1);
	assert_int_equal(walk.left, 3);
	kmtls_walk_begin(&walk, 5);
	for (int i = 0; i < 5; i++)
		assert_int_equal(kmtls_walk_next(&walk), expected[i]);
	assert_int_equal(walk.left, 0);
	kmtls_walk_begin(&walk, 2); /* fewer are in use: from the first one */
	assert_int_equal(kmtls_walk_next(&walk), 0);
}

static void put_path(unsigned slot, __u64 first, __u64 second)
{
	const __u64 issuers[KMTLS_TLS_INTERMEDIATES_MAX] = { first, second };

	assert_int_equal(kmtls_peer_paths_put(&daemon_.shared->peer_paths, daemon_.flows,
					      kmtls_loop_flow(loop(), slot), issuers),
			 0);
}

static void review(__u64 hash)
{
	__u64 *hashes = calloc(1, sizeof(*hashes));

	hashes[0] = hash;
	assert_true(kmtls_revocation_replace(hashes, 1));
	kmtls_review_begin(loop());
	while (loop()->review.walk.left)
		kmtls_review_some(loop());
}

/* Whose path goes through it, and nobody else's, whatever worker looks. */
static void revoked_intermediate(void **state)
{
	unsigned long long before = counts[KMTLS_REASON_PEER_REVOKED];
	time_t later = kmtls_clock_now() + 100;
	int application[4], peer[4];
	unsigned slots[4];

	for (unsigned i = 0; i < 4; i++)
		slots[i] = establish(PEER + 6, later, &application[i], &peer[i]);
	put_path(slots[0], 501, 0);
	put_path(slots[1], 502, 501);
	put_path(slots[2], 502, 503);
	put_path(slots[3], 0, 0);
	assert_int_not_equal(kmtls_loop_flow(loop(), slots[1])->peer_path,
			     kmtls_loop_flow(loop(), slots[2])->peer_path);
	assert_int_equal(kmtls_loop_flow(loop(), slots[3])->peer_path, 0);
	review(501);
	assert_false(is_open(slots[0]));
	assert_false(is_open(slots[1]));
	assert_true(is_open(slots[2]));
	assert_true(is_open(slots[3]));
	assert_int_equal(counts[KMTLS_REASON_PEER_REVOKED], before + 2);
	review(503);
	assert_false(is_open(slots[2]));
	assert_true(is_open(slots[3]));
	kmtls_revocation_replace(NULL, 0);
	for (unsigned i = 0; i < 4; i++)
		end(slots[i], application[i], peer[i]);
}

/* More paths than there are places, one after the other: those of flows that are gone make room, that
 * of a flow that is there stays. */
static void paths_make_room(void **state)
{
	struct kmtls_peer_paths *paths = &daemon_.shared->peer_paths;
	int application, peer, application2, peer2;
	unsigned slot = establish(PEER + 7, kmtls_clock_now() + 100, &application, &peer);
	unsigned other = establish(PEER + 7, kmtls_clock_now() + 100, &application2, &peer2);
	__u32 kept;

	put_path(slot, 600, 601);
	kept = kmtls_loop_flow(loop(), slot)->peer_path;
	for (unsigned i = 0; i < 3 * KMTLS_PEER_PATHS; i++) {
		put_path(other, 1000 + i, 0);
		assert_int_not_equal(kmtls_loop_flow(loop(), other)->peer_path, kept);
	}
	assert_int_equal(paths->issuers[kept - 1][0], 600);
	assert_int_equal(paths->issuers[kept - 1][1], 601);
	put_path(other, 600, 601);
	assert_int_equal(kmtls_loop_flow(loop(), other)->peer_path, kept);
	end(slot, application, peer);
	end(other, application2, peer2);
}

/* As many as there can be, each of a flow that is there: one more is refused, until a flow ends. */
static void paths_full(void **state)
{
	struct kmtls_peer_paths *paths = &daemon_.shared->peer_paths;
	const __u64 issuers[KMTLS_TLS_INTERMEDIATES_MAX] = { 9999 };
	unsigned slots[KMTLS_PEER_PATHS + 1];

	test_require_bpf(daemon_.bpf);
	for (unsigned i = 0; i <= KMTLS_PEER_PATHS; i++) {
		assert_int_equal(kmtls_flow_table_take(daemon_.flows, 0, 1, &slots[i]), 0);
		kmtls_flow_set_state(kmtls_loop_flow(loop(), slots[i]), KMTLS_FLOW_HANDSHAKE);
		if (i < KMTLS_PEER_PATHS)
			put_path(slots[i], 3000 + i, 0);
	}
	assert_int_equal(kmtls_peer_paths_put(paths, daemon_.flows,
					      kmtls_loop_flow(loop(), slots[KMTLS_PEER_PATHS]),
					      issuers),
			 -ENOSPC);
	assert_int_equal(kmtls_loop_flow(loop(), slots[KMTLS_PEER_PATHS])->peer_path, 0);
	for (unsigned i = 0; i <= KMTLS_PEER_PATHS; i++) {
		struct kmtls_flow *flow = kmtls_loop_flow(loop(), slots[i]);

		kmtls_flow_set_state(flow, KMTLS_FLOW_CLOSING);
		kmtls_flow_set_state(flow, KMTLS_FLOW_FREE);
		if (!i)
			put_path(slots[KMTLS_PEER_PATHS], 9999, 0);
		kmtls_flow_table_return(daemon_.flows, slots[i]);
	}
}

/* ---- groups -------------------------------------------------------------------------------- */

static int setup(void **state)
{
	char why[256] = "";

	config.bpf_dir = test_bpf_place();
	daemon_.shared = calloc(1, sizeof(*daemon_.shared));
	kmtls_counters_open(counts);
	if (kmtls_bpf_open(&config, &daemon_.bpf, why) < 0) {
		print_message("# %s\n", why);
		return 0;
	}
	daemon_.loops = calloc(1, sizeof(*daemon_.loops) + sizeof(daemon_.loops->loops[0]));
	daemon_.loops->count = 1;
	loop()->daemon = &daemon_;
	loop()->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop()->epoll_fd = -1;
	pthread_mutex_init(&loop()->lock, NULL);
	assert_int_equal(kmtls_flow_table_open(daemon_.bpf, 1024, 0, false, &daemon_.flows, why),
			 0);
	kmtls_flow_table_adopt(daemon_.flows, &used);
	return 0;
}

static int teardown(void **state)
{
	char why[256];

	free(daemon_.shared);
	if (!daemon_.bpf)
		return 0;
	close(loop()->wake_fd);
	free(daemon_.loops);
	kmtls_flow_table_close(daemon_.flows);
	kmtls_bpf_close(daemon_.bpf);
	return kmtls_bpf_uninstall(config.bpf_dir, why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walk),
		cmocka_unit_test(closes),
		cmocka_unit_test(newer_handshake),
		cmocka_unit_test(older_handshake),
		cmocka_unit_test(warns),
		cmocka_unit_test(plaintext_has_no_peer),
		cmocka_unit_test(revoked),
		cmocka_unit_test(revoked_intermediate),
		cmocka_unit_test(paths_make_room),
		cmocka_unit_test(paths_full),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("expiry", tests, setup, teardown);
}
