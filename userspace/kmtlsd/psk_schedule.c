/* SPDX-License-Identifier: Apache-2.0 */
/* psk_schedule.c - see psk_schedule.h. */
#include "psk_schedule.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define IV 12
#define TLS13 "tls13 " /* what all labels begin with */

static EVP_CIPHER *aes128gcm;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Never freed, as in key_schedule.c. */
static void fetch_once(void)
{
	aes128gcm = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
}

void kmtls_psk_keys_wipe(struct kmtls_psk_keys *keys)
{
	OPENSSL_cleanse(keys, sizeof(*keys));
}

int kmtls_psk_crypto_open(struct kmtls_psk_crypto *crypto)
{
	pthread_once(&once, fetch_once);
	crypto->cipher = EVP_CIPHER_CTX_new();
	if (kmtls_hkdf_open(&crypto->hkdf, KMTLS_PSK_HASH) && aes128gcm && crypto->cipher)
		return 0;
	kmtls_psk_crypto_close(crypto);
	ERR_clear_error();
	return -ENOMEM;
}

void kmtls_psk_crypto_close(struct kmtls_psk_crypto *crypto)
{
	kmtls_hkdf_close(&crypto->hkdf);
	EVP_CIPHER_CTX_free(crypto->cipher); /* wipes what it has, too */
	*crypto = (struct kmtls_psk_crypto){};
}

static int failed(void)
{
	ERR_clear_error();
	return -EIO;
}

/* ---- HKDF (RFC 5869) ---- */

static bool hash(struct kmtls_psk_crypto *crypto, const unsigned char *bytes, size_t length,
		 unsigned char ret_hash[KMTLS_PSK_HASH])
{
	struct kmtls_bytes part = { bytes, length };

	return kmtls_hkdf_hash(&crypto->hkdf, &part, 1, ret_hash);
}

/* key: KMTLS_PSK_HASH bytes. */
static bool hmac(struct kmtls_psk_crypto *crypto, const unsigned char *key,
		 const unsigned char *data, size_t length, unsigned char ret_mac[KMTLS_PSK_HASH])
{
	return kmtls_hkdf_hmac(&crypto->hkdf, &(struct kmtls_bytes){ key, KMTLS_PSK_HASH },
			       &(struct kmtls_bytes){ data, length }, ret_mac);
}

/* HKDF-Expand-Label(secret, prefix + label, context, length of the hash), section 7.1. context:
 * KMTLS_PSK_HASH bytes, or NULL: empty. */
static bool expand_secret(struct kmtls_psk_crypto *crypto, const struct kmtls_secret *secret,
			  const char *prefix, const char *label, const unsigned char *context,
			  struct kmtls_secret *ret_secret)
{
	ret_secret->length = KMTLS_PSK_HASH;
	return secret->length == KMTLS_PSK_HASH &&
	       kmtls_hkdf_expand_label(
		       &crypto->hkdf, &(struct kmtls_bytes){ secret->bytes, secret->length },
		       &(struct kmtls_bytes){ (const unsigned char *)prefix, strlen(prefix) },
		       &(struct kmtls_bytes){ (const unsigned char *)label, strlen(label) },
		       &(struct kmtls_bytes){ context, context ? KMTLS_PSK_HASH : 0 },
		       ret_secret->bytes, KMTLS_PSK_HASH);
}

/* ---- the schedule (section 7.1) ---- */

/* The stage after secret: HKDF-Extract(Derive-Secret(secret, "derived", ""), 0). */
static bool next_stage(struct kmtls_psk_crypto *crypto, const struct kmtls_secret *secret,
		       const unsigned char *hash_of_nothing, struct kmtls_secret *ret_next)
{
	static const unsigned char zero[KMTLS_PSK_HASH];
	struct kmtls_secret salt __cleanup_secret = {};

	ret_next->length = KMTLS_PSK_HASH;
	return expand_secret(crypto, secret, TLS13, "derived", hash_of_nothing, &salt) &&
	       hmac(crypto, salt.bytes, zero, sizeof(zero), ret_next->bytes);
}

static bool derive(struct kmtls_psk_crypto *crypto, const struct kmtls_secret *psk,
		   struct kmtls_psk_keys *keys)
{
	static const unsigned char zero[KMTLS_PSK_HASH];
	struct kmtls_secret early __cleanup_secret = { .length = KMTLS_PSK_HASH };
	struct kmtls_secret external __cleanup_secret = {};
	unsigned char nothing[KMTLS_PSK_HASH];

	return hash(crypto, zero, 0, nothing) &&
	       hmac(crypto, zero, psk->bytes, psk->length, early.bytes) &&
	       expand_secret(crypto, &early, TLS13, "ext binder", nothing, &external) &&
	       expand_secret(crypto, &external, TLS13, "finished", NULL, &keys->binder) &&
	       next_stage(crypto, &early, nothing, &keys->handshake) &&
	       next_stage(crypto, &keys->handshake, nothing, &keys->master);
}

int kmtls_psk_keys_derive(const struct kmtls_secret *psk, struct kmtls_psk_keys *ret_keys)
{
	struct kmtls_psk_crypto crypto;
	struct kmtls_psk_keys keys = {};
	int err = kmtls_psk_crypto_open(&crypto);

	if (err)
		return err;
	if (derive(&crypto, psk, &keys))
		*ret_keys = keys;
	else
		err = failed();
	kmtls_psk_keys_wipe(&keys);
	kmtls_psk_crypto_close(&crypto);
	return err;
}

int kmtls_psk_mac(struct kmtls_psk_crypto *crypto, const struct kmtls_secret *key,
		  const struct kmtls_psk_transcript *transcript,
		  unsigned char ret_mac[KMTLS_PSK_HASH])
{
	unsigned char hashed[KMTLS_PSK_HASH];

	return key->length == KMTLS_PSK_HASH &&
			       hash(crypto, transcript->bytes, transcript->length, hashed) &&
			       hmac(crypto, key->bytes, hashed, sizeof(hashed), ret_mac)
		       ? 0
		       : failed();
}

int kmtls_psk_finished_key(struct kmtls_psk_crypto *crypto, const struct kmtls_secret *secret,
			   struct kmtls_secret *ret_key)
{
	return expand_secret(crypto, secret, TLS13, "finished", NULL, ret_key) ? 0 : failed();
}

int kmtls_psk_traffic_secrets(struct kmtls_psk_crypto *crypto, const struct kmtls_secret *secret,
			      const char *label, const struct kmtls_psk_transcript *transcript,
			      struct kmtls_traffic_secrets *ret_secrets)
{
	unsigned char hashed[KMTLS_PSK_HASH];

	return hash(crypto, transcript->bytes, transcript->length, hashed) &&
			       expand_secret(crypto, secret, TLS13 "c ", label, hashed,
					     &ret_secrets->client) &&
			       expand_secret(crypto, secret, TLS13 "s ", label, hashed,
					     &ret_secrets->server)
		       ? 0
		       : failed();
}

/* ---- records (sections 5.2 and 5.3) ---- */

static void make_nonce(const struct kmtls_record_key *key, __u64 sequence,
		       unsigned char ret_nonce[IV])
{
	memcpy(ret_nonce, key->iv, IV);
	for (unsigned i = 0; i < 8; i++)
		ret_nonce[IV - 1 - i] ^= sequence >> 8 * i;
}

int kmtls_psk_seal(struct kmtls_psk_crypto *crypto, const struct kmtls_record_key *key, __u8 type,
		   const unsigned char *content, size_t length, unsigned char *ret_record)
{
	unsigned char inner[KMTLS_PSK_MESSAGE_MAX + 1],
		*body = ret_record + KMTLS_PSK_RECORD_HEADER;
	int size = (int)length + 1, written;

	if (length > KMTLS_PSK_MESSAGE_MAX)
		return -EIO;
	memcpy(inner, content, length);
	inner[length] = type;
	kmtls_psk_write_record(ret_record, KMTLS_PSK_RECORD_DATA, (size_t)size + KMTLS_PSK_TAG);
	/* The sequence is 0: the nonce is the iv. */
	if (EVP_EncryptInit_ex2(crypto->cipher, aes128gcm, key->key, key->iv, NULL) != 1 ||
	    EVP_EncryptUpdate(crypto->cipher, NULL, &written, ret_record,
			      KMTLS_PSK_RECORD_HEADER) != 1 ||
	    EVP_EncryptUpdate(crypto->cipher, body, &written, inner, size) != 1 ||
	    EVP_EncryptFinal_ex(crypto->cipher, body + size, &written) != 1 ||
	    EVP_CIPHER_CTX_ctrl(crypto->cipher, EVP_CTRL_AEAD_GET_TAG, KMTLS_PSK_TAG,
				body + size) != 1)
		return failed();
	return KMTLS_PSK_RECORD_HEADER + size + KMTLS_PSK_TAG;
}

int kmtls_psk_open(struct kmtls_psk_crypto *crypto, const struct kmtls_record_key *key,
		   __u64 sequence, const unsigned char *record, size_t size, __u8 *ret_type,
		   unsigned char *ret_content)
{
	unsigned char nonce[IV];
	const unsigned char *body = record + KMTLS_PSK_RECORD_HEADER;
	int length, written;

	if (size < KMTLS_PSK_OVERHEAD || record[0] != KMTLS_PSK_RECORD_DATA)
		return -EBADMSG;
	length = (int)size - KMTLS_PSK_RECORD_HEADER - KMTLS_PSK_TAG;
	make_nonce(key, sequence, nonce);
	if (EVP_DecryptInit_ex2(crypto->cipher, aes128gcm, key->key, nonce, NULL) != 1 ||
	    EVP_DecryptUpdate(crypto->cipher, NULL, &written, record, KMTLS_PSK_RECORD_HEADER) !=
		    1 ||
	    EVP_DecryptUpdate(crypto->cipher, ret_content, &written, body, length) != 1 ||
	    EVP_CIPHER_CTX_ctrl(crypto->cipher, EVP_CTRL_AEAD_SET_TAG, KMTLS_PSK_TAG,
				(void *)(body + length)) != 1)
		return failed();
	if (EVP_DecryptFinal_ex(crypto->cipher, ret_content + length, &written) != 1) {
		ERR_clear_error();
		return -EBADMSG;
	}
	while (length && !ret_content[length - 1])
		length--; /* padding */
	if (!length)
		return -EBADMSG; /* section 5.4: no type */
	*ret_type = ret_content[length - 1];
	return length - 1;
}
