/* SPDX-License-Identifier: Apache-2.0 */
/* test_limits.c - handshakes in progress by source, and log lines by reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "cleanup.h"
#include "refusals.h"
#include "sources.h"

static struct kmtls_sources *sources;

static int enter(const char *text)
{
	struct kmtls_address address;

	assert_int_equal(kmtls_address_parse(text, &address), 0);
	return kmtls_sources_enter(sources, &address);
}

static void leave(const char *text)
{
	struct kmtls_address address;

	assert_int_equal(kmtls_address_parse(text, &address), 0);
	kmtls_sources_leave(sources, &address);
}

static void per_source(void **state)
{
	assert_int_equal(kmtls_sources_open(2, 0, 100, &sources), 0);
	assert_int_equal(enter("10.0.0.1"), 0);
	assert_int_equal(enter("10.0.0.1"), 0);
	assert_int_equal(enter("10.0.0.1"), -EDQUOT);
	assert_int_equal(enter("10.0.0.2"), 0);
	leave("10.0.0.1");
	assert_int_equal(enter("10.0.0.1"), 0);
	assert_int_equal(enter("10.0.0.1"), -EDQUOT);
	/* One /64 is one source, whatever the address; the next /64 is another. */
	assert_int_equal(enter("fd00:0:0:1::1"), 0);
	assert_int_equal(enter("fd00:0:0:1:ffff::2"), 0);
	assert_int_equal(enter("fd00:0:0:1::3"), -EDQUOT);
	assert_int_equal(enter("fd00:0:0:2::1"), 0);
	leave("fd00:0:0:1::1");
	assert_int_equal(enter("fd00:0:0:1::9"), 0);
	kmtls_sources_close(sources);
}

static void total(void **state)
{
	char text[32];

	assert_int_equal(kmtls_sources_open(0, 50, 100, &sources), 0);
	for (int i = 0; i < 50; i++) {
		snprintf(text, sizeof(text), "10.0.0.%d", i / 10);
		assert_int_equal(enter(text), 0);
	}
	assert_int_equal(enter("10.0.0.0"), -ENOSPC);
	assert_int_equal(enter("10.0.1.0"), -ENOSPC);
	leave("10.0.0.4");
	assert_int_equal(enter("10.0.1.0"), 0);
	assert_int_equal(enter("10.0.1.0"), -ENOSPC);
	kmtls_sources_close(sources);
	assert_int_equal(kmtls_sources_open(0, 0, 1, &sources), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(enter("10.0.0.0"), 0);
	kmtls_sources_close(sources);
}

/* What a tick writes to stderr. */
static void tick(char *ret_text, size_t size)
{
	__cleanup_file FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);
	ssize_t length;

	assert_non_null(file);
	dup2(fileno(file), STDERR_FILENO);
	kmtls_refusals_tick();
	dup2(saved, STDERR_FILENO);
	close(saved);
	length = pread(fileno(file), ret_text, size - 1, 0);
	assert_true(length >= 0);
	ret_text[length] = '\0';
}

static void lines(void **state)
{
	char text[1024];

	kmtls_refusals_set_lines(3);
	for (int i = 0; i < 10; i++)
		assert_int_equal(kmtls_refusals_worth_a_line(KMTLS_REASON_NOT_MESH), i < 3);
	/* Another reason has lines of its own. */
	for (int i = 0; i < 3; i++)
		assert_true(kmtls_refusals_worth_a_line(KMTLS_REASON_TABLE_FULL));
	tick(text, sizeof(text));
	assert_non_null(strstr(text, "msg=\"log lines left out\" reason=not-mesh suppressed=7\n"));
	assert_null(strstr(text, "table-full"));
	tick(text, sizeof(text));
	assert_string_equal(text, "");
	assert_true(kmtls_refusals_worth_a_line(KMTLS_REASON_NOT_MESH));
	kmtls_refusals_set_lines(0);
	for (int i = 0; i < 100; i++)
		assert_true(kmtls_refusals_worth_a_line(KMTLS_REASON_NOT_MESH));
	tick(text, sizeof(text));
	assert_string_equal(text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(per_source),
		cmocka_unit_test(total),
		cmocka_unit_test(lines),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
