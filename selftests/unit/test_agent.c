/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_agent.c - the small parts of the clients of SPIFFE agents; selftests/agent has the rest, against
 * servers.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "agent.h"
#include "wiping.h"
#include "workload_identity.h"

static void pauses_double_and_are_spread(void **state)
{
	struct kmtls_agent_pause pause = { .min = 500, .max = 30000, .next = 500 };
	unsigned whole = 500, halves = 0, taken;

	for (int i = 0; i < 40; i++) {
		taken = kmtls_agent_pause_take(&pause);
		assert_in_range(taken, whole / 2, whole);
		halves += taken < whole * 3 / 4;
		whole = whole * 2 > 30000 ? 30000 : whole * 2;
	}
	/* A coin that falls on one side forty times is none. */
	assert_in_range(halves, 1, 39);
	assert_int_equal(pause.next, 30000);
	kmtls_agent_pause_reset(&pause);
	assert_in_range(kmtls_agent_pause_take(&pause), 250, 500);
}

static void the_longest_pause_is_reached(void **state)
{
	struct kmtls_agent_pause odd = { .min = 3, .max = 5, .next = 3 };

	kmtls_agent_pause_take(&odd);
	assert_int_equal(odd.next, 5);
	assert_in_range(kmtls_agent_pause_take(&odd), 2, 5);
	assert_int_equal(odd.next, 5);
}

static void sockets_are_paths(void **state)
{
	static const char *const good[] = { "/run/agent.sock", "unix:/run/agent.sock",
					    "unix:///run/agent.sock" };
	static const char *const bad[] = { "",
					   "run/agent.sock",
					   "unix:",
					   "unix://",
					   "unix://host/x",
					   "tcp://127.0.0.1:1",
					   "unix:///x?y=z",
					   "unix:///x#y",
					   "unix:///%2e",
					   "unix:agent.sock",
					   "UNIX:///x" };
	char why[KMTLS_GRPC_WHY];
	const char *path;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(kmtls_agent_parse_socket(good[i], &path, why), 0);
		assert_string_equal(path, "/run/agent.sock");
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why[0] = '\0';
		assert_int_equal(kmtls_agent_parse_socket(bad[i], &path, why), -EINVAL);
		assert_true(*why);
	}
}

static void views_tell_no_from_trouble(void **state)
{
	struct kmtls_agent_view view = { 0 };

	assert_int_equal(kmtls_agent_failed_state(KMTLS_GRPC_PERMISSION_DENIED),
			 KMTLS_AGENT_REFUSED);
	assert_int_equal(kmtls_agent_failed_state(KMTLS_GRPC_INVALID_ARGUMENT),
			 KMTLS_AGENT_REFUSED);
	assert_int_equal(kmtls_agent_failed_state(KMTLS_GRPC_UNAVAILABLE), KMTLS_AGENT_WAITING);
	kmtls_agent_view_fail(&view, KMTLS_GRPC_UNIMPLEMENTED, "no such service");
	assert_int_equal(view.state, KMTLS_AGENT_REFUSED);
	assert_int_equal(view.failures, 1);
	assert_string_equal(view.why, "no such service");
	kmtls_agent_view_set(&view, KMTLS_AGENT_CONNECTING);
	assert_string_equal(view.why, "no such service");
	kmtls_agent_view_set(&view, KMTLS_AGENT_STREAMING);
	assert_string_equal(view.why, "");
	assert_string_equal(kmtls_agent_state_name(KMTLS_AGENT_REFUSED), "refused");
	assert_string_equal(kmtls_agent_state_name(99), "unknown");
	assert_string_equal(kmtls_grpc_code_name(16), "Unauthenticated");
	assert_string_equal(kmtls_grpc_code_name(17), "code of no meaning");
}

static void trust_domains_are_names_or_ids(void **state)
{
	static const char *const bad[] = { "",
					   "spiffe://",
					   "spiffe://example.org/",
					   "example.org/path",
					   "Example.org",
					   "https://example.org",
					   "exa mple.org" };
	char long_name[300];
	const char *rule;

	assert_string_equal(kmtls_workload_trust_domain("example.org", &rule), "example.org");
	assert_string_equal(kmtls_workload_trust_domain("spiffe://example.org", &rule),
			    "example.org");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rule = NULL;
		assert_null(kmtls_workload_trust_domain(bad[i], &rule));
		assert_non_null(rule);
	}
	memset(long_name, 'a', sizeof(long_name));
	long_name[255] = '\0';
	assert_non_null(kmtls_workload_trust_domain(long_name, &rule));
	long_name[255] = 'a';
	long_name[256] = '\0';
	assert_null(kmtls_workload_trust_domain(long_name, &rule));
}

static void wiping_memory_is_memory(void **state)
{
	unsigned char *bytes = kmtls_wiping_zalloc(3, 7);

	for (int i = 0; i < 21; i++)
		assert_int_equal(bytes[i], 0);
	assert_int_equal((uintptr_t)bytes % _Alignof(max_align_t), 0);
	memcpy(bytes, "abc", 3);
	bytes = kmtls_wiping_realloc(bytes, 100000);
	assert_memory_equal(bytes, "abc", 3);
	bytes = kmtls_wiping_realloc(bytes, 2);
	assert_memory_equal(bytes, "ab", 2);
	kmtls_wiping_free(bytes);
	kmtls_wiping_free(NULL);
	bytes = kmtls_wiping_realloc(NULL, 1);
	assert_non_null(bytes);
	kmtls_wiping_free(bytes);
	assert_null(kmtls_wiping_zalloc(SIZE_MAX, 2));
	assert_null(kmtls_wiping_alloc(SIZE_MAX));
}

static void protobuf_has_a_budget(void **state)
{
	struct kmtls_wiping_protobuf memory;
	void *piece;

	kmtls_wiping_protobuf_init(&memory, 1000);
	piece = memory.allocator.alloc(memory.allocator.allocator_data, 600);
	assert_non_null(piece);
	/* What is given back does not count: the budget is for all of a message. */
	memory.allocator.free(memory.allocator.allocator_data, piece);
	assert_null(memory.allocator.alloc(memory.allocator.allocator_data, 600));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pauses_double_and_are_spread),
		cmocka_unit_test(the_longest_pause_is_reached),
		cmocka_unit_test(sockets_are_paths),
		cmocka_unit_test(views_tell_no_from_trouble),
		cmocka_unit_test(trust_domains_are_names_or_ids),
		cmocka_unit_test(wiping_memory_is_memory),
		cmocka_unit_test(protobuf_has_a_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
