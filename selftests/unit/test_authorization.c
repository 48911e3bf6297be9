/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_authorization.c - the decision: each kind of source with each kind of destination and
 * both kinds of port; what beats what; what cannot be read. The map is an array here; the real one
 * is what the VM tests use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "authorization.h"

#define SOURCE "spiffe://example.org/ns/shop/sa/web"
#define DESTINATION "spiffe://example.org/ns/pay/sa/db"
#define PORT 5432

#define ALLOW KMTLS_AUTHORIZATION_ALLOW
#define DENY KMTLS_AUTHORIZATION_DENY
#define DRY_RUN KMTLS_AUTHORIZATION_DRY_RUN
#define UNKNOWN 7

/* Of all kinds, for an ID; and their like for IDs that it is not. */
static const char *const sources[] = { SOURCE, "namespace:example.org/shop",
				       "trust-domain:example.org", "any" };
static const char *const destinations[] = { DESTINATION, "namespace:example.org/pay",
					    "trust-domain:example.org", "any" };
static const char *const others[] = { "spiffe://example.org/ns/shop/sa/we",
				      "spiffe://example.org/ns/shop",
				      "spiffe://example.org/ns/shop/sa/web/1",
				      "namespace:example.org/sho",
				      "namespace:example.org/other",
				      "namespace:example.com/shop",
				      "namespace:example.com/pay",
				      "trust-domain:example.com",
				      "trust-domain:ns" };

static struct kmtls_authorization_rule map[64];
static unsigned entries;
static atomic_uint probes;
static int map_error;

static int get(void *context, const struct kmtls_authorization_key *key, __u32 *ret_action)
{
	probes++;
	if (map_error)
		return map_error;
	for (unsigned i = 0; i < entries; i++) {
		if (!memcmp(&map[i].key, key, sizeof(*key))) {
			*ret_action = map[i].value.action;
			return 0;
		}
	}
	return -ENOENT;
}

static void put(const char *source, const char *destination, __u16 port, __u32 action)
{
	struct kmtls_subject from, to;
	const char *rule;

	assert_int_equal(kmtls_subject_parse(source, &from, &rule), 0);
	assert_int_equal(kmtls_subject_parse(destination, &to, &rule), 0);
	map[entries++] = (struct kmtls_authorization_rule){
		.key = { .source = from.hash,
			 .destination = to.hash,
			 .source_kind = from.kind,
			 .destination_kind = to.kind,
			 .port = port },
		.value = { .action = action },
	};
}

static struct kmtls_authorization_question question_of(const char *source, const char *destination,
						       __u16 port)
{
	struct kmtls_authorization_question question = { .port = port };

	assert_int_equal(kmtls_subject_hashes(source, question.source), 0);
	assert_int_equal(kmtls_subject_hashes(destination, question.destination), 0);
	return question;
}

static struct kmtls_authorization_verdict ask(__u32 fallback)
{
	struct kmtls_authorization_question question = question_of(SOURCE, DESTINATION, PORT);
	struct kmtls_authorization_lookup lookup = { .get = get, .fallback = fallback };
	struct kmtls_authorization_verdict verdict;

	probes = 0;
	kmtls_authorization_decide(&question, &lookup, &verdict);
	return verdict;
}

static int empty(void **state)
{
	entries = 0;
	map_error = 0;
	return 0;
}

static void nothing_is_said(void **state)
{
	struct kmtls_authorization_verdict verdict;

	for (__u32 fallback = 0; fallback < 6; fallback++) {
		verdict = ask(fallback);
		assert_int_equal(verdict.allowed, fallback <= KMTLS_AUTHORIZATION_DEFAULT_ALLOW);
		assert_int_equal(verdict.decider, fallback <= KMTLS_AUTHORIZATION_DEFAULT_DENY
							  ? KMTLS_DECIDED_BY_DEFAULT
							  : KMTLS_DECIDED_BY_DOUBT);
		assert_false(verdict.would_deny);
		assert_int_equal(probes, 32);
	}
	/* An unknown default is no reason to refuse what a rule allows. */
	put("any", "any", 0, ALLOW);
	assert_true(ask(9).allowed);
}

/* 4 x 4 x 2 keys that mean the question, each alone, with each action and each default. */
static void every_key(void **state)
{
	static const __u32 actions[] = { ALLOW, DENY, DRY_RUN, UNKNOWN, 0, 0x1000002 };
	unsigned asked = 0;

	for (unsigned i = 0; i < 4 * 4 * 2 * 6 * 2; i++) {
		__u32 action = actions[i / 32 % 6], fallback = 1 + i / 192;
		bool by_default = action == DRY_RUN;
		struct kmtls_authorization_verdict verdict;

		entries = 0;
		put(sources[i % 4], destinations[i / 4 % 4], i / 16 % 2 ? PORT : 0, action);
		verdict = ask(fallback);
		assert_int_equal(verdict.allowed, by_default ? fallback == 1 : action == ALLOW);
		assert_int_equal(verdict.decider,
				 by_default ? KMTLS_DECIDED_BY_DEFAULT : KMTLS_DECIDED_BY_RULE);
		if (!by_default)
			assert_memory_equal(&verdict.rule, &map[0], sizeof(map[0]));
		assert_int_equal(verdict.would_deny, by_default && fallback == 1);
		if (verdict.would_deny)
			assert_memory_equal(&verdict.dry_run, &map[0], sizeof(map[0]));
		asked++;
	}
	assert_int_equal(asked, 384);
}

/* Keys that mean somebody else, or another port, decide nothing. */
static void others_keys(void **state)
{
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		entries = 0;
		put(others[i], "any", 0, DENY);
		put("any", others[i], PORT, DENY);
		for (int kind = 0; kind < 4; kind++) {
			put(others[i], destinations[kind], PORT, DENY);
			put(sources[kind], others[i], 0, DENY);
			put(sources[kind], destinations[kind], PORT + 1, DENY);
		}
		/* The other way round is another question. */
		put(DESTINATION, SOURCE, PORT, DENY);
		assert_true(ask(KMTLS_AUTHORIZATION_DEFAULT_ALLOW).allowed);
		for (unsigned e = 0; e < entries; e++)
			map[e].value.action = ALLOW;
		assert_false(ask(KMTLS_AUTHORIZATION_DEFAULT_DENY).allowed);
	}
}

/* Whatever denies beats whatever allows, narrow or wide. */
static void deny_beats_allow(void **state)
{
	struct kmtls_authorization_verdict verdict;

	for (unsigned i = 0; i < 32 * 32; i++) {
		unsigned a = i % 32, d = i / 32;

		if (a == d)
			continue;
		entries = 0;
		put(sources[a % 4], destinations[a / 4 % 4], a / 16 ? PORT : 0, ALLOW);
		put(sources[d % 4], destinations[d / 4 % 4], d / 16 ? PORT : 0,
		    d % 2 ? DENY : UNKNOWN);
		verdict = ask(KMTLS_AUTHORIZATION_DEFAULT_ALLOW);
		assert_false(verdict.allowed);
		assert_memory_equal(&verdict.rule, &map[1], sizeof(map[1]));
	}
}

static void dry_run_decides_nothing(void **state)
{
	struct kmtls_authorization_verdict verdict;

	put(SOURCE, DESTINATION, PORT, DRY_RUN);
	assert_true(ask(KMTLS_AUTHORIZATION_DEFAULT_ALLOW).would_deny);
	/* Not even allow: the default still denies, and nothing was let through. */
	verdict = ask(KMTLS_AUTHORIZATION_DEFAULT_DENY);
	assert_false(verdict.allowed);
	assert_false(verdict.would_deny);
	put("any", "any", 0, ALLOW);
	verdict = ask(KMTLS_AUTHORIZATION_DEFAULT_DENY);
	assert_true(verdict.allowed && verdict.would_deny);
	assert_int_equal(verdict.rule.value.action, ALLOW);
	put("trust-domain:example.org", "any", 0, DENY);
	verdict = ask(KMTLS_AUTHORIZATION_DEFAULT_ALLOW);
	assert_false(verdict.allowed);
	assert_false(verdict.would_deny);
}

static void the_narrowest_is_named(void **state)
{
	struct kmtls_authorization_verdict verdict;

	put("any", "any", 0, ALLOW);
	put("namespace:example.org/shop", "any", 0, ALLOW);
	put(SOURCE, "any", 0, ALLOW);
	put(SOURCE, "any", PORT, ALLOW);
	verdict = ask(KMTLS_AUTHORIZATION_DEFAULT_DENY);
	assert_memory_equal(&verdict.rule, &map[3], sizeof(map[0]));
}

static void without_a_namespace(void **state)
{
	struct kmtls_authorization_question question =
		question_of("spiffe://example.org/web", DESTINATION, PORT);
	struct kmtls_authorization_lookup lookup = { .get = get, .fallback = 1 };
	struct kmtls_authorization_verdict verdict;

	/* As a forged entry would have it: a namespace whose hash is 0. */
	map[entries++] = (struct kmtls_authorization_rule){
		.key = { .source_kind = KMTLS_MATCH_NAMESPACE,
			 .destination_kind = KMTLS_MATCH_ANY },
		.value = { .action = DENY },
	};
	probes = 0;
	kmtls_authorization_decide(&question, &lookup, &verdict);
	assert_true(verdict.allowed);
	assert_int_equal(probes, 24);
	put("trust-domain:example.org", "any", 0, DENY);
	kmtls_authorization_decide(&question, &lookup, &verdict);
	assert_false(verdict.allowed);
}

static void the_map_fails(void **state)
{
	put("any", "any", 0, ALLOW);
	map_error = -EPERM;
	assert_false(ask(KMTLS_AUTHORIZATION_DEFAULT_ALLOW).allowed);
	assert_int_equal(ask(1).decider, KMTLS_DECIDED_BY_DOUBT);
}

/* A field that cannot be read means every value it could have; the others mean what they say. */
static void unreadable_keys(void **state)
{
	struct kmtls_authorization_question question = question_of(SOURCE, DESTINATION, PORT);
	struct kmtls_authorization_key key;

	put(SOURCE, DESTINATION, PORT, DENY);
	put("any", "any", 0, DENY);
	for (int i = 0; i < 2; i++) {
		assert_true(kmtls_authorization_is_readable(&map[i].key));
		assert_true(kmtls_authorization_may_mean(&map[i].key, &question));
	}
	key = map[0].key;
	key.source_kind = 9;
	assert_false(kmtls_authorization_is_readable(&key));
	assert_true(kmtls_authorization_may_mean(&key, &question));
	key.port = PORT + 1;
	assert_false(kmtls_authorization_may_mean(&key, &question));
	key = map[0].key;
	key.destination_kind = 0;
	key.source++;
	assert_false(kmtls_authorization_is_readable(&key));
	assert_false(kmtls_authorization_may_mean(&key, &question));
	key = map[1].key;
	key.source = 5; /* any, and yet somebody */
	assert_false(kmtls_authorization_is_readable(&key));
	assert_true(kmtls_authorization_may_mean(&key, &question));
	key = map[0].key;
	key.destination = 0; /* exactly nobody */
	assert_false(kmtls_authorization_is_readable(&key));
	assert_true(kmtls_authorization_may_mean(&key, &question));
	key = map[0].key;
	key.pad = 1;
	assert_false(kmtls_authorization_is_readable(&key));
	assert_true(kmtls_authorization_may_mean(&key, &question));
}

/* ---- what a look at the whole map has found ---- */

static struct kmtls_authorization_question asked(void)
{
	return question_of(SOURCE, DESTINATION, PORT);
}

static int find_doubt(struct kmtls_authorization_rule *ret_rule)
{
	struct kmtls_authorization_question question = asked();
	struct kmtls_authorization_lookup lookup = { .get = get };

	probes = 0;
	return kmtls_doubts_find(&question, &lookup, ret_rule);
}

/* All that is in the map. */
static void look(void)
{
	struct kmtls_doubts *doubts = kmtls_doubts_new();

	for (unsigned i = 0; i < entries; i++)
		assert_int_equal(kmtls_doubts_add(&doubts, &map[i]), 0);
	kmtls_doubts_publish(doubts);
}

static void put_unreadable(unsigned kind, __u16 port, __u32 action)
{
	put(SOURCE, DESTINATION, port, action);
	map[entries - 1].key.source_kind = kind;
}

static void doubts_deny(void **state)
{
	struct kmtls_authorization_rule rule;

	kmtls_doubts_publish(NULL);
	assert_int_equal(find_doubt(&rule), -ENODATA);
	look();
	assert_int_equal(find_doubt(&rule), 0);
	for (unsigned kind = 20; kind < 50; kind++) /* more than there is room for at first */
		put_unreadable(kind, PORT + 1, DENY);
	put_unreadable(9, PORT, ALLOW);
	put_unreadable(9, 0, DRY_RUN);
	put(SOURCE, DESTINATION, PORT, DENY); /* readable: found by its key */
	look();
	assert_int_equal(find_doubt(&rule), 0);
	assert_int_equal(probes, 0);
	put_unreadable(10, 0, DENY);
	look();
	assert_int_equal(find_doubt(&rule), 1);
	assert_memory_equal(&rule, &map[entries - 1], sizeof(rule));
	assert_int_equal(probes, 1);
	map[entries - 1].value.action = UNKNOWN;
	assert_int_equal(find_doubt(&rule), 1);
	assert_int_equal(rule.value.action, UNKNOWN);
}

/* What has changed since the look counts, where it can be found. */
static void doubts_of_before(void **state)
{
	struct kmtls_authorization_rule rule;

	put_unreadable(9, PORT, DENY);
	put_unreadable(10, PORT, DENY);
	look();
	map[0].value.action = ALLOW;
	assert_int_equal(find_doubt(&rule), 1);
	assert_int_equal(rule.key.source_kind, 10);
	map_error = -EPERM;
	assert_int_equal(find_doubt(&rule), -EPERM);
	map_error = 0;
	entries = 1;
	assert_int_equal(find_doubt(&rule), 0);
	kmtls_doubts_publish(NULL);
	assert_int_equal(find_doubt(&rule), -ENODATA);
}

static void *ask_and_ask(void *stop)
{
	struct kmtls_authorization_rule rule;

	while (!atomic_load((atomic_bool *)stop))
		if (find_doubt(&rule) != 1 || rule.key.source_kind != 9)
			return stop;
	return NULL;
}

/* One array takes the place of another under those who search it. */
static void doubts_are_replaced(void **state)
{
	atomic_bool stop = false;
	pthread_t threads[3];
	void *wrong;

	for (int i = 0; i < 40; i++)
		put_unreadable(100, PORT + 1, DENY);
	put_unreadable(9, PORT, DENY);
	look();
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_and_ask, &stop), 0);
	for (int i = 0; i < 2000; i++)
		look();
	atomic_store(&stop, true);
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], &wrong);
		assert_null(wrong);
	}
	kmtls_doubts_publish(NULL);
}

static void actions(void **state)
{
	static const char *const names[] = { NULL, "allow", "deny", "dry-run" };
	char buffer[32];
	__u32 action;

	for (__u32 i = 1; i < 4; i++) {
		assert_int_equal(kmtls_authorization_parse_action(names[i], &action), 0);
		assert_int_equal(action, i);
		assert_string_equal(kmtls_authorization_action_name(i, buffer), names[i]);
	}
	assert_int_equal(kmtls_authorization_parse_action("denied", &action), -EINVAL);
	assert_int_equal(kmtls_authorization_parse_action("", &action), -EINVAL);
	assert_string_equal(kmtls_authorization_action_name(0, buffer), "unknown-0");
	assert_string_equal(kmtls_authorization_action_name(4, buffer), "unknown-4");
}

/* ---- the sentence ---- */

static const char *sentence(size_t source_length, size_t destination_length, size_t size)
{
	static char why[KMTLS_AUTHORIZATION_WHY], source[KMTLS_SUBJECT_TEXT],
		destination[KMTLS_SUBJECT_TEXT];
	const struct kmtls_authorization_rule rule = {
		.key = { .source = 1, .destination = 2, .source_kind = 9, .port = 65535 },
		.value = { .action = 0xffffffff },
	};

	memset(source, 's', source_length);
	memset(destination, 'd', destination_length);
	source[source_length] = destination[destination_length] = '\0';
	assert_true(size <= sizeof(why));
	kmtls_authorization_sentence(&rule, source, destination, why, size);
	assert_true(strlen(why) < size);
	assert_non_null(strstr(why, "rule unknown-4294967295 s"));
	assert_non_null(strstr(why, " to d"));
	assert_string_equal(strstr(why, " port "), " port 65535 (not readable, taken as wide)");
	return why;
}

/* The longest there can be: whole. */
static void whole_sentence(void **state)
{
	const char *why =
		sentence(KMTLS_SUBJECT_TEXT - 1, KMTLS_SUBJECT_TEXT - 1, KMTLS_AUTHORIZATION_WHY);

	assert_int_equal(strspn(why + strlen("rule unknown-4294967295 "), "s"),
			 KMTLS_SUBJECT_TEXT - 1);
	assert_null(strstr(why, "..."));
}

/* For the log: what has room is whole, and what has none loses the ends of the names. */
static void shortened_sentence(void **state)
{
	const char *why = sentence(2048, 2048, KMTLS_AUTHORIZATION_LINE);

	assert_non_null(strstr(why, "sss... to d"));
	assert_non_null(strstr(why, "ddd... port"));
	assert_null(strstr(sentence(1100, 1100, KMTLS_AUTHORIZATION_LINE), "..."));
	assert_null(strstr(sentence(2048, 150, KMTLS_AUTHORIZATION_LINE), "..."));
	why = sentence(40, 2048, 1000);
	assert_null(strstr(why, "s..."));
	assert_non_null(strstr(why, "ddd... port"));
	assert_int_equal(strlen(why), 999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(nothing_is_said, empty),
		cmocka_unit_test_setup(every_key, empty),
		cmocka_unit_test_setup(others_keys, empty),
		cmocka_unit_test_setup(deny_beats_allow, empty),
		cmocka_unit_test_setup(dry_run_decides_nothing, empty),
		cmocka_unit_test_setup(the_narrowest_is_named, empty),
		cmocka_unit_test_setup(without_a_namespace, empty),
		cmocka_unit_test_setup(the_map_fails, empty),
		cmocka_unit_test_setup(unreadable_keys, empty),
		cmocka_unit_test_setup(doubts_deny, empty),
		cmocka_unit_test_setup(doubts_of_before, empty),
		cmocka_unit_test_setup(doubts_are_replaced, empty),
		cmocka_unit_test(actions),
		cmocka_unit_test(whole_sentence),
		cmocka_unit_test(shortened_sentence),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("authorization", tests, NULL, NULL);
}
