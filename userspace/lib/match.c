/* SPDX-License-Identifier: Apache-2.0 */
/* match.c - see match.h. */
#include "match.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "spiffe.h"

#define NAMESPACE_PATH "/ns/"
#define NAMESPACE_PATH_LENGTH (sizeof(NAMESPACE_PATH) - 1)

const char *kmtls_match_name(unsigned match)
{
	switch (match) {
	case KMTLS_MATCH_EXACT:
		return "exact";
	case KMTLS_MATCH_NAMESPACE:
		return "namespace";
	case KMTLS_MATCH_TRUST_DOMAIN:
		return "trust-domain";
	default:
		return "unknown";
	}
}

/* The path is /ns/NAME and nothing else; the parser saw to it that NAME is not empty. */
static bool is_namespace(const struct kmtls_spiffe_id *id)
{
	const char *path = id->text + id->path_offset;

	return id->path_length > NAMESPACE_PATH_LENGTH &&
	       !memcmp(path, NAMESPACE_PATH, NAMESPACE_PATH_LENGTH) &&
	       !memchr(path + NAMESPACE_PATH_LENGTH, '/', id->path_length - NAMESPACE_PATH_LENGTH);
}

static const char *find_broken_rule(unsigned match, const struct kmtls_spiffe_id *id)
{
	switch (match) {
	case KMTLS_MATCH_EXACT:
		return id->path_length ? NULL : "it names a trust domain, not a workload";
	case KMTLS_MATCH_NAMESPACE:
		return is_namespace(id) ? NULL : "its path is not /ns/NAME";
	case KMTLS_MATCH_TRUST_DOMAIN:
		return id->path_length ? "a trust domain has no path" : NULL;
	default:
		return "it is of a kind this version does not know";
	}
}

static int parse(unsigned match, const char *text, size_t length, struct kmtls_spiffe_id *ret_id,
		 const char **ret_rule)
{
	struct kmtls_spiffe_id id;
	const char *rule;
	int err;

	err = kmtls_spiffe_id_parse(text, length, &id, ret_rule);
	if (err)
		return err;
	rule = find_broken_rule(match, &id);
	if (rule) {
		*ret_rule = rule;
		return -EINVAL;
	}
	*ret_id = id;
	return 0;
}

int kmtls_match_check(unsigned match, const char *text, size_t length, const char **ret_rule)
{
	struct kmtls_spiffe_id id;

	return parse(match, text, length, &id, ret_rule);
}

int kmtls_match_text(const char *namespace_, const char *trust_domain, char *ret_text,
		     const char **ret_rule)
{
	char text[KMTLS_SPIFFE_ID_MAX + 2];
	int length, err;

	/* A slash would make another part of the ID out of it. */
	if (strchr(trust_domain, '/')) {
		*ret_rule = "the trust domain has a byte outside of a-z 0-9 . - _";
		return -EINVAL;
	}
	if (namespace_ && strchr(namespace_, '/')) {
		*ret_rule = "the namespace has a slash";
		return -EINVAL;
	}
	length = snprintf(text, sizeof(text), "spiffe://%s%s%s", trust_domain,
			  namespace_ ? NAMESPACE_PATH : "", namespace_ ? namespace_ : "");
	/* Cut at one byte more than may be: the parser says that it is too long. */
	if ((size_t)length >= sizeof(text))
		length = sizeof(text) - 1;
	err = kmtls_match_check(namespace_ ? KMTLS_MATCH_NAMESPACE : KMTLS_MATCH_TRUST_DOMAIN, text,
				(size_t)length, ret_rule);
	if (!err)
		memcpy(ret_text, text, (size_t)length + 1);
	return err;
}

static bool is_same(const char *a, size_t a_length, const char *b, size_t b_length)
{
	return a_length == b_length && !memcmp(a, b, a_length);
}

/* The namespace's path, a slash, and more. */
static bool is_below(const struct kmtls_spiffe_id *id, const struct kmtls_spiffe_id *namespace_)
{
	const char *path = id->text + id->path_offset;

	return id->path_length > namespace_->path_length + 1 &&
	       path[namespace_->path_length] == '/' &&
	       !memcmp(path, namespace_->text + namespace_->path_offset, namespace_->path_length);
}

bool kmtls_match_holds(unsigned match, const char *text, const char *id)
{
	struct kmtls_spiffe_id promised, found;
	const char *rule;

	if (parse(match, text, strlen(text), &promised, &rule) ||
	    parse(KMTLS_MATCH_EXACT, id, strlen(id), &found, &rule))
		return false;
	if (!is_same(found.text + found.trust_domain_offset, found.trust_domain_length,
		     promised.text + promised.trust_domain_offset, promised.trust_domain_length))
		return false;
	switch (match) {
	case KMTLS_MATCH_EXACT:
		return is_same(found.text, found.length, promised.text, promised.length);
	case KMTLS_MATCH_NAMESPACE:
		return is_below(&found, &promised);
	case KMTLS_MATCH_TRUST_DOMAIN:
		return true;
	default:
		return false;
	}
}
