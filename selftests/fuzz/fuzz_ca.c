/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ca.c - a provided CA: any bytes as PEM of chain, key and bundle, with a zero byte between
 * two. Whatever is accepted can sign; whatever is refused has a sentence; OpenSSL's queue of errors
 * stays empty.
 */
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "ca_check.h"
#include "fuzz.h"
#include "identity.h"
#include "pem_file.h"

struct texts {
	char *chain, *key, *bundle; /* NULL: not there */
};

/* In place; bytes has a zero at its end. */
static struct texts split(char *bytes, size_t size)
{
	struct texts texts = { .chain = bytes };
	char *end = bytes + size;

	if (bytes + strlen(bytes) < end)
		texts.key = bytes + strlen(bytes) + 1;
	if (texts.key && texts.key + strlen(texts.key) < end)
		texts.bundle = texts.key + strlen(texts.key) + 1;
	return texts;
}

static int load(const struct texts *texts, struct kmtls_ca *ca, char *ret_why)
{
	const struct kmtls_pem_source chain = { .name = "cert", .text = texts->chain };
	const struct kmtls_pem_source key = { .name = "key", .text = texts->key };
	const struct kmtls_pem_source bundle = { .name = "bundle", .text = texts->bundle };
	int err = kmtls_pem_certificates(&chain, &ca->chain, ret_why);

	if (!err && texts->key)
		err = kmtls_pem_key(&key, &ca->key, ret_why);
	if (!err && texts->bundle)
		err = kmtls_pem_certificates(&bundle, &ca->roots, ret_why);
	return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct kmtls_ca_check check = {
		.chain_name = "cert",
		.key_name = "key",
		.bundle_name = "bundle",
		.trust_domain = "example.org",
	};
	char *bytes = calloc(1, size + 1), why[KMTLS_IDENTITY_WHY] = "";
	struct kmtls_ca ca = {};
	struct texts texts;
	int err;

	HOLDS(bytes);
	memcpy(bytes, data, size);
	texts = split(bytes, size);
	err = load(&texts, &ca, why);
	if (!err && ca.key)
		err = kmtls_ca_check(&check, &ca, why);
	if (err)
		HOLDS(err < 0 && *why && memchr(why, '\0', sizeof(why)));
	else
		HOLDS(kmtls_ca_certificate(&ca));
	if (!err && ca.key)
		HOLDS(sk_X509_num(ca.roots) >= 1);
	HOLDS(!ERR_peek_error());
	kmtls_ca_clear(&ca);
	free(bytes);
	return 0;
}
