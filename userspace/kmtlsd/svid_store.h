/* SPDX-License-Identifier: Apache-2.0 */
/*
 * svid_store.h - SVIDs and the built-in root in the secret region, so that a new worker
 * handshakes at once, even when their source is away. One blob each: DER of the key, of the
 * certificate, of its chain and of the trust bundle.
 */
#ifndef KMTLS_SVID_STORE_H
#define KMTLS_SVID_STORE_H

#include "secret_region.h"
#include "svid.h"

/* -E2BIG: too many certificates to be kept; -errno. */
int kmtls_svid_store_put(struct kmtls_secret_region *region, const struct kmtls_svid *svid);
/* -ENOENT: none for id; -EINVAL: what is there is none (any more). */
int kmtls_svid_store_get(struct kmtls_secret_region *region, const char *id,
			 struct kmtls_svid **ret_svid);
void kmtls_svid_store_delete(struct kmtls_secret_region *region, const char *id);

/* A root with its key; the caller owns both. -ENOENT. */
int kmtls_svid_store_put_root(struct kmtls_secret_region *region, X509 *root, EVP_PKEY *key);
int kmtls_svid_store_get_root(struct kmtls_secret_region *region, X509 **ret_root,
			      EVP_PKEY **ret_key);

#endif
