/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sk_lookup.bpf.c - inbound: one instance per pod, attached to its network namespace. Steers
 * the SYN of a turned connect to the daemon's local listener, and a SYN from outside to its
 * inbound listener, unless policy leaves it alone or no application listens there. The daemon
 * looks at mode and peer again: in permissive mode, or from someone bypassed, it takes plaintext,
 * too, and mutual TLS from a bypassed address that speaks it.
 *
 * The interface a packet came in on decides nothing: a local connection to the pod's own
 * address reports the outer interface. Addresses decide. There is no way here to the pod in
 * plaintext but PASS, so each PASS says why.
 */
#include "denied.bpf.h"
#include "policy.bpf.h"

#define IPPROTO_TCP_ 6

/* sk_lookup has no helper that tells the namespace: the daemon loads one program per pod. */
const volatile __u64 own_netns = 0;

static __always_inline int drop(enum kmtls_reason reason)
{
	count(reason);
	return SK_DROP; /* answered with RST, like a closed port */
}

/* A stranger's SYN that found no listener is no news: everything else is. */
static __always_inline int refuse(enum kmtls_reason reason, struct kmtls_endpoint *from,
				  struct kmtls_endpoint *to)
{
	if (reason != KMTLS_REASON_NO_LISTENER)
		tell_denied(reason, KMTLS_HOOK_LOOKUP, own_netns, from, to);
	return drop(reason);
}

/* false: the daemon does not listen there. */
static __always_inline bool assign(struct bpf_sk_lookup *context, __u32 acceptor)
{
	struct kmtls_acceptor_key key = { .netns = own_netns, .acceptor = acceptor };
	struct bpf_sock *listener;
	long err;

	if (LOAD(context, struct bpf_sk_lookup, family) == AF_INET6)
		key.acceptor++; /* each 6 follows its 4 */
	listener = bpf_map_lookup_elem(&acceptors, &key);
	if (!listener)
		return false;
	err = bpf_sk_assign(context, listener, 0);
	bpf_sk_release(listener);
	return !err;
}

/* From the pod to itself: ours only if this very connect was turned to this address. */
static __always_inline int from_inside(struct bpf_sk_lookup *context, struct kmtls_endpoint *from,
				       struct kmtls_endpoint *to)
{
	struct kmtls_leg_key key = { .netns = own_netns, .from = *from, .to = *to };

	if (!bpf_map_lookup_elem(&dials, &key))
		return SK_PASS;
	return assign(context, KMTLS_ACCEPTOR_TURNED4) ? SK_PASS : drop(KMTLS_REASON_NO_DAEMON);
}

/* Looks up no more than decides. Whether the daemon is there shows when it is given the SYN. */
static __always_inline void learn(struct kmtls_local_key *local, struct kmtls_endpoint *remote,
				  struct kmtls_inbound_facts *facts)
{
	__u64 netns = own_netns;
	struct kmtls_pod_value *pod = bpf_map_lookup_elem(&pods, &netns);

	facts->pod_known = pod != NULL;
	if (!pod)
		return;
	facts->mode = mode_of(pod, KMTLS_INBOUND, local->local.port);
	if (facts->mode == KMTLS_MODE_OFF)
		return;
	facts->peer = kmtls_peer_read(find_peer(&remote->address), local->local.port);
	facts->listening = is_listening(local);
	facts->daemon = true;
}

static __always_inline bool is_for_daemon(struct kmtls_decision decision)
{
	return decision.verdict == KMTLS_VERDICT_TURN || decision.verdict == KMTLS_VERDICT_SNIFF;
}

SEC("sk_lookup")
int steer(struct bpf_sk_lookup *context)
{
	struct kmtls_local_key local = { .netns = own_netns };
	struct kmtls_endpoint remote = {};
	struct kmtls_inbound_facts facts = {};
	struct kmtls_decision decision;

	if (LOAD(context, struct bpf_sk_lookup, protocol) != IPPROTO_TCP_)
		return SK_PASS; /* UDP stays as it is */
	LOAD_ADDRESS(context, struct bpf_sk_lookup, remote_ip, &remote.address);
	LOAD_ADDRESS(context, struct bpf_sk_lookup, local_ip, &local.local.address);
	remote.port = bpf_ntohs(context->remote_port);
	local.local.port = context->local_port;

	if (is_loopback(&remote.address) || is_own(own_netns, &remote.address))
		return from_inside(context, &remote, &local.local);
	learn(&local, &remote, &facts);
	decision = kmtls_decide_inbound(&facts);
	if (is_for_daemon(decision) && !assign(context, KMTLS_ACCEPTOR_INBOUND4)) {
		facts.daemon = false;
		decision = kmtls_decide_inbound(&facts);
	}
	if (decision.verdict == KMTLS_VERDICT_REFUSE)
		return refuse(decision.reason, &remote, &local.local);
	if (decision.reason != KMTLS_REASON_NONE)
		count(decision.reason);
	return SK_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
