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

/*
 * To which listener would the kernel have given the connection that wire_fd is, without us?
 * *ret_device: what that one is bound to and has to be connected to by (kmtls_listener_bind()); 0:
 * to nothing. -ECONNREFUSED: to none. -ENODEV: to none but one that is bound to another device, or to
 * one that we cannot reach, as the address is not its device's; ret_why says so
 * (KMTLS_LISTENER_WHY bytes). Other -errno: nobody knows.
 */
int kmtls_listener_find(int wire_fd, const struct kmtls_endpoint *local, unsigned *ret_device,
			char *ret_why);

/* The socket will reach a listener that is bound to this device. */
int kmtls_listener_bind(int fd, unsigned device);

/*
 * Of local, without a connection: are its listeners bound? 0: no, or there is none. 1: one to a device
 * that has the address; ret_why: the device's name. -ENODEV: only to devices that do not have it;
 * ret_why: as above. Other -errno.
 */
int kmtls_listener_look(const struct kmtls_endpoint *local, char *ret_why);

#endif
