/* SPDX-License-Identifier: Apache-2.0 */
/*
 * denials.h - what the programs refused, told in the log: a connect(), a SYN from outside, a packet
 * that the backstop dropped. They have counted it; here is only the line, as often as other
 * refusals are worth one (refusals.h), and up to a second later.
 */
#ifndef KMTLS_DENIALS_H
#define KMTLS_DENIALS_H

struct kmtls_daemon;
struct kmtls_denials;

/* ret_why: 256 bytes. */
int kmtls_denials_open(struct kmtls_daemon *daemon, struct kmtls_denials **ret_denials,
		       char *ret_why);
/* Once a second: those there are. */
void kmtls_denials_tick(struct kmtls_denials *denials);
void kmtls_denials_close(struct kmtls_denials *denials);

#endif
