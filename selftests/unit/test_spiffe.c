/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_spiffe.c - the SPIFFE-ID rules, each kept and broken. Text is copied into a buffer of its
 * exact size, so that a sanitizer sees a read beyond the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "kmtls/abi.h"
#include "spiffe.h"

static int parse(const char *text, size_t length, const char **ret_rule)
{
	char *copy = malloc(length ? length : 1);
	struct kmtls_spiffe_id id;
	int err;

	memcpy(copy, text, length);
	err = kmtls_spiffe_id_parse(copy, length, &id, ret_rule);
	free(copy);
	return err;
}

static void parts(void **state)
{
	static const char text[] = "spiffe://a-b_c.9/ns/x.Y_z-0";
	struct kmtls_spiffe_id id;
	const char *rule;

	assert_int_equal(kmtls_spiffe_id_parse(text, strlen(text), &id, &rule), 0);
	assert_ptr_equal(id.text, text);
	assert_int_equal(id.length, strlen(text));
	assert_int_equal(id.trust_domain_length, strlen("a-b_c.9"));
	assert_memory_equal(text + id.trust_domain_offset, "a-b_c.9", id.trust_domain_length);
	assert_int_equal(id.path_length, strlen("/ns/x.Y_z-0"));
	assert_string_equal(text + id.path_offset, "/ns/x.Y_z-0");
	assert_int_equal(kmtls_spiffe_id_parse("spiffe://a", 10, &id, &rule), 0);
	assert_int_equal(id.path_length, 0);
	assert_int_equal(id.trust_domain_length, 1);
}

static void accepted(void **state)
{
	static const char *const texts[] = {
		"spiffe://a",	  "spiffe://a/b",  "spiffe://1.2.3.4/x",
		"spiffe://a/...", "spiffe://a/.b", "spiffe://a/b..",
		"spiffe://-/_",	  "spiffe://./x",  "spiffe://a/A/Z/0/9/-/_",
	};
	const char *rule;
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(parse(texts[i], strlen(texts[i]), &rule), 0);
}

static void refused(void **state)
{
	static const struct {
		const char *text, *rule;
	} table[] = {
		{ "", "it does not begin with spiffe://" },
		{ "spiffe:/", "it does not begin with spiffe://" },
		{ "spiffe:/a/b", "it does not begin with spiffe://" },
		{ "Spiffe://a/b", "it does not begin with spiffe://" },
		{ "SPIFFE://a/b", "it does not begin with spiffe://" },
		{ "https://a/b", "it does not begin with spiffe://" },
		{ " spiffe://a/b", "it does not begin with spiffe://" },
		{ "spiffe://", "the trust domain is empty" },
		{ "spiffe:///a", "the trust domain is empty" },
		{ "spiffe://A/b", "the trust domain has an upper-case letter" },
		{ "spiffe://a:8080/b", "a port is not allowed" },
		{ "spiffe://u@a/b", "user information is not allowed" },
		{ "spiffe://a?q", "a query is not allowed" },
		{ "spiffe://a/b?q=1", "a query is not allowed" },
		{ "spiffe://a#f", "a fragment is not allowed" },
		{ "spiffe://a/b#f", "a fragment is not allowed" },
		{ "spiffe://a/%41", "percent-encoding is not allowed" },
		{ "spiffe://%61/b", "percent-encoding is not allowed" },
		{ "spiffe://a b/c", "the trust domain has a byte outside of a-z 0-9 . - _" },
		{ "spiffe://a\xc3\xa4/c", "the trust domain has a byte outside of a-z 0-9 . - _" },
		{ "spiffe://[::1]/c", "the trust domain has a byte outside of a-z 0-9 . - _" },
		{ "spiffe://a/", "the path ends with a slash" },
		{ "spiffe://a/b/", "the path ends with a slash" },
		{ "spiffe://a//b", "the path has an empty segment" },
		{ "spiffe://a/b//c", "the path has an empty segment" },
		{ "spiffe://a/.", "the path has a segment . or .." },
		{ "spiffe://a/..", "the path has a segment . or .." },
		{ "spiffe://a/./b", "the path has a segment . or .." },
		{ "spiffe://a/b/../c", "the path has a segment . or .." },
		{ "spiffe://a/b c", "the path has a byte outside of a-z A-Z 0-9 . - _" },
		{ "spiffe://a/b~", "the path has a byte outside of a-z A-Z 0-9 . - _" },
		{ "spiffe://a/b:c", "the path has a byte outside of a-z A-Z 0-9 . - _" },
		{ "spiffe://a/\xff", "the path has a byte outside of a-z A-Z 0-9 . - _" },
	};
	const char *rule;
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		rule = NULL;
		assert_int_equal(parse(table[i].text, strlen(table[i].text), &rule), -EINVAL);
		assert_string_equal(rule, table[i].rule);
	}
}

static void zero_bytes(void **state)
{
	const char *rule;

	assert_int_equal(parse("spiffe://a/b\0", 13, &rule), -EINVAL);
	assert_string_equal(rule, "it contains a zero byte");
	assert_int_equal(parse("spiffe://a\0/b", 13, &rule), -EINVAL);
	assert_string_equal(rule, "it contains a zero byte");
	assert_int_equal(parse("spiffe://a/b\0c", 14, &rule), -EINVAL);
	assert_string_equal(rule, "it contains a zero byte");
}

/* Every byte that is not named is refused, in either part. */
static void alphabet(void **state)
{
	static const char lower[] = "abcdefghijklmnopqrstuvwxyz0123456789.-_";
	static const char upper[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char domain[] = "spiffe://xax/p", path[] = "spiffe://d/xax";
	const char *rule;
	int c;

	for (c = 1; c < 256; c++) {
		int in_domain = !!strchr(lower, c) || c == '/';
		int in_path = !!strchr(lower, c) || !!strchr(upper, c) || c == '/';

		domain[10] = path[12] = c;
		assert_int_equal(parse(domain, strlen(domain), &rule), in_domain ? 0 : -EINVAL);
		assert_int_equal(parse(path, strlen(path), &rule), in_path ? 0 : -EINVAL);
	}
}

static void lengths(void **state)
{
	char text[KMTLS_SPIFFE_ID_MAX + 2];
	const char *rule;

	memset(text, 'a', sizeof(text));
	memcpy(text, "spiffe://d/", 11);
	assert_int_equal(parse(text, 2048, &rule), 0);
	assert_int_equal(parse(text, 2049, &rule), -EINVAL);
	assert_string_equal(rule, "it is longer than 2048 bytes");
	memset(text, 'a', sizeof(text));
	memcpy(text, "spiffe://", 9);
	assert_int_equal(parse(text, 9 + 255, &rule), 0);
	assert_int_equal(parse(text, 9 + 256, &rule), -EINVAL);
	assert_string_equal(rule, "the trust domain is longer than 255 bytes");
}

static void writes_nothing_on_failure(void **state)
{
	struct kmtls_spiffe_id id, before;
	const char *rule;

	memset(&id, 0x5a, sizeof(id));
	before = id;
	assert_int_equal(kmtls_spiffe_id_parse("spiffe://a/", 11, &id, &rule), -EINVAL);
	assert_memory_equal(&id, &before, sizeof(id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts),
		cmocka_unit_test(accepted),
		cmocka_unit_test(refused),
		cmocka_unit_test(zero_bytes),
		cmocka_unit_test(alphabet),
		cmocka_unit_test(lengths),
		cmocka_unit_test(writes_nothing_on_failure),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("spiffe", tests, NULL, NULL);
}
