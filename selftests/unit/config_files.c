/* SPDX-License-Identifier: Apache-2.0 */
/* config_files.c - see config_files.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "config_files.h"

char test_config_path[64];

void test_config_put(const char *text, size_t length)
{
	FILE *file = fopen(test_config_path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

static void test_bad(void **state)
{
	const struct test_config_bad *bad = *state;
	struct kmtls_config *config = (void *)1;
	char error[KMTLS_CONFIG_ERROR], expected[KMTLS_CONFIG_ERROR];

	test_config_put(bad->text, strlen(bad->text));
	snprintf(expected, sizeof(expected), "%s%s", test_config_path, bad->error);
	assert_int_equal(kmtls_config_load(test_config_path, &config, error), -EINVAL);
	assert_string_equal(error, expected);
	assert_ptr_equal(config, (void *)1); /* written only on success */
}

struct kmtls_config *test_config_load(const char *text)
{
	struct kmtls_config *config = NULL;
	char error[KMTLS_CONFIG_ERROR];
	int err;

	test_config_put(text, strlen(text));
	err = kmtls_config_load(test_config_path, &config, error);
	assert_string_equal(error, "");
	assert_int_equal(err, 0);
	return config;
}

int test_config_begin(void)
{
	int fd;

	snprintf(test_config_path, sizeof(test_config_path), "/tmp/kmtls-test-config-XXXXXX");
	fd = mkstemp(test_config_path);
	if (fd < 0)
		return -1;
	close(fd);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return 0;
}

int test_config_refused(const char *name, const struct test_config_bad *rows, size_t count)
{
	struct CMUnitTest *tests = calloc(count, sizeof(*tests));
	int failed;

	if (!tests || test_config_begin() < 0)
		return 1;
	for (size_t i = 0; i < count; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].name,
						.test_func = test_bad,
						.initial_state = (void *)&rows[i] };
	failed = _cmocka_run_group_tests(name, tests, count, NULL, NULL);
	unlink(test_config_path);
	free(tests);
	return failed;
}
