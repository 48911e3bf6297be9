/* SPDX-License-Identifier: Apache-2.0 */
/*
 * root_file.c - reads and makes the file of root_file.h. A file is made under another name,
 * written and synced, and appears under its own by link(2), which never replaces: of several
 * daemons that start at once one wins and the others read what it made, whole or not at all.
 */
#include "root_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "key_memory.h"
#include "pem_file.h"
#include "wiped.h"

#define WHY_SIZE 256
#define FILE_MAX 65536 /* bytes; a certificate and a key are below 4096 */

static void free_bio(BIO **bio)
{
	BIO_free(*bio); /* a memory BIO wipes what it held */
}

#define __cleanup_bio __attribute__((cleanup(free_bio)))

/* "PATH: rule"; the rule is always legible, however long the path. Returns err. */
static int __attribute__((format(printf, 4, 5)))
say_why(char *ret_why, int err, const char *path, const char *format, ...)
{
	char rule[128];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(rule, sizeof(rule), format, arguments);
	va_end(arguments);
	snprintf(ret_why, WHY_SIZE, "%.120s: %s", path, rule);
	return err;
}

/* ---- load ------------------------------------------------------------------------- */

static int check_file(const char *path, const struct stat *status, char *ret_why)
{
	if (!S_ISREG(status->st_mode))
		return say_why(ret_why, -EPERM, path, "is not a regular file");
	if (status->st_uid != geteuid())
		return say_why(ret_why, -EPERM, path, "belongs to user %u, not to %u",
			       status->st_uid, geteuid());
	if (status->st_mode & 077)
		return say_why(ret_why, -EPERM, path,
			       "is accessible by group or others (mode %04o, must be 0600)",
			       status->st_mode & 07777);
	if (status->st_size > FILE_MAX)
		return say_why(ret_why, -EINVAL, path, "is longer than %d bytes", FILE_MAX);
	return 0;
}

/* Opened without following a symbolic link or waiting for a writer of a FIFO. */
static int read_file(const char *path, char *buffer, size_t *ret_length, char *ret_why)
{
	int fd __cleanup_fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat status;
	size_t length = 0;
	ssize_t got;
	int err;

	if (fd < 0 && errno == ELOOP)
		return say_why(ret_why, -EPERM, path, "is not a regular file");
	if (fd < 0 || fstat(fd, &status))
		return say_why(ret_why, -errno, path, "cannot be opened: %s", strerror(errno));
	err = check_file(path, &status, ret_why);
	if (err)
		return err;
	while ((got = read(fd, buffer + length, FILE_MAX - length)) > 0)
		length += got;
	if (got < 0)
		return say_why(ret_why, -errno, path, "cannot be read: %s", strerror(errno));
	*ret_length = length;
	return 0;
}

struct contents {
	X509 *root;
	EVP_PKEY *key;
	unsigned roots, keys;
};

static void free_contents(struct contents *contents)
{
	X509_free(contents->root);
	EVP_PKEY_free(contents->key);
}

/* One PEM block; NULL, or what is wrong with it. */
static const char *take_block(void *context, const char *name, const char *header,
			      const unsigned char *data, long length)
{
	struct contents *contents = context;

	if (!strcmp(name, PEM_STRING_X509)) {
		if (contents->roots++)
			return "holds more than one certificate";
		contents->root = d2i_X509(NULL, &data, length);
		return contents->root ? NULL : "holds a malformed certificate";
	}
	if (*header || !strcmp(name, PEM_STRING_PKCS8))
		return "holds an encrypted key";
	if (!strcmp(name, PEM_STRING_PKCS8INF) || !strcmp(name, PEM_STRING_ECPRIVATEKEY) ||
	    !strcmp(name, PEM_STRING_RSA)) {
		if (contents->keys++)
			return "holds more than one key";
		contents->key = kmtls_key_memory_settle(d2i_AutoPrivateKey(NULL, &data, length));
		return contents->key ? NULL : "holds a malformed key";
	}
	return "holds something other than one certificate and one key";
}

/* NULL, or what is wrong. */
static const char *parse(const char *buffer, size_t length, struct contents *contents)
{
	const char *wrong = kmtls_pem_each(buffer, length, take_block, contents);

	if (!wrong && !contents->roots)
		wrong = "holds no certificate";
	if (!wrong && !contents->keys)
		wrong = "holds no key";
	return wrong;
}

int kmtls_root_file_load(const char *path, X509 **ret_root, EVP_PKEY **ret_key, char *ret_why)
{
	struct contents contents __attribute__((cleanup(free_contents))) = { 0 };
	struct kmtls_wiped buffer __cleanup_wiped = { malloc(FILE_MAX), 0, FILE_MAX };
	const char *wrong;
	int err;

	if (!buffer.bytes)
		return say_why(ret_why, -ENOMEM, path, "cannot be read: out of memory");
	err = read_file(path, buffer.bytes, &buffer.length, ret_why);
	if (err)
		return err;
	wrong = parse(buffer.bytes, buffer.length, &contents);
	if (wrong)
		return say_why(ret_why, -EINVAL, path, "%s", wrong);
	if (X509_check_private_key(contents.root, contents.key) != 1) {
		ERR_clear_error();
		return say_why(ret_why, -EINVAL, path, "the key is not that of the certificate");
	}
	*ret_root = kmtls_take_pointer(contents.root);
	*ret_key = kmtls_take_pointer(contents.key);
	return 0;
}

/* ---- create ------------------------------------------------------------------------ */

static int write_all(int fd, const char *bytes, size_t length)
{
	while (length) {
		ssize_t written = write(fd, bytes, length);

		if (written < 0)
			return -errno;
		bytes += written;
		length -= written;
	}
	return 0;
}

static int write_pem(int fd, X509 *root, EVP_PKEY *key)
{
	BIO *bio __cleanup_bio = BIO_new(BIO_s_mem());
	char *bytes;
	long length;
	int err;

	if (!bio || !PEM_write_bio_X509(bio, root) ||
	    !PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL)) {
		ERR_clear_error();
		return -ENOMEM;
	}
	length = BIO_get_mem_data(bio, &bytes);
	err = write_all(fd, bytes, length);
	if (err)
		return err;
	return fsync(fd) ? -errno : 0;
}

/* The name is durable only when the directory is. */
static int sync_directory(const char *path)
{
	char copy[PATH_MAX];
	int fd __cleanup_fd = -1;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) ? -errno : 0;
}

int kmtls_root_file_create(const char *path, X509 *root, EVP_PKEY *key, char *ret_why)
{
	char temporary[PATH_MAX];
	int fd, err;

	if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= (int)sizeof(temporary))
		return say_why(ret_why, -ENAMETOOLONG, path, "the path is too long");
	fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
	if (fd < 0)
		return say_why(ret_why, -errno, path, "cannot be created: %s", strerror(errno));
	err = write_pem(fd, root, key);
	if (!err && link(temporary, path))
		err = -errno;
	unlink(temporary);
	close(fd);
	if (!err)
		err = sync_directory(path);
	return err ? say_why(ret_why, err, path, "cannot be created: %s", strerror(-err)) : 0;
}
