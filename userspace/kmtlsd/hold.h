/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold.h - held SYNs (bpf/hold.bpf.c): takes them from the ring buffer, knows which handshake
 * answers which, and lets them go or answers them.
 *
 * An attempt is a socket cookie and an initial sequence number: a repeated SYN has both, the
 * same socket connecting anew has another number. Whichever event loop takes an event from the
 * ring owns that attempt; the application's connection, once accepted, may arrive in another
 * one and is passed to the owner.
 */
#ifndef KMTLS_HOLD_H
#define KMTLS_HOLD_H

#include <linux/types.h>
#include <stdbool.h>

#include "kmtls/abi.h"
#include "kmtls/internal_maps.h"

struct kmtls_daemon;
struct kmtls_handshake;
struct kmtls_hold;
struct kmtls_loop;

/* Part of a client's handshake; zero while it holds no SYN. */
struct kmtls_attempt {
	struct kmtls_attempt *next; /* in its bucket */
	bool listed;
	__u64 cookie;
	__u32 sequence;
	unsigned loop, slot, generation; /* who owns it */
	bool passed; /* the SYN was let go */
	int error; /* errno of the failed dial */
	__u32 packet_length;
	__u8 packet[KMTLS_EVENT_PACKET];
};

int kmtls_hold_open(struct kmtls_daemon *daemon, struct kmtls_hold **ret_hold, char *ret_why);
void kmtls_hold_close(struct kmtls_hold *hold);
/* An edge when events come: each loop watches it, one is woken. */
int kmtls_hold_fd(const struct kmtls_hold *hold);
/* Takes up to budget events on behalf of loop, unless another loop is at it. true: there are more,
 * and they are for this loop to take; no edge comes for them. */
bool kmtls_hold_consume(struct kmtls_hold *hold, struct kmtls_loop *loop, unsigned budget);

/* The peer's application has accepted: the application's connect() may complete. */
void kmtls_hold_pass(struct kmtls_hold *hold, struct kmtls_handshake *handshake);
/* The same, after a take-over: as the slot says. */
void kmtls_hold_resume(struct kmtls_hold *hold, struct kmtls_handshake *handshake);
/* The attempt has failed: answers the SYN as its reason deserves, silence included. */
void kmtls_hold_answer(struct kmtls_hold *hold, struct kmtls_handshake *handshake,
		       enum kmtls_reason reason);
/* The handshake is over, one way or the other. */
void kmtls_hold_forget(struct kmtls_hold *hold, struct kmtls_handshake *handshake);

/*
 * A turned connection was accepted in loop. true: it belongs to an attempt and was given to
 * its owner, fd included. false: nobody waits for it.
 */
bool kmtls_hold_claim(struct kmtls_hold *hold, struct kmtls_loop *loop, __u64 cookie, int fd);

#endif
