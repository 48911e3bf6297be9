/* SPDX-License-Identifier: Apache-2.0 */
/*
 * takeover.h - a worker begins where another one was killed. What that one had open is in the
 * table of descriptors; what it meant is in the flow table and in the shared memory. Flows go on,
 * handshakes in progress are reset (the application's SYN is still held, its data untouched),
 * connections that were accepted but not looked at are begun anew, all else is closed.
 */
#ifndef KMTLS_TAKEOVER_H
#define KMTLS_TAKEOVER_H

struct kmtls_daemon;
struct kmtls_takeover;

/* Before the worker opens anything of its own: notes what is open. */
int kmtls_takeover_open(struct kmtls_daemon *daemon, struct kmtls_takeover **ret_takeover,
			char *ret_why);
/* Brings the flow table in order and closes what nobody needs. Before the loops are made. */
void kmtls_takeover_begin(struct kmtls_takeover *takeover);
/* With pods enrolled again and loops running, but nothing admitted yet: what needs them. */
void kmtls_takeover_finish(struct kmtls_takeover *takeover);
void kmtls_takeover_close(struct kmtls_takeover *takeover);

#endif
