/* SPDX-License-Identifier: Apache-2.0 */
/* rotation.h - when an SVID is replaced by the next one, and when a try that failed is repeated. */
#ifndef KMTLS_ROTATION_H
#define KMTLS_ROTATION_H

#include <linux/types.h>
#include <time.h>

/* Percent of the lifetime, either way, by which pods that were enrolled together drift apart. */
#define KMTLS_ROTATION_JITTER 3
/* Seconds between two tries at most. */
#define KMTLS_ROTATION_RETRY_MAX 60

/* After percent of the time from issued to not_after; random is any number. */
time_t kmtls_rotation_due(time_t issued, time_t not_after, unsigned percent, __u32 random);
/* Seconds until the next try after so many failures in a row: 1, 2, 4, ... and as much again at
 * most, by chance. */
unsigned kmtls_rotation_retry(unsigned failures, __u32 random);

#endif
