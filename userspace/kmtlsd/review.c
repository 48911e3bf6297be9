/* SPDX-License-Identifier: Apache-2.0 */
/*
 * review.c - see review.h. No generation is relied on: bpftool does not bump it. What is compared
 * is a sum over all entries of `authorizations` (of a keyed mix, so in any order) and the default.
 *
 * A flow whose handshake asked before a change and is established after it is not missed: until it
 * is established it is in DELIVERING, and looked at as well.
 */
#include "review.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "address.h"
#include "authorization.h"
#include "counters.h"
#include "daemon.h"
#include "handshake.h"
#include "log.h"
#include "loop.h"
#include "peer_paths.h"
#include "policy.h"
#include "reason.h"
#include "refusals.h"
#include "relay.h"
#include "revocation.h"
#include "shared.h"

/* What a loop asks before other work gets its turn, beside the slots it looks at (walk.h). */
#define QUESTIONS_AT_A_TIME 32

/* ---- has anything changed? ---- */

struct sum {
	__u64 key; /* of this process: nobody can aim at the same sum */
	__u64 total, entries, doubtful;
};

struct look {
	struct sum sum;
	__u32 fallback; /* the default */
	struct kmtls_doubts *doubts;
};

static __u64 mix(__u64 a, __u64 b)
{
	unsigned __int128 product = (unsigned __int128)(a ^ 0x9e3779b97f4a7c15ull) * (b | 1);

	return (__u64)product ^ (__u64)(product >> 64);
}

static int add_entry(void *context, const struct kmtls_authorization_rule *rule)
{
	__u64 words[4] = { 0 };
	struct look *look = context;
	struct sum *sum = &look->sum;
	__u64 hash = sum->key;

	memcpy(words, &rule->key, sizeof(rule->key));
	words[3] = rule->value.action;
	for (int i = 0; i < 4; i++)
		hash = mix(hash + words[i], sum->key);
	sum->total += hash;
	sum->entries++;
	sum->doubtful += !kmtls_authorization_is_readable(&rule->key);
	return kmtls_doubts_add(&look->doubts, rule);
}

/* Everything that decides, but for the identities. -errno. */
static int take_look(struct kmtls_bpf *bpf, __u64 key, struct look *ret_look)
{
	struct look look = { .sum.key = key, .doubts = kmtls_doubts_new() };
	int err = look.doubts ? kmtls_authorization_default_get(bpf, &look.fallback) : -ENOMEM;

	if (!err)
		err = kmtls_authorization_visit(bpf, add_entry, &look);
	if (err)
		kmtls_doubts_free(look.doubts);
	else
		*ret_look = look;
	return err;
}

/* At each change as long as there are any: it may be another one. */
static void warn_doubtful(__u64 entries)
{
	if (entries)
		log_warning("authorizations not readable", "entries=%llu text=%s",
			    (unsigned long long)entries,
			    kmtls_log_quote("of another version or mistaken; those that do not "
					    "allow deny all that they could mean"));
}

static unsigned failures; /* in a row */

/* What the last look found holds for one more: a moment without memory resets nobody. After that
 * nothing is known, so nothing is allowed, and what is established is asked about. */
static void fail_look(struct kmtls_daemon *daemon, int err)
{
	if (!failures++) {
		log_warning("authorizations cannot be read", "err=%s",
			    kmtls_log_quote(strerror(-err)));
		return;
	}
	kmtls_doubts_publish(NULL);
	kmtls_loops_review(daemon->loops);
}

void kmtls_review_tick(struct kmtls_daemon *daemon)
{
	static struct sum before;
	static __u32 default_before;
	static bool looked;
	struct look look;
	int err;

	while (!before.key)
		if (getrandom(&before.key, sizeof(before.key), 0) < 0)
			before.key = 1;
	err = take_look(daemon->bpf, before.key, &look);
	if (err) {
		fail_look(daemon, err);
		looked = false;
		return;
	}
	failures = 0;
	if (looked && !memcmp(&look.sum, &before, sizeof(before)) &&
	    look.fallback == default_before) {
		kmtls_doubts_free(look.doubts);
		return;
	}
	looked = true;
	warn_doubtful(look.sum.doubtful);
	kmtls_doubts_publish(look.doubts);
	before = look.sum;
	default_before = look.fallback;
	kmtls_loops_review(daemon->loops);
}

/* ---- one loop's flows ---- */

void kmtls_review_begin(struct kmtls_loop *loop)
{
	struct kmtls_review *review = &loop->review;

	kmtls_walk_begin(&review->walk, *loop->daemon->flows->used);
	memset(review->answers, 0, sizeof(review->answers));
}

static struct kmtls_review_answer *answer_of(struct kmtls_review *review,
					     const struct kmtls_flow *flow)
{
	__u64 hash = mix(flow->peer_identity + flow->self.port, flow->self_identity);

	return &review->answers[hash % KMTLS_REVIEW_ANSWERS];
}

static bool is_known(const struct kmtls_review_answer *answer, const struct kmtls_flow *flow)
{
	return answer->peer && answer->peer == flow->peer_identity &&
	       answer->self == flow->self_identity && answer->port == flow->self.port;
}

static void end_flow(struct kmtls_loop *loop, unsigned slot, const char *peer_id,
		     const char *self_id, const struct kmtls_authorization_verdict *verdict)
{
	const struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	char self[KMTLS_ENDPOINT_TEXT], peer[KMTLS_ENDPOINT_TEXT];
	char why[KMTLS_AUTHORIZATION_LINE];

	if (kmtls_refusals_worth_a_line(KMTLS_REASON_UNAUTHORIZED))
		log_warning("flow reset",
			    "flow=%u.%u self=%s peer=%s reason=%s text=%s peer_id=%s self_id=%s "
			    "detail=%s",
			    slot, flow->generation,
			    kmtls_endpoint_format(&flow->self, self, sizeof(self)),
			    kmtls_endpoint_format(&flow->peer, peer, sizeof(peer)),
			    kmtls_reason_name(KMTLS_REASON_UNAUTHORIZED),
			    kmtls_log_quote(kmtls_reason_text(KMTLS_REASON_UNAUTHORIZED)),
			    kmtls_log_quote(peer_id), kmtls_log_quote(self_id),
			    kmtls_log_quote_long(kmtls_authorization_why(loop->daemon->bpf, verdict,
									 why, sizeof(why))));
	kmtls_relay_reset(loop, slot, KMTLS_REASON_UNAUTHORIZED);
}

/* The slot has hashes only; a text that is gone is a doubt, and "" is not an ID. */
static const char *name_of(struct kmtls_loop *loop, __u64 hash, char *buffer)
{
	if (kmtls_policy_name_get(loop->daemon->bpf, hash, buffer) < 0)
		buffer[0] = '\0';
	return buffer;
}

bool kmtls_review_revoked(struct kmtls_loop *loop, unsigned slot)
{
	const struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	char self[KMTLS_ENDPOINT_TEXT], peer[KMTLS_ENDPOINT_TEXT];
	char peer_id[KMTLS_SPIFFE_ID_MAX + 1];

	if (!kmtls_revocation_holds(flow->peer_certificate) &&
	    !kmtls_peer_paths_revoked(&loop->daemon->shared->peer_paths, flow))
		return false;
	if (kmtls_refusals_worth_a_line(KMTLS_REASON_PEER_REVOKED))
		log_warning("flow reset", "flow=%u.%u self=%s peer=%s reason=%s text=%s peer_id=%s",
			    slot, flow->generation,
			    kmtls_endpoint_format(&flow->self, self, sizeof(self)),
			    kmtls_endpoint_format(&flow->peer, peer, sizeof(peer)),
			    kmtls_reason_name(KMTLS_REASON_PEER_REVOKED),
			    kmtls_log_quote(kmtls_reason_text(KMTLS_REASON_PEER_REVOKED)),
			    kmtls_log_quote(name_of(loop, flow->peer_identity, peer_id)));
	kmtls_relay_reset(loop, slot, KMTLS_REASON_PEER_REVOKED);
	return true;
}

static unsigned ask_again(struct kmtls_loop *loop, unsigned slot)
{
	const struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_review_answer *answer = answer_of(&loop->review, flow);
	char peer_id[KMTLS_SPIFFE_ID_MAX + 1], self_id[KMTLS_SPIFFE_ID_MAX + 1];
	struct kmtls_authorization_verdict verdict;

	if (is_known(answer, flow))
		return 0;
	kmtls_authorization_ask(loop->daemon->bpf, name_of(loop, flow->peer_identity, peer_id),
				name_of(loop, flow->self_identity, self_id), flow->self.port,
				&verdict);
	if (!verdict.allowed) {
		end_flow(loop, slot, peer_id, self_id, &verdict);
		return 1;
	}
	answer->peer = flow->peer_identity;
	answer->self = flow->self_identity;
	answer->port = flow->self.port;
	return 1;
}

/* How many questions it took. Only a server's daemon asks who may connect. */
static unsigned look_at(struct kmtls_loop *loop, unsigned slot)
{
	const struct kmtls_flow_table *table = loop->daemon->flows;
	struct kmtls_handshake *handshake;

	if (!kmtls_flow_table_owns(table, loop->number, slot))
		return 0;
	if (kmtls_flow_state(&table->slots[slot]) == KMTLS_FLOW_ESTABLISHED &&
	    kmtls_review_revoked(loop, slot))
		return 1;
	if (table->slots[slot].role != KMTLS_ROLE_SERVER)
		return 0;
	switch (kmtls_flow_state(&table->slots[slot])) {
	case KMTLS_FLOW_HANDSHAKE:
		handshake = table->private[slot].handshake;
		if (handshake->stage != KMTLS_HANDSHAKE_DELIVERING || handshake->plain)
			return 0; /* it will ask, or has nobody to ask about */
		kmtls_handshake_authorize(handshake);
		return 1;
	case KMTLS_FLOW_ESTABLISHED:
		return kmtls_flow_is_plain(&table->slots[slot]) ? 0 : ask_again(loop, slot);
	}
	return 0;
}

void kmtls_review_some(struct kmtls_loop *loop)
{
	struct kmtls_walk *walk = &loop->review.walk;
	unsigned questions = 0;

	for (unsigned i = 0; walk->left && i < KMTLS_WALK_SLOTS && questions < QUESTIONS_AT_A_TIME;
	     i++)
		questions += look_at(loop, kmtls_walk_next(walk));
}
