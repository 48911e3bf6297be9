/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inbound.c - someone connects to a pod. sk_lookup gave us the connection with its addresses
 * untouched: the local end is where the application listens, the remote end is the client.
 * After the handshake the daemon connects to the application from inside the pod, and leaves
 * the client's address where the accepting socket's getpeername finds it.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "bpf_loader.h"
#include "handshake.h"
#include "inbound.h"
#include "inbound_peek.h"
#include "listener.h"
#include "log.h"
#include "relay.h"
#include "sources.h"

void kmtls_inbound_accept(struct kmtls_loop *loop, struct kmtls_pod *pod, int fd)
{
	struct kmtls_endpoint self, peer;
	struct kmtls_handshake *handshake;
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	int one = 1, err;

	if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 ||
	    kmtls_endpoint_from_sockaddr(&address, &self) < 0 ||
	    (length = sizeof(address), getpeername(fd, (struct sockaddr *)&address, &length) < 0) ||
	    kmtls_endpoint_from_sockaddr(&address, &peer) < 0) {
		kmtls_handshake_refuse(pod, KMTLS_ROLE_SERVER, NULL, KMTLS_REASON_HANDSHAKE_RESET,
				       NULL);
		close(fd);
		return;
	}
	err = kmtls_sources_enter(loop->daemon->sources, &peer.address);
	if (err) {
		kmtls_handshake_refuse(pod, KMTLS_ROLE_SERVER, &peer,
				       KMTLS_REASON_TOO_MANY_HANDSHAKES,
				       err == -EDQUOT ? "of this source" : "of all sources");
		kmtls_handshake_reset_socket(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	handshake = kmtls_handshake_new(loop, pod, KMTLS_ROLE_SERVER, fd, &self, &peer);
	if (!handshake) {
		kmtls_sources_leave(loop->daemon->sources, &peer.address);
		return;
	}
	handshake->entered = true;
	if (kmtls_inbound_allows_plaintext(loop->daemon->bpf, pod, &self, &peer))
		kmtls_inbound_peek_begin(handshake);
	else
		kmtls_handshake_start_tls(handshake);
}

void kmtls_inbound_accept_again(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_pod *pod = kmtls_pods_find(loop->daemon->pods, flow->netns_cookie);
	int fd = flow->wire_fd;

	log_debug("client is of the mesh after all", "flow=%u.%u", slot, flow->generation);
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	flow->wire_fd = -1;
	kmtls_relay_release(loop, slot);
	if (pod)
		kmtls_inbound_accept(loop, pod, fd);
	else
		close(fd);
	kmtls_pod_put(pod);
}

/* The source of the local leg, IPv4: 127.64.0.0/10 by the client's address, so that not all clients
 * share the ports of one source address. */
static void spread_source(int fd, const struct kmtls_endpoint *client)
{
	__u32 hash = client->port * 0x27d4eb2fu, host;
	struct sockaddr_in source = { .sin_family = AF_INET };
	int one = 1;

	for (int i = 12; i < 16; i++)
		hash = (hash ^ client->address.bytes[i]) * 0x01000193u;
	host = KMTLS_INTERCEPT_NET | ((hash >> 8) & KMTLS_INTERCEPT_HOSTS);
	source.sin_addr.s_addr = htonl(host);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	/* Without it the connection works as well, from 127.0.0.1. */
	(void)bind(fd, (struct sockaddr *)&source, sizeof(source));
}

/*
 * IPv6 has one loopback address only, and what the kernel says without a socket, resets and the last
 * acknowledgement, does not find its way to it from another device's address. So an address of the
 * pod's from the time of its enrolment. The kernel would take the one that is connected to: if it is
 * younger, the programs take it for a client's, and bring us our own leg.
 */
static void bind_to_own(int fd, const struct kmtls_pod *pod)
{
	struct kmtls_endpoint own = { .address = pod->addresses.primary6 };
	struct sockaddr_storage source;
	socklen_t length;
	int one = 1;

	if (kmtls_address_is_zero(&own.address))
		own.address.bytes[15] = 1; /* there was none: ::1 */
	length = kmtls_endpoint_to_sockaddr(&own, &source);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	(void)bind(fd, (struct sockaddr *)&source, length);
}

static int bind_source(int fd, const struct kmtls_pod *pod, const struct kmtls_listener *listener,
		       const struct kmtls_endpoint *client)
{
	if (listener->device)
		return kmtls_listener_bind(fd, listener);
	if (kmtls_address_is_v4(&client->address))
		spread_source(fd, client);
	else
		bind_to_own(fd, pod);
	return 0;
}

/* A socket towards the application, not connected yet. The thread is in the pod's namespace. */
static int open_local(struct kmtls_handshake *handshake, const struct kmtls_listener *listener)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	struct kmtls_socket delivering = {
		.kind = KMTLS_SOCKET_DELIVERING,
		.peer = flow->peer,
	};
	struct linger reset_on_close = { .l_onoff = 1, .l_linger = 0 };
	int sockets = kmtls_bpf_map(handshake->loop->daemon->bpf, KMTLS_MAP_SOCKETS);
	bool v4 = kmtls_address_is_v4(&flow->self.address);
	int fd, err, one = 1;

	fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset_on_close, sizeof(reset_on_close));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	err = bind_source(fd, handshake->pod, listener, &flow->peer);
	if (handshake->pod->flags & KMTLS_POD_ACCEL) {
		delivering.flags |= KMTLS_SOCKET_ACCEL;
		flow->accel = 1; /* before it can be in a sockhash */
	}
	if (!err && bpf_map_update_elem(sockets, &fd, &delivering, BPF_ANY) < 0)
		err = -errno;
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

/* Likewise; a descriptor or -errno. ret_why: of -ENODEV. */
static int open_towards_listener(struct kmtls_handshake *handshake, char *ret_why)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	struct kmtls_listener listener;
	int err = kmtls_netns_enter(handshake->pod->netns_fd, handshake->pod->netns_cookie);

	if (!err)
		err = kmtls_listener_find(flow->wire_fd, &flow->self, &handshake->pod->addresses,
					  &listener, ret_why);
	return err ? err : open_local(handshake, &listener);
}

void kmtls_inbound_deliver(struct kmtls_handshake *handshake)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	struct sockaddr_storage address;
	socklen_t length = kmtls_endpoint_to_sockaddr(&flow->self, &address);
	char why[KMTLS_LISTENER_WHY];
	int fd = open_towards_listener(handshake, why);

	/* Not the application's refusal: no alert says so, and the client may try once more. */
	if (kmtls_handshake_dial_reason(-fd) == KMTLS_REASON_NO_RESOURCES) {
		kmtls_handshake_fail(handshake, KMTLS_REASON_NO_RESOURCES, strerror(-fd));
		return;
	}
	if (fd == -ENODEV) {
		kmtls_handshake_application_unreachable(handshake, KMTLS_REASON_LISTENER_DEVICE,
							why);
		return;
	}
	if (fd < 0) {
		kmtls_handshake_application_refused(handshake, -fd);
		return;
	}
	flow->local_fd = fd;
	flow->local_cookie = kmtls_handshake_cookie(fd);
	if (connect(fd, (struct sockaddr *)&address, length) < 0 && errno != EINPROGRESS) {
		kmtls_handshake_application_refused(handshake, errno);
		return;
	}
	if (kmtls_loop_watch(handshake->loop, KMTLS_TAG_LOCAL, handshake->slot, fd) < 0) {
		kmtls_handshake_application_refused(handshake, errno);
		return;
	}
	kmtls_inbound_delivered(handshake);
}

void kmtls_inbound_delivered(struct kmtls_handshake *handshake)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	struct sockaddr_storage address;
	socklen_t length = sizeof(int);
	int error = 0;

	getsockopt(flow->local_fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error) {
		kmtls_handshake_application_refused(handshake, error);
		return;
	}
	length = sizeof(address);
	if (getpeername(flow->local_fd, (struct sockaddr *)&address, &length) == 0)
		kmtls_handshake_application_accepted(handshake);
}
