/* SPDX-License-Identifier: Apache-2.0 */
/* svid_store.c - see svid_store.h. */
#include "svid_store.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <string.h>

#include "config.h"
#include "hash.h"

/* A blob: (length, DER)... in the order key, certificate, number of chain, chain..., bundle... */
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

	return from ? d2i_AutoPrivateKey(NULL, &from, length) : NULL;
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

static void put_bundle(struct blob *blob, X509_STORE *store)
{
	STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);

	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		X509 *certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

		if (certificate)
			put_certificate(blob, certificate);
	}
}

int kmtls_svid_store_put(struct kmtls_secret_region *region, const struct kmtls_svid *svid)
{
	struct blob blob __cleanup_blob = {};
	STACK_OF(X509) *chain = NULL;

	SSL_CTX_get0_chain_certs(svid->client, &chain);
	put_key(&blob, SSL_CTX_get0_privatekey(svid->client));
	put_certificate(&blob, SSL_CTX_get0_certificate(svid->client));
	put_number(&blob, chain ? sk_X509_num(chain) : 0);
	for (int i = 0; chain && i < sk_X509_num(chain); i++)
		put_certificate(&blob, sk_X509_value(chain, i));
	put_bundle(&blob, SSL_CTX_get_cert_store(svid->client));
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

int kmtls_svid_store_get(struct kmtls_secret_region *region, const char *id,
			 struct kmtls_svid **ret_svid)
{
	struct blob blob __cleanup_blob = {};
	STACK_OF(X509) *chain = NULL, *bundle = NULL;
	X509 *leaf = NULL;
	EVP_PKEY *key;
	const char *why;
	__u32 count;
	int err;

	err = load(region, KMTLS_SECRET_SVID, kmtls_hash_text(id), &blob);
	if (err)
		return err;
	err = -EINVAL;
	key = get_key(&blob);
	leaf = get_certificate(&blob);
	count = get_number(&blob);
	if (!blob.bad && count)
		chain = get_stack(&blob, count);
	if (!blob.bad)
		bundle = get_stack(&blob, -1);
	if (key && leaf && bundle && !blob.bad)
		err = kmtls_svid_new(leaf, chain, key, bundle, ret_svid, &why);
	if (!err && strcmp((*ret_svid)->id, id) != 0) {
		kmtls_svid_put(*ret_svid);
		err = -ENOENT;
	}
	sk_X509_pop_free(chain, X509_free);
	sk_X509_pop_free(bundle, X509_free);
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
