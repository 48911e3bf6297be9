/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity.h - where SVIDs come from. One interface, one file per type of source
 * (identity_builtin.c, identity_provided.c); the configuration names backends, each of a type.
 * One backend issues, or none: then mutual TLS is off. All are trusted, so that pods whose SVIDs
 * come from another one, before and after a switch, can talk to each other.
 *
 * A new type: its file, its line in the table of identity.c, its word and keys in config_schema.c,
 * its line (and which keys it has) in the tables of config_identity.c.
 */
#ifndef KMTLS_IDENTITY_H
#define KMTLS_IDENTITY_H

#include <stdbool.h>

#include "config.h"
#include "svid.h"

#define KMTLS_IDENTITY_WHY 256 /* size of every ret_why */

struct kmtls_identity;
struct kmtls_identities;
struct kmtls_secret_region;

/* What an SVID is made of, before it is put together with the trust bundle. */
struct kmtls_identity_material {
	EVP_PKEY *key;
	X509 *leaf;
	STACK_OF(X509) * chain; /* nearest issuer first; NULL: leaf only */
};

void kmtls_identity_material_clear(struct kmtls_identity_material *material);

struct kmtls_identity_operations {
	/* A fresh SVID for id. Thread-safe. -errno and a sentence in ret_why. */
	int (*issue)(struct kmtls_identity *identity, const char *id,
		     struct kmtls_identity_material *ret_material, char *ret_why);
	/* What its SVIDs end in; the source's. */
	const STACK_OF(X509) * (*roots)(const struct kmtls_identity *identity);
	/* The certificate that signs SVIDs; the source's. NULL: it is not known here. */
	X509 *(*authority)(const struct kmtls_identity *identity);
	/* Keeps what the next worker needs if the source is away then; NULL: there is nothing. */
	int (*keep)(const struct kmtls_identity *identity);
	void (*close)(struct kmtls_identity *identity);
};

/* What a source is opened with; all of it outlives the source. */
struct kmtls_identity_options {
	/* svid_ttl and key_type may change at any time. */
	const struct kmtls_config_backend *backend;
	const char *trust_domain; /* SVIDs of others are refused */
	/* Where it is kept for the next worker; NULL: nowhere. A file that cannot be read does not
	 * matter as long as something is kept. */
	struct kmtls_secret_region *secrets;
	bool prefer_kept; /* take that without looking at files */
};

struct kmtls_identity {
	const struct kmtls_identity_operations *operations;
	struct kmtls_identity_options options;
};

/* One per type. -errno, and a sentence that names the thing and the rule in ret_why. */
int kmtls_identity_builtin_open(const struct kmtls_identity_options *options,
				struct kmtls_identity **ret_identity, char *ret_why);
int kmtls_identity_provided_open(const struct kmtls_identity_options *options,
				 struct kmtls_identity **ret_identity, char *ret_why);

/* ---- all that are configured ---- */

struct kmtls_identities_options {
	const struct kmtls_config *config;
	struct kmtls_secret_region *secrets;
	bool prefer_kept;
};

/* Fails if the one that is enabled does; of the others that fail a warning tells. */
int kmtls_identities_open(const struct kmtls_identities_options *options,
			  struct kmtls_identities **ret_identities, char *ret_why);
/* A fresh SVID whose bundle has the roots of all. Thread-safe. -ENOTSUP: none is enabled. */
int kmtls_identities_issue(struct kmtls_identities *identities, const char *id,
			   struct kmtls_svid **ret_svid, char *ret_why);
bool kmtls_identities_enabled(const struct kmtls_identities *identities);
/* The name of the backend that has issued svid; "" if it is none of them. */
const char *kmtls_identities_source(const struct kmtls_identities *identities,
				    const struct kmtls_svid *svid);
/* By its place in the configuration. NULL: it could not be opened, *ret_why says why. */
const struct kmtls_identity *kmtls_identities_at(const struct kmtls_identities *identities,
						 unsigned place, const char **ret_why);
/* Keeps what the next worker needs, and wipes what is of backends that are not configured any more. */
void kmtls_identities_keep(const struct kmtls_identities *identities);
void kmtls_identities_close(struct kmtls_identities *identities);

const char *kmtls_backend_type_name(enum kmtls_backend_type type);
/* What a backend's CA is called in the secret region: with its type, for its name may have been that
 * of another one. */
#define KMTLS_BACKEND_KEPT_NAME 96
const char *kmtls_backend_kept_name(const struct kmtls_config_backend *backend, char *buffer);

static inline unsigned kmtls_identity_svid_ttl(const struct kmtls_identity *identity)
{
	return __atomic_load_n(&identity->options.backend->svid_ttl, __ATOMIC_RELAXED);
}

static inline enum kmtls_key_type kmtls_identity_key_type(const struct kmtls_identity *identity)
{
	return (enum kmtls_key_type)__atomic_load_n(&identity->options.backend->key_type,
						    __ATOMIC_RELAXED);
}

static inline void kmtls_identity_close(struct kmtls_identity *identity)
{
	if (identity)
		identity->operations->close(identity);
}

#endif
