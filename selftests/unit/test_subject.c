/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_subject.c - who an authorization is about: every way to write it, every way to write it
 * wrong, and the hashes by which an ID can be named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "hash.h"
#include "spiffe.h"
#include "subject.h"

static void written_and_read(void **state)
{
	static const struct {
		const char *written;
		enum kmtls_match kind;
		const char *text;
	} table[] = {
		{ "any", KMTLS_MATCH_ANY, "" },
		{ "spiffe://example.org/a", KMTLS_MATCH_EXACT, "spiffe://example.org/a" },
		{ "spiffe://example.org/ns/shop", KMTLS_MATCH_EXACT,
		  "spiffe://example.org/ns/shop" },
		{ "namespace:example.org/shop", KMTLS_MATCH_NAMESPACE,
		  "spiffe://example.org/ns/shop" },
		{ "namespace:a/b", KMTLS_MATCH_NAMESPACE, "spiffe://a/ns/b" },
		{ "trust-domain:example.org", KMTLS_MATCH_TRUST_DOMAIN, "spiffe://example.org" },
	};
	struct kmtls_subject subject;
	char buffer[KMTLS_SUBJECT_TEXT];
	const char *rule;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(kmtls_subject_parse(table[i].written, &subject, &rule), 0);
		assert_int_equal(subject.kind, table[i].kind);
		assert_string_equal(subject.text, table[i].text);
		assert_int_equal(subject.hash, *table[i].text ? kmtls_hash_text(table[i].text) : 0);
		assert_string_equal(kmtls_subject_format(subject.kind, subject.hash, subject.text,
							 buffer, sizeof(buffer)),
				    table[i].written);
	}
}

static void written_wrong(void **state)
{
	static const struct {
		const char *written, *rule;
	} table[] = {
		{ "", "must be any," },
		{ "ANY", "must be any," },
		{ "*", "must be any," },
		{ "example.org/a", "must be any," },
		{ "any ", "must be any," },
		{ "spiffe://example.org", "an ID without a path is nobody's" },
		{ "spiffe://example.org/ns/shop/*", "the path has a byte" },
		{ "spiffe://Example.org/a", "the trust domain has an upper-case letter" },
		{ "namespace:shop", "must be namespace:TRUST-DOMAIN/NAME" },
		{ "namespace:", "must be namespace:TRUST-DOMAIN/NAME" },
		{ "namespace:example.org/", "the path ends with a slash" },
		{ "namespace:/shop", "the trust domain is empty" },
		{ "namespace:example.org/shop/web", "must be namespace:TRUST-DOMAIN/NAME" },
		{ "namespace:example.org/..", "the path has a segment . or .." },
		{ "namespace:spiffe://example.org/ns/shop", "must be namespace:" },
		{ "trust-domain:", "the trust domain is empty" },
		{ "trust-domain:example.org/shop", "must be trust-domain:NAME" },
		{ "trust-domain:Example.org", "the trust domain has an upper-case letter" },
	};
	struct kmtls_subject subject;
	const char *rule;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(kmtls_subject_parse(table[i].written, &subject, &rule), -EINVAL);
		if (strncmp(rule, table[i].rule, strlen(table[i].rule)))
			fail_msg("%s: %s", table[i].written, rule);
	}
}

static void too_long(void **state)
{
	static char written[2 * KMTLS_SPIFFE_ID_MAX];
	static const char *const prefixes[] = { "spiffe://a/", "namespace:a/", "trust-domain:" };
	struct kmtls_subject subject;
	const char *rule;

	for (int i = 0; i < 3; i++) {
		memset(written, 'a', sizeof(written) - 1);
		memcpy(written, prefixes[i], strlen(prefixes[i]));
		assert_int_equal(kmtls_subject_parse(written, &subject, &rule), -EINVAL);
		assert_string_equal(rule, "it is longer than 2048 bytes");
	}
}

/* What `names` does not have, or has for another kind, or a kind of another version. */
static void without_text(void **state)
{
	char buffer[KMTLS_SUBJECT_TEXT];

	assert_string_equal(kmtls_subject_format(KMTLS_MATCH_EXACT, 0x12, NULL, buffer, 64),
			    "0x0000000000000012");
	assert_string_equal(
		kmtls_subject_format(KMTLS_MATCH_NAMESPACE, 1, "spiffe://a", buffer, 64),
		"namespace:0x0000000000000001");
	assert_string_equal(
		kmtls_subject_format(KMTLS_MATCH_NAMESPACE, 1, "spiffe://a/ns/b/c", buffer, 64),
		"namespace:0x0000000000000001");
	assert_string_equal(
		kmtls_subject_format(KMTLS_MATCH_TRUST_DOMAIN, 1, "spiffe://a/b", buffer, 64),
		"trust-domain:0x0000000000000001");
	assert_string_equal(kmtls_subject_format(KMTLS_MATCH_ANY, 1, NULL, buffer, 64),
			    "kind-4:0x0000000000000001");
	assert_string_equal(kmtls_subject_format(9, 0, NULL, buffer, 64),
			    "kind-9:0x0000000000000000");
}

static void namespaces(void **state)
{
	static const struct {
		const char *id, *namespace_; /* NULL: none */
	} table[] = {
		{ "spiffe://a/ns/b", NULL },
		{ "spiffe://a/ns/b/sa/c", "spiffe://a/ns/b" },
		{ "spiffe://a/ns/bc/sa/c", "spiffe://a/ns/bc" },
		{ "spiffe://a/ns/ns/ns", "spiffe://a/ns/ns" },
		{ "spiffe://a/ns", NULL },
		{ "spiffe://a", NULL },
		{ "spiffe://ns/b", NULL },
		{ "spiffe://a/x/ns/b", NULL },
		{ "spiffe://a/NS/b", NULL },
		{ "spiffe://a/nsx/b", NULL },
	};
	__u64 hashes[KMTLS_MATCH_ANY + 1];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *expected = table[i].namespace_;
		/* Of its exact size, so that a sanitizer sees a read beyond the end. */
		char *id = strdup(table[i].id);

		assert_int_equal(kmtls_subject_hashes(id, hashes), 0);
		assert_int_equal(hashes[KMTLS_MATCH_NAMESPACE],
				 expected ? kmtls_hash_text(expected) : 0);
		assert_int_equal(hashes[KMTLS_MATCH_EXACT], kmtls_hash_text(id));
		assert_int_equal(hashes[KMTLS_MATCH_ANY], 0);
		free(id);
	}
	assert_int_equal(kmtls_subject_hashes("spiffe://example.org/ns/b", hashes), 0);
	assert_int_equal(hashes[KMTLS_MATCH_TRUST_DOMAIN], kmtls_hash_text("spiffe://example.org"));
	assert_int_equal(kmtls_subject_hashes("", hashes), -EINVAL);
	assert_int_equal(kmtls_subject_hashes("spiffe://a/ns/b/", hashes), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(written_and_read), cmocka_unit_test(written_wrong),
		cmocka_unit_test(too_long),	    cmocka_unit_test(without_text),
		cmocka_unit_test(namespaces),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("subject", tests, NULL, NULL);
}
