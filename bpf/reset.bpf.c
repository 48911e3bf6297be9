/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reset.bpf.c - a connection that lives is not reset by the kernel's own mistake. On the pods'
 * cgroups and the daemon's, ingress, for the legs on loopback.
 *
 * When a connection becomes established its sockets change places in the kernel's table. A packet
 * that another CPU handles at that moment finds neither, and is answered with a RST: the last ACK
 * of the handshake, when the first data overtakes it. The application had done nothing, nor had
 * we. (Seen on 7.2, once in some 15000 connects; the table's race is in all kernels.)
 *
 * Such a RST has no ACK flag: it answers a packet that belongs to nobody. It is dropped if the
 * socket it speaks for is there and alive. One that really ended would not be found.
 */
#include "context.bpf.h"

#define LOOPBACK 1 /* the interface's index, in each namespace */
#define IPPROTO_TCP_ 6
#define TCP_RST 4
#define TCP_ACK 16

#define TCP_ESTABLISHED 1
#define TCP_SYN_RECV 3
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_CLOSE_WAIT 8
#define LIVING                                                                                    \
	(1u << TCP_ESTABLISHED | 1u << TCP_SYN_RECV | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | \
	 1u << TCP_CLOSE_WAIT)

#define PASS 1
#define DROP 0

/* Addresses and ports as the sender's socket has them: it is the remote end here. */
static __always_inline __u32 load_tuple(struct __sk_buff *skb, bool v4, __u32 transport,
					struct bpf_sock_tuple *tuple)
{
	if (v4) {
		if (bpf_skb_load_bytes(skb, 16, &tuple->ipv4.saddr, 4) < 0 ||
		    bpf_skb_load_bytes(skb, 12, &tuple->ipv4.daddr, 4) < 0 ||
		    bpf_skb_load_bytes(skb, transport + 2, &tuple->ipv4.sport, 2) < 0 ||
		    bpf_skb_load_bytes(skb, transport, &tuple->ipv4.dport, 2) < 0)
			return 0;
		return sizeof(tuple->ipv4);
	}
	if (bpf_skb_load_bytes(skb, 24, tuple->ipv6.saddr, 16) < 0 ||
	    bpf_skb_load_bytes(skb, 8, tuple->ipv6.daddr, 16) < 0 ||
	    bpf_skb_load_bytes(skb, transport + 2, &tuple->ipv6.sport, 2) < 0 ||
	    bpf_skb_load_bytes(skb, transport, &tuple->ipv6.dport, 2) < 0)
		return 0;
	return sizeof(tuple->ipv6);
}

static __always_inline bool sender_lives(struct __sk_buff *skb, bool v4, __u32 transport)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = load_tuple(skb, v4, transport, &tuple);
	struct bpf_sock *sender;
	bool lives;

	if (!size)
		return false;
	if (v4)
		sender = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	else
		sender = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!sender)
		return false;
	lives = sender->state < 32 && LIVING >> sender->state & 1;
	bpf_sk_release(sender);
	return lives;
}

/* Of a pod's sockets, only those that are ends of legs. The daemon's ends give back what says so when
 * they are established (sockops.bpf.c, handshake_tls.c); it has few others on loopback, and a bare RST
 * in the name of one that lives is a mistake there, too. */
static __always_inline int judge(struct __sk_buff *skb, bool of_pod)
{
	struct bpf_sock *sk = skb->sk;
	__u8 first_byte, flags;
	__u32 transport;

	/* Every packet comes by here: the cheap questions first. */
	if (skb->ifindex != LOOPBACK || !sk)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != IPPROTO_TCP_ || bpf_skb_load_bytes(skb, 0, &first_byte, 1) < 0)
		return PASS;
	transport = first_byte >> 4 == 4 ? (first_byte & 15) * 4 : 40;
	if (bpf_skb_load_bytes(skb, transport + 13, &flags, 1) < 0 ||
	    (flags & (TCP_RST | TCP_ACK)) != TCP_RST)
		return PASS;
	if (of_pod && !bpf_sk_storage_get(&sockets, sk, NULL, 0)) /* no leg of ours */
		return PASS;
	if (!sender_lives(skb, first_byte >> 4 == 4, transport))
		return PASS;
	count(KMTLS_REASON_STRAY_RESET);
	return DROP;
}

SEC("cgroup_skb/ingress")
int stray_reset(struct __sk_buff *skb)
{
	return judge(skb, true);
}

SEC("cgroup_skb/ingress")
int stray_reset_daemon(struct __sk_buff *skb)
{
	return judge(skb, false);
}

char _license[] SEC("license") = "Dual BSD/GPL";
