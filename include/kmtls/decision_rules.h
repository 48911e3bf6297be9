/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * decision_rules.h - what becomes of a connection, once it is known which mode applies
 * (mode_rules.h) and what the peers map says of the other end. Pure, no maps, no counters: the
 * programs (connect, sk_lookup, backstop) and the daemon decide by it, `kmtls explain` explains by
 * it. So selftests/unit/test_decision_rules.c is the proof for all three.
 *
 * A decision names the rule that made it, so that whoever asks is told which it was. Facts that a
 * caller has not looked up, because an earlier one decides, may hold anything. What stays with the
 * programs is how a fact is learned, and what only they meet: a connection of the pod to itself
 * that was turned (sk_lookup), a bare reset (backstop), a socket without storage (connect).
 */
#ifndef KMTLS_DECISION_RULES_H
#define KMTLS_DECISION_RULES_H

#include <stdbool.h>

#include "kmtls/abi.h"

/* X(SYMBOL, "name", "what it says") */
#define KMTLS_DECISION_RULES(X)                                                              \
	X(LOOPBACK, "loopback", "a loopback address stays inside the pod")                   \
	X(POD_UNKNOWN, "pod-unknown", "the network namespace is not an enrolled pod")        \
	X(OWN_ADDRESS, "own-address", "the pod talks to itself")                             \
	X(MODE_OFF, "mode-off", "the mode is off: nothing is intercepted")                   \
	X(BYPASS, "bypass", "a bypass of the peers map covers the port")                     \
	X(BAD_PEER, "bad-peer", "the peers map holds a value this version cannot read")      \
	X(NOT_TCP, "not-tcp", "a stream protocol that cannot be meshed, in strict")          \
	X(MESH_PEER, "mesh-peer", "the peers map says that the other end speaks mutual TLS") \
	X(STRICT, "strict", "strict: mutual TLS or nothing")                                 \
	X(PERMISSIVE, "permissive", "permissive: plaintext where there is no mutual TLS")    \
	X(NO_LISTENER, "no-listener", "no application listens on the port")                  \
	X(NO_DAEMON, "no-daemon", "the daemon's listener is not there")

enum kmtls_decision_rule {
#define KMTLS_DECISION_RULE_ENUM(symbol, name, text) KMTLS_RULE_##symbol,
	KMTLS_DECISION_RULES(KMTLS_DECISION_RULE_ENUM)
#undef KMTLS_DECISION_RULE_ENUM
		KMTLS_RULE_COUNT
};

enum kmtls_decision_verdict {
	KMTLS_VERDICT_PASS, /* left alone: plaintext, as without us */
	KMTLS_VERDICT_TURN, /* to the daemon: mutual TLS or a refusal */
	KMTLS_VERDICT_SNIFF, /* to the daemon, which looks: mutual TLS, or else plaintext */
	KMTLS_VERDICT_REFUSE,
};

struct kmtls_decision {
	enum kmtls_decision_rule rule;
	enum kmtls_decision_verdict verdict;
	enum kmtls_reason reason; /* to be counted; NONE: nothing is */
};

/* What the entry with the longest prefix says of one port. */
enum kmtls_peer_facts {
	KMTLS_PEER_SILENT, /* no entry */
	KMTLS_PEER_MESHED, /* MESH with a promise that can be read */
	KMTLS_PEER_BYPASSED, /* BYPASS, and it covers the port */
	KMTLS_PEER_UNBYPASSED, /* BYPASS of other ports: as if there were none */
	KMTLS_PEER_UNREADABLE, /* of a kind, or MESH with a promise, that nobody can read */
};

/* Whether a BYPASS covers the port. A count beyond what there is room for covers no more. */
static __always_inline bool kmtls_peer_covers(const struct kmtls_peer_value *peer, __u16 port)
{
#define KMTLS_COVERS_(i) (peer->port_count > (i) && peer->ports[i] == port)
	_Static_assert(KMTLS_BYPASS_PORTS == 8, "one term for each");
	return !peer->port_count || KMTLS_COVERS_(0) || KMTLS_COVERS_(1) || KMTLS_COVERS_(2) ||
	       KMTLS_COVERS_(3) || KMTLS_COVERS_(4) || KMTLS_COVERS_(5) || KMTLS_COVERS_(6) ||
	       KMTLS_COVERS_(7);
#undef KMTLS_COVERS_
}

/* peer: NULL if there is no entry. port: of the destination, whichever the direction. */
static __always_inline enum kmtls_peer_facts kmtls_peer_read(const struct kmtls_peer_value *peer,
							     __u16 port)
{
	if (!peer)
		return KMTLS_PEER_SILENT;
	if (peer->kind == KMTLS_PEER_BYPASS)
		return kmtls_peer_covers(peer, port) ? KMTLS_PEER_BYPASSED : KMTLS_PEER_UNBYPASSED;
	if (peer->kind == KMTLS_PEER_MESH &&
	    (peer->match == KMTLS_MATCH_EXACT || peer->match == KMTLS_MATCH_NAMESPACE ||
	     peer->match == KMTLS_MATCH_TRUST_DOMAIN))
		return KMTLS_PEER_MESHED;
	return KMTLS_PEER_UNREADABLE;
}

static __always_inline struct kmtls_decision kmtls_decide_(enum kmtls_decision_rule rule,
							   enum kmtls_decision_verdict verdict,
							   enum kmtls_reason reason)
{
	return (struct kmtls_decision){ rule, verdict, reason };
}

/* ---- outbound: at connect() ------------------------------------------------------------- */

struct kmtls_outbound_facts {
	bool loopback; /* the destination, or the unspecified address */
	bool pod_known;
	bool own; /* the destination is an address of the pod */
	bool tcp; /* TCP or MPTCP; else SCTP or DCCP. Datagrams are not asked about. */
	enum kmtls_mode mode; /* OUTBOUND, of the destination port */
	enum kmtls_peer_facts peer; /* of the destination */
};

static __always_inline struct kmtls_decision
kmtls_decide_outbound(const struct kmtls_outbound_facts *facts)
{
	if (facts->loopback)
		return kmtls_decide_(KMTLS_RULE_LOOPBACK, KMTLS_VERDICT_PASS, KMTLS_REASON_NONE);
	if (!facts->pod_known)
		return kmtls_decide_(KMTLS_RULE_POD_UNKNOWN, KMTLS_VERDICT_REFUSE,
				     KMTLS_REASON_POD_UNKNOWN);
	if (facts->own)
		return kmtls_decide_(KMTLS_RULE_OWN_ADDRESS, KMTLS_VERDICT_PASS, KMTLS_REASON_NONE);
	if (facts->mode == KMTLS_MODE_OFF)
		return kmtls_decide_(KMTLS_RULE_MODE_OFF, KMTLS_VERDICT_PASS, KMTLS_REASON_PASSED);
	if (facts->peer == KMTLS_PEER_BYPASSED)
		return kmtls_decide_(KMTLS_RULE_BYPASS, KMTLS_VERDICT_PASS, KMTLS_REASON_PASSED);
	if (facts->peer == KMTLS_PEER_UNREADABLE)
		return kmtls_decide_(KMTLS_RULE_BAD_PEER, KMTLS_VERDICT_REFUSE,
				     KMTLS_REASON_BAD_POLICY);
	if (facts->peer == KMTLS_PEER_MESHED && facts->tcp)
		return kmtls_decide_(KMTLS_RULE_MESH_PEER, KMTLS_VERDICT_TURN,
				     KMTLS_REASON_INTERCEPTED);
	if (facts->mode == KMTLS_MODE_PERMISSIVE)
		return kmtls_decide_(KMTLS_RULE_PERMISSIVE, KMTLS_VERDICT_PASS,
				     KMTLS_REASON_PASSED);
	if (facts->peer == KMTLS_PEER_MESHED)
		return kmtls_decide_(KMTLS_RULE_NOT_TCP, KMTLS_VERDICT_REFUSE,
				     KMTLS_REASON_NOT_TCP);
	return kmtls_decide_(KMTLS_RULE_STRICT, KMTLS_VERDICT_REFUSE, KMTLS_REASON_NO_PEER);
}

/* ---- inbound: at the SYN, and once more when the daemon has accepted --------------------- */

struct kmtls_inbound_facts {
	bool pod_known;
	bool listening; /* an application of the pod, on the port */
	bool daemon; /* its inbound listener is there */
	enum kmtls_mode mode; /* INBOUND, of the pod's port */
	enum kmtls_peer_facts peer; /* of the source, with the pod's port */
};

/*
 * Whether the daemon, having accepted, may take plaintext for an answer. TURN: it may not. SNIFF:
 * it may, if what comes is not ours. A source whose entry cannot be read may not.
 */
static __always_inline struct kmtls_decision kmtls_decide_accepted(enum kmtls_mode mode,
								   enum kmtls_peer_facts peer)
{
	if (peer == KMTLS_PEER_BYPASSED)
		return kmtls_decide_(KMTLS_RULE_BYPASS, KMTLS_VERDICT_SNIFF, KMTLS_REASON_STEERED);
	if (peer == KMTLS_PEER_UNREADABLE)
		return kmtls_decide_(KMTLS_RULE_BAD_PEER, KMTLS_VERDICT_TURN, KMTLS_REASON_STEERED);
	if (mode == KMTLS_MODE_OFF)
		return kmtls_decide_(KMTLS_RULE_MODE_OFF, KMTLS_VERDICT_SNIFF,
				     KMTLS_REASON_STEERED);
	if (mode == KMTLS_MODE_PERMISSIVE)
		return kmtls_decide_(KMTLS_RULE_PERMISSIVE, KMTLS_VERDICT_SNIFF,
				     KMTLS_REASON_STEERED);
	return kmtls_decide_(KMTLS_RULE_STRICT, KMTLS_VERDICT_TURN, KMTLS_REASON_STEERED);
}

/*
 * Of a SYN from outside the pod. Where nobody of ours can take it, it is left alone if plaintext
 * is allowed and the source is not one that would speak mutual TLS to an application that does
 * not: the kernel answers as it would without us.
 */
static __always_inline struct kmtls_decision
kmtls_decide_inbound(const struct kmtls_inbound_facts *facts)
{
	struct kmtls_decision accepted = kmtls_decide_accepted(facts->mode, facts->peer);
	bool plain = accepted.verdict == KMTLS_VERDICT_SNIFF && facts->peer != KMTLS_PEER_MESHED;

	if (!facts->pod_known)
		return kmtls_decide_(KMTLS_RULE_POD_UNKNOWN, KMTLS_VERDICT_REFUSE,
				     KMTLS_REASON_POD_UNKNOWN);
	if (facts->mode == KMTLS_MODE_OFF)
		return kmtls_decide_(KMTLS_RULE_MODE_OFF, KMTLS_VERDICT_PASS, KMTLS_REASON_NONE);
	if (facts->listening && facts->daemon)
		return accepted;
	if (plain)
		return kmtls_decide_(accepted.rule, KMTLS_VERDICT_PASS, KMTLS_REASON_NONE);
	if (!facts->listening)
		return kmtls_decide_(KMTLS_RULE_NO_LISTENER, KMTLS_VERDICT_REFUSE,
				     KMTLS_REASON_NO_LISTENER);
	return kmtls_decide_(KMTLS_RULE_NO_DAEMON, KMTLS_VERDICT_REFUSE, KMTLS_REASON_NO_DAEMON);
}

/* ---- backstop: a packet of TCP or SCTP that leaves the pod in plaintext ------------------- */

struct kmtls_backstop_facts {
	enum kmtls_mode outbound; /* OUTBOUND, of the packet's destination port */
	enum kmtls_mode inbound; /* INBOUND, of its source port */
	bool outbound_bypassed; /* the remote's entry covers the destination port */
	bool inbound_bypassed; /* it covers the source port */
	bool answers; /* its socket was accepted, or listens on the source port */
};

/* A mode nobody knows is strict. */
static __always_inline bool kmtls_mode_lets_plaintext(enum kmtls_mode mode)
{
	return mode == KMTLS_MODE_OFF || mode == KMTLS_MODE_PERMISSIVE;
}

static __always_inline bool kmtls_backstop_lets(const struct kmtls_backstop_facts *facts)
{
	if (kmtls_mode_lets_plaintext(facts->outbound) || facts->outbound_bypassed)
		return true;
	return facts->answers &&
	       (kmtls_mode_lets_plaintext(facts->inbound) || facts->inbound_bypassed);
}

#endif
