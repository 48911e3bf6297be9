/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_chain.c - a peer's chain: certificates in DER, one after the other, the leaf first; the last one is
 * the root that is trusted, and not sent. Whoever is accepted has an end and a name for CRLs, at every
 * certificate below the root; whoever is refused has a reason of verification; OpenSSL's queue of
 * errors is left as empty as a handshake leaves it.
 */
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "reason.h"
#include "spiffe.h"
#include "verify_parts.h"

static STACK_OF(X509) * parse(const uint8_t *bytes, size_t size)
{
	STACK_OF(X509) *all = sk_X509_new_null();
	const uint8_t *end = bytes + size;

	HOLDS(all);
	while (bytes < end) {
		X509 *certificate = d2i_X509(NULL, &bytes, end - bytes);

		if (!certificate)
			break;
		HOLDS(sk_X509_push(all, certificate) > 0);
	}
	ERR_clear_error();
	return all;
}

static void check_accepted(X509_STORE_CTX *store, const struct kmtls_verify *verify)
{
	int count = sk_X509_num(X509_STORE_CTX_get0_chain(store));

	HOLDS(count >= 2 && count <= 2 + KMTLS_TLS_INTERMEDIATES_MAX);
	HOLDS(verify->peer_not_after > 0 && verify->peer_certificate);
	for (int i = 0; i < KMTLS_TLS_INTERMEDIATES_MAX; i++)
		HOLDS(!verify->peer_issuers[i] == (i >= count - 2));
}

static void check(STACK_OF(X509) * sent, STACK_OF(X509) * roots, enum kmtls_role role)
{
	X509_STORE *none = X509_STORE_new();
	X509_STORE_CTX *store = X509_STORE_CTX_new();
	struct kmtls_verify verify = { .reason = KMTLS_REASON_NONE };
	enum kmtls_reason reason, of_leaf;

	HOLDS(none && store && X509_STORE_CTX_init(store, none, sk_X509_value(sent, 0), sent) == 1);
	X509_STORE_CTX_set_default(store, role == KMTLS_ROLE_CLIENT ? "ssl_client" : "ssl_server");
	reason = kmtls_verify_presented(store, &verify);
	if (!reason) {
		of_leaf = kmtls_verify_leaf(sk_X509_value(sent, 0), role, verify.peer_id);
		if (*verify.peer_id)
			reason = kmtls_verify_chain(store, roots, &verify, of_leaf);
		if (!reason && *verify.peer_id && !of_leaf)
			check_accepted(store, &verify);
	}
	HOLDS(!reason || *kmtls_reason_name(reason));
	HOLDS(memchr(verify.detail, '\0', sizeof(verify.detail)));
	ERR_clear_error(); /* as the end of a handshake does */
	X509_STORE_CTX_free(store);
	X509_STORE_free(none);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	STACK_OF(X509) *sent = parse(data, size), *roots = sk_X509_new_null();
	int count = sk_X509_num(sent);

	HOLDS(roots);
	if (count >= 2) {
		HOLDS(sk_X509_push(roots, sk_X509_pop(sent)) > 0);
		check(sent, roots, KMTLS_ROLE_CLIENT);
		check(sent, roots, KMTLS_ROLE_SERVER);
	}
	sk_X509_pop_free(roots, X509_free);
	sk_X509_pop_free(sent, X509_free);
	return 0;
}
