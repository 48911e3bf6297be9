/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sockops.bpf.c - memory between the two ends of a local leg, race-free. TCP_CONNECT_CB runs
 * when the local port is chosen and the SYN is not sent yet: the connecting end publishes
 * what it holds under {netns, local end}. PASSIVE_ESTABLISHED on the accepted end picks it
 * up into that socket's own storage. One program for pods' cgroups, one for the daemon's.
 *
 * The pods' program also counts listeners, because sk_lookup cannot look up sockets (6.1)
 * and a closed port must answer as a closed port.
 */
#include "context.bpf.h"

static __always_inline void local_key(struct bpf_sock_ops *context, struct kmtls_local_key *key)
{
	key->netns = bpf_get_netns_cookie(context);
	LOAD_ADDRESS(context, struct bpf_sock_ops, local_ip, &key->local.address);
	key->local.port = context->local_port;
}

/* The leg as its connecting end sees it; connecting: that is this end. */
static __always_inline void leg_key(struct bpf_sock_ops *context, bool connecting,
				    struct kmtls_leg_key *key)
{
	struct kmtls_endpoint *local = connecting ? &key->from : &key->to;
	struct kmtls_endpoint *remote = connecting ? &key->to : &key->from;

	key->netns = bpf_get_netns_cookie(context);
	LOAD_ADDRESS(context, struct bpf_sock_ops, local_ip, &local->address);
	LOAD_ADDRESS(context, struct bpf_sock_ops, remote_ip, &remote->address);
	local->port = context->local_port;
	remote->port = bpf_ntohl(context->remote_port);
}

static __always_inline struct kmtls_socket *stored(struct bpf_sock_ops *context, __u32 kind)
{
	struct bpf_sock *sk = context->sk;
	struct kmtls_socket *socket;

	if (!sk)
		return NULL;
	socket = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	return socket && socket->kind == kind ? socket : NULL;
}

static __always_inline struct kmtls_socket *store(struct bpf_sock_ops *context)
{
	struct bpf_sock *sk = context->sk;

	if (!sk)
		return NULL;
	return bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
}

static __always_inline void watch_state(struct bpf_sock_ops *context)
{
	bpf_sock_ops_cb_flags_set(context,
				  context->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* ---- accelerated legs: accel.bpf.c ---- */

static __always_inline void describe_end(struct bpf_sock_ops *context, struct bpf_sock *sk,
					 struct kmtls_accel_end *end)
{
	end->socket = (__u64)bpf_skc_to_tcp_sock(sk);
	end->cookie = bpf_get_socket_cookie(context);
}

/* The connecting end is established first. sockets: a sockhash. */
static __always_inline void accelerate_connecting(struct bpf_sock_ops *context, void *sockets)
{
	struct kmtls_accel_leg leg = {};
	struct kmtls_leg_key key = {};
	struct bpf_sock *sk = context->sk;

	if (!sk)
		return;
	describe_end(context, sk, &leg.connecting);
	if (!bpf_sk_storage_get(&accel_peers, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE) ||
	    bpf_sock_hash_update(context, sockets, &leg.connecting.cookie, BPF_ANY))
		return;
	leg_key(context, true, &key);
	bpf_map_update_elem(&accel_legs, &key, &leg, BPF_ANY);
}

/* Only where the connecting end is. */
static __always_inline void accelerate_accepted(struct bpf_sock_ops *context, void *sockets)
{
	struct kmtls_accel_end end = {};
	struct bpf_sock *sk = context->sk;
	struct kmtls_leg_key key = {};
	struct kmtls_accel_peer *mine;
	struct kmtls_accel_leg *leg;

	leg_key(context, false, &key);
	leg = bpf_map_lookup_elem(&accel_legs, &key);
	if (!leg || !sk)
		return;
	describe_end(context, sk, &end);
	mine = bpf_sk_storage_get(&accel_peers, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!mine || bpf_sock_hash_update(context, sockets, &end.cookie, BPF_ANY))
		return;
	mine->peer = leg->connecting;
	leg->accepted.socket = end.socket;
	leg->accepted.cookie = end.cookie; /* last: it is what is looked at */
}

/* ---- pods ---- */

/* The subflow of an MPTCP socket: the application holds another one. */
static __always_inline bool is_mptcp(struct bpf_sock_ops *context)
{
	struct bpf_sock *sk = context->sk;

	return sk && bpf_skc_to_mptcp_sock(sk) != NULL;
}

static __always_inline void publish_dial(struct bpf_sock_ops *context)
{
	struct kmtls_socket *socket = stored(context, KMTLS_SOCKET_CONNECTING);
	struct kmtls_leg_key key = {};

	if (!socket)
		return;
	leg_key(context, true, &key);
	bpf_map_update_elem(&dials, &key, socket, BPF_ANY);
	watch_state(context);
	if (is_mptcp(context))
		bpf_map_update_elem(&turned_names, &key, &socket->peer, BPF_ANY);
}

/* A held connect has completed: under which port is it known on the wire? */
static __always_inline void learn_port(struct bpf_sock_ops *context)
{
	struct kmtls_socket *socket = stored(context, KMTLS_SOCKET_CONNECTING);
	struct kmtls_verdict *verdict;

	if (socket && socket->flags & KMTLS_SOCKET_ACCEL && !is_mptcp(context))
		accelerate_connecting(context, &accel_applications);
	if (!socket || !(socket->flags & KMTLS_SOCKET_HELD))
		return;
	verdict = bpf_map_lookup_elem(&verdicts, &socket->cookie);
	if (verdict && verdict->pass && verdict->port != context->local_port)
		socket->shown_port = verdict->port;
}

/* A connect came to nothing: refused, timed out, or the application closed the socket. */
static __always_inline void forget_dial(struct bpf_sock_ops *context)
{
	struct kmtls_socket *socket = stored(context, KMTLS_SOCKET_CONNECTING);
	struct kmtls_leg_key key = {};
	struct kmtls_event *event;

	leg_key(context, true, &key);
	bpf_map_delete_elem(&dials, &key);
	if (!socket || !(socket->flags & KMTLS_SOCKET_HELD))
		return;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return; /* the daemon's deadline does it */
	event->type = KMTLS_EVENT_GONE;
	event->packet_length = 0;
	event->netns = key.netns;
	event->cookie = socket->cookie;
	bpf_ringbuf_submit(event, 0);
}

static __always_inline void learn_caller(struct bpf_sock_ops *context)
{
	struct kmtls_leg_key key = {};
	struct kmtls_endpoint *caller;
	struct kmtls_socket *socket;

	leg_key(context, false, &key);
	caller = bpf_map_lookup_elem(&callers, &key);
	/* Someone from outside whom the daemon did not bring: the backstop lets it be answered where
	 * policy does. */
	if (!caller && (is_loopback(&key.from.address) || is_own(key.netns, &key.from.address)))
		return;
	socket = store(context);
	if (!socket)
		return;
	if (!caller) {
		socket->kind = KMTLS_SOCKET_PLAIN;
		return;
	}
	socket->peer = *caller;
	socket->kind = KMTLS_SOCKET_ACCEPTED;
	bpf_map_delete_elem(&callers, &key);
	if (!is_mptcp(context))
		accelerate_accepted(context, &accel_applications);
}

static __always_inline bool add_to_listeners(struct kmtls_local_key *key, __u32 number)
{
	__u32 *found = bpf_map_lookup_elem(&listeners, key);

	if (!found)
		return false;
	__sync_fetch_and_add(found, number);
	return true;
}

static __always_inline void count_listener(struct bpf_sock_ops *context)
{
	struct kmtls_local_key key = {}, overflow = {};
	__u32 one = 1;

	local_key(context, &key);
	watch_state(context);
	if (is_loopback(&key.local.address) && words(&key.local.address)[3])
		return;
	if (add_to_listeners(&key, 1) ||
	    bpf_map_update_elem(&listeners, &key, &one, BPF_NOEXIST) == 0)
		return;
	/* Another CPU was first, or the map is full. */
	if (add_to_listeners(&key, 1))
		return;
	overflow.netns = key.netns;
	add_to_listeners(&overflow, 1);
}

/* Leaves a 0 behind: deleting would race with a listener that comes. */
static __always_inline void uncount_listener(struct bpf_sock_ops *context)
{
	struct kmtls_local_key key = {};
	__u32 *number;

	local_key(context, &key);
	number = bpf_map_lookup_elem(&listeners, &key);
	if (number && *number)
		__sync_fetch_and_add(number, -1);
}

SEC("sockops")
int sockops_pod(struct bpf_sock_ops *context)
{
	if (context->family != AF_INET && context->family != AF_INET6)
		return 1;
	switch (context->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		publish_dial(context);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		learn_port(context);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		learn_caller(context);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		count_listener(context);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (context->args[0] == BPF_TCP_LISTEN) {
			uncount_listener(context);
		} else if (context->args[0] == BPF_TCP_SYN_SENT &&
			   context->args[1] == BPF_TCP_CLOSE) {
			forget_dial(context);
		}
		break;
	}
	return 1;
}

/* ---- the daemon ---- */

static __always_inline void publish_caller(struct bpf_sock_ops *context)
{
	struct kmtls_socket *socket = stored(context, KMTLS_SOCKET_DELIVERING);
	struct kmtls_leg_key key = {};

	if (!socket)
		return;
	leg_key(context, true, &key);
	bpf_map_update_elem(&callers, &key, &socket->peer, BPF_ANY);
	watch_state(context);
}

static __always_inline void delivered(struct bpf_sock_ops *context)
{
	struct kmtls_socket *socket = stored(context, KMTLS_SOCKET_DELIVERING);
	struct bpf_sock *sk = context->sk;

	if (!socket || !sk)
		return;
	if (socket->flags & KMTLS_SOCKET_ACCEL)
		accelerate_connecting(context, &accel_daemons);
	/* The application's end has what it says, or finds it in callers. */
	bpf_sk_storage_delete(&sockets, sk);
}

static __always_inline void learn_dial(struct bpf_sock_ops *context)
{
	struct kmtls_leg_key key = {};
	struct kmtls_socket *dial, *socket;

	leg_key(context, false, &key);
	dial = bpf_map_lookup_elem(&dials, &key);
	if (!dial)
		return;
	socket = store(context);
	if (!socket)
		return;
	*socket = *dial;
	socket->kind = KMTLS_SOCKET_TURNED;
	bpf_map_delete_elem(&dials, &key);
	if (socket->flags & KMTLS_SOCKET_ACCEL)
		accelerate_accepted(context, &accel_daemons);
}

SEC("sockops")
int sockops_daemon(struct bpf_sock_ops *context)
{
	struct kmtls_leg_key key = {};

	if (context->family != AF_INET && context->family != AF_INET6)
		return 1;
	switch (context->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		publish_caller(context);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		delivered(context);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		learn_dial(context);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (context->args[0] == BPF_TCP_SYN_SENT && context->args[1] == BPF_TCP_CLOSE) {
			leg_key(context, true, &key);
			bpf_map_delete_elem(&callers, &key);
		}
		break;
	}
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
