/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_files_set.c - SVID, key and bundle as a files backend finds them: any bytes as PEM of the three, with
 * a zero byte between two. What is accepted can be used for handshakes: its key is the leaf's, its chain
 * ends in the bundle, its ID is of the trust domain. What is refused has a sentence; OpenSSL's queue of
 * errors stays empty.
 */
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "files_set.h"
#include "fuzz.h"
#include "identity.h"
#include "pem_file.h"
#include "spiffe.h"
#include "svid.h"

static int load(const char *bytes, size_t size, struct kmtls_files_set *set, char *ret_why)
{
	const char *texts[KMTLS_FILES] = { "", "", "" }, *at = bytes;
	struct kmtls_pem_source source = { .name = "file" };
	int err;

	for (int i = 0; i < KMTLS_FILES && at <= bytes + size; i++) {
		texts[i] = at;
		at += strlen(at) + 1;
	}
	source.text = texts[0];
	err = kmtls_pem_certificates(&source, &set->chain, ret_why);
	source.text = texts[1];
	if (!err)
		err = kmtls_pem_key(&source, &set->key, ret_why);
	source.text = texts[2];
	return err ? err : kmtls_pem_certificates(&source, &set->roots, ret_why);
}

static void check_accepted(const struct kmtls_files_set *set)
{
	struct kmtls_svid *svid = NULL;
	struct kmtls_spiffe_id id;
	const char *rule = NULL;

	HOLDS(set->leaf && set->key && sk_X509_num(set->roots) > 0);
	HOLDS(!kmtls_spiffe_id_parse(set->id, strlen(set->id), &id, &rule) && id.path_length);
	HOLDS(!strncmp(set->id, "spiffe://example.org/", 21));
	HOLDS(X509_check_private_key(set->leaf, set->key) == 1);
	HOLDS(kmtls_svid_new(set->leaf, set->chain, set->key, set->roots, &svid, &rule) == 0);
	kmtls_svid_put(svid);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct kmtls_files_place place = {
		.directory = "/d",
		.names = { "svid.pem", "svid_key.pem", "bundle.pem" },
		.trust_domain = "example.org",
	};
	char *bytes = calloc(1, size + 1), why[KMTLS_IDENTITY_WHY] = "";
	struct kmtls_files_set set = {};
	int err;

	HOLDS(bytes);
	memcpy(bytes, data, size);
	err = load(bytes, size, &set, why);
	if (!err)
		err = kmtls_files_set_check(&place, &set, why);
	if (err)
		HOLDS(err < 0 && *why && memchr(why, '\0', sizeof(why)));
	else
		check_accepted(&set);
	HOLDS(!ERR_peek_error());
	kmtls_files_set_clear(&set);
	free(bytes);
	return 0;
}
