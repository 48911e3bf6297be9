/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * hold.bpf.c - connect() that tells the truth. On the pod's cgroup, egress: the SYN of a turned
 * connect does not leave until the daemon says so. Its headers go to the daemon, which reaches
 * the peer first and then sends that very SYN on, or answers it.
 *
 * Returning 0 drops the SYN in silence; the socket repeats it in its own time. (2 and TC's
 * SHOT report local congestion, which burns the application's budget of repetitions faster.)
 */
#include "context.bpf.h"

#define TCP_SYN_SENT 2

#define PASS 1
#define DROP 0

static __always_inline bool daemon_listens(__u64 netns, bool v4)
{
	struct kmtls_acceptor_key key = {
		.netns = netns,
		.acceptor = v4 ? KMTLS_ACCEPTOR_TURNED4 : KMTLS_ACCEPTOR_TURNED6,
	};
	struct bpf_sock *listener = bpf_map_lookup_elem(&acceptors, &key);

	if (!listener)
		return false;
	bpf_sk_release(listener);
	return true;
}

/* Network and TCP header into the event; false when the packet is not what it must be. */
static __always_inline bool copy_headers(struct __sk_buff *skb, struct kmtls_event *event,
					 __u8 first_byte)
{
	__u32 network = first_byte >> 4 == 4 ? (first_byte & 15) * 4 : 40;
	__u32 length;
	__u8 data_offset;

	if (bpf_skb_load_bytes(skb, network + 12, &data_offset, 1) < 0)
		return false;
	length = network + (data_offset >> 4) * 4;
	/* 1..128, so that the verifier sees it; real ones are 40 to 120. */
	asm volatile("%0 += -1\n%0 &= 127\n%0 += 1" : "+r"(length));
	if (bpf_skb_load_bytes(skb, 0, event->packet, length) < 0)
		return false;
	event->packet_length = length;
	return true;
}

/* Was this very SYN let go? Another sequence number is the socket connecting anew. */
static __always_inline bool may_leave(struct __sk_buff *skb, __u64 cookie, __u8 first_byte)
{
	__u32 network = first_byte >> 4 == 4 ? (first_byte & 15) * 4 : 40;
	struct kmtls_verdict *verdict = bpf_map_lookup_elem(&verdicts, &cookie);
	__u32 sequence;

	if (!verdict || !verdict->pass || bpf_skb_load_bytes(skb, network + 4, &sequence, 4) < 0)
		return false;
	return verdict->sequence == bpf_ntohl(sequence);
}

static __always_inline int hold(struct __sk_buff *skb, struct kmtls_socket *socket, __u8 first_byte)
{
	struct kmtls_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		count(KMTLS_REASON_RING_FULL);
		return DROP; /* its repetition may find room */
	}
	event->type = KMTLS_EVENT_SYN;
	event->netns = socket->netns;
	event->cookie = socket->cookie;
	event->socket = *socket;
	if (!copy_headers(skb, event, first_byte)) {
		bpf_ringbuf_discard(event, 0);
		return DROP;
	}
	bpf_ringbuf_submit(event, 0);
	count(KMTLS_REASON_HELD);
	return DROP;
}

SEC("cgroup_skb/egress")
int hold_syn(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct kmtls_socket *socket;
	__u8 first_byte;

	/* Every packet of the pod comes by here: the cheap question first. */
	if (!sk || sk->state != TCP_SYN_SENT)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return PASS;
	socket = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (!socket || socket->kind != KMTLS_SOCKET_CONNECTING ||
	    !(socket->flags & KMTLS_SOCKET_HELD))
		return PASS;
	if (bpf_skb_load_bytes(skb, 0, &first_byte, 1) < 0)
		return DROP;
	if (may_leave(skb, socket->cookie, first_byte))
		return PASS;
	/* Without a daemon sk_lookup refuses it, at once. */
	if (!daemon_listens(socket->netns, first_byte >> 4 == 4))
		return PASS;
	return hold(skb, socket, first_byte);
}

char _license[] SEC("license") = "Dual BSD/GPL";
