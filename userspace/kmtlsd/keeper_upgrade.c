/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper_upgrade.c - a running keeper is replaced: by a program that it executes, or by another
 * instance that asks for it. How everything goes over to it is in handover.c.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "handover.h"
#include "keeper_parts.h"
#include "log.h"
#include "loop.h"
#include "shared.h"
#include "worker.h"

/* So long may handshakes in progress take to their end when a successor is asked for. The worker
 * does not wait for those that do not get on. */
#define DRAIN_MS 10000

static bool worker_lives(const struct kmtls_keeper *keeper)
{
	siginfo_t ended = { 0 };

	return keeper->worker &&
	       waitid(P_PID, keeper->worker, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       ended.si_pid == 0;
}

/*
 * Established flows do not mind when their worker is killed, but a handshake that is cut is begun
 * anew, at this node or the other, and that not for ever: those in progress may end first. New
 * connections wait for the next worker.
 */
static void drain_worker(struct kmtls_keeper *keeper)
{
	const struct kmtls_shared *shared = keeper->daemon.shared;
	struct pollfd wake = { .fd = keeper->daemon.wake_fd, .events = POLLIN };
	__u64 end = kmtls_loop_now_ms() + DRAIN_MS;
	eventfd_t ignored;

	if (!keeper->worker)
		return;
	kill(keeper->worker, KMTLS_WORKER_DRAIN);
	while (shared->drained != shared->starts && kmtls_loop_now_ms() < end &&
	       worker_lives(keeper)) {
		if (poll(&wake, 1, 20) == 1)
			eventfd_read(keeper->daemon.wake_fd, &ignored);
	}
}

static void roll_back(struct kmtls_keeper *keeper, pid_t child, int socket, const char *why)
{
	struct kmtls_shared *shared = keeper->daemon.shared;

	/* Nobody else may have copies of the descriptors, or closing one would not tell the peer. */
	if (child > 0)
		kmtls_handover_end(child);
	else if (socket >= 0)
		kmtls_handover_end_peer(socket);
	/* Before a worker is there, which would take it for its own. */
	if (socket >= 0)
		close(socket);
	atomic_store(&shared->stopping, false);
	log_error("not upgraded", "err=%s", kmtls_log_quote(why));
	kmtls_notify_send(&keeper->notify, "READY=1\nSTATUS=not upgraded, the old version goes on");
	snprintf(shared->why, sizeof(shared->why), "%s", why);
	atomic_store(&shared->outcome, KMTLS_OUTCOME_ROLLED_BACK);
	if (!keeper->worker)
		kmtls_keeper_start_worker(keeper);
}

/* The successor is ready: from here on there is no way back. child: it, if it is ours. */
static void hand_over(struct kmtls_keeper *keeper, pid_t child, int socket, const char *to)
{
	if (kmtls_handover_go(socket) < 0) {
		roll_back(keeper, child, socket, "the successor died when it was ready");
		return;
	}
	log_info("handed over", "to=%s", kmtls_log_quote(to));
	if (child > 0)
		kmtls_notify_main_pid(&keeper->notify, child);
	keeper->successor = child;
	atomic_store(&keeper->daemon.shared->outcome, KMTLS_OUTCOME_DONE);
	kmtls_keeper_end(keeper, 0);
}

void kmtls_keeper_upgrade(struct kmtls_keeper *keeper, const char *program)
{
	struct kmtls_shared *shared = keeper->daemon.shared;
	char why[KMTLS_WHY] = "";
	int socket = -1, err = 0;
	pid_t child;

	keeper->reload = false;
	atomic_store(&shared->outcome, KMTLS_OUTCOME_RUNNING);
	if (getpid() == 1) {
		/* With the first process of a container all others end. */
		roll_back(keeper, 0, -1, "process 1 cannot be replaced: use kmtlsd --take-over");
		return;
	}
	log_info("upgrading", "program=%s", kmtls_log_quote(program));
	kmtls_notify_reloading(&keeper->notify, "upgrading");
	kmtls_notify_pass_on_watchdog();
	drain_worker(keeper);
	kmtls_keeper_kill_worker(keeper);
	child = kmtls_handover_execute(&keeper->daemon, keeper->shared_fd, program,
				       keeper->options->config_path, &socket);
	if (child < 0) {
		snprintf(why, sizeof(why), "%s", strerror(-child));
		err = child;
	} else {
		err = kmtls_handover_await(socket, kmtls_keeper_tell_alive, keeper, why);
	}
	if (err)
		roll_back(keeper, child, socket, why);
	else
		hand_over(keeper, child, socket, program);
}

void kmtls_keeper_give_away(struct kmtls_keeper *keeper, int socket)
{
	struct kmtls_shared *shared = keeper->daemon.shared;
	char why[KMTLS_WHY] = "";
	int err;

	atomic_store(&shared->outcome, KMTLS_OUTCOME_RUNNING);
	log_info("handing over to another instance", NULL);
	drain_worker(keeper);
	kmtls_keeper_kill_worker(keeper);
	err = kmtls_handover_send(&keeper->daemon, keeper->shared_fd, socket);
	if (err)
		snprintf(why, sizeof(why), "descriptors cannot be sent: %s", strerror(-err));
	else
		err = kmtls_handover_await(socket, kmtls_keeper_tell_alive, keeper, why);
	if (err)
		roll_back(keeper, 0, socket, why);
	else
		hand_over(keeper, 0, socket, "another instance");
}
