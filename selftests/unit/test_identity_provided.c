/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_identity_provided.c - a CA that somebody else has made: every rule that it can break, with
 * the sentence that must come of it; chains that are right, and handshakes below them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ca_check.h"
#include "certificates.h"
#include "hash.h"
#include "identities.h"
#include "pem_file.h"
#include "secret_region.h"

static char directory[] = "/tmp/kmtls-provided-XXXXXX";
static char cert_file[64], key_file[64], bundle_file[64], why[KMTLS_IDENTITY_WHY];
static struct kmtls_config_backend backend;

static int setup_group(void **state)
{
	assert_non_null(mkdtemp(directory));
	snprintf(cert_file, sizeof(cert_file), "%s/cert.pem", directory);
	snprintf(key_file, sizeof(key_file), "%s/key.pem", directory);
	snprintf(bundle_file, sizeof(bundle_file), "%s/bundle.pem", directory);
	return 0;
}

static int teardown(void **state)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	while ((entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	return 0;
}

static int teardown_group(void **state)
{
	teardown(state);
	return rmdir(directory);
}

static int setup(void **state)
{
	backend = (struct kmtls_config_backend){
		.name = (char *)"pki",
		.type = KMTLS_BACKEND_PROVIDED,
		.key_type = KMTLS_KEY_EC_P256,
		.svid_ttl = 60,
		.cert_file = cert_file,
		.key_file = key_file,
		.bundle_file = bundle_file,
	};
	return 0;
}

/* ---- a PKI: root r, intermediates i (nearest the root), j, k ------------------------------- */

enum { ROOT, I, J, K, OTHER, CAS };

struct pki {
	struct test_spec specs[CAS];
	struct test_certificate cas[CAS];
};

static void pki_plan(struct pki *pki)
{
	static const char *const names[CAS] = { "root", "i", "j", "k", "other" };

	memset(pki, 0, sizeof(*pki));
	for (int i = 0; i < CAS; i++) {
		pki->specs[i] = i == ROOT || i == OTHER ? test_root_spec : test_intermediate_spec;
		pki->specs[i].name = names[i];
	}
}

static void pki_make(struct pki *pki)
{
	for (int i = 0; i < CAS; i++)
		pki->cas[i] = test_certificate_make(
			&pki->specs[i], i == ROOT || i == OTHER ? NULL : &pki->cas[i - 1]);
}

static void pki_free(struct pki *pki)
{
	for (int i = 0; i < CAS; i++)
		test_certificate_free(&pki->cas[i]);
}

/* Letters r, i, j, k, o: certificates; upper case: keys; e: an encrypted key, x: cut off, g: garbage. */
static void put(FILE *file, const struct pki *pki, char letter)
{
	static const char letters[] = "rijkoRIJKO";
	const char *place = strchr(letters, letter);
	int number = place ? (int)(place - letters) : 0;

	if (letter == 'e')
		PEM_write_PrivateKey(file, pki->cas[I].key, EVP_aes_128_cbc(),
				     (const unsigned char *)"secret", 6, NULL, NULL);
	else if (letter == 'x')
		fputs("-----BEGIN CERTIFICATE-----\nMIIB\n", file);
	else if (letter == 'm')
		fputs("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", file);
	else if (letter == 'g')
		fputs("garbage\n", file);
	else if (number < CAS)
		PEM_write_X509(file, pki->cas[number].certificate);
	else
		PEM_write_PrivateKey(file, pki->cas[number - CAS].key, NULL, NULL, 0, NULL, NULL);
}

static void write_parts(const char *path, const struct pki *pki, const char *parts)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	FILE *file = fdopen(fd, "w");

	assert_non_null(file);
	for (; *parts; parts++)
		put(file, pki, *parts);
	fclose(file);
}

/* NULL: no bundle. */
static void write_all(const struct pki *pki, const char *cert, const char *key, const char *bundle)
{
	write_parts(cert_file, pki, cert);
	write_parts(key_file, pki, key);
	if (bundle)
		write_parts(bundle_file, pki, bundle);
	backend.bundle_file = bundle ? bundle_file : NULL;
}

static int try_open(struct kmtls_secret_region *secrets, bool prefer_kept,
		    struct kmtls_identity **ret_identity)
{
	const struct kmtls_identity_options options = {
		.backend = &backend,
		.trust_domain = TEST_TRUST_DOMAIN,
		.secrets = secrets,
		.prefer_kept = prefer_kept,
	};

	why[0] = '\0';
	return kmtls_identity_provided_open(&options, ret_identity, why);
}

static struct kmtls_identity *must_open(void)
{
	struct kmtls_identity *identity = NULL;

	if (try_open(NULL, false, &identity))
		fail_msg("%s", why);
	return identity;
}

static void must_refuse(const char *wanted)
{
	struct kmtls_identity *identity = NULL;
	char expected[KMTLS_IDENTITY_WHY];
	int err = try_open(NULL, false, &identity);

	if (!err)
		fail_msg("accepted, and must not: %s", wanted);
	assert_null(identity);
	/* %c, %k, %b: the files. */
	if (wanted[0] == '%')
		snprintf(expected, sizeof(expected), "%s%s",
			 wanted[1] == 'c'   ? cert_file
			 : wanted[1] == 'k' ? key_file
					    : bundle_file,
			 wanted + 2);
	else
		snprintf(expected, sizeof(expected), "%s", wanted);
	assert_string_equal(why, expected);
}

/* Two sides whose trust is the source's own. */
static void assert_works(struct kmtls_identity *identity, int chain)
{
	struct kmtls_svid *client = test_issue(identity, TEST_CLIENT_ID);
	struct kmtls_svid *server = test_issue(identity, TEST_SERVER_ID);
	STACK_OF(X509) *sent = NULL;
	struct test_side a, b;

	SSL_CTX_get0_chain_certs(client->client, &sent);
	assert_int_equal(sent ? sk_X509_num(sent) : 0, chain);
	test_sides_open(&a, client->client, &b, server->server);
	test_sides_run(&a, &b);
	assert_true(a.ready && b.ready);
	test_side_close(&a);
	test_side_close(&b);
	kmtls_svid_put(client);
	kmtls_svid_put(server);
}

/* ---- chains that are right ---- */

static void good_chains(void **state)
{
	static const struct {
		const char *cert, *key, *bundle;
		int sent; /* certificates beside the leaf */
	} table[] = {
		{ "r", "R", NULL, 0 }, /* a root */
		{ "r", "R", "r", 0 }, /* a root that is in a bundle as well */
		{ "i", "I", "r", 1 },	 { "ji", "J", "r", 2 },
		{ "kji", "K", "r", 3 },	 { "kjir", "K", "r", 3 }, /* the root is not sent */
		{ "kji", "K", "or", 3 }, /* several roots */
	};
	struct pki pki;

	pki_plan(&pki);
	pki_make(&pki);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct kmtls_identity *identity;

		write_all(&pki, table[i].cert, table[i].key, table[i].bundle);
		identity = must_open();
		assert_works(identity, table[i].sent);
		kmtls_identity_close(identity);
	}
	pki_free(&pki);
}

/* Of the key of either, and of the SVID's. */
static void key_types(void **state)
{
	static const char *const algorithms[] = { "P-256", "P-384", "RSA2048" };
	static const struct {
		enum kmtls_key_type type;
		const char *algorithm;
		int bits;
	} types[] = {
		{ KMTLS_KEY_EC_P256, "EC", 256 },    { KMTLS_KEY_EC_P384, "EC", 384 },
		{ KMTLS_KEY_RSA_2048, "RSA", 2048 }, { KMTLS_KEY_RSA_3072, "RSA", 3072 },
		{ KMTLS_KEY_RSA_4096, "RSA", 4096 },
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct kmtls_identity *identity;
		struct kmtls_svid *svid;
		EVP_PKEY *key;
		struct pki pki;

		pki_plan(&pki);
		pki.specs[ROOT].algorithm = algorithms[i % 3];
		pki.specs[I].algorithm = algorithms[(i + 1) % 3];
		pki_make(&pki);
		write_all(&pki, "i", "I", "r");
		backend.key_type = types[i].type;
		identity = must_open();
		svid = test_issue(identity, TEST_CLIENT_ID);
		key = X509_get0_pubkey(SSL_CTX_get0_certificate(svid->client));
		assert_true(EVP_PKEY_is_a(key, types[i].algorithm));
		assert_int_equal(EVP_PKEY_get_bits(key), types[i].bits);
		if (i < 3) /* the others take long */
			assert_works(identity, 1);
		kmtls_svid_put(svid);
		kmtls_identity_close(identity);
		pki_free(&pki);
	}
}

/* The first of all that ends above it ends the SVID, too. */
static void ends_with_its_chain(void **state)
{
	static const struct {
		int ca;
		long not_after;
	} table[] = { { ROOT, 30 }, { I, 31 }, { J, 32 } };

	backend.svid_ttl = 3600;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct kmtls_identity *identity;
		struct kmtls_svid *svid;
		time_t now = time(NULL);
		struct pki pki;

		pki_plan(&pki);
		pki.specs[table[i].ca].not_after = table[i].not_after;
		pki_make(&pki);
		write_all(&pki, "ji", "J", "r");
		identity = must_open();
		svid = test_issue(identity, TEST_CLIENT_ID);
		assert_in_range(svid->not_after, now + table[i].not_after,
				now + table[i].not_after + 2);
		kmtls_svid_put(svid);
		kmtls_identity_close(identity);
		pki_free(&pki);
	}
}

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
		write_all(&pki, "ji", "J", "r");
		if (table[i].why)
			must_refuse(table[i].why);
		else
			kmtls_identity_close(must_open());
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
	write_all(&pki, "i", "I", "r");
	kmtls_identity_close(must_open());
	pki_free(&pki);
	pki_plan(&pki);
	pki.specs[ROOT].constraints = "critical,CA:TRUE,pathlen:0";
	pki_make(&pki);
	write_all(&pki, "r", "R", NULL);
	kmtls_identity_close(must_open());
	pki_free(&pki);
}

/* ---- files ---- */

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

		write_all(&pki, table[i].cert, table[i].key, table[i].bundle);
		snprintf(wanted, sizeof(wanted), "%.*s%s",
			 file ? (int)(file - table[i].why) : (int)strlen(table[i].why),
			 table[i].why, file ? cert_file : "");
		must_refuse(wanted);
	}
	pki_free(&pki);
}

static void permissions(void **state)
{
	static const mode_t bad[] = { 0640, 0604, 0620, 0610, 0601, 0644, 0440 };
	char other[80], wanted[KMTLS_IDENTITY_WHY];
	struct pki pki;

	pki_plan(&pki);
	pki_make(&pki);
	write_all(&pki, "i", "I", "r");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		chmod(key_file, bad[i]);
		snprintf(wanted, sizeof(wanted),
			 "%%k: holds a key and is accessible by group or others (mode %04o, must "
			 "be 0600 or 0400)",
			 bad[i]);
		must_refuse(wanted);
	}
	chmod(key_file, 0400);
	/* Certificates are nobody's secret, and Kubernetes mounts secrets as links. */
	chmod(cert_file, 0644);
	snprintf(other, sizeof(other), "%s/data", directory);
	assert_int_equal(rename(key_file, other), 0);
	assert_int_equal(symlink(other, key_file), 0);
	kmtls_identity_close(must_open());
	if (geteuid() == 0) {
		assert_int_equal(chown(other, 65534, 65534), 0);
		must_refuse("%k: belongs to user 65534, not to 0 or root");
	}
	unlink(key_file);
	must_refuse("%k: cannot be opened: No such file or directory");
	assert_int_equal(mkfifo(key_file, 0600), 0);
	must_refuse("%k: is not a regular file");
	unlink(bundle_file);
	assert_int_equal(mkdir(bundle_file, 0700), 0);
	unlink(key_file);
	write_parts(key_file, &pki, "I");
	must_refuse("%b: is not a regular file");
	rmdir(bundle_file);
	pki_free(&pki);
}

static void long_file(void **state)
{
	struct pki pki;
	FILE *file;

	pki_plan(&pki);
	pki_make(&pki);
	write_all(&pki, "i", "I", "r");
	file = fopen(cert_file, "a");
	for (int i = 0; i < 65536; i++)
		fputc('\n', file);
	fclose(file);
	must_refuse("%c: is longer than 65536 bytes");
	pki_free(&pki);
}

/* ---- certificates ---- */

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
		write_all(&pki, "ji", "J", "r");
		must_refuse(table[i].why);
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
	write_all(&pki, "i", "I", "ro");
	assert_int_equal(kmtls_pem_certificates(&(struct kmtls_pem_source){ .path = cert_file },
						&ca.chain, why),
			 0);
	assert_int_equal(
		kmtls_pem_key(&(struct kmtls_pem_source){ .path = key_file }, &ca.key, why), 0);
	assert_int_equal(kmtls_pem_certificates(&(struct kmtls_pem_source){ .path = bundle_file },
						&ca.roots, why),
			 0);
	warned = 0;
	assert_int_equal(kmtls_ca_check(&check, &ca, why), 0);
	assert_int_equal(warned, 3);
	assert_string_equal(warnings[0], "chain: CN=i: the key usage has digitalSignature or "
					 "keyEncipherment, which a CA should not have");
	assert_string_equal(warnings[1], "bundle: CN=root: the key usage has digitalSignature or "
					 "keyEncipherment, which a CA should not have");
	assert_string_equal(warnings[2], "bundle: CN=other: has expired");
	kmtls_ca_clear(&ca);
	pki_free(&pki);
}

/* ---- texts in the configuration ---- */

static char *read_text(const char *path)
{
	static char buffers[2][8192];
	static unsigned next;
	char *text = buffers[next++ % 2];
	FILE *file = fopen(path, "r");
	size_t length = fread(text, 1, sizeof(buffers[0]) - 1, file);

	text[length] = '\0';
	fclose(file);
	return text;
}

static void inline_texts(void **state)
{
	struct kmtls_identity *identity;
	struct pki pki;

	pki_plan(&pki);
	pki_make(&pki);
	write_all(&pki, "r", "R", NULL);
	backend.cert = read_text(cert_file);
	backend.key = read_text(key_file);
	backend.cert_file = backend.key_file = NULL;
	identity = must_open();
	assert_works(identity, 0);
	kmtls_identity_close(identity);
	backend.key = backend.cert;
	must_refuse("key: holds a certificate, and must hold the key only (are the two swapped?)");
	pki_free(&pki);
}

/* ---- the next worker ---- */

static void kept(void **state)
{
	struct kmtls_secret_region *region;
	struct kmtls_identity *identity;
	struct pki pki;
	int fd;

	assert_int_equal(kmtls_secret_region_create(4, &region, &fd, why), 0);
	pki_plan(&pki);
	pki_make(&pki);
	write_all(&pki, "kji", "K", "or");
	assert_int_equal(try_open(region, false, &identity), 0);
	assert_int_equal(identity->operations->keep(identity), 0);
	kmtls_identity_close(identity);
	unlink(cert_file);
	unlink(key_file);
	unlink(bundle_file);
	/* A worker that comes after needs no files... */
	assert_int_equal(try_open(region, true, &identity), 0);
	assert_works(identity, 3);
	assert_int_equal(sk_X509_num(identity->operations->roots(identity)), 2);
	kmtls_identity_close(identity);
	/* ... a new configuration does, and another backend has another CA. */
	assert_int_equal(try_open(region, false, &identity), -ENOENT);
	backend.name = (char *)"other";
	assert_int_equal(try_open(region, true, &identity), -ENOENT);
	close(fd);
	pki_free(&pki);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(good_chains),  TEST(key_types),
		TEST(path_lengths), TEST(path_length_of_the_issuer),
		TEST(contents),	    TEST(ends_with_its_chain),
		TEST(permissions),  TEST(long_file),
		TEST(unfit),	    TEST(odd),
		TEST(inline_texts), TEST(kept),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("identity_provided", tests, setup_group, teardown_group);
}
