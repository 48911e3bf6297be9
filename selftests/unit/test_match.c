/* SPDX-License-Identifier: Apache-2.0 */
/* test_match.c - what an entry of the peers map promises, and which IDs keep it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "match.h"

#define EXACT KMTLS_MATCH_EXACT
#define NAMESPACE KMTLS_MATCH_NAMESPACE
#define DOMAIN_ KMTLS_MATCH_TRUST_DOMAIN

static void holds(void **state)
{
	static const struct {
		unsigned match;
		const char *text, *id;
		bool holds;
	} rows[] = {
		{ EXACT, "spiffe://td/a/b", "spiffe://td/a/b", true },
		{ EXACT, "spiffe://td/a/b", "spiffe://td/a/bc", false },
		{ EXACT, "spiffe://td/a/b", "spiffe://td/a", false },
		{ EXACT, "spiffe://td/a/b", "spiffe://td/a/B", false },
		{ EXACT, "spiffe://td/a/b", "spiffe://tde/a/b", false },
		{ NAMESPACE, "spiffe://td/ns/shop", "spiffe://td/ns/shop/sa/db", true },
		{ NAMESPACE, "spiffe://td/ns/shop", "spiffe://td/ns/shop/x", true },
		{ NAMESPACE, "spiffe://td/ns/shop", "spiffe://td/ns/shop", false },
		{ NAMESPACE, "spiffe://td/ns/shop", "spiffe://td/ns/shopping/sa/db", false },
		{ NAMESPACE, "spiffe://td/ns/shop", "spiffe://td/ns/sho/sa/db", false },
		{ NAMESPACE, "spiffe://td/ns/shop", "spiffe://td/ns/Shop/sa/db", false },
		{ NAMESPACE, "spiffe://td/ns/shop", "spiffe://td/sa/ns/shop/db", false },
		{ NAMESPACE, "spiffe://td/ns/shop", "spiffe://td/NS/shop/sa/db", false },
		{ NAMESPACE, "spiffe://td/ns/shop", "spiffe://td.evil/ns/shop/sa/db", false },
		{ NAMESPACE, "spiffe://td/ns/shop", "spiffe://other/ns/shop/sa/db", false },
		{ NAMESPACE, "spiffe://td/ns/shop", "spiffe://td/ns/shop/", false },
		{ NAMESPACE, "spiffe://td/ns/shop", "spiffe://td/ns/shop/../x", false },
		{ NAMESPACE, "spiffe://td/ns/*", "spiffe://td/ns/shop/sa/db", false },
		{ NAMESPACE, "spiffe://td/ns/", "spiffe://td/ns/shop/sa/db", false },
		{ NAMESPACE, "spiffe://td/ns", "spiffe://td/ns/shop/sa/db", false },
		{ NAMESPACE, "spiffe://td", "spiffe://td/ns/shop/sa/db", false },
		{ NAMESPACE, "spiffe://td/ns/shop/sa", "spiffe://td/ns/shop/sa/db", false },
		{ DOMAIN_, "spiffe://td", "spiffe://td/a", true },
		{ DOMAIN_, "spiffe://td", "spiffe://td/ns/shop/sa/db", true },
		{ DOMAIN_, "spiffe://td", "spiffe://td", false },
		{ DOMAIN_, "spiffe://td", "spiffe://tde/a", false },
		{ DOMAIN_, "spiffe://td", "spiffe://t/a", false },
		{ DOMAIN_, "spiffe://td", "spiffe://td.td/a", false },
		{ DOMAIN_, "spiffe://td/a", "spiffe://td/a", false },
		{ DOMAIN_, "spiffe://td", "", false },
		{ DOMAIN_, "", "spiffe://td/a", false },
		/* What this version does not know, nobody keeps. */
		{ 0, "spiffe://td/a", "spiffe://td/a", false },
		{ 4, "spiffe://td/a", "spiffe://td/a", false },
		{ 255, "spiffe://td", "spiffe://td/a", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (kmtls_match_holds(rows[i].match, rows[i].text, rows[i].id) != rows[i].holds)
			fail_msg("%u %s %s", rows[i].match, rows[i].text, rows[i].id);
}

static void text(void **state)
{
	static char long_name[KMTLS_SPIFFE_ID_MAX + 100];
	const struct {
		const char *namespace_, *trust_domain, *text, *rule;
	} rows[] = {
		{ NULL, "example.org", "spiffe://example.org", NULL },
		{ "shop", "example.org", "spiffe://example.org/ns/shop", NULL },
		{ "Shop-1.x_", "td", "spiffe://td/ns/Shop-1.x_", NULL },
		{ "shop/sa", "td", NULL, "the namespace has a slash" },
		{ "", "td", NULL, "the path ends with a slash" },
		{ "..", "td", NULL, "the path has a segment . or .." },
		{ "*", "td", NULL, "the path has a byte outside of a-z A-Z 0-9 . - _" },
		{ "a%2f", "td", NULL, "percent-encoding is not allowed" },
		{ NULL, "", NULL, "the trust domain is empty" },
		{ NULL, "TD", NULL, "the trust domain has an upper-case letter" },
		{ NULL, "td/ns/x", NULL, "the trust domain has a byte outside of a-z 0-9 . - _" },
		{ NULL, "spiffe://td", NULL,
		  "the trust domain has a byte outside of a-z 0-9 . - _" },
		{ long_name, "td", NULL, "it is longer than 2048 bytes" },
	};
	char got[KMTLS_SPIFFE_ID_MAX + 1];
	const char *rule;

	memset(long_name, 'a', sizeof(long_name) - 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int err = kmtls_match_text(rows[i].namespace_, rows[i].trust_domain, got, &rule);

		assert_int_equal(err, rows[i].rule ? -EINVAL : 0);
		assert_string_equal(err ? rule : got, err ? rows[i].rule : rows[i].text);
	}
	/* The longest there may be. */
	long_name[KMTLS_SPIFFE_ID_MAX - strlen("spiffe://td/ns/")] = '\0';
	assert_int_equal(kmtls_match_text(long_name, "td", got, &rule), 0);
	assert_int_equal(strlen(got), KMTLS_SPIFFE_ID_MAX);
}

static void unknown(void **state)
{
	const char *rule;

	for (unsigned match = 0; match < 256; match++) {
		bool known = match >= EXACT && match <= DOMAIN_;
		const char *of = match == DOMAIN_ ? "spiffe://td" : "spiffe://td/ns/a";

		assert_int_equal(kmtls_match_check(match, of, strlen(of), &rule),
				 known ? 0 : -EINVAL);
	}
	assert_string_equal(rule, "it is of a kind this version does not know");
}

static void names(void **state)
{
	assert_string_equal(kmtls_match_name(EXACT), "exact");
	assert_string_equal(kmtls_match_name(NAMESPACE), "namespace");
	assert_string_equal(kmtls_match_name(DOMAIN_), "trust-domain");
	assert_string_equal(kmtls_match_name(0), "unknown");
	assert_string_equal(kmtls_match_name(4), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holds),
		cmocka_unit_test(text),
		cmocka_unit_test(unknown),
		cmocka_unit_test(names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("match", tests, NULL, NULL);
}
