/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_accel.c - what the kernel is asked about sk_msg, and what follows from it for pods. The answers
 * themselves are compared with what an application sees in selftests/vm/cases/accel.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "accel.h"
#include "accel_probe.h"
#include "daemon.h"

static void probe(void **state)
{
	int defects = kmtls_accel_probe();

	if (defects == -EPERM || defects == -EACCES) {
		if (getenv("KMTLS_REQUIRE_ROOT"))
			fail_msg("sk_msg cannot be tried without the right to");
		skip();
	}
	assert_true(defects >= 0);
	/* The same at each time, and nobody is left behind. */
	for (int i = 0; i < 5; i++)
		assert_int_equal(kmtls_accel_probe(), defects);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void descriptors(void **state)
{
	int before = dup(0), after;

	close(before);
	kmtls_accel_probe();
	after = dup(0);
	close(after);
	assert_int_equal(after, before);
}

static void defects_have_names(void **state)
{
	char text[KMTLS_ACCEL_TEXT];

	assert_string_equal(kmtls_accel_defects(0, text), "");
	assert_string_equal(kmtls_accel_defects(KMTLS_ACCEL_NO_SPLICE, text), "splice");
	assert_string_equal(kmtls_accel_defects(31, text),
			    "splice, FIONREAD, MSG_WAITALL, reset, close");
}

static void choices(void **state)
{
	static const enum kmtls_accel all[] = { KMTLS_ACCEL_AUTO, KMTLS_ACCEL_OFF, KMTLS_ACCEL_ON };
	enum kmtls_accel choice;

	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(kmtls_accel_parse(kmtls_accel_name(all[i]), &choice), 0);
		assert_int_equal(choice, all[i]);
	}
	assert_int_equal(kmtls_accel_parse(NULL, &choice), 0);
	assert_int_equal(choice, KMTLS_ACCEL_DEFAULT);
	assert_int_equal(kmtls_accel_parse("yes", &choice), -EINVAL);
	assert_int_equal(kmtls_accel_parse("", &choice), -EINVAL);
}

/* auto: only where an application would notice nothing; on: wherever it can be. */
static void which_pods(void **state)
{
	static const struct {
		bool usable;
		int defects;
		bool automatic, on;
	} rows[] = {
		{ true, 0, true, true },
		{ true, KMTLS_ACCEL_NO_RESET, false, true },
		{ false, 0, false, false },
		{ false, -EPERM, false, false },
	};
	struct kmtls_daemon daemon = {};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		daemon.accel.usable = rows[i].usable;
		daemon.accel.defects = rows[i].defects;
		assert_int_equal(kmtls_accel_is_on(&daemon, KMTLS_ACCEL_AUTO), rows[i].automatic);
		assert_int_equal(kmtls_accel_is_on(&daemon, KMTLS_ACCEL_ON), rows[i].on);
		assert_false(kmtls_accel_is_on(&daemon, KMTLS_ACCEL_OFF));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(probe),
		cmocka_unit_test(descriptors),
		cmocka_unit_test(defects_have_names),
		cmocka_unit_test(choices),
		cmocka_unit_test(which_pods),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("accel", tests, NULL, NULL);
}
