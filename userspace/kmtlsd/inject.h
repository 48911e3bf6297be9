/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inject.h - packets the daemon puts onto a pod's loopback in answer to a held SYN: the SYN
 * itself, or what a refusing or unreachable host would have sent. Built here, byte by byte,
 * because a raw socket with our own headers is the only way in (AF_PACKET on loopback is
 * dropped for IPv4).
 */
#ifndef KMTLS_INJECT_H
#define KMTLS_INJECT_H

#include <linux/types.h>
#include <stddef.h>

#include "kmtls/abi.h"

#define KMTLS_INJECT_MAX 256

enum kmtls_inject {
	KMTLS_INJECT_SYN, /* the held SYN, as it was, without data */
	KMTLS_INJECT_RESET, /* RST|ACK: connection refused */
	KMTLS_INJECT_NET_UNREACHABLE, /* ICMP */
	KMTLS_INJECT_HOST_UNREACHABLE,
	KMTLS_INJECT_PROHIBITED, /* administratively: EACCES, with IPv4 EHOSTUNREACH */
};

/* What a held SYN says. */
struct kmtls_syn {
	struct kmtls_endpoint from, to; /* as on loopback */
	__u32 sequence; /* host order */
};

/* headers: network and TCP header of a SYN. -EINVAL: they are not. */
int kmtls_inject_parse(const __u8 *headers, size_t length, struct kmtls_syn *ret_syn);

/*
 * Builds a packet of a kind in answer to the SYN in headers into ret_packet
 * (KMTLS_INJECT_MAX bytes). Its length, or -EINVAL.
 */
int kmtls_inject_build(enum kmtls_inject kind, const __u8 *headers, size_t length,
		       __u8 *ret_packet);

/* Raw sockets of one pod; must be opened inside its namespace. -1: no such family. */
struct kmtls_injector {
	int raw4, raw6;
};

int kmtls_injector_open(struct kmtls_injector *ret_injector);
void kmtls_injector_close(struct kmtls_injector *injector);
/* 0, -errno. */
int kmtls_injector_send(const struct kmtls_injector *injector, enum kmtls_inject kind,
			const __u8 *headers, size_t length);

#endif
