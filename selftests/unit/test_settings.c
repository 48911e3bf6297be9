/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_settings.c - what can be set at run time: which values, by the same rules as the
 * configuration file; who follows; and that the next worker has it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "address.h"
#include "config_parts.h"
#include "daemon.h"
#include "flow_table.h"
#include "pressure.h"
#include "settings.h"
#include "shared.h"
#include "sources.h"

/* The rule for people and the range for us are written in two places. */
static void test_rules(void **state)
{
	for (unsigned i = 0; i < KMTLS_SETTING_COUNT; i++) {
		const struct kmtls_setting_range *range = &kmtls_setting_ranges[i];
		char rule[128];

		if (range->duration || range->key_type || range->truth)
			continue;
		snprintf(rule, sizeof(rule), "must be a number from %u to %u", range->from,
			 range->to);
		assert_string_equal(kmtls_config_rule(range->name), rule);
	}
	assert_string_equal(kmtls_config_rule("handshake_timeout"), "must be between 1s and 5m");
	assert_string_equal(kmtls_config_rule("identity.svid_ttl"),
			    kmtls_config_rule("identity.backends[7].svid_ttl"));
	assert_string_equal(kmtls_config_rule("identity.root_ttl"),
			    "must be between 10s and 36500d");
	assert_string_equal(kmtls_config_rule("resumption_symmetric"), "must be true or false");
	assert_string_equal(kmtls_config_rule("identity.key_type"),
			    kmtls_config_rule("identity.backends[0].key_type"));
}

static void test_parse(void **state)
{
	static const struct {
		enum kmtls_setting setting;
		const char *text;
		int err;
		unsigned value;
	} table[] = {
		{ KMTLS_SETTING_HANDSHAKES, "0", 0, 0 },
		{ KMTLS_SETTING_RESUMPTION_SYMMETRIC, "true", 0, 1 },
		{ KMTLS_SETTING_RESUMPTION_SYMMETRIC, "false", 0, 0 },
		{ KMTLS_SETTING_RESUMPTION_SYMMETRIC, "1", -EINVAL, 0 },
		{ KMTLS_SETTING_RESUMPTION_SYMMETRIC, "", -EINVAL, 0 },
		{ KMTLS_SETTING_HANDSHAKES, "1048576", 0, 1048576 },
		{ KMTLS_SETTING_HANDSHAKES, "1048577", -EINVAL, 0 },
		{ KMTLS_SETTING_HANDSHAKES, "4294967296", -EINVAL, 0 },
		{ KMTLS_SETTING_HANDSHAKES, "99999999999999999999", -EINVAL, 0 },
		{ KMTLS_SETTING_HANDSHAKES, "-1", -EINVAL, 0 },
		{ KMTLS_SETTING_HANDSHAKES, "0x10", -EINVAL, 0 },
		{ KMTLS_SETTING_HANDSHAKES, "010", -EINVAL, 0 },
		{ KMTLS_SETTING_HANDSHAKES, "1m", -EINVAL, 0 },
		{ KMTLS_SETTING_HANDSHAKES, " 1", -EINVAL, 0 },
		{ KMTLS_SETTING_HANDSHAKES, "", -EINVAL, 0 },
		{ KMTLS_SETTING_HANDSHAKE_TIMEOUT, "1", 0, 1 },
		{ KMTLS_SETTING_HANDSHAKE_TIMEOUT, "90s", 0, 90 },
		{ KMTLS_SETTING_HANDSHAKE_TIMEOUT, "5m", 0, 300 },
		{ KMTLS_SETTING_HANDSHAKE_TIMEOUT, "0", -EINVAL, 0 },
		{ KMTLS_SETTING_HANDSHAKE_TIMEOUT, "301s", -EINVAL, 0 },
		{ KMTLS_SETTING_HANDSHAKE_TIMEOUT, "5min", -EINVAL, 0 },
		{ KMTLS_SETTING_RENEW_AT, "10", 0, 10 },
		{ KMTLS_SETTING_RENEW_AT, "96", -EINVAL, 0 },
		{ KMTLS_SETTING_SVID_TTL, "3650d", 0, 3650 * 86400 },
		{ KMTLS_SETTING_SVID_TTL, "9s", -EINVAL, 0 },
		{ KMTLS_SETTING_ROOT_TTL, "36500d", 0, 36500u * 86400u },
		{ KMTLS_SETTING_ROOT_TTL, "36501d", -EINVAL, 0 },
		{ KMTLS_SETTING_KEY_TYPE, "rsa-3072", 0, KMTLS_KEY_RSA_3072 },
		{ KMTLS_SETTING_KEY_TYPE, "1", -EINVAL, 0 },
		{ KMTLS_SETTING_KEY_TYPE, "rsa", -EINVAL, 0 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		unsigned value = 0;

		assert_int_equal(kmtls_setting_parse(table[i].setting, table[i].text, &value),
				 table[i].err);
		assert_int_equal(value, table[i].value);
	}
}

static void test_set(void **state)
{
	struct kmtls_config config = { .limits = { .handshakes_per_source = 1 } }, fresh = config;
	struct kmtls_flow_table flows = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct kmtls_shared *shared = calloc(1, sizeof(*shared));
	struct kmtls_daemon daemon = { .config = &config, .shared = shared, .flows = &flows };
	struct kmtls_address someone;

	assert_int_equal(kmtls_address_parse("10.0.0.1", &someone), 0);
	assert_int_equal(kmtls_sources_open(1, 0, 16, &daemon.sources), 0);
	assert_int_equal(kmtls_pressure_open(-1, 0, &daemon.pressure), 0);
	assert_int_equal(kmtls_sources_enter(daemon.sources, &someone), 0);
	assert_int_equal(kmtls_sources_enter(daemon.sources, &someone), -EDQUOT);
	kmtls_setting_set(&daemon, KMTLS_SETTING_HANDSHAKES_PER_SOURCE, 3);
	assert_int_equal(kmtls_sources_enter(daemon.sources, &someone), 0);
	kmtls_setting_set(&daemon, KMTLS_SETTING_HANDSHAKES, 2);
	assert_int_equal(kmtls_sources_enter(daemon.sources, &someone), -ENOSPC);
	/* No limit is a value, too. */
	kmtls_setting_set(&daemon, KMTLS_SETTING_HANDSHAKES, 0);
	assert_int_equal(kmtls_sources_enter(daemon.sources, &someone), 0);
	kmtls_setting_set(&daemon, KMTLS_SETTING_FLOWS_PER_POD, 7);
	assert_int_equal(flows.pod_limit, 7);
	kmtls_setting_set(&daemon, KMTLS_SETTING_HANDSHAKE_TIMEOUT, 42);
	assert_int_equal(kmtls_setting_get(&daemon, KMTLS_SETTING_HANDSHAKE_TIMEOUT), 42);
	kmtls_setting_set(&daemon, KMTLS_SETTING_REFUSAL_LINES, 0);
	kmtls_setting_set(&daemon, KMTLS_SETTING_MEMORY_PERCENT, 50);

	/* The next worker: the keeper's configuration, and what was set; what was not stays. */
	fresh.limits.handshakes = 4096;
	fresh.limits.refusal_lines = 20;
	fresh.prefer_chacha20 = true;
	daemon.config = &fresh;
	flows.pod_limit = 0;
	kmtls_settings_restore(&daemon);
	assert_int_equal(fresh.handshake_timeout, 42);
	assert_int_equal(fresh.limits.handshakes, 0);
	assert_int_equal(fresh.limits.handshakes_per_source, 3);
	assert_int_equal(fresh.limits.refusal_lines, 0);
	assert_int_equal(fresh.limits.memory_percent, 50);
	assert_int_equal(fresh.limits.flows_per_pod, 7);
	assert_int_equal(flows.pod_limit, 7);
	assert_true(fresh.prefer_chacha20);
	kmtls_sources_close(daemon.sources);
	kmtls_pressure_close(daemon.pressure);
	free(shared);
}

/* Those of the backend that is enabled: what it does not have is not there. */
static void test_backend(void **state)
{
	struct kmtls_config_backend backend = { .type = KMTLS_BACKEND_BUILTIN, .root_ttl = 99 };
	struct kmtls_config config = { .identity = { .enabled = &backend } };
	struct kmtls_shared *shared = calloc(1, sizeof(*shared));
	struct kmtls_daemon daemon = { .config = &config, .shared = shared };

	assert_int_equal(kmtls_setting_get(&daemon, KMTLS_SETTING_ROOT_TTL), 99);
	kmtls_setting_set(&daemon, KMTLS_SETTING_SVID_TTL, 42);
	kmtls_setting_set(&daemon, KMTLS_SETTING_KEY_TYPE, KMTLS_KEY_EC_P384);
	kmtls_setting_set(&daemon, KMTLS_SETTING_ROOT_TTL, 43);
	kmtls_setting_set(&daemon, KMTLS_SETTING_RENEW_AT, 50);
	assert_int_equal(backend.svid_ttl, 42);
	assert_int_equal(backend.key_type, KMTLS_KEY_EC_P384);
	assert_int_equal(backend.root_ttl, 43);
	assert_int_equal(config.identity.renew_at, 50);
	/* The next worker's. */
	backend = (struct kmtls_config_backend){ .type = KMTLS_BACKEND_PROVIDED };
	assert_true(kmtls_setting_is_there(&daemon, KMTLS_SETTING_SVID_TTL));
	assert_false(kmtls_setting_is_there(&daemon, KMTLS_SETTING_ROOT_TTL));
	kmtls_settings_restore(&daemon);
	assert_int_equal(backend.svid_ttl, 42);
	assert_int_equal(backend.root_ttl, 0);
	config.identity.enabled = NULL;
	assert_false(kmtls_setting_is_there(&daemon, KMTLS_SETTING_SVID_TTL));
	assert_false(kmtls_setting_is_there(&daemon, KMTLS_SETTING_KEY_TYPE));
	assert_true(kmtls_setting_is_there(&daemon, KMTLS_SETTING_RENEW_AT));
	kmtls_settings_restore(&daemon);
	free(shared);
}

/* A first worker: nothing was set. */
static void test_nothing_set(void **state)
{
	struct kmtls_config config = { .handshake_timeout = 10 };
	struct kmtls_shared *shared = calloc(1, sizeof(*shared));
	struct kmtls_daemon daemon = { .config = &config, .shared = shared };

	kmtls_settings_restore(&daemon);
	assert_int_equal(config.handshake_timeout, 10);
	free(shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),	    cmocka_unit_test(test_parse),
		cmocka_unit_test(test_set),	    cmocka_unit_test(test_backend),
		cmocka_unit_test(test_nothing_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
