/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * packet.bpf.h - what a cgroup_skb program needs of a packet: the address of the other side, the
 * transport's protocol and where its header begins, past IPv6 extension headers.
 */
#ifndef KMTLS_PACKET_BPF_H
#define KMTLS_PACKET_BPF_H

#include "context.bpf.h"

#define LOOPBACK_DEVICE 1 /* its index, in every network namespace */
#define ETH_P_IP 0x0800

#define HOP_OPTIONS 0
#define ROUTING 43
#define FRAGMENT 44
#define AUTHENTICATION 51
#define DESTINATION_OPTIONS 60
#define MOBILITY 135

#define EXTENSION_HEADERS 8 /* most that are looked through */

enum way { SENT, RECEIVED };

/* What is known of a packet so far: where its next header begins, and which that is. */
struct place {
	__u32 offset;
	__u8 protocol;
	bool portless; /* a later fragment: the ports are in the first; or unreadable */
	bool unreadable; /* headers without end, or cut off: the protocol is not known */
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

static __always_inline int read_ip6(struct __sk_buff *skb, enum way way, struct place *place,
				    struct kmtls_address *remote)
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
	if (!place->portless && is_extension(place->protocol))
		place->unreadable = place->portless = true;
	return 0;
}

/* -1: not even a whole IP header is there. */
static __always_inline int read_packet(struct __sk_buff *skb, enum way way, struct place *place,
				       struct kmtls_address *remote)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return read_ip4(skb, way, place, remote);
	return read_ip6(skb, way, place, remote);
}

#endif
