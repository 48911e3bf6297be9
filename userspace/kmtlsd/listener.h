/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener.h - an application's listener may be bound to a device (SO_BINDTODEVICE): it takes
 * connections that come in by that device only, and answers by it only. The daemon, which brings
 * them from inside the pod, has to do as they do.
 *
 * The calling thread is inside the pod's network namespace (netns.h).
 */
#ifndef KMTLS_LISTENER_H
#define KMTLS_LISTENER_H

#include <net/if.h>

#include "kmtls/abi.h"

/* Room for a sentence about a listener that cannot be reached. */
#define KMTLS_LISTENER_WHY (2 * IF_NAMESIZE + 96)

struct kmtls_netns_addresses;

/* How a listener is reached. */
struct kmtls_listener {
	unsigned device; /* that it is bound to; 0: to none */
	/* device: an address of it that is known to be the pod's. From another one the programs would
	 * take the connection for one from outside, and give it to us. */
	struct kmtls_address source;
};

/*
 * To which listener would the kernel have given the connection that wire_fd is, without us?
 * own: addresses of the pod. -ECONNREFUSED: to none. -ENODEV: to none but one that is bound to another
 * device, or to one that we cannot reach by its device; ret_why says so (KMTLS_LISTENER_WHY bytes).
 * Other -errno: nobody knows.
 */
int kmtls_listener_find(int wire_fd, const struct kmtls_endpoint *local,
			const struct kmtls_netns_addresses *own,
			struct kmtls_listener *ret_listener, char *ret_why);

/* The socket will reach this listener, that is bound to a device. */
int kmtls_listener_bind(int fd, const struct kmtls_listener *listener);

/*
 * Of local, without a connection: are its listeners bound? 0: no, or there is none. 1: one to a device
 * that has the address; ret_why: the device's name. -ENODEV: only to devices that do not have it;
 * ret_why: as above. Other -errno.
 */
int kmtls_listener_look(const struct kmtls_endpoint *local, char *ret_why);

#endif
