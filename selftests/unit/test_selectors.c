/* SPDX-License-Identifier: Apache-2.0 */
/* test_selectors.c - the selectors that a SPIRE agent is asked by, out of a pod's names. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "selectors.h"

static const struct kmtls_identity_subject pod = { "spiffe://example.org/ns/shop/sa/web",
						   "shop/web-1" };
static const struct kmtls_identity_subject plain = { "spiffe://example.org/x", "web" };

/* What comes of it, with blanks between; "": refused. */
static const char *made_of(char *const *templates, unsigned count,
			   const struct kmtls_identity_subject *subject)
{
	static char text[4 * KMTLS_SELECTOR_MAX];
	struct kmtls_selectors selectors = { .count = 0 };
	char why[KMTLS_IDENTITY_WHY] = "";
	size_t length = 0;
	int err = kmtls_selectors_make(templates, count, subject, &selectors, why);

	text[0] = '\0';
	assert_true(err == 0 || err == -EINVAL);
	assert_int_equal(err == 0, why[0] == '\0');
	assert_int_equal(err == 0, selectors.count > 0);
	for (unsigned i = 0; i < selectors.count; i++)
		length += snprintf(text + length, sizeof(text) - length, "%s%s", i ? " " : "",
				   selectors.items[i]);
	kmtls_selectors_free(&selectors);
	return text;
}

static const char *made(const char *template, const struct kmtls_identity_subject *subject)
{
	char *const templates[] = { (char *)template };

	return made_of(templates, 1, subject);
}

static void usual_ones(void **state)
{
	assert_string_equal(made_of(NULL, 0, &pod), "k8s:ns:shop k8s:sa:web k8s:pod-name:web-1");
	/* What a pod does not have is left out: the agent finds less then, not more. */
	assert_string_equal(made_of(NULL, 0, &plain), "k8s:pod-name:web");
}

static void places(void **state)
{
	assert_string_equal(made("x:{pod}", &pod), "x:shop/web-1");
	assert_string_equal(made("x:{name}.{namespace}", &pod), "x:web-1.shop");
	assert_string_equal(made("x:a{service_account}b", &pod), "x:awebb");
	assert_string_equal(made("x:{pod}{name}", &plain), "x:webweb");
	assert_string_equal(made("unix:uid:1000", &plain), "unix:uid:1000");
	assert_string_equal(made("x:{namespace}", &plain), "");
	assert_string_equal(made("x:{service_account}", &plain), "");
}

/* Only of spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT. */
static void accounts(void **state)
{
	static const struct {
		const char *id, *selector;
	} ids[] = {
		{ "spiffe://a/ns/b/sa/c", "x:c" }, { "spiffe://a/ns/b/sa/c/d", "" },
		{ "spiffe://a/ns/b/sa/", "" },	   { "spiffe://a/ns/b/sb/c", "" },
		{ "spiffe://a/ns/b", "" },	   { "spiffe://a/x/ns/b/sa/c", "" },
		{ "spiffe://ns/b/sa/c", "" },	   { "spiffe://a", "" },
	};

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		const struct kmtls_identity_subject subject = { ids[i].id, "p" };

		assert_string_equal(made("x:{service_account}", &subject), ids[i].selector);
	}
}

static void rules(void **state)
{
	static const struct {
		const char *selector, *rule;
	} table[] = {
		{ "a:b", NULL },
		{ "k8s:ns:{namespace}", NULL },
		{ "a:{pod}{name}{service_account}{namespace}", NULL },
		{ "a:}", NULL },
		{ "ab", "the selector is not TYPE:VALUE" },
		{ ":b", "the selector is not TYPE:VALUE" },
		{ "a:", "the selector is not TYPE:VALUE" },
		{ "", "the selector is not TYPE:VALUE" },
		{ "{pod}:b", "the selector's type cannot depend on the pod" },
		{ "a:{uid}", "after { there must be namespace}, name}, service_account} or pod}" },
		{ "a:{pod", "after { there must be namespace}, name}, service_account} or pod}" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *rule = kmtls_selectors_check(table[i].selector);

		if (table[i].rule)
			assert_string_equal(rule, table[i].rule);
		else
			assert_null(rule);
	}
}

/* One that gets too long by what is put into it is left out as a whole. */
static void lengths(void **state)
{
	char text[KMTLS_SELECTOR_MAX + 2];

	memset(text, 'x', sizeof(text));
	text[1] = ':';
	text[KMTLS_SELECTOR_MAX] = '\0';
	assert_null(kmtls_selectors_check(text));
	assert_string_equal(made(text, &pod), text);
	memcpy(text + KMTLS_SELECTOR_MAX - 5, "{pod}", 6);
	assert_null(kmtls_selectors_check(text));
	assert_string_equal(made(text, &pod), ""); /* shop/web-1 is longer than {pod} */
	memcpy(text + KMTLS_SELECTOR_MAX - 6, "x{pod}x", 8);
	assert_string_equal(kmtls_selectors_check(text), "the selector is longer than 1024 bytes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(usual_ones), cmocka_unit_test(places),	 cmocka_unit_test(accounts),
		cmocka_unit_test(rules),      cmocka_unit_test(lengths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
