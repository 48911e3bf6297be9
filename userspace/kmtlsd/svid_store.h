/* SPDX-License-Identifier: Apache-2.0 */
/*
 * svid_store.h - SVIDs and the CAs of backends in the secret region, so that a new worker
 * handshakes at once, even when their source is away. One blob each: DER of the key, of the
 * certificate, of its chain and of the trust bundle.
 */
#ifndef KMTLS_SVID_STORE_H
#define KMTLS_SVID_STORE_H

#include "ca.h"
#include "secret_region.h"
#include "svid.h"

/* -E2BIG: too many certificates to be kept; -errno. */
int kmtls_svid_store_put(struct kmtls_secret_region *region, const struct kmtls_svid *svid);
/* -ENOENT: none for id; -EINVAL: what is there is none (any more). */
int kmtls_svid_store_get(struct kmtls_secret_region *region, const char *id,
			 struct kmtls_svid **ret_svid);
void kmtls_svid_store_delete(struct kmtls_secret_region *region, const char *id);

/* The CA of a backend, so that a new worker issues while its files are away. -ENOENT; the caller
 * clears what it gets. */
int kmtls_svid_store_put_ca(struct kmtls_secret_region *region, const char *backend,
			    const struct kmtls_ca *ca);
int kmtls_svid_store_get_ca(struct kmtls_secret_region *region, const char *backend,
			    struct kmtls_ca *ret_ca);
/* Wipes those of all other backends. */
void kmtls_svid_store_keep_cas(struct kmtls_secret_region *region, const char *const *backends,
			       unsigned count);

/* The roots of a backend whose SVIDs others issue. As above; those there are freed by the caller. */
int kmtls_svid_store_put_roots(struct kmtls_secret_region *region, const char *backend,
			       const STACK_OF(X509) * roots);
int kmtls_svid_store_get_roots(struct kmtls_secret_region *region, const char *backend,
			       STACK_OF(X509) * *ret_roots);

#endif
