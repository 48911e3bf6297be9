/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_identity_files.c - the source that is given SVIDs in files: what it takes and what it does not,
 * that changes of every kind are seen, with inotify and without, and what the next worker has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "files_watch.h"
#include "identities.h"
#include "secret_region.h"
#include "written.h"

#define OTHER_ID "spiffe://example.org/other"

static char why[KMTLS_IDENTITY_WHY], directory[128];
static struct kmtls_secret_region *region;
static struct kmtls_config_backend backend;
static struct kmtls_identity *identity;
static struct written_pki pki;
static _Atomic __u32 not_taken;
static const struct kmtls_identity_subject client = { TEST_CLIENT_ID, "client" };
static const struct kmtls_identity_subject server = { TEST_SERVER_ID, "shop/server" };

static int setup_group(void **state)
{
	int fd;

	pki = written_pki_make();
	return kmtls_secret_region_create(4, &region, &fd, why);
}

static int teardown_group(void **state)
{
	written_pki_free(&pki);
	return 0;
}

static void open_as(bool prefer_kept)
{
	const struct kmtls_identity_options options = {
		.backend = &backend,
		.trust_domain = TEST_TRUST_DOMAIN,
		.secrets = region,
		.prefer_kept = prefer_kept,
		.not_taken = &not_taken,
	};

	if (kmtls_identity_files_open(&options, &identity, why))
		fail_msg("%s", why);
}

static void open_source(void)
{
	open_as(false);
}

static int setup(void **state)
{
	int err = written_setup(state);

	snprintf(directory, sizeof(directory), "%s", written_path);
	backend = (struct kmtls_config_backend){
		.name = (char *)"files",
		.type = KMTLS_BACKEND_FILES,
		.trust = true,
		.directory = directory,
		.svid_name = (char *)WRITTEN_SVID,
		.key_name = (char *)WRITTEN_KEY,
		.bundle_name = (char *)WRITTEN_BUNDLE,
	};
	not_taken = 0;
	identity = NULL;
	return err;
}

static int teardown(void **state)
{
	kmtls_identity_close(identity);
	return written_teardown(state);
}

static unsigned version(const struct kmtls_identity_subject *subject)
{
	return identity->operations->version(identity, subject);
}

static enum kmtls_identity_state state_of(const struct kmtls_identity_subject *subject)
{
	return identity->operations->state(identity, subject, why);
}

static int roots_of(const struct kmtls_identity_subject *subject)
{
	STACK_OF(X509) *roots = identity->operations->roots(identity, subject);
	int count = sk_X509_num(roots);

	sk_X509_pop_free(roots, X509_free);
	return count;
}

static void wait_ms(unsigned ms)
{
	const struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

/* As the worker does, a little faster; true: it got there in so many milliseconds. */
static bool ticks_until(const struct kmtls_identity_subject *subject, unsigned wanted, unsigned ms)
{
	for (unsigned passed = 0; version(subject) != wanted; passed += 50) {
		if (passed >= ms)
			return false;
		identity->operations->tick(identity);
		wait_ms(50);
	}
	return true;
}

static void ticks(unsigned ms)
{
	for (unsigned passed = 0; passed < ms; passed += 50) {
		identity->operations->tick(identity);
		wait_ms(50);
	}
}

static int issue(const struct kmtls_identity_subject *subject, char *ret_serial)
{
	struct kmtls_identity_material material = {};
	int err = identity->operations->issue(identity, subject, &material, why);
	BIGNUM *number = NULL;

	if (!err && ret_serial) {
		char *text;

		number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(material.leaf), NULL);
		text = BN_bn2hex(number);
		snprintf(ret_serial, 64, "%s", text);
		OPENSSL_free(text);
		BN_free(number);
	}
	kmtls_identity_material_clear(&material);
	return err;
}

/* ---- what is taken ---- */

/* Both sides from one root, by a handshake. */
static void talks(void **state)
{
	struct test_side a, b;
	struct kmtls_svid *one, *two;

	snprintf(directory, sizeof(directory), "%s/{pod}", written_path);
	written_set("client", &pki, TEST_CLIENT_ID);
	written_set("shop", &pki, TEST_SERVER_ID);
	written_set("shop/server", &pki, TEST_SERVER_ID);
	open_source();
	assert_int_equal(state_of(NULL), KMTLS_IDENTITY_OK); /* nobody has asked */
	{
		struct kmtls_identity_material material = {};
		const char *rule;

		assert_int_equal(identity->operations->issue(identity, &client, &material, why), 0);
		assert_int_equal(sk_X509_num(material.chain), 1);
		STACK_OF(X509) *roots = identity->operations->roots(identity, &client);

		assert_int_equal(kmtls_svid_new(material.leaf, material.chain, material.key, roots,
						&one, &rule),
				 0);
		kmtls_identity_material_clear(&material);
		assert_int_equal(identity->operations->issue(identity, &server, &material, why), 0);
		assert_int_equal(kmtls_svid_new(material.leaf, material.chain, material.key, roots,
						&two, &rule),
				 0);
		kmtls_identity_material_clear(&material);
		sk_X509_pop_free(roots, X509_free);
	}
	assert_int_equal(roots_of(NULL), 1); /* the same one twice */
	test_sides_open(&a, one->client, &b, two->server);
	test_sides_run(&a, &b);
	assert_true(a.ready && b.ready);
	test_side_close(&a);
	test_side_close(&b);
	kmtls_svid_put(one);
	kmtls_svid_put(two);
}

static void of_another(void **state)
{
	const struct kmtls_identity_subject almost = { TEST_CLIENT_ID "x", "client" };
	char expected[KMTLS_IDENTITY_WHY];

	written_set("", &pki, TEST_CLIENT_ID);
	open_source();
	assert_int_equal(issue(&client, NULL), 0);
	assert_int_equal(issue(&server, NULL), -EINVAL);
	snprintf(expected, sizeof(expected),
		 "%s/" WRITTEN_SVID ": is of " TEST_CLIENT_ID ", the pod is " TEST_SERVER_ID,
		 written_path);
	assert_string_equal(why, expected);
	assert_int_equal(issue(&almost, NULL), -EINVAL);
}

/* A name that would lead out of the directory. */
static void names_of_pods(void **state)
{
	static const char *const bad[] = { ".", "..", "../a", "a/..", "a/.", "./a" };

	snprintf(directory, sizeof(directory), "%s/{pod}", written_path);
	written_set("", &pki, TEST_CLIENT_ID);
	written_set("...", &pki, TEST_CLIENT_ID);
	open_source();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct kmtls_identity_subject subject = { TEST_CLIENT_ID, bad[i] };
		char expected[KMTLS_IDENTITY_WHY];

		assert_int_not_equal(issue(&subject, NULL), 0);
		snprintf(expected, sizeof(expected), "pod %s: its name cannot be part of a path",
			 bad[i]);
		assert_string_equal(why, expected);
		assert_int_equal(version(&subject), 0);
		assert_int_equal(state_of(&subject), KMTLS_IDENTITY_REFUSED);
	}
	assert_int_equal(issue(&(struct kmtls_identity_subject){ TEST_CLIENT_ID, "..." }, NULL), 0);
}

/* ---- changes ---- */

static void expire_soon(void)
{
	struct test_certificate leaf = written_leaf(
		&pki,
		&(struct test_spec){ .id = TEST_CLIENT_ID, .not_before = -100, .not_after = 2 });

	written_file(WRITTEN_SVID, &pki, &leaf, "lc");
	written_file(WRITTEN_KEY, &pki, &leaf, "L");
	written_file(WRITTEN_BUNDLE, &pki, &leaf, "r");
	test_certificate_free(&leaf);
}

static void expires(void **state)
{
	expire_soon();
	open_source();
	assert_int_equal(issue(&client, NULL), 0);
	wait_ms(2100);
	assert_int_equal(issue(&client, NULL), -EKEYEXPIRED);
	written_set("", &pki, TEST_CLIENT_ID);
	assert_true(ticks_until(&client, 2, 1000));
	assert_int_equal(issue(&client, NULL), 0);
}

/* The clock alone makes it valid. */
static void valid_later(void **state)
{
	struct test_certificate leaf = written_leaf(
		&pki,
		&(struct test_spec){ .id = TEST_CLIENT_ID, .not_before = 3, .not_after = 90 });

	written_file(WRITTEN_SVID, &pki, &leaf, "lc");
	written_file(WRITTEN_KEY, &pki, &leaf, "L");
	written_file(WRITTEN_BUNDLE, &pki, &leaf, "r");
	test_certificate_free(&leaf);
	open_source();
	assert_int_equal(state_of(&client), KMTLS_IDENTITY_REFUSED);
	assert_true(ticks_until(&client, 1, 6000));
	assert_int_equal(not_taken, 1);
}

/* One by one, in the worst order; the one in use stays, and of each change there is one count. */
static void torn(void **state)
{
	struct test_certificate leaf =
		written_leaf(&pki, &(struct test_spec){ .id = TEST_CLIENT_ID });
	char before[64], after[64], expected[KMTLS_IDENTITY_WHY];

	written_set("", &pki, TEST_CLIENT_ID);
	open_source();
	assert_int_equal(issue(&client, before), 0);
	written_file(WRITTEN_KEY, &pki, &leaf, "L");
	ticks(600);
	assert_int_equal(state_of(&client), KMTLS_IDENTITY_REFUSED);
	snprintf(expected, sizeof(expected),
		 "%s/" WRITTEN_KEY ": is not the key of the SVID in " WRITTEN_SVID, written_path);
	assert_string_equal(why, expected);
	assert_int_equal(issue(&client, after), 0);
	assert_string_equal(before, after);
	ticks(2600); /* tried again, and not counted again */
	assert_int_equal(not_taken, 1);
	written_file(WRITTEN_SVID, &pki, &leaf, "x");
	ticks(600);
	assert_int_equal(not_taken, 2);
	assert_int_equal(version(&client), 1);
	written_file(WRITTEN_SVID, &pki, &leaf, "lc");
	assert_true(ticks_until(&client, 2, 1000));
	assert_int_equal(state_of(&client), KMTLS_IDENTITY_OK);
	assert_int_equal(issue(&client, after), 0);
	assert_string_not_equal(before, after);
	assert_int_equal(not_taken, 2);
	test_certificate_free(&leaf);
}

/* Asked for by hand they are read at once, and not when they have been quiet for a while. */
static void at_once(void **state)
{
	unsigned before, refused;
	bool changed;

	written_set("", &pki, TEST_CLIENT_ID);
	open_source();
	before = version(&client);
	assert_int_equal(identity->operations->refresh(identity, &changed, why), 0);
	assert_false(changed);
	assert_int_equal(version(&client), before);
	written_set("", &pki, TEST_CLIENT_ID);
	assert_int_equal(identity->operations->refresh(identity, &changed, why), 0);
	assert_true(changed);
	assert_int_equal(version(&client), before + 1);
	refused = not_taken;
	written_file(WRITTEN_SVID, &pki, NULL, "g");
	assert_int_equal(identity->operations->refresh(identity, &changed, why), -EINVAL);
	assert_false(changed);
	assert_int_equal(not_taken, refused + 1);
	assert_int_equal(issue(&client, NULL), 0); /* by what there was */
}

/* The same again is nothing new; another bundle is. */
static void only_news(void **state)
{
	struct test_certificate leaf =
		written_leaf(&pki, &(struct test_spec){ .id = TEST_CLIENT_ID });

	written_file(WRITTEN_SVID, &pki, &leaf, "lc");
	written_file(WRITTEN_KEY, &pki, &leaf, "L");
	written_file(WRITTEN_BUNDLE, &pki, &leaf, "r");
	open_source();
	written_file(WRITTEN_SVID, &pki, &leaf, "lc");
	written_file(WRITTEN_KEY, &pki, &leaf, "L");
	assert_false(ticks_until(&client, 2, 800));
	assert_int_equal(roots_of(&client), 1);
	written_file(WRITTEN_BUNDLE, &pki, &leaf, "ro");
	assert_true(ticks_until(&client, 2, 800));
	assert_int_equal(roots_of(&client), 2);
	test_certificate_free(&leaf);
}

/* Written for a while: at most two seconds, then it is looked at. */
static void never_quiet(void **state)
{
	char path[128];
	unsigned passed;
	int fd;

	written_set("", &pki, TEST_CLIENT_ID);
	open_source();
	written_set("", &pki, TEST_CLIENT_ID);
	snprintf(path, sizeof(path), "%s/" WRITTEN_BUNDLE, written_path);
	for (passed = 0; version(&client) == 1 && passed < 4000; passed += 50) {
		fd = open(path, O_WRONLY | O_APPEND);
		assert_int_equal(write(fd, "\n", 1), 1);
		close(fd);
		identity->operations->tick(identity);
		wait_ms(50);
	}
	assert_int_equal(version(&client), 2);
	assert_in_range(passed, 1000, 3000);
}

static void rename_below(const char *from, const char *to)
{
	char a[128], b[128];

	snprintf(a, sizeof(a), "%s/%s", written_path, from);
	snprintf(b, sizeof(b), "%s/%s", written_path, to);
	assert_int_equal(rename(a, b), 0);
}

/* In the ways they are made in practice; each within a second, for somebody tells. */
static void all_kinds(void **state)
{
	char serial[64];

	snprintf(directory, sizeof(directory), "%s/deep/link/certs", written_path);
	open_source();
	assert_int_equal(state_of(&client), KMTLS_IDENTITY_WAITING);
	assert_int_equal(issue(&client, NULL), -ENOENT);
	assert_int_equal(version(&client), 0);
	assert_int_equal(not_taken, 0);
	written_set("one", &pki, TEST_CLIENT_ID); /* of no account: nothing leads there */
	rename_below("one", "certs");
	written_set("one", &pki, TEST_CLIENT_ID); /* a directory for ours */
	rename_below("certs", "one/certs");
	assert_false(ticks_until(&client, 1, 400));
	written_set("deep", &pki, TEST_CLIENT_ID);
	written_link("deep/link", "../one"); /* made by and by */
	assert_true(ticks_until(&client, 1, 1000));
	written_set("one/certs", &pki, TEST_CLIENT_ID); /* files renamed */
	assert_true(ticks_until(&client, 2, 1000));
	written_set("two", &pki, TEST_CLIENT_ID);
	written_set("two/certs", &pki, TEST_CLIENT_ID);
	written_link("deep/link", "../two"); /* a link on the way turned */
	assert_true(ticks_until(&client, 3, 1000));
	rename_below("two/certs", "away"); /* the directory goes */
	ticks(600);
	assert_int_equal(state_of(&client), KMTLS_IDENTITY_WAITING);
	assert_int_equal(issue(&client, serial), 0);
	assert_int_equal(version(&client), 3);
	written_set("two/certs", &pki, TEST_CLIENT_ID); /* and is made anew */
	assert_true(ticks_until(&client, 4, 1000));
	assert_int_equal(state_of(&client), KMTLS_IDENTITY_OK);
	rename_below("two", "three"); /* and all above it */
	ticks(600);
	assert_int_equal(state_of(&client), KMTLS_IDENTITY_WAITING);
	rename_below("three", "two");
	ticks(600);
	assert_int_equal(state_of(&client), KMTLS_IDENTITY_OK);
}

static void generations(void **state)
{
	written_generation(1, &pki, TEST_CLIENT_ID);
	open_source();
	assert_int_equal(version(&client), 1);
	for (unsigned i = 2; i < 6; i++) {
		written_generation(i, &pki, TEST_CLIENT_ID);
		assert_true(ticks_until(&client, i, 1000));
	}
	/* Only this one link. */
	written_set("..9", &pki, TEST_CLIENT_ID);
	written_link("..data", "..9");
	assert_true(ticks_until(&client, 6, 1000));
	assert_int_equal(not_taken, 0);
}

/* No inotify: somebody else has used it up. */
static void by_the_clock(void **state)
{
	struct rlimit old, none;
	char other[64];

	written_generation(1, &pki, TEST_CLIENT_ID);
	getrlimit(RLIMIT_NOFILE, &old);
	none = old;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	open_source();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(state_of(&client), KMTLS_IDENTITY_REFUSED); /* no descriptor for files */
	assert_true(ticks_until(&client, 1, 6000));
	written_generation(2, &pki, TEST_CLIENT_ID);
	assert_false(ticks_until(&client, 2, 500));
	assert_true(ticks_until(&client, 2, 4000));
	assert_int_equal(issue(&client, other), 0);
}

/* A watcher has so many names at most, and forgets. */
static void watch_limits(void **state)
{
	struct kmtls_files_watch *watch;
	char path[128];

	assert_int_equal(kmtls_files_watch_open(4, &watch), 0);
	snprintf(path, sizeof(path), "%s/a", written_path); /* tmp, its directory, a */
	assert_int_equal(kmtls_files_watch_follow(watch, 1, path), 0);
	assert_int_equal(kmtls_files_watch_follow(watch, 1, path), 0); /* nothing new */
	assert_int_equal(kmtls_files_watch_follow(watch, 2, path), -ENOSPC);
	kmtls_files_watch_forget(watch, 1);
	kmtls_files_watch_forget(watch, 2);
	assert_int_equal(kmtls_files_watch_follow(watch, 2, path), 0);
	written_link("loop", "loop");
	kmtls_files_watch_forget(watch, 2);
	snprintf(path, sizeof(path), "%s/loop", written_path);
	assert_int_equal(kmtls_files_watch_follow(watch, 3, path), -ELOOP);
	kmtls_files_watch_close(watch);
}

/* ---- the next worker ---- */

static void kept(void **state)
{
	snprintf(directory, sizeof(directory), "%s/certs", written_path);
	written_set("certs", &pki, TEST_CLIENT_ID);
	open_source();
	assert_int_equal(identity->operations->keep(identity), 0);
	kmtls_identity_close(identity);
	rename_below("certs", "away");
	open_source();
	assert_int_equal(roots_of(&client), 0); /* another configuration: who knows of what */
	kmtls_identity_close(identity);
	open_as(true);
	assert_int_equal(roots_of(&client), 1); /* what it has issued is trusted on */
	assert_int_equal(state_of(&client), KMTLS_IDENTITY_WAITING);
	assert_int_equal(version(&client), 0);
	rename_below("away", "certs");
	assert_true(ticks_until(&client, 1, 1000));
	assert_int_equal(roots_of(&client), 1);
}

static unsigned open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* A thousand looks leave nothing behind. */
static void no_leaks(void **state)
{
	unsigned before;

	written_generation(1, &pki, TEST_CLIENT_ID);
	open_source();
	before = open_descriptors();
	for (unsigned i = 0; i < 30; i++) {
		written_link("..data", "..1");
		ticks(50);
	}
	ticks(500);
	assert_int_equal(version(&client), 1);
	assert_int_equal(open_descriptors(), before);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(talks),	   TEST(of_another),  TEST(names_of_pods), TEST(expires),
		TEST(valid_later), TEST(torn),	      TEST(only_news),	   TEST(never_quiet),
		TEST(all_kinds),   TEST(generations), TEST(by_the_clock),  TEST(watch_limits),
		TEST(kept),	   TEST(no_leaks),    TEST(at_once),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
