/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_floor.h - the oldest kernel of each series whose TLS and socket maps have no known hole,
 * and which kernels kmtls was tested on. One table, for `kmtls check`.
 */
#ifndef KMTLS_KERNEL_FLOOR_H
#define KMTLS_KERNEL_FLOOR_H

#include <stdbool.h>
#include <stddef.h>

struct kmtls_kernel_version {
	unsigned major, minor, patch;
};

enum kmtls_kernel_verdict {
	KMTLS_KERNEL_FINE,
	KMTLS_KERNEL_UNTESTED, /* a series nobody has looked at */
	KMTLS_KERNEL_BELOW_FLOOR, /* of its series */
	KMTLS_KERNEL_TOO_OLD, /* kmtls needs 6.1 */
	KMTLS_KERNEL_UNREADABLE, /* its version cannot be told */
};

/*
 * What runs: of release and version as uname() gives them. Distributions keep the release of the
 * first kernel of a series and say which one it really is in version ("Debian 6.1.192-1").
 */
bool kmtls_kernel_version_parse(const char *release, const char *version,
				struct kmtls_kernel_version *ret_version);

/* ret_why: a sentence that names version, floor and reason; empty if it is fine. */
enum kmtls_kernel_verdict kmtls_kernel_judge(const char *release, const char *version,
					     char *ret_why, size_t size);

#endif
