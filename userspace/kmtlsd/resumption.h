/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resumption.h - a handshake between the same two pods as a while ago need not show certificates
 * again. TLS 1.3, RFC 8446 section 2.2, as external PSK with (EC)DHE: identity and key are taken
 * from the full handshake by the exporter (section 7.5), on both sides, so that nothing is sent for
 * it and no ticket has to be kept. What is remembered lives in this worker only.
 *
 * A PSK stands for all that the full handshake has shown. It is bound to both SVIDs (each side's
 * own by the object, so its trust bundles, too; the peer's by what was verified), to the state of
 * policy and revocation, and ends with either SVID or after the time configured, whatever comes
 * first. Whatever does not hold any more: a full handshake. Authorization, and whether the peer is
 * the one that is promised at its address, are asked every time.
 *
 * Where the party is `symmetric`, a second key and identity are taken for handshakes without
 * (EC)DHE (psk_handshake.h), under the same conditions.
 */
#ifndef KMTLS_RESUMPTION_H
#define KMTLS_RESUMPTION_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <time.h>

#include "kmtls/abi.h"
#include "psk_schedule.h"
#include "verify.h"

/* Full handshakes remembered per role; beyond that the one used longest ago is forgotten. */
#define KMTLS_RESUMPTION_ROOM 4096
/* Bytes of the identity that is offered without (EC)DHE. With it, the same ones and as many more: so
 * no identity stands for two keys. */
#define KMTLS_RESUMPTION_SYMMETRIC_IDENTITY 16

struct kmtls_resumption; /* both roles; its calls may come from any thread */
struct kmtls_resumption_entry;

/* One handshake's part in it; lives as long as its SSL. */
struct kmtls_resumption_party {
	struct kmtls_resumption *resumption;
	__u64 svid; /* number of the own one (svid.h) */
	time_t not_after; /* its end */
	__u64 policy; /* generation of the policy, when the handshake begins */
	__u64 revocations; /* likewise: what is revoked while it goes on counts for those that resume it */
	unsigned seconds; /* how long a full handshake counts; 0: none of this */
	bool symmetric; /* also without (EC)DHE */
	struct kmtls_address peer; /* client: where it connects to */
	/* As for a full handshake: the promised ID is taken from it, what was verified goes into it. */
	struct kmtls_verify *verify;
	struct kmtls_resumption_entry *entry; /* offered, or found; the party's reference */
};

/* -ENOMEM. */
int kmtls_resumption_open(struct kmtls_resumption **ret_resumption);
void kmtls_resumption_close(struct kmtls_resumption *resumption); /* wipes all; NULL is fine */
/* Everything remembered so far is void. */
void kmtls_resumption_clear(struct kmtls_resumption *resumption);

/* Before the handshake: it may resume another. -ENOMEM. */
int kmtls_resumption_attach(SSL *ssl, struct kmtls_resumption_party *party);
/*
 * The handshake is done. true: verify holds what the one that it resumes has verified, or it
 * resumes none. false: OpenSSL has resumed what we did not find: end it.
 */
bool kmtls_resumption_adopt(SSL *ssl, struct kmtls_resumption_party *party);
/* Both sides have accepted each other: a full one is remembered for others to come. */
void kmtls_resumption_remember(SSL *ssl, struct kmtls_resumption_party *party);
/* Ends the party's part. failed: with the handshake; what it was about is not offered again. */
void kmtls_resumption_leave(struct kmtls_resumption_party *party, bool failed);

/* ---- without (EC)DHE: no SSL takes part ---- */

/* Client: the keys to offer and their identity, borrowed until the party leaves; NULL: none, or the
 * server has refused them before. */
const struct kmtls_psk_keys *kmtls_resumption_offer_symmetric(struct kmtls_resumption_party *party,
							      const unsigned char **ret_identity);
/* Server: the keys of what a client offers, likewise; NULL: not known, or not any more. */
const struct kmtls_psk_keys *kmtls_resumption_find_symmetric(struct kmtls_resumption_party *party,
							     const unsigned char *identity,
							     size_t length);
/* Client: the server has refused; they are not offered again. */
void kmtls_resumption_refuse_symmetric(struct kmtls_resumption_party *party);
/* The handshake is done: verify holds what the one before has verified. */
void kmtls_resumption_adopt_symmetric(struct kmtls_resumption_party *party);

/* For SSL_CTX_set_psk_use_session_callback() and SSL_CTX_set_psk_find_session_callback(). */
int kmtls_resumption_offer(SSL *ssl, const EVP_MD *digest, const unsigned char **ret_identity,
			   size_t *ret_length, SSL_SESSION **ret_session);
int kmtls_resumption_find(SSL *ssl, const unsigned char *identity, size_t length,
			  SSL_SESSION **ret_session);

#endif
