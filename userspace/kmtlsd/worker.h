/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - the process that does the work: event loops, handshakes, pods, control socket. It
 * may be killed at any instruction; the next one goes on from the flow table, the shared memory
 * and the table of descriptors.
 */
#ifndef KMTLS_WORKER_H
#define KMTLS_WORKER_H

#include <signal.h>

struct kmtls_daemon;

/* From the keeper: a successor comes (kmtls_loops_drain()). */
#define KMTLS_WORKER_DRAIN SIGUSR1

/* In the process the keeper has made, until it is told to end. The exit status. */
int kmtls_worker_run(struct kmtls_daemon *daemon);

#endif
