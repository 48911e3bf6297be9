/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_files_set.c - SVID, key and bundle from a directory: every rule broken once, with its
 * sentence; sets that are torn; and that what is read while it changes is of one state of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "files_set.h"
#include "identity.h"
#include "written.h"

static char why[KMTLS_IDENTITY_WHY];
static struct kmtls_files_place place;
static struct kmtls_files_set set;
static struct kmtls_files_mark mark;
static struct written_pki pki;
static pid_t child; /* 0: none; to be killed also by a test that fails */

static int setup_group(void **state)
{
	pki = written_pki_make();
	return 0;
}

static int teardown_group(void **state)
{
	written_pki_free(&pki);
	return 0;
}

static int setup(void **state)
{
	place = (struct kmtls_files_place){
		.directory = written_path,
		.names = { WRITTEN_SVID, WRITTEN_KEY, WRITTEN_BUNDLE },
		.trust_domain = TEST_TRUST_DOMAIN,
	};
	why[0] = '\0';
	return written_setup(state);
}

static void stop_child(void)
{
	if (!child)
		return;
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	child = 0;
}

static int teardown(void **state)
{
	stop_child();
	kmtls_files_set_clear(&set);
	return written_teardown(state);
}

/* Leaf, chain, key and bundle by letters; the leaf as spec has it. */
static int read_parts(const struct test_spec *spec, const char *svid, const char *key,
		      const char *bundle)
{
	struct test_certificate leaf = written_leaf(&pki, spec);
	int err;

	written_file(WRITTEN_SVID, &pki, &leaf, svid);
	written_file(WRITTEN_KEY, &pki, &leaf, key);
	written_file(WRITTEN_BUNDLE, &pki, &leaf, bundle);
	test_certificate_free(&leaf);
	kmtls_files_set_clear(&set);
	err = kmtls_files_set_read(&place, &set, &mark, why);
	assert_int_equal(err != 0, set.leaf == NULL);
	return err;
}

/* file: name of the file that is to be blamed. */
static void assert_why(const char *file, const char *sentence)
{
	char expected[KMTLS_IDENTITY_WHY];

	snprintf(expected, sizeof(expected), "%s/%s: %s", written_path, file, sentence);
	assert_string_equal(why, expected);
}

/* ---- sets that are right ---- */

static void good(void **state)
{
	static const struct {
		const char *svid, *bundle;
		int chain, roots;
	} table[] = {
		{ "lc", "r", 1, 1 },
		{ "lcr", "r", 1, 1 }, /* the root is not sent */
		{ "lc", "or", 1, 2 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (read_parts(&(struct test_spec){ .id = TEST_CLIENT_ID }, table[i].svid, "L",
			       table[i].bundle))
			fail_msg("%s", why);
		assert_int_equal(sk_X509_num(set.chain), table[i].chain);
		assert_int_equal(sk_X509_num(set.roots), table[i].roots);
		assert_string_equal(set.id, TEST_CLIENT_ID);
		assert_in_range(set.not_after, time(NULL) + 3590, time(NULL) + 3600);
	}
}

static void other_names(void **state)
{
	struct test_certificate leaf =
		written_leaf(&pki, &(struct test_spec){ .id = TEST_CLIENT_ID });

	written_file("tls.crt", &pki, &leaf, "lc");
	written_file("tls.key", &pki, &leaf, "L");
	written_file("ca.crt", &pki, &leaf, "r");
	test_certificate_free(&leaf);
	memcpy(place.names, (const char *[]){ "tls.crt", "tls.key", "ca.crt" },
	       sizeof(place.names));
	assert_int_equal(kmtls_files_set_read(&place, &set, &mark, why), 0);
}

/* ---- every rule broken once ---- */

#define ID .id = TEST_CLIENT_ID

static void rules(void **state)
{
	static const struct {
		struct test_spec leaf;
		const char *svid, *key, *bundle; /* NULL: right */
		const char *file, *sentence;
	} table[] = {
		/* files */
		{ { ID }, "", NULL, NULL, WRITTEN_SVID, "is empty" },
		{ { ID }, NULL, "", NULL, WRITTEN_KEY, "is empty" },
		{ { ID }, NULL, NULL, "", WRITTEN_BUNDLE, "is empty" },
		{ { ID }, "x", NULL, NULL, WRITTEN_SVID, "holds malformed PEM" },
		{ { ID }, "lx", NULL, NULL, WRITTEN_SVID, "holds malformed PEM" },
		{ { ID }, NULL, NULL, "x", WRITTEN_BUNDLE, "holds malformed PEM" },
		{ { ID }, "g", NULL, NULL, WRITTEN_SVID, "holds no certificate in PEM" },
		{ { ID }, NULL, "g", NULL, WRITTEN_KEY, "holds no key in PEM" },
		{ { ID },
		  NULL,
		  "LL",
		  NULL,
		  WRITTEN_KEY,
		  "holds more than one key, and must hold that of the nearest CA only" },
		{ { ID },
		  "L",
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "holds a private key, and must hold certificates only" },
		{ { ID },
		  NULL,
		  "l",
		  NULL,
		  WRITTEN_KEY,
		  "holds a certificate, and must hold the key only (are the two swapped?)" },
		/* the leaf */
		{ { .id = NULL, .dns = "a.example" },
		  NULL,
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "the certificate has no URI SAN" },
		{ { ID, .second_id = TEST_SERVER_ID },
		  NULL,
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "the certificate has several URI SANs" },
		{ { .id = "spiffe://example.org" },
		  NULL,
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "the certificate's URI SAN is not a SPIFFE ID with a path" },
		{ { .id = "spiffe://other.org/a" },
		  NULL,
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "spiffe://other.org/a is not of the trust domain example.org" },
		{ { ID, .key_usage = "critical,keyEncipherment" },
		  NULL,
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "the certificate's key usage lacks digitalSignature or may sign certificates" },
		{ { ID, .extended_key_usage = "serverAuth" },
		  NULL,
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "the certificate's extended key usage lacks serverAuth or clientAuth" },
		{ { ID, .algorithm = "RSA1024" },
		  NULL,
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "the key is not EC P-256 or P-384, nor RSA of 2048 bits or more" },
		{ { ID, .not_before = -100, .not_after = -1 },
		  NULL,
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "the SVID has expired" },
		{ { ID, .not_before = 100, .not_after = 200 },
		  NULL,
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "the SVID is not valid yet" },
		{ { ID },
		  "cl",
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "the first certificate is a CA: the SVID must be first" },
		/* the key */
		{ { ID },
		  NULL,
		  "O",
		  NULL,
		  WRITTEN_KEY,
		  "is not the key of the SVID in " WRITTEN_SVID },
		{ { ID },
		  NULL,
		  "C",
		  NULL,
		  WRITTEN_KEY,
		  "is the key of a CA of the chain, not of the SVID" },
		/* the chain */
		{ { ID },
		  "lll",
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "CN=test: is not a CA (basicConstraints CA:TRUE)" },
		{ { ID },
		  "lrc",
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "CN=root does not follow from the SVID: nearest issuer first" },
		{ { ID },
		  "lco",
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "CN=other does not follow from CN=ca: nearest issuer first" },
		{ { ID },
		  "lcccccccccc",
		  NULL,
		  NULL,
		  WRITTEN_SVID,
		  "holds 11 certificates, an SVID and its chain are at most 9" },
		/* the bundle */
		{ { ID },
		  NULL,
		  NULL,
		  "o",
		  WRITTEN_BUNDLE,
		  "has no root that the SVID in " WRITTEN_SVID " ends in" },
		{ { ID },
		  "l",
		  NULL,
		  NULL,
		  WRITTEN_BUNDLE,
		  "has no root that the SVID in " WRITTEN_SVID " ends in" },
		{ { ID },
		  NULL,
		  NULL,
		  "c",
		  WRITTEN_BUNDLE,
		  "CN=ca: is not self-signed: a bundle holds roots" },
		{ { ID },
		  NULL,
		  NULL,
		  "rl",
		  WRITTEN_BUNDLE,
		  "CN=test: is not a CA (basicConstraints CA:TRUE)" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (!read_parts(&table[i].leaf, table[i].svid ? table[i].svid : "lc",
				table[i].key ? table[i].key : "L",
				table[i].bundle ? table[i].bundle : "r"))
			fail_msg("accepted, and must not: %s", table[i].sentence);
		assert_why(table[i].file, table[i].sentence);
	}
}

/* What only the chain's CAs can break. */
static void chains(void **state)
{
	static const struct {
		struct test_spec ca;
		const char *sentence;
	} table[] = {
		{ { .constraints = "critical,CA:TRUE",
		    .key_usage = "critical,keyCertSign",
		    .name = "ca",
		    .not_before = -100,
		    .not_after = -1 },
		  "CN=ca: has expired" },
		{ { .constraints = "critical,CA:TRUE",
		    .key_usage = "critical,keyCertSign",
		    .name = "ca",
		    .name_constraints = "critical,permitted;URI:other.org" },
		  "the SVID: the name constraints exclude SVIDs of our trust domain" },
		{ { .constraints = "critical,CA:TRUE",
		    .key_usage = "critical,keyCertSign",
		    .name = "ca",
		    .id = "spiffe://other.org" },
		  "CN=ca: the URI SAN is of another trust domain" },
	};
	struct test_certificate ca = pki.ca;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		pki.ca = test_certificate_make(&table[i].ca, &pki.root);
		assert_int_not_equal(
			read_parts(&(struct test_spec){ .id = TEST_CLIENT_ID }, "lc", "L", "r"), 0);
		assert_why(WRITTEN_SVID, table[i].sentence);
		test_certificate_free(&pki.ca);
	}
	pki.ca = ca;
}

/* ---- files as they must not be ---- */

static void missing(void **state)
{
	static const char *const names[] = { WRITTEN_SVID, WRITTEN_KEY, WRITTEN_BUNDLE };
	char path[128], expected[KMTLS_IDENTITY_WHY];

	for (int i = 0; i < 3; i++) {
		written_set("", &pki, TEST_CLIENT_ID);
		snprintf(path, sizeof(path), "%s/%s", written_path, names[i]);
		unlink(path);
		assert_int_equal(kmtls_files_set_read(&place, &set, &mark, why), -ENOENT);
		assert_why(names[i], "cannot be opened: No such file or directory");
	}
	place.directory = "/nonexistent";
	assert_int_equal(kmtls_files_set_read(&place, &set, &mark, why), -ENOENT);
	snprintf(expected, sizeof(expected),
		 "/nonexistent: cannot be opened: No such file or directory");
	assert_string_equal(why, expected);
}

static void key_modes(void **state)
{
	static const struct {
		mode_t mode;
		bool taken;
	} table[] = { { 0600, true },  { 0400, true },	{ 0640, true },	 { 0440, true },
		      { 0644, false }, { 0660, false }, { 0604, false }, { 0601, false } };
	char path[128], sentence[128];

	written_set("", &pki, TEST_CLIENT_ID);
	snprintf(path, sizeof(path), "%s/" WRITTEN_KEY, written_path);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		chmod(path, table[i].mode);
		kmtls_files_set_clear(&set);
		assert_int_equal(kmtls_files_set_read(&place, &set, &mark, why),
				 table[i].taken ? 0 : -EPERM);
		if (table[i].taken)
			continue;
		snprintf(sentence, sizeof(sentence),
			 "holds a key and is accessible by others or writable by its group (mode "
			 "%04o, must be 0640 at most)",
			 table[i].mode);
		assert_why(WRITTEN_KEY, sentence);
	}
}

static void odd_files(void **state)
{
	static const char *const names[] = { WRITTEN_SVID, WRITTEN_KEY, WRITTEN_BUNDLE };
	char path[128];

	for (int i = 0; i < 3; i++) {
		written_set("", &pki, TEST_CLIENT_ID);
		snprintf(path, sizeof(path), "%s/%s", written_path, names[i]);
		assert_int_equal(truncate(path, 65537), 0);
		assert_int_equal(kmtls_files_set_read(&place, &set, &mark, why), -EINVAL);
		assert_why(names[i], "is longer than 65536 bytes");
		unlink(path);
		assert_int_equal(mkfifo(path, 0600), 0);
		assert_int_equal(kmtls_files_set_read(&place, &set, &mark, why), -EPERM);
		assert_why(names[i], "is not a regular file");
	}
}

/* ---- changes ---- */

static void marks(void **state)
{
	written_generation(1, &pki, TEST_CLIENT_ID);
	assert_int_equal(kmtls_files_set_read(&place, &set, &mark, why), 0);
	assert_true(kmtls_files_mark_holds(&place, &mark));
	written_generation(2, &pki, TEST_CLIENT_ID);
	assert_false(kmtls_files_mark_holds(&place, &mark));
	kmtls_files_set_clear(&set);
	assert_int_equal(kmtls_files_set_read(&place, &set, &mark, why), 0);
	written_set("..2", &pki, TEST_CLIENT_ID); /* single files renamed */
	assert_false(kmtls_files_mark_holds(&place, &mark));
	place.directory = "/nonexistent";
	assert_false(kmtls_files_mark_holds(&place, &mark));
}

/* Whole sets of two pods, the one and the other in turn, until killed. */
static void swap_for_ever(bool by_data)
{
	char name[32];

	for (unsigned i = 0;; i++) {
		snprintf(name, sizeof(name), i % 2 ? "..1" : "..2");
		if (by_data)
			written_link("..data", name);
		else
			written_link("current", name);
	}
}

/* Keys differ, and so do bundles: any mixture would be refused, or have the wrong root. */
static void read_while_swapped(bool by_data)
{
	struct timespec end, now;
	struct written_pki second = written_pki_make();
	unsigned taken[2] = { 0, 0 }, again = 0;

	written_generation(1, &pki, TEST_CLIENT_ID);
	written_generation(2, &second, TEST_SERVER_ID);
	written_link("current", "..1");
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		swap_for_ever(by_data);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += 2;
	do {
		bool is_first;
		int err;

		kmtls_files_set_clear(&set);
		err = kmtls_files_set_read(&place, &set, &mark, why);
		clock_gettime(CLOCK_MONOTONIC, &now);
		again += err == -EAGAIN;
		if (err == -EAGAIN)
			continue;
		if (err)
			fail_msg("%s", why);
		is_first = !strcmp(set.id, TEST_CLIENT_ID);
		taken[is_first]++;
		assert_int_equal(
			X509_cmp(sk_X509_value(set.roots, 0),
				 is_first ? pki.root.certificate : second.root.certificate),
			0);
	} while (now.tv_sec < end.tv_sec || now.tv_nsec < end.tv_nsec);
	stop_child();
	print_message("# %u and %u sets taken, %u times not in time\n", taken[0], taken[1], again);
	assert_true(taken[0] > 0 && taken[1] > 0);
	written_pki_free(&second);
}

static void data_swaps(void **state)
{
	read_while_swapped(true);
}

/* The directory itself is a link. */
static void directory_swaps(void **state)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/current", written_path);
	place.directory = path;
	read_while_swapped(false);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(good),	  TEST(other_names),	 TEST(rules),	  TEST(chains),
		TEST(missing),	  TEST(key_modes),	 TEST(odd_files), TEST(marks),
		TEST(data_swaps), TEST(directory_swaps),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
