/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.c - see agent.h. The thread owns the connection; others only set two flags and wake it.
 */
#include "agent.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "cleanup.h"

#define STACK_SIZE (512 * 1024)
#define POLL_MAX_MS 60000

struct kmtls_agent {
	struct kmtls_agent_options options;
	const struct kmtls_agent_handler *handler;
	void *context;
	char *path;
	int wake; /* eventfd */
	pthread_t thread;
	atomic_bool ends, hurries;
	atomic_uint_least64_t tries;
	atomic_int_least64_t next; /* when to try again; 0: connected */
	/* The thread's own. */
	struct kmtls_grpc *grpc; /* NULL: not connected */
	struct kmtls_agent_pause pause;
	bool dropped; /* by the handler, for these reasons: */
	unsigned code;
	char why[KMTLS_GRPC_WHY];
};

const char *kmtls_agent_state_name(enum kmtls_agent_state state)
{
	static const char *const names[KMTLS_AGENT_STATES] = {
		[KMTLS_AGENT_CONNECTING] = "connecting",
		[KMTLS_AGENT_STREAMING] = "streaming",
		[KMTLS_AGENT_WAITING] = "waiting",
		[KMTLS_AGENT_REFUSED] = "refused",
	};

	return state < KMTLS_AGENT_STATES ? names[state] : "unknown";
}

/* Workload Endpoint section 4: unix, no authority, an absolute path. */
int kmtls_agent_parse_socket(const char *text, const char **ret_path, char *ret_why)
{
	const char *path = text;

	if (!strncmp(text, "unix:", 5)) {
		path = text + 5;
		if (!strncmp(path, "//", 2))
			path += 2;
		if (strpbrk(path, "?#%")) {
			snprintf(ret_why, KMTLS_GRPC_WHY,
				 "%.120s: nothing but a path may follow unix://", text);
			return -EINVAL;
		}
	}
	if (*path == '/') {
		*ret_path = path;
		return 0;
	}
	snprintf(ret_why, KMTLS_GRPC_WHY, "%.120s: neither an absolute path nor unix:///PATH",
		 text);
	return -EINVAL;
}

/* ---- pauses and views ---- */

unsigned kmtls_agent_pause_take(struct kmtls_agent_pause *pause)
{
	unsigned whole = pause->next, random = 0;

	pause->next = whole < pause->max / 2 ? whole * 2 : pause->max;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		random = (unsigned)kmtls_grpc_now() * 2654435761U;
	return whole / 2 + random % (whole / 2 + 1);
}

void kmtls_agent_pause_reset(struct kmtls_agent_pause *pause)
{
	pause->next = pause->min;
}

static bool is_final(unsigned code)
{
	return code == KMTLS_GRPC_UNIMPLEMENTED || code == KMTLS_GRPC_INVALID_ARGUMENT;
}

enum kmtls_agent_state kmtls_agent_failed_state(unsigned code)
{
	return is_final(code) || code == KMTLS_GRPC_PERMISSION_DENIED ||
			       code == KMTLS_GRPC_UNAUTHENTICATED
		       ? KMTLS_AGENT_REFUSED
		       : KMTLS_AGENT_WAITING;
}

void kmtls_agent_view_set(struct kmtls_agent_view *view, enum kmtls_agent_state state)
{
	if (view->state != state || !view->since)
		view->since = time(NULL);
	view->state = state;
	if (state == KMTLS_AGENT_STREAMING)
		view->why[0] = '\0';
}

void kmtls_agent_view_fail(struct kmtls_agent_view *view, unsigned code, const char *why)
{
	kmtls_agent_view_set(view, kmtls_agent_failed_state(code));
	view->failures++;
	view->code = code;
	snprintf(view->why, sizeof(view->why), "%s", why);
}

/* An answer was taken. */
void kmtls_agent_view_good(struct kmtls_agent_view *view)
{
	view->answers++;
	view->updated = time(NULL);
}

/* An answer was not taken. */
void kmtls_agent_view_bad(struct kmtls_agent *agent, struct kmtls_agent_view *view)
{
	view->bad_answers++;
	if (agent->options.bad_answers)
		atomic_fetch_add(agent->options.bad_answers, 1);
}

struct kmtls_agent_pause kmtls_agent_new_pause(const struct kmtls_agent *agent)
{
	return (struct kmtls_agent_pause){
		.min = agent->options.pause_min_ms,
		.max = agent->options.pause_max_ms,
		.next = agent->options.pause_min_ms,
	};
}

unsigned kmtls_agent_pause_for(struct kmtls_agent *agent, struct kmtls_agent_pause *pause,
			       unsigned code)
{
	return is_final(code) ? agent->options.refused_ms : kmtls_agent_pause_take(pause);
}

/* ---- the thread ---- */

void kmtls_agent_drop(struct kmtls_agent *agent, unsigned code, const char *why)
{
	if (agent->dropped)
		return;
	agent->dropped = true;
	agent->code = code;
	snprintf(agent->why, sizeof(agent->why), "%s", why);
}

void kmtls_agent_good(struct kmtls_agent *agent)
{
	kmtls_agent_pause_reset(&agent->pause);
}

static void disconnect(struct kmtls_agent *agent, unsigned code, const char *why)
{
	kmtls_grpc_close(agent->grpc);
	agent->grpc = NULL;
	agent->dropped = false;
	atomic_store(&agent->next,
		     kmtls_grpc_now() + kmtls_agent_pause_for(agent, &agent->pause, code));
	agent->handler->stop(agent->context, code, why);
}

static void connect_now(struct kmtls_agent *agent)
{
	const struct kmtls_grpc_options options = {
		.deadline = agent->options.deadline_ms,
		.ping = agent->options.ping_ms,
	};
	char why[KMTLS_GRPC_WHY] = "out of memory";
	int fd = -1, err;

	atomic_store(&agent->hurries, false);
	atomic_fetch_add(&agent->tries, 1);
	err = kmtls_grpc_connect(agent->path, &fd, why);
	if (!err)
		err = kmtls_grpc_open(fd, &options, &agent->grpc);
	if (!err)
		err = agent->handler->start(agent->context, agent->grpc);
	if (err)
		disconnect(agent, KMTLS_GRPC_UNAVAILABLE, why);
	else
		atomic_store(&agent->next, 0);
}

static void step(struct kmtls_agent *agent)
{
	char why[KMTLS_GRPC_WHY] = "";
	int err = kmtls_grpc_step(agent->grpc, why);

	if (agent->dropped) /* by what was read before the connection ended, too */
		disconnect(agent, agent->code, agent->why);
	else if (err)
		disconnect(agent, KMTLS_GRPC_UNAVAILABLE, why);
}

/* Until the first of: bytes, a wake-up, a deadline. */
static void sleep_until(struct kmtls_agent *agent, int64_t due)
{
	struct pollfd polled[2] = {
		{ .fd = agent->wake, .events = POLLIN },
		{ .fd = agent->grpc ? kmtls_grpc_fd(agent->grpc) : -1,
		  .events = agent->grpc ? kmtls_grpc_events(agent->grpc) : 0 },
	};
	int64_t wait;
	uint64_t count;

	if (agent->grpc && kmtls_grpc_due(agent->grpc) < due)
		due = kmtls_grpc_due(agent->grpc);
	if (!agent->grpc && atomic_load(&agent->next) < due)
		due = atomic_load(&agent->next);
	wait = due - kmtls_grpc_now();
	if (wait < 0)
		wait = 0;
	/* Expiry goes by the other clock, which may be set: look at it now and then. */
	if (wait > POLL_MAX_MS)
		wait = POLL_MAX_MS;
	poll(polled, 2, (int)wait);
	if (polled[0].revents && read(agent->wake, &count, sizeof(count)) < 0)
		return; /* somebody else's wake-up: there is none */
}

static void *run(void *argument)
{
	struct kmtls_agent *agent = argument;

	while (!atomic_load(&agent->ends)) {
		int64_t due;

		if (agent->grpc)
			step(agent);
		else if (atomic_load(&agent->hurries) ||
			 atomic_load(&agent->next) <= kmtls_grpc_now())
			connect_now(agent);
		if (agent->grpc)
			atomic_store(&agent->hurries, false);
		due = agent->handler->tick(agent->context, agent->grpc);
		if (agent->grpc && agent->dropped)
			disconnect(agent, agent->code, agent->why);
		sleep_until(agent, due);
	}
	if (agent->grpc)
		disconnect(agent, KMTLS_GRPC_CANCELLED, "closed");
	return NULL;
}

/* Signals are the main thread's. */
static int start_thread(struct kmtls_agent *agent)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int err = pthread_attr_init(&attributes);

	if (err)
		return -err;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_attr_setstacksize(&attributes, STACK_SIZE);
	if (!err)
		err = pthread_create(&agent->thread, &attributes, run, agent);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return -err;
}

/* ---- opening and closing ---- */

static unsigned given(unsigned value, unsigned otherwise)
{
	return value ? value : otherwise;
}

static void set_options(struct kmtls_agent *agent, const struct kmtls_agent_options *options)
{
	agent->options.deadline_ms = given(options->deadline_ms, 10000);
	agent->options.ping_ms = given(options->ping_ms, 330000);
	agent->options.pause_min_ms = given(options->pause_min_ms, 500);
	agent->options.pause_max_ms = given(options->pause_max_ms, 30000);
	agent->options.refused_ms = given(options->refused_ms, 300000);
	agent->options.bad_answers = options->bad_answers;
	agent->pause = kmtls_agent_new_pause(agent);
}

static void free_agent(struct kmtls_agent *agent)
{
	if (agent->wake >= 0)
		close(agent->wake);
	free(agent->path);
	free(agent);
}

int kmtls_agent_open(const struct kmtls_agent_options *options,
		     const struct kmtls_agent_handler *handler, void *context,
		     struct kmtls_agent **ret_agent, char *ret_why)
{
	struct kmtls_agent *agent;
	const char *path;
	int err = kmtls_agent_parse_socket(options->socket, &path, ret_why);

	if (err)
		return err;
	agent = calloc(1, sizeof(*agent));
	if (!agent) {
		snprintf(ret_why, KMTLS_GRPC_WHY, "out of memory");
		return -ENOMEM;
	}
	set_options(agent, options);
	agent->handler = handler;
	agent->context = context;
	agent->path = strdup(path);
	agent->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = agent->wake < 0 ? -errno : agent->path ? 0 : -ENOMEM;
	/* The thread may be faster than this function's return. */
	*ret_agent = agent;
	if (!err)
		err = start_thread(agent);
	if (!err)
		return 0;
	*ret_agent = NULL;
	snprintf(ret_why, KMTLS_GRPC_WHY, "the thread for %.120s: %s", path, strerror(-err));
	free_agent(agent);
	return err;
}

void kmtls_agent_wake(struct kmtls_agent *agent)
{
	const uint64_t one = 1;

	/* EAGAIN: it has been woken more often than can be counted, so it wakes. */
	if (write(agent->wake, &one, sizeof(one)) < 0)
		return;
}

void kmtls_agent_retry(struct kmtls_agent *agent)
{
	atomic_store(&agent->hurries, true);
	kmtls_agent_wake(agent);
}

void kmtls_agent_close(struct kmtls_agent *agent)
{
	if (!agent)
		return;
	atomic_store(&agent->ends, true);
	kmtls_agent_wake(agent);
	pthread_join(agent->thread, NULL);
	free_agent(agent);
}

unsigned kmtls_agent_retry_in(struct kmtls_agent *agent)
{
	int64_t next = atomic_load(&agent->next), now = kmtls_grpc_now();

	if (!next)
		return 0;
	return next > now ? (unsigned)(next - now) : 1;
}

uint64_t kmtls_agent_tries(const struct kmtls_agent *agent)
{
	return atomic_load(&agent->tries);
}
