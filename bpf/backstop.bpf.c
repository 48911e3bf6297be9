/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * backstop.bpf.c - what connect() and sk_lookup did not see: TCP and SCTP that leave a strict pod
 * in plaintext are dropped. Sockets from before enrolment, raw sockets, implicit connects of SCTP.
 * On the pod's cgroup, egress: the daemon's wire sockets belong to another cgroup and never pass
 * here, and what was turned stays on loopback.
 *
 * A packet may leave if policy leaves its destination in the clear, or if it answers someone
 * whom policy lets in in the clear. One instance per pod, because 6.1 does not tell these
 * programs the namespace's cookie.
 */
#include "denied.bpf.h"
#include "packet.bpf.h"
#include "policy.bpf.h"

#define SOCK_STREAM 1
#define SOCK_DGRAM 2

#define TCP 6
#define SCTP 132

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4

#define PASS 1
#define DROP 0

const volatile __u64 own_netns = 0;

struct packet {
	struct place place;
	struct kmtls_address remote;
	__u16 local_port, remote_port; /* 0: the packet does not show them */
};

/* Could it be TCP or SCTP? What cannot be read could. */
static __always_inline bool is_stream(struct place *place)
{
	if (place->unreadable || (place->portless && is_extension(place->protocol)))
		return true;
	return place->protocol == TCP || place->protocol == SCTP;
}

/* Both have their ports at the same place. */
static __always_inline void read_ports(struct __sk_buff *skb, struct packet *packet)
{
	__be16 ports[2];

	if (packet->place.portless ||
	    bpf_skb_load_bytes(skb, packet->place.offset, ports, sizeof(ports)) < 0)
		return;
	packet->local_port = bpf_ntohs(ports[0]);
	packet->remote_port = bpf_ntohs(ports[1]);
}

static __always_inline void load_source(struct __sk_buff *skb, struct kmtls_address *ret_source)
{
	__u32 v4;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, __builtin_offsetof(struct ip4, source), &v4, 4) == 0)
			set_v4(ret_source, v4);
	} else {
		bpf_skb_load_bytes(skb, __builtin_offsetof(struct ip6, source), ret_source, 16);
	}
}

/* Only who was connected to may answer. A raw socket can claim any port, and is not asked. */
static __always_inline bool was_accepted(struct __sk_buff *skb, struct bpf_sock *sk,
					 struct packet *packet)
{
	struct kmtls_local_key local = { .netns = own_netns };
	struct kmtls_socket *socket;

	if (sk->protocol == SCTP)
		return true; /* nothing tells its accepted sockets from others */
	if (sk->type != SOCK_STREAM || sk->protocol != TCP)
		return false;
	socket = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (socket && socket->kind == KMTLS_SOCKET_PLAIN)
		return true;
	/* Accepted before enrolment. */
	load_source(skb, &local.local.address);
	local.local.port = packet->local_port;
	return is_listening(&local);
}

/* Looks up no more than decides. port 0, unknown: only an entry that covers all of them does. */
static __always_inline void learn(struct __sk_buff *skb, struct bpf_sock *sk,
				  struct kmtls_pod_value *pod, struct packet *packet,
				  struct kmtls_backstop_facts *facts)
{
	struct kmtls_peer_value *peer;

	facts->outbound = mode_of(pod, KMTLS_OUTBOUND, packet->remote_port);
	if (kmtls_mode_lets_plaintext(facts->outbound))
		return;
	peer = find_peer(&packet->remote);
	facts->outbound_bypassed =
		kmtls_peer_read(peer, packet->remote_port) == KMTLS_PEER_BYPASSED;
	if (facts->outbound_bypassed)
		return;
	facts->inbound = mode_of(pod, KMTLS_INBOUND, packet->local_port);
	facts->inbound_bypassed = kmtls_peer_read(peer, packet->local_port) == KMTLS_PEER_BYPASSED;
	if (kmtls_mode_lets_plaintext(facts->inbound) || facts->inbound_bypassed)
		facts->answers = was_accepted(skb, sk, packet);
}

/* Allowed whatever the rules say. A TCP socket's bare reset carries nothing, and tells the peer that it is over. */
static __always_inline bool is_bare_reset(struct __sk_buff *skb, struct bpf_sock *sk,
					  struct place *place)
{
	__u8 offset, flags;

	if (sk->type != SOCK_STREAM || sk->protocol != TCP || place->portless ||
	    bpf_skb_load_bytes(skb, place->offset + 12, &offset, 1) < 0 ||
	    bpf_skb_load_bytes(skb, place->offset + 13, &flags, 1) < 0)
		return false;
	return (flags & (TCP_RST | TCP_SYN | TCP_FIN)) == TCP_RST &&
	       skb->len == place->offset + (offset >> 4) * 4;
}

static __always_inline int drop(struct __sk_buff *skb, enum kmtls_reason reason,
				struct packet *packet)
{
	struct kmtls_endpoint from = { .port = packet->local_port };
	struct kmtls_endpoint to = { .address = packet->remote, .port = packet->remote_port };

	load_source(skb, &from.address);
	count(reason);
	tell_denied(reason, KMTLS_HOOK_BACKSTOP, own_netns, &from, &to);
	return DROP;
}

SEC("cgroup_skb/egress")
int backstop(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct kmtls_backstop_facts facts = {};
	struct kmtls_pod_value *pod;
	struct packet packet = {};
	__u64 netns = own_netns;

	/* Every packet of the pod comes by here: the cheap questions first. */
	if (!sk || skb->ifindex == LOOPBACK_DEVICE)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->type == SOCK_DGRAM ||
	    read_packet(skb, SENT, &packet.place, &packet.remote) < 0 || !is_stream(&packet.place))
		return PASS;
	read_ports(skb, &packet);
	pod = bpf_map_lookup_elem(&pods, &netns);
	if (!pod)
		return drop(skb, KMTLS_REASON_POD_UNKNOWN, &packet);
	learn(skb, sk, pod, &packet, &facts);
	if (kmtls_backstop_lets(&facts))
		return PASS;
	if (is_bare_reset(skb, sk, &packet.place))
		return PASS;
	return drop(skb, KMTLS_REASON_BACKSTOP, &packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
