/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bind.bpf.c - on the pod's cgroup: the addresses of the daemon's listeners, and those that
 * connects are turned to, are taken, whether the daemon runs or not. (Connects would not reach
 * an impostor anyway: sk_lookup steers them or drops them.)
 */
#include "context.bpf.h"

#define SOCK_STREAM 1
#define EADDRINUSE 98

#define ALLOW 1
#define DENY 0

static __always_inline bool is_taken4(__u32 address)
{
	__u32 host = bpf_ntohl(address);

	return (host & ~KMTLS_INTERCEPT_HOSTS) == KMTLS_INTERCEPT_NET ||
	       host == KMTLS_LISTENER_ADDRESS4;
}

static __always_inline int deny(void)
{
	count(KMTLS_REASON_ADDRESS_TAKEN);
	bpf_set_retval(-EADDRINUSE);
	return DENY;
}

SEC("cgroup/bind4")
int bind4(struct bpf_sock_addr *context)
{
	if (context->type == SOCK_STREAM && is_taken4(context->user_ip4))
		return deny();
	return ALLOW;
}

SEC("cgroup/bind6")
int bind6(struct bpf_sock_addr *context)
{
	struct kmtls_address address;
	__u16 port = bpf_ntohs(context->user_port);

	if (context->type != SOCK_STREAM)
		return ALLOW;
	LOAD_V6(context, struct bpf_sock_addr, user_ip, &address);
	if (is_v4(&address))
		return is_taken4(words(&address)[3]) ? deny() : ALLOW;
	if (!words(&address)[0] && !words(&address)[1] && !words(&address)[2] &&
	    words(&address)[3] == bpf_htonl(1) &&
	    (port == KMTLS_LISTENER_PORT_TURNED || port == KMTLS_LISTENER_PORT_INBOUND))
		return deny();
	return ALLOW;
}

char _license[] SEC("license") = "Dual BSD/GPL";
