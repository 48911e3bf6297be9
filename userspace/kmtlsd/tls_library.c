/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_library.c - see tls_library.h. Of its own the provider has a derivation and the making of
 * keys, and where it says who it is, random numbers; for the rest it asks that of OpenSSL.
 */
#include "tls_library.h"

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "tls13_kdf.h"
#include "x25519_keys.h"

#define NAME "kmtls-handshake"
#define DRBG_FUNCTIONS_MAX 24 /* OpenSSL has 18 */
#define DRBG_PARAMS_MAX 16 /* and 9 */

static OSSL_PROVIDER *behind, *before; /* in inner, in outer */
static OSSL_LIB_CTX *inner, *outer, *library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/*
 * Where the default provider has many, those that a TLS 1.3 handshake of ours may need: it counts how
 * many there are each time that a certificate is read. What is not among them is a kind of key that
 * X.509 can carry and TLS 1.3 has no signature for, or a cipher, hash or derivation it does not
 * have.
 */
static const struct {
	int operation;
	const char *names[12]; /* the first by which OpenSSL knows it */
} wanted[] = {
	{ OSSL_OP_DECODER, {} },
	{ OSSL_OP_KEYMGMT,
	  { "EC", "RSA", "RSA-PSS", "ED25519", "ED448", "X25519", "HMAC", "HKDF", "TLS1-PRF" } },
	{ OSSL_OP_CIPHER,
	  { "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305", "AES-256-CBC", "AES-256-CTR" } },
	{ OSSL_OP_DIGEST,
	  { "SHA1", "SHA2-224", "SHA2-256", "SHA2-384", "SHA2-512", "MD5", "MD5-SHA1" } },
	{ OSSL_OP_MAC, { "HMAC" } },
	{ OSSL_OP_KDF, { "HKDF", "TLS13-KDF", "TLS1-PRF" } },
	{ OSSL_OP_RAND, { "CTR-DRBG", "SEED-SRC" } },
};
#define WANTED (sizeof(wanted) / sizeof(wanted[0]))
#define NAMES (sizeof(wanted[0].names) / sizeof(wanted[0].names[0]))

static OSSL_ALGORITHM chosen[WANTED][NAMES + 1];

static bool is_wanted(unsigned row, const char *names)
{
	size_t length = strcspn(names, ":");

	for (unsigned i = 0; i < NAMES && wanted[row].names[i]; i++)
		if (strlen(wanted[row].names[i]) == length &&
		    !strncasecmp(wanted[row].names[i], names, length))
			return true;
	return false;
}

static void choose(unsigned row)
{
	int unused = 0;
	const OSSL_ALGORITHM *algorithm =
		OSSL_PROVIDER_query_operation(behind, wanted[row].operation, &unused);
	unsigned count = 0;

	for (; algorithm && algorithm->algorithm_names && count < NAMES; algorithm++)
		if (is_wanted(row, algorithm->algorithm_names))
			chosen[row][count++] = *algorithm;
}

static bool is_named(const OSSL_ALGORITHM *algorithm, const char *name)
{
	size_t length = strlen(name);

	return !strncasecmp(algorithm->algorithm_names, name, length) &&
	       strchr(":", algorithm->algorithm_names[length]);
}

/* The one of this name among those of an operation that were chosen, or NULL. */
static OSSL_ALGORITHM *find_chosen(int operation, const char *name)
{
	OSSL_ALGORITHM *algorithm;
	unsigned row = 0;

	while (wanted[row].operation != operation)
		row++;
	for (algorithm = chosen[row]; algorithm->algorithm_names; algorithm++)
		if (is_named(algorithm, name))
			return algorithm;
	return NULL;
}

static const OSSL_DISPATCH *find_x25519_exchange(void)
{
	int unused = 0;
	const OSSL_ALGORITHM *algorithm =
		OSSL_PROVIDER_query_operation(behind, OSSL_OP_KEYEXCH, &unused);

	for (; algorithm && algorithm->algorithm_names; algorithm++)
		if (is_named(algorithm, "X25519"))
			return algorithm->implementation;
	return NULL;
}

/* It costs more without. */
static void replace_x25519(void)
{
	OSSL_ALGORITHM *keys = find_chosen(OSSL_OP_KEYMGMT, "X25519");
	const OSSL_DISPATCH *exchange = find_x25519_exchange(), *ours;

	if (!keys || !exchange)
		return;
	ours = kmtls_x25519_keys_open(keys->implementation, exchange,
				      OSSL_PROVIDER_get0_provider_ctx(behind), inner);
	if (ours)
		keys->implementation = ours;
}

/* ---- random numbers ---- */

static OSSL_FUNC_rand_instantiate_fn *instantiate_its;

/*
 * OpenSSL 3.5 tells a generator the provider that it is of, which is to have its cipher, too: it would
 * look for us where only the default provider is.
 */
static int instantiate(void *drbg, unsigned strength, int resistance, const unsigned char *personal,
		       size_t length, const OSSL_PARAM *params)
{
	OSSL_PARAM kept[DRBG_PARAMS_MAX + 1];
	unsigned count = 0;

	for (; params && params->key; params++) {
		if (!strcmp(params->key, OSSL_PROV_PARAM_CORE_PROV_NAME))
			continue;
		if (count == DRBG_PARAMS_MAX)
			return 0;
		kept[count++] = *params;
	}
	kept[count] = OSSL_PARAM_construct_end();
	return instantiate_its(drbg, strength, resistance, personal, length, kept);
}

static bool replace_instantiate(void)
{
	static OSSL_DISPATCH functions[DRBG_FUNCTIONS_MAX + 1];
	OSSL_ALGORITHM *drbg = find_chosen(OSSL_OP_RAND, "CTR-DRBG");
	const OSSL_DISPATCH *of_openssl = drbg ? drbg->implementation : NULL;

	if (!drbg)
		return false;
	for (unsigned i = 0; of_openssl[i].function_id; i++) {
		if (i == DRBG_FUNCTIONS_MAX)
			return false;
		functions[i] = of_openssl[i];
		if (functions[i].function_id == OSSL_FUNC_RAND_INSTANTIATE) {
			instantiate_its = (OSSL_FUNC_rand_instantiate_fn *)functions[i].function;
			functions[i].function = (void (*)(void))instantiate;
		}
	}
	drbg->implementation = functions;
	return instantiate_its;
}

/* false: it must not be used, the secrets would be told by nobody (tls.c). */
static bool choose_all(void)
{
	OSSL_ALGORITHM *kdf;

	for (unsigned i = 0; i < WANTED; i++)
		choose(i);
	kdf = find_chosen(OSSL_OP_KDF, OSSL_KDF_NAME_TLS1_3_KDF);
	if (!kdf || !kmtls_tls13_kdf_works() || !replace_instantiate())
		return false;
	kdf->implementation = kmtls_tls13_kdf_functions;
	replace_x25519();
	return true;
}

static const OSSL_ALGORITHM *query(void *unused, int operation, int *ret_do_not_store)
{
	*ret_do_not_store = 0;
	for (unsigned i = 0; i < WANTED; i++)
		if (wanted[i].operation == operation)
			return chosen[i];
	return OSSL_PROVIDER_query_operation(behind, operation, ret_do_not_store);
}

static int get_capabilities(void *unused, const char *capability, OSSL_CALLBACK *callback,
			    void *arg)
{
	return OSSL_PROVIDER_get_capabilities(behind, capability, callback, arg);
}

static int init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core,
		const OSSL_DISPATCH **ret_functions, void **ret_context)
{
	static const OSSL_DISPATCH functions[] = {
		{ OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query },
		{ OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))get_capabilities },
		{ 0, NULL },
	};

	*ret_functions = functions;
	/* The algorithms are that one's, so they must be given what is its own. */
	*ret_context = OSSL_PROVIDER_get0_provider_ctx(behind);
	return 1;
}

static int count_others(OSSL_PROVIDER *provider, void *others)
{
	if (strcmp(OSSL_PROVIDER_get0_name(provider), "default") != 0)
		++*(unsigned *)others;
	return 1;
}

static bool is_default_alone(void)
{
	unsigned others = 0;

	return OSSL_PROVIDER_do_all(NULL, count_others, &others) == 1 && !others &&
	       !EVP_default_properties_is_fips_enabled(NULL);
}

/* OpenSSL's own goes at the same time. */
static void free_both(void)
{
	if (before)
		OSSL_PROVIDER_unload(before);
	OSSL_LIB_CTX_free(outer);
	kmtls_x25519_keys_close();
	if (behind)
		OSSL_PROVIDER_unload(behind);
	OSSL_LIB_CTX_free(inner);
}

static void make(void)
{
	if (!is_default_alone())
		return;
	inner = OSSL_LIB_CTX_new();
	outer = OSSL_LIB_CTX_new();
	if (inner && outer)
		behind = OSSL_PROVIDER_load(inner, "default");
	if (behind && choose_all() && OSSL_PROVIDER_add_builtin(outer, NAME, init) == 1)
		before = OSSL_PROVIDER_load(outer, NAME);
	if (before && OPENSSL_atexit(free_both) == 1) {
		library = outer;
		return;
	}
	/* It costs more without, that is all. */
	free_both();
	ERR_clear_error();
}

OSSL_LIB_CTX *kmtls_tls_library(void)
{
	pthread_once(&once, make);
	return library;
}
