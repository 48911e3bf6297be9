/* SPDX-License-Identifier: Apache-2.0 */
/* keeper_parts.h - what keeper.c and keeper_upgrade.c share. */
#ifndef KMTLS_KEEPER_PARTS_H
#define KMTLS_KEEPER_PARTS_H

#include <linux/types.h>
#include <stdbool.h>
#include <sys/types.h>

#include "daemon.h"
#include "keeper.h"
#include "notify.h"

enum kmtls_keeper_state {
	KMTLS_KEEPER_STARTING, /* a gated worker prepares */
	KMTLS_KEEPER_RUNNING,
	KMTLS_KEEPER_WAITING, /* for the time of the next worker */
	KMTLS_KEEPER_STOPPING,
	KMTLS_KEEPER_ENDED,
};

struct kmtls_keeper {
	struct kmtls_daemon daemon;
	const struct kmtls_keeper_options *options;
	enum kmtls_keeper_state state;
	struct kmtls_notify_socket notify; /* the service manager */
	unsigned watchdog_ms; /* between two signs of life to it; 0: it does not ask for any */
	__u64 watchdog_told;
	int signal_fd, shared_fd, predecessor;
	pid_t worker, successor; /* 0: none; successor: has taken over, executed by this one */
	bool announced; /* a worker of this keeper has been ready */
	bool reload; /* asked to, and not done yet: the worker that it replaces is not ready */
	__u64 started; /* the worker; ms */
	unsigned failures; /* workers in a row that died too soon */
	__u64 next_start; /* ms; WAITING */
	__u64 deadline; /* ms; STOPPING */
	__u64 heartbeat, heartbeat_seen; /* last one, and when: ms */
	int status; /* what to exit with */
};

/* Own memory, same descriptors: what this worker opens is there for the next one. */
void kmtls_keeper_start_worker(struct kmtls_keeper *keeper);
/* At once, and it is gone when this returns. No next one is made. */
void kmtls_keeper_kill_worker(struct kmtls_keeper *keeper);
/* Tells the service manager, as often as it wants to hear it. context: the keeper. */
void kmtls_keeper_tell_alive(void *context);
/* Nothing is left to do but to exit. status: -errno, or 0. */
void kmtls_keeper_end(struct kmtls_keeper *keeper, int status);

/* keeper_upgrade.c: either this keeper ends, or all is as before and `shared` says why. */
void kmtls_keeper_upgrade(struct kmtls_keeper *keeper, const char *program);
/* socket: the other instance's, the keeper's from here on. */
void kmtls_keeper_give_away(struct kmtls_keeper *keeper, int socket);

#endif
