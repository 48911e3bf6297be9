/* SPDX-License-Identifier: Apache-2.0 */
/* test_kernel_floor.c - which kernel runs, and whether it is below the floor of its series. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "kernel_floor.h"

#define DEBIAN(version) "#1 SMP PREEMPT_DYNAMIC Debian " version " (2026-08-11)"

static const struct {
	const char *release, *version;
	enum kmtls_kernel_verdict verdict;
	const char *why; /* a part of it */
} kernels[] = {
	/* What distributions keep the first release of a series for. */
	{ "6.1.0-56-amd64", DEBIAN("6.1.192-1"), KMTLS_KERNEL_FINE, "" },
	{ "6.1.0-49-amd64", DEBIAN("6.1.191-1"), KMTLS_KERNEL_BELOW_FLOOR,
	  "6.1.191 is below the security floor 6.1.192: CVE-2026-93824" },
	{ "6.1.0", "#1 SMP", KMTLS_KERNEL_BELOW_FLOOR,
	  "6.1.0 is below the security floor 6.1.192" },
	{ "6.1.193", "#1 SMP", KMTLS_KERNEL_FINE, "" },
	{ "6.12.117+deb12-amd64", DEBIAN("6.12.117-1~bpo12+1"), KMTLS_KERNEL_FINE, "" },
	{ "6.12.111-cloud", "#1 SMP", KMTLS_KERNEL_FINE, "" },
	{ "6.12.110", "#1 SMP", KMTLS_KERNEL_BELOW_FLOOR,
	  "6.12.110 is below the security floor 6.12.111" },
	{ "6.12.9", "#1 SMP", KMTLS_KERNEL_BELOW_FLOOR, "6.12.9" },
	{ "7.2.0", "#1 SMP", KMTLS_KERNEL_FINE, "" },
	{ "7.2-rc1", "#1 SMP", KMTLS_KERNEL_FINE, "" },
	{ "6.18.44", "#1 SMP", KMTLS_KERNEL_UNTESTED, "6.18.44 is of a series" },
	{ "6.0.19", "#1 SMP", KMTLS_KERNEL_TOO_OLD, "6.0.19 is below 6.1" },
	{ "5.15.0-130-generic", "#140-Ubuntu SMP", KMTLS_KERNEL_TOO_OLD, "5.15.0" },
	{ "4.9.337", "#1 SMP", KMTLS_KERNEL_TOO_OLD, "4.9.337" },
	{ "next", "#1 SMP", KMTLS_KERNEL_UNREADABLE, "cannot be told from next" },
	{ "6.1.192", DEBIAN("unknown"), KMTLS_KERNEL_FINE, "" },
};

static void test_judge(void **state)
{
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		char why[256];

		assert_int_equal(kmtls_kernel_judge(kernels[i].release, kernels[i].version, why,
						    sizeof(why)),
				 kernels[i].verdict);
		assert_non_null(strstr(why, kernels[i].why));
		assert_int_equal(!*why, kernels[i].verdict == KMTLS_KERNEL_FINE);
	}
}

static void test_cut(void **state)
{
	char why[16];

	kmtls_kernel_judge("6.12.9", "#1 SMP", why, sizeof(why));
	assert_int_equal(strlen(why), sizeof(why) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_judge),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
