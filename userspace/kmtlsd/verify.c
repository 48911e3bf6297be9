/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify.c - the verify callback: sizes, ID, trust domain, chain, leaf rules, promised ID, in this
 * order; the first that fails gives the reason and the alert.
 *
 * OpenSSL picks the alert from the X.509 error the callback leaves behind
 * (ssl_x509err2alert() in statem_lib.c). Authorization is not asked here: access_denied is not
 * among those it can pick, and the certificate alone is public: only after CertificateVerify and
 * Finished has the client shown that it is its own. What the other side makes of each alert:
 *
 *   our reason                     alert                          the peer's reason
 *   UNKNOWN_CA, _TRUST_DOMAIN      48 unknown_ca                  REFUSED_UNKNOWN_CA
 *   REVOKED                        44 certificate_revoked         REFUSED_CERTIFICATE
 *   SVID_EXPIRED                   45 certificate_expired         REFUSED_EXPIRED
 *   SVID_KEY_USAGE, _EXTENDED_...  43 unsupported_certificate     REFUSED_CERTIFICATE
 *   WRONG_PEER, all else that      42 bad_certificate             REFUSED_CERTIFICATE
 *   is wrong with a certificate
 *   DENIED (handshake_authorize.c) 49 access_denied               REFUSED_DENIED
 *   NO_CERTIFICATE (OpenSSL's own) 116 certificate_required       REFUSED_BY_PEER
 *   NOT_MESH (OpenSSL's own)       120 no_application_protocol,   NOT_MESH
 *                                  70 protocol_version
 */
#include "verify.h"

#include <errno.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "certificate.h"
#include "known_chains.h"
#include "match.h"
#include "reason.h"
#include "spiffe.h"
#include "tls.h"
#include "verify_parts.h"

static int verify_index = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void allocate_index(void)
{
	verify_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

int kmtls_verify_attach(SSL *ssl, struct kmtls_verify *verify)
{
	pthread_once(&once, allocate_index);
	if (verify_index < 0 || !SSL_set_ex_data(ssl, verify_index, verify)) {
		ERR_clear_error();
		return -ENOMEM;
	}
	return 0;
}

int kmtls_verify_time(const ASN1_TIME *time, time_t *ret_time)
{
	struct tm tm;

	if (!time || !ASN1_TIME_to_tm(time, &tm))
		return -EINVAL;
	*ret_time = timegm(&tm);
	return 0;
}

/* The error that makes OpenSSL send the alert in the table above. */
static int reason_error(enum kmtls_reason reason)
{
	switch (reason) {
	case KMTLS_REASON_NONE:
		return X509_V_OK;
	case KMTLS_REASON_UNKNOWN_CA:
	case KMTLS_REASON_UNKNOWN_TRUST_DOMAIN:
		return X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
	case KMTLS_REASON_SVID_EXPIRED:
		return X509_V_ERR_CERT_HAS_EXPIRED;
	case KMTLS_REASON_SVID_NOT_YET_VALID:
		return X509_V_ERR_CERT_NOT_YET_VALID;
	case KMTLS_REASON_SVID_KEY_USAGE:
	case KMTLS_REASON_SVID_EXTENDED_KEY_USAGE:
		return X509_V_ERR_INVALID_PURPOSE;
	case KMTLS_REASON_SVID_INVALID:
	case KMTLS_REASON_SVID_NO_ID:
	case KMTLS_REASON_SVID_MANY_IDS:
	case KMTLS_REASON_SVID_BAD_ID:
	case KMTLS_REASON_SVID_IS_CA:
	case KMTLS_REASON_CHAIN_TOO_LONG:
	case KMTLS_REASON_CHAIN_TOO_LARGE:
	case KMTLS_REASON_ISSUER_NOT_CA:
	case KMTLS_REASON_PATH_LENGTH:
	case KMTLS_REASON_NAME_CONSTRAINTS:
	case KMTLS_REASON_CRITICAL_EXTENSION:
	case KMTLS_REASON_WEAK_SIGNATURE:
	case KMTLS_REASON_CA_BAD_ID:
		return X509_V_ERR_CERT_REJECTED;
	case KMTLS_REASON_REVOKED:
		return X509_V_ERR_CERT_REVOKED;
	case KMTLS_REASON_SVID_WEAK_KEY:
		return X509_V_ERR_EE_KEY_TOO_SMALL;
	case KMTLS_REASON_WRONG_PEER:
		return X509_V_ERR_HOSTNAME_MISMATCH;
	case KMTLS_REASON_NO_RESOURCES:
		return X509_V_ERR_OUT_OF_MEM;
	default:
		return X509_V_ERR_APPLICATION_VERIFICATION;
	}
}

/*
 * A bundle vouches for its own trust domain only (X.509-SVID section 5.2), even if a CA in it
 * signs something else: the ID in the leaf says whose roots are asked, no other's are. An ID that
 * could not be read leads nowhere; leaf_reason says why.
 */
static enum kmtls_reason check_trust(SSL *ssl, X509_STORE_CTX *store, struct kmtls_verify *verify,
				     enum kmtls_reason leaf_reason)
{
	const struct kmtls_trust *trust = kmtls_tls_trust(ssl);
	STACK_OF(X509) *roots = NULL;
	struct kmtls_spiffe_id id;
	enum kmtls_reason reason;
	const char *rule;

	if (kmtls_spiffe_id_parse(verify->peer_id, strlen(verify->peer_id), &id, &rule))
		return leaf_reason ? leaf_reason : KMTLS_REASON_SVID_BAD_ID;
	if (trust)
		roots = kmtls_trust_roots(trust, id.text + id.trust_domain_offset,
					  id.trust_domain_length);
	if (!roots)
		return KMTLS_REASON_UNKNOWN_TRUST_DOMAIN;
	reason = kmtls_verify_chain(store, roots, verify, leaf_reason);
	return reason ? reason : leaf_reason;
}

/*
 * Where no key of a certificate could be read, there was nobody to read it (tls_library.h): once
 * more, by OpenSSL's own library, before anything looks at it. false: there is no memory.
 */
static bool read_keys(STACK_OF(X509) * presented)
{
	for (int i = 0; i < sk_X509_num(presented); i++) {
		X509 *certificate = sk_X509_value(presented, i);

		if (X509_get0_pubkey(certificate))
			continue;
		certificate = kmtls_certificate_read_again(certificate);
		if (!certificate)
			return false;
		sk_X509_set(presented, i, certificate);
	}
	ERR_clear_error();
	return true;
}

static enum kmtls_reason verify_anew(SSL *ssl, X509_STORE_CTX *store, struct kmtls_verify *verify,
				     enum kmtls_role role)
{
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	enum kmtls_reason leaf_reason, reason = kmtls_verify_presented(store, verify);

	if (reason)
		return reason;
	/* Before the chain, so that the log can name a peer that is refused for its chain. */
	leaf_reason = kmtls_verify_leaf(leaf, role, verify->peer_id);
	return check_trust(ssl, store, verify, leaf_reason);
}

/* Who is the peer? As if verified anew, but a chain that is known is not. */
static enum kmtls_reason verify_chain(SSL *ssl, X509_STORE_CTX *store, struct kmtls_verify *verify)
{
	enum kmtls_role role = SSL_is_server(ssl) ? KMTLS_ROLE_CLIENT : KMTLS_ROLE_SERVER;
	STACK_OF(X509) *presented = X509_STORE_CTX_get0_untrusted(store);
	const struct kmtls_trust *trust = kmtls_tls_trust(ssl);
	struct kmtls_known_chain_name name;
	bool named = kmtls_known_chains_name(presented, role, &name);
	bool known = named && kmtls_known_chains_find(&name, trust, presented, verify);
	enum kmtls_reason reason = KMTLS_REASON_NONE;

	if (!known && !read_keys(presented))
		reason = KMTLS_REASON_NO_RESOURCES;
	/* libssl takes the peer's key from what stands in the list then. */
	X509_STORE_CTX_set_cert(store, sk_X509_value(presented, 0));
	if (known || reason)
		return reason;
	reason = verify_anew(ssl, store, verify, role);
	if (!reason && named)
		kmtls_known_chains_remember(&name, trust, presented, verify);
	return reason;
}

static enum kmtls_reason check_peer(SSL *ssl, X509_STORE_CTX *store, struct kmtls_verify *verify)
{
	bool is_server = SSL_is_server(ssl);
	enum kmtls_reason reason;

	/* EncryptedExtensions came before the certificate: the choice is known here. */
	if (!is_server && !kmtls_tls_alpn_ok(ssl))
		return KMTLS_REASON_NOT_MESH;
	if (!X509_STORE_CTX_get0_cert(store))
		return KMTLS_REASON_NO_CERTIFICATE;
	reason = verify_chain(ssl, store, verify);
	if (reason)
		return reason;
	/* A client that was promised nothing trusts no one. */
	if (!is_server && !verify->expected_id)
		return KMTLS_REASON_WRONG_PEER;
	if (verify->expected_id &&
	    !kmtls_match_holds(verify->expected_match, verify->expected_id, verify->peer_id))
		return KMTLS_REASON_WRONG_PEER;
	return KMTLS_REASON_NONE;
}

int kmtls_verify_callback(X509_STORE_CTX *store, void *unused)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct kmtls_verify *verify;

	pthread_once(&once, allocate_index);
	verify = ssl && verify_index >= 0 ? SSL_get_ex_data(ssl, verify_index) : NULL;
	if (!verify) { /* nobody said whom to expect: refuse */
		X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
		return 0;
	}
	verify->detail[0] = verify->peer_id[0] = '\0';
	verify->peer_not_before = verify->peer_not_after = 0;
	verify->peer_certificate = 0;
	memset(verify->peer_issuers, 0, sizeof(verify->peer_issuers));
	verify->reason = check_peer(ssl, store, verify);
	if (verify->reason && !verify->detail[0])
		snprintf(verify->detail, sizeof(verify->detail), "%s",
			 kmtls_reason_text(verify->reason));
	X509_STORE_CTX_set_error(store, reason_error(verify->reason));
	return verify->reason == KMTLS_REASON_NONE;
}
