/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key_schedule.h - from TLS 1.3 traffic secrets to record keys (RFC 8446 sections 7.1 to
 * 7.3). Secrets live in one type that wipes itself.
 */
#ifndef KMTLS_KEY_SCHEDULE_H
#define KMTLS_KEY_SCHEDULE_H

#include <linux/types.h>
#include <openssl/ssl.h>
#include <stddef.h>

struct kmtls_secret {
	size_t length; /* 0: unset; 32 or 48 */
	unsigned char bytes[48];
};

struct kmtls_record_key {
	__u16 cipher; /* 0x1301, 0x1302, 0x1303 */
	unsigned char key[32];
	unsigned char iv[12];
};

/* Bytes of a traffic secret of the cipher; 0: unknown. */
size_t kmtls_secret_length(__u16 cipher);

/* The two application traffic secrets of one handshake. */
struct kmtls_traffic_secrets {
	struct kmtls_secret client, server;
};

void kmtls_secret_wipe(struct kmtls_secret *secret);
#define __cleanup_secret __attribute__((cleanup(kmtls_secret_wipe)))
void kmtls_traffic_secrets_wipe(struct kmtls_traffic_secrets *secrets);
void kmtls_record_key_wipe(struct kmtls_record_key *key);
#define __cleanup_record_key __attribute__((cleanup(kmtls_record_key_wipe)))

/* Where the secrets of ssl go. secrets must live as long as ssl. -ENOMEM. */
int kmtls_traffic_secrets_attach(SSL *ssl, struct kmtls_traffic_secrets *secrets);
/* SSL_do_handshake() of an SSL that secrets are attached to. */
int kmtls_traffic_secrets_handshake(SSL *ssl);
/* For tls13_kdf.c, in the course of it: takes those with the labels "c ap traffic" and "s ap traffic",
 * ignores others. */
void kmtls_traffic_secrets_derived(const char *label, size_t label_length,
				   const unsigned char *bytes, size_t length);
/* For SSL_CTX_set_keylog_callback(): takes CLIENT_/SERVER_TRAFFIC_SECRET_0, ignores others. */
void kmtls_traffic_secrets_keylog(const SSL *ssl, const char *line);

/* HKDF-Expand-Label(secret, label, "", length) with the cipher's hash. -EINVAL: unknown
 * cipher or a secret of the wrong length; -EIO: OpenSSL. */
int kmtls_expand_label(__u16 cipher, const struct kmtls_secret *secret, const char *label,
		       unsigned char *ret_bytes, size_t length);
/* Labels "key" and "iv". Errors as above. */
int kmtls_record_key_derive(__u16 cipher, const struct kmtls_secret *secret,
			    struct kmtls_record_key *ret_key);
/* The traffic secret after a KeyUpdate (section 7.2). Errors as above. */
int kmtls_secret_next(__u16 cipher, const struct kmtls_secret *secret,
		      struct kmtls_secret *ret_secret);

#endif
