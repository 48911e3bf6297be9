/* SPDX-License-Identifier: Apache-2.0 */
/* test_hash.c - the hash is what abi.h says sha256sum prints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "hash.h"

static void matches_sha256sum(void **state)
{
	/* printf %s TEXT | sha256sum | cut -c1-16 */
	assert_int_equal(kmtls_hash_text(""), 0xe3b0c44298fc1c14ULL);
	assert_int_equal(kmtls_hash_text("abc"), 0xba7816bf8f01cfeaULL);
	assert_int_equal(kmtls_hash_text("spiffe://example.org/a"), 0x82b77c40cf8cbad9ULL);
}

static void tells_texts_apart(void **state)
{
	assert_int_not_equal(kmtls_hash_text("spiffe://a/b"), kmtls_hash_text("spiffe://a/B"));
	assert_int_not_equal(kmtls_hash_text("a"), kmtls_hash_text("a "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matches_sha256sum),
		cmocka_unit_test(tells_texts_apart),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
