/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify.c - the verify callback: chain, leaf rules, trust domain, promised ID, in this order;
 * the first that fails gives the reason and the alert.
 *
 * OpenSSL picks the alert from the X.509 error the callback leaves behind
 * (ssl_x509err2alert() in statem_lib.c). Authorization is not asked here: access_denied is not
 * among those it can pick, and the certificate alone is public: only after CertificateVerify and
 * Finished has the client shown that it is its own. What the other side makes of each alert:
 *
 *   our reason                     alert                          the peer's reason
 *   UNKNOWN_CA                     48 unknown_ca                  REFUSED_UNKNOWN_CA
 *   SVID_EXPIRED                   45 certificate_expired         REFUSED_EXPIRED
 *   SVID_KEY_USAGE, _EXTENDED_...  43 unsupported_certificate     REFUSED_CERTIFICATE
 *   WRONG_PEER, other SVID_...     42 bad_certificate             REFUSED_CERTIFICATE
 *   DENIED (handshake_authorize.c) 49 access_denied               REFUSED_DENIED
 *   NO_CERTIFICATE (OpenSSL's own) 116 certificate_required       REFUSED_BY_PEER
 *   NOT_MESH (OpenSSL's own)       120 no_application_protocol,   NOT_MESH
 *                                  70 protocol_version
 *
 * Not set: X509_V_FLAG_PARTIAL_CHAIN (a bundle holds roots), X509_V_FLAG_X509_STRICT (it
 * refuses certificates for missing key identifiers, which says nothing about trust; what it
 * adds to security, "a CA has CA:true", is_chain_of_cas() checks).
 */
#include "verify.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "match.h"
#include "reason.h"
#include "spiffe.h"
#include "tls.h"

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

/* X509_verify_cert() failed: why, in our words. */
static enum kmtls_reason chain_reason(int error)
{
	switch (error) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return KMTLS_REASON_SVID_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return KMTLS_REASON_SVID_NOT_YET_VALID;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_UNTRUSTED:
	case X509_V_ERR_CERT_CHAIN_TOO_LONG:
	/* Signed by another key than that of the CA of this name in the bundle. */
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		return KMTLS_REASON_UNKNOWN_CA;
	case X509_V_ERR_EE_KEY_TOO_SMALL:
	case X509_V_ERR_CA_KEY_TOO_SMALL:
	case X509_V_ERR_CA_MD_TOO_WEAK:
	case X509_V_ERR_EC_KEY_EXPLICIT_PARAMS:
		return KMTLS_REASON_SVID_WEAK_KEY;
	case X509_V_ERR_OUT_OF_MEM:
		return KMTLS_REASON_NO_RESOURCES;
	}
	return KMTLS_REASON_SVID_INVALID;
}

/* The error that makes OpenSSL send the alert in the table above. */
static int reason_error(enum kmtls_reason reason)
{
	switch (reason) {
	case KMTLS_REASON_NONE:
		return X509_V_OK;
	case KMTLS_REASON_UNKNOWN_CA:
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
		return X509_V_ERR_CERT_REJECTED;
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

/* OpenSSL insists on CA:true for intermediates only, and takes an old root without it; a
 * bundle holds CAs (X.509-SVID section 3.1, RFC 5280 section 4.2.1.9). */
static bool is_chain_of_cas(STACK_OF(X509) * chain)
{
	int i;

	for (i = 1; i < sk_X509_num(chain); i++)
		if (!(X509_get_extension_flags(sk_X509_value(chain, i)) & EXFLAG_CA))
			return false;
	return true;
}

/* When the chain ends to be valid: the leaf, or a CA above it that expires sooner. */
static time_t chain_not_after(STACK_OF(X509) * chain)
{
	time_t first = 0, not_after;
	int i;

	for (i = 0; i < sk_X509_num(chain); i++) {
		if (kmtls_verify_time(X509_get0_notAfter(sk_X509_value(chain, i)), &not_after))
			continue; /* cannot be: the chain was verified */
		if (!i || not_after < first)
			first = not_after;
	}
	return first;
}

/*
 * The context's purpose (sslclient or sslserver) is OpenSSL's default; it looks at the leaf's
 * usages before we do and calls every fault INVALID_PURPOSE, for which leaf_reason is better.
 */
static enum kmtls_reason check_chain(X509_STORE_CTX *store, struct kmtls_verify *verify,
				     enum kmtls_reason leaf_reason)
{
	STACK_OF(X509) * chain;
	int error;

	if (X509_verify_cert(store) <= 0) {
		error = X509_STORE_CTX_get_error(store);
		snprintf(verify->detail, sizeof(verify->detail), "%s (certificate %d of the chain)",
			 X509_verify_cert_error_string(error),
			 X509_STORE_CTX_get_error_depth(store));
		if (error == X509_V_ERR_INVALID_PURPOSE && leaf_reason &&
		    X509_STORE_CTX_get_error_depth(store) == 0)
			return leaf_reason;
		return chain_reason(error);
	}
	chain = X509_STORE_CTX_get0_chain(store);
	if (!is_chain_of_cas(chain)) {
		snprintf(verify->detail, sizeof(verify->detail), "issued by what is not a CA");
		return KMTLS_REASON_SVID_INVALID;
	}
	verify->peer_not_after = chain_not_after(chain);
	return KMTLS_REASON_NONE;
}

/*
 * A bundle vouches for its own trust domain only (X.509-SVID section 5.2), even if a CA in
 * it signs something else. There is no bundle for another one: nothing to chain to.
 */
static bool is_of_trust_domain(const char *peer_id, const char *trust_domain)
{
	struct kmtls_spiffe_id id;
	const char *rule;

	return trust_domain && !kmtls_spiffe_id_parse(peer_id, strlen(peer_id), &id, &rule) &&
	       id.trust_domain_length == strlen(trust_domain) &&
	       !memcmp(id.text + id.trust_domain_offset, trust_domain, id.trust_domain_length);
}

static enum kmtls_reason check_peer(SSL *ssl, X509_STORE_CTX *store, struct kmtls_verify *verify)
{
	bool is_server = SSL_is_server(ssl);
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	enum kmtls_reason leaf_reason, reason;

	/* EncryptedExtensions came before the certificate: the choice is known here. */
	if (!is_server && !kmtls_tls_alpn_ok(ssl))
		return KMTLS_REASON_NOT_MESH;
	if (!leaf)
		return KMTLS_REASON_NO_CERTIFICATE;
	/* First, so that the log can name a peer that is refused for its chain. */
	leaf_reason = kmtls_verify_leaf(leaf, is_server ? KMTLS_ROLE_CLIENT : KMTLS_ROLE_SERVER,
					verify->peer_id);
	reason = check_chain(store, verify, leaf_reason);
	if (!reason)
		reason = leaf_reason;
	if (!reason && !is_of_trust_domain(verify->peer_id, kmtls_tls_trust_domain(ssl)))
		reason = KMTLS_REASON_UNKNOWN_CA;
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
	verify->peer_not_after = 0;
	verify->reason = check_peer(ssl, store, verify);
	if (verify->reason && !verify->detail[0])
		snprintf(verify->detail, sizeof(verify->detail), "%s",
			 kmtls_reason_text(verify->reason));
	X509_STORE_CTX_set_error(store, reason_error(verify->reason));
	return verify->reason == KMTLS_REASON_NONE;
}
