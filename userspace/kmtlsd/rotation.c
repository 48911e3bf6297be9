/* SPDX-License-Identifier: Apache-2.0 */
/* rotation.c - see rotation.h. */
#include "rotation.h"

#define TENTHS (KMTLS_ROTATION_JITTER * 10) /* of a percent */

time_t kmtls_rotation_due(time_t issued, time_t not_after, unsigned percent, __u32 random)
{
	__s64 permille = (__s64)percent * 10 - TENTHS + (__s64)(random % (2 * TENTHS + 1));

	return issued + (not_after - issued) * permille / 1000;
}

unsigned kmtls_rotation_retry(unsigned failures, __u32 random)
{
	unsigned seconds = 1;

	for (unsigned i = 1; i < failures && seconds < KMTLS_ROTATION_RETRY_MAX / 2; i++)
		seconds *= 2;
	seconds += random % seconds; /* nothing for the first one */
	return seconds < KMTLS_ROTATION_RETRY_MAX ? seconds : KMTLS_ROTATION_RETRY_MAX;
}
