/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_floor.c - see kernel_floor.h. */
#include <stdio.h>
#include <string.h>

#include "kernel_floor.h"

/*
 * Sources: Debian's security tracker. CVE-2026-93824: a socket could be in a sockmap and have TLS at
 * the same time; in Debian fixed in 6.1.190 and 6.12.111, in mainline since June 2026.
 * CVE-2026-74611: the retry of TLS_RX_EXPECT_NO_PAD; fixed in Debian's 6.1.192. kmtls uses neither,
 * but whoever else is on the node may.
 */
static const struct {
	struct kmtls_kernel_version floor; /* patch 0: no hole is known in the series */
	const char *why;
} floors[] = {
	{ { 6, 1, 192 }, "CVE-2026-93824 (TLS with sockmap), CVE-2026-74611 (TLS receive)" },
	{ { 6, 12, 111 }, "CVE-2026-93824 (TLS with sockmap)" },
	{ { 7, 2, 0 }, "" },
};

static bool parse(const char *text, struct kmtls_kernel_version *ret_version)
{
	struct kmtls_kernel_version version = { .patch = 0 };

	if (sscanf(text, "%3u.%3u.%5u", &version.major, &version.minor, &version.patch) < 2)
		return false;
	*ret_version = version;
	return true;
}

bool kmtls_kernel_version_parse(const char *release, const char *version,
				struct kmtls_kernel_version *ret_version)
{
	const char *debian = strstr(version, "Debian ");

	if (debian && parse(debian + strlen("Debian "), ret_version))
		return true;
	return parse(release, ret_version);
}

enum kmtls_kernel_verdict kmtls_kernel_judge(const char *release, const char *version,
					     char *ret_why, size_t size)
{
	struct kmtls_kernel_version found;

	*ret_why = '\0';
	if (!kmtls_kernel_version_parse(release, version, &found)) {
		snprintf(ret_why, size, "the version of the kernel cannot be told from %.64s",
			 release);
		return KMTLS_KERNEL_UNREADABLE;
	}
	if (found.major < 6 || (found.major == 6 && found.minor < 1)) {
		snprintf(ret_why, size,
			 "kernel %u.%u.%u is below 6.1, the oldest that kmtls works on",
			 found.major, found.minor, found.patch);
		return KMTLS_KERNEL_TOO_OLD;
	}
	for (size_t i = 0; i < sizeof(floors) / sizeof(floors[0]); i++) {
		const struct kmtls_kernel_version *floor = &floors[i].floor;

		if (found.major != floor->major || found.minor != floor->minor)
			continue;
		if (found.patch >= floor->patch)
			return KMTLS_KERNEL_FINE;
		snprintf(ret_why, size, "kernel %u.%u.%u is below the security floor %u.%u.%u: %s",
			 found.major, found.minor, found.patch, floor->major, floor->minor,
			 floor->patch, floors[i].why);
		return KMTLS_KERNEL_BELOW_FLOOR;
	}
	snprintf(ret_why, size,
		 "kernel %u.%u.%u is of a series kmtls was not tested on (6.1, 6.12, 7.2 were)",
		 found.major, found.minor, found.patch);
	return KMTLS_KERNEL_UNTESTED;
}
