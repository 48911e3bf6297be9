/* SPDX-License-Identifier: Apache-2.0 */
/*
 * match.h - what an entry of the peers map promises about a server, and whether a SPIFFE ID keeps
 * it: exactly one workload, any of a namespace, any of a trust domain. Both sides are parsed and
 * compared part by part, byte by byte; there are no patterns.
 *
 *   exact         spiffe://TD/PATH       that ID
 *   namespace     spiffe://TD/ns/NAME    IDs of TD whose path is /ns/NAME/ and at least one more
 *                                        segment
 *   trust domain  spiffe://TD            IDs of TD that have a path
 */
#ifndef KMTLS_MATCH_H
#define KMTLS_MATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "kmtls/abi.h"

/* "exact", "namespace", "trust-domain"; "unknown" for any other number. */
const char *kmtls_match_name(unsigned match);

/* Is text, as it stands in `names`, of the form that match needs? text need not be
 * zero-terminated. 0, or -EINVAL and the broken rule as a constant sentence; so also for a match
 * this version does not know. */
int kmtls_match_check(unsigned match, const char *text, size_t length, const char **ret_rule);

/* The text of a namespace (NULL: of the whole trust domain). ret_text: KMTLS_SPIFFE_ID_MAX + 1
 * bytes. 0, or -EINVAL as above. */
int kmtls_match_text(const char *namespace_, const char *trust_domain, char *ret_text,
		     const char **ret_rule);

/* Does id keep what match and text promise? Anything malformed, also a match that is not known,
 * is kept by nobody. */
bool kmtls_match_holds(unsigned match, const char *text, const char *id);

#endif
