/* SPDX-License-Identifier: Apache-2.0 */
/* expiry.c - see expiry.h. */
#include "expiry.h"

#include <bpf/bpf.h>
#include <pthread.h>
#include <string.h>

#include "address.h"
#include "bpf_loader.h"
#include "clock.h"
#include "counters.h"
#include "daemon.h"
#include "log.h"
#include "loop.h"
#include "policy.h"
#include "reason.h"
#include "refusals.h"
#include "relay.h"

/* Slots looked at in a second, on average: where flows are many their ends may be some seconds late. */
#define SLOTS_A_SECOND 65536u
#define NEVER (~0ull)

/* ---- what handshakes have shown ---- */

static __u64 shown(struct kmtls_daemon *daemon, const struct kmtls_peer_expiry_key *key)
{
	struct kmtls_peer_expiry_value value = { .not_after = 0 };

	if (bpf_map_lookup_elem(kmtls_bpf_map(daemon->bpf, KMTLS_MAP_PEER_EXPIRIES), key, &value) <
	    0)
		return 0;
	return value.not_after;
}

/* The newest one counts, also where its SVID ends sooner: what the peer had before says nothing about
 * whether it still gets SVIDs. */
void kmtls_expiry_show(struct kmtls_daemon *daemon, __u64 self, __u64 peer, time_t not_after)
{
	const struct kmtls_peer_expiry_key key = { .self_identity = self, .peer_identity = peer };
	const struct kmtls_peer_expiry_value value = { .not_after = (__u64)not_after };

	/* Most handshakes show what the one before has. */
	if (shown(daemon, &key) != value.not_after &&
	    bpf_map_update_elem(kmtls_bpf_map(daemon->bpf, KMTLS_MAP_PEER_EXPIRIES), &key, &value,
				BPF_ANY) < 0)
		log_debug("peer's expiry not remembered", NULL);
}

/* ---- flows ---- */

static void lower(struct kmtls_expiry *expiry, __u64 time)
{
	if (time < expiry->next)
		__atomic_store_n(&expiry->next, time, __ATOMIC_RELAXED);
}

void kmtls_expiry_watch(struct kmtls_loop *loop, const struct kmtls_flow *flow)
{
	if (flow->peer_not_after)
		lower(&loop->expiry, flow->peer_not_after);
}

void kmtls_expiry_tick(struct kmtls_daemon *daemon)
{
	static unsigned pause;
	__u64 now = (__u64)kmtls_clock_now();

	if (pause) {
		pause--;
		return;
	}
	for (unsigned i = 0; i < daemon->loops->count; i++) {
		struct kmtls_loop *loop = &daemon->loops->loops[i];

		if (now < __atomic_load_n(&loop->expiry.next, __ATOMIC_RELAXED))
			continue;
		pause = *daemon->flows->used / SLOTS_A_SECOND;
		pthread_mutex_lock(&loop->lock);
		loop->expiry_pending = true;
		pthread_mutex_unlock(&loop->lock);
		kmtls_loop_wake(loop);
	}
}

void kmtls_expiry_begin(struct kmtls_loop *loop)
{
	struct kmtls_expiry *expiry = &loop->expiry;

	if (expiry->walk.left)
		return;
	kmtls_walk_begin(&expiry->walk, *loop->daemon->flows->used);
	__atomic_store_n(&expiry->next, NEVER, __ATOMIC_RELAXED);
}

static void say(struct kmtls_loop *loop, unsigned slot, const char *what, enum kmtls_reason reason)
{
	const struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	char self[KMTLS_ENDPOINT_TEXT], peer[KMTLS_ENDPOINT_TEXT];
	char peer_id[KMTLS_SPIFFE_ID_MAX + 1];

	if (!kmtls_refusals_worth_a_line(reason))
		return;
	if (kmtls_policy_name_get(loop->daemon->bpf, flow->peer_identity, peer_id) < 0)
		peer_id[0] = '\0';
	log_warning(what,
		    "flow=%u.%u self=%s peer=%s reason=%s text=%s peer_id=%s peer_not_after=%llu",
		    slot, flow->generation, kmtls_endpoint_format(&flow->self, self, sizeof(self)),
		    kmtls_endpoint_format(&flow->peer, peer, sizeof(peer)),
		    kmtls_reason_name(reason), kmtls_log_quote(kmtls_reason_text(reason)),
		    kmtls_log_quote(peer_id), (unsigned long long)flow->peer_not_after);
}

static void expire(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);

	if (loop->daemon->config->identity.keep_expired) {
		flow->peer_expired_kept = 1;
		kmtls_counters_add(KMTLS_REASON_PEER_EXPIRED_KEPT);
		say(loop, slot, "flow kept", KMTLS_REASON_PEER_EXPIRED_KEPT);
		return;
	}
	say(loop, slot, "flow reset", KMTLS_REASON_PEER_EXPIRED);
	kmtls_relay_reset(loop, slot, KMTLS_REASON_PEER_EXPIRED);
}

static void look_at(struct kmtls_loop *loop, unsigned slot, __u64 now)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_peer_expiry_key key;
	__u64 later;

	if (!kmtls_flow_table_owns(loop->daemon->flows, loop->number, slot) ||
	    kmtls_flow_state(flow) != KMTLS_FLOW_ESTABLISHED || kmtls_flow_is_plain(flow) ||
	    !flow->peer_not_after || flow->peer_expired_kept)
		return;
	if (flow->peer_not_after <= now) {
		key.self_identity = flow->self_identity;
		key.peer_identity = flow->peer_identity;
		later = shown(loop->daemon, &key);
		if (later > flow->peer_not_after)
			__atomic_store_n(&flow->peer_not_after, later, __ATOMIC_RELAXED);
	}
	if (flow->peer_not_after <= now)
		expire(loop, slot);
	else
		lower(&loop->expiry, flow->peer_not_after);
}

void kmtls_expiry_some(struct kmtls_loop *loop)
{
	struct kmtls_walk *walk = &loop->expiry.walk;
	__u64 now;

	if (!walk->left)
		return;
	now = (__u64)kmtls_clock_now();
	for (unsigned i = 0; walk->left && i < KMTLS_WALK_SLOTS; i++)
		look_at(loop, kmtls_walk_next(walk), now);
}
