/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subject.h - who an authorization is about, as people write it:
 *
 *   spiffe://example.org/ns/shop/sa/web   exactly this SPIFFE ID
 *   namespace:example.org/shop            every ID below spiffe://example.org/ns/shop/
 *   trust-domain:example.org              every ID below spiffe://example.org
 *   any                                   everyone
 *
 * In the maps it is a kind (enum kmtls_match) and the hash of a text: the ID, or the ID cut off
 * after its namespace or its trust domain.
 */
#ifndef KMTLS_SUBJECT_H
#define KMTLS_SUBJECT_H

#include <linux/types.h>
#include <stddef.h>

#include "kmtls/abi.h"

/* The longest a subject is written. */
#define KMTLS_SUBJECT_TEXT (KMTLS_SPIFFE_ID_MAX + 32)

struct kmtls_subject {
	enum kmtls_match kind;
	__u64 hash; /* of text; ANY: 0 */
	char text[KMTLS_SPIFFE_ID_MAX + 1]; /* ANY: "" */
};

/* -EINVAL, and the broken rule as a constant sentence. */
int kmtls_subject_parse(const char *written, struct kmtls_subject *ret_subject,
			const char **ret_rule);

/* As parse reads it. text NULL or not of this kind: the hash in its place, and of a kind there is
 * not its number. Cut off at size; returns buffer. */
const char *kmtls_subject_format(unsigned kind, __u64 hash, const char *text, char *buffer,
				 size_t size);

/* The hashes by which an ID can be named, by enum kmtls_match; 0: it cannot (no namespace, and
 * ANY). -EINVAL: not a SPIFFE ID. */
int kmtls_subject_hashes(const char *id, __u64 ret_hashes[KMTLS_MATCH_ANY + 1]);

#endif
