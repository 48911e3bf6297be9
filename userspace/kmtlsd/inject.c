/* SPDX-License-Identifier: Apache-2.0 */
/* inject.c - see inject.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "inject.h"

#define TTL 64

/* Where things are in a SYN's headers. */
struct layout {
	bool v4;
	size_t network; /* length of the network header */
	size_t tcp; /* length of the TCP header */
};

static int find_layout(const __u8 *headers, size_t length, struct layout *ret_layout)
{
	struct layout layout;
	const struct tcphdr *tcp;

	if (length < sizeof(struct iphdr) + sizeof(struct tcphdr))
		return -EINVAL;
	layout.v4 = headers[0] >> 4 == 4;
	if (!layout.v4 && headers[0] >> 4 != 6)
		return -EINVAL;
	layout.network = layout.v4 ? (headers[0] & 15) * 4u : sizeof(struct ip6_hdr);
	if (layout.network < sizeof(struct iphdr) || headers[layout.v4 ? 9 : 6] != IPPROTO_TCP ||
	    length < layout.network + sizeof(struct tcphdr))
		return -EINVAL;
	tcp = (const struct tcphdr *)(headers + layout.network);
	layout.tcp = tcp->doff * 4u;
	if (layout.tcp < sizeof(*tcp) || length != layout.network + layout.tcp || !tcp->syn ||
	    tcp->ack)
		return -EINVAL;
	*ret_layout = layout;
	return 0;
}

static void take_address(bool v4, const __u8 *from, struct kmtls_address *ret_address)
{
	memset(ret_address, 0, sizeof(*ret_address));
	if (v4) {
		ret_address->bytes[10] = ret_address->bytes[11] = 0xff;
		memcpy(ret_address->bytes + 12, from, 4);
	} else {
		memcpy(ret_address->bytes, from, 16);
	}
}

int kmtls_inject_parse(const __u8 *headers, size_t length, struct kmtls_syn *ret_syn)
{
	const struct tcphdr *tcp;
	struct kmtls_syn syn = {};
	struct layout layout;
	int err;

	err = find_layout(headers, length, &layout);
	if (err)
		return err;
	take_address(layout.v4, headers + (layout.v4 ? 12 : 8), &syn.from.address);
	take_address(layout.v4, headers + (layout.v4 ? 16 : 24), &syn.to.address);
	tcp = (const struct tcphdr *)(headers + layout.network);
	syn.from.port = ntohs(tcp->source);
	syn.to.port = ntohs(tcp->dest);
	syn.sequence = ntohl(tcp->seq);
	*ret_syn = syn;
	return 0;
}

/* ---- Internet checksum (RFC 1071) ---- */

static __u32 sum(const void *bytes, size_t length, __u32 start)
{
	const __u8 *b = bytes;

	for (; length > 1; length -= 2, b += 2)
		start += b[0] << 8 | b[1];
	return length ? start + (b[0] << 8) : start;
}

static __u16 fold(__u32 value)
{
	while (value >> 16)
		value = (value & 0xffff) + (value >> 16);
	return htons(~value & 0xffff);
}

/* Addresses, protocol and length, as TCP and ICMPv6 include them. */
static __u32 pseudo_header(const __u8 *packet, bool v4, __u8 protocol, size_t length)
{
	return sum(packet + (v4 ? 12 : 8), v4 ? 8 : 32, protocol + length);
}

/* ---- headers ---- */

/* A network header from the SYN's destination to its source. */
static size_t answer_header(const __u8 *headers, bool v4, __u8 protocol, size_t payload,
			    __u8 *packet)
{
	struct ip6_hdr *ip6 = (struct ip6_hdr *)packet;
	struct iphdr *ip = (struct iphdr *)packet;

	if (v4) {
		memset(ip, 0, sizeof(*ip));
		ip->version = 4;
		ip->ihl = 5;
		ip->ttl = TTL;
		ip->protocol = protocol;
		ip->frag_off = htons(IP_DF);
		ip->tot_len = htons(sizeof(*ip) + payload);
		memcpy(&ip->saddr, headers + 16, 4);
		memcpy(&ip->daddr, headers + 12, 4);
		ip->check = fold(sum(ip, sizeof(*ip), 0));
		return sizeof(*ip);
	}
	memset(ip6, 0, sizeof(*ip6));
	ip6->ip6_vfc = 6 << 4;
	ip6->ip6_plen = htons(payload);
	ip6->ip6_nxt = protocol;
	ip6->ip6_hlim = TTL;
	memcpy(&ip6->ip6_src, headers + 24, 16);
	memcpy(&ip6->ip6_dst, headers + 8, 16);
	return sizeof(*ip6);
}

/*
 * The headers alone, correct in themselves: data of a Fast Open SYN is not sent on (the
 * listener does not take it, the application's kernel sends it again), and the checksum was
 * left to a device.
 */
static size_t copy_syn(const __u8 *headers, const struct layout *layout, __u8 *packet)
{
	size_t length = layout->network + layout->tcp;
	struct tcphdr *tcp = (struct tcphdr *)(packet + layout->network);
	struct iphdr *ip = (struct iphdr *)packet;

	memcpy(packet, headers, length);
	if (layout->v4) {
		ip->tot_len = htons(length);
		ip->check = 0;
		ip->check = fold(sum(packet, layout->network, 0));
	} else {
		((struct ip6_hdr *)packet)->ip6_plen = htons(layout->tcp);
	}
	tcp->check = 0;
	tcp->check = fold(
		sum(tcp, layout->tcp, pseudo_header(packet, layout->v4, IPPROTO_TCP, layout->tcp)));
	return length;
}

static size_t build_reset(const __u8 *headers, const struct layout *layout, __u8 *packet)
{
	const struct tcphdr *syn = (const struct tcphdr *)(headers + layout->network);
	size_t network = answer_header(headers, layout->v4, IPPROTO_TCP, sizeof(*syn), packet);
	struct tcphdr *tcp = (struct tcphdr *)(packet + network);

	memset(tcp, 0, sizeof(*tcp));
	tcp->source = syn->dest;
	tcp->dest = syn->source;
	tcp->ack_seq = htonl(ntohl(syn->seq) + 1);
	tcp->doff = sizeof(*tcp) / 4;
	tcp->rst = 1;
	tcp->ack = 1;
	tcp->check = fold(sum(tcp, sizeof(*tcp),
			      pseudo_header(packet, layout->v4, IPPROTO_TCP, sizeof(*tcp))));
	return network + sizeof(*tcp);
}

/* Destination unreachable, and why. */
static __u8 icmp_code(enum kmtls_inject kind, bool v4)
{
	switch (kind) {
	case KMTLS_INJECT_NET_UNREACHABLE:
		return v4 ? ICMP_NET_UNREACH : ICMP6_DST_UNREACH_NOROUTE;
	case KMTLS_INJECT_PROHIBITED:
		return v4 ? ICMP_PKT_FILTERED : ICMP6_DST_UNREACH_ADMIN;
	default:
		return v4 ? ICMP_HOST_UNREACH : ICMP6_DST_UNREACH_ADDR;
	}
}

static size_t build_icmp(const __u8 *headers, const struct layout *layout, enum kmtls_inject kind,
			 __u8 *packet)
{
	__u8 protocol = layout->v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	size_t quoted = layout->network + layout->tcp;
	size_t length = sizeof(struct icmphdr) + quoted; /* both versions: 8 bytes first */
	size_t network = answer_header(headers, layout->v4, protocol, length, packet);
	__u8 *icmp = packet + network;
	__u16 check;

	memset(icmp, 0, sizeof(struct icmphdr));
	icmp[0] = layout->v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH;
	icmp[1] = icmp_code(kind, layout->v4);
	copy_syn(headers, layout, icmp + sizeof(struct icmphdr));
	check = fold(
		sum(icmp, length, layout->v4 ? 0 : pseudo_header(packet, false, protocol, length)));
	memcpy(icmp + 2, &check, sizeof(check));
	return network + length;
}

int kmtls_inject_build(enum kmtls_inject kind, const __u8 *headers, size_t length, __u8 *ret_packet)
{
	struct layout layout;
	int err;

	err = find_layout(headers, length, &layout);
	if (err)
		return err;
	switch (kind) {
	case KMTLS_INJECT_SYN:
		return copy_syn(headers, &layout, ret_packet);
	case KMTLS_INJECT_RESET:
		return build_reset(headers, &layout, ret_packet);
	case KMTLS_INJECT_NET_UNREACHABLE:
	case KMTLS_INJECT_HOST_UNREACHABLE:
	case KMTLS_INJECT_PROHIBITED:
		return build_icmp(headers, &layout, kind, ret_packet);
	}
	return -EINVAL;
}

/* ---- sockets ---- */

int kmtls_injector_open(struct kmtls_injector *ret_injector)
{
	struct kmtls_injector injector;

	injector.raw4 = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
	if (injector.raw4 < 0)
		return -errno;
	/* A kernel without IPv6 has nothing to inject there. */
	injector.raw6 = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
	*ret_injector = injector;
	return 0;
}

void kmtls_injector_close(struct kmtls_injector *injector)
{
	if (injector->raw4 >= 0)
		close(injector->raw4);
	if (injector->raw6 >= 0)
		close(injector->raw6);
	injector->raw4 = injector->raw6 = -1;
}

int kmtls_injector_send(const struct kmtls_injector *injector, enum kmtls_inject kind,
			const __u8 *headers, size_t length)
{
	struct sockaddr_in to4 = { .sin_family = AF_INET };
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6 };
	__u8 packet[KMTLS_INJECT_MAX];
	ssize_t sent;
	int size = kmtls_inject_build(kind, headers, length, packet);

	if (size < 0)
		return size;
	if (packet[0] >> 4 == 4) {
		memcpy(&to4.sin_addr, packet + 16, 4);
		sent = sendto(injector->raw4, packet, size, 0, (struct sockaddr *)&to4,
			      sizeof(to4));
	} else {
		memcpy(&to6.sin6_addr, packet + 24, 16);
		sent = sendto(injector->raw6, packet, size, 0, (struct sockaddr *)&to6,
			      sizeof(to6));
	}
	return sent < 0 ? -errno : 0;
}
