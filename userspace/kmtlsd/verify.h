/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify.h - is this peer who it must be? Chain up to the trust bundle (RFC 5280), the
 * X.509-SVID rules and the promised SPIFFE ID (client side), all inside OpenSSL's verify
 * callback, so that a refusal is an ordinary TLS alert. Whether the server lets it in is asked
 * when the handshake is done (authorization.h).
 */
#ifndef KMTLS_VERIFY_H
#define KMTLS_VERIFY_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <time.h>

#include "kmtls/abi.h"
#include "tls.h"

/* Size of the texts kmtls_verify_handshake_error() writes. */
#define KMTLS_VERIFY_DETAIL 256

struct kmtls_verify {
	/* In. Client side: whom the peers map promises for the address, as match.h has it. NULL on
	 * the server side. Not owned. */
	const char *expected_id;
	unsigned expected_match; /* enum kmtls_match; a number not known is kept by nobody */
	/* Out. */
	enum kmtls_reason reason; /* why verification failed, NONE if it did not */
	char detail[160]; /* for the log; of our own making, no byte of the peer's */
	char peer_id[KMTLS_SPIFFE_ID_MAX + 1]; /* as soon as it could be read; "" before */
	time_t peer_not_before; /* of the SVID, or of a CA above it that begins later */
	time_t peer_not_after; /* of the SVID, or of a CA above it that ends sooner */
	__u64 peer_certificate; /* kmtls_revocation_hash() of the SVID; 0: not verified */
	/* Likewise, of CAs above it but the root, the SVID's issuer first. */
	__u64 peer_issuers[KMTLS_TLS_INTERMEDIATES_MAX];
};

/* Attaches verify to ssl (ex_data); it must live as long as ssl. -ENOMEM. */
int kmtls_verify_attach(SSL *ssl, struct kmtls_verify *verify);

/* For SSL_CTX_set_cert_verify_callback(); contexts of svid.c have it set. */
int kmtls_verify_callback(X509_STORE_CTX *store, void *unused);

/*
 * The X.509-SVID rules for a leaf, by itself: exactly one URI SAN with a valid SPIFFE ID
 * that has a path, not a CA, digitalSignature without keyCertSign or cRLSign, EKU where
 * present fits the role, key of an allowed type (EC P-256 or P-384, RSA >= 2048).
 * role is the role of the certificate's owner. ret_id gets KMTLS_SPIFFE_ID_MAX + 1 bytes
 * as soon as the ID could be read.
 */
enum kmtls_reason kmtls_verify_leaf(X509 *leaf, enum kmtls_role role, char *ret_id);

/* Of an allowed type and size, as above. NULL is not. */
bool kmtls_verify_key(const EVP_PKEY *key);

/* A bound of a certificate's validity. -EINVAL: the field is malformed. */
int kmtls_verify_time(const ASN1_TIME *time, time_t *ret_time);

/* What it means that the peer has sent this alert; ret_detail (KMTLS_VERIFY_DETAIL bytes) names it. */
enum kmtls_reason kmtls_verify_alert_reason(int alert, char *ret_detail);
/* The reason for a failed SSL_do_handshake/SSL_read: verify's own, or read from OpenSSL's
 * error queue (alerts, no shared ALPN, not TLS), which is drained. detail gets a short
 * text of it (KMTLS_VERIFY_DETAIL bytes). */
enum kmtls_reason kmtls_verify_handshake_error(SSL *ssl, const struct kmtls_verify *verify,
					       char *ret_detail);

#endif
