/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_monitor.c - events from the log to subscribers: which lines are events, who gets them, and
 * what a slow reader loses. The log's level hides them all, so that the test is quiet.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "log.h"
#include "monitor.h"

static struct kmtls_subscription *subscribe(const char *pod, const char *reason)
{
	struct kmtls_subscription *subscription;

	assert_int_equal(kmtls_monitor_subscribe(pod, reason, &subscription), 0);
	return subscription;
}

/* Everything there is now, as lines. */
static char *read_all(struct kmtls_subscription *subscription)
{
	struct kmtls_text text = { .limit = 0 };
	char *copy;

	while (kmtls_monitor_read(subscription, 1 << 24, &text))
		;
	assert_int_equal(text.err, 0);
	copy = calloc(1, text.length + 1);
	if (text.length)
		memcpy(copy, text.bytes, text.length);
	kmtls_text_free(&text);
	return copy;
}

static unsigned count(const char *text, const char *part)
{
	unsigned found = 0;

	for (; (text = strstr(text, part)); text += strlen(part))
		found++;
	return found;
}

static void test_event(void **state)
{
	struct kmtls_subscription *subscription = subscribe(NULL, NULL);
	char why[256], *lines;
	json_t *event;

	log_debug("flow ended", "flow=3.4 pod=a reason=%s text=%s", "ended",
		  kmtls_log_quote("both sides ended in order"));
	lines = read_all(subscription);
	assert_int_equal(count(lines, "\n"), 1);
	assert_int_equal(kmtls_json_parse(lines, strlen(lines) - 1, &event, why), 0);
	assert_string_equal(json_string_value(json_object_get(event, "event")), "flow ended");
	assert_string_equal(json_string_value(json_object_get(event, "level")), "debug");
	assert_string_equal(json_string_value(json_object_get(event, "flow")), "3.4");
	assert_string_equal(json_string_value(json_object_get(event, "text")),
			    "both sides ended in order");
	assert_int_equal(strlen(json_string_value(json_object_get(event, "time"))), 24);
	json_decref(event);
	free(lines);
	lines = read_all(subscription);
	assert_string_equal(lines, "");
	free(lines);
	kmtls_monitor_unsubscribe(subscription);
}

/* Debug lines are events only if they are on the list; what is above always is. */
static void test_which(void **state)
{
	struct kmtls_subscription *subscription = subscribe(NULL, NULL);
	char *lines;

	assert_true(kmtls_log_is_wanted(KMTLS_LOG_DEBUG, "flow ended"));
	assert_false(kmtls_log_is_wanted(KMTLS_LOG_DEBUG, "libbpf"));
	log_debug("libbpf", "text=x");
	log_info("peer added", NULL);
	log_warning("accepting paused", "pod=a");
	log_debug("flow established", "pod=a");
	lines = read_all(subscription);
	assert_int_equal(count(lines, "\n"), 3);
	assert_int_equal(count(lines, "libbpf"), 0);
	free(lines);
	kmtls_monitor_unsubscribe(subscription);
	assert_false(kmtls_log_is_wanted(KMTLS_LOG_DEBUG, "flow ended"));
}

static void test_filters(void **state)
{
	struct kmtls_subscription *pod = subscribe("a", NULL), *reason = subscribe(NULL, "ended");
	struct kmtls_subscription *both = subscribe("a", "ended"), *all = subscribe(NULL, NULL);
	struct kmtls_subscription *each[] = { pod, reason, both, all };
	static const unsigned expected[] = { 2, 2, 1, 4 };

	log_info("flow ended", "pod=a reason=ended");
	log_info("flow ended", "pod=a reason=truncated");
	log_info("flow ended", "pod=b reason=ended");
	log_info("ready", NULL);
	for (unsigned i = 0; i < 4; i++) {
		char *lines = read_all(each[i]);

		assert_int_equal(count(lines, "\n"), expected[i]);
		free(lines);
		kmtls_monitor_unsubscribe(each[i]);
	}
}

/* The ring is as long as it is: the oldest are gone, their number is said in their place. */
static void test_lost(void **state)
{
	struct kmtls_subscription *slow = subscribe(NULL, NULL);
	char *lines;

	for (unsigned i = 0; i < KMTLS_MONITOR_EVENTS + 7; i++)
		log_info("peer added", "number=%u", i);
	lines = read_all(slow);
	assert_int_equal(count(lines, "\n"), KMTLS_MONITOR_EVENTS + 1);
	assert_int_equal(count(lines, "\"event\":\"events lost\",\"lost\":\"7\""), 1);
	assert_true(strstr(lines, "events lost") < strstr(lines, "peer added"));
	assert_null(strstr(lines, "\"number\":\"6\""));
	assert_non_null(strstr(lines, "\"number\":\"7\""));
	free(lines);
	kmtls_monitor_unsubscribe(slow);
}

/* A filter hides events, never that some are missing. */
static void test_lost_and_filtered(void **state)
{
	struct kmtls_subscription *slow = subscribe("nobody", NULL);
	char *lines;

	for (unsigned i = 0; i < KMTLS_MONITOR_EVENTS + 1; i++)
		log_info("peer added", NULL);
	lines = read_all(slow);
	assert_int_equal(count(lines, "\n"), 1);
	assert_int_equal(count(lines, "\"lost\":\"1\""), 1);
	free(lines);
	kmtls_monitor_unsubscribe(slow);
}

static void test_limit(void **state)
{
	struct kmtls_subscription *subscription = subscribe(NULL, NULL);
	struct kmtls_text text = { .limit = 0 };

	for (unsigned i = 0; i < 100; i++)
		log_info("peer added", NULL);
	assert_true(kmtls_monitor_read(subscription, 1000, &text));
	assert_in_range(text.length, 1000, 1200);
	kmtls_text_free(&text);
	kmtls_monitor_unsubscribe(subscription);
}

static void test_too_many(void **state)
{
	struct kmtls_subscription *each[KMTLS_MONITOR_SUBSCRIBERS], *more;

	for (unsigned i = 0; i < KMTLS_MONITOR_SUBSCRIBERS; i++)
		each[i] = subscribe(NULL, NULL);
	assert_int_equal(kmtls_monitor_subscribe(NULL, NULL, &more), -EBUSY);
	for (unsigned i = 0; i < KMTLS_MONITOR_SUBSCRIBERS; i++)
		kmtls_monitor_unsubscribe(each[i]);
	kmtls_monitor_unsubscribe(subscribe(NULL, NULL));
}

static void *shout(void *argument)
{
	for (unsigned i = 0; i < 20000; i++)
		log_debug("flow ended", "flow=%u.1 pod=a reason=ended", i);
	return NULL;
}

/* Threads make events while a reader comes and goes: every number is told or counted as lost. */
static void test_threads(void **state)
{
	struct kmtls_subscription *subscription = subscribe(NULL, NULL);
	unsigned long long told = 0, lost = 0;
	pthread_t threads[4];

	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, shout, NULL), 0);
	for (unsigned round = 0; round < 1000000; round++) {
		char *lines = read_all(subscription), *found = lines;

		told += count(lines, "flow ended");
		while ((found = strstr(found, "\"lost\":\"")))
			lost += strtoull(found += 8, NULL, 10);
		free(lines);
		if (told + lost == 80000)
			break;
		kmtls_monitor_unsubscribe(subscribe(NULL, NULL));
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(told + lost, 80000);
	kmtls_monitor_unsubscribe(subscription);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_event),
		cmocka_unit_test(test_which),
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_lost_and_filtered),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_threads),
	};

	kmtls_log_set_level(KMTLS_LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
