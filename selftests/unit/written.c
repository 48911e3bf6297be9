/* SPDX-License-Identifier: Apache-2.0 */
/* written.c - see written.h. */
#include "written.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char written_path[64];

int written_setup(void **state)
{
	strcpy(written_path, "/tmp/kmtls-files-XXXXXX");
	assert_non_null(mkdtemp(written_path));
	return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	return remove(path);
}

int written_teardown(void **state)
{
	return nftw(written_path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

struct written_pki written_pki_make(void)
{
	struct test_spec ca = test_intermediate_spec, other = test_root_spec;
	struct written_pki pki;

	ca.name = "ca";
	other.name = "other";
	pki.root = test_certificate_make(&test_root_spec, NULL);
	pki.ca = test_certificate_make(&ca, &pki.root);
	pki.other = test_certificate_make(&other, NULL);
	return pki;
}

void written_pki_free(struct written_pki *pki)
{
	test_certificate_free(&pki->root);
	test_certificate_free(&pki->ca);
	test_certificate_free(&pki->other);
}

struct test_certificate written_leaf(const struct written_pki *pki, const struct test_spec *spec)
{
	return test_certificate_make(spec, &pki->ca);
}

static void put(FILE *file, const struct written_pki *pki, const struct test_certificate *leaf,
		char letter)
{
	static const char letters[] = "lcroLCRO";
	const struct test_certificate *all[] = { leaf, &pki->ca, &pki->root, &pki->other };
	const char *place = strchr(letters, letter);

	if (letter == 'x')
		fputs("-----BEGIN CERTIFICATE-----\nMIIB\n", file);
	else if (letter == 'g')
		fputs("garbage\n", file);
	else if (place - letters < 4)
		PEM_write_X509(file, all[place - letters]->certificate);
	else
		PEM_write_PrivateKey(file, all[place - letters - 4]->key, NULL, NULL, 0, NULL,
				     NULL);
}

static void write_parts(const char *directory, const char *name, const struct written_pki *pki,
			const struct test_certificate *leaf, const char *parts)
{
	char path[128], beside[128];
	FILE *file;
	int fd;

	snprintf(path, sizeof(path), "%s%s%s/%s", written_path, *directory ? "/" : "", directory,
		 name);
	snprintf(beside, sizeof(beside), "%.100s.new", path);
	fd = open(beside, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	file = fdopen(fd, "w");
	assert_non_null(file);
	for (; *parts; parts++)
		put(file, pki, leaf, *parts);
	fclose(file);
	assert_int_equal(rename(beside, path), 0);
}

void written_file(const char *name, const struct written_pki *pki,
		  const struct test_certificate *leaf, const char *parts)
{
	write_parts("", name, pki, leaf, parts);
}

void written_set(const char *directory, const struct written_pki *pki, const char *id)
{
	struct test_certificate leaf = written_leaf(pki, &(struct test_spec){ .id = id });
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", written_path, directory);
	mkdir(path, 0755);
	write_parts(directory, WRITTEN_SVID, pki, &leaf, "lc");
	write_parts(directory, WRITTEN_KEY, pki, &leaf, "L");
	write_parts(directory, WRITTEN_BUNDLE, pki, &leaf, "r");
	test_certificate_free(&leaf);
}

void written_link(const char *name, const char *target)
{
	char path[128], beside[128];

	snprintf(path, sizeof(path), "%s/%s", written_path, name);
	snprintf(beside, sizeof(beside), "%.100s.new", path);
	assert_int_equal(symlink(target, beside), 0);
	assert_int_equal(rename(beside, path), 0);
}

void written_generation(unsigned number, const struct written_pki *pki, const char *id)
{
	char name[32];

	snprintf(name, sizeof(name), "..%u", number);
	written_set(name, pki, id);
	written_link("..data", name);
	written_link(WRITTEN_SVID, "..data/" WRITTEN_SVID);
	written_link(WRITTEN_KEY, "..data/" WRITTEN_KEY);
	written_link(WRITTEN_BUNDLE, "..data/" WRITTEN_BUNDLE);
}
