/* SPDX-License-Identifier: Apache-2.0 */
/* x25519_keys.c - see x25519_keys.h. Keys are objects of OpenSSL's provider: they are imported into it. */
#include "x25519_keys.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "key_memory.h"

#define LENGTH 32
#define FUNCTIONS_MAX 48
#define IKM "dhkem-ikm" /* since 3.2: the key is to be made of this */

/* RFC 7748, section 4.1. */
static unsigned char base_point[LENGTH] = { 9 };

/* OpenSSL's own. */
static struct {
	OSSL_FUNC_keymgmt_new_fn *new;
	OSSL_FUNC_keymgmt_free_fn *free;
	OSSL_FUNC_keymgmt_import_fn *import;
	OSSL_FUNC_keymgmt_gen_init_fn *gen_init;
	OSSL_FUNC_keymgmt_gen_set_params_fn *gen_set_params;
	OSSL_FUNC_keymgmt_gen_fn *gen;
	OSSL_FUNC_keymgmt_gen_cleanup_fn *gen_cleanup;
	OSSL_FUNC_keyexch_newctx_fn *newctx;
	OSSL_FUNC_keyexch_freectx_fn *freectx;
	OSSL_FUNC_keyexch_init_fn *init;
	OSSL_FUNC_keyexch_set_peer_fn *set_peer;
	OSSL_FUNC_keyexch_derive_fn *derive;
} its;

static OSSL_DISPATCH functions[FUNCTIONS_MAX + 1];
static void *provider, *base; /* OpenSSL's context, and the base point as a peer's key */
static OSSL_LIB_CTX *random_library;

struct scalar {
	unsigned char bytes[LENGTH];
};

static void wipe_scalar(struct scalar *scalar)
{
	OPENSSL_cleanse(scalar, sizeof(*scalar));
}

#define __cleanup_scalar __attribute__((cleanup(wipe_scalar)))

/* private NULL: of a peer. */
static void *import_key(struct scalar *private, unsigned char *public)
{
	OSSL_PARAM params[3], *p = params;
	void *key = its.new(provider);
	bool good;

	*p++ = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, public, LENGTH);
	if (private)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, private->bytes,
							 LENGTH);
	*p = OSSL_PARAM_construct_end();
	/* What is imported would be in ordinary memory; what OpenSSL makes is not. */
	kmtls_key_memory_all_secret(private);
	good = key &&
	       its.import(key,
			  private ? OSSL_KEYMGMT_SELECT_KEYPAIR : OSSL_KEYMGMT_SELECT_PUBLIC_KEY,
			  params) == 1;
	kmtls_key_memory_all_secret(false);
	if (good)
		return key;
	its.free(key);
	return NULL;
}

/* The multiplication. key: its public part is not looked at. */
static bool multiply_base(void *key, unsigned char *ret_public)
{
	void *ctx = its.newctx(provider);
	size_t length = 0;
	bool good = ctx && its.init(ctx, key, NULL) == 1 && its.set_peer(ctx, base) == 1 &&
		    its.derive(ctx, ret_public, &length, LENGTH) == 1 && length == LENGTH;

	if (ctx)
		its.freectx(ctx);
	return good;
}

static void *make_key(void)
{
	struct scalar private __cleanup_scalar;
	unsigned char public[LENGTH];
	void *half, *key = NULL;

	if (RAND_priv_bytes_ex(random_library, private.bytes, LENGTH, 0) != 1)
		return NULL;
	private.bytes[0] &= 248; /* RFC 7748, section 5 */
	private.bytes[LENGTH - 1] &= 127;
	private.bytes[LENGTH - 1] |= 64;
	/* With the base point in its place, or the public key would be made in the other way. */
	half = import_key(&private, base_point);
	if (half && multiply_base(half, public))
		key = import_key(&private, public);
	its.free(half);
	return key;
}

/* ---- what OpenSSL asks ---- */

struct generation {
	void *its; /* OpenSSL's own, which does the rest */
	bool ours;
};

static int set_params(void *generation_, const OSSL_PARAM *params)
{
	struct generation *generation = generation_;

	if (params && OSSL_PARAM_locate_const(params, IKM))
		generation->ours = false;
	return its.gen_set_params(generation->its, params);
}

static void *init(void *context, int selection, const OSSL_PARAM *params)
{
	struct generation *generation = calloc(1, sizeof(*generation));

	if (!generation)
		return NULL;
	generation->ours = selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY &&
			   !(params && OSSL_PARAM_locate_const(params, IKM));
	generation->its = its.gen_init(context, selection, params);
	if (generation->its)
		return generation;
	free(generation);
	return NULL;
}

static void *generate(void *generation_, OSSL_CALLBACK *callback, void *arg)
{
	struct generation *generation = generation_;

	void *key = generation->ours ? make_key() : its.gen(generation->its, callback, arg);

	return key;
}

static void clean_up(void *generation_)
{
	struct generation *generation = generation_;

	if (!generation)
		return;
	its.gen_cleanup(generation->its);
	free(generation);
}

/* ---- which functions ---- */

static void (*find(const OSSL_DISPATCH *table, int id))(void)
{
	for (; table->function_id; table++)
		if (table->function_id == id)
			return table->function;
	return NULL;
}

#define FIND(table, kind, name, id) \
	(its.name = (OSSL_FUNC_##kind##_##name##_fn *)find(table, OSSL_FUNC_##id))

static bool find_its(const OSSL_DISPATCH *keymgmt, const OSSL_DISPATCH *keyexch)
{
	return FIND(keymgmt, keymgmt, new, KEYMGMT_NEW) &&
	       FIND(keymgmt, keymgmt, free, KEYMGMT_FREE) &&
	       FIND(keymgmt, keymgmt, import, KEYMGMT_IMPORT) &&
	       FIND(keymgmt, keymgmt, gen_init, KEYMGMT_GEN_INIT) &&
	       FIND(keymgmt, keymgmt, gen_set_params, KEYMGMT_GEN_SET_PARAMS) &&
	       FIND(keymgmt, keymgmt, gen, KEYMGMT_GEN) &&
	       FIND(keymgmt, keymgmt, gen_cleanup, KEYMGMT_GEN_CLEANUP) &&
	       FIND(keyexch, keyexch, newctx, KEYEXCH_NEWCTX) &&
	       FIND(keyexch, keyexch, freectx, KEYEXCH_FREECTX) &&
	       FIND(keyexch, keyexch, init, KEYEXCH_INIT) &&
	       FIND(keyexch, keyexch, set_peer, KEYEXCH_SET_PEER) &&
	       FIND(keyexch, keyexch, derive, KEYEXCH_DERIVE);
}

/* A key of a provider may be made from a template, too, which would get what is ours: X25519 has none. */
static bool replace_functions(const OSSL_DISPATCH *keymgmt)
{
	unsigned count = 0;

	for (; keymgmt->function_id && count < FUNCTIONS_MAX; keymgmt++) {
		OSSL_DISPATCH *function = &functions[count++];

		*function = *keymgmt;
		switch (keymgmt->function_id) {
		case OSSL_FUNC_KEYMGMT_GEN_INIT:
			function->function = (void (*)(void))init;
			break;
		case OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS:
			function->function = (void (*)(void))set_params;
			break;
		case OSSL_FUNC_KEYMGMT_GEN:
			function->function = (void (*)(void))generate;
			break;
		case OSSL_FUNC_KEYMGMT_GEN_CLEANUP:
			function->function = (void (*)(void))clean_up;
			break;
		case OSSL_FUNC_KEYMGMT_GEN_SET_TEMPLATE:
			return false;
		}
	}
	return !keymgmt->function_id;
}

void kmtls_x25519_keys_close(void)
{
	if (base)
		its.free(base);
	base = NULL;
}

const OSSL_DISPATCH *kmtls_x25519_keys_open(const OSSL_DISPATCH *keymgmt,
					    const OSSL_DISPATCH *keyexch, void *context,
					    OSSL_LIB_CTX *library)
{
	void *key;

	if (!find_its(keymgmt, keyexch) || !replace_functions(keymgmt))
		return NULL;
	provider = context;
	random_library = library;
	base = import_key(NULL, base_point);
	/* Another OpenSSL may not take a key in two steps. */
	key = base ? make_key() : NULL;
	if (!key) {
		kmtls_x25519_keys_close();
		return NULL;
	}
	its.free(key);
	return functions;
}
