/* SPDX-License-Identifier: Apache-2.0 */
/*
 * root_file.h - the built-in CA's root on disk: one PEM file with certificate and private
 * key, readable by its owner only, made once and never changed.
 */
#ifndef KMTLS_ROOT_FILE_H
#define KMTLS_ROOT_FILE_H

#include <openssl/x509.h>

/*
 * Each returns 0, or -errno and a sentence that names the file and the rule in ret_why
 * (256 bytes).
 *
 * load: -ENOENT: there is none; -EPERM: not a regular file, another owner, or accessible by
 * others; -EINVAL: not exactly one certificate and its key; -errno of the file system.
 * Whether the certificate is fit to be the root is for the caller to say.
 */
int kmtls_root_file_load(const char *path, X509 **ret_root, EVP_PKEY **ret_key, char *ret_why);
/* -EEXIST: someone else was faster; load theirs. On disk when it returns 0. */
int kmtls_root_file_create(const char *path, X509 *root, EVP_PKEY *key, char *ret_why);

#endif
