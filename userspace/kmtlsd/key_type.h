/* SPDX-License-Identifier: Apache-2.0 */
/* key_type.h - the kinds of key that roots and SVIDs may have, by the names that users write. */
#ifndef KMTLS_KEY_TYPE_H
#define KMTLS_KEY_TYPE_H

#include <openssl/types.h>

enum kmtls_key_type {
	KMTLS_KEY_EC_P256 = 1,
	KMTLS_KEY_EC_P384,
	KMTLS_KEY_RSA_2048,
	KMTLS_KEY_RSA_3072,
	KMTLS_KEY_RSA_4096,
	KMTLS_KEY_TYPE_END
};

/* "ec-p256"; NULL for a number that is none. */
const char *kmtls_key_type_name(enum kmtls_key_type type);
/* -EINVAL. */
int kmtls_key_type_parse(const char *text, enum kmtls_key_type *ret_type);
/* A new key; NULL: OpenSSL could not, its errors are drained. The keeper never asks for one. */
EVP_PKEY *kmtls_key_type_generate(enum kmtls_key_type type);

#endif
