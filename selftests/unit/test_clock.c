/* SPDX-License-Identifier: Apache-2.0 */
/* test_clock.c - what a clock that jumps does to the time that certificates are judged by. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "clock.h"

#define NOW 1800000000ll

/* A second each, with the wall clock that far from the boot time. */
static void pass(struct kmtls_clock *clock, __s64 *boot, unsigned seconds, __s64 offset)
{
	while (seconds--) {
		++*boot;
		kmtls_clock_see(clock, offset + *boot, *boot);
	}
}

static void nothing_seen(void **state)
{
	struct kmtls_clock clock = { .seen = 0 };

	assert_int_equal(kmtls_clock_judge(NULL, 5, 10), 5);
	assert_int_equal(kmtls_clock_judge(&clock, 5, 10), 5);
}

static void goes_on(void **state)
{
	struct kmtls_clock clock = { .seen = 0 };
	__s64 boot = 100;

	pass(&clock, &boot, 500, NOW);
	assert_int_equal(kmtls_clock_judge(&clock, NOW + boot, boot), NOW + boot);
	assert_int_equal(kmtls_clock_judge(&clock, NOW + boot + 7, boot), NOW + boot + 7);
}

static void back_within_tolerance(void **state)
{
	struct kmtls_clock clock = { .seen = 0 };
	__s64 boot = 100;

	pass(&clock, &boot, 10, NOW);
	pass(&clock, &boot, 200, NOW - KMTLS_CLOCK_TOLERANCE);
	assert_int_equal(kmtls_clock_judge(&clock, NOW - KMTLS_CLOCK_TOLERANCE + boot, boot),
			 NOW - KMTLS_CLOCK_TOLERANCE + boot);
	/* Small steps add up: they are counted from the latest time, not from one another. */
	assert_int_equal(kmtls_clock_judge(&clock, NOW - KMTLS_CLOCK_TOLERANCE - 1 + boot, boot),
			 NOW + boot);
}

static void back_too_far(void **state)
{
	struct kmtls_clock clock = { .seen = 0 };
	__s64 boot = 100;

	pass(&clock, &boot, 10, NOW);
	pass(&clock, &boot, 5000, NOW - 86400);
	assert_int_equal(kmtls_clock_judge(&clock, NOW - 86400 + boot, boot), NOW + boot);
	/* It is set right again. */
	assert_int_equal(kmtls_clock_judge(&clock, NOW + boot, boot), NOW + boot);
}

static void ahead_for_a_moment(void **state)
{
	struct kmtls_clock clock = { .seen = 0 };
	__s64 boot = 100;

	pass(&clock, &boot, 130, NOW);
	pass(&clock, &boot, KMTLS_CLOCK_SETTLE - 1, NOW + 86400);
	assert_int_equal(kmtls_clock_judge(&clock, NOW + 86400 + boot, boot), NOW + 86400 + boot);
	pass(&clock, &boot, 200, NOW);
	assert_int_equal(kmtls_clock_judge(&clock, NOW + boot, boot), NOW + boot);
}

static void ahead_for_good(void **state)
{
	struct kmtls_clock clock = { .seen = 0 };
	__s64 boot = 100;

	pass(&clock, &boot, 130, NOW - 86400);
	pass(&clock, &boot, 2 * KMTLS_CLOCK_SETTLE + 2, NOW);
	assert_int_equal(kmtls_clock_judge(&clock, NOW - 86400 + boot, boot), NOW + boot);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_seen),		 cmocka_unit_test(goes_on),
		cmocka_unit_test(back_within_tolerance), cmocka_unit_test(back_too_far),
		cmocka_unit_test(ahead_for_a_moment),	 cmocka_unit_test(ahead_for_good),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
