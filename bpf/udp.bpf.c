/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * udp.bpf.c - the ledger of what pods send and receive in the clear by UDP and UDP-Lite. On the
 * pod's cgroup, both ways. It counts and passes: no packet is touched, none is dropped, and what
 * cannot be read is passed uncounted or counted under port 0.
 *
 * One instance per pod, because 6.1 does not tell these programs the namespace's cookie.
 */
#include "packet.bpf.h"

#define PASS 1

#define SOCK_STREAM 1
#define SOCK_DGRAM 2

#define UDP 17
#define UDP_LITE 136

#define UDP_HEADER 8

const volatile __u64 own_netns = 0;

static __always_inline void add(struct kmtls_udp_value *value, enum way way, __u64 packets,
				__u64 bytes, __u64 now)
{
	/* Not per CPU, and a task may be preempted in here. */
	if (way == SENT) {
		__sync_fetch_and_add(&value->sent_packets, packets);
		__sync_fetch_and_add(&value->sent_bytes, bytes);
	} else {
		__sync_fetch_and_add(&value->received_packets, packets);
		__sync_fetch_and_add(&value->received_bytes, bytes);
	}
	value->last = now;
}

static __always_inline struct kmtls_udp_value *find_entry(struct kmtls_udp_key *key, __u64 now)
{
	struct kmtls_udp_value *value = bpf_map_lookup_elem(&udp_ledger, key);
	struct kmtls_udp_value fresh = { .first = now, .last = now };

	if (value)
		return value;
	/* Fails when another CPU was first: its entry is as good. */
	bpf_map_update_elem(&udp_ledger, key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&udp_ledger, key);
}

/* The port of the other side, and where the payload begins. */
static __always_inline __u32 read_port(struct __sk_buff *skb, enum way way, struct place *place,
				       __u16 *ret_port)
{
	__be16 port;

	if (place->portless ||
	    bpf_skb_load_bytes(skb, place->offset + (way == SENT ? 2 : 0), &port, 2) < 0)
		return place->offset;
	*ret_port = bpf_ntohs(port);
	return place->offset + UDP_HEADER;
}

static __always_inline int account(struct __sk_buff *skb, enum way way, __u8 socket_protocol)
{
	struct kmtls_udp_key key = { .netns = own_netns };
	struct kmtls_udp_value *totals, *entry;
	struct place place = {};
	__u64 netns = own_netns, now, packets, bytes;
	__u32 payload;

	if (read_packet(skb, way, &place, &key.remote.address) < 0)
		return PASS;
	if (place.unreadable)
		place.protocol = socket_protocol; /* the socket knows what it speaks */
	if (place.protocol != UDP && place.protocol != UDP_LITE)
		return PASS;
	/* A pod without totals is being removed. */
	totals = bpf_map_lookup_elem(&udp_totals, &netns);
	if (!totals)
		return PASS;
	key.protocol = place.protocol;
	payload = read_port(skb, way, &place, &key.remote.port);
	bytes = skb->len > payload ? skb->len - payload : 0;
	/* Segmentation offload: one buffer that is, or was, several packets on the wire. */
	packets = skb->gso_segs > 1 ? skb->gso_segs : 1;
	now = bpf_ktime_get_boot_ns();
	add(totals, way, packets, bytes, now);
	entry = find_entry(&key, now);
	if (entry)
		add(entry, way, packets, bytes, now);
	return PASS;
}

SEC("cgroup_skb/egress")
int udp_sent(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	/* TCP's, first: every packet of the pod comes by here. */
	if (!sk || skb->ifindex == LOOPBACK_DEVICE)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->type == SOCK_STREAM)
		return PASS;
	return account(skb, SENT, sk->protocol);
}

SEC("cgroup_skb/ingress")
int udp_received(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk || skb->ifindex == LOOPBACK_DEVICE)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	/* Raw sockets get copies of what is delivered to others. */
	if (!sk || sk->type != SOCK_DGRAM || (sk->protocol != UDP && sk->protocol != UDP_LITE))
		return PASS;
	return account(skb, RECEIVED, sk->protocol);
}

char _license[] SEC("license") = "Dual BSD/GPL";
