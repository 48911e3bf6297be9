/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sk_lookup.bpf.c - inbound: one instance per pod, attached to its network namespace. Steers
 * the SYN of a turned connect to the daemon's local listener, and a SYN from outside to its
 * inbound listener, unless policy leaves it alone or no application listens there.
 *
 * The interface a packet came in on decides nothing: a local connection to the pod's own
 * address reports the outer interface. Addresses decide. There is no way here to the pod in
 * plaintext but PASS, so each PASS says why.
 */
#include "policy.bpf.h"

#define IPPROTO_TCP_ 6

/* sk_lookup has no helper that tells the namespace: the daemon loads one program per pod. */
const volatile __u64 own_netns = 0;

static __always_inline int drop(enum kmtls_reason reason)
{
	count(reason);
	return SK_DROP; /* answered with RST, like a closed port */
}

static __always_inline int assign(struct bpf_sk_lookup *context, __u32 acceptor)
{
	struct kmtls_acceptor_key key = { .netns = own_netns, .acceptor = acceptor };
	struct bpf_sock *listener;
	long err;

	if (LOAD(context, struct bpf_sk_lookup, family) == AF_INET6)
		key.acceptor++; /* each 6 follows its 4 */
	listener = bpf_map_lookup_elem(&acceptors, &key);
	if (!listener)
		return drop(KMTLS_REASON_NO_DAEMON);
	err = bpf_sk_assign(context, listener, 0);
	bpf_sk_release(listener);
	return err ? drop(KMTLS_REASON_NO_DAEMON) : SK_PASS;
}

/* Is there a listener of the daemon to give an inbound connection to? */
static __always_inline bool has_daemon(struct bpf_sk_lookup *context)
{
	struct kmtls_acceptor_key key = { .netns = own_netns, .acceptor = KMTLS_ACCEPTOR_INBOUND4 };
	struct bpf_sock *listener;

	if (LOAD(context, struct bpf_sk_lookup, family) == AF_INET6)
		key.acceptor++;
	listener = bpf_map_lookup_elem(&acceptors, &key);
	if (!listener)
		return false;
	bpf_sk_release(listener);
	return true;
}

/* From the pod to itself: ours only if this very connect was turned to this address. */
static __always_inline int from_inside(struct bpf_sk_lookup *context, struct kmtls_endpoint *from,
				       struct kmtls_endpoint *to)
{
	struct kmtls_leg_key key = { .netns = own_netns, .from = *from, .to = *to };

	if (!bpf_map_lookup_elem(&dials, &key))
		return SK_PASS;
	return assign(context, KMTLS_ACCEPTOR_TURNED4);
}

static __always_inline bool counted(struct kmtls_local_key *key)
{
	__u32 *number = bpf_map_lookup_elem(&listeners, key);

	return number && *number;
}

static __always_inline bool is_listening(struct kmtls_local_key *local)
{
	struct kmtls_local_key key = *local;

	if (counted(&key))
		return true;
	__builtin_memset(&key.local.address, 0, sizeof(key.local.address));
	if (counted(&key)) /* [::]:port */
		return true;
	if (is_v4(&local->local.address)) {
		set_v4(&key.local.address, 0); /* 0.0.0.0:port */
		if (counted(&key))
			return true;
	}
	__builtin_memset(&key.local, 0, sizeof(key.local));
	return counted(&key); /* more than there is room for */
}

SEC("sk_lookup")
int steer(struct bpf_sk_lookup *context)
{
	struct kmtls_local_key local = { .netns = own_netns };
	struct kmtls_endpoint remote = {};
	struct kmtls_pod_value *pod;
	struct kmtls_peer_value *peer;
	__u64 netns = own_netns;

	if (LOAD(context, struct bpf_sk_lookup, protocol) != IPPROTO_TCP_)
		return SK_PASS; /* UDP stays as it is */
	LOAD_ADDRESS(context, struct bpf_sk_lookup, remote_ip, &remote.address);
	LOAD_ADDRESS(context, struct bpf_sk_lookup, local_ip, &local.local.address);
	remote.port = bpf_ntohs(context->remote_port);
	local.local.port = context->local_port;

	if (is_loopback(&remote.address) || is_own(own_netns, &remote.address))
		return from_inside(context, &remote, &local.local);
	pod = bpf_map_lookup_elem(&pods, &netns);
	if (!pod)
		return drop(KMTLS_REASON_POD_UNKNOWN);
	if (mode_of(pod, KMTLS_INBOUND, local.local.port) == KMTLS_MODE_OFF)
		return SK_PASS;
	peer = find_peer(&remote.address);
	/* The daemon lets it speak plaintext; but a client of the mesh may come from there, too. */
	if (peer && is_bypassed(peer, local.local.port) && !has_daemon(context))
		return SK_PASS;
	if (!is_listening(&local))
		return drop(KMTLS_REASON_NO_LISTENER);
	count(KMTLS_REASON_STEERED);
	return assign(context, KMTLS_ACCEPTOR_INBOUND4);
}

char _license[] SEC("license") = "Dual BSD/GPL";
