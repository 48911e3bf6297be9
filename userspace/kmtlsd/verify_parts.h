/* SPDX-License-Identifier: Apache-2.0 */
/* verify_parts.h - what verify.c and verify_chain.c share. */
#ifndef KMTLS_VERIFY_PARTS_H
#define KMTLS_VERIFY_PARTS_H

#include "verify.h"

/*
 * What can be said of the certificates a peer has sent before any signature among them is
 * verified: how many they are, how large, and what each must not be. Writes verify->detail.
 */
enum kmtls_reason kmtls_verify_presented(X509_STORE_CTX *store, struct kmtls_verify *verify);

/*
 * Chain up to one of roots (RFC 5280), and no CRL against it. leaf_reason is what is wrong with the
 * leaf by itself; id is its SPIFFE ID. Writes detail, peer_not_after and peer_certificate.
 */
enum kmtls_reason kmtls_verify_chain(X509_STORE_CTX *store, STACK_OF(X509) * roots,
				     struct kmtls_verify *verify, enum kmtls_reason leaf_reason);

#endif
