/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify_chain.c - the certificates above the leaf: what is refused at sight, before a signature
 * costs anything; the path to a root of the peer's own trust domain, found and checked by OpenSSL
 * (RFC 5280 section 6); and what X.509-SVID asks of the CAs on it.
 *
 * Not set: X509_V_FLAG_PARTIAL_CHAIN (a bundle holds roots), X509_V_FLAG_X509_STRICT (it refuses
 * certificates for missing key identifiers, which says nothing about trust; what it adds to
 * security is checked here: "a CA has CA:true", an extension comes once, serial numbers).
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "revocation.h"
#include "spiffe.h"
#include "tls.h"
#include "verify_parts.h"

#define EXTENSIONS_MAX 64
#define SERIAL_BYTES_MAX 20 /* RFC 5280 section 4.1.2.2 */
/* Verifying takes the square of it. */
#define RSA_BITS_MAX 8192

/* ---- at sight ---- */

static enum kmtls_reason say(struct kmtls_verify *verify, enum kmtls_reason reason, int number,
			     const char *what)
{
	snprintf(verify->detail, sizeof(verify->detail), "%s (certificate %d of the chain)", what,
		 number);
	return reason;
}

/* RFC 5280 section 4.2: at most one of a kind. */
static const char *extensions_rule(const X509 *certificate)
{
	int count = X509_get_ext_count(certificate);

	if (count > EXTENSIONS_MAX)
		return "more than 64 extensions";
	if (count > 0 && X509_get_version(certificate) != X509_VERSION_3)
		return "extensions, but not of version 3";
	for (int i = 0; i < count; i++) {
		const ASN1_OBJECT *kind = X509_EXTENSION_get_object(X509_get_ext(certificate, i));

		if (X509_get_ext_by_OBJ(certificate, kind, i) >= 0)
			return "an extension is there twice";
	}
	return NULL;
}

static const char *serial_rule(const X509 *certificate)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);

	if (serial->type == V_ASN1_NEG_INTEGER)
		return "the serial number is negative";
	if (serial->length > SERIAL_BYTES_MAX)
		return "the serial number is longer than 20 bytes";
	if (serial->length < 1 || (serial->length == 1 && !serial->data[0]))
		return "the serial number is 0";
	return NULL;
}

static enum kmtls_reason check_presented(X509 *certificate, int number, struct kmtls_verify *verify)
{
	const EVP_PKEY *key = X509_get0_pubkey(certificate);
	const char *rule;

	if (i2d_X509(certificate, NULL) > KMTLS_TLS_CERTIFICATE_BYTES_MAX)
		return say(verify, KMTLS_REASON_CHAIN_TOO_LARGE, number, "more than 16384 bytes");
	if (key && EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) > RSA_BITS_MAX)
		return say(verify, KMTLS_REASON_SVID_WEAK_KEY, number,
			   "an RSA key of more than 8192 bits");
	rule = extensions_rule(certificate);
	if (!rule)
		rule = serial_rule(certificate);
	if (!rule && X509_get_extension_flags(certificate) & EXFLAG_INVALID)
		rule = "a field or an extension cannot be read";
	return rule ? say(verify, KMTLS_REASON_SVID_INVALID, number, rule) : KMTLS_REASON_NONE;
}

enum kmtls_reason kmtls_verify_presented(X509_STORE_CTX *store, struct kmtls_verify *verify)
{
	STACK_OF(X509) *presented = X509_STORE_CTX_get0_untrusted(store);
	enum kmtls_reason reason = KMTLS_REASON_NONE;
	int count = sk_X509_num(presented);

	/* The leaf is the first of them. */
	if (count > 1 + KMTLS_TLS_INTERMEDIATES_MAX) {
		snprintf(verify->detail, sizeof(verify->detail), "%d certificates, at most %d",
			 count, 1 + KMTLS_TLS_INTERMEDIATES_MAX);
		return KMTLS_REASON_CHAIN_TOO_LONG;
	}
	for (int i = 0; !reason && i < count; i++)
		reason = check_presented(sk_X509_value(presented, i), i, verify);
	ERR_clear_error(); /* of keys that cannot be read */
	return reason;
}

/* ---- the path ---- */

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
	/* Signed by another key than that of the CA of this name in the bundle. */
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		return KMTLS_REASON_UNKNOWN_CA;
	case X509_V_ERR_CERT_CHAIN_TOO_LONG:
		return KMTLS_REASON_CHAIN_TOO_LONG;
	case X509_V_ERR_INVALID_CA:
	case X509_V_ERR_INVALID_PURPOSE: /* of the leaf: see below */
	case X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
		return KMTLS_REASON_ISSUER_NOT_CA;
	case X509_V_ERR_PATH_LENGTH_EXCEEDED:
		return KMTLS_REASON_PATH_LENGTH;
	case X509_V_ERR_PERMITTED_VIOLATION:
	case X509_V_ERR_EXCLUDED_VIOLATION:
	case X509_V_ERR_SUBTREE_MINMAX:
	case X509_V_ERR_UNSUPPORTED_CONSTRAINT_TYPE:
	case X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX:
	case X509_V_ERR_UNSUPPORTED_NAME_SYNTAX:
		return KMTLS_REASON_NAME_CONSTRAINTS;
	case X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION:
		return KMTLS_REASON_CRITICAL_EXTENSION;
	case X509_V_ERR_CA_MD_TOO_WEAK:
		return KMTLS_REASON_WEAK_SIGNATURE;
	case X509_V_ERR_EE_KEY_TOO_SMALL:
	case X509_V_ERR_CA_KEY_TOO_SMALL:
	case X509_V_ERR_EC_KEY_EXPLICIT_PARAMS:
		return KMTLS_REASON_SVID_WEAK_KEY;
	case X509_V_ERR_OUT_OF_MEM:
		return KMTLS_REASON_NO_RESOURCES;
	}
	return KMTLS_REASON_SVID_INVALID;
}

/* OpenSSL insists on CA:true for intermediates only, and takes an old root without it; a
 * bundle holds CAs (X.509-SVID section 3.1, RFC 5280 section 4.2.1.9). */
static bool is_chain_of_cas(STACK_OF(X509) * chain)
{
	for (int i = 1; i < sk_X509_num(chain); i++)
		if (!(X509_get_extension_flags(sk_X509_value(chain, i)) & EXFLAG_CA))
			return false;
	return true;
}

/* When all of the chain are valid. */
static void set_times(STACK_OF(X509) * chain, struct kmtls_verify *verify)
{
	time_t not_before, not_after;

	for (int i = 0; i < sk_X509_num(chain); i++) {
		X509 *certificate = sk_X509_value(chain, i);

		/* Cannot be: the chain was verified. If it is, it is of no use to anybody later. */
		if (kmtls_verify_time(X509_get0_notBefore(certificate), &not_before))
			not_before = INT64_MAX;
		if (kmtls_verify_time(X509_get0_notAfter(certificate), &not_after))
			not_after = 0;
		if (!i || not_before > verify->peer_not_before)
			verify->peer_not_before = not_before;
		if (!i || not_after < verify->peer_not_after)
			verify->peer_not_after = not_after;
	}
}

/* A CA may say of whom it is (X.509-SVID section 3.1): then of the peer's trust domain, and no
 * workload of it. Whoever can sign as a workload is not a CA for others. */
static bool is_ca_of(X509 *ca, const char *peer_id)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(ca, NID_subject_alt_name, NULL, NULL);
	struct kmtls_spiffe_id peer, id;
	bool fits = true;
	const char *rule;

	if (kmtls_spiffe_id_parse(peer_id, strlen(peer_id), &peer, &rule))
		fits = false;
	for (int i = 0; fits && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		const char *text = (const char *)ASN1_STRING_get0_data(name->d.ia5);
		int length = ASN1_STRING_length(name->d.ia5);

		if (name->type != GEN_URI || length < 9 || memcmp(text, "spiffe://", 9) != 0)
			continue;
		fits = !kmtls_spiffe_id_parse(text, length, &id, &rule) && !id.path_length &&
		       id.trust_domain_length == peer.trust_domain_length &&
		       !memcmp(text + id.trust_domain_offset, peer_id + peer.trust_domain_offset,
			       id.trust_domain_length);
	}
	GENERAL_NAMES_free(names);
	ERR_clear_error();
	return fits;
}

/* OpenSSL has found a path. The root's own ID is the business of whoever put it into the bundle. */
static enum kmtls_reason check_path(STACK_OF(X509) * chain, struct kmtls_verify *verify)
{
	int count = sk_X509_num(chain);

	if (!is_chain_of_cas(chain)) {
		snprintf(verify->detail, sizeof(verify->detail), "issued by what is not a CA");
		return KMTLS_REASON_ISSUER_NOT_CA;
	}
	for (int i = 1; i + 1 < count; i++)
		if (!is_ca_of(sk_X509_value(chain, i), verify->peer_id))
			return say(verify, KMTLS_REASON_CA_BAD_ID, i, "the SPIFFE ID of a CA");
	for (int i = 0; i + 1 < count; i++) {
		__u64 hash = kmtls_revocation_hash(sk_X509_value(chain, i + 1),
						   X509_get0_serialNumber(sk_X509_value(chain, i)));

		if (!i)
			verify->peer_certificate = hash;
		else if (i <= KMTLS_TLS_INTERMEDIATES_MAX)
			verify->peer_issuers[i - 1] = hash;
		if (kmtls_revocation_holds(hash))
			return say(verify, KMTLS_REASON_REVOKED, i, "revoked by its CA's CRL");
	}
	set_times(chain, verify);
	return KMTLS_REASON_NONE;
}

/*
 * The context's purpose (sslclient or sslserver) is OpenSSL's default; it looks at the leaf's
 * usages before we do and calls every fault INVALID_PURPOSE, for which leaf_reason is better.
 */
enum kmtls_reason kmtls_verify_chain(X509_STORE_CTX *store, STACK_OF(X509) * roots,
				     struct kmtls_verify *verify, enum kmtls_reason leaf_reason)
{
	int error, depth;

	X509_STORE_CTX_set0_trusted_stack(store, roots);
	X509_STORE_CTX_set_time(store, 0, kmtls_clock_now());
	if (X509_verify_cert(store) > 0)
		return check_path(X509_STORE_CTX_get0_chain(store), verify);
	error = X509_STORE_CTX_get_error(store);
	depth = X509_STORE_CTX_get_error_depth(store);
	say(verify, KMTLS_REASON_NONE, depth, X509_verify_cert_error_string(error));
	if (error == X509_V_ERR_INVALID_PURPOSE && leaf_reason && depth == 0)
		return leaf_reason;
	return chain_reason(error);
}
