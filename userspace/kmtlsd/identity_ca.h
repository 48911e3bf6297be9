/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity_ca.h - what the types of source that sign SVIDs themselves have in common: everything
 * but where the CA comes from.
 */
#ifndef KMTLS_IDENTITY_CA_H
#define KMTLS_IDENTITY_CA_H

#include <pthread.h>

#include "ca.h"
#include "identity.h"

struct kmtls_identity_ca {
	struct kmtls_identity identity; /* first: what the interface passes around */
	pthread_rwlock_t lock; /* of ca, once it is open */
	struct kmtls_ca ca;
	STACK_OF(X509) * retired; /* of CAs before: whoever asked for one still has it */
	/* Reads the files of one that is like this one into its ca, and checks them; NULL: it has none. */
	int (*load)(struct kmtls_identity_ca *identity, char *ret_why);
};

/* find() fills in ca (and load), or fails with a sentence. */
int kmtls_identity_ca_open(const struct kmtls_identity_options *options,
			   int (*find)(struct kmtls_identity_ca *identity, char *ret_why),
			   struct kmtls_identity **ret_identity, char *ret_why);
/* The CA that a worker before this one had, not checked. -ENOENT. */
int kmtls_identity_ca_kept(struct kmtls_identity_ca *identity);

#endif
