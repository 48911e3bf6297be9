/* SPDX-License-Identifier: Apache-2.0 */
/* svid_store.c - see svid_store.h. */
#include "svid_store.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "hash.h"
#include "key_memory.h"

/* A blob: (length, DER)... in the order key, certificate, [number of chain, chain...], bundle...; with
 * FEDERATED in the number there are bundles of several trust domains instead: put_trust(). */
#define FEDERATED 0x80000000u

struct blob {
	unsigned char bytes[KMTLS_SECRET_MAX];
	size_t length, at;
	bool bad;
};

static void wipe(struct blob *blob)
{
	OPENSSL_cleanse(blob->bytes, sizeof(blob->bytes));
}

#define __cleanup_blob __attribute__((cleanup(wipe)))

static void put_number(struct blob *blob, __u32 number)
{
	if (blob->length + sizeof(number) > sizeof(blob->bytes)) {
		blob->bad = true;
		return;
	}
	memcpy(blob->bytes + blob->length, &number, sizeof(number));
	blob->length += sizeof(number);
}

static __u32 get_number(struct blob *blob)
{
	__u32 number = 0;

	if (blob->at + sizeof(number) > blob->length) {
		blob->bad = true;
		return 0;
	}
	memcpy(&number, blob->bytes + blob->at, sizeof(number));
	blob->at += sizeof(number);
	return number;
}

/* Room for length bytes, or NULL. */
static unsigned char *reserve(struct blob *blob, int length)
{
	unsigned char *room;

	if (length <= 0) {
		blob->bad = true;
		return NULL;
	}
	put_number(blob, length);
	if (blob->bad || blob->length + length > sizeof(blob->bytes)) {
		blob->bad = true;
		return NULL;
	}
	room = blob->bytes + blob->length;
	blob->length += length;
	return room;
}

static void put_certificate(struct blob *blob, X509 *certificate)
{
	unsigned char *to = reserve(blob, i2d_X509(certificate, NULL));

	if (to)
		i2d_X509(certificate, &to);
}

static void put_key(struct blob *blob, EVP_PKEY *key)
{
	unsigned char *to = reserve(blob, i2d_PrivateKey(key, NULL));

	if (to)
		i2d_PrivateKey(key, &to);
}

/* The next piece, or NULL. */
static const unsigned char *take(struct blob *blob, long *ret_length)
{
	const unsigned char *from;
	__u32 length = get_number(blob);

	if (blob->bad || !length || blob->at + length > blob->length) {
		blob->bad = true;
		return NULL;
	}
	from = blob->bytes + blob->at;
	blob->at += length;
	*ret_length = length;
	return from;
}

static X509 *get_certificate(struct blob *blob)
{
	long length = 0;
	const unsigned char *from = take(blob, &length);

	return from ? d2i_X509(NULL, &from, length) : NULL;
}

static EVP_PKEY *get_key(struct blob *blob)
{
	long length = 0;
	const unsigned char *from = take(blob, &length);

	return from ? kmtls_key_memory_settle(d2i_AutoPrivateKey(NULL, &from, length)) : NULL;
}

static int save(struct kmtls_secret_region *region, enum kmtls_secret_kind kind, __u64 key,
		struct blob *blob)
{
	ERR_clear_error();
	return blob->bad ? -E2BIG : kmtls_secret_put(region, kind, key, blob->bytes, blob->length);
}

static int load(struct kmtls_secret_region *region, enum kmtls_secret_kind kind, __u64 key,
		struct blob *blob)
{
	ssize_t length = kmtls_secret_get(region, kind, key, blob->bytes, sizeof(blob->bytes));

	if (length < 0)
		return length;
	blob->length = length;
	return 0;
}

/* ---- SVIDs ---- */

static void put_stack(struct blob *blob, STACK_OF(X509) * stack)
{
	for (int i = 0; i < sk_X509_num(stack); i++)
		put_certificate(blob, sk_X509_value(stack, i));
}

/* Of several trust domains: their number, then name, number of roots and roots of each. */
static void put_trust(struct blob *blob, const struct kmtls_trust *trust)
{
	if (trust->count == 1) {
		put_stack(blob, trust->bundles[0].roots);
		return;
	}
	put_number(blob, trust->count);
	for (unsigned i = 0; i < trust->count; i++) {
		const struct kmtls_trust_bundle *bundle = &trust->bundles[i];
		int length = (int)strlen(bundle->trust_domain);
		unsigned char *to = reserve(blob, length);

		if (to)
			memcpy(to, bundle->trust_domain, length);
		put_number(blob, sk_X509_num(bundle->roots));
		put_stack(blob, bundle->roots);
	}
}

int kmtls_svid_store_put(struct kmtls_secret_region *region, const struct kmtls_svid *svid)
{
	struct blob blob __cleanup_blob = {};
	STACK_OF(X509) *chain = NULL;

	SSL_CTX_get0_chain_certs(svid->client, &chain);
	put_key(&blob, SSL_CTX_get0_privatekey(svid->client));
	put_certificate(&blob, SSL_CTX_get0_certificate(svid->client));
	put_number(&blob,
		   (chain ? sk_X509_num(chain) : 0) | (svid->trust->count > 1 ? FEDERATED : 0));
	if (chain)
		put_stack(&blob, chain);
	put_trust(&blob, svid->trust);
	return save(region, KMTLS_SECRET_SVID, svid->id_hash, &blob);
}

/* Certificates into a new stack, count of them or (-1) all that follow. NULL: not so. */
static STACK_OF(X509) * get_stack(struct blob *blob, int count)
{
	STACK_OF(X509) *stack = sk_X509_new_null();

	for (int i = 0; stack && (count < 0 ? blob->at < blob->length : i < count); i++) {
		X509 *certificate = get_certificate(blob);

		if (certificate && sk_X509_push(stack, certificate))
			continue;
		X509_free(certificate);
		sk_X509_pop_free(stack, X509_free);
		return NULL;
	}
	return stack;
}

static void free_bundle(struct kmtls_trust_bundle *bundle)
{
	free((char *)bundle->trust_domain);
	sk_X509_pop_free(bundle->roots, X509_free);
}

static bool get_bundle(struct blob *blob, struct kmtls_trust_bundle *ret_bundle)
{
	long length = 0;
	const unsigned char *name = take(blob, &length);

	if (!name)
		return false;
	ret_bundle->trust_domain = strndup((const char *)name, length);
	ret_bundle->roots = get_stack(blob, (int)(get_number(blob) & 0xffff));
	return ret_bundle->trust_domain && ret_bundle->roots && !blob->bad;
}

static int get_trust(struct blob *blob, struct kmtls_trust **ret_trust, const char **ret_why)
{
	unsigned count = get_number(blob), got = 0;
	struct kmtls_trust_bundle *bundles;
	int err = -EINVAL;

	if (blob->bad || count > KMTLS_TRUST_DOMAINS_MAX)
		return -EINVAL;
	bundles = calloc(count ? count : 1, sizeof(*bundles));
	if (!bundles)
		return -ENOMEM;
	while (got < count && get_bundle(blob, &bundles[got]))
		got++;
	if (got == count)
		err = kmtls_trust_new(bundles, count, ret_trust, ret_why);
	for (unsigned i = 0; i < count; i++)
		free_bundle(&bundles[i]);
	free(bundles);
	return err;
}

/* What follows the key and the leaf. */
static int get_rest(struct blob *blob, X509 *leaf, EVP_PKEY *key, struct kmtls_svid **ret_svid)
{
	__u32 count = get_number(blob);
	STACK_OF(X509) *chain = NULL, *bundle = NULL;
	struct kmtls_trust *trust = NULL;
	const char *why;
	int err = -EINVAL;

	if (!blob->bad && (count & ~FEDERATED))
		chain = get_stack(blob, (int)(count & ~FEDERATED));
	if (!blob->bad && count & FEDERATED) {
		err = get_trust(blob, &trust, &why);
		if (!err)
			err = kmtls_svid_new_federated(leaf, chain, key, trust, ret_svid, &why);
	} else if (!blob->bad) {
		bundle = get_stack(blob, -1);
		if (bundle && !blob->bad)
			err = kmtls_svid_new(leaf, chain, key, bundle, ret_svid, &why);
	}
	kmtls_trust_put(trust);
	sk_X509_pop_free(chain, X509_free);
	sk_X509_pop_free(bundle, X509_free);
	return err;
}

int kmtls_svid_store_get(struct kmtls_secret_region *region, const char *id,
			 struct kmtls_svid **ret_svid)
{
	struct blob blob __cleanup_blob = {};
	EVP_PKEY *key;
	X509 *leaf;
	int err;

	err = load(region, KMTLS_SECRET_SVID, kmtls_hash_text(id), &blob);
	if (err)
		return err;
	key = get_key(&blob);
	leaf = get_certificate(&blob);
	err = key && leaf ? get_rest(&blob, leaf, key, ret_svid) : -EINVAL;
	if (!err && strcmp((*ret_svid)->id, id) != 0) {
		kmtls_svid_put(*ret_svid);
		err = -ENOENT;
	}
	X509_free(leaf);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return err;
}

void kmtls_svid_store_delete(struct kmtls_secret_region *region, const char *id)
{
	kmtls_secret_delete(region, KMTLS_SECRET_SVID, kmtls_hash_text(id));
}

/* ---- CAs ---- */

int kmtls_svid_store_put_ca(struct kmtls_secret_region *region, const char *backend,
			    const struct kmtls_ca *ca)
{
	struct blob blob __cleanup_blob = {};

	put_key(&blob, ca->key);
	put_number(&blob, sk_X509_num(ca->chain));
	for (int i = 0; i < sk_X509_num(ca->chain); i++)
		put_certificate(&blob, sk_X509_value(ca->chain, i));
	for (int i = 0; i < sk_X509_num(ca->roots); i++)
		put_certificate(&blob, sk_X509_value(ca->roots, i));
	return save(region, KMTLS_SECRET_CA, kmtls_hash_text(backend), &blob);
}

int kmtls_svid_store_get_ca(struct kmtls_secret_region *region, const char *backend,
			    struct kmtls_ca *ret_ca)
{
	struct blob blob __cleanup_blob = {};
	struct kmtls_ca ca = {};
	__u32 count;
	int err;

	err = load(region, KMTLS_SECRET_CA, kmtls_hash_text(backend), &blob);
	if (err)
		return err;
	ca.key = get_key(&blob);
	count = get_number(&blob);
	if (!blob.bad && count)
		ca.chain = get_stack(&blob, count);
	if (ca.chain)
		ca.roots = get_stack(&blob, -1);
	ERR_clear_error();
	if (!ca.key || sk_X509_num(ca.chain) < 1 || sk_X509_num(ca.roots) < 1) {
		kmtls_ca_clear(&ca);
		return -EINVAL;
	}
	*ret_ca = ca;
	return 0;
}

/* ---- roots ---- */

int kmtls_svid_store_put_roots(struct kmtls_secret_region *region, const char *backend,
			       const STACK_OF(X509) * roots)
{
	struct blob blob __cleanup_blob = {};

	for (int i = 0; i < sk_X509_num(roots); i++)
		put_certificate(&blob, sk_X509_value(roots, i));
	return save(region, KMTLS_SECRET_ROOTS, kmtls_hash_text(backend), &blob);
}

int kmtls_svid_store_get_roots(struct kmtls_secret_region *region, const char *backend,
			       STACK_OF(X509) * *ret_roots)
{
	struct blob blob __cleanup_blob = {};
	STACK_OF(X509) * roots;
	int err;

	err = load(region, KMTLS_SECRET_ROOTS, kmtls_hash_text(backend), &blob);
	if (err)
		return err;
	roots = get_stack(&blob, -1);
	ERR_clear_error();
	if (!roots)
		return -EINVAL;
	*ret_roots = roots;
	return 0;
}

void kmtls_svid_store_keep_cas(struct kmtls_secret_region *region, const char *const *backends,
			       unsigned count)
{
	__u64 keys[KMTLS_BACKENDS_MAX];

	for (unsigned i = 0; i < count; i++)
		keys[i] = kmtls_hash_text(backends[i]);
	kmtls_secret_delete_others(region, KMTLS_SECRET_CA, keys, count);
	kmtls_secret_delete_others(region, KMTLS_SECRET_ROOTS, keys, count);
}
