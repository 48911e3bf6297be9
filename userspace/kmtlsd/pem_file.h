/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pem_file.h - certificates and a private key in PEM, from files that somebody else writes or from
 * the configuration itself. What they are fit for is for ca_check.h to say.
 */
#ifndef KMTLS_PEM_FILE_H
#define KMTLS_PEM_FILE_H

#include <openssl/x509.h>
#include <stdbool.h>

#define KMTLS_PEM_CERTIFICATES 32 /* most in one file */

/* Either path or text; name is what sentences call it: the path, or the key of the configuration. */
struct kmtls_pem_source {
	const char *name, *path, *text;
	int directory; /* O_PATH, where a path is relative to it; others do not need it */
	bool group_may_read; /* also a key */
};

/*
 * Each returns 0, or -errno and "NAME: RULE" in ret_why (256 bytes). Links are followed: Kubernetes
 * mounts secrets that way.
 *
 * certificates: one at least, in their order. key: exactly one, not encrypted; a file must belong to
 * the daemon's user or root and be accessible by nobody else, as ssh(1) has it (-EPERM); its group
 * may read it where the source says so.
 */
int kmtls_pem_certificates(const struct kmtls_pem_source *source, STACK_OF(X509) * *ret_stack,
			   char *ret_why);
int kmtls_pem_key(const struct kmtls_pem_source *source, EVP_PKEY **ret_key, char *ret_why);

/* One block of PEM; NULL, or what is wrong with it (a constant). */
typedef const char *kmtls_pem_block(void *context, const char *name, const char *header,
				    const unsigned char *data, long length);

/* Every block of a text in its order, up to one that is wrong; what was decoded is wiped. NULL, or
 * what is wrong. */
const char *kmtls_pem_each(const char *bytes, size_t length, kmtls_pem_block *take, void *context);

#endif
