/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outbound.c - the pod's application connects. The accepted socket's storage tells where it
 * wanted to go; the wire socket is made in the pod's namespace and carries the pod's address
 * and the application's own port, so that the server sees what the client believes.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "bpf_loader.h"
#include "counters.h"
#include "handshake.h"
#include "hold.h"
#include "inject.h"
#include "log.h"
#include "match.h"
#include "outbound.h"
#include "policy.h"
#include "reason.h"

static void set_int(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value));
}

/* What the application had set on its socket before it connected. */
static void carry_options(int fd, bool v4, const struct kmtls_socket_options *options)
{
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* records are not held back */
	if (options->traffic_class && v4)
		set_int(fd, IPPROTO_IP, IP_TOS, options->traffic_class);
	else if (options->traffic_class)
		set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, options->traffic_class);
	/* After the traffic class, which sets a priority of its own. */
	if (options->priority)
		set_int(fd, SOL_SOCKET, SO_PRIORITY, options->priority);
	if (options->user_timeout)
		set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, options->user_timeout);
	if (!options->keepalive)
		return;
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, options->keep_idle);
	set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, options->keep_interval);
	set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, options->keep_count);
}

static int bind_to(int fd, const struct kmtls_endpoint *local)
{
	struct sockaddr_storage address;
	socklen_t length = kmtls_endpoint_to_sockaddr(local, &address);

	return bind(fd, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
}

/*
 * A port the application chose itself and holds, on this very address or on any: under
 * TCP_REPAIR it may be bound a second time. A port that connect() chose must not be bound: that
 * would take it away from every later connect() of the pod, to wherever (the bind bucket stops
 * being shareable).
 */
static int bind_to_held_port(int fd, const struct kmtls_endpoint *local)
{
	int err;

	set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	err = bind_to(fd, local);
	set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF);
	/* Switched off with it; while this socket closes the application may bind again. */
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	return err;
}

static int connect_to(int fd, const struct kmtls_endpoint *peer)
{
	struct sockaddr_storage address;
	socklen_t length = kmtls_endpoint_to_sockaddr(peer, &address);

	return connect(fd, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
}

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51 /* since 6.3 */
#endif

/* How the local port of a wire socket is found. */
enum port_choice {
	PORT_HELD, /* bind the application's own choice a second time */
	PORT_SAME, /* let connect() choose, from a range of the one that is wanted */
	PORT_ANY, /* let connect() choose */
};

static int choose_port(int fd, const struct kmtls_endpoint *self, enum port_choice choice)
{
	__u32 range = (__u32)self->port << 16 | self->port;
	struct kmtls_endpoint local = *self;

	if (choice == PORT_HELD)
		return bind_to_held_port(fd, self);
	local.port = 0;
	set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	if (choice == PORT_SAME &&
	    setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, sizeof(range)) < 0)
		return -EADDRNOTAVAIL; /* before 6.3 */
	return bind_to(fd, &local);
}

/* A socket in the namespace the thread is in, connecting. -errno. */
static int dial(const struct kmtls_endpoint *self, const struct kmtls_endpoint *peer,
		const struct kmtls_socket_options *options, enum port_choice choice, int *ret_fd)
{
	bool v4 = kmtls_address_is_v4(&peer->address);
	int fd, err;

	fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	carry_options(fd, v4, options);
	err = choose_port(fd, self, choice);
	if (!err)
		err = connect_to(fd, peer);
	if (err && err != -EINPROGRESS) {
		close(fd);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

/* The pod's side of the wire, as far as it is known before dialing. */
static void choose_self(const struct kmtls_pod *pod, const struct kmtls_endpoint *application,
			const struct kmtls_endpoint *peer, struct kmtls_endpoint *ret_self)
{
	bool v4 = kmtls_address_is_v4(&peer->address);
	bool loopback;

	*ret_self = *application;
	if (v4)
		loopback = application->address.bytes[12] == 127;
	else
		loopback = IN6_IS_ADDR_LOOPBACK((struct in6_addr *)application->address.bytes);
	/* An application that bound its socket to an address keeps that. */
	if (loopback)
		ret_self->address = v4 ? pod->addresses.primary4 : pod->addresses.primary6;
}

/* Whom the peers map promises at this address, into handshake->expected_id. */
static enum kmtls_reason find_expected(struct kmtls_handshake *handshake)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	struct kmtls_bpf *bpf = handshake->loop->daemon->bpf;
	struct kmtls_peer_value peer;
	const char *rule;

	/* Asked again here: the map may have changed since connect(). */
	if (kmtls_policy_peer_lookup(bpf, &flow->peer.address, &peer) < 0)
		return KMTLS_REASON_NO_PROMISE;
	if (peer.kind != KMTLS_PEER_MESH ||
	    kmtls_policy_name_get(bpf, peer.identity, handshake->expected_id) < 0 ||
	    kmtls_match_check(peer.match, handshake->expected_id, strlen(handshake->expected_id),
			      &rule) < 0)
		return KMTLS_REASON_NO_PROMISE;
	handshake->verify.expected_match = peer.match;
	handshake->verify.expected_id = handshake->expected_id;
	return KMTLS_REASON_NONE;
}

void kmtls_outbound_dial(struct kmtls_handshake *handshake)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	enum kmtls_reason reason = find_expected(handshake);
	int fd = -1, err;

	if (reason) {
		kmtls_handshake_fail(handshake, reason, NULL);
		return;
	}
	err = kmtls_netns_enter(handshake->pod->netns_fd, handshake->pod->netns_cookie);
	if (!err)
		err = dial(&flow->self, &flow->peer, &handshake->options,
			   handshake->port_bound ? PORT_HELD : PORT_SAME, &fd);
	/*
	 * The same addresses and ports may still be in TIME_WAIT on the wire, or the kernel cannot
	 * do it. Another port then, which getsockname() tells (sockops.bpf.c, learn_port).
	 */
	if (err == -EADDRNOTAVAIL || err == -EADDRINUSE) {
		log_debug("source port not kept", "flow=%u.%u port=%u", handshake->slot,
			  flow->generation, flow->self.port);
		err = dial(&flow->self, &flow->peer, &handshake->options, PORT_ANY, &fd);
	}
	if (err) {
		handshake->attempt.error = -err;
		kmtls_handshake_fail(handshake, kmtls_handshake_dial_reason(-err), strerror(-err));
		return;
	}
	flow->wire_fd = fd;
	flow->wire_cookie = kmtls_handshake_cookie(fd);
	if (kmtls_loop_watch(handshake->loop, KMTLS_TAG_WIRE, handshake->slot, fd) < 0)
		kmtls_handshake_fail(handshake, KMTLS_REASON_NO_RESOURCES, strerror(errno));
}

static void refuse(const struct kmtls_pod *pod, int fd, const struct kmtls_endpoint *peer,
		   enum kmtls_reason reason)
{
	kmtls_handshake_refuse(pod, KMTLS_ROLE_CLIENT, peer, reason, NULL);
	close(fd);
}

void kmtls_outbound_accept(struct kmtls_loop *loop, struct kmtls_pod *pod, int fd)
{
	struct kmtls_endpoint application, self;
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	struct kmtls_handshake *handshake;
	struct kmtls_socket turned;

	if (bpf_map_lookup_elem(kmtls_bpf_map(loop->daemon->bpf, KMTLS_MAP_SOCKETS), &fd, &turned) <
		    0 ||
	    turned.kind != KMTLS_SOCKET_TURNED) {
		refuse(pod, fd, NULL, KMTLS_REASON_NO_DESTINATION);
		return;
	}
	if (getpeername(fd, (struct sockaddr *)&address, &length) < 0 ||
	    kmtls_endpoint_from_sockaddr(&address, &application) < 0) {
		refuse(pod, fd, &turned.peer, KMTLS_REASON_LOCAL_GONE);
		return;
	}
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (turned.flags & KMTLS_SOCKET_HELD &&
	    kmtls_hold_claim(loop->daemon->hold, loop, turned.cookie, fd))
		return;
	choose_self(pod, &application, &turned.peer, &self);
	handshake = kmtls_handshake_new(loop, pod, KMTLS_ROLE_CLIENT, fd, &self, &turned.peer);
	if (!handshake)
		return;
	kmtls_loop_flow(loop, handshake->slot)->accel = !!(turned.flags & KMTLS_SOCKET_ACCEL);
	handshake->options = turned.options;
	handshake->port_bound = turned.flags & KMTLS_SOCKET_BOUND;
	kmtls_outbound_dial(handshake);
}

void kmtls_outbound_settle(struct kmtls_loop *loop, const struct kmtls_flow *flow)
{
	int sockets = kmtls_bpf_map(loop->daemon->bpf, KMTLS_MAP_SOCKETS);

	/* Memory is all that it costs where it stays. */
	bpf_map_delete_elem(sockets, &flow->local_fd);
}

struct kmtls_handshake *kmtls_outbound_prepare(struct kmtls_loop *loop, struct kmtls_pod *pod,
					       const struct kmtls_socket *turned,
					       const struct kmtls_endpoint *application,
					       const struct kmtls_event *event)
{
	struct kmtls_handshake *handshake;
	struct kmtls_endpoint self;

	choose_self(pod, application, &turned->peer, &self);
	handshake = kmtls_handshake_new(loop, pod, KMTLS_ROLE_CLIENT, -1, &self, &turned->peer);
	if (!handshake) {
		kmtls_injector_send(&pod->injector, KMTLS_INJECT_RESET, event->packet,
				    event->packet_length);
		return NULL;
	}
	kmtls_loop_flow(loop, handshake->slot)->accel = !!(turned->flags & KMTLS_SOCKET_ACCEL);
	handshake->options = turned->options;
	handshake->port_bound = turned->flags & KMTLS_SOCKET_BOUND;
	handshake->attempt.packet_length = event->packet_length;
	memcpy(handshake->attempt.packet, event->packet, event->packet_length);
	return handshake;
}

void kmtls_outbound_dialed(struct kmtls_handshake *handshake)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	struct sockaddr_storage address;
	socklen_t length = sizeof(int);
	int error = 0;

	getsockopt(flow->wire_fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error) {
		handshake->attempt.error = error;
		kmtls_handshake_fail_or_retry(handshake, kmtls_handshake_dial_reason(error),
					      strerror(error));
		return;
	}
	length = sizeof(address);
	if (getpeername(flow->wire_fd, (struct sockaddr *)&address, &length) < 0)
		return; /* not connected yet */
	length = sizeof(address);
	if (getsockname(flow->wire_fd, (struct sockaddr *)&address, &length) == 0)
		kmtls_endpoint_from_sockaddr(&address, &flow->self);
	kmtls_handshake_start_tls(handshake);
}
