/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key_schedule.c - how the keys of a finished handshake get out of OpenSSL: where it derives the
 * application traffic secrets by our algorithm (tls13_kdf.h), that tells them to the handshake that
 * this thread is at; elsewhere OpenSSL's keylog callback names them. HKDF-Expand-Label (RFC 8446
 * section 7.1; hkdf.h, or the provider's that the configuration asks for: tls_library.h) turns them into
 * record keys (section 7.3). By the callback a secret exists twice for a moment, as the line that
 * OpenSSL formats (and wipes itself) and in struct kmtls_secret, which the caller wipes.
 */
#include "key_schedule.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "hkdf.h"
#include "tls_library.h"

#define RANDOM_HEX 64 /* the client random between label and secret, in hex */

static int secrets_index = -1;
static EVP_KDF *provider_kdf; /* where the configuration has providers of its own */
static pthread_once_t once = PTHREAD_ONCE_INIT;
/* Of the handshake that this thread is at. */
static __thread struct kmtls_traffic_secrets *underway;

/* Fetching an algorithm costs more than using it: once per process, never freed. */
static void fetch_once(void)
{
	secrets_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	if (!kmtls_tls_library())
		provider_kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, NULL);
}

static void free_kdf_ctx(EVP_KDF_CTX **ctx)
{
	EVP_KDF_CTX_free(*ctx); /* wipes the secret it has copied */
}

void kmtls_secret_wipe(struct kmtls_secret *secret)
{
	OPENSSL_cleanse(secret, sizeof(*secret));
}

void kmtls_traffic_secrets_wipe(struct kmtls_traffic_secrets *secrets)
{
	OPENSSL_cleanse(secrets, sizeof(*secrets));
}

void kmtls_record_key_wipe(struct kmtls_record_key *key)
{
	OPENSSL_cleanse(key, sizeof(*key));
}

int kmtls_traffic_secrets_attach(SSL *ssl, struct kmtls_traffic_secrets *secrets)
{
	pthread_once(&once, fetch_once);
	if (secrets_index < 0 || !SSL_set_ex_data(ssl, secrets_index, secrets)) {
		ERR_clear_error();
		return -ENOMEM;
	}
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* A whole number of bytes in hex, of a length TLS 1.3 has secrets of; else ret_secret stays. */
static void parse_secret(const char *hex, struct kmtls_secret *ret_secret)
{
	size_t digits = strlen(hex), i;
	struct kmtls_secret secret = { .length = digits / 2 };

	if (digits != 2 * 32 && digits != 2 * 48)
		return;
	for (i = 0; i < secret.length; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			break;
		secret.bytes[i] = high << 4 | low;
	}
	if (i == secret.length)
		*ret_secret = secret;
	kmtls_secret_wipe(&secret);
}

/* The part of line behind "LABEL ", or NULL. */
static const char *skip_label(const char *line, const char *label)
{
	size_t length = strlen(label);

	return strncmp(line, label, length) == 0 && line[length] == ' ' ? line + length + 1 : NULL;
}

/* "LABEL <client random> <secret>", the format of NSS key logs. */
void kmtls_traffic_secrets_keylog(const SSL *ssl, const char *line)
{
	struct kmtls_traffic_secrets *secrets;
	struct kmtls_secret *secret;
	const char *rest;

	pthread_once(&once, fetch_once);
	secrets = secrets_index < 0 ? NULL : SSL_get_ex_data(ssl, secrets_index);
	if (!secrets)
		return;
	rest = skip_label(line, "CLIENT_TRAFFIC_SECRET_0");
	secret = &secrets->client;
	if (!rest) {
		rest = skip_label(line, "SERVER_TRAFFIC_SECRET_0");
		secret = &secrets->server;
	}
	if (!rest || strspn(rest, "0123456789abcdefABCDEF") != RANDOM_HEX ||
	    rest[RANDOM_HEX] != ' ')
		return;
	parse_secret(rest + RANDOM_HEX + 1, secret);
}

int kmtls_traffic_secrets_handshake(SSL *ssl)
{
	int result;

	pthread_once(&once, fetch_once);
	underway = secrets_index < 0 ? NULL : SSL_get_ex_data(ssl, secrets_index);
	result = SSL_do_handshake(ssl);
	underway = NULL;
	return result;
}

void kmtls_traffic_secrets_derived(const char *label, size_t label_length,
				   const unsigned char *bytes, size_t length)
{
	static const char client[] = "c ap traffic", server[] = "s ap traffic";
	struct kmtls_secret *secret;

	if (!underway || label_length != sizeof(client) - 1 || length > sizeof(secret->bytes))
		return;
	if (!memcmp(label, client, label_length))
		secret = &underway->client;
	else if (!memcmp(label, server, label_length))
		secret = &underway->server;
	else
		return;
	memcpy(secret->bytes, bytes, length);
	secret->length = length;
}

/* Sizes and hash by cipher suite (RFC 8446 appendix B.4). */
static const struct suite {
	__u16 cipher;
	size_t key, hash;
	const char *digest;
} suites[] = {
	{ 0x1301, 16, 32, "SHA256" },
	{ 0x1302, 32, 48, "SHA384" },
	{ 0x1303, 32, 32, "SHA256" },
};

static const struct suite *find_suite(__u16 cipher)
{
	for (unsigned i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
		if (suites[i].cipher == cipher)
			return &suites[i];
	return NULL;
}

static const char prefix[] = "tls13 ";

static bool expand(const struct kmtls_secret *secret, const char *label, unsigned char *ret_bytes,
		   size_t length)
{
	struct kmtls_hkdf hkdf __cleanup_hkdf = {};

	return kmtls_hkdf_open(&hkdf, secret->length) &&
	       kmtls_hkdf_expand_label(
		       &hkdf, &(struct kmtls_bytes){ secret->bytes, secret->length },
		       &(struct kmtls_bytes){ (const unsigned char *)prefix, sizeof(prefix) - 1 },
		       &(struct kmtls_bytes){ (const unsigned char *)label, strlen(label) },
		       &(struct kmtls_bytes){}, ret_bytes, length);
}

static bool expand_by_provider(const char *digest, const struct kmtls_secret *secret,
			       const char *label, unsigned char *ret_bytes, size_t length)
{
	EVP_KDF_CTX *ctx __attribute__((cleanup(free_kdf_ctx))) = NULL;
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	/* OSSL_PARAM has no const: none of these is written to. */
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret->bytes,
						  secret->length),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (void *)prefix,
						  sizeof(prefix) - 1),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (void *)label,
						  strlen(label)),
		OSSL_PARAM_construct_end(),
	};

	ctx = EVP_KDF_CTX_new(provider_kdf); /* NULL in, NULL out */
	return ctx && EVP_KDF_derive(ctx, ret_bytes, length, params) == 1;
}

int kmtls_expand_label(__u16 cipher, const struct kmtls_secret *secret, const char *label,
		       unsigned char *ret_bytes, size_t length)
{
	const struct suite *suite = find_suite(cipher);
	bool done;

	if (!suite || secret->length != suite->hash)
		return -EINVAL;
	pthread_once(&once, fetch_once);
	done = kmtls_tls_library()
		       ? expand(secret, label, ret_bytes, length)
		       : expand_by_provider(suite->digest, secret, label, ret_bytes, length);
	if (done)
		return 0;
	ERR_clear_error();
	return -EIO;
}

int kmtls_record_key_derive(__u16 cipher, const struct kmtls_secret *secret,
			    struct kmtls_record_key *ret_key)
{
	struct kmtls_record_key key __cleanup_record_key = { .cipher = cipher };
	const struct suite *suite = find_suite(cipher);
	int err;

	if (!suite)
		return -EINVAL;
	err = kmtls_expand_label(cipher, secret, "key", key.key, suite->key);
	if (!err)
		err = kmtls_expand_label(cipher, secret, "iv", key.iv, sizeof(key.iv));
	if (!err)
		*ret_key = key;
	return err;
}

size_t kmtls_secret_length(__u16 cipher)
{
	const struct suite *suite = find_suite(cipher);

	return suite ? suite->hash : 0;
}

int kmtls_secret_next(__u16 cipher, const struct kmtls_secret *secret,
		      struct kmtls_secret *ret_secret)
{
	struct kmtls_secret next __cleanup_secret = { .length = secret->length };
	int err;

	err = kmtls_expand_label(cipher, secret, "traffic upd", next.bytes, next.length);
	if (!err)
		*ret_secret = next;
	return err;
}
