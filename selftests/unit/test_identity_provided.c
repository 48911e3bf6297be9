/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_identity_provided.c - a CA that somebody else has made: chains that are right and handshakes
 * below them, files as they must be, and the next worker. What is wrong: test_ca_check.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pki.h"

/* Two sides whose trust is the source's own. */
static void assert_works(struct kmtls_identity *identity, int chain)
{
	struct kmtls_svid *client = test_issue(identity, TEST_CLIENT_ID);
	struct kmtls_svid *server = test_issue(identity, TEST_SERVER_ID);
	STACK_OF(X509) *sent = NULL;
	struct test_side a, b;

	SSL_CTX_get0_chain_certs(client->client, &sent);
	assert_int_equal(sent ? sk_X509_num(sent) : 0, chain);
	test_sides_open(&a, client->client, &b, server->server);
	test_sides_run(&a, &b);
	assert_true(a.ready && b.ready);
	test_side_close(&a);
	test_side_close(&b);
	kmtls_svid_put(client);
	kmtls_svid_put(server);
}

/* ---- chains that are right ---- */

static void good_chains(void **state)
{
	static const struct {
		const char *cert, *key, *bundle;
		int sent; /* certificates beside the leaf */
	} table[] = {
		{ "r", "R", NULL, 0 }, /* a root */
		{ "r", "R", "r", 0 }, /* a root that is in a bundle as well */
		{ "i", "I", "r", 1 },	 { "ji", "J", "r", 2 },
		{ "kji", "K", "r", 3 },	 { "kjir", "K", "r", 3 }, /* the root is not sent */
		{ "kji", "K", "or", 3 }, /* several roots */
	};
	struct pki pki;

	pki_plan(&pki);
	pki_make(&pki);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct kmtls_identity *identity;

		pki_write(&pki, table[i].cert, table[i].key, table[i].bundle);
		identity = pki_must_open();
		assert_works(identity, table[i].sent);
		kmtls_identity_close(identity);
	}
	pki_free(&pki);
}

/* Of the key of either, and of the SVID's. */
static void key_types(void **state)
{
	static const char *const algorithms[] = { "P-256", "P-384", "RSA2048" };
	static const struct {
		enum kmtls_key_type type;
		const char *algorithm;
		int bits;
	} types[] = {
		{ KMTLS_KEY_EC_P256, "EC", 256 },    { KMTLS_KEY_EC_P384, "EC", 384 },
		{ KMTLS_KEY_RSA_2048, "RSA", 2048 }, { KMTLS_KEY_RSA_3072, "RSA", 3072 },
		{ KMTLS_KEY_RSA_4096, "RSA", 4096 },
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct kmtls_identity *identity;
		struct kmtls_svid *svid;
		EVP_PKEY *key;
		struct pki pki;

		pki_plan(&pki);
		pki.specs[ROOT].algorithm = algorithms[i % 3];
		pki.specs[I].algorithm = algorithms[(i + 1) % 3];
		pki_make(&pki);
		pki_write(&pki, "i", "I", "r");
		pki_backend.key_type = types[i].type;
		identity = pki_must_open();
		svid = test_issue(identity, TEST_CLIENT_ID);
		key = X509_get0_pubkey(SSL_CTX_get0_certificate(svid->client));
		assert_true(EVP_PKEY_is_a(key, types[i].algorithm));
		assert_int_equal(EVP_PKEY_get_bits(key), types[i].bits);
		if (i < 3) /* the others take long */
			assert_works(identity, 1);
		kmtls_svid_put(svid);
		kmtls_identity_close(identity);
		pki_free(&pki);
	}
}

/* The first of all that ends above it ends the SVID, too. */
static void ends_with_its_chain(void **state)
{
	static const struct {
		int ca;
		long not_after;
	} table[] = { { ROOT, 30 }, { I, 31 }, { J, 32 }, { K, 33 } };

	pki_backend.svid_ttl = 3600;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct kmtls_identity *identity;
		struct kmtls_svid *svid;
		time_t now = time(NULL);
		struct pki pki;

		pki_plan(&pki);
		pki.specs[table[i].ca].not_after = table[i].not_after;
		pki_make(&pki);
		pki_write(&pki, "kji", "K", "r");
		identity = pki_must_open();
		svid = test_issue(identity, TEST_CLIENT_ID);
		assert_in_range(svid->not_after, now + table[i].not_after,
				now + table[i].not_after + 2);
		kmtls_svid_put(svid);
		kmtls_identity_close(identity);
		pki_free(&pki);
	}
}

/* ---- files ---- */

static void permissions(void **state)
{
	static const mode_t bad[] = { 0640, 0604, 0620, 0610, 0601, 0644, 0440 };
	char other[80], wanted[KMTLS_IDENTITY_WHY];
	struct pki pki;

	pki_plan(&pki);
	pki_make(&pki);
	pki_write(&pki, "i", "I", "r");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		chmod(pki_key_file, bad[i]);
		snprintf(wanted, sizeof(wanted),
			 "%%k: holds a key and is accessible by group or others (mode %04o, must "
			 "be 0600 or 0400)",
			 bad[i]);
		pki_must_refuse(wanted);
	}
	chmod(pki_key_file, 0400);
	/* Certificates are nobody's secret, and Kubernetes mounts secrets as links. */
	chmod(pki_cert_file, 0644);
	snprintf(other, sizeof(other), "%s/data", pki_directory);
	assert_int_equal(rename(pki_key_file, other), 0);
	assert_int_equal(symlink(other, pki_key_file), 0);
	kmtls_identity_close(pki_must_open());
	if (geteuid() == 0) {
		assert_int_equal(chown(other, 65534, 65534), 0);
		pki_must_refuse("%k: belongs to user 65534, not to 0 or root");
	}
	unlink(pki_key_file);
	pki_must_refuse("%k: cannot be opened: No such file or directory");
	assert_int_equal(mkfifo(pki_key_file, 0600), 0);
	pki_must_refuse("%k: is not a regular file");
	unlink(pki_bundle_file);
	assert_int_equal(mkdir(pki_bundle_file, 0700), 0);
	unlink(pki_key_file);
	pki_write_file(pki_key_file, &pki, "I");
	pki_must_refuse("%b: is not a regular file");
	rmdir(pki_bundle_file);
	pki_free(&pki);
}

static void long_file(void **state)
{
	struct pki pki;
	FILE *file;

	pki_plan(&pki);
	pki_make(&pki);
	pki_write(&pki, "i", "I", "r");
	file = fopen(pki_cert_file, "a");
	for (int i = 0; i < 65536; i++)
		fputc('\n', file);
	fclose(file);
	pki_must_refuse("%c: is longer than 65536 bytes");
	pki_free(&pki);
}

/* ---- texts in the configuration ---- */

static char *read_text(const char *path)
{
	static char buffers[2][8192];
	static unsigned next;
	char *text = buffers[next++ % 2];
	FILE *file = fopen(path, "r");
	size_t length = fread(text, 1, sizeof(buffers[0]) - 1, file);

	text[length] = '\0';
	fclose(file);
	return text;
}

static void inline_texts(void **state)
{
	struct kmtls_identity *identity;
	struct pki pki;

	pki_plan(&pki);
	pki_make(&pki);
	pki_write(&pki, "r", "R", NULL);
	pki_backend.cert = read_text(pki_cert_file);
	pki_backend.key = read_text(pki_key_file);
	pki_backend.cert_file = pki_backend.key_file = NULL;
	identity = pki_must_open();
	assert_works(identity, 0);
	kmtls_identity_close(identity);
	pki_backend.key = pki_backend.cert;
	pki_must_refuse(
		"key: holds a certificate, and must hold the key only (are the two swapped?)");
	pki_free(&pki);
}

/* ---- the next worker ---- */

static void kept(void **state)
{
	struct kmtls_secret_region *region;
	struct kmtls_identity *identity;
	STACK_OF(X509) * roots;
	struct pki pki;
	int fd;

	assert_int_equal(kmtls_secret_region_create(4, &region, &fd, pki_why), 0);
	pki_plan(&pki);
	pki_make(&pki);
	pki_write(&pki, "kji", "K", "or");
	assert_int_equal(pki_try_open(region, false, &identity), 0);
	assert_int_equal(identity->operations->keep(identity), 0);
	kmtls_identity_close(identity);
	unlink(pki_cert_file);
	unlink(pki_key_file);
	unlink(pki_bundle_file);
	/* A worker that comes after needs no files... */
	assert_int_equal(pki_try_open(region, true, &identity), 0);
	assert_works(identity, 3);
	roots = identity->operations->roots(identity, NULL);
	assert_int_equal(sk_X509_num(roots), 2);
	sk_X509_pop_free(roots, X509_free);
	kmtls_identity_close(identity);
	/* ... a new configuration does, and another pki_backend has another CA. */
	assert_int_equal(pki_try_open(region, false, &identity), -ENOENT);
	pki_backend.name = (char *)"other";
	assert_int_equal(pki_try_open(region, true, &identity), -ENOENT);
	close(fd);
	pki_free(&pki);
}

/* ---- by hand ---- */

/* Another CA below the same root, and then files that are of no use: what was there goes on. */
static void anew(void **state)
{
	struct kmtls_secret_region *region;
	struct kmtls_identity *identity, *next;
	X509 *before;
	struct pki pki;
	bool changed;
	int fd;

	assert_int_equal(kmtls_secret_region_create(4, &region, &fd, pki_why), 0);
	pki_plan(&pki);
	pki_make(&pki);
	pki_write(&pki, "i", "I", "r");
	assert_int_equal(pki_try_open(region, false, &identity), 0);
	assert_int_equal(identity->operations->refresh(identity, &changed, pki_why), 0);
	assert_false(changed);
	before = identity->operations->authority(identity);
	pki_write(&pki, "kji", "K", "or");
	assert_int_equal(identity->operations->refresh(identity, &changed, pki_why), 0);
	assert_true(changed);
	assert_int_equal(
		X509_cmp(identity->operations->authority(identity), pki.cas[K].certificate), 0);
	assert_int_equal(X509_cmp(before, pki.cas[I].certificate), 0); /* is still there */
	assert_works(identity, 3);
	pki_write(&pki, "i", "K", "r");
	assert_int_equal(identity->operations->refresh(identity, &changed, pki_why), -EINVAL);
	assert_false(changed);
	assert_non_null(strstr(pki_why, "is not the key of"));
	unlink(pki_cert_file);
	assert_int_equal(identity->operations->refresh(identity, &changed, pki_why), -ENOENT);
	assert_works(identity, 3);
	/* The next worker has it, without files. */
	assert_int_equal(pki_try_open(region, true, &next), 0);
	assert_works(next, 3);
	kmtls_identity_close(next);
	kmtls_identity_close(identity);
	close(fd);
	pki_free(&pki);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, pki_setup, pki_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(good_chains), TEST(key_types), TEST(ends_with_its_chain),
		TEST(permissions), TEST(long_file), TEST(inline_texts),
		TEST(kept),	   TEST(anew),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("identity_provided", tests, pki_setup_group,
					   pki_teardown_group);
}
