/* SPDX-License-Identifier: Apache-2.0 */
/* pem_file.c - see pem_file.h. */
#include "pem_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "identity.h"
#include "key_memory.h"
#include "wiped.h"

#define FILE_SIZE_MAX 65536u

/* "NAME: rule"; the rule is always legible, however long the name. Returns err. */
static int __attribute__((format(printf, 4, 5)))
say_why(const struct kmtls_pem_source *source, int err, char *ret_why, const char *format, ...)
{
	char rule[128];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(rule, sizeof(rule), format, arguments);
	va_end(arguments);
	snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.120s: %s", source->name, rule);
	return err;
}

/* ---- reading ---- */

static int check_file(const struct kmtls_pem_source *source, int fd, bool is_key, char *ret_why)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return say_why(source, -errno, ret_why, "cannot be opened: %s", strerror(errno));
	if (!S_ISREG(status.st_mode))
		return say_why(source, -EPERM, ret_why, "is not a regular file");
	if (status.st_size > FILE_SIZE_MAX)
		return say_why(source, -EINVAL, ret_why, "is longer than %u bytes", FILE_SIZE_MAX);
	if (!is_key)
		return 0;
	if (status.st_uid != geteuid() && status.st_uid != 0)
		return say_why(source, -EPERM, ret_why, "belongs to user %u, not to %u or root",
			       status.st_uid, geteuid());
	if (source->group_may_read && (status.st_mode & 037))
		return say_why(source, -EPERM, ret_why,
			       "holds a key and is accessible by others or writable by its group "
			       "(mode %04o, must be 0640 at most)",
			       status.st_mode & 07777);
	if (!source->group_may_read && (status.st_mode & 077))
		return say_why(source, -EPERM, ret_why,
			       "holds a key and is accessible by group or others (mode %04o, must "
			       "be 0600 or 0400)",
			       status.st_mode & 07777);
	return 0;
}

static int read_file(const struct kmtls_pem_source *source, bool is_key, struct kmtls_wiped *buffer,
		     char *ret_why)
{
	/* O_NONBLOCK: a FIFO by that name does not hang the start. */
	int fd __cleanup_fd = openat(source->directory, source->path,
				     O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t got = 0;
	int err;

	if (fd < 0)
		return say_why(source, -errno, ret_why, "cannot be opened: %s", strerror(errno));
	err = check_file(source, fd, is_key, ret_why);
	if (err)
		return err;
	while (buffer->length < buffer->size &&
	       (got = read(fd, buffer->bytes + buffer->length, buffer->size - buffer->length)) > 0)
		buffer->length += got;
	if (got < 0)
		return say_why(source, -errno, ret_why, "cannot be read: %s", strerror(errno));
	return 0;
}

static int read_source(const struct kmtls_pem_source *source, bool is_key,
		       struct kmtls_wiped *buffer, char *ret_why)
{
	int err = 0;

	buffer->size = source->path ? FILE_SIZE_MAX : strlen(source->text);
	buffer->bytes = malloc(buffer->size + 1);
	if (!buffer->bytes)
		return say_why(source, -ENOMEM, ret_why, "cannot be read: out of memory");
	if (source->path)
		err = read_file(source, is_key, buffer, ret_why);
	else
		memcpy(buffer->bytes, source->text, buffer->length = buffer->size);
	if (!err && !buffer->length)
		err = say_why(source, -EINVAL, ret_why, "is empty");
	return err;
}

/* ---- PEM ---- */

struct contents {
	bool wants_key;
	STACK_OF(X509) * certificates;
	EVP_PKEY *key;
};

static bool is_key_name(const char *name)
{
	size_t length = strlen(name), suffix = strlen("PRIVATE KEY");

	return length >= suffix && !strcmp(name + length - suffix, "PRIVATE KEY");
}

static const char *take_certificate(struct contents *contents, const unsigned char *data,
				    long length)
{
	const unsigned char *end = data + length;
	X509 *certificate;

	if (contents->wants_key)
		return "holds a certificate, and must hold the key only (are the two swapped?)";
	if (sk_X509_num(contents->certificates) == KMTLS_PEM_CERTIFICATES)
		return "holds more than 32 certificates";
	certificate = d2i_X509(NULL, &data, length);
	if (certificate && data == end && sk_X509_push(contents->certificates, certificate))
		return NULL;
	X509_free(certificate);
	return "holds a malformed certificate";
}

static const char *take_key(struct contents *contents, const char *name, const char *header,
			    const unsigned char *data, long length)
{
	if (!contents->wants_key)
		return "holds a private key, and must hold certificates only";
	if (*header || !strcmp(name, PEM_STRING_PKCS8))
		return "holds an encrypted key";
	if (contents->key)
		return "holds more than one key, and must hold that of the nearest CA only";
	contents->key = kmtls_key_memory_settle(d2i_AutoPrivateKey(NULL, &data, length));
	return contents->key ? NULL : "holds a malformed key";
}

/* NULL, or what is wrong with the block. */
static const char *take_block(void *context, const char *name, const char *header,
			      const unsigned char *data, long length)
{
	struct contents *contents = context;

	if (!strcmp(name, PEM_STRING_X509) || !strcmp(name, PEM_STRING_X509_OLD))
		return take_certificate(contents, data, length);
	if (is_key_name(name))
		return take_key(contents, name, header, data, length);
	/* openssl ecparam writes them before the key. */
	if (contents->wants_key && !strcmp(name, PEM_STRING_ECPARAMETERS))
		return NULL;
	return contents->wants_key ? "holds something other than a key"
				   : "holds something other than certificates";
}

const char *kmtls_pem_each(const char *bytes, size_t length, kmtls_pem_block *take, void *context)
{
	BIO *bio = BIO_new_mem_buf(bytes, (int)length);
	const char *wrong = bio ? NULL : "cannot be parsed: out of memory";
	char *name, *header;
	unsigned char *data;
	long size;

	ERR_clear_error();
	/* "Secure": without a heap of that kind it means that buffers are wiped. */
	while (!wrong && PEM_read_bio_ex(bio, &name, &header, &data, &size,
					 PEM_FLAG_SECURE | PEM_FLAG_EAY_COMPATIBLE)) {
		wrong = take(context, name, header, data, size);
		OPENSSL_secure_free(name);
		OPENSSL_secure_free(header);
		OPENSSL_secure_clear_free(data, size);
	}
	/* "No start line" is how PEM says that nothing follows. */
	if (!wrong && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		wrong = "holds malformed PEM";
	ERR_clear_error();
	BIO_free(bio);
	return wrong;
}

static const char *parse(const struct kmtls_wiped *buffer, struct contents *contents)
{
	const char *wrong = kmtls_pem_each(buffer->bytes, buffer->length, take_block, contents);

	if (!wrong && !contents->wants_key && !sk_X509_num(contents->certificates))
		wrong = "holds no certificate in PEM";
	if (!wrong && contents->wants_key && !contents->key)
		wrong = "holds no key in PEM";
	return wrong;
}

static int load(const struct kmtls_pem_source *source, struct contents *contents, char *ret_why)
{
	struct kmtls_wiped buffer __cleanup_wiped = {};
	const char *wrong;
	int err = read_source(source, contents->wants_key, &buffer, ret_why);

	if (err)
		return err;
	wrong = parse(&buffer, contents);
	return wrong ? say_why(source, -EINVAL, ret_why, "%s", wrong) : 0;
}

int kmtls_pem_certificates(const struct kmtls_pem_source *source, STACK_OF(X509) * *ret_stack,
			   char *ret_why)
{
	struct contents contents = { .certificates = sk_X509_new_null() };
	int err;

	if (!contents.certificates)
		return say_why(source, -ENOMEM, ret_why, "cannot be read: out of memory");
	err = load(source, &contents, ret_why);
	if (err)
		sk_X509_pop_free(contents.certificates, X509_free);
	else
		*ret_stack = contents.certificates;
	return err;
}

int kmtls_pem_key(const struct kmtls_pem_source *source, EVP_PKEY **ret_key, char *ret_why)
{
	struct contents contents = { .wants_key = true };
	int err = load(source, &contents, ret_why);

	if (err)
		EVP_PKEY_free(contents.key);
	else
		*ret_key = contents.key;
	return err;
}
