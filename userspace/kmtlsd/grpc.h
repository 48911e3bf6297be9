/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc.h - a gRPC client over one Unix socket: HTTP/2 by nghttp2, calls with one request and a
 * stream of answers, which is what SPIFFE agents offer. No compression, no TLS, no threads: the
 * caller polls.
 *
 * Answers may hold private keys: what was read is zeroed as soon as it was handed on.
 */
#ifndef KMTLS_GRPC_H
#define KMTLS_GRPC_H

#include <stddef.h>
#include <stdint.h>

/* The largest message taken; gRPC's usual limit. */
#define KMTLS_GRPC_MESSAGE_MAX (4U << 20)
/* Size of sentences, with their end. */
#define KMTLS_GRPC_WHY 256
#define KMTLS_GRPC_NEVER INT64_MAX

/* gRPC's own numbers; those that something is done about. */
enum kmtls_grpc_code {
	KMTLS_GRPC_OK = 0,
	KMTLS_GRPC_CANCELLED = 1,
	KMTLS_GRPC_UNKNOWN = 2,
	KMTLS_GRPC_INVALID_ARGUMENT = 3,
	KMTLS_GRPC_DEADLINE_EXCEEDED = 4,
	KMTLS_GRPC_PERMISSION_DENIED = 7,
	KMTLS_GRPC_RESOURCE_EXHAUSTED = 8,
	KMTLS_GRPC_UNIMPLEMENTED = 12,
	KMTLS_GRPC_INTERNAL = 13,
	KMTLS_GRPC_UNAVAILABLE = 14,
	KMTLS_GRPC_UNAUTHENTICATED = 16,
	KMTLS_GRPC_CODES
};

/* "PermissionDenied"; "code of no meaning" for numbers that gRPC does not have. */
const char *kmtls_grpc_code_name(unsigned code);

struct kmtls_grpc;
struct kmtls_grpc_call;

struct kmtls_grpc_options {
	/* ms; how long the first answer may take, and any answer that has begun. */
	unsigned deadline;
	/* ms of silence after which the agent is asked whether it is there; it has deadline to say
	 * so. Servers are cross with clients that ask more often than every five minutes. */
	unsigned ping;
};

struct kmtls_grpc_handler {
	/* One answer; the bytes are zeroed when this returns. Anything but 0 ends the call, and
	 * closed() does not follow. */
	int (*message)(void *context, const uint8_t *bytes, size_t length);
	/* The server ended the call, or broke a rule; what the server says may be in why, bytes
	 * of any kind. The call is gone when this returns. */
	void (*closed)(void *context, unsigned code, const char *why);
};

/* Connects to a path. -errno, and a sentence (KMTLS_GRPC_WHY). Does not block. */
int kmtls_grpc_connect(const char *path, int *ret_fd, char *ret_why);

/* Takes fd, also if it fails. -ENOMEM. */
int kmtls_grpc_open(int fd, const struct kmtls_grpc_options *options, struct kmtls_grpc **ret_grpc);
/* Handlers are not called any more. NULL is fine. */
void kmtls_grpc_close(struct kmtls_grpc *grpc);

/*
 * Begins a call of path ("/package.Service/Method") with one message, which is copied. Handlers are
 * called from kmtls_grpc_step() only, and may begin and cancel calls. -ENOMEM; -EPIPE: the
 * connection takes no more calls.
 */
int kmtls_grpc_call(struct kmtls_grpc *grpc, const char *path, const uint8_t *request,
		    size_t length, const struct kmtls_grpc_handler *handler, void *context,
		    struct kmtls_grpc_call **ret_call);
/* closed() does not follow. */
void kmtls_grpc_cancel(struct kmtls_grpc_call *call);

int kmtls_grpc_fd(const struct kmtls_grpc *grpc);
short kmtls_grpc_events(struct kmtls_grpc *grpc); /* for poll() */
/* When step must be called at the latest: ms of CLOCK_MONOTONIC, or KMTLS_GRPC_NEVER. */
int64_t kmtls_grpc_due(const struct kmtls_grpc *grpc);
/* Reads and writes what can be, and looks at the deadlines. Anything but 0: the connection is of no
 * use any more; a sentence is in ret_why, and calls that were open are closed without a word. */
int kmtls_grpc_step(struct kmtls_grpc *grpc, char *ret_why);

int64_t kmtls_grpc_now(void); /* ms of CLOCK_MONOTONIC */

#endif
