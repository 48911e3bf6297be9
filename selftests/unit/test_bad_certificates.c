/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_bad_certificates.c - a peer that is not ours (plain OpenSSL contexts, any bytes it likes for
 * certificates) against a server and a client of ours: each rule of X.509-SVID and RFC 5280 broken
 * once, the reason we give, and the alert that the peer gets to see. Two trust domains are
 * federated: example.org, our own, and partner.org.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/asn1t.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "bad_certificates.h"
#include "certificates.h"
#include "reason.h"
#include "svid.h"
#include "tls.h"

#define PRESENTED_MAX 16

static struct test_certificate root, partner_root, other_root, client_leaf, server_leaf;
static struct kmtls_svid *client_svid, *server_svid;

/* ---- what the peer presents -------------------------------------------------------------- */

/* libssl is handed proper certificates, and finds these bytes when it writes them out. */
static struct {
	X509 *place;
	unsigned char *bytes;
	int length;
} presented[PRESENTED_MAX];
static int presented_count;

/* In the place of libcrypto's: libssl finds this one. */
int i2d_X509(const X509 *certificate, unsigned char **out)
{
	for (int i = 0; i < presented_count; i++) {
		if (presented[i].place != certificate)
			continue;
		if (out) {
			memcpy(*out, presented[i].bytes, (size_t)presented[i].length);
			*out += presented[i].length;
		}
		return presented[i].length;
	}
	return ASN1_item_i2d((const ASN1_VALUE *)certificate, out, ASN1_ITEM_rptr(X509));
}

static void present(X509 *certificate)
{
	assert_true(presented_count < PRESENTED_MAX);
	presented[presented_count].bytes = NULL;
	presented[presented_count].length =
		ASN1_item_i2d((const ASN1_VALUE *)certificate, &presented[presented_count].bytes,
			      ASN1_ITEM_rptr(X509));
	assert_true(presented[presented_count].length > 0);
	presented_count++;
}

static void forget(void)
{
	while (presented_count)
		OPENSSL_free(presented[--presented_count].bytes);
}

static struct test_certificate *issuer_of(const struct bad_certificate *row)
{
	switch (row->root) {
	case BAD_ROOT_PARTNER:
		return &partner_root;
	case BAD_ROOT_OTHER:
		return &other_root;
	default:
		return &root;
	}
}

/* Leaf first, then the CAs, the nearest first. */
static void make_chain(const struct bad_certificate *row, const char *role_id)
{
	struct test_certificate cas[BAD_CAS_MAX] = { { 0 } }, leaf, *issuer = issuer_of(row);
	struct test_spec spec = row->leaf;
	int count = 0;

	if (spec.id && !strcmp(spec.id, BAD_ROLE_ID))
		spec.id = role_id;
	for (; count < BAD_CAS_MAX && row->cas[count]; count++) {
		cas[count] = test_certificate_make(row->cas[count], issuer);
		issuer = &cas[count];
	}
	leaf = test_certificate_make(&spec, row->self_signed ? NULL : issuer);
	present(leaf.certificate);
	for (int i = count; i > 0 && !row->no_chain; i--)
		present(cas[i - 1].certificate);
	for (unsigned i = 0; i < row->junk; i++)
		present(root.certificate);
	for (int i = 0; i < count; i++)
		test_certificate_free(&cas[i]);
	test_certificate_free(&leaf);
	if (row->garble)
		row->garble(&presented[0].bytes, &presented[0].length);
}

/* ---- the peer ------------------------------------------------------------------------------ */

static int select_first(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_length,
			const unsigned char *list, unsigned length, void *unused)
{
	*ret_name = list + 1;
	*ret_length = list[0];
	return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *plain_context(enum kmtls_role role, const struct test_certificate *good)
{
	static const unsigned char alpn[] = "\7" KMTLS_ALPN;
	bool server = role == KMTLS_ROLE_SERVER;
	SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

	SSL_CTX_set_security_level(context, 0);
	assert_int_equal(SSL_CTX_use_certificate(context, good->certificate), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(context, good->key), 1);
	presented[0].place = good->certificate;
	for (int i = 1; i < presented_count; i++) {
		presented[i].place = X509_dup(root.certificate);
		assert_int_equal(SSL_CTX_add0_chain_cert(context, presented[i].place), 1);
	}
	if (server)
		SSL_CTX_set_alpn_select_cb(context, select_first, NULL);
	else
		SSL_CTX_set_alpn_protos(context, alpn, sizeof(alpn) - 1);
	return context;
}

/* ---- the rows ------------------------------------------------------------------------------ */

static void check(const struct bad_certificate *row, const struct test_side *ours,
		  const struct test_side *peer)
{
	bool to_server = SSL_is_server(peer->ssl) && row->alert_to_server;
	char alert[32];

	snprintf(alert, sizeof(alert), "alert %d ", to_server ? row->alert_to_server : row->alert);
	if (ours->reason != row->reason || strncmp(peer->detail, alert, strlen(alert)) != 0)
		print_message("# got %s (%s), the peer: %s; wanted %s, %s\n",
			      kmtls_reason_name(ours->reason), ours->detail, peer->detail,
			      kmtls_reason_name(row->reason), alert);
	assert_int_equal(ours->reason, row->reason);
	assert_false(ours->ready);
	assert_true(ours->detail[0]);
	if (row->detail && !strstr(ours->detail, row->detail))
		print_message("# got the detail: %s\n", ours->detail);
	if (row->detail)
		assert_non_null(strstr(ours->detail, row->detail));
	assert_int_equal(strncmp(peer->detail, alert, strlen(alert)), 0);
}

static void run(const struct bad_certificate *row, enum kmtls_role bad_role)
{
	bool bad_server = bad_role == KMTLS_ROLE_SERVER;
	const struct test_certificate *good = bad_server ? &server_leaf : &client_leaf;
	struct test_side client, server;
	SSL_CTX *plain;

	forget(); /* of a row that failed */
	make_chain(row, bad_server ? TEST_SERVER_ID : TEST_CLIENT_ID);
	plain = plain_context(bad_role, good);
	test_sides_open(&client, bad_server ? client_svid->client : plain, &server,
			bad_server ? plain : server_svid->server);
	test_sides_run(&client, &server);
	check(row, bad_server ? &client : &server, bad_server ? &server : &client);
	test_side_close(&client);
	test_side_close(&server);
	SSL_CTX_free(plain);
	forget();
}

static void bad_server(void **state)
{
	run(*state, KMTLS_ROLE_SERVER);
}

static void bad_client(void **state)
{
	run(*state, KMTLS_ROLE_CLIENT);
}

/* The way they are presented is not what makes them bad. */
static void good_peers(void **state)
{
	static const struct bad_certificate good = { .leaf = { .id = BAD_ROLE_ID } };
	struct test_side client, server;
	SSL_CTX *plain;

	make_chain(&good, TEST_CLIENT_ID);
	/* The key must be that of the certificate here. */
	forget();
	present(client_leaf.certificate);
	plain = plain_context(KMTLS_ROLE_CLIENT, &client_leaf);
	test_sides_open(&client, plain, &server, server_svid->server);
	for (int i = 0; i < 12 && !server.ready; i++) {
		SSL_do_handshake(client.ssl);
		ERR_clear_error();
		test_side_step(&server);
	}
	assert_true(server.ready);
	assert_string_equal(server.verify.peer_id, TEST_CLIENT_ID);
	test_side_close(&client);
	test_side_close(&server);
	SSL_CTX_free(plain);
	forget();
}

/* ---- groups -------------------------------------------------------------------------------- */

static struct kmtls_svid *svid_of(const struct test_certificate *leaf)
{
	struct kmtls_trust_bundle bundles[2] = {
		{ TEST_TRUST_DOMAIN, sk_X509_new_null() },
		{ BAD_PARTNER, sk_X509_new_null() },
	};
	struct kmtls_trust *trust = NULL;
	struct kmtls_svid *svid = NULL;
	const char *why;

	sk_X509_push(bundles[0].roots, root.certificate);
	sk_X509_push(bundles[1].roots, partner_root.certificate);
	assert_int_equal(kmtls_trust_new(bundles, 2, &trust, &why), 0);
	assert_int_equal(
		kmtls_svid_new_federated(leaf->certificate, NULL, leaf->key, trust, &svid, &why),
		0);
	kmtls_trust_put(trust);
	sk_X509_free(bundles[0].roots);
	sk_X509_free(bundles[1].roots);
	return svid;
}

static int setup(void **state)
{
	struct test_spec spec = test_root_spec;

	bad_certificates_prepare();
	test_trio_make(&root, &client_leaf, &server_leaf);
	spec.name = "other root";
	other_root = test_certificate_make(&spec, NULL);
	spec.id = "spiffe://" BAD_PARTNER;
	spec.name = "partner root";
	partner_root = test_certificate_make(&spec, NULL);
	client_svid = svid_of(&client_leaf);
	server_svid = svid_of(&server_leaf);
	return 0;
}

static int teardown(void **state)
{
	kmtls_svid_put(client_svid);
	kmtls_svid_put(server_svid);
	test_trio_free(&root, &client_leaf, &server_leaf);
	test_certificate_free(&partner_root);
	test_certificate_free(&other_root);
	return 0;
}

int main(void)
{
	size_t rows = bad_certificates_count, count = 0;
	struct CMUnitTest *tests = calloc(2 * rows + 1, sizeof(*tests));
	char(*names)[96] = calloc(2 * rows, sizeof(*names));
	int failed;

	for (size_t i = 0; i < 2 * rows; i++) {
		const struct bad_certificate *row = &bad_certificates[i / 2];
		bool server = i % 2;

		if (row->only_role && (row->only_role == KMTLS_ROLE_SERVER) != server)
			continue;
		snprintf(names[i], sizeof(names[i]), "%s: %s", server ? "server" : "client",
			 row->name);
		tests[count++] = (struct CMUnitTest){ names[i], server ? bad_server : bad_client,
						      NULL, NULL, (void *)row };
	}
	tests[count++] = (struct CMUnitTest)cmocka_unit_test(good_peers);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = _cmocka_run_group_tests("bad_certificates", tests, count, setup, teardown);
	free(tests);
	free(names);
	return failed;
}
