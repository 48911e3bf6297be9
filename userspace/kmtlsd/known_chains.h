/* SPDX-License-Identifier: Apache-2.0 */
/*
 * known_chains.h - chains of certificates that were verified a while ago: whoever presents the same
 * one again, byte by byte, need not wait for the same signatures to be verified once more. Nothing
 * in it is secret, and nothing of it proves who the peer is: for that it signs the handshake.
 *
 * A chain is known to whom the roots that vouch for the peer's trust domain are the same, for the
 * same purpose, while no CRL has changed and by the time of kmtls_clock_now() all of its
 * certificates, the root's included, are valid. Else it is verified as if it were new. The peer's
 * promised ID, authorization and whatever else policy says are no part of it: asked every time.
 */
#ifndef KMTLS_KNOWN_CHAINS_H
#define KMTLS_KNOWN_CHAINS_H

#include <openssl/x509.h>
#include <stdbool.h>

#include "kmtls/abi.h"
#include "trust.h"
#include "verify.h"

/* Chains, and bytes of their certificates. Beyond that the one used longest ago is forgotten. */
#define KMTLS_KNOWN_CHAINS_ROOM 1024
#define KMTLS_KNOWN_CHAINS_BYTES (1024 * 1024)

/* What was presented, and at which state of things it is verified. */
struct kmtls_known_chain_name {
	unsigned char digest[32];
	size_t bytes;
	enum kmtls_role role; /* of the certificate's owner */
	__u64 revocations;
};

/* false: there is no memory, or not a certificate. */
bool kmtls_known_chains_name(STACK_OF(X509) * presented, enum kmtls_role role,
			     struct kmtls_known_chain_name *ret_name);

/*
 * true: it is known. verify holds what it did when it was verified, and presented the certificates of
 * then: the same, but with keys that can be used at once.
 */
bool kmtls_known_chains_find(const struct kmtls_known_chain_name *name,
			     const struct kmtls_trust *trust, STACK_OF(X509) * presented,
			     struct kmtls_verify *verify);

/* presented has been verified with roots, for as long as given; verify says for whom. */
void kmtls_known_chains_remember(const struct kmtls_known_chain_name *name,
				 const struct kmtls_trust *trust, STACK_OF(X509) * presented,
				 const struct kmtls_verify *verify);

/* Those in this process so far: that were known, and that were not. */
void kmtls_known_chains_count(__u64 *ret_known, __u64 *ret_new);

/* Forgets all of them. */
void kmtls_known_chains_clear(void);

#endif
