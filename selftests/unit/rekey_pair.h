/* SPDX-License-Identifier: Apache-2.0 */
/* rekey_pair.h - two flows in this process that are each other's peer, with the memory of two
 * daemons that outlives a worker and that which does not. */
#ifndef TEST_REKEY_PAIR_H
#define TEST_REKEY_PAIR_H

#include "rekey.h"

#define TEST_LEFT 0
#define TEST_RIGHT 1

extern struct kmtls_flow *test_flows; /* outlive a worker */
extern struct kmtls_flow_private test_private[2]; /* do not */
extern struct kmtls_rekey_table *test_rekey;
extern struct kmtls_loop test_loop;
extern const struct kmtls_rekey_options test_options;

int test_rekey_setup_group(void **state);
int test_rekey_teardown(void **state);
bool test_kernel_can_rekey(void);
void test_open_pair(__u16 cipher);

/* What relay.c does with records that are not data, until data comes or nothing is left. */
enum kmtls_reason test_take_updates(int slot);
/* A text gets from one end to the other, past any KeyUpdate. */
void test_assert_passes(int from, const char *text);
/* The left one replaces its key because it has encrypted enough. */
enum kmtls_reason test_update_left(void);
__u64 test_sequence_of(int slot);

/* Kernels that cannot: nothing to test, and no failure. */
#define REQUIRE_REKEY()                   \
	do {                              \
		test_require_ktls();      \
		if (!test_rekey->offered) \
			return;           \
	} while (0)

#endif
