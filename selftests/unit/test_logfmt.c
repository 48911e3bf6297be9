/* SPDX-License-Identifier: Apache-2.0 */
/* test_logfmt.c - what the log writes is what is read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "json.h"
#include "log.h"
#include "logfmt.h"

static const char *get(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static void test_quoted(void **state)
{
	static const char *const values[] = { "a",
					      "",
					      "two words",
					      "a=b",
					      "say \"no\"",
					      "back\\slash",
					      "line\nnext\rback\ttab",
					      "\x01\x7f",
					      "end\\",
					      "flow=9.9 reason=fake" };

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		json_t *object = json_object();
		char line[1024];

		snprintf(line, sizeof(line), " flow=1.2 text=%s reason=ended",
			 kmtls_log_quote(values[i]));
		kmtls_logfmt_read(line, object);
		assert_string_equal(get(object, "flow"), "1.2");
		assert_string_equal(get(object, "text"), values[i]);
		assert_string_equal(get(object, "reason"), "ended");
		assert_int_equal(json_object_size(object), 3);
		json_decref(object);
	}
}

static void test_kept(void **state)
{
	json_t *object = json_pack("{s:s}", "time", "now");

	kmtls_logfmt_read("time=never pod=a pod=b", object);
	assert_string_equal(get(object, "time"), "now");
	assert_string_equal(get(object, "pod"), "a");
	json_decref(object);
}

/* Cut lines, and what no pair ever was. */
static void test_broken(void **state)
{
	static const char *const lines[] = { "",	 " ",	  "word",	"=value",
					     "a",	 "a=\"b", "a=\"b\\",	"a=\"\\x",
					     "a=\"\\xf", " = ",	  "a=\"\\x00\"" };

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		json_t *object = json_object();

		kmtls_logfmt_read(lines[i], object);
		assert_true(json_object_size(object) <= 1);
		json_decref(object);
	}
}

static void test_not_utf8(void **state)
{
	json_t *object = json_object();

	kmtls_logfmt_read("id=\"a\\xffb\"", object);
	assert_string_equal(get(object, "id"), "a?b");
	json_decref(object);
}

static void test_long(void **state)
{
	static char line[5000];
	json_t *object = json_object();

	memset(line, 'x', sizeof(line) - 1);
	memcpy(line, "a=", 2);
	memcpy(line + 4000, " b=c ", 5);
	kmtls_logfmt_read(line, object);
	assert_int_equal(strlen(get(object, "a")), 1023);
	assert_string_equal(get(object, "b"), "c");
	json_decref(object);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quoted), cmocka_unit_test(test_kept),
		cmocka_unit_test(test_broken), cmocka_unit_test(test_not_utf8),
		cmocka_unit_test(test_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
