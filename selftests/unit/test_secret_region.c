/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_secret_region.c - what is kept for the next worker: values replace each other whole, are
 * seen by another process and by another mapping of the descriptor, and are wiped; SVIDs and the
 * root come back as they were.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "certificates.h"
#include "hash.h"
#include "identities.h"
#include "secret_region.h"
#include "svid_store.h"

#define FLOWS 64

static struct kmtls_secret_region *region;
static int region_fd;
static char why[256];

static int setup(void **state)
{
	return kmtls_secret_region_create(FLOWS, &region, &region_fd, why);
}

static int teardown(void **state)
{
	return close(region_fd);
}

static void values(void **state)
{
	static unsigned char big[KMTLS_SECRET_MAX + 1];
	char buffer[KMTLS_SECRET_MAX];

	assert_int_equal(kmtls_secret_get(region, KMTLS_SECRET_SVID, 7, buffer, 16), -ENOENT);
	assert_int_equal(kmtls_secret_put(region, KMTLS_SECRET_SVID, 7, "first", 5), 0);
	assert_int_equal(kmtls_secret_get(region, KMTLS_SECRET_SVID, 7, buffer, 16), 5);
	assert_memory_equal(buffer, "first", 5);
	assert_int_equal(kmtls_secret_put(region, KMTLS_SECRET_SVID, 7, "second!", 7), 0);
	assert_int_equal(kmtls_secret_get(region, KMTLS_SECRET_SVID, 7, buffer, 16), 7);
	assert_memory_equal(buffer, "second!", 7);
	assert_int_equal(kmtls_secret_get(region, KMTLS_SECRET_SVID, 7, buffer, 6), -E2BIG);
	/* Same key, other kind. */
	assert_int_equal(kmtls_secret_get(region, KMTLS_SECRET_CA, 7, buffer, 16), -ENOENT);
	assert_int_equal(kmtls_secret_put(region, KMTLS_SECRET_SVID, 7, big, sizeof(big)), -E2BIG);
	assert_int_equal(kmtls_secret_put(region, KMTLS_SECRET_SVID, 7, big, sizeof(big) - 1), 0);
	assert_int_equal(kmtls_secret_get(region, KMTLS_SECRET_SVID, 7, buffer, sizeof(buffer)),
			 KMTLS_SECRET_MAX);
	kmtls_secret_delete(region, KMTLS_SECRET_SVID, 7);
	assert_int_equal(kmtls_secret_get(region, KMTLS_SECRET_SVID, 7, buffer, 16), -ENOENT);
}

static void full(void **state)
{
	__u64 key = 0;
	int err;

	while (!(err = kmtls_secret_put(region, KMTLS_SECRET_SVID, key, "x", 1)))
		key++;
	assert_int_equal(err, -ENOSPC);
	assert_true(key >= 1024);
	/* One that is there can still be replaced. */
	assert_int_equal(kmtls_secret_put(region, KMTLS_SECRET_SVID, 0, "y", 1), 0);
	while (key--)
		kmtls_secret_delete(region, KMTLS_SECRET_SVID, key);
}

/* A worker that is killed while it writes: the next one finds the old value or the new one. */
static void killed_writer(void **state)
{
	char values[2][1000], buffer[1000];
	pid_t child;

	memset(values[0], 'a', sizeof(values[0]));
	memset(values[1], 'b', sizeof(values[1]));
	assert_int_equal(kmtls_secret_put(region, KMTLS_SECRET_SVID, 9, values[0], 1000), 0);
	for (int round = 0; round < 50; round++) {
		child = fork();
		if (child == 0)
			for (unsigned i = 0;; i++)
				kmtls_secret_put(region, KMTLS_SECRET_SVID, 9, values[i % 2], 1000);
		usleep(500 + round * 37);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		assert_int_equal(kmtls_secret_get(region, KMTLS_SECRET_SVID, 9, buffer, 1000),
				 1000);
		assert_true(!memcmp(buffer, values[0], 1000) || !memcmp(buffer, values[1], 1000));
	}
	kmtls_secret_delete(region, KMTLS_SECRET_SVID, 9);
}

/* Nothing of a value that was replaced or deleted is left anywhere. */
static void wiped(void **state)
{
	static const char secret[] = "do not leave me lying around";
	struct kmtls_secret_region *again = NULL;

	kmtls_secret_put(region, KMTLS_SECRET_SVID, 1, secret, sizeof(secret));
	kmtls_secret_put(region, KMTLS_SECRET_SVID, 1, "", 1);
	kmtls_secret_put(region, KMTLS_SECRET_SVID, 2, secret, sizeof(secret));
	assert_int_equal(kmtls_secret_region_map(region_fd, &again, why), 0);
	assert_non_null(memmem(again, 1 << 20, secret, sizeof(secret)));
	kmtls_secret_delete(region, KMTLS_SECRET_SVID, 2);
	assert_null(memmem(again, 1 << 20, secret, sizeof(secret)));
	kmtls_secret_delete(region, KMTLS_SECRET_SVID, 1);
}

static void wrong_descriptor(void **state)
{
	struct kmtls_secret_region *other;
	int fd = memfd_create("other", MFD_CLOEXEC);

	assert_int_equal(kmtls_secret_region_map(fd, &other, why), -EPROTO);
	assert_int_equal(ftruncate(fd, 1 << 26), 0);
	assert_int_equal(kmtls_secret_region_map(fd, &other, why), -EPROTO);
	close(fd);
}

static void flows(void **state)
{
	unsigned char *last = kmtls_secret_of_flow(region, FLOWS - 1);

	assert_non_null(last);
	for (unsigned i = 0; i < KMTLS_SECRET_FLOW_SIZE; i++)
		assert_int_equal(last[i], 0);
	memset(last, 1, KMTLS_SECRET_FLOW_SIZE);
	assert_ptr_equal(kmtls_secret_of_flow(region, 0), last - (FLOWS - 1) * 256);
	assert_null(kmtls_secret_of_flow(region, FLOWS));
}

static struct kmtls_identity *open_identity(const char *file, bool prefer_kept)
{
	static struct kmtls_config_backend backend; /* as long as the source */
	struct kmtls_identity_options options = {
		.backend = &backend,
		.trust_domain = TEST_TRUST_DOMAIN,
		.secrets = region,
		.prefer_kept = prefer_kept,
	};
	struct kmtls_identity *identity = NULL;

	backend = (struct kmtls_config_backend){
		.name = (char *)"own",
		.type = KMTLS_BACKEND_BUILTIN,
		.key_type = KMTLS_KEY_EC_P256,
		.root_file = (char *)file,
		.root_ttl = 3600,
		.svid_ttl = 60,
	};
	why[0] = '\0';
	if (kmtls_identity_builtin_open(&options, &identity, why) < 0)
		return NULL;
	assert_int_equal(identity->operations->keep(identity), 0);
	return identity;
}

static void assert_handshake(struct kmtls_svid *client, struct kmtls_svid *server)
{
	struct test_side sides[2] = { { .verify = { .expected_id = TEST_SERVER_ID,
						    .expected_match = KMTLS_MATCH_EXACT } } };

	test_sides_open(&sides[0], client->client, &sides[1], server->server);
	test_sides_run(&sides[0], &sides[1]);
	assert_true(sides[0].ready && sides[1].ready);
	test_side_close(&sides[0]);
	test_side_close(&sides[1]);
}

static void svids(void **state)
{
	struct kmtls_identity *identity = open_identity(NULL, false);
	struct kmtls_svid *made = test_issue(identity, TEST_CLIENT_ID), *kept = NULL, *server;

	assert_int_equal(kmtls_svid_store_get(region, TEST_CLIENT_ID, &kept), -ENOENT);
	assert_int_equal(kmtls_svid_store_put(region, made), 0);
	assert_int_equal(kmtls_svid_store_get(region, TEST_CLIENT_ID, &kept), 0);
	assert_string_equal(kept->id, made->id);
	assert_int_equal(kept->not_after, made->not_after);
	assert_int_equal(X509_cmp(SSL_CTX_get0_certificate(kept->server),
				  SSL_CTX_get0_certificate(made->server)),
			 0);
	/* The next worker's source has the same root, memory only as it is. */
	kmtls_identity_close(identity);
	identity = open_identity(NULL, true);
	server = test_issue(identity, TEST_SERVER_ID);
	assert_handshake(kept, server);
	kmtls_svid_put(server);
	kmtls_svid_put(kept);
	kmtls_svid_put(made);
	kmtls_svid_store_delete(region, TEST_CLIENT_ID);
	assert_int_equal(kmtls_svid_store_get(region, TEST_CLIENT_ID, &kept), -ENOENT);
	kmtls_identity_close(identity);
	kmtls_secret_delete(region, KMTLS_SECRET_CA, kmtls_hash_text("builtin/own"));
}

/* A file that cannot be read matters only where nothing is kept. */
static void root_file_away(void **state)
{
	static const char missing[] = "/proc/kmtls/root.pem";
	struct kmtls_identity *identity = open_identity(missing, false);

	assert_null(identity);
	identity = open_identity(NULL, false);
	kmtls_identity_close(identity);
	identity = open_identity(missing, true);
	assert_non_null(identity);
	kmtls_identity_close(identity);
	identity = open_identity(missing, false);
	assert_non_null(identity);
	kmtls_identity_close(identity);
	kmtls_secret_delete(region, KMTLS_SECRET_CA, kmtls_hash_text("builtin/own"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values),
		cmocka_unit_test(full),
		cmocka_unit_test(killed_writer),
		cmocka_unit_test(wiped),
		cmocka_unit_test(wrong_descriptor),
		cmocka_unit_test(flows),
		cmocka_unit_test(svids),
		cmocka_unit_test(root_file_away),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
