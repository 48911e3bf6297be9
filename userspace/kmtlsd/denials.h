/* SPDX-License-Identifier: Apache-2.0 */
/*
 * denials.h - what the programs refused, told in the log: a connect(), a SYN from outside, a packet
 * that the backstop dropped. They have counted it; here is only the line, as often as other
 * refusals are worth one (refusals.h).
 */
#ifndef KMTLS_DENIALS_H
#define KMTLS_DENIALS_H

#include <stddef.h>

struct kmtls_pods;

/* An element of the ring buffer, of type KMTLS_EVENT_DENIED. What is not whole is left out. */
void kmtls_denials_log(struct kmtls_pods *pods, const void *event, size_t size);

#endif
