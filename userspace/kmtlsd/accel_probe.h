/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accel_probe.h - what an application would notice if its connection's bytes came to it through a
 * sockmap instead of TCP (docs/accel.md): asked of the running kernel, on sockets of our own.
 */
#ifndef KMTLS_ACCEL_PROBE_H
#define KMTLS_ACCEL_PROBE_H

#include <stddef.h>

/* What does not work on a socket that bytes were redirected to. */
#define KMTLS_ACCEL_NO_SPLICE 1u /* splice() from it finds nothing */
#define KMTLS_ACCEL_NO_FIONREAD 2u /* FIONREAD does not count them */
#define KMTLS_ACCEL_NO_WAITALL 4u /* MSG_WAITALL comes back with a part */
#define KMTLS_ACCEL_NO_RESET 8u /* a blocked recv() that meets a reset says EAGAIN */
#define KMTLS_ACCEL_NO_UNREAD 16u /* closing it with bytes unread ends in order, not in a reset */

/*
 * The defects of this kernel, 0: an application would notice nothing. -ENOBUFS: what is redirected is
 * bounded by nothing; -errno: sk_msg cannot be used at all. Takes some milliseconds; forks, so only for a process with one thread.
 */
int kmtls_accel_probe(void);

/* "splice, FIONREAD": names them, "" without any. */
#define KMTLS_ACCEL_TEXT 64
const char *kmtls_accel_defects(unsigned defects, char ret_text[KMTLS_ACCEL_TEXT]);

#endif
