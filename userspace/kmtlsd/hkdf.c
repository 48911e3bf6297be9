/* SPDX-License-Identifier: Apache-2.0 */
/* hkdf.c - see hkdf.h. What is secret here lives on the stack, in types that are wiped. */
#include "hkdf.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#define HASH_MAX 48
#define BLOCK_MAX 128
#define BYTE_MAX 255

/* The hashes of the cipher suites (RFC 8446, appendix B.4). */
static struct hash {
	const char *name;
	size_t length, block;
	EVP_MD *digest;
} hashes[] = {
	{ "SHA2-256", 32, 64, NULL },
	{ "SHA2-384", 48, 128, NULL },
};
#define HASHES (sizeof(hashes) / sizeof(hashes[0]))

static pthread_once_t once = PTHREAD_ONCE_INIT;

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

#define __cleanup_block __attribute__((cleanup(wipe_block)))
#define __cleanup_digest __attribute__((cleanup(wipe_digest)))

/* Fetching an algorithm costs more than using it: once per process, never freed. */
static void fetch_once(void)
{
	for (unsigned i = 0; i < HASHES; i++)
		hashes[i].digest = EVP_MD_fetch(NULL, hashes[i].name, NULL);
}

bool kmtls_hkdf_open(struct kmtls_hkdf *hkdf, size_t length)
{
	pthread_once(&once, fetch_once);
	*hkdf = (struct kmtls_hkdf){};
	for (unsigned i = 0; i < HASHES; i++)
		if (hashes[i].length == length && hashes[i].digest)
			*hkdf = (struct kmtls_hkdf){ EVP_MD_CTX_new(), hashes[i].digest, length,
						     hashes[i].block };
	return hkdf->ctx;
}

void kmtls_hkdf_close(struct kmtls_hkdf *hkdf)
{
	EVP_MD_CTX_free(hkdf->ctx); /* wipes its state */
	*hkdf = (struct kmtls_hkdf){};
}

bool kmtls_hkdf_hash(const struct kmtls_hkdf *hkdf, const struct kmtls_bytes *parts, unsigned count,
		     unsigned char *ret_hash)
{
	if (EVP_DigestInit_ex2(hkdf->ctx, hkdf->digest, NULL) != 1)
		return false;
	for (unsigned i = 0; i < count; i++)
		if (EVP_DigestUpdate(hkdf->ctx, parts[i].at, parts[i].length) != 1)
			return false;
	return EVP_DigestFinal_ex(hkdf->ctx, ret_hash, NULL) == 1;
}

/* All of it, whichever hash it is for: of a loop of known length the compiler makes few instructions. */
static void mask(struct block *block, unsigned char with)
{
	for (size_t i = 0; i < sizeof(block->bytes); i++)
		block->bytes[i] ^= with;
}

/* The key is not longer than a block: none in TLS 1.3 is longer than a hash. parts[0] is for the
 * key's block. */
static bool hmac(const struct kmtls_hkdf *hkdf, const struct kmtls_bytes *key,
		 struct kmtls_bytes *parts, unsigned count, struct digest *ret_code)
{
	struct block block __cleanup_block = { 0 };
	struct kmtls_bytes outer[2] = { { block.bytes, hkdf->block },
					{ ret_code->bytes, hkdf->length } };

	if (key->length > hkdf->block)
		return false;
	if (key->length)
		memcpy(block.bytes, key->at, key->length);
	mask(&block, 0x36);
	parts[0] = outer[0];
	if (!kmtls_hkdf_hash(hkdf, parts, count, ret_code->bytes))
		return false;
	mask(&block, 0x36 ^ 0x5c);
	return kmtls_hkdf_hash(hkdf, outer, 2, ret_code->bytes);
}

bool kmtls_hkdf_hmac(const struct kmtls_hkdf *hkdf, const struct kmtls_bytes *key,
		     const struct kmtls_bytes *data, unsigned char *ret_mac)
{
	struct digest mac __cleanup_digest;
	struct kmtls_bytes parts[] = { {}, *data };

	if (!hmac(hkdf, key, parts, 2, &mac))
		return false;
	memcpy(ret_mac, mac.bytes, hkdf->length);
	return true;
}

/* HKDF-Expand-Label: struct HkdfLabel of RFC 8446 is what HKDF-Expand calls info. */
bool kmtls_hkdf_expand_label(const struct kmtls_hkdf *hkdf, const struct kmtls_bytes *secret,
			     const struct kmtls_bytes *prefix, const struct kmtls_bytes *label,
			     const struct kmtls_bytes *data, unsigned char *ret_bytes,
			     size_t length)
{
	struct digest block __cleanup_digest;
	unsigned char head[3] = { length >> 8, length, prefix->length + label->length };
	unsigned char data_length = data->length, counter = 0;
	size_t done = 0;

	if (prefix->length + label->length > BYTE_MAX || data->length > BYTE_MAX ||
	    length > BYTE_MAX * hkdf->length)
		return false;
	while (done < length) {
		struct kmtls_bytes parts[] = { {},
					       { block.bytes, counter ? hkdf->length : 0 },
					       { head, sizeof(head) },
					       *prefix,
					       *label,
					       { &data_length, 1 },
					       *data,
					       { &counter, 1 } };
		size_t some = length - done < hkdf->length ? length - done : hkdf->length;

		counter++;
		if (!hmac(hkdf, secret, parts, sizeof(parts) / sizeof(parts[0]), &block))
			return false;
		memcpy(ret_bytes + done, block.bytes, some);
		done += some;
	}
	return true;
}
