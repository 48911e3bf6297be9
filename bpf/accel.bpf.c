/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * accel.bpf.c - local legs of accelerated pods (docs/accel.md): what one end sends goes straight into
 * the other end's queue, without the loopback's TCP below it. sockops.bpf.c puts both ends into their
 * sockhashes and tells each of the other.
 *
 * Redirecting knows no back-pressure, and costs a copy that TCP spares bulk data: while the receiver has
 * more than LIMIT unread, and what is long anyway, goes by TCP, whose window stops the sender. A receiver
 * reads what was redirected before what came by TCP, so order holds as long as nothing is redirected while
 * bytes of TCP are under way or unread.
 *
 * Towards the application there is no way back from TCP: it may sit in a recv(MSG_WAITALL) inside of
 * TCP, which does not look at the other queue. The daemon never waits in recv().
 */
#include <bpf/bpf_core_read.h>

#include "context.bpf.h"

#define LIMIT (32 << 10)
#define LONG (16 << 10)

/* The members that are read, wherever this kernel has them. */
struct tcp_sock {
	__u32 write_seq, snd_una;
} __attribute__((preserve_access_index));

struct sock___kmtls {
	struct {
		struct {
			int counter;
		} rmem_alloc;
	} sk_backlog;
} __attribute__((preserve_access_index));

/* Bytes the end holds unread, its overhead included. Large if it cannot be told. An address that is
 * stale reads as anything: the redirect, by a cookie that is never used again, finds nobody then. */
static __always_inline __u32 unread(const struct kmtls_accel_end *end)
{
	const struct sock___kmtls *sk = (void *)end->socket;
	int bytes = -1;

	if (bpf_core_read(&bytes, sizeof(bytes), &sk->sk_backlog.rmem_alloc.counter))
		return ~0u;
	return bytes;
}

/* All that was sent by TCP has been acknowledged, so it is at least in the receiver's queue. */
static __always_inline bool all_arrived(struct bpf_sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	return tcp && tcp->write_seq == tcp->snd_una;
}

static __always_inline void leg_key(struct sk_msg_md *msg, struct kmtls_leg_key *key)
{
	key->netns = bpf_get_netns_cookie(msg);
	LOAD_ADDRESS(msg, struct sk_msg_md, local_ip, &key->from.address);
	LOAD_ADDRESS(msg, struct sk_msg_md, remote_ip, &key->to.address);
	key->from.port = LOAD(msg, struct sk_msg_md, local_port);
	key->to.port = bpf_ntohl(LOAD(msg, struct sk_msg_md, remote_port));
}

/* The accepted end knows its peer from birth, the connecting one looks for it. */
static __always_inline bool find_peer(struct sk_msg_md *msg, struct kmtls_accel_peer *mine)
{
	struct kmtls_leg_key key = {};
	struct kmtls_accel_leg *leg;

	if (mine->peer.cookie)
		return true;
	leg_key(msg, &key);
	leg = bpf_map_lookup_elem(&accel_legs, &key);
	if (!leg || !leg->accepted.cookie)
		return false;
	mine->peer = leg->accepted;
	bpf_map_delete_elem(&accel_legs, &key);
	return true;
}

static __always_inline struct kmtls_accel_peer *peer_of(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;

	return sk ? bpf_sk_storage_get(&accel_peers, sk, NULL, 0) : NULL;
}

SEC("sk_msg")
int from_application(struct sk_msg_md *msg)
{
	struct kmtls_accel_peer *mine = peer_of(msg);
	struct bpf_sock *sk = msg->sk;
	__u32 bytes, limit;
	__u64 cookie;

	if (!mine || !sk || !find_peer(msg, mine))
		return SK_PASS;
	bytes = unread(&mine->peer);
	limit = mine->state == KMTLS_ACCEL_REDIRECT ? LIMIT : 0;
	if (bytes > limit || msg->size > LONG || (!limit && !all_arrived(sk))) {
		mine->state = KMTLS_ACCEL_PASS;
		return SK_PASS;
	}
	cookie = mine->peer.cookie;
	mine->state = bpf_msg_redirect_hash(msg, &accel_daemons, &cookie, BPF_F_INGRESS) == SK_PASS
			      ? KMTLS_ACCEL_REDIRECT
			      : KMTLS_ACCEL_PASS;
	return SK_PASS;
}

SEC("sk_msg")
int from_daemon(struct sk_msg_md *msg)
{
	struct kmtls_accel_peer *mine = peer_of(msg);
	__u64 cookie;

	if (!mine || mine->state == KMTLS_ACCEL_PASS)
		return SK_PASS;
	mine->state = KMTLS_ACCEL_PASS;
	if (!find_peer(msg, mine) || unread(&mine->peer) > LIMIT)
		return SK_PASS;
	cookie = mine->peer.cookie;
	if (bpf_msg_redirect_hash(msg, &accel_applications, &cookie, BPF_F_INGRESS) == SK_PASS)
		mine->state = KMTLS_ACCEL_REDIRECT;
	return SK_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
