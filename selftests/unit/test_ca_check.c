/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ca_check.c - every rule that a CA given by somebody can break, with the sentence that must
 * come of it, file and certificate named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "ca_check.h"
#include "pem_file.h"
#include "pki.h"

static void path_lengths(void **state)
{
	static const struct {
		const char *root, *i, *j;
		const char *why; /* NULL: right */
	} table[] = {
		{ "", "", "", NULL },
		{ ",pathlen:2", ",pathlen:1", ",pathlen:0", NULL },
		{ ",pathlen:3", ",pathlen:2", ",pathlen:1", NULL },
		{ ",pathlen:1", "", "",
		  "%b: CN=root: pathlen:1 leaves no room for the 2 CAs below it" },
		{ ",pathlen:0", "", "",
		  "%b: CN=root: pathlen:0 leaves no room for the 2 CAs below it" },
		{ ",pathlen:2", ",pathlen:0", "",
		  "%c: CN=i: pathlen:0 leaves no room for the 1 CA below it" },
		{ "", ",pathlen:0", ",pathlen:0",
		  "%c: CN=i: pathlen:0 leaves no room for the 1 CA below it" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char constraints[3][40];
		struct pki pki;

		snprintf(constraints[0], 40, "critical,CA:TRUE%s", table[i].root);
		snprintf(constraints[1], 40, "critical,CA:TRUE%s", table[i].i);
		snprintf(constraints[2], 40, "critical,CA:TRUE%s", table[i].j);
		pki_plan(&pki);
		for (int ca = ROOT; ca <= J; ca++)
			pki.specs[ca].constraints = constraints[ca];
		pki_make(&pki);
		pki_write(&pki, "ji", "J", "r");
		if (table[i].why)
			pki_must_refuse(table[i].why);
		else
			kmtls_identity_close(pki_must_open());
		pki_free(&pki);
	}
}

/* pathlen:0 may issue leaves: as an intermediate, and as a root. */
static void path_length_of_the_issuer(void **state)
{
	struct pki pki;

	pki_plan(&pki);
	pki.specs[ROOT].constraints = "critical,CA:TRUE,pathlen:1";
	pki.specs[I].constraints = "critical,CA:TRUE,pathlen:0";
	pki_make(&pki);
	pki_write(&pki, "i", "I", "r");
	kmtls_identity_close(pki_must_open());
	pki_free(&pki);
	pki_plan(&pki);
	pki.specs[ROOT].constraints = "critical,CA:TRUE,pathlen:0";
	pki_make(&pki);
	pki_write(&pki, "r", "R", NULL);
	kmtls_identity_close(pki_must_open());
	pki_free(&pki);
}

/* One thing wrong with one CA of a chain of two below the root. */
static void unfit(void **state)
{
	static const struct {
		int ca;
		const char *constraints, *key_usage, *extended, *name_constraints, *algorithm, *id;
		long not_before, not_after;
		const char *why;
	} table[] = {
		{ .ca = J,
		  .constraints = "critical,CA:FALSE",
		  .why = "%c: CN=j: is not a CA (basicConstraints CA:TRUE)" },
		{ .ca = J,
		  .constraints = "",
		  .why = "%c: CN=j: is not a CA (basicConstraints CA:TRUE)" },
		{ .ca = I,
		  .constraints = "critical,CA:FALSE",
		  .why = "%c: CN=i: is not a CA (basicConstraints CA:TRUE)" },
		{ .ca = ROOT,
		  .constraints = "critical,CA:FALSE",
		  .why = "%b: CN=root: is not a CA (basicConstraints CA:TRUE)" },
		{ .ca = J,
		  .key_usage = "critical,cRLSign",
		  .why = "%c: CN=j: the key usage lacks keyCertSign" },
		{ .ca = J, .key_usage = "", .why = "%c: CN=j: the key usage lacks keyCertSign" },
		{ .ca = I,
		  .key_usage = "critical,digitalSignature",
		  .why = "%c: CN=i: the key usage lacks keyCertSign" },
		{ .ca = ROOT,
		  .key_usage = "critical,cRLSign",
		  .why = "%b: CN=root: the key usage lacks keyCertSign" },
		{ .ca = J,
		  .key_usage = "critical,keyCertSign,keyAgreement",
		  .why = "%c: CN=j: the key usage has keyAgreement, which a CA must not have" },
		{ .ca = ROOT,
		  .key_usage = "critical,keyCertSign,keyAgreement",
		  .why = "%b: CN=root: the key usage has keyAgreement, which a CA must not have" },
		{ .ca = J, .not_after = -1, .why = "%c: CN=j: has expired" },
		{ .ca = I, .not_after = -1, .why = "%c: CN=i: has expired" },
		{ .ca = ROOT, .not_after = -1, .why = "%b: CN=root: has expired" },
		{ .ca = J, .not_before = 600, .why = "%c: CN=j: is not valid yet" },
		{ .ca = I, .not_before = 600, .why = "%c: CN=i: is not valid yet" },
		{ .ca = ROOT, .not_before = 600, .why = "%b: CN=root: is not valid yet" },
		{ .ca = J,
		  .algorithm = "RSA1024",
		  .why = "%c: CN=j: the key is not EC P-256 or P-384, nor RSA of 2048 bits or "
			 "more" },
		{ .ca = I,
		  .algorithm = "P-521",
		  .why = "%c: CN=i: the key is not EC P-256 or P-384, nor RSA of 2048 bits or "
			 "more" },
		{ .ca = J,
		  .algorithm = "ED25519",
		  .why = "%c: CN=j: the key is not EC P-256 or P-384, nor RSA of 2048 bits or "
			 "more" },
		{ .ca = ROOT,
		  .algorithm = "RSA1024",
		  .why = "%b: CN=root: the key is not EC P-256 or P-384, nor RSA of 2048 bits or "
			 "more" },
		{ .ca = J,
		  .id = "spiffe://elsewhere.org",
		  .why = "%c: CN=j: the URI SAN is of another trust domain" },
		{ .ca = ROOT,
		  .id = "spiffe://example.org.evil",
		  .why = "%b: CN=root: the URI SAN is of another trust domain" },
		{ .ca = J,
		  .id = "spiffe://example.org/ca",
		  .why = "%c: CN=j: the SPIFFE ID of a CA must not have a path" },
		{ .ca = J,
		  .id = "SPIFFE://Example.org",
		  .why = "%c: CN=j: the URI SAN is not a SPIFFE ID" },
		{ .ca = I,
		  .name_constraints = "critical,permitted;URI:elsewhere.org",
		  .why = "%c: CN=j: the name constraints exclude SVIDs of our trust domain" },
		{ .ca = J,
		  .name_constraints = "critical,excluded;URI:example.org",
		  .why = "%c: CN=j: the name constraints exclude SVIDs of our trust domain" },
		{ .ca = J,
		  .extended = "clientAuth",
		  .why = "%c: CN=j: the extended key usage does not allow SVIDs (serverAuth and "
			 "clientAuth)" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct test_spec *spec;
		struct pki pki;

		pki_plan(&pki);
		spec = &pki.specs[table[i].ca];
		if (table[i].constraints)
			spec->constraints = table[i].constraints;
		if (table[i].key_usage)
			spec->key_usage = table[i].key_usage;
		if (table[i].extended)
			spec->extended_key_usage = table[i].extended;
		if (table[i].id)
			spec->id = table[i].id;
		if (table[i].not_after)
			spec->not_after = table[i].not_after;
		spec->name_constraints = table[i].name_constraints;
		spec->algorithm = table[i].algorithm;
		spec->not_before = table[i].not_before;
		pki_make(&pki);
		pki_write(&pki, "ji", "J", "r");
		pki_must_refuse(table[i].why);
		pki_free(&pki);
	}
}

/* What is odd and does no harm. */
static char warnings[4][KMTLS_IDENTITY_WHY];
static unsigned warned;

static void collect(const char *sentence)
{
	if (warned < 4)
		snprintf(warnings[warned], sizeof(warnings[0]), "%s", sentence);
	warned++;
}

static void odd(void **state)
{
	struct kmtls_ca_check check = {
		.chain_name = "chain",
		.key_name = "key",
		.bundle_name = "bundle",
		.trust_domain = TEST_TRUST_DOMAIN,
		.warn = collect,
	};
	struct kmtls_ca ca = {};
	struct pki pki;

	pki_plan(&pki);
	pki.specs[I].key_usage = "critical,keyCertSign,digitalSignature";
	pki.specs[I].id = "https://example.org/ca"; /* no SPIFFE ID, none of our business */
	pki.specs[ROOT].key_usage = "critical,keyCertSign,keyEncipherment";
	pki.specs[OTHER].not_after = -1;
	pki_make(&pki);
	pki_write(&pki, "i", "I", "ro");
	assert_int_equal(kmtls_pem_certificates(&(struct kmtls_pem_source){ .path = pki_cert_file },
						&ca.chain, pki_why),
			 0);
	assert_int_equal(
		kmtls_pem_key(&(struct kmtls_pem_source){ .path = pki_key_file }, &ca.key, pki_why),
		0);
	assert_int_equal(
		kmtls_pem_certificates(&(struct kmtls_pem_source){ .path = pki_bundle_file },
				       &ca.roots, pki_why),
		0);
	warned = 0;
	assert_int_equal(kmtls_ca_check(&check, &ca, pki_why), 0);
	assert_int_equal(warned, 3);
	assert_string_equal(warnings[0], "chain: CN=i: the key usage has digitalSignature or "
					 "keyEncipherment, which a CA should not have");
	assert_string_equal(warnings[1], "bundle: CN=root: the key usage has digitalSignature or "
					 "keyEncipherment, which a CA should not have");
	assert_string_equal(warnings[2], "bundle: CN=other: has expired");
	kmtls_ca_clear(&ca);
	pki_free(&pki);
}

static void contents(void **state)
{
	static const struct {
		const char *cert, *key, *bundle, *why;
	} table[] = {
		{ "", "I", "r", "%c: is empty" },
		{ "i", "", "r", "%k: is empty" },
		{ "i", "I", "", "%b: is empty" },
		{ "g", "I", "r", "%c: holds no certificate in PEM" },
		{ "i", "g", "r", "%k: holds no key in PEM" },
		{ "i", "I", "g", "%b: holds no certificate in PEM" },
		{ "ix", "I", "r", "%c: holds malformed PEM" },
		{ "m", "I", "r", "%c: holds a malformed certificate" },
		{ "iI", "I", "r", "%c: holds a private key, and must hold certificates only" },
		{ "i", "I", "rR", "%b: holds a private key, and must hold certificates only" },
		{ "i", "IR", "r",
		  "%k: holds more than one key, and must hold that of the nearest CA only" },
		{ "i", "i", "r",
		  "%k: holds a certificate, and must hold the key only (are the two swapped?)" },
		{ "I", "i", "r", "%c: holds a private key, and must hold certificates only" },
		{ "i", "e", "r", "%k: holds an encrypted key" },
		/* The right things in the wrong places. */
		{ "i", "R", "r", "%k: is not the key of CN=i, the first certificate of %c" },
		{ "ji", "I", "r",
		  "%k: is the key of CN=i, not of CN=j, the nearest CA, which is first" },
		{ "ij", "J", "r",
		  "%c: CN=i: stands before CN=j, which it has issued (nearest CA first: are the "
		  "two swapped?)" },
		{ "ij", "I", "r",
		  "%c: CN=i: stands before CN=j, which it has issued (nearest CA first: are the "
		  "two swapped?)" },
		{ "ki", "K", "r",
		  "%c: CN=k: was not issued by CN=i, which follows it (nearest CA first)" },
		{ "kij", "K", "r",
		  "%c: CN=k: is in the wrong place: its issuer CN=j must follow it (nearest CA "
		  "first)" },
		{ "j", "J", "r",
		  "%c: CN=j: does not end in the bundle: no root there has issued it" },
		{ "i", "I", "o",
		  "%c: CN=i: does not end in the bundle: no root there has issued it" },
		{ "r", "R", "o", "%c: CN=root: is a root that is not in the bundle" },
		{ "ir", "I", "o", "%c: CN=root: is a root that is not in the bundle" },
		{ "ji", "J", "i", "%b: CN=i: is not self-signed: a bundle holds roots" },
		{ "i", "I", NULL,
		  "%c: CN=i: is not self-signed: an intermediate needs a bundle with its root" },
		{ "ir", "I", NULL,
		  "%c: CN=i: is one of several certificates: a chain needs a bundle with its "
		  "root" },
		{ "iiiiiiiii", "I", "r",
		  "%c: CN=i: is the first of 9 certificates, a chain has at most 8" },
	};
	struct pki pki;

	pki_plan(&pki);
	pki_make(&pki);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char wanted[KMTLS_IDENTITY_WHY];
		const char *file = strstr(table[i].why + 2, "%c");

		pki_write(&pki, table[i].cert, table[i].key, table[i].bundle);
		snprintf(wanted, sizeof(wanted), "%.*s%s",
			 file ? (int)(file - table[i].why) : (int)strlen(table[i].why),
			 table[i].why, file ? pki_cert_file : "");
		pki_must_refuse(wanted);
	}
	pki_free(&pki);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, pki_setup, pki_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(path_lengths), TEST(path_length_of_the_issuer), TEST(contents), TEST(unfit),
		TEST(odd),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("ca_check", tests, pki_setup_group, pki_teardown_group);
}
