/* SPDX-License-Identifier: Apache-2.0 */
/* test_log.c - one event is one line, whatever bytes its values hold. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "log.h"

#define TIME "time=[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z "

static int saved_stderr, capture_fd;
static char captured[65536];

static void begin(void)
{
	capture_fd = memfd_create("log", MFD_CLOEXEC);
	saved_stderr = dup(STDERR_FILENO);
	assert_true(capture_fd >= 0 && saved_stderr >= 0);
	assert_int_equal(dup2(capture_fd, STDERR_FILENO), STDERR_FILENO);
}

static const char *end(void)
{
	ssize_t length;

	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	length = pread(capture_fd, captured, sizeof(captured) - 1, 0);
	close(capture_fd);
	assert_true(length >= 0);
	captured[length] = '\0';
	assert_int_equal(strlen(captured), length); /* no zero bytes */
	return captured;
}

static void assert_matches(const char *text, const char *pattern)
{
	regex_t expression;

	assert_int_equal(regcomp(&expression, pattern, REG_EXTENDED | REG_NOSUB), 0);
	if (regexec(&expression, text, 0, NULL, 0))
		fail_msg("'%s' does not match '%s'", text, pattern);
	regfree(&expression);
}

static unsigned count_lines(const char *text)
{
	unsigned lines = 0;

	for (; *text; text++)
		lines += *text == '\n';
	return lines;
}

static void test_levels(void **state)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	static const int numbers[] = { 3, 4, 6, 7 };
	enum kmtls_log_level level;

	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(kmtls_log_parse_level(names[i], &level), 0);
		assert_int_equal(level, numbers[i]);
		assert_string_equal(kmtls_log_level_name(level), names[i]);
	}
	level = KMTLS_LOG_ERROR;
	assert_int_equal(kmtls_log_parse_level("Info", &level), -EINVAL);
	assert_int_equal(kmtls_log_parse_level("inf", &level), -EINVAL);
	assert_int_equal(kmtls_log_parse_level("", &level), -EINVAL);
	assert_int_equal(kmtls_log_parse_level("6", &level), -EINVAL);
	assert_int_equal(level, KMTLS_LOG_ERROR);
	assert_string_equal(kmtls_log_level_name(5), "unknown");
}

static void test_line(void **state)
{
	begin();
	errno = ENOENT;
	log_info("pod enrolled", "pod=%s cookie=%llu", "a", 7ULL);
	assert_int_equal(errno, ENOENT);
	log_error("bare", NULL);
	assert_matches(end(), "^" TIME "level=info msg=\"pod enrolled\" pod=a cookie=7\n" TIME
			      "level=error msg=\"bare\"\n$");
}

static void test_threshold(void **state)
{
	const char *text;

	begin();
	kmtls_log_set_level(KMTLS_LOG_WARNING);
	assert_int_equal(kmtls_log_get_level(), KMTLS_LOG_WARNING);
	log_error("one", NULL);
	log_warning("two", NULL);
	log_info("three", NULL);
	log_debug("four", NULL);
	kmtls_log_set_level(KMTLS_LOG_DEBUG);
	log_debug("five", NULL);
	kmtls_log_set_level(KMTLS_LOG_INFO);
	text = end();
	assert_int_equal(count_lines(text), 3);
	assert_non_null(strstr(text, "two"));
	assert_null(strstr(text, "three"));
	assert_null(strstr(text, "four"));
	assert_non_null(strstr(text, "level=debug msg=\"five\""));
}

static void test_quote(void **state)
{
	static const struct {
		const char *text, *quoted;
	} values[] = {
		{ "abc", "abc" },
		{ "spiffe://a.b/c-d_e", "spiffe://a.b/c-d_e" },
		{ "[fd00::1]:80", "[fd00::1]:80" },
		{ "", "\"\"" },
		{ "a b", "\"a b\"" },
		{ "a=b", "\"a=b\"" },
		{ "a\"b", "\"a\\\"b\"" },
		{ "a\\b", "\"a\\\\b\"" },
		{ "a\nb", "\"a\\nb\"" },
		{ "\r\t", "\"\\r\\t\"" },
		{ "\x01\x1b[31m\x7f", "\"\\x01\\x1b[31m\\x7f\"" },
		{ "\xc2\x9b", "\"\\xc2\\x9b\"" },
		{ "\xff", "\"\\xff\"" },
	};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		assert_string_equal(kmtls_log_quote(values[i].text), values[i].quoted);
	assert_string_equal(kmtls_log_quote(NULL), "\"\"");
}

static void test_quote_ring(void **state)
{
	const char *texts[8] = { "a", "b c", "d", "e f", "g", "h i", "j", "k l" }, *quoted[8];

	for (unsigned i = 0; i < 8; i++)
		quoted[i] = kmtls_log_quote(texts[i]);
	for (unsigned i = 0; i < 8; i++)
		assert_non_null(strstr(quoted[i], texts[i]));
}

static void test_quote_long(void **state)
{
	char text[2000];
	const char *quoted;

	for (unsigned plain = 0; plain < 2; plain++) {
		for (size_t length = 480; length < sizeof(text); length += 1 + length / 500 * 100) {
			memset(text, plain ? 'a' : '\n', length);
			text[length] = '\0';
			quoted = kmtls_log_quote(text);
			assert_true(strlen(quoted) < 512);
			if (length < 512 && plain)
				continue; /* may fit or not */
			assert_string_equal(quoted + strlen(quoted) - 4, "...\"");
		}
	}
}

/* A reader must not take what is left of a character for another one. */
static void test_quote_cut(void **state)
{
	char text[700];
	const char *quoted, *found;

	for (size_t at = 480; at < 512; at++) {
		memset(text, 'a', sizeof(text) - 1);
		text[sizeof(text) - 1] = '\0';
		memcpy(text + at, "%e2", 3);
		quoted = kmtls_log_quote(text);
		found = strchr(quoted, '%');
		assert_true(!found || !strncmp(found, "%e2", 3));
		memcpy(text + at, "\xe2\x82\xac", 3);
		quoted = kmtls_log_quote(text);
		found = strchr(quoted, '\\');
		assert_true(!found || !strncmp(found, "\\xe2\\x82\\xac", 12));
		assert_string_equal(quoted + strlen(quoted) - 4, "...\"");
	}
	/* No sequence at all: bytes are cut anywhere, but not lost. */
	memset(text, 0x80, sizeof(text) - 1);
	assert_true(strlen(kmtls_log_quote(text)) > 500);
}

static void test_quote_long_value(void **state)
{
	static char text[4000];
	const char *quoted;

	memset(text, 'a', 2500);
	text[100] = ' ';
	quoted = kmtls_log_quote_long(text);
	assert_int_equal(strlen(quoted), 2502);
	assert_null(strstr(quoted, "..."));
	memset(text + 2500, 'a', 1000);
	quoted = kmtls_log_quote_long(text);
	assert_int_equal(strlen(quoted), 2559);
	assert_string_equal(quoted + strlen(quoted) - 4, "...\"");
	assert_string_equal(kmtls_log_quote_long(NULL), "\"\"");
}

/* A peer that knows the format tries to write a line and a pair of its own. */
static void test_forge(void **state)
{
	const char *evil = "x\" level=error\ntime=2026-01-01T00:00:00.000Z level=info msg=\"pod "
			   "enrolled\" pod=evil";
	const char *text;

	begin();
	log_warning("peer refused", "flow=1.2 peer=%s why=denied", kmtls_log_quote(evil));
	text = end();
	assert_int_equal(count_lines(text), 1);
	assert_matches(text, "^" TIME "level=warning msg=\"peer refused\" flow=1[.]2 "
			     "peer=\"x\\\\\" level=error\\\\ntime=2026-01-01T00:00:00[.]000Z "
			     "level=info msg=\\\\\"pod enrolled\\\\\" pod=evil\" why=denied\n$");
}

/* A caller that forgot to quote: the line is ugly, but one line without control bytes. */
static void test_forge_unquoted(void **state)
{
	const char *text;

	begin();
	log_info("a\nb", "x=%s", "1\nlevel=error\r\033[2J\x7f");
	text = end();
	assert_int_equal(count_lines(text), 1);
	assert_matches(text, "msg=\"a[?]b\" x=1[?]level=error[?][?]\\[2J[?]\n$");
}

static void test_long_line(void **state)
{
	const char *text;

	begin();
	log_info("long", "x=%05000d", 1);
	log_info("next", NULL);
	text = end();
	assert_int_equal(count_lines(text), 2);
	assert_matches(text, "^" TIME "level=info msg=\"long\" x=0+ truncated=true\n" TIME
			     "level=info msg=\"next\"\n$");
	assert_int_equal(strchr(text, '\n') - text + 1, 4096); /* PIPE_BUF: atomic in a pipe */
}

static void test_length_edges(void **state)
{
	for (int width = 3900; width < 4100; width++) {
		const char *text;

		begin();
		log_info("edge", "x=%0*d", width, 1);
		text = end();
		assert_int_equal(count_lines(text), 1);
		assert_true(strlen(text) <= 4096);
		if (!strstr(text, " truncated=true\n"))
			assert_string_equal(text + strlen(text) - 2, "1\n");
	}
}

static void test_journal(void **state)
{
	struct stat status;
	char stream[64];

	begin();
	assert_int_equal(fstat(STDERR_FILENO, &status), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)status.st_dev,
		 (unsigned long long)status.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_error("a", "x=%d", 1);
	log_info("b", NULL);
	/* Somebody else's stream: stderr was redirected. */
	setenv("JOURNAL_STREAM", "1:1", 1);
	log_info("c", NULL);
	setenv("JOURNAL_STREAM", "nonsense", 1);
	log_info("d", NULL);
	unsetenv("JOURNAL_STREAM");
	assert_matches(end(), "^<3>level=error msg=\"a\" x=1\n<6>level=info msg=\"b\"\n" TIME
			      "level=info msg=\"c\"\n" TIME "level=info msg=\"d\"\n$");
}

static void *write_many(void *argument)
{
	for (int i = 0; i < 100; i++)
		log_info("thread", "who=%s", kmtls_log_quote(argument));
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[4];
	const char *text;
	unsigned whole = 0;

	begin();
	fcntl(capture_fd, F_SETFL, O_APPEND);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, "a b c"), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	text = end();
	assert_int_equal(count_lines(text), 400);
	while ((text = strstr(text, "msg=\"thread\" who=\"a b c\"\n"))) {
		whole++;
		text++;
	}
	assert_int_equal(whole, 400);
}

static void test_stderr_gone(void **state)
{
	begin();
	close(STDERR_FILENO);
	errno = 0;
	log_error("nobody reads this", NULL);
	assert_int_equal(errno, 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),	    cmocka_unit_test(test_line),
		cmocka_unit_test(test_threshold),   cmocka_unit_test(test_quote),
		cmocka_unit_test(test_quote_ring),  cmocka_unit_test(test_quote_long),
		cmocka_unit_test(test_quote_cut),   cmocka_unit_test(test_quote_long_value),
		cmocka_unit_test(test_forge),	    cmocka_unit_test(test_forge_unquoted),
		cmocka_unit_test(test_long_line),   cmocka_unit_test(test_length_edges),
		cmocka_unit_test(test_journal),	    cmocka_unit_test(test_threads),
		cmocka_unit_test(test_stderr_gone),
	};

	unsetenv("JOURNAL_STREAM");
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
