/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity.h - where SVIDs come from. One interface, one file per type of source
 * (identity_builtin.c, identity_provided.c, identity_files.c, identity_workload.c,
 * identity_delegated.c); the configuration names backends, each of a type.
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
	struct kmtls_trust *others; /* bundles of other trust domains; NULL: none */
};

void kmtls_identity_material_clear(struct kmtls_identity_material *material);

/* Whom an SVID is for. */
struct kmtls_identity_subject {
	const char *id; /* SPIFFE ID */
	const char *pod; /* its name */
};

/* Of a source that is given its SVIDs. */
enum kmtls_identity_state {
	KMTLS_IDENTITY_OK = 0,
	KMTLS_IDENTITY_WAITING, /* nothing is there (any more) */
	KMTLS_IDENTITY_REFUSED, /* what is there cannot be used */
};

struct kmtls_agent_view;

/* All but tick and close may be called by any thread. */
struct kmtls_identity_operations {
	/* An SVID for subject, fresh if the source makes them. -errno and a sentence in ret_why;
	 * -EKEYREVOKED: what subject was given before must not be used any more. */
	int (*issue)(struct kmtls_identity *identity, const struct kmtls_identity_subject *subject,
		     struct kmtls_identity_material *ret_material, char *ret_why);
	/* What SVIDs of subject end in, or (NULL) all; the caller's (sk_X509_pop_free). NULL: no
	 * memory. */
	STACK_OF(X509) * (*roots)(struct kmtls_identity *identity,
				  const struct kmtls_identity_subject *subject);
	/* The certificate that signs SVIDs; the source's. NULL: it is not known here. */
	X509 *(*authority)(const struct kmtls_identity *identity);
	/*
	 * The next three: NULL where the source makes SVIDs itself, when asked. One that is given
	 * them (from files, by an agent) is asked when it has something new, not by the clock.
	 * version: another number each time there is another SVID or bundle for subject; 0: there
	 * was none yet. tick: twice a second, by one thread. state: of subject or (NULL) the worst;
	 * a sentence in ret_why unless it is OK.
	 */
	unsigned (*version)(struct kmtls_identity *identity,
			    const struct kmtls_identity_subject *subject);
	void (*tick)(struct kmtls_identity *identity);
	enum kmtls_identity_state (*state)(struct kmtls_identity *identity,
					   const struct kmtls_identity_subject *subject,
					   char *ret_why);
	/* Reads its files now, whatever the clock says; NULL: it has none. -errno, and a sentence in
	 * ret_why: what is there is not taken, and what was goes on. */
	int (*refresh)(struct kmtls_identity *identity, bool *ret_changed, char *ret_why);
	/* NULL where there is no agent. How it stands with the connection to it. */
	void (*look)(struct kmtls_identity *identity, struct kmtls_agent_view *ret_view);
	/* Keeps what the next worker needs if the source is away then; NULL: there is nothing. */
	int (*keep)(const struct kmtls_identity *identity);
	void (*close)(struct kmtls_identity *identity);
};

/* What a source is opened with; all of it outlives the source. */
struct kmtls_identity_options {
	/* svid_ttl and key_type may change at any time. */
	const struct kmtls_config_backend *backend;
	const char *trust_domain; /* SVIDs of others are refused */
	bool enabled; /* SVIDs will be asked for; else only roots */
	/* Where it is kept for the next worker; NULL: nowhere. A file that cannot be read does not
	 * matter as long as something is kept. */
	struct kmtls_secret_region *secrets;
	bool prefer_kept; /* take that without looking at files */
	_Atomic __u32 *not_taken; /* counts what was given and cannot be used; NULL: nobody asks */
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
int kmtls_identity_files_open(const struct kmtls_identity_options *options,
			      struct kmtls_identity **ret_identity, char *ret_why);
int kmtls_identity_workload_open(const struct kmtls_identity_options *options,
				 struct kmtls_identity **ret_identity, char *ret_why);
int kmtls_identity_delegated_open(const struct kmtls_identity_options *options,
				  struct kmtls_identity **ret_identity, char *ret_why);

/* ---- all that are configured ---- */

struct kmtls_identities_options {
	const struct kmtls_config *config;
	struct kmtls_secret_region *secrets;
	bool prefer_kept;
	_Atomic __u32 *not_taken;
};

/* Fails if the one that is enabled does; of the others that fail a warning tells. */
int kmtls_identities_open(const struct kmtls_identities_options *options,
			  struct kmtls_identities **ret_identities, char *ret_why);
/* An SVID whose bundle has the roots of all. Thread-safe. -ENOTSUP: none is enabled. */
int kmtls_identities_issue(struct kmtls_identities *identities,
			   const struct kmtls_identity_subject *subject,
			   struct kmtls_svid **ret_svid, char *ret_why);
bool kmtls_identities_enabled(const struct kmtls_identities *identities);
/* The one that is enabled is given its SVIDs: asking it by the clock is of no use. */
bool kmtls_identities_given(const struct kmtls_identities *identities);
/* Another number: issue() has another SVID or bundle to give. Thread-safe. */
unsigned kmtls_identities_version(struct kmtls_identities *identities,
				  const struct kmtls_identity_subject *subject);
/* Of the one that is enabled; OK where it makes SVIDs itself. Thread-safe. */
enum kmtls_identity_state kmtls_identities_state(struct kmtls_identities *identities,
						 const struct kmtls_identity_subject *subject,
						 char *ret_why);
/* Of all that are trusted. changed: SVIDs or bundles are others now. The error of the one that is
 * enabled, or else of another, after all were tried. */
int kmtls_identities_refresh(struct kmtls_identities *identities, bool *ret_changed, char *ret_why);
/* Twice a second. */
void kmtls_identities_tick(struct kmtls_identities *identities);
/* The name of the backend that has issued svid; "" if it is none of them. */
const char *kmtls_identities_source(const struct kmtls_identities *identities,
				    const struct kmtls_svid *svid);
/* By its place in the configuration. NULL: it could not be opened, *ret_why says why. */
struct kmtls_identity *kmtls_identities_at(const struct kmtls_identities *identities,
					   unsigned place, const char **ret_why);
/* "enabled", "trusted", "not-trusted", "unavailable". */
const char *kmtls_identities_role(const struct kmtls_identities *identities, unsigned place);
/* Keeps what the next worker needs, and wipes what is of backends that are not configured any more. */
void kmtls_identities_keep(const struct kmtls_identities *identities);
void kmtls_identities_close(struct kmtls_identities *identities);

const char *kmtls_backend_type_name(enum kmtls_backend_type type);
/* What a backend's CA is called in the secret region: with its type, for its name may have been that
 * of another one. */
#define KMTLS_BACKEND_KEPT_NAME 96
const char *kmtls_backend_kept_name(const struct kmtls_config_backend *backend, char *buffer);
/* "ok", "waiting", "refused". */
const char *kmtls_identity_state_name(enum kmtls_identity_state state);

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
