/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload_answer.h - answers of the Workload API and of the Delegated Identity API: bytes of
 * protobuf in, checked identities out. Nothing here keeps a byte of what it was given.
 *
 * All return 0, -ENOMEM, -EINVAL or -EKEYEXPIRED with a sentence in ret_why (KMTLS_WORKLOAD_WHY).
 */
#ifndef KMTLS_WORKLOAD_ANSWER_H
#define KMTLS_WORKLOAD_ANSWER_H

#include <stdint.h>

#include "workload_identity.h"

#define KMTLS_WORKLOAD_SVIDS_MAX 256 /* in one answer */

/* Which SVID, if there are several; NULL: the first (Workload API section 5.3). Those that are not
 * chosen are not looked at. */
struct kmtls_workload_choice {
	const char *id, *hint;
};

/* X509SVIDResponse. */
int kmtls_workload_answer_svid(const uint8_t *bytes, size_t length,
			       const struct kmtls_workload_choice *choice,
			       struct kmtls_workload_identity **ret_identity, char *ret_why);
/* SVIDs by their SPIFFE IDs, each ID once. */
struct kmtls_workload_svids {
	struct kmtls_workload_identity *items[KMTLS_WORKLOAD_SVIDS_MAX]; /* references */
	size_t count;
	/* Broke a rule: the one before of that ID was taken, or none. The last one's rule. */
	unsigned skipped;
	char skipped_why[KMTLS_WORKLOAD_WHY];
};
void kmtls_workload_svids_clear(struct kmtls_workload_svids *svids);

/* X509SVIDResponse: all that it has, or (hint) all with that hint; of two with one ID the first.
 * svids must be all zero; fails if none is of use. */
int kmtls_workload_answer_svids(const uint8_t *bytes, size_t length, const char *hint,
				const struct kmtls_workload_svids *before,
				struct kmtls_workload_svids *svids, char *ret_why);

/* X509BundlesResponse; bundles must be all zero. */
int kmtls_workload_answer_bundles(const uint8_t *bytes, size_t length,
				  struct kmtls_workload_bundles *bundles, char *ret_why);

/* Trust domains that a workload may talk to beside its own. */
struct kmtls_workload_names {
	char **items;
	size_t count;
};
void kmtls_workload_names_free(struct kmtls_workload_names *names);

/* SubscribeToX509SVIDsResponse; the SVID is without bundles. -ENOENT: it has no SVID, which is how
 * the agent says that there is none any more. names must be all zero. */
int kmtls_delegated_answer_svid(const uint8_t *bytes, size_t length,
				const struct kmtls_workload_choice *choice,
				struct kmtls_workload_identity **ret_svid,
				struct kmtls_workload_names *names, char *ret_why);
/* SubscribeToX509BundlesResponse; bundles must be all zero. */
int kmtls_delegated_answer_bundles(const uint8_t *bytes, size_t length,
				   struct kmtls_workload_bundles *bundles, char *ret_why);

#endif
