/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spiffe.h - SPIFFE IDs: parsed and checked by the rules of SPIFFE-ID (sections 2.1 to
 * 2.4), compared byte by byte afterwards, never by pattern.
 */
#ifndef KMTLS_SPIFFE_H
#define KMTLS_SPIFFE_H

#include <stddef.h>

struct kmtls_spiffe_id {
	const char *text; /* the caller's bytes, not copied */
	size_t length;
	size_t trust_domain_offset, trust_domain_length;
	size_t path_offset, path_length; /* with its leading slash; 0 when absent */
};

/*
 * text need not be zero-terminated and may hold any byte. 0, or -EINVAL and the broken
 * rule as a constant sentence in *ret_rule (e.g. "the path ends with a slash").
 */
int kmtls_spiffe_id_parse(const char *text, size_t length, struct kmtls_spiffe_id *ret_id,
			  const char **ret_rule);

/*
 * The ID's namespace is NAME if the path begins with /ns/NAME/; any other ID has none. The length
 * of the ID cut off after NAME, or 0. Cut off at path_offset it is the trust domain.
 */
size_t kmtls_spiffe_namespace_length(const struct kmtls_spiffe_id *id);

#endif
