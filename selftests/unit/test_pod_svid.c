/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_pod_svid.c - rotation: when it is due, by hand, when the source fails, over workers that die;
 * and that whoever holds an SVID keeps it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "certificates.h"
#include "config.h"
#include "daemon.h"
#include "hash.h"
#include "identity.h"
#include "pod.h"
#include "pod_svid.h"
#include "pods_table.h"
#include "secret_region.h"
#include "shared.h"
#include "written.h"
#include "svid_store.h"

static char why[KMTLS_WHY];
static struct kmtls_config_backend backends[2];
static struct kmtls_config config;
static struct kmtls_daemon daemon_;
static struct kmtls_pods pods;
static int shared_fd, secret_fd;

static void open_source(void)
{
	const struct kmtls_identities_options options = { .config = &config,
							  .secrets = daemon_.secrets };

	kmtls_identities_close(daemon_.identities);
	if (kmtls_identities_open(&options, &daemon_.identities, why))
		fail_msg("%s", why);
	kmtls_identities_keep(daemon_.identities);
}

static struct kmtls_pod *new_pod(const char *name, const char *id)
{
	struct kmtls_pod *pod = calloc(1, sizeof(*pod));
	struct kmtls_shared_pod *entry;

	pod->references = 1;
	pod->netns_fd = pod->cgroup_fd = pod->injector.raw4 = pod->injector.raw6 = -1;
	for (unsigned i = 0; i < KMTLS_ACCEPTOR_COUNT; i++)
		pod->listeners[i] = -1;
	pod->name = strdup(name);
	pod->id = strdup(id);
	pod->name_hash = kmtls_hash_text(name);
	pthread_mutex_init(&pod->svid_lock, NULL);
	entry = kmtls_shared_pod_find(daemon_.shared, pod->name_hash);
	if (entry) { /* as pod_enrol.c adopts what a worker before had */
		pod->rotation.issued = entry->svid_issued;
		pod->rotation.rotations = entry->rotations;
		pod->rotation.failures = entry->rotation_failures;
	}
	return pod;
}

/* Two pods, as if they were enrolled. */
static void enrol(void)
{
	static const char *const names[] = { "a", "b" }, *const ids[] = { TEST_CLIENT_ID,
									  TEST_SERVER_ID };

	for (unsigned i = 0; i < 2; i++) {
		pods.table[i] = new_pod(names[i], ids[i]);
		if (kmtls_pod_svid_first(&pods, pods.table[i], why))
			fail_msg("%s", why);
		kmtls_shared_pod_put(daemon_.shared, pods.table[i]);
	}
}

static void leave(void)
{
	for (unsigned i = 0; i < 2; i++) {
		kmtls_pod_put(pods.table[i]);
		pods.table[i] = NULL;
	}
}

static int setup(void **state)
{
	for (unsigned i = 0; i < 2; i++)
		backends[i] = (struct kmtls_config_backend){
			.name = (char *)(i ? "two" : "one"),
			.type = KMTLS_BACKEND_BUILTIN,
			.trust = true,
			.key_type = KMTLS_KEY_EC_P256,
			.root_ttl = 3600,
			.svid_ttl = 100,
		};
	config = (struct kmtls_config){
		.identity = {
			.trust_domain = (char *)TEST_TRUST_DOMAIN,
			.renew_at = 80,
			.backends = backends,
			.backends_count = 2,
			.enabled = &backends[0],
		},
	};
	daemon_ = (struct kmtls_daemon){ .config = &config };
	pods = (struct kmtls_pods){ .daemon = &daemon_ };
	pthread_mutex_init(&pods.lock, NULL);
	pthread_mutex_init(&pods.renewal, NULL);
	assert_int_equal(kmtls_shared_create(&daemon_.shared, &shared_fd), 0);
	assert_int_equal(kmtls_secret_region_create(4, &daemon_.secrets, &secret_fd, why), 0);
	open_source();
	return 0;
}

static int teardown(void **state)
{
	leave();
	kmtls_identities_close(daemon_.identities);
	close(shared_fd);
	close(secret_fd);
	return 0;
}

static void remember(void *context, const struct kmtls_pod_svid_info *info)
{
	if (!strcmp(info->name, "a"))
		*(struct kmtls_pod_svid_info *)context = *info;
}

static struct kmtls_pod_svid_info look(void)
{
	struct kmtls_pod_svid_info info = {};

	kmtls_pod_svid_visit(&pods, remember, &info);
	return info;
}

static void tick(void)
{
	for (unsigned i = 0; i < 2; i++)
		kmtls_pod_svid_tick(&pods, pods.table[i]);
}

static void due(void **state)
{
	struct kmtls_pod_svid_info before, after;
	time_t now = time(NULL);

	enrol();
	before = look();
	assert_string_equal(before.source, "one");
	assert_string_equal(before.issuer, "CN=" TEST_TRUST_DOMAIN ",O=kmtls");
	assert_in_range(strlen(before.serial), 16, 32);
	assert_in_range(before.rotation.issued, now, now + 2);
	assert_in_range(before.rotation.due, before.rotation.issued + 77,
			before.rotation.issued + 83);
	assert_int_equal(before.rotation.rotations, 0);
	tick();
	after = look();
	assert_string_equal(after.serial, before.serial); /* not yet */
	pods.table[0]->rotation.due = now;
	tick();
	after = look();
	assert_string_not_equal(after.serial, before.serial);
	assert_int_equal(after.rotation.rotations, 1);
	assert_int_equal(pods.table[1]->rotation.rotations, 0);
	assert_true(after.rotation.due > now);
}

/* Pods that were enrolled in one moment do not stay together. */
static void jitter(void **state)
{
	time_t first = 0;
	bool differ = false;

	backends[0].svid_ttl = 3600;
	enrol();
	for (unsigned i = 0; i < 20 && !differ; i++) {
		unsigned count;

		assert_int_equal(kmtls_pod_svid_renew(&pods, "a", &count, why), 0);
		assert_int_equal(count, 1);
		differ = first && llabs(first - pods.table[0]->rotation.due) > 5;
		first = pods.table[0]->rotation.due;
	}
	assert_true(differ);
}

static void by_hand(void **state)
{
	struct kmtls_pod_svid_info before;
	unsigned count = 0;

	enrol();
	before = look();
	assert_int_equal(kmtls_pod_svid_renew(&pods, "b", &count, why), 0);
	assert_int_equal(count, 1);
	assert_string_equal(look().serial, before.serial);
	assert_int_equal(kmtls_pod_svid_renew(&pods, NULL, &count, why), 0);
	assert_int_equal(count, 2);
	assert_string_not_equal(look().serial, before.serial);
	assert_int_equal(pods.table[1]->rotation.rotations, 2);
	assert_int_equal(kmtls_pod_svid_renew(&pods, "c", &count, why), -ENOENT);
	assert_string_equal(why, "pod c: is not enrolled");
}

/* The source cannot issue: what there is stays, and it is tried again, less and less often. */
static void failures(void **state)
{
	struct kmtls_pod_svid_info before, after;
	struct kmtls_svid *svid;
	unsigned count;
	time_t now;

	enrol();
	before = look();
	free(pods.table[0]->id);
	pods.table[0]->id = strdup("spiffe://elsewhere.org/a");
	for (unsigned i = 1; i <= 4; i++) {
		now = time(NULL);
		assert_int_equal(kmtls_pod_svid_renew(&pods, "a", &count, why), -EINVAL);
		after = look();
		assert_int_equal(after.rotation.failures, i);
		assert_in_range(after.rotation.due, now + (1 << (i - 1)), now + 1 + (1 << i));
		assert_string_equal(after.rotation.last_error, "spiffe://elsewhere.org/a: is not "
							       "of the trust domain example.org");
	}
	assert_string_equal(after.serial, before.serial);
	svid = kmtls_pod_svid(pods.table[0]);
	assert_non_null(svid);
	kmtls_svid_put(svid);
	free(pods.table[0]->id);
	pods.table[0]->id = strdup(TEST_CLIENT_ID);
	pods.table[0]->rotation.due = 0;
	tick();
	after = look();
	assert_int_equal(after.rotation.failures, 4);
	assert_int_equal(after.rotation.in_a_row, 0);
	assert_string_equal(after.rotation.last_error, "");
	assert_int_equal(after.rotation.rotations, 1);
}

/* One of all fails: the others have theirs. */
static void one_fails(void **state)
{
	unsigned count = 0;

	enrol();
	free(pods.table[0]->id);
	pods.table[0]->id = strdup("spiffe://elsewhere.org/a");
	assert_int_equal(kmtls_pod_svid_renew(&pods, NULL, &count, why), -EINVAL);
	assert_int_equal(count, 1);
	assert_int_equal(pods.table[1]->rotation.rotations, 1);
}

static void next_worker(void **state)
{
	struct kmtls_pod_svid_info before, after;
	unsigned count;

	enrol();
	assert_int_equal(kmtls_pod_svid_renew(&pods, "a", &count, why), 0);
	before = look();
	leave();
	/* The same keeper's: what is kept is used, and goes on to count. */
	daemon_.inherited = true;
	open_source();
	enrol();
	after = look();
	assert_string_equal(after.serial, before.serial);
	assert_string_equal(after.source, "one");
	assert_int_equal(after.rotation.rotations, 1);
	assert_int_equal(after.rotation.issued, before.rotation.issued);
	assert_in_range(after.rotation.due, after.rotation.issued + 77, after.rotation.issued + 83);
	leave();
	/* Of a new keeper, with another source: all are issued anew at once. */
	daemon_.gated = true;
	config.identity.enabled = &backends[1];
	open_source();
	enrol();
	after = look();
	assert_string_equal(after.source, "two");
	assert_int_equal(after.rotation.rotations, 2);
}

/* ---- SVIDs that others give ---- */

static void look_for_svids(void)
{
	/* One sees it, the next one after a moment of silence reads it. */
	for (unsigned i = 0; i < 3; i++) {
		usleep(250000);
		kmtls_identities_tick(daemon_.identities);
		for (unsigned j = 0; j < 2; j++)
			kmtls_pod_svid_look(&pods, pods.table[j]);
	}
}

static void given(void **state)
{
	struct written_pki pki = written_pki_make();
	struct kmtls_pod_svid_info before, after;
	char directory[96];

	written_setup(NULL);
	snprintf(directory, sizeof(directory), "%s/{pod}", written_path);
	backends[1] = (struct kmtls_config_backend){
		.name = (char *)"files",
		.type = KMTLS_BACKEND_FILES,
		.trust = true,
		.directory = directory,
		.svid_name = (char *)WRITTEN_SVID,
		.key_name = (char *)WRITTEN_KEY,
		.bundle_name = (char *)WRITTEN_BUNDLE,
	};
	config.identity.enabled = &backends[1];
	open_source();
	enrol(); /* there are no files yet: it waits */
	assert_null(kmtls_pod_svid(pods.table[0]));
	tick();
	look_for_svids();
	assert_string_equal(look().serial, "");
	written_set("a", &pki, TEST_CLIENT_ID);
	look_for_svids();
	before = look();
	assert_string_equal(before.source, "files");
	assert_int_equal(before.rotation.rotations, 0);
	/* Its time has come: it is warned of, and nothing else happens. */
	pods.table[0]->rotation.due = 0;
	tick();
	assert_true(pods.table[0]->rotation.warned);
	after = look();
	assert_string_equal(after.serial, before.serial);
	assert_int_equal(after.rotation.failures, before.rotation.failures);
	/* The next one, at once. */
	written_set("a", &pki, TEST_CLIENT_ID);
	look_for_svids();
	after = look();
	assert_string_not_equal(after.serial, before.serial);
	assert_int_equal(after.rotation.rotations, 1);
	assert_false(pods.table[0]->rotation.warned);
	/* Somebody else's: one failure, however often it is looked at. */
	before = after;
	written_set("a", &pki, TEST_SERVER_ID);
	look_for_svids();
	look_for_svids();
	after = look();
	assert_string_equal(after.serial, before.serial);
	assert_int_equal(after.rotation.failures, before.rotation.failures + 1);
	assert_int_equal(after.rotation.due, before.rotation.due);
	leave();
	/* The next worker, and the directory is away. */
	daemon_.inherited = true;
	written_teardown(NULL);
	open_source();
	enrol();
	look_for_svids();
	after = look();
	assert_string_equal(after.serial, before.serial);
	assert_int_equal(after.rotation.rotations, 1);
	assert_int_equal(after.rotation.issued, before.rotation.issued);
	written_pki_free(&pki);
}

static void nothing_enabled(void **state)
{
	struct kmtls_pod_svid_info info;

	struct kmtls_svid *svid;

	enrol();
	leave();
	assert_int_equal(kmtls_svid_store_get(daemon_.secrets, TEST_CLIENT_ID, &svid), 0);
	kmtls_svid_put(svid);
	config.identity.enabled = NULL;
	open_source();
	enrol();
	tick();
	assert_int_equal(kmtls_svid_store_get(daemon_.secrets, TEST_CLIENT_ID, &svid), -ENOENT);
	info = look();
	assert_null(kmtls_pod_svid(pods.table[0]));
	assert_string_equal(info.serial, "");
	assert_string_equal(info.source, "");
	assert_int_equal(info.rotation.failures, 0);
}

/* Expired is none, and can be looked at. */
static void expired(void **state)
{
	backends[0].svid_ttl = 1;
	enrol();
	sleep(2);
	assert_null(kmtls_pod_svid(pods.table[0]));
	assert_true(look().not_after < time(NULL));
	backends[0].svid_ttl = 100;
	tick();
	assert_int_equal(look().rotation.rotations, 1);
}

/* ---- under load: handshakes in two threads while a third rotates ---- */

static atomic_bool ended;

static void *shake(void *unused)
{
	long done = 0;

	while (!atomic_load(&ended)) {
		struct kmtls_svid *client = kmtls_pod_svid(pods.table[0]);
		struct kmtls_svid *server = kmtls_pod_svid(pods.table[1]);
		struct test_side a, b;
		bool ready;

		if (!client || !server)
			return (void *)-1;
		test_sides_open(&a, client->client, &b, server->server);
		/* Dropped while it is under way, as a flow that needs it no more. */
		kmtls_svid_put(client);
		kmtls_svid_put(server);
		test_sides_run(&a, &b);
		ready = a.ready && b.ready;
		test_side_close(&a);
		test_side_close(&b);
		if (!ready)
			return (void *)-1;
		done++;
	}
	return (void *)done;
}

static void under_load(void **state)
{
	pthread_t threads[2];
	unsigned count;
	void *done;

	enrol();
	atomic_store(&ended, false);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, shake, NULL);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(kmtls_pod_svid_renew(&pods, NULL, &count, why), 0);
	atomic_store(&ended, true);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], &done);
		assert_true((long)done > 0);
	}
	assert_int_equal(pods.table[0]->rotation.rotations, 50);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(due),	  TEST(jitter),	     TEST(by_hand),	    TEST(failures),
		TEST(one_fails),  TEST(next_worker), TEST(nothing_enabled), TEST(expired),
		TEST(under_load), TEST(given),
	};

	kmtls_log_set_level(KMTLS_LOG_ERROR);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("pod_svid", tests, NULL, NULL);
}
