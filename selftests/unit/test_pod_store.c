/* SPDX-License-Identifier: Apache-2.0 */
/* test_pod_store.c - who is remembered, and whose SPIFFE ID is still someone's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "log.h"
#include "pod_store.h"

#define WEB "spiffe://example.org/ns/shop/sa/web"
#define DB "spiffe://example.org/ns/shop/sa/db"

static char run_dir[] = "/tmp/kmtls-test-pods-XXXXXX";

static void put_with(const char *name, const char *id, enum kmtls_accel accel)
{
	const struct kmtls_pod_spec spec = {
		.name = name, .netns = "/run/netns/x", .cgroup = "/c", .id = id, .accel = accel
	};
	char why[KMTLS_WHY];

	assert_int_equal(kmtls_pod_store_put(run_dir, &spec, why), 0);
}

static void put(const char *name, const char *id)
{
	put_with(name, id, KMTLS_ACCEL_DEFAULT);
}

static void ids(void **state)
{
	char *id;

	assert_false(kmtls_pod_store_uses(run_dir, WEB));
	assert_int_equal(kmtls_pod_store_id(run_dir, "shop/one", &id), -ENOENT);
	put("shop/one", WEB);
	put("shop/two", WEB);
	put("three", DB);
	assert_int_equal(kmtls_pod_store_id(run_dir, "shop/one", &id), 0);
	assert_string_equal(id, WEB);
	free(id);
	assert_int_equal(kmtls_pod_store_id(run_dir, "three", &id), 0);
	assert_string_equal(id, DB);
	free(id);
	kmtls_pod_store_delete(run_dir, "shop/one");
	assert_true(kmtls_pod_store_uses(run_dir, WEB));
	assert_false(kmtls_pod_store_uses(run_dir, "spiffe://example.org/ns/shop/sa/we"));
	kmtls_pod_store_delete(run_dir, "shop/two");
	assert_false(kmtls_pod_store_uses(run_dir, WEB));
	assert_true(kmtls_pod_store_uses(run_dir, DB));
	kmtls_pod_store_delete(run_dir, "three");
}

/* A file that cannot be read is remembered, but nobody knows whose it is. */
static void unreadable(void **state)
{
	char command[128], *id;

	put("a", WEB);
	snprintf(command, sizeof(command), "for f in %s/pods/*; do echo broken >$f; done", run_dir);
	assert_int_equal(system(command), 0);
	kmtls_log_set_level(0);
	assert_int_equal(kmtls_pod_store_id(run_dir, "a", &id), -EINVAL);
	assert_false(kmtls_pod_store_uses(run_dir, WEB));
	kmtls_pod_store_delete(run_dir, "a");
	assert_int_equal(kmtls_pod_store_id(run_dir, "a", &id), -ENOENT);
}

static void look(void *context, const struct kmtls_pod_spec *spec)
{
	enum kmtls_accel *accel = context;

	*accel = spec->accel;
}

/* What was not said is not remembered either: the default may be another next time. */
static void accel(void **state)
{
	static const enum kmtls_accel all[] = { KMTLS_ACCEL_DEFAULT, KMTLS_ACCEL_AUTO,
						KMTLS_ACCEL_OFF, KMTLS_ACCEL_ON };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		enum kmtls_accel found = (enum kmtls_accel) - 1;

		put_with("one", WEB, all[i]);
		kmtls_pod_store_visit(run_dir, look, &found);
		assert_int_equal(found, all[i]);
		kmtls_pod_store_delete(run_dir, "one");
	}
}

static int setup(void **state)
{
	char why[KMTLS_WHY];

	return mkdtemp(run_dir) ? kmtls_pod_store_open(run_dir, why) : -1;
}

static int teardown(void **state)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/pods", run_dir);
	rmdir(path);
	return rmdir(run_dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids),
		cmocka_unit_test(unreadable),
		cmocka_unit_test(accel),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("pod_store", tests, setup, teardown);
}
