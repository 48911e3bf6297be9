/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_crl.c - CRL files: any bytes, as DER or as PEM. What nobody has signed is never taken, and
 * OpenSSL's queue of errors stays empty.
 */
#include <openssl/err.h>
#include <string.h>
#include <time.h>

#include "certificate.h"
#include "crl.h"
#include "fuzz.h"
#include "revocation.h"

static X509 *make_ca(void)
{
	X509 *root = NULL;
	EVP_PKEY *key = NULL;

	HOLDS(kmtls_certificate_new_root("example.org", KMTLS_KEY_EC_P256, time(NULL), 3600, &root,
					 &key) == 0);
	EVP_PKEY_free(key); /* nobody signs with it any more */
	return root;
}

static void look_at(X509_CRL *crl, X509 *ca)
{
	STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(crl);

	HOLDS(kmtls_crl_rule(crl, ca, time(NULL)));
	kmtls_crl_is_expired(crl, time(NULL));
	for (int i = 0; i < sk_X509_REVOKED_num(revoked); i++)
		HOLDS(kmtls_revocation_hash(
			ca, X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(revoked, i))));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static X509 *ca;
	STACK_OF(X509_CRL) * crls;

	if (!ca)
		ca = make_ca();
	crls = kmtls_crl_parse(data, size);
	HOLDS(!crls || sk_X509_CRL_num(crls) > 0);
	for (int i = 0; crls && i < sk_X509_CRL_num(crls); i++)
		look_at(sk_X509_CRL_value(crls, i), ca);
	sk_X509_CRL_pop_free(crls, X509_CRL_free);
	ERR_clear_error();
	return 0;
}
