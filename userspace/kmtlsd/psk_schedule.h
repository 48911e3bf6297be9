/* SPDX-License-Identifier: Apache-2.0 */
/*
 * psk_schedule.h - the key schedule of a TLS 1.3 handshake that stands on a PSK alone (RFC 8446
 * section 7.1 with psk_ke: the (EC)DHE input is zero), SHA-256 and AES-128-GCM, and its records
 * (section 5.2). OpenSSL's primitives, fetched once per process; no libssl.
 */
#ifndef KMTLS_PSK_SCHEDULE_H
#define KMTLS_PSK_SCHEDULE_H

#include <openssl/types.h>

#include "hkdf.h"
#include "key_schedule.h"
#include "psk_wire.h"

/*
 * What of the schedule does not depend on the transcript: it is the same in every handshake of a PSK,
 * and derived once. The PSK itself is not needed any more.
 */
struct kmtls_psk_keys {
	struct kmtls_secret binder; /* finished_key of the external binder key */
	struct kmtls_secret handshake; /* Handshake Secret */
	struct kmtls_secret master; /* Master Secret */
};

void kmtls_psk_keys_wipe(struct kmtls_psk_keys *keys);
/* -EIO: OpenSSL. */
int kmtls_psk_keys_derive(const struct kmtls_secret *psk, struct kmtls_psk_keys *ret_keys);

/* The working memory of one handshake; all zero is none. */
struct kmtls_psk_crypto {
	struct kmtls_hkdf hkdf;
	EVP_CIPHER_CTX *cipher;
};

int kmtls_psk_crypto_open(struct kmtls_psk_crypto *crypto); /* -ENOMEM */
void kmtls_psk_crypto_close(struct kmtls_psk_crypto *crypto);

/* Messages, headers included, in the order of the wire. */
struct kmtls_psk_transcript {
	const unsigned char *bytes;
	size_t length;
};

/* Below: -EIO: OpenSSL. */

/* MAC of a Finished, or with keys->binder a binder (section 4.4.4, 4.2.11.2): HMAC(key, hash). */
int kmtls_psk_mac(struct kmtls_psk_crypto *crypto, const struct kmtls_secret *key,
		  const struct kmtls_psk_transcript *transcript,
		  unsigned char ret_mac[KMTLS_PSK_HASH]);
/* finished_key of a handshake traffic secret. */
int kmtls_psk_finished_key(struct kmtls_psk_crypto *crypto, const struct kmtls_secret *secret,
			   struct kmtls_secret *ret_key);
/* Derive-Secret(secret, "c " + label, transcript) and the same for "s ". */
int kmtls_psk_traffic_secrets(struct kmtls_psk_crypto *crypto, const struct kmtls_secret *secret,
			      const char *label, const struct kmtls_psk_transcript *transcript,
			      struct kmtls_traffic_secrets *ret_secrets);

#define KMTLS_PSK_TAG 16
/* What a record has beside its content: header, type, tag. */
#define KMTLS_PSK_OVERHEAD (KMTLS_PSK_RECORD_HEADER + 1 + KMTLS_PSK_TAG)

/* The first record under key: content, of at most KMTLS_PSK_MESSAGE_MAX bytes, and its type to
 * ret_record, which has room for them and KMTLS_PSK_OVERHEAD more. Its size. */
int kmtls_psk_seal(struct kmtls_psk_crypto *crypto, const struct kmtls_record_key *key, __u8 type,
		   const unsigned char *content, size_t length, unsigned char *ret_record);
/*
 * A record of size bytes with its header, the one with that sequence under key. Length of its content,
 * padding taken off; ret_content has room for size bytes. -EBADMSG: it is not.
 */
int kmtls_psk_open(struct kmtls_psk_crypto *crypto, const struct kmtls_record_key *key,
		   __u64 sequence, const unsigned char *record, size_t size, __u8 *ret_type,
		   unsigned char *ret_content);

#endif
