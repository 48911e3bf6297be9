/* SPDX-License-Identifier: Apache-2.0 */
/* bad_certificates.c - see bad_certificates.h. */
#include "bad_certificates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#define REASON(x) .reason = KMTLS_REASON_##x
#define BAD_CERTIFICATE .alert = 42
#define UNSUPPORTED .alert = 43
#define EXPIRED .alert = 45
#define UNKNOWN .alert = 48
#define UNPARSED .alert = 50 /* decode_error */
/* OpenSSL as a server says the first, as a client the second. */
#define UNPARSED_OR_BAD .alert = 50, .alert_to_server = 42

static char id_2049[2049 + 1], domain_256[sizeof("spiffe:///x") + 256];

void bad_certificates_prepare(void)
{
	memset(id_2049, 'a', sizeof(id_2049) - 1);
	memcpy(id_2049, "spiffe://example.org/", strlen("spiffe://example.org/"));
	memset(domain_256, 'a', sizeof(domain_256) - 1);
	memcpy(domain_256, "spiffe://", strlen("spiffe://"));
	memcpy(domain_256 + strlen("spiffe://") + 256, "/x", sizeof("/x"));
}

/* ---- changes before it is signed ----------------------------------------------------------- */

static void add_raw(X509 *certificate, const char *kind, bool critical, const void *bytes,
		    int length)
{
	ASN1_OBJECT *object = OBJ_txt2obj(kind, 1);
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension;

	ASN1_OCTET_STRING_set(value, bytes, length);
	extension = X509_EXTENSION_create_by_OBJ(NULL, object, critical, value);
	assert_true(X509_add_ext(certificate, extension, -1));
	X509_EXTENSION_free(extension);
	ASN1_OCTET_STRING_free(value);
	ASN1_OBJECT_free(object);
}

#define PRIVATE "1.3.6.1.4.1.55555.1" /* known to nobody */
#define SUBJECT_ALT_NAME "2.5.29.17"
#define BASIC_CONSTRAINTS "2.5.29.19"

static void critical(X509 *certificate)
{
	add_raw(certificate, PRIVATE, true, "\5\0", 2);
}

static void twice_unknown(X509 *certificate)
{
	add_raw(certificate, PRIVATE, false, "\5\0", 2);
	add_raw(certificate, PRIVATE, false, "\5\0", 2);
}

static void twice(X509 *certificate, int nid)
{
	X509_EXTENSION *first =
		X509_get_ext(certificate, X509_get_ext_by_NID(certificate, nid, -1));

	assert_true(X509_add_ext(certificate, first, -1));
}

static void twice_names(X509 *certificate)
{
	twice(certificate, NID_subject_alt_name);
}

static void twice_usage(X509 *certificate)
{
	twice(certificate, NID_key_usage);
}

static void bad_names(X509 *certificate)
{
	add_raw(certificate, SUBJECT_ALT_NAME, false, "\x30\x05\x86\x10x", 5);
}

static void bad_constraints(X509 *certificate)
{
	add_raw(certificate, BASIC_CONSTRAINTS, true, "\x30\x7fx", 3);
}

static void huge(X509 *certificate)
{
	static char bytes[20000];

	add_raw(certificate, PRIVATE, false, bytes, sizeof(bytes));
}

static void large(X509 *certificate)
{
	static char bytes[15000];

	add_raw(certificate, PRIVATE, false, bytes, sizeof(bytes));
}

static void many_extensions(X509 *certificate)
{
	char kind[32];

	for (int i = 0; i < 65; i++) {
		snprintf(kind, sizeof(kind), "1.3.6.1.4.1.55555.2.%d", i);
		add_raw(certificate, kind, false, "\5\0", 2);
	}
}

static void set_serial(X509 *certificate, int bits, bool negative)
{
	BIGNUM *number = BN_new();

	if (bits)
		assert_int_equal(BN_rand(number, bits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY), 1);
	BN_set_negative(number, negative);
	assert_non_null(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)));
	BN_free(number);
}

static void negative_serial(X509 *certificate)
{
	set_serial(certificate, 64, true);
}

static void zero_serial(X509 *certificate)
{
	set_serial(certificate, 0, false);
}

static void long_serial(X509 *certificate)
{
	set_serial(certificate, 168, false);
}

static void bad_time(X509 *certificate)
{
	assert_int_equal(ASN1_STRING_set(X509_getm_notAfter(certificate), "991399999999Z", -1), 1);
}

/* ---- changes afterwards --------------------------------------------------------------------- */

static void replace(unsigned char **bytes, int *length, const void *with, int size)
{
	OPENSSL_free(*bytes);
	*bytes = OPENSSL_memdup(with, (size_t)size);
	*length = size;
}

static void garbage(unsigned char **bytes, int *length)
{
	replace(bytes, length, "this is not a certificate", 25);
}

static void truncated(unsigned char **bytes, int *length)
{
	*length -= 10;
}

static void trailing(unsigned char **bytes, int *length)
{
	*bytes = OPENSSL_realloc(*bytes, (size_t)*length + 1);
	(*bytes)[(*length)++] = 0;
}

/* OpenSSL signs none of less than version 3 that has extensions, since some version of its own. */
static void version_2(unsigned char **bytes, int *length)
{
	static const unsigned char version_3[] = { 0xa0, 3, 2, 1, X509_VERSION_3 };
	unsigned char *version = memmem(*bytes, (size_t)*length, version_3, sizeof(version_3));

	assert_non_null(version);
	version[sizeof(version_3) - 1] = X509_VERSION_2;
}

static void forged(unsigned char **bytes, int *length)
{
	(*bytes)[*length - 1] ^= 1;
}

/* Not anywhere else: the bytes of the ID are there once. */
static void other_id(unsigned char **bytes, int *length)
{
	for (int i = 0; i + 9 < *length; i++)
		if (!memcmp(*bytes + i, "spiffe://", 9)) {
			(*bytes)[i + 21] ^= 1;
			return;
		}
	fail();
}

/* ---- CAs ------------------------------------------------------------------------------------ */

#define CA .constraints = "critical,CA:TRUE"
#define SIGNS .key_usage = "critical,keyCertSign"
#define ANY_USE .extended_key_usage = "", .name = "intermediate"
static const struct test_spec
	good_ca = { CA, SIGNS, ANY_USE },
	second_ca = { CA, SIGNS, .extended_key_usage = "", .name = "second" },
	expired_ca = { CA, SIGNS, ANY_USE, .not_after = -60 },
	future_ca = { CA, SIGNS, ANY_USE, .not_before = 60 },
	no_ca = { .key_usage = "digitalSignature", ANY_USE },
	false_ca = { .constraints = "critical,CA:FALSE", SIGNS, ANY_USE },
	silent_ca = { .constraints = "", SIGNS, ANY_USE },
	crl_ca = { CA, .key_usage = "cRLSign", ANY_USE },
	code_ca = { CA, SIGNS, .extended_key_usage = "codeSigning", .name = "intermediate" },
	weak_ca = { CA, SIGNS, ANY_USE, .algorithm = "RSA1024" },
	sha1_ca = { CA, SIGNS, ANY_USE, .digest = "SHA1" },
	critical_ca = { CA, SIGNS, ANY_USE, .change = critical },
	negative_ca = { CA, SIGNS, ANY_USE, .change = negative_serial },
	large_ca = { CA, SIGNS, ANY_USE, .change = large },
	last_ca = { .constraints = "critical,CA:TRUE,pathlen:0", SIGNS, ANY_USE },
	foreign_ca = { CA, SIGNS, ANY_USE,
		       .name_constraints = "critical,permitted;URI:elsewhere.org" },
	without_ca = { CA, SIGNS, ANY_USE,
		       .name_constraints = "critical,excluded;URI:example.org" },
	partner_ca = { CA, SIGNS, ANY_USE, .id = "spiffe://" BAD_PARTNER },
	workload_ca = { CA, SIGNS, ANY_USE, .id = "spiffe://example.org/ns/default/sa/ca" };

/* ---- the table ------------------------------------------------------------------------------ */

#define ID(name_, id_)                                                                     \
	{                                                                                  \
		.name = name_, .leaf = { .id = id_ }, REASON(SVID_BAD_ID), BAD_CERTIFICATE \
	}
#define LEAF(name_, reason_, alert_, ...)                                                          \
	{                                                                                          \
		.name = name_, .leaf = { .id = BAD_ROLE_ID, __VA_ARGS__ }, REASON(reason_), alert_ \
	}
#define BELOW(name_, ca_, reason_, alert_)                                                      \
	{                                                                                       \
		.name = name_, .leaf = { .id = BAD_ROLE_ID }, .cas = { &ca_ }, REASON(reason_), \
		alert_                                                                          \
	}
#define DER(name_, garble_, reason_, alert_)                                                      \
	{                                                                                         \
		.name = name_, .leaf = { .id = BAD_ROLE_ID }, .garble = garble_, REASON(reason_), \
		alert_                                                                            \
	}

const struct bad_certificate bad_certificates[] = {
	/* SPIFFE ID */
	ID("not SPIFFE", "https://example.org/server"),
	ID("scheme in upper case", "SPIFFE://example.org/server"),
	ID("one slash", "spiffe:/example.org/server"),
	ID("no trust domain", "spiffe:///server"),
	ID("no path", "spiffe://example.org"),
	ID("path is a slash", "spiffe://example.org/"),
	ID("trailing slash", "spiffe://example.org/server/"),
	ID("empty segment", "spiffe://example.org/a//server"),
	ID("segment of a dot", "spiffe://example.org/./server"),
	ID("segment of two dots", "spiffe://example.org/a/../server"),
	ID("percent-encoded dots", "spiffe://example.org/a/%2e%2e/server"),
	ID("percent-encoded letter", "spiffe://example.org/%73erver"),
	ID("percent-encoded trust domain", "spiffe://example%2eorg/server"),
	ID("query", "spiffe://example.org/server?a=b"),
	ID("fragment", "spiffe://example.org/server#a"),
	ID("port", "spiffe://example.org:443/server"),
	ID("user", "spiffe://user@example.org/server"),
	ID("user and password", "spiffe://user:secret@example.org/server"),
	ID("trust domain in upper case", "spiffe://EXAMPLE.org/server"),
	ID("space", "spiffe://example.org/ser ver"),
	ID("backslash", "spiffe://example.org/..\\server"),
	ID("not ASCII", "spiffe://example.org/serv\xc3\xa9r"),
	ID("line end", "spiffe://example.org/server\n"),
	ID("ID of 2049 bytes", id_2049),
	ID("trust domain of 256 bytes", domain_256),
	{ .name = "zero byte behind",
	  .leaf = { .id = TEST_SERVER_ID "\0x", .id_length = sizeof(TEST_SERVER_ID) + 1 },
	  REASON(SVID_BAD_ID),
	  BAD_CERTIFICATE },
	/* SAN */
	{ .name = "no SAN", .leaf = { .id = NULL }, REASON(SVID_NO_ID), BAD_CERTIFICATE },
	{ .name = "DNS name only",
	  .leaf = { .dns = "server.example.org" },
	  REASON(SVID_NO_ID),
	  BAD_CERTIFICATE },
	LEAF("two SPIFFE IDs", SVID_MANY_IDS, BAD_CERTIFICATE,
	     .second_id = "spiffe://example.org/other"),
	LEAF("a URI of another kind beside", SVID_MANY_IDS, BAD_CERTIFICATE,
	     .second_id = "https://example.org/"),
	{ .name = "the same ID twice",
	  .leaf = { .id = TEST_SERVER_ID, .second_id = TEST_SERVER_ID },
	  REASON(SVID_MANY_IDS),
	  BAD_CERTIFICATE },
	{ .name = "SAN cannot be parsed",
	  .leaf = { .change = bad_names },
	  REASON(SVID_INVALID),
	  BAD_CERTIFICATE },
	/* trust domains */
	{ .name = "unknown trust domain",
	  .leaf = { .id = "spiffe://elsewhere.org/server" },
	  REASON(UNKNOWN_TRUST_DOMAIN),
	  UNKNOWN },
	{ .name = "longer trust domain",
	  .leaf = { .id = "spiffe://example.org.evil/server" },
	  REASON(UNKNOWN_TRUST_DOMAIN),
	  UNKNOWN },
	{ .name = "partner's ID, our CA",
	  .leaf = { .id = "spiffe://" BAD_PARTNER "/server" },
	  REASON(UNKNOWN_CA),
	  UNKNOWN },
	{ .name = "our ID, partner's CA",
	  .leaf = { .id = BAD_ROLE_ID },
	  .root = BAD_ROOT_PARTNER,
	  REASON(UNKNOWN_CA),
	  UNKNOWN },
	BELOW("CA of another trust domain", partner_ca, CA_BAD_ID, BAD_CERTIFICATE),
	BELOW("a workload as CA", workload_ca, CA_BAD_ID, BAD_CERTIFICATE),
	/* the chain */
	{ .name = "unknown CA",
	  .leaf = { .id = BAD_ROLE_ID },
	  .root = BAD_ROOT_OTHER,
	  REASON(UNKNOWN_CA),
	  UNKNOWN },
	{ .name = "self-signed",
	  .leaf = { .id = BAD_ROLE_ID },
	  .self_signed = true,
	  REASON(UNKNOWN_CA),
	  UNKNOWN },
	{ .name = "intermediate not sent",
	  .leaf = { .id = BAD_ROLE_ID },
	  .cas = { &good_ca },
	  .no_chain = true,
	  REASON(UNKNOWN_CA),
	  UNKNOWN },
	DER("forged signature", forged, UNKNOWN_CA, UNKNOWN),
	{ .name = "ID changed after signing",
	  .leaf = { .id = BAD_ROLE_ID },
	  .garble = other_id,
	  REASON(UNKNOWN_CA),
	  UNKNOWN },
	BELOW("issued by a leaf", no_ca, ISSUER_NOT_CA, BAD_CERTIFICATE),
	BELOW("issued by CA:FALSE with keyCertSign", false_ca, ISSUER_NOT_CA, BAD_CERTIFICATE),
	BELOW("CA without basicConstraints", silent_ca, ISSUER_NOT_CA, BAD_CERTIFICATE),
	BELOW("CA without keyCertSign", crl_ca, ISSUER_NOT_CA, BAD_CERTIFICATE),
	BELOW("CA for another use", code_ca, ISSUER_NOT_CA, BAD_CERTIFICATE),
	{ .name = "CA below pathlen:0",
	  .leaf = { .id = BAD_ROLE_ID },
	  .cas = { &last_ca, &second_ca },
	  REASON(PATH_LENGTH),
	  BAD_CERTIFICATE },
	BELOW("outside of the permitted names", foreign_ca, NAME_CONSTRAINTS, BAD_CERTIFICATE),
	BELOW("among the excluded names", without_ca, NAME_CONSTRAINTS, BAD_CERTIFICATE),
	BELOW("expired CA", expired_ca, SVID_EXPIRED, EXPIRED),
	BELOW("CA not yet valid", future_ca, SVID_NOT_YET_VALID, BAD_CERTIFICATE),
	BELOW("CA of RSA 1024", weak_ca, SVID_WEAK_KEY, BAD_CERTIFICATE),
	BELOW("CA signed with SHA-1", sha1_ca, WEAK_SIGNATURE, BAD_CERTIFICATE),
	BELOW("CA with an unknown critical extension", critical_ca, CRITICAL_EXTENSION,
	      BAD_CERTIFICATE),
	BELOW("CA with a negative serial number", negative_ca, SVID_INVALID, BAD_CERTIFICATE),
	{ .name = "nine CAs",
	  .leaf = { .id = BAD_ROLE_ID },
	  .cas = { &good_ca, &second_ca, &good_ca, &second_ca, &good_ca, &second_ca, &good_ca,
		   &second_ca, &good_ca },
	  REASON(CHAIN_TOO_LONG),
	  BAD_CERTIFICATE,
	  .detail = "10 certificates, at most 9" },
	{ .name = "certificates of no use behind the chain",
	  .leaf = { .id = BAD_ROLE_ID },
	  .junk = 12,
	  REASON(CHAIN_TOO_LONG),
	  BAD_CERTIFICATE },
	{ .name = "32 KiB in all",
	  .leaf = { .id = BAD_ROLE_ID, .change = large },
	  .cas = { &large_ca, &large_ca },
	  REASON(CHAIN_TOO_LARGE),
	  .alert = 47 },
	/* validity and keys */
	LEAF("expired", SVID_EXPIRED, EXPIRED, .not_before = -7200, .not_after = -3600),
	LEAF("expired a second ago", SVID_EXPIRED, EXPIRED, .not_after = -1),
	LEAF("not yet valid", SVID_NOT_YET_VALID, BAD_CERTIFICATE, .not_before = 1800),
	LEAF("ends before it begins", SVID_EXPIRED, EXPIRED, .not_before = -10, .not_after = -20),
	LEAF("RSA 1024", SVID_WEAK_KEY, BAD_CERTIFICATE, .algorithm = "RSA1024"),
	LEAF("RSA 16384", SVID_WEAK_KEY, BAD_CERTIFICATE, .algorithm = "RSA-huge"),
	LEAF("P-192", SVID_WEAK_KEY, BAD_CERTIFICATE, .algorithm = "P-192"),
	LEAF("P-224", SVID_WEAK_KEY, BAD_CERTIFICATE, .algorithm = "P-224"),
	LEAF("P-521", SVID_WEAK_KEY, BAD_CERTIFICATE, .algorithm = "P-521"),
	LEAF("secp256k1", SVID_WEAK_KEY, BAD_CERTIFICATE, .algorithm = "secp256k1"),
	LEAF("curve spelled out", SVID_WEAK_KEY, BAD_CERTIFICATE, .algorithm = "explicit"),
	LEAF("Ed25519", SVID_WEAK_KEY, BAD_CERTIFICATE, .algorithm = "ED25519"),
	LEAF("X25519", SVID_WEAK_KEY, BAD_CERTIFICATE, .algorithm = "X25519"),
	LEAF("DSA", SVID_WEAK_KEY, BAD_CERTIFICATE, .algorithm = "DSA"),
	LEAF("signed with SHA-1", WEAK_SIGNATURE, BAD_CERTIFICATE, .digest = "SHA1"),
	/* usages */
	LEAF("is a CA", SVID_IS_CA, BAD_CERTIFICATE, .constraints = "critical,CA:TRUE"),
	LEAF("no key usage", SVID_KEY_USAGE, UNSUPPORTED, .key_usage = ""),
	LEAF("no digitalSignature", SVID_KEY_USAGE, UNSUPPORTED,
	     .key_usage = "critical,keyEncipherment"),
	LEAF("keyCertSign", SVID_KEY_USAGE, UNSUPPORTED,
	     .key_usage = "critical,digitalSignature,keyCertSign"),
	LEAF("cRLSign", SVID_KEY_USAGE, UNSUPPORTED,
	     .key_usage = "critical,digitalSignature,cRLSign"),
	LEAF("for code only", SVID_EXTENDED_KEY_USAGE, UNSUPPORTED,
	     .extended_key_usage = "codeSigning"),
	LEAF("for any use, none named", SVID_EXTENDED_KEY_USAGE, UNSUPPORTED,
	     .extended_key_usage = "anyExtendedKeyUsage"),
	{ .name = "for servers only",
	  .leaf = { .id = BAD_ROLE_ID, .extended_key_usage = "serverAuth" },
	  REASON(SVID_EXTENDED_KEY_USAGE),
	  UNSUPPORTED,
	  .only_role = KMTLS_ROLE_CLIENT },
	{ .name = "for clients only",
	  .leaf = { .id = BAD_ROLE_ID, .extended_key_usage = "clientAuth" },
	  REASON(SVID_EXTENDED_KEY_USAGE),
	  UNSUPPORTED,
	  .only_role = KMTLS_ROLE_SERVER },
	/* fields and extensions */
	LEAF("unknown critical extension", CRITICAL_EXTENSION, BAD_CERTIFICATE, .change = critical),
	LEAF("SAN twice", SVID_INVALID, BAD_CERTIFICATE, .change = twice_names),
	LEAF("key usage twice", SVID_INVALID, BAD_CERTIFICATE, .change = twice_usage),
	LEAF("unknown extension twice", SVID_INVALID, BAD_CERTIFICATE, .change = twice_unknown),
	LEAF("65 extensions", SVID_INVALID, BAD_CERTIFICATE, .change = many_extensions),
	LEAF("basicConstraints cannot be parsed", SVID_INVALID, BAD_CERTIFICATE, .constraints = "",
	     .change = bad_constraints),
	LEAF("negative serial number", SVID_INVALID, BAD_CERTIFICATE, .change = negative_serial),
	LEAF("serial number 0", SVID_INVALID, BAD_CERTIFICATE, .change = zero_serial),
	LEAF("serial number of 21 bytes", SVID_INVALID, BAD_CERTIFICATE, .change = long_serial),
	DER("version 2 with extensions", version_2, SVID_INVALID, BAD_CERTIFICATE),
	LEAF("20000 bytes", CHAIN_TOO_LARGE, BAD_CERTIFICATE, .change = huge),
	/* what cannot be parsed */
	DER("garbage", garbage, SVID_MALFORMED, UNPARSED_OR_BAD),
	DER("truncated", truncated, SVID_MALFORMED, UNPARSED_OR_BAD),
	DER("a byte behind", trailing, SVID_MALFORMED, UNPARSED),
	LEAF("a time that is none", SVID_INVALID, BAD_CERTIFICATE, .change = bad_time),
};

const size_t bad_certificates_count = sizeof(bad_certificates) / sizeof(bad_certificates[0]);
