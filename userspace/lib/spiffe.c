/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spiffe.c - the rules of the SPIFFE-ID standard for the text of an ID. An ID is accepted
 * in its one canonical spelling only, so that everybody afterwards may compare bytes:
 * upper case in scheme or trust domain, which section 2 allows a reader to fold, is
 * refused, as are percent-encoding and every other way of writing the same thing twice.
 */
#include "spiffe.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "kmtls/abi.h"

#define SCHEME "spiffe://"
#define SCHEME_LENGTH (sizeof(SCHEME) - 1)
#define NAMESPACE "/ns/"
#define NAMESPACE_LENGTH (sizeof(NAMESPACE) - 1)
#define TRUST_DOMAIN_MAX 255 /* section 2.3: the limit of a URI's host (RFC 3986) */

static bool is_trust_domain_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

static bool is_path_byte(char c)
{
	return is_trust_domain_byte(c) || (c >= 'A' && c <= 'Z');
}

/* Which rule a byte outside of the alphabet breaks: the common mistakes have their own. */
static const char *name_bad_byte(char c, bool in_path)
{
	switch (c) {
	case '\0':
		return "it contains a zero byte";
	case '%':
		return "percent-encoding is not allowed";
	case '?':
		return "a query is not allowed";
	case '#':
		return "a fragment is not allowed";
	}
	if (in_path)
		return "the path has a byte outside of a-z A-Z 0-9 . - _";
	if (c == '@')
		return "user information is not allowed";
	if (c == ':')
		return "a port is not allowed";
	if (c >= 'A' && c <= 'Z')
		return "the trust domain has an upper-case letter";
	return "the trust domain has a byte outside of a-z 0-9 . - _";
}

/* Section 2.1. NULL, or the broken rule. */
static const char *check_trust_domain(const char *text, size_t length)
{
	size_t i;

	for (i = 0; i < length; i++)
		if (!is_trust_domain_byte(text[i]))
			return name_bad_byte(text[i], false);
	if (!length)
		return "the trust domain is empty";
	if (length > TRUST_DOMAIN_MAX)
		return "the trust domain is longer than 255 bytes";
	return NULL;
}

static const char *check_segment(const char *segment, size_t length, bool is_last)
{
	size_t i;

	if (!length)
		return is_last ? "the path ends with a slash" : "the path has an empty segment";
	if (segment[0] == '.' && (length == 1 || (length == 2 && segment[1] == '.')))
		return "the path has a segment . or ..";
	for (i = 0; i < length; i++)
		if (!is_path_byte(segment[i]))
			return name_bad_byte(segment[i], true);
	return NULL;
}

/* Section 2.2; path begins with its slash. NULL, or the broken rule. */
static const char *check_path(const char *path, size_t length)
{
	const char *segment = path + 1, *end = path + length;

	for (;;) {
		const char *slash = memchr(segment, '/', end - segment);
		const char *stop = slash ? slash : end;
		const char *rule = check_segment(segment, stop - segment, !slash);

		if (rule || !slash)
			return rule;
		segment = slash + 1;
	}
}

int kmtls_spiffe_id_parse(const char *text, size_t length, struct kmtls_spiffe_id *ret_id,
			  const char **ret_rule)
{
	struct kmtls_spiffe_id id = { .text = text, .length = length };
	const char *rule = NULL, *path;

	if (length > KMTLS_SPIFFE_ID_MAX) {
		*ret_rule = "it is longer than 2048 bytes";
		return -EINVAL;
	}
	if (length < SCHEME_LENGTH || memcmp(text, SCHEME, SCHEME_LENGTH)) {
		*ret_rule = "it does not begin with spiffe://";
		return -EINVAL;
	}
	path = memchr(text + SCHEME_LENGTH, '/', length - SCHEME_LENGTH);
	id.trust_domain_offset = SCHEME_LENGTH;
	id.path_offset = path ? (size_t)(path - text) : length;
	id.path_length = length - id.path_offset;
	id.trust_domain_length = id.path_offset - SCHEME_LENGTH;

	rule = check_trust_domain(text + SCHEME_LENGTH, id.trust_domain_length);
	if (!rule && path)
		rule = check_path(path, id.path_length);
	if (rule) {
		*ret_rule = rule;
		return -EINVAL;
	}
	*ret_id = id;
	return 0;
}

size_t kmtls_spiffe_namespace_length(const struct kmtls_spiffe_id *id)
{
	const char *slash;

	/* No segment of a path that was parsed is empty: what follows is a name. */
	if (id->path_length <= NAMESPACE_LENGTH ||
	    memcmp(id->text + id->path_offset, NAMESPACE, NAMESPACE_LENGTH))
		return 0;
	slash = memchr(id->text + id->path_offset + NAMESPACE_LENGTH, '/',
		       id->path_length - NAMESPACE_LENGTH);
	return slash ? (size_t)(slash - id->text) : 0;
}
