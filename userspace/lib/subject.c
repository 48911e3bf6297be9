/* SPDX-License-Identifier: Apache-2.0 */
/* subject.c - see subject.h. Everything goes through the parser of SPIFFE IDs: there is one
 * spelling of each, and bytes are compared afterwards. */
#include "subject.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "hash.h"
#include "spiffe.h"

#define SCHEME "spiffe://"
#define NAMESPACE "namespace:"
#define TRUST_DOMAIN "trust-domain:"

static bool begins(const char *text, const char *prefix)
{
	return !strncmp(text, prefix, strlen(prefix));
}

static int refuse(const char **ret_rule, const char *rule)
{
	*ret_rule = rule;
	return -EINVAL;
}

static int parse_exact(const char *written, struct kmtls_subject *subject, const char **ret_rule)
{
	struct kmtls_spiffe_id id;
	int err = kmtls_spiffe_id_parse(written, strlen(written), &id, ret_rule);

	if (err)
		return err;
	if (!id.path_length)
		return refuse(ret_rule, "an ID without a path is nobody's (trust-domain:NAME?)");
	subject->kind = KMTLS_MATCH_EXACT;
	strcpy(subject->text, written);
	return 0;
}

/* TRUST-DOMAIN/NAME */
static int parse_namespace(const char *written, struct kmtls_subject *subject,
			   const char **ret_rule)
{
	const char *slash = strchr(written, '/');
	struct kmtls_spiffe_id id;
	int length;

	if (!slash || strchr(slash + 1, '/'))
		return refuse(ret_rule, "must be namespace:TRUST-DOMAIN/NAME");
	length = snprintf(subject->text, sizeof(subject->text), SCHEME "%.*s/ns/%s",
			  (int)(slash - written), written, slash + 1);
	if (length >= (int)sizeof(subject->text))
		return refuse(ret_rule, "it is longer than 2048 bytes");
	subject->kind = KMTLS_MATCH_NAMESPACE;
	return kmtls_spiffe_id_parse(subject->text, length, &id, ret_rule);
}

static int parse_trust_domain(const char *written, struct kmtls_subject *subject,
			      const char **ret_rule)
{
	struct kmtls_spiffe_id id;
	int length = snprintf(subject->text, sizeof(subject->text), SCHEME "%s", written);

	if (strchr(written, '/'))
		return refuse(ret_rule, "must be trust-domain:NAME");
	if (length >= (int)sizeof(subject->text))
		return refuse(ret_rule, "it is longer than 2048 bytes");
	subject->kind = KMTLS_MATCH_TRUST_DOMAIN;
	return kmtls_spiffe_id_parse(subject->text, length, &id, ret_rule);
}

int kmtls_subject_parse(const char *written, struct kmtls_subject *ret_subject,
			const char **ret_rule)
{
	struct kmtls_subject subject = { .kind = KMTLS_MATCH_ANY };
	int err = 0;

	if (begins(written, SCHEME))
		err = parse_exact(written, &subject, ret_rule);
	else if (begins(written, NAMESPACE))
		err = parse_namespace(written + strlen(NAMESPACE), &subject, ret_rule);
	else if (begins(written, TRUST_DOMAIN))
		err = parse_trust_domain(written + strlen(TRUST_DOMAIN), &subject, ret_rule);
	else if (strcmp(written, "any"))
		err = refuse(ret_rule, "must be any, a SPIFFE ID, namespace:TRUST-DOMAIN/NAME or "
				       "trust-domain:NAME");
	if (err)
		return err;
	if (subject.kind != KMTLS_MATCH_ANY)
		subject.hash = kmtls_hash_text(subject.text);
	*ret_subject = subject;
	return 0;
}

/* Writes text as parse reads it; false: it is not of this kind. */
static bool format_text(unsigned kind, const char *text, char *buffer, size_t size)
{
	struct kmtls_spiffe_id id;
	const char *rule, *path;

	if (kmtls_spiffe_id_parse(text, strlen(text), &id, &rule) < 0)
		return false;
	path = text + id.path_offset;
	switch (kind) {
	case KMTLS_MATCH_EXACT:
		snprintf(buffer, size, "%s", text);
		return true;
	case KMTLS_MATCH_NAMESPACE:
		if (strncmp(path, "/ns/", strlen("/ns/")) || strchr(path + strlen("/ns/"), '/'))
			return false;
		snprintf(buffer, size, NAMESPACE "%.*s/%s", (int)id.trust_domain_length,
			 text + id.trust_domain_offset, path + strlen("/ns/"));
		return true;
	case KMTLS_MATCH_TRUST_DOMAIN:
		if (id.path_length)
			return false;
		snprintf(buffer, size, TRUST_DOMAIN "%s", text + id.trust_domain_offset);
		return true;
	}
	return false;
}

const char *kmtls_subject_format(unsigned kind, __u64 hash, const char *text, char *buffer,
				 size_t size)
{
	static const char *const prefixes[] = { [KMTLS_MATCH_EXACT] = "",
						[KMTLS_MATCH_NAMESPACE] = NAMESPACE,
						[KMTLS_MATCH_TRUST_DOMAIN] = TRUST_DOMAIN };

	if (kind == KMTLS_MATCH_ANY && !hash)
		snprintf(buffer, size, "any");
	else if (kind == 0 || kind >= KMTLS_MATCH_ANY)
		snprintf(buffer, size, "kind-%u:0x%016llx", kind, (unsigned long long)hash);
	else if (!text || !format_text(kind, text, buffer, size))
		snprintf(buffer, size, "%s0x%016llx", prefixes[kind], (unsigned long long)hash);
	return buffer;
}

int kmtls_subject_hashes(const char *id, __u64 ret_hashes[KMTLS_MATCH_ANY + 1])
{
	struct kmtls_spiffe_id parsed;
	size_t namespace_length;
	const char *rule;

	if (kmtls_spiffe_id_parse(id, strlen(id), &parsed, &rule) < 0)
		return -EINVAL;
	namespace_length = kmtls_spiffe_namespace_length(&parsed);
	memset(ret_hashes, 0, (KMTLS_MATCH_ANY + 1) * sizeof(*ret_hashes));
	ret_hashes[KMTLS_MATCH_EXACT] = kmtls_hash_bytes(id, parsed.length);
	if (namespace_length)
		ret_hashes[KMTLS_MATCH_NAMESPACE] = kmtls_hash_bytes(id, namespace_length);
	ret_hashes[KMTLS_MATCH_TRUST_DOMAIN] = kmtls_hash_bytes(id, parsed.path_offset);
	return 0;
}
