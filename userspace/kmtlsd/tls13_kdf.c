/* SPDX-License-Identifier: Apache-2.0 */
/* tls13_kdf.c - see tls13_kdf.h. What is secret here lives on the stack, in types that are wiped. */
#include "tls13_kdf.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>
#include <strings.h>

#include "key_schedule.h"

#define HASH_MAX 48
#define BLOCK_MAX 128
#define BYTE_MAX 255

/* The hashes of the cipher suites (RFC 8446, appendix B.4). */
static struct hash {
	const char *name, *alias;
	size_t length, block;
	EVP_MD *digest;
} hashes[] = {
	{ "SHA2-256", "SHA256", 32, 64, NULL },
	{ "SHA2-384", "SHA384", 48, 128, NULL },
};
#define HASHES (sizeof(hashes) / sizeof(hashes[0]))

struct bytes {
	const unsigned char *at;
	size_t length;
};

struct block {
	unsigned char bytes[BLOCK_MAX];
};

struct digest {
	unsigned char bytes[HASH_MAX];
};

static void wipe_block(struct block *block)
{
	OPENSSL_cleanse(block, sizeof(*block));
}

static void wipe_digest(struct digest *digest)
{
	OPENSSL_cleanse(digest, sizeof(*digest));
}

static void free_digest_ctx(EVP_MD_CTX **ctx)
{
	EVP_MD_CTX_free(*ctx); /* wipes the state */
}

#define __cleanup_block __attribute__((cleanup(wipe_block)))
#define __cleanup_digest __attribute__((cleanup(wipe_digest)))
#define __cleanup_digest_ctx __attribute__((cleanup(free_digest_ctx)))

/* ---- HMAC (RFC 2104), HKDF (RFC 5869) ---- */

static bool digest(EVP_MD_CTX *ctx, const struct hash *hash, const struct bytes *parts,
		   unsigned count, unsigned char *ret_digest)
{
	if (EVP_DigestInit_ex2(ctx, hash->digest, NULL) != 1)
		return false;
	for (unsigned i = 0; i < count; i++)
		if (EVP_DigestUpdate(ctx, parts[i].at, parts[i].length) != 1)
			return false;
	return EVP_DigestFinal_ex(ctx, ret_digest, NULL) == 1;
}

/* The key is not longer than a block: none in TLS 1.3 is longer than a hash. parts[0] is for the
 * key's block. */
static bool hmac(EVP_MD_CTX *ctx, const struct hash *hash, const struct bytes *key,
		 struct bytes *parts, unsigned count, struct digest *ret_code)
{
	struct block block __cleanup_block = { 0 };
	struct bytes outer[2] = { { block.bytes, hash->block }, { ret_code->bytes, hash->length } };

	if (key->length > hash->block)
		return false;
	if (key->length)
		memcpy(block.bytes, key->at, key->length);
	for (size_t i = 0; i < hash->block; i++)
		block.bytes[i] ^= 0x36;
	parts[0] = outer[0];
	if (!digest(ctx, hash, parts, count, ret_code->bytes))
		return false;
	for (size_t i = 0; i < hash->block; i++)
		block.bytes[i] ^= 0x36 ^ 0x5c;
	return digest(ctx, hash, outer, 2, ret_code->bytes);
}

/* HKDF-Expand-Label: struct HkdfLabel of RFC 8446 is what HKDF-Expand calls info. */
static bool expand(EVP_MD_CTX *ctx, const struct hash *hash, const struct bytes *secret,
		   const struct bytes *prefix, const struct bytes *label, const struct bytes *data,
		   unsigned char *ret_bytes, size_t length)
{
	struct digest block __cleanup_digest;
	unsigned char head[3] = { length >> 8, length, prefix->length + label->length };
	unsigned char data_length = data->length, counter = 0;
	size_t done = 0;

	if (prefix->length + label->length > BYTE_MAX || data->length > BYTE_MAX ||
	    length > BYTE_MAX * hash->length)
		return false;
	while (done < length) {
		struct bytes parts[] = { {},
					 { block.bytes, counter ? hash->length : 0 },
					 { head, sizeof(head) },
					 *prefix,
					 *label,
					 { &data_length, 1 },
					 *data,
					 { &counter, 1 } };
		size_t some = length - done < hash->length ? length - done : hash->length;

		counter++;
		if (!hmac(ctx, hash, secret, parts, sizeof(parts) / sizeof(parts[0]), &block))
			return false;
		memcpy(ret_bytes + done, block.bytes, some);
		done += some;
	}
	return true;
}

/* HKDF-Extract, with Derive-Secret(salt, label, "") as its salt. Without a salt or a key: zeros. */
static bool extract(EVP_MD_CTX *ctx, const struct hash *hash, const struct bytes *salt,
		    const struct bytes *key, const struct bytes *prefix, const struct bytes *label,
		    unsigned char *ret_bytes)
{
	static const unsigned char zeros[HASH_MAX];
	struct digest nothing, derived __cleanup_digest, made __cleanup_digest;
	struct bytes with = { derived.bytes, 0 }, data = { nothing.bytes, hash->length };
	struct bytes parts[] = { {}, { zeros, hash->length } };

	if (salt->at) {
		with.length = hash->length;
		if (!digest(ctx, hash, NULL, 0, nothing.bytes) ||
		    !expand(ctx, hash, salt, prefix, label, &data, derived.bytes, hash->length))
			return false;
	}
	if (key->at)
		parts[1] = *key;
	if (!hmac(ctx, hash, &with, parts, 2, &made))
		return false;
	memcpy(ret_bytes, made.bytes, hash->length);
	return true;
}

/* ---- what OpenSSL asks ---- */

struct request {
	int mode;
	const struct hash *hash;
	struct bytes key, salt, prefix, label, data;
};

static const struct hash *find_hash(const char *name)
{
	for (unsigned i = 0; i < HASHES; i++)
		if (!strcasecmp(name, hashes[i].name) || !strcasecmp(name, hashes[i].alias))
			return &hashes[i];
	return NULL;
}

static bool read_request(const OSSL_PARAM *params, struct request *request)
{
	static const unsigned char empty[1];
	const struct {
		const char *name;
		struct bytes *bytes;
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
			request->hash = find_hash(params->data);
		}
		for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
			if (!strcmp(params->key, wanted[i].name))
				*wanted[i].bytes =
					(struct bytes){ params->data ? params->data : empty,
							params->data_size };
	}
	return request->hash;
}

static int derive(void *unused, unsigned char *ret_bytes, size_t length, const OSSL_PARAM *params)
{
	EVP_MD_CTX *ctx __cleanup_digest_ctx = NULL;
	struct request request = { .mode = -1 };
	const struct bytes *key = &request.key;
	bool is_whole;

	if (!read_request(params, &request) || !(ctx = EVP_MD_CTX_new()))
		return 0;
	is_whole = length == request.hash->length;
	if (request.mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY)
		return is_whole && (!request.salt.at || request.salt.length == length) &&
		       extract(ctx, request.hash, &request.salt, key, &request.prefix,
			       &request.label, ret_bytes);
	if (request.mode != EVP_KDF_HKDF_MODE_EXPAND_ONLY || !key->at ||
	    key->length != request.hash->length ||
	    !expand(ctx, request.hash, key, &request.prefix, &request.label, &request.data,
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

bool kmtls_tls13_kdf_open(OSSL_LIB_CTX *library)
{
	for (unsigned i = 0; i < HASHES; i++) {
		hashes[i].digest = EVP_MD_fetch(library, hashes[i].name, NULL);
		if (!hashes[i].digest) {
			kmtls_tls13_kdf_close();
			return false;
		}
	}
	return true;
}

void kmtls_tls13_kdf_close(void)
{
	for (unsigned i = 0; i < HASHES; i++) {
		EVP_MD_free(hashes[i].digest);
		hashes[i].digest = NULL;
	}
}
