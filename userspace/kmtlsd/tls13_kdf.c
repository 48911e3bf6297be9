/* SPDX-License-Identifier: Apache-2.0 */
/* tls13_kdf.c - see tls13_kdf.h. What is secret here lives on the stack, in types that are wiped. */
#include "tls13_kdf.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>
#include <strings.h>

#include "hkdf.h"
#include "key_schedule.h"

#define HASH_MAX 48

/* The hashes of the cipher suites (RFC 8446, appendix B.4). */
static const struct {
	const char *name, *alias;
	size_t length;
} hashes[] = {
	{ "SHA2-256", "SHA256", 32 },
	{ "SHA2-384", "SHA384", 48 },
};
#define HASHES (sizeof(hashes) / sizeof(hashes[0]))

/* HKDF-Extract, with Derive-Secret(salt, label, "") as its salt. Without a salt or a key: zeros. */
static bool extract(const struct kmtls_hkdf *hkdf, const struct kmtls_bytes *salt,
		    const struct kmtls_bytes *key, const struct kmtls_bytes *prefix,
		    const struct kmtls_bytes *label, unsigned char *ret_bytes)
{
	static const unsigned char zeros[HASH_MAX];
	struct kmtls_secret derived __cleanup_secret;
	unsigned char nothing[HASH_MAX];
	struct kmtls_bytes with = { derived.bytes, 0 }, data = { nothing, hkdf->length };
	struct kmtls_bytes from = { zeros, hkdf->length };

	if (salt->at) {
		with.length = hkdf->length;
		if (!kmtls_hkdf_hash(hkdf, NULL, 0, nothing) ||
		    !kmtls_hkdf_expand_label(hkdf, salt, prefix, label, &data, derived.bytes,
					     hkdf->length))
			return false;
	}
	if (key->at)
		from = *key;
	return kmtls_hkdf_hmac(hkdf, &with, &from, ret_bytes);
}

/* ---- what OpenSSL asks ---- */

struct request {
	int mode;
	size_t hash; /* its length */
	struct kmtls_bytes key, salt, prefix, label, data;
};

/* 0: it is none of them. */
static size_t hash_length(const char *name)
{
	for (unsigned i = 0; i < HASHES; i++)
		if (!strcasecmp(name, hashes[i].name) || !strcasecmp(name, hashes[i].alias))
			return hashes[i].length;
	return 0;
}

static bool read_request(const OSSL_PARAM *params, struct request *request)
{
	static const unsigned char empty[1];
	const struct {
		const char *name;
		struct kmtls_bytes *bytes;
	} wanted[] = {
		{ OSSL_KDF_PARAM_KEY, &request->key },
		{ OSSL_KDF_PARAM_SALT, &request->salt },
		{ OSSL_KDF_PARAM_PREFIX, &request->prefix },
		{ OSSL_KDF_PARAM_LABEL, &request->label },
		{ OSSL_KDF_PARAM_DATA, &request->data },
	};

	for (; params && params->key; params++) {
		if (!strcmp(params->key, OSSL_KDF_PARAM_MODE)) {
			if (OSSL_PARAM_get_int(params, &request->mode) != 1)
				return false;
		} else if (!strcmp(params->key, OSSL_KDF_PARAM_DIGEST)) {
			if (params->data_type != OSSL_PARAM_UTF8_STRING)
				return false;
			request->hash = hash_length(params->data);
		}
		for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
			if (!strcmp(params->key, wanted[i].name))
				*wanted[i].bytes =
					(struct kmtls_bytes){ params->data ? params->data : empty,
							      params->data_size };
	}
	return request->hash;
}

static int derive(void *unused, unsigned char *ret_bytes, size_t length, const OSSL_PARAM *params)
{
	struct kmtls_hkdf hkdf __cleanup_hkdf = {};
	struct request request = { .mode = -1 };
	const struct kmtls_bytes *key = &request.key;
	bool is_whole;

	if (!read_request(params, &request) || !kmtls_hkdf_open(&hkdf, request.hash))
		return 0;
	is_whole = length == request.hash;
	if (request.mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY)
		return is_whole && (!request.salt.at || request.salt.length == length) &&
		       extract(&hkdf, &request.salt, key, &request.prefix, &request.label,
			       ret_bytes);
	if (request.mode != EVP_KDF_HKDF_MODE_EXPAND_ONLY || !key->at ||
	    key->length != request.hash ||
	    !kmtls_hkdf_expand_label(&hkdf, key, &request.prefix, &request.label, &request.data,
				     ret_bytes, length))
		return 0;
	if (is_whole)
		kmtls_traffic_secrets_derived((const char *)request.label.at, request.label.length,
					      ret_bytes, length);
	return 1;
}

/* There is nothing to keep between two derivations. */
static void *new_ctx(void *unused)
{
	static char nothing;

	return &nothing;
}

static void free_ctx(void *nothing)
{
}

static int set_params(void *nothing, const OSSL_PARAM *params)
{
	return !params || !params->key;
}

const OSSL_DISPATCH kmtls_tls13_kdf_functions[] = {
	{ OSSL_FUNC_KDF_NEWCTX, (void (*)(void))new_ctx },
	{ OSSL_FUNC_KDF_FREECTX, (void (*)(void))free_ctx },
	{ OSSL_FUNC_KDF_DERIVE, (void (*)(void))derive },
	{ OSSL_FUNC_KDF_SET_CTX_PARAMS, (void (*)(void))set_params },
	{ 0, NULL },
};

bool kmtls_tls13_kdf_works(void)
{
	bool works = true;

	for (unsigned i = 0; i < HASHES; i++) {
		struct kmtls_hkdf hkdf __cleanup_hkdf = {};

		works = works && kmtls_hkdf_open(&hkdf, hashes[i].length);
	}
	return works;
}
