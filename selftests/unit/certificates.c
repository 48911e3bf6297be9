/* SPDX-License-Identifier: Apache-2.0 */
/* certificates.c - see certificates.h. */
/* RSA_set0_key(): a key without a private one is nothing the newer calls make. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "certificates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/dsa.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "tls.h"

#define BIO_SIZE 65536 /* more than a whole flight, so that one side can run ahead */

const struct test_spec test_root_spec = {
	.id = "spiffe://" TEST_TRUST_DOMAIN,
	.constraints = "critical,CA:TRUE",
	.key_usage = "critical,keyCertSign,cRLSign",
	.extended_key_usage = "",
	.not_after = 7200,
	.name = "root",
};
const struct test_spec test_intermediate_spec = {
	.constraints = "critical,CA:TRUE",
	.key_usage = "critical,keyCertSign,cRLSign",
	.extended_key_usage = "",
	.name = "intermediate",
};

static EVP_PKEY *make_explicit_key(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	assert_int_equal(EVP_PKEY_set_utf8_string_param(key, OSSL_PKEY_PARAM_EC_ENCODING,
							OSSL_PKEY_EC_ENCODING_EXPLICIT),
			 1);
	return key;
}

/* Short, so that it does not take long. */
static EVP_PKEY *make_dsa_key(void)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "DSA", NULL);
	EVP_PKEY *parameters = NULL, *key = NULL;

	assert_int_equal(EVP_PKEY_paramgen_init(context), 1);
	assert_int_equal(EVP_PKEY_CTX_set_dsa_paramgen_bits(context, 1024), 1);
	assert_int_equal(EVP_PKEY_paramgen(context, &parameters), 1);
	EVP_PKEY_CTX_free(context);
	context = EVP_PKEY_CTX_new_from_pkey(NULL, parameters, NULL);
	assert_int_equal(EVP_PKEY_keygen_init(context), 1);
	assert_int_equal(EVP_PKEY_keygen(context, &key), 1);
	EVP_PKEY_CTX_free(context);
	EVP_PKEY_free(parameters);
	return key;
}

/* Its modulus is no product of anything: nobody gets as far as to use it. */
static EVP_PKEY *make_huge_key(void)
{
	BIGNUM *modulus = BN_new();
	RSA *rsa = RSA_new();
	EVP_PKEY *key = EVP_PKEY_new();
	BIGNUM *exponent = BN_new();

	assert_int_equal(BN_rand(modulus, 16384, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ODD), 1);
	assert_int_equal(BN_set_word(exponent, 65537), 1);
	assert_int_equal(RSA_set0_key(rsa, modulus, exponent, NULL), 1);
	assert_int_equal(EVP_PKEY_assign_RSA(key, rsa), 1);
	return key;
}

static EVP_PKEY *make_key(const char *algorithm)
{
	if (!algorithm)
		return EVP_EC_gen("P-256");
	if (!strcmp(algorithm, "explicit"))
		return make_explicit_key();
	if (!strcmp(algorithm, "DSA"))
		return make_dsa_key();
	if (!strcmp(algorithm, "RSA-huge"))
		return make_huge_key();
	if (!strncmp(algorithm, "RSA", 3))
		return EVP_RSA_gen(strtoul(algorithm + 3, NULL, 10));
	if (algorithm[0] == 'P' || algorithm[0] == 's')
		return EVP_EC_gen(algorithm);
	return EVP_PKEY_Q_keygen(NULL, NULL, algorithm);
}

static void push_name(GENERAL_NAMES *names, int type, const char *text, size_t length)
{
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_IA5STRING *string = ASN1_IA5STRING_new();

	assert_true(ASN1_STRING_set(string, text, length));
	GENERAL_NAME_set0_value(name, type, string);
	assert_true(sk_GENERAL_NAME_push(names, name) > 0);
}

static void add_names(X509 *certificate, const struct test_spec *spec)
{
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();

	if (spec->dns)
		push_name(names, GEN_DNS, spec->dns, strlen(spec->dns));
	if (spec->id)
		push_name(names, GEN_URI, spec->id,
			  spec->id_length ? spec->id_length : strlen(spec->id));
	if (spec->second_id)
		push_name(names, GEN_URI, spec->second_id, strlen(spec->second_id));
	if (sk_GENERAL_NAME_num(names))
		assert_int_equal(X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, 0),
				 1);
	GENERAL_NAMES_free(names);
}

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;

	if (!*value)
		return;
	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	assert_non_null(extension);
	assert_true(X509_add_ext(certificate, extension, -1));
	X509_EXTENSION_free(extension);
}

static const char *or_default(const char *value, const char *standard)
{
	return value ? value : standard;
}

static void add_extensions(X509 *certificate, X509 *issuer, const struct test_spec *spec)
{
	add_names(certificate, spec);
	add_extension(certificate, issuer, NID_basic_constraints,
		      or_default(spec->constraints, "critical,CA:FALSE"));
	add_extension(certificate, issuer, NID_key_usage,
		      or_default(spec->key_usage, "critical,digitalSignature"));
	add_extension(certificate, issuer, NID_ext_key_usage,
		      or_default(spec->extended_key_usage, "serverAuth,clientAuth"));
	add_extension(certificate, issuer, NID_name_constraints,
		      or_default(spec->name_constraints, ""));
	if (spec->no_key_ids)
		return;
	add_extension(certificate, issuer, NID_subject_key_identifier, "hash");
	add_extension(certificate, issuer, NID_authority_key_identifier, "keyid:always");
}

struct test_certificate test_certificate_make(const struct test_spec *spec,
					      const struct test_certificate *issuer)
{
	static long serial;
	struct test_certificate made = { X509_new(), make_key(spec->algorithm) };
	const char *name = or_default(spec->name, "test");
	time_t now = time(NULL);

	assert_non_null(made.certificate);
	assert_non_null(made.key);
	if (!issuer)
		issuer = &made;
	X509_set_version(made.certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), ++serial);
	ASN1_TIME_set(X509_getm_notBefore(made.certificate),
		      now + (spec->not_before ? spec->not_before : -300));
	ASN1_TIME_set(X509_getm_notAfter(made.certificate),
		      now + (spec->not_after ? spec->not_after : 3600));
	X509_NAME_add_entry_by_txt(X509_get_subject_name(made.certificate), "CN", MBSTRING_ASC,
				   (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(made.certificate, X509_get_subject_name(issuer->certificate));
	X509_set_pubkey(made.certificate, made.key);
	add_extensions(made.certificate, issuer->certificate, spec);
	if (spec->change)
		spec->change(made.certificate);
	assert_true(X509_sign(made.certificate, issuer->key,
			      EVP_PKEY_is_a(issuer->key, "ED25519")
				      ? NULL
				      : EVP_get_digestbyname(or_default(spec->digest, "SHA256"))));
	return made;
}

void test_certificate_free(struct test_certificate *certificate)
{
	X509_free(certificate->certificate);
	EVP_PKEY_free(certificate->key);
	*certificate = (struct test_certificate){ 0 };
}

void test_trio_make(struct test_certificate *root, struct test_certificate *client_leaf,
		    struct test_certificate *server_leaf)
{
	const struct test_spec client_spec = { .id = TEST_CLIENT_ID };
	const struct test_spec server_spec = { .id = TEST_SERVER_ID };

	*root = test_certificate_make(&test_root_spec, NULL);
	*client_leaf = test_certificate_make(&client_spec, root);
	*server_leaf = test_certificate_make(&server_spec, root);
}

void test_trio_free(struct test_certificate *root, struct test_certificate *client_leaf,
		    struct test_certificate *server_leaf)
{
	test_certificate_free(client_leaf);
	test_certificate_free(server_leaf);
	test_certificate_free(root);
}

static SSL_CTX *make_context(enum kmtls_role role, const struct test_certificate *leaf,
			     STACK_OF(X509) * chain, struct kmtls_trust *trust)
{
	struct kmtls_tls_credentials credentials = {
		.leaf = leaf->certificate,
		.chain = chain,
		.key = leaf->key,
		.trust = trust,
	};
	SSL_CTX *context = NULL;

	assert_int_equal(kmtls_tls_context_new(role, &credentials, &context), 0);
	return context;
}

/*
 * A key below the security level is refused by the context of the side that owns it; to
 * show it to the other side a good key of the same type goes in first.
 */
static SSL_CTX *make_weak_context(enum kmtls_role role, const struct test_certificate *leaf,
				  STACK_OF(X509) * chain, struct kmtls_trust *trust)
{
	bool is_rsa = EVP_PKEY_is_a(leaf->key, "RSA");
	const struct test_spec spec = { .id = "", .algorithm = is_rsa ? "RSA2048" : "P-256" };
	struct test_certificate good = test_certificate_make(&spec, NULL);
	SSL_CTX *context = make_context(role, &good, NULL, trust);

	SSL_CTX_set_security_level(context, 0);
	assert_int_equal(SSL_CTX_use_certificate(context, leaf->certificate), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(context, leaf->key), 1);
	assert_int_equal(SSL_CTX_set1_chain(context, chain), 1);
	test_certificate_free(&good);
	return context;
}

static bool is_weak(const EVP_PKEY *key)
{
	return EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) < 2048;
}

struct kmtls_trust *test_trust_make(const char *trust_domain, X509 *root)
{
	struct kmtls_trust_bundle bundle = { trust_domain, sk_X509_new_null() };
	struct kmtls_trust *trust = NULL;
	const char *why;

	assert_true(sk_X509_push(bundle.roots, root) > 0);
	assert_int_equal(kmtls_trust_new(&bundle, 1, &trust, &why), 0);
	sk_X509_free(bundle.roots);
	return trust;
}

SSL_CTX *test_context_make(enum kmtls_role role, const struct test_certificate *leaf,
			   X509 *intermediate, X509 *root)
{
	STACK_OF(X509) *chain = intermediate ? sk_X509_new_null() : NULL;
	/* Without a root it trusts nobody: the bundle is of a trust domain nobody is of. */
	struct kmtls_trust *trust =
		test_trust_make(root ? TEST_TRUST_DOMAIN : "none", root ? root : leaf->certificate);
	SSL_CTX *context;

	if (chain)
		sk_X509_push(chain, intermediate);
	if (is_weak(leaf->key) || (intermediate && is_weak(X509_get0_pubkey(intermediate))))
		context = make_weak_context(role, leaf, chain, trust);
	else
		context = make_context(role, leaf, chain, trust);
	kmtls_trust_put(trust);
	sk_X509_free(chain);
	return context;
}

/* ---- handshakes ---------------------------------------------------------------------- */

static void side_open(struct test_side *side, SSL_CTX *context, BIO *bio)
{
	memset(side, 0, sizeof(*side));
	side->ssl = SSL_new(context);
	assert_non_null(side->ssl);
	SSL_set_bio(side->ssl, bio, bio);
	assert_int_equal(kmtls_traffic_secrets_attach(side->ssl, &side->secrets), 0);
}

void test_sides_open(struct test_side *client, SSL_CTX *client_context, struct test_side *server,
		     SSL_CTX *server_context)
{
	BIO *client_bio, *server_bio;

	assert_int_equal(BIO_new_bio_pair(&client_bio, BIO_SIZE, &server_bio, BIO_SIZE), 1);
	side_open(client, client_context, client_bio);
	side_open(server, server_context, server_bio);
	SSL_set_connect_state(client->ssl);
	SSL_set_accept_state(server->ssl);
	client->verify.expected_id = TEST_SERVER_ID;
	client->verify.expected_match = KMTLS_MATCH_EXACT;
	assert_int_equal(kmtls_verify_attach(client->ssl, &client->verify), 0);
	assert_int_equal(kmtls_verify_attach(server->ssl, &server->verify), 0);
}

/* 1, or what SSL_get_error() says. */
static int advance(struct test_side *side)
{
	char byte;
	int got;

	ERR_clear_error();
	if (!SSL_is_init_finished(side->ssl) || SSL_is_server(side->ssl)) {
		got = kmtls_traffic_secrets_handshake(side->ssl);
		if (got != 1 || !SSL_is_server(side->ssl) || side->ticket_sent)
			return got == 1 ? 1 : -SSL_get_error(side->ssl, got);
		assert_int_equal(SSL_new_session_ticket(side->ssl), 1);
		side->ticket_sent = true;
		got = SSL_do_handshake(side->ssl);
		return got == 1 ? 1 : -SSL_get_error(side->ssl, got);
	}
	got = SSL_read(side->ssl, &byte, 1);
	assert_true(got <= 0);
	return -SSL_get_error(side->ssl, got);
}

void test_side_step(struct test_side *side)
{
	int result;

	if (side->ready || side->reason)
		return;
	result = advance(side);
	if (result == 1 || result == -SSL_ERROR_WANT_READ || result == -SSL_ERROR_WANT_WRITE) {
		side->ready = SSL_is_server(side->ssl) ? side->ticket_sent
						       : kmtls_tls_tickets_seen(side->ssl) == 1;
		return;
	}
	side->reason = kmtls_verify_handshake_error(side->ssl, &side->verify, side->detail);
	assert_int_not_equal(side->reason, KMTLS_REASON_NONE);
	assert_int_equal(ERR_peek_error(), 0);
}

void test_sides_run(struct test_side *client, struct test_side *server)
{
	int i;

	for (i = 0; i < 12; i++) {
		test_side_step(client);
		test_side_step(server);
	}
}

void test_side_close(struct test_side *side)
{
	SSL_free(side->ssl);
	kmtls_traffic_secrets_wipe(&side->secrets);
	side->ssl = NULL;
}
