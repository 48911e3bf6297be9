/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * connect.bpf.c - outbound: on the pod's cgroup. connect4|6 decide from the maps whether a
 * connect() is meshed, remember the true destination in the socket's storage and turn it to
 * the daemon's listener in the pod's network namespace. getpeername and getsockname give the
 * application the addresses it would see without us; accept() asks getpeername too.
 *
 * UDP is never touched. Refusals are EPERM, at once. (off: nothing is ours. permissive: meshed
 * peers are reached by mTLS or not at all, all others in plaintext. strict: all others are denied.)
 */
#include "denied.bpf.h"
#include "policy.bpf.h"

#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define SOL_SOCKET 1
#define SO_KEEPALIVE 9
#define SO_PRIORITY 12
#define IPPROTO_IP_ 0
#define IPPROTO_TCP_ 6
#define IPPROTO_IPV6_ 41
#define IPPROTO_MPTCP_ 262
#define IP_TOS 1
#define IPV6_TCLASS 67
#define TCP_KEEPIDLE 4
#define TCP_KEEPINTVL 5
#define TCP_KEEPCNT 6
#define TCP_USER_TIMEOUT 18

#define ALLOW 1
#define DENY 0 /* EPERM */

/* Or a positive number, the enum kmtls_reason for which it is denied. */
enum verdict {
	VERDICT_LEAVE = 0, /* not ours: plaintext, as without us */
	VERDICT_TURN = -1,
};

/* Looks up no more than decides. What is left out here reads as the stricter. */
static __always_inline void learn(struct bpf_sock_addr *context, __u64 netns,
				  struct kmtls_endpoint *to, struct kmtls_outbound_facts *facts)
{
	struct kmtls_pod_value *pod;

	facts->loopback = is_loopback(&to->address);
	if (facts->loopback)
		return;
	pod = bpf_map_lookup_elem(&pods, &netns);
	facts->pod_known = pod != NULL;
	if (!pod)
		return;
	facts->own = is_own(netns, &to->address);
	if (facts->own)
		return;
	facts->mode = mode_of(pod, KMTLS_OUTBOUND, to->port);
	if (facts->mode == KMTLS_MODE_OFF)
		return;
	facts->peer = kmtls_peer_read(find_peer(&to->address), to->port);
	facts->tcp = context->protocol == IPPROTO_TCP_ || context->protocol == IPPROTO_MPTCP_;
}

static __always_inline int decide(struct bpf_sock_addr *context, __u64 netns,
				  struct kmtls_endpoint *to)
{
	struct kmtls_outbound_facts facts = {};
	struct kmtls_decision decision;

	learn(context, netns, to, &facts);
	decision = kmtls_decide_outbound(&facts);
	if (decision.verdict == KMTLS_VERDICT_TURN)
		return VERDICT_TURN; /* counted when it has been turned */
	if (decision.verdict != KMTLS_VERDICT_PASS)
		return decision.reason;
	if (decision.reason != KMTLS_REASON_NONE)
		count(decision.reason);
	return VERDICT_LEAVE;
}

/* 22 bits that spread destinations; no secret in it, collisions only share ports. */
static __always_inline __u32 spread(struct kmtls_endpoint *to)
{
	__u32 *w = words(&to->address);
	__u32 h = w[0] ^ (w[1] * 0x85ebca6b) ^ (w[2] * 0xc2b2ae35) ^ (w[3] * 0x9e3779b1);

	h ^= to->port * 0x27d4eb2fu;
	h ^= h >> 15;
	h *= 0x2c1b3c6d;
	h ^= h >> 12;
	return h & KMTLS_INTERCEPT_HOSTS;
}

/* Where to turn a connect to. A socket bound to a device cannot reach loopback. */
static __always_inline void choose_intercept(struct kmtls_endpoint *to, bool device_bound,
					     struct kmtls_pod_value *pod,
					     struct kmtls_endpoint *intercept)
{
	__u32 h = spread(to);
	bool v4 = is_v4(&to->address);

	intercept->port = KMTLS_INTERCEPT_PORTS_BASE + h % KMTLS_INTERCEPT_PORTS;
	if (device_bound && v4) {
		intercept->address = pod->address4;
	} else if (device_bound) {
		intercept->address = pod->address6;
	} else if (v4) {
		set_v4(&intercept->address, bpf_htonl(KMTLS_INTERCEPT_NET | h));
		intercept->port = KMTLS_INTERCEPT_PORT;
	} else {
		__builtin_memset(&intercept->address, 0, sizeof(intercept->address));
		words(&intercept->address)[3] = bpf_htonl(1);
	}
}

static __always_inline __u32 option(struct bpf_sock_addr *context, int level, int name)
{
	int value = 0;

	if (bpf_getsockopt(context, level, name, &value, sizeof(value)))
		return 0;
	return value;
}

static __always_inline void read_options(struct bpf_sock_addr *context,
					 struct kmtls_socket_options *options)
{
	options->priority = option(context, SOL_SOCKET, SO_PRIORITY);
	options->user_timeout = option(context, IPPROTO_TCP_, TCP_USER_TIMEOUT);
	options->keepalive = option(context, SOL_SOCKET, SO_KEEPALIVE);
	if (options->keepalive) {
		options->keep_idle = option(context, IPPROTO_TCP_, TCP_KEEPIDLE);
		options->keep_interval = option(context, IPPROTO_TCP_, TCP_KEEPINTVL);
		options->keep_count = option(context, IPPROTO_TCP_, TCP_KEEPCNT);
	}
	if (context->family == AF_INET)
		options->traffic_class = option(context, IPPROTO_IP_, IP_TOS);
	else
		options->traffic_class = option(context, IPPROTO_IPV6_, IPV6_TCLASS);
}

/* Fills *intercept and returns VERDICT_TURN, or says to leave or deny. */
static __always_inline int turn(struct bpf_sock_addr *context, __u64 netns,
				struct kmtls_endpoint *to, struct kmtls_endpoint *intercept)
{
	struct bpf_sock *sk = context->sk;
	struct kmtls_pod_value *pod;
	struct kmtls_socket *socket;
	int verdict;

	if (!sk)
		return KMTLS_REASON_STORAGE_FAILED;
	verdict = decide(context, netns, to);
	if (verdict != VERDICT_TURN) {
		/* The socket may be used a second time, for another destination. */
		bpf_sk_storage_delete(&sockets, sk);
		return verdict;
	}
	pod = bpf_map_lookup_elem(&pods, &netns);
	socket = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!pod || !socket)
		return KMTLS_REASON_STORAGE_FAILED;
	choose_intercept(to, sk->bound_dev_if != 0, pod, intercept);
	__builtin_memset(&socket->options, 0, sizeof(socket->options));
	read_options(context, &socket->options);
	socket->peer = *to;
	socket->intercept = *intercept;
	socket->cookie = bpf_get_socket_cookie(context);
	socket->netns = netns;
	socket->flags = pod->flags & KMTLS_POD_CONNECT_AT_ONCE ? 0 : KMTLS_SOCKET_HELD;
	if (pod->flags & KMTLS_POD_ACCEL)
		socket->flags |= KMTLS_SOCKET_ACCEL;
	if (sk->src_port)
		socket->flags |= KMTLS_SOCKET_BOUND;
	socket->shown_port = 0;
	socket->kind = KMTLS_SOCKET_CONNECTING;
	count(KMTLS_REASON_INTERCEPTED);
	return VERDICT_TURN;
}

/* Its source is the pod's address, unless the application has bound another. */
static __always_inline int deny(struct bpf_sock_addr *context, __u64 netns,
				struct kmtls_endpoint *to, enum kmtls_reason reason)
{
	struct kmtls_pod_value *pod = bpf_map_lookup_elem(&pods, &netns);
	struct kmtls_endpoint from = {};
	struct bpf_sock *sk = context->sk;

	if (pod)
		from.address = is_v4(&to->address) ? pod->address4 : pod->address6;
	if (sk)
		from.port = sk->src_port;
	count(reason);
	tell_denied(reason, KMTLS_HOOK_CONNECT, netns, &from, to);
	return DENY;
}

/* UDP and raw sockets are left alone. Of other connections than TCP the kernel asks nothing here
 * so far: SCTP meets the backstop. */
static __always_inline bool is_connection(struct bpf_sock_addr *context)
{
	return context->type != SOCK_DGRAM && context->type != SOCK_RAW;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *context)
{
	struct kmtls_endpoint to = {}, intercept = {};
	__u64 netns = bpf_get_netns_cookie(context);
	int verdict;

	if (!is_connection(context))
		return ALLOW;
	set_v4(&to.address, context->user_ip4);
	to.port = bpf_ntohs(context->user_port);
	verdict = turn(context, netns, &to, &intercept);
	if (verdict != VERDICT_TURN)
		return verdict == VERDICT_LEAVE ? ALLOW : deny(context, netns, &to, verdict);
	context->user_ip4 = words(&intercept.address)[3];
	context->user_port = bpf_htons(intercept.port);
	return ALLOW;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *context)
{
	struct kmtls_endpoint to = {}, intercept = {};
	__u64 netns = bpf_get_netns_cookie(context);
	int verdict;

	if (!is_connection(context))
		return ALLOW;
	LOAD_V6(context, struct bpf_sock_addr, user_ip, &to.address);
	to.port = bpf_ntohs(context->user_port);
	verdict = turn(context, netns, &to, &intercept);
	if (verdict != VERDICT_TURN)
		return verdict == VERDICT_LEAVE ? ALLOW : deny(context, netns, &to, verdict);
	context->user_ip6[0] = words(&intercept.address)[0];
	context->user_ip6[1] = words(&intercept.address)[1];
	context->user_ip6[2] = words(&intercept.address)[2];
	context->user_ip6[3] = words(&intercept.address)[3];
	context->user_port = bpf_htons(intercept.port);
	return ALLOW;
}

static __always_inline struct kmtls_socket *application_socket(struct bpf_sock_addr *context)
{
	struct bpf_sock *sk = context->sk;
	struct kmtls_socket *socket;

	if (!sk)
		return NULL;
	socket = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (!socket)
		return NULL;
	if (socket->kind != KMTLS_SOCKET_CONNECTING && socket->kind != KMTLS_SOCKET_ACCEPTED)
		return NULL;
	return socket;
}

/*
 * What an MPTCP socket is asked about is not the subflow that connected and has the storage:
 * found by its two ends. Others are left at the first comparison.
 */
static __always_inline struct kmtls_endpoint *turned_name(struct bpf_sock_addr *context)
{
	struct kmtls_leg_key key = {};
	struct bpf_sock *sk = context->sk;

	if (!sk || context->protocol != IPPROTO_MPTCP_)
		return NULL;
	key.netns = bpf_get_netns_cookie(context);
	if (sk->family == AF_INET) {
		set_v4(&key.from.address, sk->src_ip4);
		set_v4(&key.to.address, sk->dst_ip4);
	} else {
		words(&key.from.address)[0] = sk->src_ip6[0];
		words(&key.from.address)[1] = sk->src_ip6[1];
		words(&key.from.address)[2] = sk->src_ip6[2];
		words(&key.from.address)[3] = sk->src_ip6[3];
		words(&key.to.address)[0] = sk->dst_ip6[0];
		words(&key.to.address)[1] = sk->dst_ip6[1];
		words(&key.to.address)[2] = sk->dst_ip6[2];
		words(&key.to.address)[3] = sk->dst_ip6[3];
	}
	key.from.port = sk->src_port;
	key.to.port = bpf_ntohs(sk->dst_port);
	return bpf_map_lookup_elem(&turned_names, &key);
}

static __always_inline struct kmtls_endpoint *peer_name(struct bpf_sock_addr *context)
{
	struct kmtls_socket *socket = application_socket(context);

	return socket ? &socket->peer : turned_name(context);
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *context)
{
	struct kmtls_endpoint *peer = peer_name(context);

	if (!peer)
		return 1;
	context->user_ip4 = words(&peer->address)[3];
	context->user_port = bpf_htons(peer->port);
	return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *context)
{
	struct kmtls_endpoint *peer = peer_name(context);

	if (!peer)
		return 1;
	context->user_ip6[0] = words(&peer->address)[0];
	context->user_ip6[1] = words(&peer->address)[1];
	context->user_ip6[2] = words(&peer->address)[2];
	context->user_ip6[3] = words(&peer->address)[3];
	context->user_port = bpf_htons(peer->port);
	return 1;
}

/* The loopback source of a turned connection is shown as the pod's address. */
static __always_inline struct kmtls_pod_value *pod_of_connecting(struct bpf_sock_addr *context,
								 struct kmtls_address *local)
{
	struct kmtls_socket *socket = application_socket(context);
	__u64 netns;

	if (!is_loopback(local))
		return NULL;
	if (socket ? socket->kind != KMTLS_SOCKET_CONNECTING : !turned_name(context))
		return NULL;
	netns = bpf_get_netns_cookie(context);
	return bpf_map_lookup_elem(&pods, &netns);
}

/* The port on the wire, where the daemon could not take the socket's own; or 0. */
static __always_inline __u16 shown_port(struct bpf_sock_addr *context)
{
	struct kmtls_socket *socket = application_socket(context);

	return socket && socket->kind == KMTLS_SOCKET_CONNECTING ? socket->shown_port : 0;
}

SEC("cgroup/getsockname4")
int getsockname4(struct bpf_sock_addr *context)
{
	__u16 port = shown_port(context);
	struct kmtls_address local;
	struct kmtls_pod_value *pod;

	set_v4(&local, LOAD(context, struct bpf_sock_addr, user_ip4));
	pod = pod_of_connecting(context, &local);
	if (pod)
		context->user_ip4 = words(&pod->address4)[3];
	if (port)
		context->user_port = bpf_htons(port);
	return 1;
}

SEC("cgroup/getsockname6")
int getsockname6(struct bpf_sock_addr *context)
{
	__u16 port = shown_port(context);
	struct kmtls_address local, *shown;
	struct kmtls_pod_value *pod;

	if (port)
		context->user_port = bpf_htons(port);
	LOAD_V6(context, struct bpf_sock_addr, user_ip, &local);
	pod = pod_of_connecting(context, &local);
	if (!pod)
		return 1;
	shown = is_v4(&local) ? &pod->address4 : &pod->address6;
	context->user_ip6[0] = words(shown)[0];
	context->user_ip6[1] = words(shown)[1];
	context->user_ip6[2] = words(shown)[2];
	context->user_ip6[3] = words(shown)[3];
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
