/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refusals.h - how many log lines refusals are worth. A stranger decides how many connections are
 * refused, and must not decide how much is written: so many lines a second of each reason, then
 * one that says how many were left out. Counters are not touched by it. Any thread.
 */
#ifndef KMTLS_REFUSALS_H
#define KMTLS_REFUSALS_H

#include <stdbool.h>

#include "kmtls/abi.h"

void kmtls_refusals_set_lines(unsigned lines); /* a second, for each reason; 0: no limit */
/* false: this one was left out, and will be summed up. */
bool kmtls_refusals_worth_a_line(enum kmtls_reason reason);
/* Once a second: sums up, and begins anew. */
void kmtls_refusals_tick(void);

#endif
