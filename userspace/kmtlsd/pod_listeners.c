/* SPDX-License-Identifier: Apache-2.0 */
/* pod_listeners.c - see pod_listeners.h. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "bpf_loader.h"
#include "diag.h"
#include "pod.h"
#include "pod_listeners.h"
#include "pods.h"

#define BACKLOG 4096

/* ---- the daemon's ---- */

static bool is_turned(unsigned acceptor)
{
	return acceptor == KMTLS_ACCEPTOR_TURNED4 || acceptor == KMTLS_ACCEPTOR_TURNED6;
}

static bool is_v4(unsigned acceptor)
{
	return acceptor == KMTLS_ACCEPTOR_TURNED4 || acceptor == KMTLS_ACCEPTOR_INBOUND4;
}

static int bind_listener(int fd, unsigned acceptor, __u16 port)
{
	struct kmtls_endpoint local = { .port = port };
	struct sockaddr_storage address;
	socklen_t length;

	/* Where hardly matters, as sk_lookup picks the listener; bind.bpf.c keeps it free. */
	kmtls_address_parse(is_v4(acceptor) ? "127.255.255.254" : "::1", &local.address);
	length = kmtls_endpoint_to_sockaddr(&local, &address);
	return bind(fd, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
}

/* In the namespace of the calling thread. A descriptor or -errno. */
static int open_listener(unsigned acceptor)
{
	struct linger reset_on_close = { .l_onoff = 1, .l_linger = 0 };
	int one = 1, fd, err;

	fd = socket(is_v4(acceptor) ? AF_INET : AF_INET6,
		    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* Inherited: the application may bind its port again while connections remain. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!is_v4(acceptor))
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	/* Inherited: when the daemon dies, a local leg is reset, never ended. */
	if (is_turned(acceptor))
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset_on_close, sizeof(reset_on_close));
	err = bind_listener(fd, acceptor,
			    is_turned(acceptor) ? KMTLS_LISTENER_PORT_TURNED
						: KMTLS_LISTENER_PORT_INBOUND);
	if (err == -EADDRINUSE)
		err = bind_listener(fd, acceptor, 0);
	if (!err && listen(fd, BACKLOG) < 0)
		err = -errno;
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int publish_listener(struct kmtls_bpf *bpf, const struct kmtls_pod *pod, unsigned acceptor)
{
	struct kmtls_acceptor_key key = { .netns = pod->netns_cookie, .acceptor = acceptor };
	__u64 fd = pod->listeners[acceptor];

	return bpf_map_update_elem(kmtls_bpf_map(bpf, KMTLS_MAP_ACCEPTORS), &key, &fd, BPF_ANY) < 0
		       ? -errno
		       : 0;
}

int kmtls_pod_listeners_open(struct kmtls_bpf *bpf, struct kmtls_pod *pod, char *ret_why)
{
	int err = kmtls_netns_enter(pod->netns_fd, pod->netns_cookie);

	for (unsigned a = 0; !err && a < KMTLS_ACCEPTOR_COUNT; a++) {
		int fd = open_listener(a);

		/* No IPv6 in this pod (or kernel): nothing to listen for. */
		if (!is_v4(a) && (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT))
			continue;
		if (fd < 0) {
			err = fd;
			break;
		}
		pod->listeners[a] = fd;
		err = publish_listener(bpf, pod, a);
	}
	if (!err)
		err = kmtls_injector_open(&pod->injector);
	kmtls_netns_leave();
	if (err) {
		snprintf(ret_why, KMTLS_WHY, "no listener in the pod's network namespace: %s",
			 strerror(-err));
		kmtls_pod_listeners_close(pod);
	}
	return err;
}

void kmtls_pod_listeners_close(struct kmtls_pod *pod)
{
	for (unsigned a = 0; a < KMTLS_ACCEPTOR_COUNT; a++) {
		if (pod->listeners[a] >= 0)
			close(pod->listeners[a]); /* leaves the sockhash by itself */
		pod->listeners[a] = -1;
	}
}

static bool is_open(int fd)
{
	socklen_t length = sizeof(int);
	int accepts = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &length) == 0 && accepts;
}

/* Event loops may be using the number: the new socket takes it over in one step. */
static int reopen(struct kmtls_bpf *bpf, struct kmtls_pod *pod, unsigned acceptor)
{
	int fd = open_listener(acceptor), err = 0;

	if (fd < 0)
		return fd;
	if (dup3(fd, pod->listeners[acceptor], O_CLOEXEC) < 0)
		err = -errno;
	close(fd);
	return err ? err : publish_listener(bpf, pod, acceptor);
}

int kmtls_pod_listeners_mend(struct kmtls_bpf *bpf, struct kmtls_pod *pod, char *ret_why)
{
	int err = kmtls_netns_enter(pod->netns_fd, pod->netns_cookie);

	for (unsigned a = 0; !err && a < KMTLS_ACCEPTOR_COUNT; a++)
		if (pod->listeners[a] >= 0 && !is_open(pod->listeners[a]))
			err = reopen(bpf, pod, a);
	kmtls_netns_leave();
	if (err)
		snprintf(ret_why, KMTLS_WHY, "no listener in the pod's network namespace: %s",
			 strerror(-err));
	return err;
}

/* ---- the pod's ---- */

struct seed {
	struct kmtls_pod *pod;
	struct kmtls_local_key *keys; /* of the sockets found */
	__u32 *counts;
	size_t number, room;
};

/* Nothing from outside reaches those; sockops.bpf.c leaves them out as well. */
static bool is_loopback(const struct kmtls_address *address)
{
	if (kmtls_address_is_v4(address))
		return address->bytes[12] == 127;
	return IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)address->bytes);
}

static bool is_ours(const struct kmtls_pod *pod, const struct kmtls_endpoint *local)
{
	for (unsigned a = 0; a < KMTLS_ACCEPTOR_COUNT; a++) {
		struct sockaddr_storage address;
		socklen_t length = sizeof(address);
		struct kmtls_endpoint own;

		if (pod->listeners[a] >= 0 &&
		    getsockname(pod->listeners[a], (struct sockaddr *)&address, &length) == 0 &&
		    kmtls_endpoint_from_sockaddr(&address, &own) == 0 &&
		    kmtls_endpoint_equal(&own, local))
			return true;
	}
	return false;
}

static int seed_room(struct seed *seed)
{
	size_t room = seed->room ? 2 * seed->room : 64;
	struct kmtls_local_key *keys = realloc(seed->keys, room * sizeof(*keys));
	__u32 *counts;

	if (!keys)
		return -ENOMEM;
	seed->keys = keys;
	counts = realloc(seed->counts, room * sizeof(*counts));
	if (!counts)
		return -ENOMEM;
	seed->counts = counts;
	seed->room = room;
	return 0;
}

static int seed_one(void *context, const struct kmtls_endpoint *local, unsigned device)
{
	struct seed *seed = context;
	struct kmtls_local_key key = { .netns = seed->pod->netns_cookie, .local = *local };

	if (is_loopback(&local->address) || is_ours(seed->pod, local))
		return 0;
	for (size_t i = 0; i < seed->number; i++) {
		if (memcmp(&seed->keys[i], &key, sizeof(key)) == 0) {
			seed->counts[i]++; /* SO_REUSEPORT */
			return 0;
		}
	}
	if (seed->number == seed->room && seed_room(seed) < 0)
		return -ENOMEM;
	seed->keys[seed->number] = key;
	seed->counts[seed->number++] = 1;
	return 0;
}

/* The entry that is counted where the map has no room (internal_maps.h). */
static int put_overflow(struct kmtls_bpf *bpf, const struct kmtls_pod *pod)
{
	struct kmtls_local_key key = { .netns = pod->netns_cookie };
	__u32 zero = 0;

	return bpf_map_update_elem(kmtls_bpf_map(bpf, KMTLS_MAP_LISTENERS), &key, &zero,
				   BPF_NOEXIST) < 0 &&
			       errno != EEXIST
		       ? -errno
		       : 0;
}

int kmtls_pod_listeners_seed(struct kmtls_bpf *bpf, struct kmtls_pod *pod, char *ret_why)
{
	int fd = kmtls_bpf_map(bpf, KMTLS_MAP_LISTENERS);
	struct seed seed = { .pod = pod };
	int err;

	err = put_overflow(bpf, pod);
	if (!err)
		err = kmtls_netns_enter(pod->netns_fd, pod->netns_cookie);
	if (!err)
		err = kmtls_diag_listeners(seed_one, &seed);
	kmtls_netns_leave();
	/*
	 * The program counts from when it was attached and does not see older sockets close. An
	 * entry that is there already is its; a count too high only means that a SYN is steered
	 * and then truthfully refused, one too low would refuse a listener.
	 */
	for (size_t i = 0; !err && i < seed.number; i++)
		if (bpf_map_update_elem(fd, &seed.keys[i], &seed.counts[i], BPF_NOEXIST) < 0 &&
		    errno != EEXIST)
			err = -errno;
	if (err)
		snprintf(ret_why, KMTLS_WHY, "the pod's listeners cannot be counted: %s",
			 strerror(-err));
	free(seed.keys);
	free(seed.counts);
	return err;
}

void kmtls_pod_listeners_forget(struct kmtls_bpf *bpf, __u64 netns_cookie)
{
	int fd = kmtls_bpf_map(bpf, KMTLS_MAP_LISTENERS);
	struct kmtls_local_key key, next;
	bool more = bpf_map_get_next_key(fd, NULL, &next) == 0;

	while (more) {
		key = next;
		more = bpf_map_get_next_key(fd, &key, &next) == 0;
		if (key.netns == netns_cookie)
			bpf_map_delete_elem(fd, &key);
	}
}
