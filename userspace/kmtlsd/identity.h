/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity.h - where SVIDs come from. One interface, one file per source
 * (identity_builtin.c; later: files, SPIFFE Workload API). A source hands out an SVID for
 * a SPIFFE ID; the pods module asks again at four fifths of its lifetime.
 */
#ifndef KMTLS_IDENTITY_H
#define KMTLS_IDENTITY_H

#include <stdbool.h>

#include "svid.h"

struct kmtls_identity;
struct kmtls_secret_region;

struct kmtls_identity_operations {
	const char *name;
	/* A fresh SVID for id. Thread-safe. -errno and a sentence in ret_why (256 bytes). */
	int (*issue)(struct kmtls_identity *identity, const char *id, struct kmtls_svid **ret_svid,
		     char *ret_why);
	/* Keeps what the next worker needs if the source is away then; NULL: there is nothing. */
	void (*keep)(struct kmtls_identity *identity);
	void (*close)(struct kmtls_identity *identity);
};

struct kmtls_identity {
	const struct kmtls_identity_operations *operations;
};

struct kmtls_identity_builtin_options {
	const char *trust_domain; /* of the root; SVIDs of other trust domains are refused */
	/* PEM file with the root's certificate and key, 0600, made at first start (also when
	 * several daemons race for it); NULL: the root lives in memory only. */
	const char *root_file;
	unsigned root_ttl; /* seconds */
	unsigned svid_ttl; /* seconds; an SVID never outlives the root */
	/* Where the root is kept for the next worker; NULL: nowhere. A root_file that cannot be read
	 * does not matter as long as there is one. */
	struct kmtls_secret_region *secrets;
	bool prefer_kept; /* take that one without looking at root_file */
};

/* -errno, and a sentence that names the file and the rule in ret_why (256 bytes). */
int kmtls_identity_builtin_open(const struct kmtls_identity_builtin_options *options,
				struct kmtls_identity **ret_identity, char *ret_why);

static inline void kmtls_identity_keep(struct kmtls_identity *identity)
{
	if (identity->operations->keep)
		identity->operations->keep(identity);
}

static inline void kmtls_identity_close(struct kmtls_identity *identity)
{
	if (identity)
		identity->operations->close(identity);
}

#endif
