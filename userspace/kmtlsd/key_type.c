/* SPDX-License-Identifier: Apache-2.0 */
/* key_type.c - see key_type.h. */
#include "key_type.h"
#include "key_memory.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <string.h>

static const struct {
	const char *name;
	const char *curve; /* NULL: RSA */
	unsigned bits;
} types[KMTLS_KEY_TYPE_END] = {
	[KMTLS_KEY_EC_P256] = { "ec-p256", "P-256", 0 },
	[KMTLS_KEY_EC_P384] = { "ec-p384", "P-384", 0 },
	[KMTLS_KEY_RSA_2048] = { "rsa-2048", NULL, 2048 },
	[KMTLS_KEY_RSA_3072] = { "rsa-3072", NULL, 3072 },
	[KMTLS_KEY_RSA_4096] = { "rsa-4096", NULL, 4096 },
};

const char *kmtls_key_type_name(enum kmtls_key_type type)
{
	return (unsigned)type < KMTLS_KEY_TYPE_END ? types[type].name : NULL;
}

int kmtls_key_type_parse(const char *text, enum kmtls_key_type *ret_type)
{
	for (unsigned type = KMTLS_KEY_EC_P256; type < KMTLS_KEY_TYPE_END; type++) {
		if (strcmp(text, types[type].name) != 0)
			continue;
		*ret_type = (enum kmtls_key_type)type;
		return 0;
	}
	return -EINVAL;
}

EVP_PKEY *kmtls_key_type_generate(enum kmtls_key_type type)
{
	EVP_PKEY *key = NULL;

	if (!kmtls_key_type_name(type))
		return NULL;
	key = types[type].curve ? EVP_EC_gen(types[type].curve) : EVP_RSA_gen(types[type].bits);
	if (!key)
		ERR_clear_error();
	return kmtls_key_memory_settle(key);
}
