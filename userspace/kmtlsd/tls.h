/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.h - the two kinds of SSL_CTX of kmtls and what the handshake code may ask of an SSL
 * made from them. TLS 1.3 and ALPN kmtls/1 only, both sides authenticated by verify.h,
 * resumed by resumption.h only, nothing read ahead, no ticket unless the caller issues it.
 *
 * How a handshake ends. Server: SSL_do_handshake() returns 1; ask the application; then
 * SSL_new_session_ticket() and SSL_do_handshake() again send the one ticket (record 0 of
 * its application keys: TX goes on at 1), or an alert goes out through kernel TLS with TX
 * at 0. Client: SSL_do_handshake() returns 1; then SSL_read() of one byte, again whenever
 * the socket is readable, until kmtls_tls_tickets_seen() is 1 (RX goes on at 1). It never
 * returns data: data before the ticket is an error, so is more than one ticket, and a
 * failure is explained by kmtls_verify_handshake_error(). SSL_MODE_AUTO_RETRY is off: one
 * SSL_read() handles at most one record, and what follows the ticket stays in the socket.
 */
#ifndef KMTLS_TLS_H
#define KMTLS_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "kmtls/abi.h"
#include "trust.h"

/* What a peer may present: its SVID and that many intermediates; bytes of all of them, in the
 * Certificate message, and of one. */
#define KMTLS_TLS_INTERMEDIATES_MAX 8
#define KMTLS_TLS_CHAIN_BYTES_MAX (32 * 1024)
#define KMTLS_TLS_CERTIFICATE_BYTES_MAX (16 * 1024)

#define KMTLS_ALPN "kmtls/1"
/* The same, and both sides can follow a KeyUpdate (RFC 8446 section 4.6.3). */
#define KMTLS_ALPN_REKEY "kmtls/1+rekey"

/* What holds for all contexts; set once, before the first is made. */
struct kmtls_tls_options {
	bool rekey; /* offer and select KMTLS_ALPN_REKEY */
	bool prefer_chacha20; /* ChaCha20-Poly1305, whose keys have no limit, before AES-GCM */
};
void kmtls_tls_configure(const struct kmtls_tls_options *options);

struct kmtls_tls_credentials {
	X509 *leaf;
	STACK_OF(X509) * chain; /* nearest issuer first; may be NULL */
	EVP_PKEY *key;
	struct kmtls_trust *trust;
};

/* Takes references of its own. -EINVAL: OpenSSL refuses the credentials; -ENOMEM. */
int kmtls_tls_context_new(enum kmtls_role role, const struct kmtls_tls_credentials *credentials,
			  SSL_CTX **ret_context);

/* The trust bundles of ssl's context, borrowed; NULL for other contexts. */
const struct kmtls_trust *kmtls_tls_trust(const SSL *ssl);

/* Both sides agreed on kmtls/1, or its variant with rekey. Holds after every handshake that succeeded: the server
 * refuses a ClientHello without it, the client's verify callback a server that did not
 * select it. */
bool kmtls_tls_alpn_ok(const SSL *ssl);
/* The same two for handshakes without an SSL, names with a length byte in front: what a client offers,
 * and what a server selects of a list, NULL: nothing. */
const unsigned char *kmtls_tls_alpn_offer(size_t *ret_length);
const unsigned char *kmtls_tls_alpn_select(const unsigned char *list, size_t length);
bool kmtls_tls_alpn_is_rekey(const unsigned char *name);
/* Both sides can follow a KeyUpdate. */
bool kmtls_tls_rekey_agreed(const SSL *ssl);

/*
 * It waits for the peer: its buffers for records go, unless there is a part of one in them. With
 * SSL_MODE_RELEASE_BUFFERS they would go after each record, to be made and wiped again for the
 * next one.
 */
void kmtls_tls_rest(SSL *ssl);

/* Client: how many session tickets came so far. */
unsigned kmtls_tls_tickets_seen(const SSL *ssl);

#endif
