/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mesh_plan.c - on the way from one policy to another nothing is let through that both
 * refuse: each write of each plan is followed by the question which mode applies, resolved as the
 * daemon and the programs do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "authorization.h"
#include "mesh_plan.h"
#include "modes.h"

#define NONE KMTLS_MESH_NONE
#define RULES KMTLS_MODE_RULE_COUNT

/* ---- modes: one pod's chain of elements ---- */

static enum kmtls_mode at(void *context, const struct kmtls_mode_key *key)
{
	const __u32 *chain = context;
	struct kmtls_mode_key own;

	for (int rule = 0; rule < RULES; rule++) {
		kmtls_mode_rule_key(rule, 1, 2, KMTLS_INBOUND, 80, &own);
		if (!memcmp(&own, key, sizeof(own)))
			return chain[rule] == NONE ? KMTLS_MODE_UNSET
						   : kmtls_mode_read(chain[rule]);
	}
	return KMTLS_MODE_UNSET;
}

static enum kmtls_mode mode_of(__u32 *chain)
{
	const struct kmtls_modes_reader reader = { .at = at, .context = chain };

	return kmtls_modes_resolve_by(&reader, 1, 2, KMTLS_INBOUND, 80, NULL);
}

static void fill(const __u32 *chain, struct kmtls_mode_table *ret_table)
{
	for (int rule = 0; rule < RULES; rule++) {
		struct kmtls_mode_entry entry = { .mode = chain[rule] };

		kmtls_mode_rule_key(rule, 1, 2, KMTLS_INBOUND, 80, &entry.key);
		if (entry.mode != NONE)
			assert_int_equal(kmtls_mode_table_append(ret_table, &entry), 0);
	}
	kmtls_mode_table_sort(ret_table);
}

static void write_step(__u32 *chain, const struct kmtls_mode_key *key, __u32 value)
{
	struct kmtls_mode_key own;

	for (int rule = 0; rule < RULES; rule++) {
		kmtls_mode_rule_key(rule, 1, 2, KMTLS_INBOUND, 80, &own);
		if (!memcmp(&own, key, sizeof(own)))
			chain[rule] = value;
	}
}

/* Takes the plan's two rounds, mesh outermost, the rest from start on, and looks after every write. */
static void travel(const __u32 *from, const __u32 *to, unsigned start)
{
	struct kmtls_mode_table before = {}, after = {};
	struct kmtls_mesh_plan plan;
	__u32 now[RULES];
	enum kmtls_mode old, new, loosest;
	size_t rest;
	bool mesh;

	memcpy(now, from, sizeof(now));
	old = mode_of(now);
	memcpy(now, to, sizeof(now));
	new = mode_of(now);
	loosest = old < new ? old : new;
	fill(from, &before);
	fill(to, &after);
	memcpy(now, from, sizeof(now));
	assert_int_equal(kmtls_mesh_plan_make(&before, &after, true, NULL, NULL, false, &plan), 0);
	mesh = plan.mode_count && plan.modes[plan.mode_count - 1].key.scope == KMTLS_SCOPE_MESH;
	rest = plan.mode_count - mesh;
	for (size_t i = 0; i < plan.mode_count; i++) {
		const struct kmtls_mode_step *step = &plan.modes[i < rest ? (i + start) % rest : i];

		write_step(now, &step->key, step->step.middle);
		assert_true(mode_of(now) >= loosest);
	}
	/* A port of every pod holds as well where a strict mesh has other entries ignored; then the
	 * middle is as one of both sides. */
	assert_true(mode_of(now) >= loosest);
	if (from[KMTLS_MODE_RULE_PORT] == NONE && to[KMTLS_MODE_RULE_PORT] == NONE)
		assert_true(mode_of(now) >= old && mode_of(now) >= new);
	for (size_t i = plan.mode_count; i-- > 0;) {
		const struct kmtls_mode_step *step = &plan.modes[i < rest ? (i + start) % rest : i];

		write_step(now, &step->key, step->step.after);
		assert_true(mode_of(now) >= loosest);
	}
	assert_memory_equal(now, to, sizeof(now));
	kmtls_mesh_plan_free(&plan);
	free(before.entries);
	free(after.entries);
}

/* All pairs of policies of a port of the pod, the pod and the mesh, in several orders. */
static void every_pair(void **state)
{
	static const __u32 values[] = { NONE, KMTLS_MODE_OFF, KMTLS_MODE_PERMISSIVE,
					KMTLS_MODE_STRICT };

	for (unsigned pair = 0; pair < 4096; pair++) {
		__u32 from[RULES] = { values[pair % 4], NONE, values[pair / 4 % 4], NONE,
				      values[pair / 16 % 4] };
		__u32 to[RULES] = { values[pair / 64 % 4], NONE, values[pair / 256 % 4], NONE,
				    values[pair / 1024] };

		for (unsigned start = 0; start < 6; start++)
			travel(from, to, start);
	}
}

/* All five kinds of element, and values that say nothing or that nobody knows. */
static void many_pairs(void **state)
{
	static const __u32 values[] = { NONE, NONE, 0, 1, 2, 3, 9 };
	unsigned seed = 20;

	for (unsigned i = 0; i < 200000; i++) {
		__u32 from[RULES], to[RULES];

		for (int rule = 0; rule < RULES; rule++) {
			from[rule] = values[(unsigned)rand_r(&seed) % 7];
			to[rule] = values[(unsigned)rand_r(&seed) % 7];
		}
		travel(from, to, (unsigned)rand_r(&seed) % 8);
	}
}

/* Only what is needed is made stricter for the while: a pod's exception in a permissive mesh does
 * not pass through strict. */
static void no_detour(void **state)
{
	__u32 from[RULES] = { NONE, NONE, NONE, NONE, KMTLS_MODE_PERMISSIVE };
	__u32 to[RULES] = { NONE, NONE, KMTLS_MODE_OFF, NONE, KMTLS_MODE_PERMISSIVE };
	struct kmtls_mode_table before = {}, after = {};
	struct kmtls_mesh_plan plan;

	fill(from, &before);
	fill(to, &after);
	assert_int_equal(kmtls_mesh_plan_make(&before, &after, true, NULL, NULL, false, &plan), 0);
	assert_int_equal(plan.mode_count, 1);
	assert_int_equal(plan.modes_added, 1);
	assert_int_equal(plan.modes[0].step.before, NONE);
	assert_int_equal(plan.modes[0].step.middle, KMTLS_MODE_PERMISSIVE);
	assert_int_equal(plan.modes[0].step.after, KMTLS_MODE_OFF);
	kmtls_mesh_plan_free(&plan);
	free(before.entries);
	free(after.entries);
}

/* ---- authorizations ---- */

static void authorizations(void **state)
{
	static const struct {
		__u32 before, after, middle;
	} rows[] = {
		{ NONE, 1, NONE }, { NONE, 2, 2 },    { NONE, 3, 3 }, { 1, NONE, NONE },
		{ 1, 2, 2 },	   { 1, 3, 3 },	      { 2, NONE, 2 }, { 2, 1, 2 },
		{ 2, 3, 2 },	   { 3, NONE, NONE }, { 3, 1, 3 },    { 3, 2, 2 },
		{ 9, 1, 9 },	   { 1, 0, 0 },	      { 0, NONE, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct kmtls_authorization_table before = {}, after = {};
		struct kmtls_authorization_entry entry = { .key = { .source = 7, .port = 80 } };
		struct kmtls_mesh_plan plan;

		entry.action = rows[i].before;
		if (entry.action != NONE)
			kmtls_authorization_table_append(&before, &entry);
		entry.action = rows[i].after;
		if (entry.action != NONE)
			kmtls_authorization_table_append(&after, &entry);
		assert_int_equal(
			kmtls_mesh_plan_make(NULL, NULL, false, &before, &after, true, &plan), 0);
		assert_int_equal(plan.authorization_count, 1);
		assert_int_equal(plan.authorizations[0].step.middle, rows[i].middle);
		kmtls_mesh_plan_free(&plan);
		free(before.entries);
		free(after.entries);
	}
}

static void nothing(void **state)
{
	__u32 chain[RULES] = { 1, NONE, 2, NONE, 3 };
	struct kmtls_mode_table before = {}, after = {};
	struct kmtls_mesh_plan plan;

	fill(chain, &before);
	assert_int_equal(kmtls_mesh_plan_make(&before, &before, true, NULL, NULL, false, &plan), 0);
	assert_int_equal(plan.mode_count, 0);
	kmtls_mesh_plan_free(&plan);
	/* A section that is not there changes nothing; one that is empty takes all away. */
	assert_int_equal(kmtls_mesh_plan_make(&before, &after, false, NULL, NULL, false, &plan), 0);
	assert_int_equal(plan.mode_count, 0);
	kmtls_mesh_plan_free(&plan);
	assert_int_equal(kmtls_mesh_plan_make(&before, &after, true, NULL, NULL, false, &plan), 0);
	assert_int_equal(plan.mode_count, 3);
	assert_int_equal(plan.modes_added, 0);
	kmtls_mesh_plan_free(&plan);
	free(before.entries);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_pair), cmocka_unit_test(many_pairs),
		cmocka_unit_test(no_detour),  cmocka_unit_test(authorizations),
		cmocka_unit_test(nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("mesh_plan", tests, NULL, NULL);
}
