/* SPDX-License-Identifier: Apache-2.0 */
/* identities.h - sources of SVIDs for tests. */
#ifndef KMTLS_TEST_IDENTITIES_H
#define KMTLS_TEST_IDENTITIES_H

#include "identity.h"

/* An SVID whose bundle has the roots of its own source only. As kmtls_identities_issue(). */
int test_try_issue(struct kmtls_identity *identity, const char *id, struct kmtls_svid **ret_svid,
		   char *ret_why);
/* The same; the test fails if it does not work. */
struct kmtls_svid *test_issue(struct kmtls_identity *identity, const char *id);

#endif
