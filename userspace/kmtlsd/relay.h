/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay.h - an established flow: bytes from the application into kernel TLS (or, where plaintext
 * is allowed, into plain TCP) and back, by splice, never through user space; and its end, as what
 * it is.
 */
#ifndef KMTLS_RELAY_H
#define KMTLS_RELAY_H

#include <stdbool.h>

#include "loop.h"

/* Moves what can be moved, within a budget; more is left to kmtls_loop_again(). May end the
 * flow. error: an event said that one of the sockets failed. */
void kmtls_relay_pump(struct kmtls_loop *loop, unsigned slot, bool error);
/* The same after epoll's events of one side: the other one is not asked for bytes. */
void kmtls_relay_event(struct kmtls_loop *loop, unsigned slot, enum kmtls_tag side, __u32 events);
/* Resets both sides and frees the slot. */
void kmtls_relay_reset(struct kmtls_loop *loop, unsigned slot, enum kmtls_reason reason);

/* Closes everything the slot names, as the sockets' SO_LINGER says, and frees it. Counts nothing. */
void kmtls_relay_release(struct kmtls_loop *loop, unsigned slot);

#endif
