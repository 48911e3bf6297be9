/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_modes.c - which mode applies: every combination of what can be said at five places, against
 * an answer that is worked out from the words of docs/modes.md and not from the code.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "modes.h"

/* What can be found at a place: nothing, the three modes, and one nobody knows. */
#define VALUES 5
static const __u32 values[VALUES] = { KMTLS_MODE_UNSET, KMTLS_MODE_OFF, KMTLS_MODE_PERMISSIVE,
				      KMTLS_MODE_STRICT, 77 };

/* By the words: "" nothing is said, "o", "p", "s"; an unknown one is as good as "s". */
static const char letters[VALUES] = { 0, 'o', 'p', 's', 's' };

/* The mesh is strict where nobody has said anything. A strict mesh leaves room only for ports that
 * are excluded for every pod; any other mesh gives way to whoever is more specific. */
static char expected(char pod_port, char port, char pod, char namespace_, char mesh)
{
	const char order[] = { pod_port, port, pod, namespace_ };

	if (!mesh)
		mesh = 's';
	if (mesh == 's') {
		if (pod_port == 's' || !port)
			return 's';
		return port;
	}
	for (unsigned i = 0; i < sizeof(order); i++)
		if (order[i])
			return order[i];
	return mesh;
}

static char letter_of(enum kmtls_mode mode)
{
	return mode == KMTLS_MODE_OFF ? 'o' : mode == KMTLS_MODE_PERMISSIVE ? 'p' : 's';
}

static void say(struct kmtls_mode_consulted *consulted, const unsigned *said)
{
	memset(consulted, 0, KMTLS_MODE_RULE_COUNT * sizeof(*consulted));
	for (unsigned rule = 0; rule < KMTLS_MODE_RULE_COUNT; rule++)
		consulted[rule].mode = kmtls_mode_read(values[said[rule]]);
}

static void all_combinations(void **state)
{
	struct kmtls_mode_consulted consulted[KMTLS_MODE_RULE_COUNT];
	unsigned said[KMTLS_MODE_RULE_COUNT], rows = 0;

	for (unsigned i = 0; i < VALUES * VALUES * VALUES * VALUES * VALUES; i++) {
		char wanted, got;
		unsigned deciders = 0;

		for (unsigned rule = 0, rest = i; rule < KMTLS_MODE_RULE_COUNT; rule++) {
			said[rule] = rest % VALUES;
			rest /= VALUES;
		}
		say(consulted, said);
		got = letter_of(kmtls_modes_decide(consulted));
		wanted = expected(letters[said[0]], letters[said[1]], letters[said[2]],
				  letters[said[3]], letters[said[4]]);
		if (got != wanted)
			fail_msg("pod port %u, port %u, pod %u, namespace %u, mesh %u: %c, not %c",
				 said[0], said[1], said[2], said[3], said[4], got, wanted);
		for (unsigned rule = 0; rule < KMTLS_MODE_RULE_COUNT; rule++) {
			deciders += consulted[rule].decided;
			assert_false(consulted[rule].decided && consulted[rule].ignored);
			/* Exactly what is weaker than a strict mesh is passed over. */
			assert_int_equal(
				consulted[rule].ignored,
				(!letters[said[4]] || letters[said[4]] == 's') &&
					(rule == 0 || rule == 2 || rule == 3) &&
					(letters[said[rule]] == 'o' || letters[said[rule]] == 'p'));
		}
		assert_int_equal(deciders, 1);
		rows++;
	}
	assert_int_equal(rows, 3125);
}

/* Which element each rule reads. */
static void keys(void **state)
{
	static const struct {
		enum kmtls_mode_rule rule;
		struct kmtls_mode_key key;
	} rows[] = {
		{ KMTLS_MODE_RULE_POD_PORT,
		  { .id = 7, .scope = KMTLS_SCOPE_PORT, .direction = 2, .port = 80 } },
		{ KMTLS_MODE_RULE_PORT, { .scope = KMTLS_SCOPE_PORT, .direction = 2, .port = 80 } },
		{ KMTLS_MODE_RULE_POD, { .id = 7, .scope = KMTLS_SCOPE_POD, .direction = 2 } },
		{ KMTLS_MODE_RULE_NAMESPACE,
		  { .id = 9, .scope = KMTLS_SCOPE_NAMESPACE, .direction = 2 } },
		{ KMTLS_MODE_RULE_MESH, { .scope = KMTLS_SCOPE_MESH, .direction = 2 } },
	};
	struct kmtls_mode_key key;

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_true(kmtls_mode_rule_key(rows[i].rule, 7, 9, KMTLS_OUTBOUND, 80, &key));
		assert_memory_equal(&key, &rows[i].key, sizeof(key));
		assert_int_equal(kmtls_modes_rule_of(&key), rows[i].rule);
	}
	assert_false(
		kmtls_mode_rule_key(KMTLS_MODE_RULE_NAMESPACE, 7, 0, KMTLS_OUTBOUND, 80, &key));
	key = (struct kmtls_mode_key){ .scope = 9 };
	assert_int_equal(kmtls_modes_rule_of(&key), KMTLS_MODE_RULE_COUNT);
}

static void words(void **state)
{
	static const char *const wrong[] = { "", "unset", "Strict", "strict ", "on", "permissiv" };
	enum kmtls_mode mode;

	for (enum kmtls_mode m = KMTLS_MODE_OFF; m <= KMTLS_MODE_STRICT; m++) {
		assert_int_equal(kmtls_mode_parse(kmtls_mode_name(m), &mode), 0);
		assert_int_equal(mode, m);
	}
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(kmtls_mode_parse(wrong[i], &mode), -EINVAL);
	assert_string_equal(kmtls_mode_name(77), "strict");
	assert_int_equal(kmtls_mode_of_mesh(KMTLS_MODE_UNSET), KMTLS_MODE_STRICT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_combinations),
		cmocka_unit_test(keys),
		cmocka_unit_test(words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
