/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * udp.bpf.c - the ledger of what pods send and receive in the clear by UDP and UDP-Lite. On the
 * pod's cgroup, both ways. It counts and passes: no packet is touched, none is dropped, and what
 * cannot be read is passed uncounted or counted under port 0.
 *
 * One instance per pod, because 6.1 does not tell these programs the namespace's cookie.
 */
#include "context.bpf.h"

#define PASS 1

#define LOOPBACK_DEVICE 1 /* its index, in every network namespace */
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define ETH_P_IP 0x0800

#define HOP_OPTIONS 0
#define UDP 17
#define ROUTING 43
#define FRAGMENT 44
#define AUTHENTICATION 51
#define DESTINATION_OPTIONS 60
#define MOBILITY 135
#define UDP_LITE 136

#define UDP_HEADER 8
#define EXTENSION_HEADERS 8 /* most that are looked through */

const volatile __u64 own_netns = 0;

enum way { SENT, RECEIVED };

/* What is known of a packet so far: where its next header begins, and which that is. */
struct place {
	__u32 offset;
	__u8 protocol;
	bool portless; /* a later fragment: the ports are in the first; or headers without end */
};

struct ip4 {
	__u8 version_length, service;
	__be16 length, id, fragment;
	__u8 lifetime, protocol;
	__be16 checksum;
	__u32 source, destination;
};

struct ip6 {
	__u32 version_class_flow;
	__be16 length;
	__u8 next, hops;
	struct kmtls_address source, destination;
};

static __always_inline int read_ip4(struct __sk_buff *skb, enum way way, struct place *place,
				    struct kmtls_address *remote)
{
	struct ip4 ip;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) < 0)
		return -1;
	place->offset = (ip.version_length & 15) * 4;
	place->protocol = ip.protocol;
	place->portless = (ip.fragment & bpf_htons(0x1fff)) != 0;
	set_v4(remote, way == SENT ? ip.destination : ip.source);
	return 0;
}

static __always_inline bool is_extension(__u8 header)
{
	return header == HOP_OPTIONS || header == ROUTING || header == FRAGMENT ||
	       header == AUTHENTICATION || header == DESTINATION_OPTIONS || header == MOBILITY;
}

/* One extension header further. Words, the length's unit, are of 8 bytes, and of 4 in AH. */
static __always_inline int skip_extension(struct __sk_buff *skb, struct place *place)
{
	struct {
		__u8 next, length;
		__be16 fragment;
	} header;

	if (bpf_skb_load_bytes(skb, place->offset, &header, sizeof(header)) < 0)
		return -1;
	if (place->protocol == FRAGMENT) {
		place->offset += 8;
		if (header.fragment & bpf_htons(0xfff8))
			place->portless = true;
	} else if (place->protocol == AUTHENTICATION) {
		place->offset += (header.length + 2) * 4;
	} else {
		place->offset += (header.length + 1) * 8;
	}
	place->protocol = header.next;
	return 0;
}

static __always_inline int read_ip6(struct __sk_buff *skb, enum way way, __u8 socket_protocol,
				    struct place *place, struct kmtls_address *remote)
{
	struct ip6 ip;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) < 0)
		return -1;
	place->offset = sizeof(ip);
	place->protocol = ip.next;
	*remote = way == SENT ? ip.destination : ip.source;
	for (int i = 0; i < EXTENSION_HEADERS; i++) {
		/* What follows the fragment header of a later fragment is the middle of something. */
		if (place->portless || !is_extension(place->protocol))
			return 0;
		if (skip_extension(skb, place) < 0)
			break;
	}
	if (!place->portless && is_extension(place->protocol)) {
		/* Too many of them, or the packet is too short: the socket knows what it speaks. */
		place->protocol = socket_protocol;
		place->portless = true;
	}
	return 0;
}

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

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (read_ip4(skb, way, &place, &key.remote.address) < 0)
			return PASS;
	} else if (read_ip6(skb, way, socket_protocol, &place, &key.remote.address) < 0) {
		return PASS;
	}
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
