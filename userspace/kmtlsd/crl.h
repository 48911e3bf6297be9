/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crl.h - the CRL files of the configuration (identity.crl_files). Looked at twice a second; a file
 * that has changed is read anew. What it revokes is refused from then on, and flows of it are reset
 * (review.h).
 *
 * A file that cannot be taken changes nothing: what was taken from it before stays in use, also
 * in the next worker (a copy is kept in run_dir). So revoked certificates do not come back because
 * a file is damaged, or late.
 */
#ifndef KMTLS_CRL_H
#define KMTLS_CRL_H

#include <openssl/x509.h>
#include <time.h>

struct kmtls_daemon;

/* In one thread. */
void kmtls_crl_tick(struct kmtls_daemon *daemon);
/* How many of the files are not in use as they are; for `kmtls check`. */
unsigned kmtls_crl_rejected(void);

/* ---- for tests ---- */

/* DER of one, or PEM of one or more. NULL: is neither. */
STACK_OF(X509_CRL) * kmtls_crl_parse(const unsigned char *bytes, size_t length);
/* NULL, or what is wrong with it (a constant). ca is the certificate whose name is its issuer's. */
const char *kmtls_crl_rule(X509_CRL *crl, X509 *ca, time_t now);
/* Has it expired? */
int kmtls_crl_is_expired(const X509_CRL *crl, time_t now);

#endif
