/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certificates.h - certificates for tests, right by default and wrong where asked; and a
 * TLS handshake in memory between two sides.
 */
#ifndef KMTLS_TEST_CERTIFICATES_H
#define KMTLS_TEST_CERTIFICATES_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "key_schedule.h"
#include "trust.h"
#include "verify.h"

#define TEST_TRUST_DOMAIN "example.org"
#define TEST_CLIENT_ID "spiffe://example.org/client"
#define TEST_SERVER_ID "spiffe://example.org/server"

/* What to make; all zero with an id is a proper SVID. Texts are in OpenSSL's syntax. */
struct test_spec {
	const char *id; /* URI SAN; NULL: none */
	size_t id_length; /* 0: strlen(id) */
	const char *second_id; /* another URI SAN */
	const char *dns; /* a DNS SAN beside */
	const char *constraints; /* NULL: critical,CA:FALSE; "": no extension */
	const char *key_usage; /* NULL: critical,digitalSignature; "": no extension */
	const char *extended_key_usage; /* NULL: serverAuth,clientAuth; "": no extension */
	const char *name_constraints; /* NULL: no extension */
	/* NULL: P-256; a curve's name, RSA and its bits, ED25519, X25519, DSA; "explicit": P-256 with
	 * its parameters spelled out; "RSA-huge": a public key of 16384 bits, which signs nothing */
	const char *algorithm;
	const char *digest; /* of its signature; NULL: SHA256 */
	void (*change)(X509 *certificate); /* before it is signed */
	long not_before, not_after; /* seconds from now; 0: -300 and +3600 */
	const char *name; /* CN; NULL: test */
	bool no_key_ids; /* neither subject nor authority key identifier */
};

struct test_certificate {
	X509 *certificate;
	EVP_PKEY *key;
};

extern const struct test_spec test_root_spec, test_intermediate_spec;

/* issuer NULL: self-signed. Fails the test if OpenSSL does not like it. */
struct test_certificate test_certificate_make(const struct test_spec *spec,
					      const struct test_certificate *issuer);
void test_certificate_free(struct test_certificate *certificate);
/* What most tests have: a root, and what a client and a server present directly below it. */
void test_trio_make(struct test_certificate *root, struct test_certificate *client_leaf,
		    struct test_certificate *server_leaf);
void test_trio_free(struct test_certificate *root, struct test_certificate *client_leaf,
		    struct test_certificate *server_leaf);

/* One bundle of one root. */
struct kmtls_trust *test_trust_make(const char *trust_domain, X509 *root);

/* A context of tls.h with these credentials, right or wrong. intermediate, root may be NULL. */
SSL_CTX *test_context_make(enum kmtls_role role, const struct test_certificate *leaf,
			   X509 *intermediate, X509 *root);

/* ---- handshakes ---------------------------------------------------------------------- */

struct test_side {
	SSL *ssl;
	struct kmtls_verify verify;
	struct kmtls_traffic_secrets secrets;
	bool ready; /* the handshake is done; client: and the ticket came */
	bool ticket_sent; /* server */
	enum kmtls_reason reason; /* when it failed */
	char detail[KMTLS_VERIFY_DETAIL];
};

/* Two sides joined by a pair of BIOs. Contexts are not consumed. */
void test_sides_open(struct test_side *client, SSL_CTX *client_context, struct test_side *server,
		     SSL_CTX *server_context);
/* Until both are ready, one failed and the other noticed, or nothing moves any more. */
void test_sides_run(struct test_side *client, struct test_side *server);
void test_side_close(struct test_side *side);
/* One side alone, as far as it gets. */
void test_side_step(struct test_side *side);

#endif
