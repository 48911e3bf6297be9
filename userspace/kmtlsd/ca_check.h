/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca_check.h - may this CA, given by somebody, issue SVIDs that peers accept? Every rule of RFC
 * 5280 and the X.509-SVID standard that a chain of CAs can break, each with its own sentence.
 */
#ifndef KMTLS_CA_CHECK_H
#define KMTLS_CA_CHECK_H

#include "ca.h"

struct kmtls_ca_check {
	/* What sentences call them. */
	const char *chain_name, *key_name, *bundle_name;
	const char *trust_domain;
	/* For what ought not to be and does no harm, a sentence at a time; NULL: nobody asks. */
	void (*warn)(const char *sentence);
};

/*
 * ca->chain as it was in the file, nearest CA first; a root at its end is taken away. ca->roots may
 * be empty: then the chain must be one self-signed certificate, which is put there. -EINVAL and
 * "FILE: SUBJECT: RULE" in ret_why (256 bytes); -ENOMEM.
 */
int kmtls_ca_check(const struct kmtls_ca_check *check, struct kmtls_ca *ca, char *ret_why);

/* The rule that a CA breaks, by itself and at any time; NULL: none. */
const char *kmtls_ca_check_rule(X509 *certificate, const char *trust_domain);
/* What sentences call a certificate; buffer has KMTLS_CA_SUBJECT bytes. */
#define KMTLS_CA_SUBJECT 64
const char *kmtls_ca_check_subject(X509 *certificate, char *buffer);
/* Why a chain is not good, by OpenSSL's number. */
const char *kmtls_ca_check_error(int error);

#endif
