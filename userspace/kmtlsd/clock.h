/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - the time by which certificates are judged. A wall clock that goes back must not revive
 * what has expired: beyond a tolerance the latest time that was seen goes on instead, carried by
 * CLOCK_BOOTTIME, which nobody can set. It is kept in the shared memory, so it holds for the next
 * worker and across an upgrade; a keeper that is started anew believes the clock again.
 *
 * Only a time that the clock has kept for a while counts as seen: a jump ahead that is taken
 * back within a minute leaves nothing behind.
 */
#ifndef KMTLS_CLOCK_H
#define KMTLS_CLOCK_H

#include <linux/types.h>
#include <stdbool.h>
#include <time.h>

/* Seconds the clock may go back without being doubted: as much as clocks of nodes may differ. */
#define KMTLS_CLOCK_TOLERANCE 300
/* Seconds a time must hold to count as seen. */
#define KMTLS_CLOCK_SETTLE 60

/* In the shared memory. All zero: nothing has been seen. Offsets are seconds from CLOCK_BOOTTIME
 * to CLOCK_REALTIME. */
struct kmtls_clock {
	_Atomic __s64 latest; /* the highest that has settled */
	_Atomic __s64 window_lowest; /* since window_began */
	_Atomic __s64 window_began; /* CLOCK_BOOTTIME, seconds */
	_Atomic __u32 seen; /* the rest means something */
	_Atomic __u32 doubted; /* the clock is behind, and it was said so */
};

/* From now on; until then kmtls_clock_now() is the wall clock. */
void kmtls_clock_open(struct kmtls_clock *clock);

/* Seconds since the epoch. Any thread. */
time_t kmtls_clock_now(void);

/* Seconds by which the wall clock is behind the latest time seen, if it is doubted; else 0. */
time_t kmtls_clock_behind(void);

/* Once a second, in one thread: remembers, and says when the clock begins or ceases to be
 * doubted. */
void kmtls_clock_tick(void);

/* ---- the same for given times, for tests ---- */

time_t kmtls_clock_judge(const struct kmtls_clock *clock, __s64 wall, __s64 boot);
void kmtls_clock_see(struct kmtls_clock *clock, __s64 wall, __s64 boot);

#endif
