/* SPDX-License-Identifier: Apache-2.0 */
/* diag.h - sock_diag(7): what sockets the kernel has, in one network namespace. */
#ifndef KMTLS_DIAG_H
#define KMTLS_DIAG_H

#include <linux/inet_diag.h>

#include "kmtls/abi.h"

/* The calling thread must be inside the namespace (netns.h). A non-zero return of visit stops
 * and is returned. */
/* device: the index of the one that the listener is bound to, 0: to none. */
int kmtls_diag_listeners(int (*visit)(void *context, const struct kmtls_endpoint *local,
				      unsigned device),
			 void *context);
/*
 * Which listener would be given a connection to local that comes in by that device? *ret_bound: the
 * device that this listener is bound to, 0: to none. -ENOENT: no listener. Quick: the kernel looks it
 * up as it does for a SYN from loopback, so that our own sk_lookup program leaves it alone.
 */
int kmtls_diag_listener_of(const struct kmtls_endpoint *local, unsigned device,
			   unsigned *ret_bound);

/* A TCP socket that is connected, or is being closed and may still have something to say. */
struct kmtls_diag_socket {
	struct kmtls_endpoint local, remote;
	__u64 cookie; /* SO_COOKIE */
	__u64 cgroup; /* id of the one it was made in; 0: not told */
	int family;
	struct inet_diag_sockid id; /* the kernel's own words, to name it again */
};

/* Likewise. */
int kmtls_diag_connected(int (*visit)(void *context, const struct kmtls_diag_socket *socket),
			 void *context);
/* Ends it, with a reset towards its peer and ECONNABORTED for its owner. -ENOENT: it is gone;
 * -EOPNOTSUPP: the kernel is built without CONFIG_INET_DIAG_DESTROY. */
int kmtls_diag_destroy(const struct kmtls_diag_socket *socket);

/* How the kernel runs TLS on one connected TCP socket: KMTLS_OFFLOAD_*. local and remote are
 * its ends; cookie its SO_COOKIE. */
int kmtls_diag_tls(const struct kmtls_endpoint *local, const struct kmtls_endpoint *remote,
		   __u64 cookie, __u8 *ret_tx, __u8 *ret_rx);

#endif
