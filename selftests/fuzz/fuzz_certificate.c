/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_certificate.c - the rules for a peer's leaf certificate: any bytes as DER. Whoever is
 * accepted has a SPIFFE ID with a path, in either role, and OpenSSL's queue of errors stays empty.
 */
#include <openssl/err.h>
#include <string.h>

#include "fuzz.h"
#include "spiffe.h"
#include "verify.h"

static void check_leaf(X509 *leaf, enum kmtls_role role)
{
	char text[KMTLS_SPIFFE_ID_MAX + 1] = "";
	enum kmtls_reason reason = kmtls_verify_leaf(leaf, role, text);
	struct kmtls_spiffe_id id;
	const char *rule;

	HOLDS(memchr(text, '\0', sizeof(text)));
	if (reason)
		HOLDS(reason >= KMTLS_REASON_SVID_EXPIRED && reason <= KMTLS_REASON_SVID_WEAK_KEY);
	if (!reason || *text)
		HOLDS(!kmtls_spiffe_id_parse(text, strlen(text), &id, &rule) && id.path_length);
	if (!reason)
		HOLDS(kmtls_verify_key(X509_get0_pubkey(leaf)));
	HOLDS(!ERR_peek_error());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	X509 *leaf = d2i_X509(NULL, &data, (long)size);
	time_t time;

	ERR_clear_error();
	if (!leaf)
		return 0;
	check_leaf(leaf, KMTLS_ROLE_CLIENT);
	check_leaf(leaf, KMTLS_ROLE_SERVER);
	kmtls_verify_time(X509_get0_notBefore(leaf), &time);
	kmtls_verify_time(X509_get0_notAfter(leaf), &time);
	ERR_clear_error();
	X509_free(leaf);
	return 0;
}
