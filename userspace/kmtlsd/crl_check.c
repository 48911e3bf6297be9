/* SPDX-License-Identifier: Apache-2.0 */
/* crl_check.c - CRLs by themselves: what they are, and whether their CA has made them. */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "certificate.h"
#include "crl.h"
#include "verify.h"

static STACK_OF(X509_CRL) * parse_der(const unsigned char *bytes, size_t length)
{
	const unsigned char *at = bytes;
	X509_CRL *crl = d2i_X509_CRL(NULL, &at, (long)length);
	STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();

	if (crl && crls && at == bytes + length && sk_X509_CRL_push(crls, crl) > 0)
		return crls;
	X509_CRL_free(crl);
	sk_X509_CRL_free(crls);
	return NULL;
}

/* PEM has an end: what follows the last one is text, or it is damaged. */
static STACK_OF(X509_CRL) * parse_pem(const unsigned char *bytes, size_t length)
{
	BIO *bio = BIO_new_mem_buf(bytes, (int)length);
	STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
	X509_CRL *crl;

	while (bio && crls && (crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)))
		if (sk_X509_CRL_push(crls, crl) <= 0)
			X509_CRL_free(crl);
	if (!crls || sk_X509_CRL_num(crls) < 1 ||
	    ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
		sk_X509_CRL_pop_free(crls, X509_CRL_free);
		crls = NULL;
	}
	BIO_free(bio);
	return crls;
}

STACK_OF(X509_CRL) * kmtls_crl_parse(const unsigned char *bytes, size_t length)
{
	STACK_OF(X509_CRL) * crls;

	ERR_clear_error();
	/* DER begins with a SEQUENCE, which is the digit 0 in text. */
	crls = length && bytes[0] == 0x30 ? parse_der(bytes, length) : NULL;
	if (!crls && length)
		crls = parse_pem(bytes, length);
	ERR_clear_error();
	return crls;
}

int kmtls_crl_is_expired(const X509_CRL *crl, time_t now)
{
	const ASN1_TIME *next = X509_CRL_get0_nextUpdate(crl);
	time_t end;

	return next && (kmtls_verify_time(next, &end) < 0 || end <= now);
}

/* Delta CRLs and those that speak for other CAs say less, or other things, than they seem to. */
static const char *extensions_rule(X509_CRL *crl)
{
	ISSUING_DIST_POINT *point;
	const char *rule = NULL;
	int critical;

	if (X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0)
		return "a delta CRL";
	point = X509_CRL_get_ext_d2i(crl, NID_issuing_distribution_point, &critical, NULL);
	if (!point && critical != -1)
		rule = "its issuing distribution point cannot be read";
	else if (point && point->indirectCRL)
		rule = "an indirect CRL";
	ISSUING_DIST_POINT_free(point);
	for (int i = 0; !rule && i < X509_CRL_get_ext_count(crl); i++) {
		X509_EXTENSION *extension = X509_CRL_get_ext(crl, i);

		if (X509_EXTENSION_get_critical(extension) &&
		    OBJ_obj2nid(X509_EXTENSION_get_object(extension)) !=
			    NID_issuing_distribution_point)
			rule = "a critical extension not known here";
	}
	return rule;
}

const char *kmtls_crl_rule(X509_CRL *crl, X509 *ca, time_t now)
{
	const char *rule = extensions_rule(crl);
	time_t begin;

	if (!rule && !(X509_get_key_usage(ca) & KU_CRL_SIGN))
		rule = "its CA may not sign CRLs (key usage cRLSign)";
	/* EC P-256, P-384 and RSA of 2048 bits or more, as for peers. */
	if (!rule && !kmtls_verify_key(X509_get0_pubkey(ca)))
		rule = "its CA has a weak key";
	if (!rule && X509_CRL_verify(crl, X509_get0_pubkey(ca)) != 1)
		rule = "is not signed by the CA it names";
	if (!rule && (kmtls_verify_time(X509_CRL_get0_lastUpdate(crl), &begin) < 0 ||
		      begin > now + KMTLS_CERTIFICATE_SKEW))
		rule = "is not valid yet";
	ERR_clear_error();
	return rule;
}
