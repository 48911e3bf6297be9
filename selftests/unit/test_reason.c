/* SPDX-License-Identifier: Apache-2.0 */
/* test_reason.c - every reason code has a name and a text of its own, and nothing else has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <string.h>

#include "reason.h"

static const enum kmtls_reason all[] = {
#define REASON_NUMBER(number, symbol, name, text) number,
	KMTLS_REASONS(REASON_NUMBER)
#undef REASON_NUMBER
};

#define COUNT (sizeof(all) / sizeof(all[0]))

static void names_and_texts(void **state)
{
	assert_string_equal(kmtls_reason_name(KMTLS_REASON_NONE), "none");
	assert_string_equal(kmtls_reason_name(KMTLS_REASON_UNKNOWN_CA), "unknown-ca");
	assert_string_equal(kmtls_reason_text(KMTLS_REASON_NO_CERTIFICATE),
			    "the peer presented no certificate");
	assert_string_equal(kmtls_reason_name(KMTLS_REASON_STEERED), "steered");
}

static void names_are_unique(void **state)
{
	size_t i, j;

	for (i = 0; i < COUNT; i++) {
		const char *name = kmtls_reason_name(all[i]);

		assert_string_not_equal(name, "unknown");
		/* They are values in logs and labels in metrics. */
		assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz-"), strlen(name));
		for (j = 0; j < i; j++)
			assert_string_not_equal(name, kmtls_reason_name(all[j]));
	}
}

static void unknown_numbers(void **state)
{
	static const int numbers[] = { 11, 28, 79, 128, 129, 1 << 30, -1 };
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		assert_string_equal(kmtls_reason_name(numbers[i]), "unknown");
		assert_string_equal(kmtls_reason_text(numbers[i]), "unknown");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_texts),
		cmocka_unit_test(names_are_unique),
		cmocka_unit_test(unknown_numbers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("reason", tests, NULL, NULL);
}
