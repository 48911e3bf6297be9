/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resumption.c - see resumption.h. One table a role.
 */
#include "resumption.h"

#include <errno.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "match.h"
#include "resumption_table.h"

static const char label_identity[] = "EXPORTER-kmtls-resumption-identity";
static const char label_key[] = "EXPORTER-kmtls-resumption-key";
static const char label_symmetric[] = "EXPORTER-kmtls-symmetric-key";

struct kmtls_resumption {
	struct kmtls_resumption_table server, client;
};

static int party_index = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void allocate_index(void)
{
	party_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static struct kmtls_resumption_party *party_of(const SSL *ssl)
{
	pthread_once(&once, allocate_index);
	return party_index < 0 ? NULL : SSL_get_ex_data(ssl, party_index);
}

/* ---- OpenSSL asks ---- */

static SSL_SESSION *make_session(SSL *ssl, const struct kmtls_resumption_entry *entry)
{
	const unsigned char number[2] = { entry->cipher >> 8, entry->cipher & 0xff };
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, number);
	SSL_SESSION *session = SSL_SESSION_new();

	if (session && cipher &&
	    SSL_SESSION_set1_master_key(session, entry->key.bytes, entry->key.length) == 1 &&
	    SSL_SESSION_set_cipher(session, cipher) == 1 &&
	    SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
		return session;
	SSL_SESSION_free(session);
	ERR_clear_error();
	return NULL;
}

/* A cipher's hash must be that of the key: asked for again after a HelloRetryRequest. */
static bool fits(const SSL_SESSION *session, const EVP_MD *digest)
{
	return !digest ||
	       EVP_MD_get_type(digest) == EVP_MD_get_type(SSL_CIPHER_get_handshake_digest(
						  SSL_SESSION_get0_cipher(session)));
}

/* Client: the entry to offer, which is the party's from then on. NULL: none. */
static struct kmtls_resumption_entry *choose(struct kmtls_resumption_party *party)
{
	const struct kmtls_verify *verify = party->verify;
	struct kmtls_resumption_entry *entry;

	if (party->entry) /* after a HelloRetryRequest */
		return party->entry;
	entry = kmtls_resumption_table_find(&party->resumption->client, party, NULL, 0);
	/* The peers map may promise somebody else by now. */
	if (entry &&
	    (!verify->expected_id ||
	     !kmtls_match_holds(verify->expected_match, verify->expected_id, entry->peer_id))) {
		kmtls_resumption_entry_put(entry);
		entry = NULL;
	}
	return party->entry = entry;
}

/* Client. Whether the server takes it up is its affair: it may have forgotten. */
int kmtls_resumption_offer(SSL *ssl, const EVP_MD *digest, const unsigned char **ret_identity,
			   size_t *ret_length, SSL_SESSION **ret_session)
{
	struct kmtls_resumption_party *party = party_of(ssl);
	struct kmtls_resumption_entry *entry = party && party->seconds ? choose(party) : NULL;
	SSL_SESSION *session;

	*ret_session = NULL;
	if (!entry)
		return 1;
	session = make_session(ssl, entry);
	if (session && !fits(session, digest)) {
		SSL_SESSION_free(session);
		session = NULL;
	}
	*ret_session = session;
	*ret_identity = entry->identity;
	*ret_length = sizeof(entry->identity);
	return 1;
}

/* Server. What is not found gets a full handshake. */
int kmtls_resumption_find(SSL *ssl, const unsigned char *identity, size_t length,
			  SSL_SESSION **ret_session)
{
	struct kmtls_resumption_party *party = party_of(ssl);
	struct kmtls_resumption_entry *entry;

	*ret_session = NULL;
	if (!party || !party->seconds || length != KMTLS_RESUMPTION_IDENTITY)
		return 1;
	entry = kmtls_resumption_table_find(&party->resumption->server, party, identity, length);
	kmtls_resumption_entry_put(party->entry); /* a client may offer several */
	party->entry = entry;
	if (!entry)
		return 1;
	*ret_session = make_session(ssl, entry);
	return 1;
}

/* ---- around a handshake ---- */

int kmtls_resumption_attach(SSL *ssl, struct kmtls_resumption_party *party)
{
	pthread_once(&once, allocate_index);
	if (party_index >= 0 && SSL_set_ex_data(ssl, party_index, party))
		return 0;
	ERR_clear_error();
	return -ENOMEM;
}

/* What the entry's handshake has verified. */
static void adopt(struct kmtls_resumption_party *party)
{
	const struct kmtls_resumption_entry *entry = party->entry;
	struct kmtls_verify *verify = party->verify;

	verify->reason = KMTLS_REASON_NONE;
	verify->detail[0] = '\0';
	strcpy(verify->peer_id, entry->peer_id); /* it came from there */
	verify->peer_not_after = entry->peer_not_after;
	verify->peer_certificate = entry->peer_certificate;
	memcpy(verify->peer_issuers, entry->peer_issuers, sizeof(verify->peer_issuers));
}

bool kmtls_resumption_adopt(SSL *ssl, struct kmtls_resumption_party *party)
{
	if (!SSL_session_reused(ssl))
		return true;
	if (!party->entry)
		return false;
	adopt(party);
	return true;
}

static bool export(SSL *ssl, struct kmtls_resumption_entry *entry)
{
	entry->cipher = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl));
	entry->key.length = kmtls_secret_length(entry->cipher);
	if (entry->key.length &&
	    SSL_export_keying_material(ssl, entry->identity, sizeof(entry->identity),
				       label_identity, sizeof(label_identity) - 1, NULL, 0,
				       0) == 1 &&
	    SSL_export_keying_material(ssl, entry->key.bytes, entry->key.length, label_key,
				       sizeof(label_key) - 1, NULL, 0, 0) == 1)
		return true;
	ERR_clear_error();
	return false;
}

/* Without it there are handshakes with (EC)DHE all the same. Only where AES-128-GCM was agreed on: who
 * wants another cipher does not get this one. */
static void export_symmetric(SSL *ssl, struct kmtls_resumption_entry *entry)
{
	struct kmtls_secret psk __cleanup_secret = { .length = KMTLS_PSK_HASH };

	if (entry->cipher == KMTLS_PSK_CIPHER &&
	    SSL_export_keying_material(ssl, psk.bytes, psk.length, label_symmetric,
				       sizeof(label_symmetric) - 1, NULL, 0, 0) == 1)
		entry->has_symmetric = kmtls_psk_keys_derive(&psk, &entry->symmetric) == 0;
	ERR_clear_error();
}

static struct kmtls_resumption_entry *make_entry(SSL *ssl,
						 const struct kmtls_resumption_party *party)
{
	const struct kmtls_verify *verify = party->verify;
	size_t length = strlen(verify->peer_id) + 1;
	struct kmtls_resumption_entry *entry = calloc(1, sizeof(*entry) + length);

	if (!entry)
		return NULL;
	entry->references = 1;
	entry->svid = party->svid;
	entry->policy = party->policy;
	entry->revocations = party->revocations;
	entry->peer = party->peer;
	entry->peer_not_after = verify->peer_not_after;
	entry->not_after = party->not_after < verify->peer_not_after ? party->not_after
								     : verify->peer_not_after;
	entry->peer_certificate = verify->peer_certificate;
	memcpy(entry->peer_issuers, verify->peer_issuers, sizeof(entry->peer_issuers));
	memcpy(entry->peer_id, verify->peer_id, length);
	clock_gettime(CLOCK_BOOTTIME, &entry->made);
	if (export(ssl, entry)) {
		if (party->symmetric)
			export_symmetric(ssl, entry);
		return entry;
	}
	kmtls_resumption_entry_put(entry);
	return NULL;
}

void kmtls_resumption_remember(SSL *ssl, struct kmtls_resumption_party *party)
{
	struct kmtls_resumption_entry *entry;
	bool server;

	if (!party->seconds || SSL_session_reused(ssl) || !party->verify->peer_id[0])
		return;
	entry = make_entry(ssl, party);
	if (!entry)
		return; /* then it is not resumed */
	server = SSL_is_server(ssl);
	kmtls_resumption_table_store(
		server ? &party->resumption->server : &party->resumption->client, entry, server);
}

/* ---- without (EC)DHE ---- */

const struct kmtls_psk_keys *kmtls_resumption_offer_symmetric(struct kmtls_resumption_party *party,
							      const unsigned char **ret_identity)
{
	struct kmtls_resumption_entry *entry;

	if (!party->symmetric || !party->seconds)
		return NULL;
	entry = choose(party);
	if (!entry || !__atomic_load_n(&entry->has_symmetric, __ATOMIC_RELAXED))
		return NULL;
	*ret_identity = entry->identity;
	return &entry->symmetric;
}

const struct kmtls_psk_keys *kmtls_resumption_find_symmetric(struct kmtls_resumption_party *party,
							     const unsigned char *identity,
							     size_t length)
{
	struct kmtls_resumption_entry *entry;

	if (!party->symmetric || !party->seconds || length != KMTLS_RESUMPTION_SYMMETRIC_IDENTITY)
		return NULL;
	entry = kmtls_resumption_table_find(&party->resumption->server, party, identity, length);
	if (entry && !entry->has_symmetric) {
		kmtls_resumption_entry_put(entry);
		entry = NULL;
	}
	kmtls_resumption_entry_put(party->entry);
	party->entry = entry;
	return entry ? &entry->symmetric : NULL;
}

void kmtls_resumption_refuse_symmetric(struct kmtls_resumption_party *party)
{
	if (party->entry)
		__atomic_store_n(&party->entry->has_symmetric, false, __ATOMIC_RELAXED);
}

void kmtls_resumption_adopt_symmetric(struct kmtls_resumption_party *party)
{
	adopt(party);
}

void kmtls_resumption_leave(struct kmtls_resumption_party *party, bool failed)
{
	/* A server's client may be anybody: what it offers is not forgotten for its mistakes. */
	if (failed && party->entry)
		kmtls_resumption_table_forget(&party->resumption->client, party->entry);
	kmtls_resumption_entry_put(party->entry);
	party->entry = NULL;
}

/* ---- the tables ---- */

int kmtls_resumption_open(struct kmtls_resumption **ret_resumption)
{
	struct kmtls_resumption *resumption = calloc(1, sizeof(*resumption));

	if (!resumption)
		return -ENOMEM;
	kmtls_resumption_table_init(&resumption->server);
	kmtls_resumption_table_init(&resumption->client);
	*ret_resumption = resumption;
	return 0;
}

void kmtls_resumption_clear(struct kmtls_resumption *resumption)
{
	kmtls_resumption_table_clear(&resumption->server);
	kmtls_resumption_table_clear(&resumption->client);
}

void kmtls_resumption_close(struct kmtls_resumption *resumption)
{
	if (!resumption)
		return;
	kmtls_resumption_clear(resumption);
	free(resumption);
}
