/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.c - see keeper.h. Read from the end: kmtls_keeper_run() starts things, supervise() is
 * what it then does for the rest of its life. What it shares with workers is opened in
 * keeper_open.c; upgrades and take-overs are keeper_upgrade.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "handover.h"
#include "keeper.h"
#include "keeper_open.h"
#include "keeper_parts.h"
#include "log.h"
#include "loop.h"
#include "notify.h"
#include "shared.h"
#include "worker.h"

/* A worker that ends by itself sooner than that after its start: how long until the next, doubled
 * each time. */
#define LIFE_MS 3000
#define BACKOFF_FIRST_MS 10
#define BACKOFF_LAST_MS 5000
/* Somebody kills it, perhaps for want of memory: flows stand still meanwhile. */
#define BACKOFF_KILLED_MS 1000
/* So many may be killed that early before that counts as a fault of their own. */
#define KILLS_FREE 20
/* A worker that is asked to stop resets its flows; longer than that is too long. */
#define STOP_SECONDS 15
/* Without a heartbeat for so long a worker hangs. */
#define HANG_SECONDS 30

/* ---- workers ---- */

void kmtls_keeper_start_worker(struct kmtls_keeper *keeper)
{
	struct clone_args arguments = { .flags = CLONE_FILES, .exit_signal = SIGCHLD };
	struct kmtls_shared *shared = keeper->daemon.shared;
	pid_t pid;

	atomic_fetch_add(&shared->starts, 1);
	pid = syscall(SYS_clone3, &arguments, sizeof(arguments));
	if (pid == 0)
		_exit(kmtls_worker_run(&keeper->daemon));
	if (pid < 0) {
		log_error("no worker", "err=%s", kmtls_log_quote(strerror(errno)));
		keeper->state = KMTLS_KEEPER_WAITING;
		keeper->next_start = kmtls_loop_now_ms() + BACKOFF_LAST_MS;
		return;
	}
	keeper->worker = shared->worker = pid;
	keeper->started = keeper->heartbeat_seen = kmtls_loop_now_ms();
	keeper->state = keeper->daemon.gated ? KMTLS_KEEPER_STARTING : KMTLS_KEEPER_RUNNING;
	/* Whoever comes after the first finds what that one left. */
	keeper->daemon.inherited = true;
}

static void log_death(const struct kmtls_keeper *keeper, int status)
{
	if (WIFSIGNALED(status))
		log_warning("worker died", "worker=%d signal=%s", keeper->worker,
			    kmtls_log_quote(strsignal(WTERMSIG(status))));
	else
		log_warning("worker died", "worker=%d status=%d", keeper->worker,
			    WEXITSTATUS(status));
}

/*
 * ms to wait before the next worker. None for one that lived, or that was killed while it served:
 * flows wait for the next. Whatever ends a worker by itself soon after its start will end the next
 * one, too.
 */
static unsigned backoff(struct kmtls_keeper *keeper, int status)
{
	const struct kmtls_shared *shared = keeper->daemon.shared;
	bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	unsigned grace = killed ? KILLS_FREE : 0, wait = BACKOFF_FIRST_MS;
	unsigned last = killed ? BACKOFF_KILLED_MS : BACKOFF_LAST_MS;

	if (kmtls_loop_now_ms() - keeper->started >= LIFE_MS ||
	    (killed && shared->serving == shared->starts)) {
		keeper->failures = 0;
		return 0;
	}
	if (++keeper->failures <= grace)
		return 0;
	for (unsigned i = grace + 1; i < keeper->failures && wait < last; i++)
		wait *= 2;
	return wait < last ? wait : last;
}

void kmtls_keeper_end(struct kmtls_keeper *keeper, int status)
{
	keeper->state = KMTLS_KEEPER_ENDED;
	keeper->status = status;
}

/* What it asked for in its last moment is void: the next one closes the connection it was about. */
static void forget_worker(struct kmtls_keeper *keeper)
{
	struct kmtls_shared *shared = keeper->daemon.shared;

	keeper->worker = 0;
	if (atomic_exchange(&shared->request, KMTLS_REQUEST_NONE) == KMTLS_REQUEST_NONE)
		return;
	snprintf(shared->why, sizeof(shared->why), "the worker died when it was asked");
	atomic_store(&shared->outcome, KMTLS_OUTCOME_ROLLED_BACK);
}

static void on_worker_death(struct kmtls_keeper *keeper, int status)
{
	const struct kmtls_shared *shared = keeper->daemon.shared;
	unsigned wait;

	if (keeper->state == KMTLS_KEEPER_STOPPING) {
		kmtls_keeper_end(keeper, 0);
		return;
	}
	/* What the first one cannot do no other can; it has said why. */
	if (!keeper->announced && shared->ready != shared->starts && WIFEXITED(status)) {
		if (keeper->predecessor >= 0)
			kmtls_handover_tell(keeper->predecessor, KMTLS_HANDOVER_FAILED,
					    shared->why);
		kmtls_keeper_end(keeper, -ECHILD);
		return;
	}
	log_death(keeper, status);
	forget_worker(keeper);
	wait = backoff(keeper, status);
	if (!wait) {
		kmtls_keeper_start_worker(keeper);
		return;
	}
	log_error("workers die at once", "failures=%u next_ms=%u", keeper->failures, wait);
	keeper->state = KMTLS_KEEPER_WAITING;
	keeper->next_start = kmtls_loop_now_ms() + wait;
}

/* Also children of a successor that failed: this process is their reaper. */
static void reap(struct kmtls_keeper *keeper)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == keeper->worker)
			on_worker_death(keeper, status);
}

void kmtls_keeper_kill_worker(struct kmtls_keeper *keeper)
{
	if (!keeper->worker)
		return;
	kill(keeper->worker, SIGKILL);
	while (waitpid(keeper->worker, NULL, 0) < 0 && errno == EINTR)
		;
	forget_worker(keeper);
}

/* The service manager hears of us as long as there is a worker that turns, or will be. */
void kmtls_keeper_tell_alive(void *context)
{
	struct kmtls_keeper *keeper = context;
	__u64 now = kmtls_loop_now_ms();

	if (!keeper->watchdog_ms || now - keeper->watchdog_told < keeper->watchdog_ms)
		return;
	keeper->watchdog_told = now;
	kmtls_notify_send(&keeper->notify, "WATCHDOG=1");
}

/* ---- events ---- */

static void stop(struct kmtls_keeper *keeper)
{
	if (keeper->state == KMTLS_KEEPER_STOPPING)
		return;
	if (!keeper->worker) {
		kmtls_keeper_end(keeper, 0);
		return;
	}
	kmtls_notify_send(&keeper->notify, "STOPPING=1");
	atomic_store(&keeper->daemon.shared->stopping, true);
	kill(keeper->worker, SIGTERM);
	keeper->state = KMTLS_KEEPER_STOPPING;
	keeper->deadline = kmtls_loop_now_ms() + STOP_SECONDS * 1000;
}

static void on_signals(struct kmtls_keeper *keeper)
{
	struct signalfd_siginfo signal;

	while (read(keeper->signal_fd, &signal, sizeof(signal)) == sizeof(signal)) {
		switch (signal.ssi_signo) {
		case SIGCHLD:
			reap(keeper);
			break;
		case SIGHUP: /* a new configuration, or a new version at the same place */
			keeper->reload = true;
			break;
		default:
			stop(keeper);
		}
		if (keeper->state == KMTLS_KEEPER_ENDED)
			return;
	}
}

/* The gated worker of a successor is prepared: may it go on? */
static void on_prepared(struct kmtls_keeper *keeper)
{
	struct kmtls_shared *shared = keeper->daemon.shared;

	keeper->daemon.gated = false;
	if (kmtls_handover_tell(keeper->predecessor, KMTLS_HANDOVER_READY, NULL) < 0 ||
	    kmtls_handover_await_go(keeper->predecessor) < 0) {
		log_error("not taken over", "err=\"the predecessor goes on by itself\"");
		kmtls_keeper_end(keeper, -ECANCELED);
		return;
	}
	/* The number is anybody's from here on. */
	kmtls_descriptor_set_remove(&keeper->daemon.core, keeper->predecessor);
	close(keeper->predecessor);
	keeper->predecessor = -1;
	kmtls_keeper_commit(&keeper->daemon);
	log_info("taken over", "keeper=%d worker=%d", getpid(), keeper->worker);
	shared->worker = keeper->worker;
	keeper->state = KMTLS_KEEPER_RUNNING;
	eventfd_write(keeper->daemon.go_fd, 1);
}

/* A worker is ready: the first one makes the service ready. */
static void announce(struct kmtls_keeper *keeper)
{
	if (!keeper->announced)
		kmtls_notify_send(&keeper->notify, "READY=1\nSTATUS=serving");
	keeper->announced = true;
}

static void on_wake(struct kmtls_keeper *keeper)
{
	struct kmtls_shared *shared = keeper->daemon.shared;
	enum kmtls_request request;
	eventfd_t ignored;

	eventfd_read(keeper->daemon.wake_fd, &ignored);
	if (keeper->state == KMTLS_KEEPER_STARTING && shared->prepared == shared->starts)
		on_prepared(keeper);
	if (keeper->state == KMTLS_KEEPER_RUNNING && shared->ready == shared->starts)
		announce(keeper);
	if (keeper->state != KMTLS_KEEPER_RUNNING)
		return;
	request = atomic_exchange(&shared->request, KMTLS_REQUEST_NONE);
	shared->path[sizeof(shared->path) - 1] = '\0';
	if (request == KMTLS_REQUEST_UPGRADE)
		kmtls_keeper_upgrade(keeper, shared->path);
	else if (request == KMTLS_REQUEST_TAKE_OVER)
		kmtls_keeper_give_away(keeper, shared->connection);
}

/* Does the worker still turn? One that hangs is replaced like one that died. */
static void check_heartbeat(struct kmtls_keeper *keeper)
{
	__u64 beat = keeper->daemon.shared->heartbeat, now = kmtls_loop_now_ms();

	if (beat != keeper->heartbeat || keeper->state != KMTLS_KEEPER_RUNNING) {
		keeper->heartbeat = beat;
		keeper->heartbeat_seen = now;
	} else if (now - keeper->heartbeat_seen > HANG_SECONDS * 1000) {
		log_error("worker hangs", "worker=%d seconds=%d", keeper->worker, HANG_SECONDS);
		kill(keeper->worker, SIGKILL);
		keeper->heartbeat_seen = now;
	}
}

/* What time brings. ms until it is worth looking again. */
static int on_time(struct kmtls_keeper *keeper)
{
	__u64 now = kmtls_loop_now_ms();

	switch (keeper->state) {
	case KMTLS_KEEPER_WAITING:
		if (now < keeper->next_start)
			return keeper->next_start - now;
		kmtls_keeper_start_worker(keeper);
		return 1000;
	case KMTLS_KEEPER_STOPPING:
		if (now < keeper->deadline)
			return keeper->deadline - now;
		log_error("worker does not stop", "worker=%d", keeper->worker);
		kmtls_keeper_kill_worker(keeper);
		kmtls_keeper_end(keeper, 0);
		return 0;
	default:
		check_heartbeat(keeper);
		return 1000;
	}
}

static void supervise(struct kmtls_keeper *keeper)
{
	struct pollfd sources[] = {
		{ .fd = keeper->signal_fd, .events = POLLIN },
		{ .fd = keeper->daemon.wake_fd, .events = POLLIN },
	};

	while (keeper->state != KMTLS_KEEPER_ENDED) {
		int timeout = on_time(keeper);

		if (keeper->state == KMTLS_KEEPER_ENDED)
			return;
		kmtls_keeper_tell_alive(keeper);
		if (keeper->watchdog_ms && timeout > (int)keeper->watchdog_ms)
			timeout = keeper->watchdog_ms;
		poll(sources, 2, timeout);
		if ((sources[0].revents | sources[1].revents) & POLLNVAL) {
			log_error("descriptors of the keeper were closed", NULL);
			kmtls_keeper_end(keeper, -EBADF);
			return;
		}
		if (sources[0].revents)
			on_signals(keeper);
		if (sources[1].revents && keeper->state != KMTLS_KEEPER_ENDED)
			on_wake(keeper);
		if (keeper->reload && keeper->announced && keeper->state == KMTLS_KEEPER_RUNNING)
			kmtls_keeper_upgrade(keeper, keeper->options->program);
	}
}

static int open_notify(struct kmtls_keeper *keeper, char *ret_why)
{
	int err = kmtls_notify_open(&keeper->notify);

	if (err)
		snprintf(ret_why, KMTLS_WHY, "NOTIFY_SOCKET: %s", strerror(-err));
	keeper->watchdog_ms = kmtls_notify_watchdog_usec() / 2000;
	return err;
}

int kmtls_keeper_run(struct kmtls_config *config, const struct kmtls_keeper_options *options,
		     char *ret_why)
{
	struct kmtls_keeper keeper = {
		.daemon = { .config = config,
			    .program = options->program,
			    .started = time(NULL),
			    .keeper = getpid() },
		.options = options,
		.notify = { .fd = -1 },
		.predecessor = options->predecessor,
	};
	int err;

	err = kmtls_keeper_open(&keeper.daemon, config, options, &keeper.shared_fd,
				&keeper.predecessor, ret_why);
	if (!err)
		err = kmtls_keeper_open_signals(&keeper.signal_fd);
	if (!err)
		err = open_notify(&keeper, ret_why);
	if (!err)
		err = kmtls_keeper_mark_core(&keeper.daemon);
	if (err) {
		if (keeper.predecessor >= 0)
			kmtls_handover_tell(keeper.predecessor, KMTLS_HANDOVER_FAILED, ret_why);
		return err;
	}
	kmtls_keeper_settle();
	kmtls_keeper_start_worker(&keeper);
	supervise(&keeper);
	kmtls_keeper_pass_on_signals(keeper.signal_fd, keeper.successor);
	return keeper.status;
}
