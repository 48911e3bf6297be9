/* SPDX-License-Identifier: Apache-2.0 */
/* test_tally.c - counting per owner: limits, room, and that removing loses nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "tally.h"

static const struct kmtls_tally_key a = { 1, 2 }, b = { 1, 3 }, c = { 2, 2 };

static void limits(void **state)
{
	struct kmtls_tally *tally = kmtls_tally_open(2);

	assert_int_equal(kmtls_tally_count(tally, &a), 0);
	assert_int_equal(kmtls_tally_add(tally, &a, 2), 0);
	assert_int_equal(kmtls_tally_add(tally, &a, 2), 0);
	assert_int_equal(kmtls_tally_add(tally, &a, 2), -EDQUOT);
	assert_int_equal(kmtls_tally_add(tally, &a, 0), 0);
	assert_int_equal(kmtls_tally_count(tally, &a), 3);
	assert_int_equal(kmtls_tally_add(tally, &b, 2), 0);
	assert_int_equal(kmtls_tally_add(tally, &c, 2), -ENOSPC);
	assert_int_equal(kmtls_tally_count(tally, &c), 0);
	kmtls_tally_remove(tally, &b);
	assert_int_equal(kmtls_tally_add(tally, &c, 2), 0);
	kmtls_tally_remove(tally, &b); /* who has none */
	assert_int_equal(kmtls_tally_count(tally, &b), 0);
	assert_int_equal(kmtls_tally_count(tally, &c), 1);
	assert_int_equal(kmtls_tally_count(tally, &a), 3);
	kmtls_tally_close(tally);
}

/* Against an array that counts: as full as it gets, where probing wraps and gaps are closed. */
static void random_steps(void **state)
{
	enum { OWNERS = 8, KEYS = 64 };
	struct kmtls_tally *tally = kmtls_tally_open(OWNERS);
	unsigned counts[KEYS] = {}, owners = 0;

	srandom(1);
	for (int step = 0; step < 200000; step++) {
		unsigned k = random() % KEYS;
		struct kmtls_tally_key key = { k % 8, k / 8 };

		if (random() % 2) {
			int err = kmtls_tally_add(tally, &key, 3);

			assert_int_equal(err, counts[k] >= 3		       ? -EDQUOT
					      : !counts[k] && owners == OWNERS ? -ENOSPC
									       : 0);
			owners += !err && !counts[k];
			counts[k] += !err;
		} else {
			owners -= counts[k] == 1;
			counts[k] -= counts[k] > 0;
			kmtls_tally_remove(tally, &key);
		}
		k = random() % KEYS;
		key = (struct kmtls_tally_key){ k % 8, k / 8 };
		assert_int_equal(kmtls_tally_count(tally, &key), counts[k]);
	}
	kmtls_tally_close(tally);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits),
		cmocka_unit_test(random_steps),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("tally", tests, NULL, NULL);
}
