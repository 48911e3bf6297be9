/* SPDX-License-Identifier: Apache-2.0 */
/* pki.c - see pki.h. */
#include "pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

char pki_cert_file[64], pki_key_file[64], pki_bundle_file[64], pki_directory[64];
char pki_why[KMTLS_IDENTITY_WHY];
struct kmtls_config_backend pki_backend;

int pki_setup_group(void **state)
{
	strcpy(pki_directory, "/tmp/kmtls-pki-XXXXXX");
	assert_non_null(mkdtemp(pki_directory));
	snprintf(pki_cert_file, sizeof(pki_cert_file), "%.40s/cert.pem", pki_directory);
	snprintf(pki_key_file, sizeof(pki_key_file), "%.40s/key.pem", pki_directory);
	snprintf(pki_bundle_file, sizeof(pki_bundle_file), "%.40s/bundle.pem", pki_directory);
	return 0;
}

int pki_teardown(void **state)
{
	DIR *dir = opendir(pki_directory);
	struct dirent *entry;

	while ((entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	return 0;
}

int pki_teardown_group(void **state)
{
	pki_teardown(state);
	return rmdir(pki_directory);
}

int pki_setup(void **state)
{
	pki_backend = (struct kmtls_config_backend){
		.name = (char *)"pki",
		.type = KMTLS_BACKEND_PROVIDED,
		.key_type = KMTLS_KEY_EC_P256,
		.svid_ttl = 60,
		.cert_file = pki_cert_file,
		.key_file = pki_key_file,
		.bundle_file = pki_bundle_file,
	};
	return 0;
}

void pki_plan(struct pki *pki)
{
	static const char *const names[CAS] = { "root", "i", "j", "k", "other" };

	memset(pki, 0, sizeof(*pki));
	for (int i = 0; i < CAS; i++) {
		pki->specs[i] = i == ROOT || i == OTHER ? test_root_spec : test_intermediate_spec;
		pki->specs[i].name = names[i];
	}
}

void pki_make(struct pki *pki)
{
	for (int i = 0; i < CAS; i++)
		pki->cas[i] = test_certificate_make(
			&pki->specs[i], i == ROOT || i == OTHER ? NULL : &pki->cas[i - 1]);
}

void pki_free(struct pki *pki)
{
	for (int i = 0; i < CAS; i++)
		test_certificate_free(&pki->cas[i]);
}

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

void pki_write_file(const char *path, const struct pki *pki, const char *parts)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	FILE *file = fdopen(fd, "w");

	assert_non_null(file);
	for (; *parts; parts++)
		put(file, pki, *parts);
	fclose(file);
}

void pki_write(const struct pki *pki, const char *cert, const char *key, const char *bundle)
{
	pki_write_file(pki_cert_file, pki, cert);
	pki_write_file(pki_key_file, pki, key);
	if (bundle)
		pki_write_file(pki_bundle_file, pki, bundle);
	pki_backend.bundle_file = bundle ? pki_bundle_file : NULL;
}

int pki_try_open(struct kmtls_secret_region *secrets, bool prefer_kept,
		 struct kmtls_identity **ret_identity)
{
	const struct kmtls_identity_options options = {
		.backend = &pki_backend,
		.trust_domain = TEST_TRUST_DOMAIN,
		.secrets = secrets,
		.prefer_kept = prefer_kept,
	};

	pki_why[0] = '\0';
	return kmtls_identity_provided_open(&options, ret_identity, pki_why);
}

struct kmtls_identity *pki_must_open(void)
{
	struct kmtls_identity *identity = NULL;

	if (pki_try_open(NULL, false, &identity))
		fail_msg("%s", pki_why);
	return identity;
}

void pki_must_refuse(const char *wanted)
{
	struct kmtls_identity *identity = NULL;
	char expected[KMTLS_IDENTITY_WHY];
	int err = pki_try_open(NULL, false, &identity);

	if (!err)
		fail_msg("accepted, and must not: %s", wanted);
	assert_null(identity);
	/* %c, %k, %b: the files. */
	if (wanted[0] == '%')
		snprintf(expected, sizeof(expected), "%s%s",
			 wanted[1] == 'c'   ? pki_cert_file
			 : wanted[1] == 'k' ? pki_key_file
					    : pki_bundle_file,
			 wanted + 2);
	else
		snprintf(expected, sizeof(expected), "%s", wanted);
	assert_string_equal(pki_why, expected);
}
