/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.h - a lasting connection to a SPIFFE agent: a thread that connects, polls, and comes back
 * after a pause that grows when the agent is away or says no. What is asked for is the caller's
 * (workload_api.c, delegated_identity.c).
 */
#ifndef KMTLS_AGENT_H
#define KMTLS_AGENT_H

#include <stdint.h>
#include <time.h>

#include "grpc.h"

enum kmtls_agent_state {
	KMTLS_AGENT_CONNECTING, /* no answer yet */
	KMTLS_AGENT_STREAMING, /* the last answer was good; the agent says when there is another */
	KMTLS_AGENT_WAITING, /* something went wrong; there will be another try */
	KMTLS_AGENT_REFUSED, /* the agent said no; there will be another try, later */
	KMTLS_AGENT_STATES
};

/* "connecting"...; "unknown" for any other number. */
const char *kmtls_agent_state_name(enum kmtls_agent_state state);

/* How it stands with one stream of answers, for people and metrics. */
struct kmtls_agent_view {
	enum kmtls_agent_state state;
	time_t since; /* of the state */
	time_t updated; /* when the last good answer came; 0: there was none */
	unsigned code; /* enum kmtls_grpc_code of the last failure */
	unsigned retry_in; /* ms until the next try; 0: none is planned */
	char why[KMTLS_GRPC_WHY]; /* of the last failure, "" after a good answer; bytes of any kind */
	uint64_t tries, failures; /* of connecting, or of the call where there are many on one */
	uint64_t answers, bad_answers; /* taken; refused by us */
};

/* 0 in place of a number: the default. */
struct kmtls_agent_options {
	const char *socket; /* a path, or unix:///PATH */
	unsigned deadline_ms; /* 10 s; see grpc.h */
	unsigned ping_ms; /* 330 s; see grpc.h */
	unsigned pause_min_ms, pause_max_ms; /* between tries: 500 ms, 30 s */
	/* After a no that another try does not change (Unimplemented, InvalidArgument; Workload
	 * Endpoint appendix A has no second try at all, but daemons outlive agents): 5 min, or when
	 * the agent comes back. */
	unsigned refused_ms;
	_Atomic unsigned *bad_answers; /* counts those of all streams; NULL: nobody asks */
};

/* Writes a path, without unix://. -EINVAL and a sentence (KMTLS_GRPC_WHY): neither form. */
int kmtls_agent_parse_socket(const char *text, const char **ret_path, char *ret_why);

/* A pause that doubles from min to max. What is waited for is between half of it and all of it, so
 * that a thousand nodes do not come at once. */
struct kmtls_agent_pause {
	unsigned min, max, next; /* ms */
};
unsigned kmtls_agent_pause_take(struct kmtls_agent_pause *pause);
void kmtls_agent_pause_reset(struct kmtls_agent_pause *pause); /* after a good answer */

struct kmtls_agent;

/* All of these are called on the thread. */
struct kmtls_agent_handler {
	/* Connected: calls may begin. -errno: it is closed again. */
	int (*start)(void *context, struct kmtls_grpc *grpc);
	/* The connection is gone, with its calls; code and why as in the view. */
	void (*stop)(void *context, unsigned code, const char *why);
	/* After each wake-up; grpc is NULL when there is none. Returns when to be called at the
	 * latest (ms of CLOCK_MONOTONIC). */
	int64_t (*tick)(void *context, struct kmtls_grpc *grpc);
};

/* -EINVAL, -ENOMEM, -errno, and a sentence (KMTLS_GRPC_WHY). handler and context must live as long. */
int kmtls_agent_open(const struct kmtls_agent_options *options,
		     const struct kmtls_agent_handler *handler, void *context,
		     struct kmtls_agent **ret_agent, char *ret_why);
/* Ends the thread and waits for it; stop() is called if there is a connection. NULL is fine. */
void kmtls_agent_close(struct kmtls_agent *agent);
/* Any thread: wakes the thread, for tick(). */
void kmtls_agent_wake(struct kmtls_agent *agent);
/* Any thread: no more waiting, the next try is now. */
void kmtls_agent_retry(struct kmtls_agent *agent);

/* For handlers. Ends the connection after this step, with stop(). */
void kmtls_agent_drop(struct kmtls_agent *agent, unsigned code, const char *why);
/* The agent has been of use: the pause begins small again. */
void kmtls_agent_good(struct kmtls_agent *agent);

/* ms until the next try to connect; 0: connected. */
unsigned kmtls_agent_retry_in(struct kmtls_agent *agent);
/* How long to wait after this code. */
unsigned kmtls_agent_pause_for(struct kmtls_agent *agent, struct kmtls_agent_pause *pause,
			       unsigned code);
struct kmtls_agent_pause kmtls_agent_new_pause(const struct kmtls_agent *agent);
uint64_t kmtls_agent_tries(const struct kmtls_agent *agent);

/* The view's state after a failure: does this code mean no? */
enum kmtls_agent_state kmtls_agent_failed_state(unsigned code);
/* Changes of a view, under its owner's lock. */
void kmtls_agent_view_fail(struct kmtls_agent_view *view, unsigned code, const char *why);
void kmtls_agent_view_set(struct kmtls_agent_view *view, enum kmtls_agent_state state);
void kmtls_agent_view_good(struct kmtls_agent_view *view);
void kmtls_agent_view_bad(struct kmtls_agent *agent, struct kmtls_agent_view *view);

#endif
