/* SPDX-License-Identifier: Apache-2.0 */
/* capture.h - reads a capture (pcap, Ethernet), packet by packet. */
#ifndef CAPTURE_H
#define CAPTURE_H

#include <errno.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* at: when it was captured, seconds since the epoch. */
typedef void capture_packet(const uint8_t *data, size_t size, double at);

static inline int capture_read_packets(FILE *input, capture_packet *packet)
{
	static uint8_t data[1 << 18];
	struct {
		uint32_t seconds, fraction, size, original;
	} record;
	struct {
		uint32_t magic;
		uint16_t major, minor;
		uint32_t zone, accuracy, snap_length, link;
	} file;
	double unit;

	if (fread(&file, sizeof(file), 1, input) != 1)
		return -EIO;
	setvbuf(input, NULL, _IOFBF, 1 << 20);
	if ((file.magic != 0xa1b2c3d4 && file.magic != 0xa1b23c4d) || file.link != 1) {
		errno = EPROTO; /* not a pcap file of Ethernet frames */
		return -EPROTO;
	}
	unit = file.magic == 0xa1b23c4d ? 1e-9 : 1e-6;
	while (fread(&record, sizeof(record), 1, input) == 1) {
		if (record.size > sizeof(data) || fread(data, record.size, 1, input) != 1)
			break; /* the count of packets tells that something is missing */
		packet(data, record.size, record.seconds + record.fraction * unit);
	}
	return 0;
}

static inline int capture_read(const char *path, capture_packet *packet)
{
	FILE *input = fopen(path, "re");
	int err;

	if (!input)
		return -EIO;
	err = capture_read_packets(input, packet);
	fclose(input);
	return err;
}

struct capture_ip {
	struct in6_addr from, to;
	uint8_t protocol;
	const uint8_t *payload;
	size_t size; /* of the payload */
};

static inline void capture_map_v4(uint32_t address, struct in6_addr *ret_address)
{
	memset(ret_address, 0, sizeof(*ret_address));
	ret_address->s6_addr[10] = ret_address->s6_addr[11] = 0xff;
	memcpy(&ret_address->s6_addr[12], &address, sizeof(address));
}

/* A frame's IP packet; extension headers are not looked through. */
static inline int capture_parse_ip(const uint8_t *data, size_t size, struct capture_ip *ret_ip)
{
	const struct ethhdr *ethernet = (const void *)data;
	size_t header, total;

	data += sizeof(*ethernet);
	size = size < sizeof(*ethernet) ? 0 : size - sizeof(*ethernet);
	if (size >= sizeof(struct iphdr) && ntohs(ethernet->h_proto) == ETH_P_IP) {
		const struct iphdr *ip = (const void *)data;

		capture_map_v4(ip->saddr, &ret_ip->from);
		capture_map_v4(ip->daddr, &ret_ip->to);
		header = ip->ihl * 4u;
		total = ntohs(ip->tot_len) ?: size;
		ret_ip->protocol = ip->protocol;
	} else if (size >= sizeof(struct ip6_hdr) && ntohs(ethernet->h_proto) == ETH_P_IPV6) {
		const struct ip6_hdr *ip = (const void *)data;

		ret_ip->from = ip->ip6_src;
		ret_ip->to = ip->ip6_dst;
		header = sizeof(*ip);
		total = ip->ip6_plen ? header + ntohs(ip->ip6_plen) : size;
		ret_ip->protocol = ip->ip6_nxt;
	} else {
		return -EPROTONOSUPPORT;
	}
	if (total > size || header > total)
		return -EBADMSG;
	ret_ip->payload = data + header;
	ret_ip->size = total - header;
	return 0;
}

#endif
