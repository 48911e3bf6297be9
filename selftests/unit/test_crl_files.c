/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_crl_files.c - the files of identity.crl_files as they come and go: taken, replaced, damaged,
 * late, of the wrong CA; and what the next worker makes of them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <openssl/pem.h>

#include "certificates.h"
#include "cleanup.h"
#include "counters.h"
#include "crl.h"
#include "loop.h"
#include "pods_table.h"
#include "revocation.h"
#include "svid.h"

static atomic_ullong counts[KMTLS_REASON_COUNT];
static struct test_certificate root, stranger, late, leaf, first, second;
static char directory[] = "/tmp/kmtls-crl.XXXXXX", path[64];
static char *files[] = { path };
static struct kmtls_config config = {
	.run_dir = directory,
	.identity = { .crl_files = files, .crl_files_count = 1 },
};
static struct kmtls_loops loops; /* none */
static struct kmtls_pods pods;
static struct kmtls_pod pod;
static struct kmtls_daemon daemon_ = { .config = &config, .pods = &pods, .loops = &loops };

/* As whoever rotates them does: a whole file, at once. */
static void write_file(const void *bytes, size_t length)
{
	char temporary[80];
	FILE *file;

	snprintf(temporary, sizeof(temporary), "%s.new", path);
	file = fopen(temporary, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(rename(temporary, path), 0);
}

static void add_revoked(X509_CRL *crl, const struct test_certificate *certificate, ASN1_TIME *at)
{
	X509_REVOKED *entry = X509_REVOKED_new();

	X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate->certificate));
	X509_REVOKED_set_revocationDate(entry, at);
	X509_CRL_add0_revoked(crl, entry);
}

/* Seconds from now; a, b: whom it revokes, or NULL. */
static void write_crl(const struct test_certificate *ca, long begin, long end,
		      const struct test_certificate *a, const struct test_certificate *b)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *at = ASN1_TIME_adj(NULL, time(NULL), 0, begin);
	ASN1_TIME *next = ASN1_TIME_adj(NULL, time(NULL), 0, end);
	unsigned char *der = NULL;
	int length;

	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->certificate));
	X509_CRL_set1_lastUpdate(crl, at);
	X509_CRL_set1_nextUpdate(crl, next);
	if (a)
		add_revoked(crl, a, at);
	if (b)
		add_revoked(crl, b, at);
	assert_true(X509_CRL_sign(crl, ca->key, EVP_sha256()));
	length = i2d_X509_CRL(crl, &der);
	write_file(der, (size_t)length);
	OPENSSL_free(der);
	ASN1_TIME_free(at);
	ASN1_TIME_free(next);
	X509_CRL_free(crl);
}

static bool is_revoked(const struct test_certificate *certificate)
{
	return kmtls_revocation_holds(kmtls_revocation_hash(
		root.certificate, X509_get0_serialNumber(certificate->certificate)));
}

static unsigned long long rejections(void)
{
	return counts[KMTLS_REASON_CRL_REJECTED];
}

/* What the file is by now is not taken, said once, and changes nothing. */
static void assert_rejected(void)
{
	unsigned long long before = rejections();

	kmtls_crl_tick(&daemon_);
	kmtls_crl_tick(&daemon_);
	assert_int_equal(rejections(), before + 1);
	assert_int_equal(kmtls_crl_rejected(), 1);
	assert_true(is_revoked(&first));
	assert_false(is_revoked(&second));
}

static void assert_taken(bool first_revoked, bool second_revoked)
{
	unsigned long long before = rejections();

	kmtls_crl_tick(&daemon_);
	assert_int_equal(rejections(), before);
	assert_int_equal(kmtls_crl_rejected(), 0);
	assert_int_equal(is_revoked(&first), first_revoked);
	assert_int_equal(is_revoked(&second), second_revoked);
}

static void waits_for_an_svid(void **state)
{
	struct kmtls_svid *svid = kmtls_take_pointer(pod.svid);

	write_crl(&root, -600, 600, &first, NULL);
	assert_taken(false, false); /* nobody to ask whose it is, and nobody to refuse */
	pod.svid = svid;
	assert_taken(true, false);
}

static void replaced(void **state)
{
	write_crl(&root, -500, 600, &first, &second);
	assert_taken(true, true);
	write_crl(&root, -400, 600, &second, NULL);
	assert_taken(false, true);
	write_crl(&root, -300, 600, &first, NULL);
	assert_taken(true, false);
}

static void rejected(void **state)
{
	write_file("hello", 5);
	assert_rejected();
	assert_int_equal(unlink(path), 0);
	assert_rejected();
	write_file("", 0);
	assert_rejected();
	write_crl(&stranger, -100, 600, &second, NULL); /* of the same name */
	assert_rejected();
	write_crl(&leaf, -100, 600, &second, NULL);
	assert_rejected();
	write_crl(&root, -350, 600, &second, NULL); /* older */
	assert_rejected();
	write_crl(&root, -100, -1, &second, NULL);
	assert_rejected();
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_rejected();
	assert_int_equal(rmdir(path), 0);
	write_crl(&root, -200, 600, &first, NULL);
	assert_taken(true, false);
}

/* A CRL of a CA that is in no bundle yet: tried again now and then. */
static void ca_comes_later(void **state)
{
	unsigned long long before = rejections();
	STACK_OF(X509) *bundle = sk_X509_new_null();
	struct kmtls_svid *old = pod.svid;
	const char *why;

	write_crl(&late, -100, 600, NULL, NULL);
	for (int i = 0; i < 50; i++)
		kmtls_crl_tick(&daemon_);
	assert_int_equal(rejections(), before + 1);
	sk_X509_push(bundle, root.certificate);
	sk_X509_push(bundle, late.certificate);
	assert_int_equal(kmtls_svid_new(leaf.certificate, NULL, leaf.key, bundle, &pod.svid, &why),
			 0);
	for (int i = 0; i < 25 && kmtls_crl_rejected(); i++)
		kmtls_crl_tick(&daemon_);
	assert_int_equal(kmtls_crl_rejected(), 0);
	assert_false(is_revoked(&first)); /* the file is another one now */
	kmtls_svid_put(old);
	sk_X509_free(bundle);
}

/* Runs as a worker that knows nothing yet; 0 if all is as it should be. */
static int next_worker(void)
{
	unsigned long long before = rejections();

	kmtls_crl_tick(&daemon_);
	return !is_revoked(&first) + 2 * is_revoked(&second) + 4 * (rejections() != before + 1) +
	       8 * (kmtls_crl_rejected() != 1);
}

/* Before anything was read in this process. */
static int in_next_worker(void)
{
	pid_t child = fork();
	int status = -1;

	if (!child)
		_exit(next_worker());
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A process that wrote the copy and is gone. */
static void fill_copy(void)
{
	pid_t child = fork();
	int status = -1;

	if (!child) {
		write_crl(&root, -700, 600, &first, NULL);
		kmtls_crl_tick(&daemon_);
		_exit(!is_revoked(&first));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void next_worker_has_it(void **state)
{
	fill_copy();
	write_file("hello", 5);
	assert_int_equal(in_next_worker(), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(in_next_worker(), 0);
}

/* An expired one is better than none. */
static void expired_is_used(void **state)
{
	pid_t child = fork();
	int status = -1;

	if (!child) {
		write_crl(&root, -600, -1, &first, NULL);
		kmtls_crl_tick(&daemon_);
		_exit(!is_revoked(&first));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static int setup(void **state)
{
	const struct test_spec spec = { .id = TEST_CLIENT_ID };
	struct test_spec other = test_root_spec;
	struct test_spec named = { .id = TEST_SERVER_ID, .name = "root" };
	STACK_OF(X509) *bundle = sk_X509_new_null();
	const char *why;

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/file", directory);
	kmtls_counters_open(counts);
	root = test_certificate_make(&test_root_spec, NULL);
	stranger = test_certificate_make(&test_root_spec, NULL);
	other.name = "late";
	late = test_certificate_make(&other, NULL);
	first = test_certificate_make(&spec, &root);
	second = test_certificate_make(&spec, &root);
	leaf = test_certificate_make(&named, &root);
	sk_X509_push(bundle, root.certificate);
	assert_int_equal(kmtls_svid_new(leaf.certificate, NULL, leaf.key, bundle, &pod.svid, &why),
			 0);
	sk_X509_free(bundle);
	pthread_mutex_init(&pod.svid_lock, NULL);
	pthread_mutex_init(&pods.lock, NULL);
	pod.references = 1000;
	pods.table[0] = &pod;
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	kmtls_revocation_replace(NULL, 0);
	kmtls_svid_put(pod.svid);
	test_certificate_free(&root);
	test_certificate_free(&stranger);
	test_certificate_free(&late);
	test_certificate_free(&first);
	test_certificate_free(&second);
	test_certificate_free(&leaf);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(expired_is_used),   cmocka_unit_test(next_worker_has_it),
		cmocka_unit_test(waits_for_an_svid), cmocka_unit_test(replaced),
		cmocka_unit_test(rejected),	     cmocka_unit_test(ca_comes_later),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("crl_files", tests, setup, teardown);
}
