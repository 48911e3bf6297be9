/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_root_file.c - the built-in CA's root on disk: who may read it, what it may hold and which
 * certificates are fit to be the root; each refusal names the file and the rule.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "builtin.h"
#include "certificates.h"
#include "identities.h"

static char why[256];

static void refuses_file(int err, const char *wanted)
{
	struct kmtls_identity_options with_file = builtin_options(builtin_root);
	struct kmtls_identity *identity = NULL;

	why[0] = '\0';
	assert_int_equal(kmtls_identity_builtin_open(&with_file, &identity, why), err);
	assert_null(identity);
	if (!strstr(why, wanted) || !strstr(why, builtin_root))
		fail_msg("\"%s\" does not say \"%s\"", why, wanted);
}

static void modes(void **state)
{
	static const mode_t bad[] = { 0640, 0604, 0620, 0610, 0601, 0644, 0660, 0777 };
	size_t i;

	kmtls_identity_close(builtin_open(builtin_root));
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		chmod(builtin_root, bad[i]);
		refuses_file(-EPERM, "is accessible by group or others");
	}
	chmod(builtin_root, 0400);
	kmtls_identity_close(builtin_open(builtin_root));
}

static void kinds_of_file(void **state)
{
	char other[80];

	kmtls_identity_close(builtin_open(builtin_root));
	snprintf(other, sizeof(other), "%s/other.pem", builtin_directory);
	rename(builtin_root, other);
	assert_int_equal(symlink(other, builtin_root), 0);
	refuses_file(-EPERM, "is not a regular file");
	unlink(builtin_root);
	assert_int_equal(mkfifo(builtin_root, 0600), 0);
	refuses_file(-EPERM, "is not a regular file");
	unlink(builtin_root);
	assert_int_equal(mkdir(builtin_root, 0700), 0);
	refuses_file(-EPERM, "is not a regular file");
	rmdir(builtin_root);
}

static void other_owner(void **state)
{
	if (geteuid())
		skip();
	kmtls_identity_close(builtin_open(builtin_root));
	assert_int_equal(chown(builtin_root, 65534, 65534), 0);
	refuses_file(-EPERM, "belongs to user 65534, not to 0");
}

static void no_directory(void **state)
{
	struct kmtls_identity_options wanted = builtin_options("/nonexistent/root.pem");
	struct kmtls_identity *identity = NULL;

	assert_int_equal(kmtls_identity_builtin_open(&wanted, &identity, why), -ENOENT);
	assert_string_equal(why, "/nonexistent/root.pem: cannot be created: "
				 "No such file or directory");
}

/* What goes into the file, in the order given: c certificate, k key, K an encrypted key. */
static void write_file(const char *parts, const struct test_certificate *first,
		       const struct test_certificate *second)
{
	int fd = open(builtin_root, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	FILE *stream = fdopen(fd, "w");
	int certificates = 0, keys = 0;

	for (; *parts; parts++) {
		if (*parts == 'c')
			PEM_write_X509(stream, (certificates++ ? second : first)->certificate);
		else if (*parts == 'k')
			PEM_write_PrivateKey(stream, (keys++ ? second : first)->key, NULL, NULL, 0,
					     NULL, NULL);
		else if (*parts == 'K')
			PEM_write_PrivateKey(stream, first->key, EVP_aes_128_cbc(),
					     (const unsigned char *)"secret", 6, NULL, NULL);
		else if (*parts == 'p')
			PEM_write_PUBKEY(stream, first->key);
		else
			fputs("-----BEGIN CERTIFICATE-----\nMIIB\n", stream);
	}
	fclose(stream);
}

static void contents(void **state)
{
	static const struct {
		const char *parts, *why;
	} table[] = {
		{ "", "holds no certificate" },
		{ "k", "holds no certificate" },
		{ "c", "holds no key" },
		{ "cck", "holds more than one certificate" },
		{ "ckk", "holds more than one key" },
		{ "cK", "holds an encrypted key" },
		{ "ckp", "holds something other than one certificate and one key" },
		{ "ckx", "holds malformed PEM" },
		{ "x", "holds malformed PEM" },
	};
	struct test_certificate first = test_certificate_make(&test_root_spec, NULL);
	struct test_certificate second = test_certificate_make(&test_root_spec, NULL);
	struct test_certificate mixed = { first.certificate, second.key };
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		write_file(table[i].parts, &first, &second);
		refuses_file(-EINVAL, table[i].why);
	}
	write_file("ck", &mixed, NULL);
	refuses_file(-EINVAL, "the key is not that of the certificate");
	write_file("kc", &first, NULL);
	kmtls_identity_close(builtin_open(builtin_root));
	test_certificate_free(&first);
	test_certificate_free(&second);
}

static void refuses_root(struct test_spec spec, const struct test_certificate *issuer,
			 const char *wanted)
{
	struct test_certificate root = test_certificate_make(&spec, issuer);

	write_file("ck", &root, NULL);
	refuses_file(-EINVAL, wanted);
	test_certificate_free(&root);
}

static void unfit_roots(void **state)
{
	struct test_certificate issuer = test_certificate_make(&test_root_spec, NULL);
	struct test_spec spec = test_root_spec;

	spec.constraints = "CA:FALSE";
	refuses_root(spec, NULL, "is not a CA (basicConstraints CA:TRUE)");
	spec.constraints = "";
	refuses_root(spec, NULL, "is not a CA (basicConstraints CA:TRUE)");
	spec = test_root_spec;
	spec.key_usage = "digitalSignature";
	refuses_root(spec, NULL, "lacks keyCertSign");
	spec.key_usage = "";
	refuses_root(spec, NULL, "lacks keyCertSign");
	spec.key_usage = "keyCertSign,keyAgreement";
	refuses_root(spec, NULL, "has keyAgreement");
	spec = test_root_spec;
	spec.not_after = -1;
	refuses_root(spec, NULL, "has expired");
	spec = test_root_spec;
	spec.not_before = 60;
	refuses_root(spec, NULL, "is not valid yet");
	spec = test_root_spec;
	spec.id = "spiffe://elsewhere.org";
	refuses_root(spec, NULL, "the URI SAN is of another trust domain");
	spec = test_root_spec;
	spec.algorithm = "RSA1024";
	refuses_root(spec, NULL, "the key is not EC P-256");
	refuses_root(test_intermediate_spec, &issuer, "is not self-signed");
	test_certificate_free(&issuer);
}

#define TEST(function) cmocka_unit_test_teardown(function, builtin_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(modes),	    TEST(kinds_of_file), TEST(other_owner),
		TEST(no_directory), TEST(contents),	 TEST(unfit_roots),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("root_file", tests, builtin_setup_group,
					   builtin_teardown_group);
}
