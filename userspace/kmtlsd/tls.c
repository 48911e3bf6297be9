/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.c - makes the SSL_CTX of one SVID and one role. Everything that shapes a handshake
 * is set here, once, so that an SSL made from the context needs no further setting but
 * its socket, its secrets (key_schedule.h) and its verification (verify.h).
 */
#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "key_schedule.h"
#include "resumption.h"
#include "tls_library.h"
#include "verify.h"

#define AES_SUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
#define CHACHA20_SUITE "TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS "X25519:P-256"
#define RECORD_BYTES_MAX 4096 /* that we send: a buffer is made, and wiped, for the largest */
#define SECURITY_LEVEL 2 /* 112 bits: no RSA below 2048, no SHA-1 in a chain */

/* Since 3.2 (RFC 8879). Headers of 3.0 do not know them, and a daemon that was built with those may run with a newer
 * library; to an older one they say nothing. */
#ifndef SSL_OP_NO_TX_CERTIFICATE_COMPRESSION
#define SSL_OP_NO_TX_CERTIFICATE_COMPRESSION ((uint64_t)1 << 32)
#define SSL_OP_NO_RX_CERTIFICATE_COMPRESSION ((uint64_t)1 << 33)
#endif

/* RFC 7301 section 3.1: names with a length byte in front. */
static const unsigned char alpn_plain[] = "\7" KMTLS_ALPN, alpn_rekey[] = "\15" KMTLS_ALPN_REKEY;
static const unsigned char alpn_both[] = "\15" KMTLS_ALPN_REKEY "\7" KMTLS_ALPN;
_Static_assert(sizeof(KMTLS_ALPN) - 1 == 7 && sizeof(KMTLS_ALPN_REKEY) - 1 == 13,
	       "the length bytes");

static struct kmtls_tls_options global;
static int trust_index = -1, tickets_index = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_trust(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long argl,
		       void *argp)
{
	kmtls_trust_put(pointer);
}

static void allocate_indexes(void)
{
	trust_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_trust);
	tickets_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

const struct kmtls_trust *kmtls_tls_trust(const SSL *ssl)
{
	pthread_once(&once, allocate_indexes);
	return trust_index < 0 ? NULL : SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), trust_index);
}

void kmtls_tls_configure(const struct kmtls_tls_options *options)
{
	global = *options;
}

static bool selected(const SSL *ssl, const unsigned char *wire)
{
	const unsigned char *name;
	unsigned length;

	SSL_get0_alpn_selected(ssl, &name, &length);
	return length == wire[0] && !memcmp(name, wire + 1, length);
}

bool kmtls_tls_alpn_ok(const SSL *ssl)
{
	return selected(ssl, alpn_plain) || kmtls_tls_rekey_agreed(ssl);
}

bool kmtls_tls_rekey_agreed(const SSL *ssl)
{
	return global.rekey && selected(ssl, alpn_rekey);
}

unsigned kmtls_tls_tickets_seen(const SSL *ssl)
{
	pthread_once(&once, allocate_indexes);
	return tickets_index < 0 ? 0 : (uintptr_t)SSL_get_ex_data(ssl, tickets_index);
}

void kmtls_tls_rest(SSL *ssl)
{
	SSL_free_buffers(ssl);
}

/* Client. The session itself is not kept: what is resumed comes from resumption.c. */
static int count_ticket(SSL *ssl, SSL_SESSION *session)
{
	SSL_set_ex_data(ssl, tickets_index, (void *)(uintptr_t)(kmtls_tls_tickets_seen(ssl) + 1));
	return 0;
}

/* Is the protocol among list, names with a length byte in front? */
static bool offers(const unsigned char *list, size_t length, const unsigned char *wire)
{
	size_t i = 0;

	while (i < length) {
		size_t end = i + 1 + list[i];

		if (end > length)
			return false;
		if (list[i] == wire[0] && !memcmp(list + i, wire, end - i))
			return true;
		i = end;
	}
	return false;
}

const unsigned char *kmtls_tls_alpn_offer(size_t *ret_length)
{
	*ret_length = global.rekey ? sizeof(alpn_both) - 1 : sizeof(alpn_plain) - 1;
	return global.rekey ? alpn_both : alpn_plain;
}

bool kmtls_tls_alpn_is_rekey(const unsigned char *name)
{
	return global.rekey && name && name[0] == alpn_rekey[0] &&
	       !memcmp(name, alpn_rekey, sizeof(alpn_rekey) - 1);
}

const unsigned char *kmtls_tls_alpn_select(const unsigned char *list, size_t length)
{
	if (global.rekey && offers(list, length, alpn_rekey))
		return alpn_rekey;
	return offers(list, length, alpn_plain) ? alpn_plain : NULL;
}

/*
 * Server. OpenSSL asks select_alpn() only when the client offers some protocol at all; one
 * that offers none is not of the mesh either and gets the same alert, before anything of
 * ours is shown to it.
 */
static int check_client_hello(SSL *ssl, int *alert, void *unused)
{
	const unsigned char *extension;
	size_t length;

	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation,
				      &extension, &length) &&
	    length >= 2 && (size_t)(extension[0] << 8 | extension[1]) == length - 2 &&
	    kmtls_tls_alpn_select(extension + 2, length - 2))
		return SSL_CLIENT_HELLO_SUCCESS;
	*alert = SSL_AD_NO_APPLICATION_PROTOCOL;
	return SSL_CLIENT_HELLO_ERROR;
}

static int select_alpn(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_length,
		       const unsigned char *list, unsigned length, void *unused)
{
	const unsigned char *wire = kmtls_tls_alpn_select(list, length);

	if (!wire)
		return SSL_TLSEXT_ERR_ALERT_FATAL; /* no_application_protocol */
	*ret_name = wire + 1;
	*ret_length = wire[0];
	return SSL_TLSEXT_ERR_OK;
}

/* Server. A ticket means "the application accepted" and nothing else: what is resumed comes from
 * resumption.c. */
static SSL_TICKET_RETURN ignore_ticket(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
				       size_t length, SSL_TICKET_STATUS status, void *unused)
{
	return SSL_TICKET_RETURN_IGNORE;
}

static bool set_protocol(SSL_CTX *context)
{
	const char *suites = global.prefer_chacha20 ? CHACHA20_SUITE ":" AES_SUITES
						    : AES_SUITES ":" CHACHA20_SUITE;

	SSL_CTX_set_security_level(context, SECURITY_LEVEL);
	/* PRIORITIZE_CHACHA: a client that has ChaCha20-Poly1305 first gets it. What is compressed
	 * would be unpacked before anybody is known. */
	SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
					     SSL_OP_NO_TX_CERTIFICATE_COMPRESSION |
					     SSL_OP_NO_RX_CERTIFICATE_COMPRESSION |
					     SSL_OP_CIPHER_SERVER_PREFERENCE |
					     SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
	/* What is sent is leaf and chain as given, not what OpenSSL finds in the bundle. */
	SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN);
	/* Bytes past the handshake belong to kernel TLS: they must stay in the socket. */
	SSL_CTX_set_read_ahead(context, 0);
	SSL_CTX_set_max_cert_list(context, KMTLS_TLS_CHAIN_BYTES_MAX);
	return SSL_CTX_set_max_send_fragment(context, RECORD_BYTES_MAX) == 1 &&
	       SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_ciphersuites(context, suites) == 1 &&
	       SSL_CTX_set1_groups_list(context, GROUPS) == 1 &&
	       SSL_CTX_set_max_early_data(context, 0) == 1 &&
	       SSL_CTX_set_recv_max_early_data(context, 0) == 1;
}

static bool set_credentials(SSL_CTX *context, const struct kmtls_tls_credentials *credentials)
{
	struct kmtls_trust *trust = kmtls_trust_get(credentials->trust);

	/* The context's own store stays empty: the peer's trust domain says whom to ask. */
	if (!SSL_CTX_set_ex_data(context, trust_index, trust)) {
		kmtls_trust_put(trust);
		return false;
	}
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_verify_depth(context, KMTLS_TLS_INTERMEDIATES_MAX);
	SSL_CTX_set_cert_verify_callback(context, kmtls_verify_callback, NULL);
	return SSL_CTX_use_certificate(context, credentials->leaf) == 1 &&
	       SSL_CTX_use_PrivateKey(context, credentials->key) == 1 &&
	       SSL_CTX_check_private_key(context) == 1 &&
	       (!credentials->chain || SSL_CTX_set1_chain(context, credentials->chain) == 1);
}

static bool set_client(SSL_CTX *context)
{
	const unsigned char *offered;
	size_t length;

	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(context, count_ticket);
	SSL_CTX_set_psk_use_session_callback(context, kmtls_resumption_offer);
	offered = kmtls_tls_alpn_offer(&length);
	/* This one returns 0 for success. */
	return SSL_CTX_set_alpn_protos(context, offered, (unsigned)length) == 0;
}

static bool set_server(SSL_CTX *context)
{
	static const unsigned char session_context[] = KMTLS_ALPN;

	SSL_CTX_set_client_hello_cb(context, check_client_hello, NULL);
	SSL_CTX_set_alpn_select_cb(context, select_alpn, NULL);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_psk_find_session_callback(context, kmtls_resumption_find);
	return SSL_CTX_set_num_tickets(context, 0) == 1 &&
	       SSL_CTX_set_session_ticket_cb(context, NULL, ignore_ticket, NULL) == 1 &&
	       SSL_CTX_set_session_id_context(context, session_context,
					      sizeof(session_context) - 1) == 1;
}

/* Another library context uses a copy of the key. That of an EC key is in the secure heap, too. */
static OSSL_LIB_CTX *library_for(const EVP_PKEY *key)
{
	return EVP_PKEY_is_a(key, "EC") ? kmtls_tls_library() : NULL;
}

int kmtls_tls_context_new(enum kmtls_role role, const struct kmtls_tls_credentials *credentials,
			  SSL_CTX **ret_context)
{
	bool is_server = role == KMTLS_ROLE_SERVER;
	OSSL_LIB_CTX *library = library_for(credentials->key);
	SSL_CTX *context;
	int err = -ENOMEM;

	pthread_once(&once, allocate_indexes);
	context = SSL_CTX_new_ex(library, NULL,
				 is_server ? TLS_server_method() : TLS_client_method());
	if (!context || trust_index < 0 || tickets_index < 0 || !set_protocol(context))
		goto fail;
	/* In ours the secrets come from whom derives them. */
	if (!library)
		SSL_CTX_set_keylog_callback(context, kmtls_traffic_secrets_keylog);
	err = -EINVAL;
	if (!set_credentials(context, credentials) ||
	    !(is_server ? set_server(context) : set_client(context)))
		goto fail;
	*ret_context = context;
	return 0;
fail:
	SSL_CTX_free(context);
	ERR_clear_error();
	return err;
}
