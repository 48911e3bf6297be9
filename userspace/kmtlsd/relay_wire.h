/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay_wire.h - what of a relay depends on what the wire speaks: kernel TLS (relay_tls.c) or
 * nothing but TCP (relay_plain.c). The rest is relay.c.
 */
#ifndef KMTLS_RELAY_WIRE_H
#define KMTLS_RELAY_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "loop.h"

/* What one attempt to move bytes came to. */
enum kmtls_step {
	KMTLS_STEP_IDLE, /* nothing to do now: wait for an event */
	KMTLS_STEP_MOVED,
	KMTLS_STEP_ENDED, /* the flow is gone: do not touch it */
};

struct kmtls_relay_wire {
	/* What comes before bytes are moved in this round. IDLE: nothing. MOVED: that was this round.
	 * *ret_wait: IDLE, and bytes may not be moved yet. */
	enum kmtls_step (*prepare)(struct kmtls_loop *loop, unsigned slot, bool *ret_wait);
	/* size bytes passed the wire. */
	void (*count)(struct kmtls_flow_private *private, enum kmtls_way way, size_t size);
	/* The wire has no bytes but error; 0: the end of the stream. */
	enum kmtls_step (*no_data)(struct kmtls_loop *loop, unsigned slot, int error);
	/* All is sent, the wire is about to be shut down. MOVED: it may be. */
	enum kmtls_step (*say_end)(struct kmtls_loop *loop, unsigned slot);
	/* Sets wire_finished when nothing more can come. */
	enum kmtls_step (*await_end)(struct kmtls_loop *loop, unsigned slot);
};

extern const struct kmtls_relay_wire kmtls_relay_tls, kmtls_relay_plain;

/* ---- relay_accel.c ---- */

/*
 * One read of an accelerated local leg, into the wire; what it does not take is put into the pipe, which
 * must be there and empty. IDLE: nothing came, *ret_taken is 0 at the end of the stream or -1 with errno.
 */
enum kmtls_step kmtls_relay_carry(struct kmtls_loop *loop, unsigned slot, ssize_t *ret_taken);

/* ---- of relay.c, for these ---- */

const struct kmtls_relay_wire *kmtls_relay_wire_of(const struct kmtls_flow *flow);

/* kmtls_relay_reset(), as the last step. */
enum kmtls_step kmtls_relay_end(struct kmtls_loop *loop, unsigned slot, enum kmtls_reason reason);
/* Which side failed with error, as a reason. */
enum kmtls_reason kmtls_relay_failure(enum kmtls_tag side, int error);
/* What looks like an end in order on a socket that has sent no FIN, was it a reset? */
bool kmtls_relay_was_reset(int fd);

#endif
