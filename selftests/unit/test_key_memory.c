/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_key_memory.c - reads all of its own memory for keys, after everything that the worker does
 * with them: private keys made, stored, loaded and used for handshakes, traffic secrets handed over.
 * They may be in the secret region and in OpenSSL's secure heap, which is of the same kind of memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "certificate.h"
#include "certificates.h"
#include "identities.h"
#include "key_memory.h"
#include "key_schedule.h"
#include "secret_region.h"
#include "svid.h"
#include "svid_store.h"
#include "tls_library.h"

#define NEEDLES 64
#define NEEDLE 32 /* bytes compared */
/* Mappings of more bytes are not searched: those of the sanitizers. */
#ifdef __SANITIZE_ADDRESS__
#define SEARCHED (4ul << 20)
#else
#define SEARCHED (1ul << 30)
#endif
#define MASK 0xa5 /* or the list would find itself */

static struct {
	unsigned char masked[NEEDLE];
	size_t length;
	const char *name;
} needles[NEEDLES];
static unsigned needle_count;
static struct kmtls_secret_region *region;
static char root_file[64];

static void look_for(const char *name, const unsigned char *bytes, size_t length)
{
	assert_true(needle_count < NEEDLES && length >= 16);
	needles[needle_count].length = length < NEEDLE ? length : NEEDLE;
	for (size_t i = 0; i < needles[needle_count].length; i++)
		needles[needle_count].masked[i] = bytes[i] ^ MASK;
	needles[needle_count++].name = name;
}

static bool is_at(const unsigned char *at, size_t room, unsigned number)
{
	size_t length = needles[number].length;

	if (room < length)
		return false;
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)(at[i] ^ MASK) != needles[number].masked[i])
			return false;
	return true;
}

/* Memory of the two kinds that may hold keys has a name; of the sanitizers there is too much. */
static bool is_searched(const char *line, const char *permissions, size_t size)
{
	return permissions[0] == 'r' && !strstr(line, "/secretmem") &&
	       !strstr(line, "/memfd:kmtls-secrets") && !strstr(line, "[v") && size < SEARCHED;
}

/* As another process would, so that the sanitizers have nothing to say about it. */
static unsigned search_range(int memory, unsigned long begin, unsigned long end, const char *line)
{
	static unsigned char window[65536];
	unsigned found = 0;
	ssize_t got = sizeof(window);

	if (begin <= (uintptr_t)window && (uintptr_t)window < end)
		begin = (uintptr_t)window +
			sizeof(window); /* it is behind all else that is static */
	for (; begin < end && got > NEEDLE; begin += (unsigned long)got - NEEDLE) {
		size_t wanted = end - begin < sizeof(window) ? end - begin : sizeof(window);

		got = pread(memory, window, wanted, (off_t)begin);
		for (ssize_t at = 0; at < got; at++)
			for (unsigned i = 0; i < needle_count; i++) {
				if (!is_at(window + at, (size_t)(got - at), i))
					continue;
				found++;
				print_message("# %s in %s", needles[i].name, line);
			}
		if ((size_t)got == end - begin)
			break;
	}
	explicit_bzero(window, sizeof(window));
	return found;
}

/* How many there are where they must not be. */
static unsigned search(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	char line[512], permissions[8];
	unsigned long begin, end;
	unsigned found = 0;

	assert_non_null(maps);
	assert_true(memory >= 0);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %7s", &begin, &end, permissions) == 3 &&
		    is_searched(line, permissions, end - begin))
			found += search_range(memory, begin, end, line);
	fclose(maps);
	close(memory);
	return found;
}

/* Both orders: of DER, and of a BIGNUM's words. */
static void look_for_number(const EVP_PKEY *key, const char *parameter, const char *name)
{
	unsigned char bytes[512], turned[512];
	BIGNUM *number = NULL;
	int length;

	assert_int_equal(EVP_PKEY_get_bn_param(key, parameter, &number), 1);
	length = BN_num_bytes(number);
	BN_bn2bin(number, bytes);
	for (int i = 0; i < length; i++)
		turned[i] = bytes[length - 1 - i];
	look_for(name, bytes, (size_t)length);
	look_for(name, turned, (size_t)length);
	BN_clear_free(number);
	OPENSSL_cleanse(bytes, sizeof(bytes));
	OPENSSL_cleanse(turned, sizeof(turned));
}

static void look_for_secret(const char *name, const struct kmtls_secret *secret, unsigned cipher)
{
	struct kmtls_record_key key;

	look_for(name, secret->bytes, secret->length);
	assert_int_equal(kmtls_record_key_derive(cipher, secret, &key), 0);
	look_for("a record key", key.key, cipher == 0x1301 ? 16 : 32);
	kmtls_record_key_wipe(&key);
}

/* All of a private key that is secret. */
static void look_for_key(const EVP_PKEY *key, const char *name)
{
	static const char *const of_rsa[] = {
		OSSL_PKEY_PARAM_RSA_D,	       OSSL_PKEY_PARAM_RSA_FACTOR1,
		OSSL_PKEY_PARAM_RSA_FACTOR2,   OSSL_PKEY_PARAM_RSA_EXPONENT1,
		OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
	};

	if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
		look_for_number(key, OSSL_PKEY_PARAM_PRIV_KEY, name);
		return;
	}
	for (size_t i = 0; i < sizeof(of_rsa) / sizeof(of_rsa[0]); i++)
		look_for_number(key, of_rsa[i], name);
}

static struct kmtls_svid *issue(struct kmtls_identity *identity, const char *id)
{
	struct kmtls_svid *svid = test_issue(identity, id), *again = NULL;

	assert_int_equal(kmtls_svid_store_put(region, svid), 0);
	assert_int_equal(kmtls_svid_store_get(region, id, &again), 0);
	look_for_key(SSL_CTX_get0_privatekey(svid->client), "the key of an SVID");
	kmtls_svid_put(svid);
	return again;
}

static void shake_hands(const struct kmtls_svid *client_svid, const struct kmtls_svid *server_svid)
{
	struct test_side client, server;
	unsigned cipher;

	test_sides_open(&client, client_svid->client, &server, server_svid->server);
	test_sides_run(&client, &server);
	assert_true(client.ready && server.ready);
	cipher = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(client.ssl));
	look_for_secret("the client's traffic secret", &client.secrets.client, cipher);
	look_for_secret("the server's traffic secret", &client.secrets.server, cipher);
	test_side_close(&client);
	test_side_close(&server);
}

static void finds_what_is_there(void **state)
{
	unsigned char *there = malloc(64);

	for (int i = 0; i < 64; i++)
		there[i] = (unsigned char)(i * 37 + 11);
	look_for("what is there", there + 7, 32);
	assert_true(search() >= 1);
	explicit_bzero(there, 64);
	free(there);
	assert_int_equal(search(), 0);
	needle_count = 0;
}

static void use_keys(enum kmtls_key_type key_type, unsigned numbers)
{
	const struct kmtls_config_backend backend = {
		.name = (char *)"own",
		.type = KMTLS_BACKEND_BUILTIN,
		.key_type = key_type,
		.root_file = root_file,
		.root_ttl = 7200,
		.svid_ttl = 3600,
	};
	const struct kmtls_identity_options options = {
		.backend = &backend,
		.trust_domain = TEST_TRUST_DOMAIN,
		.secrets = region,
	};
	struct kmtls_identity *identity = NULL;
	struct kmtls_svid *client, *server;
	char name[KMTLS_BACKEND_KEPT_NAME];
	struct kmtls_ca ca = {};
	const char *kept;
	char why[256];

	/* Makes the file; then reads it. */
	assert_int_equal(kmtls_identity_builtin_open(&options, &identity, why), 0);
	kmtls_identity_close(identity);
	assert_int_equal(kmtls_identity_builtin_open(&options, &identity, why), 0);
	assert_int_equal(unlink(root_file), 0);
	assert_int_equal(identity->operations->keep(identity), 0);
	kept = kmtls_backend_kept_name(&backend, name);
	assert_int_equal(kmtls_svid_store_get_ca(region, kept, &ca), 0);
	look_for_key(ca.key, "the root's key");
	client = issue(identity, TEST_CLIENT_ID);
	server = issue(identity, TEST_SERVER_ID);
	assert_int_equal(search(), 0);
	for (int i = 0; i < 3; i++)
		shake_hands(client, server);
	assert_int_equal(needle_count, 3 * 2 * numbers + 3 * 4);
	assert_int_equal(search(), 0); /* with the keys in use */
	kmtls_svid_put(client);
	kmtls_svid_put(server);
	kmtls_identity_close(identity);
	kmtls_ca_clear(&ca);
	assert_int_equal(search(), 0);
	needle_count = 0;
}

static void no_key_outside(void **state)
{
	use_keys(KMTLS_KEY_EC_P256, 1);
}

/* OpenSSL makes what it needs of the primes when they are first used, and keeps it. */
static void no_rsa_key_outside(void **state)
{
	use_keys(KMTLS_KEY_RSA_2048, 6);
}

/* What a handshake makes for its own time, by x25519_keys.c. */
static void no_x25519_key_outside(void **state)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(kmtls_tls_library(), "X25519", NULL);
	unsigned char private[32];
	size_t length = sizeof(private);
	EVP_PKEY *key = NULL;

	assert_non_null(kmtls_tls_library());
	assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
	assert_int_equal(EVP_PKEY_keygen(ctx, &key), 1);
	assert_int_equal(EVP_PKEY_get_raw_private_key(key, private, &length), 1);
	look_for("X25519 key", private, length);
	OPENSSL_cleanse(private, sizeof(private));
	assert_int_equal(search(), 0);
	EVP_PKEY_free(key);
	EVP_PKEY_CTX_free(ctx);
	assert_int_equal(search(), 0);
	needle_count = 0;
}

static int setup(void **state)
{
	char why[256];
	int fd;

	snprintf(root_file, sizeof(root_file), "/tmp/kmtls-unit-root-%d.pem", (int)getpid());
	assert_int_equal(kmtls_key_memory_open(), 0);
	return kmtls_secret_region_create(64, &region, &fd, why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_what_is_there),
		cmocka_unit_test(no_key_outside),
		cmocka_unit_test(no_rsa_key_outside),
		cmocka_unit_test(no_x25519_key_outside),
	};

	/* As main() of the daemon. */
	if (!kmtls_key_memory_wipe_freed())
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("key_memory", tests, setup, NULL);
}
