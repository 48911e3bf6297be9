/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - the daemon's end of the control socket (protocol: include/kmtls/control.h).
 * Runs in a thread of its own; a slow or hostile client cannot hold up the data path.
 */
#ifndef KMTLS_CONTROL_SERVER_H
#define KMTLS_CONTROL_SERVER_H

struct kmtls_daemon;
struct kmtls_control;

/* Binds the socket of daemon->config and starts the thread. -EADDRINUSE: another daemon
 * answers there (a dead one's socket is replaced). ret_why: 256 bytes. */
int kmtls_control_open(struct kmtls_daemon *daemon, struct kmtls_control **ret_control,
		       char *ret_why);
void kmtls_control_close(struct kmtls_control *control); /* stops and joins the thread */

#endif
