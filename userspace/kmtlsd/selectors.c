/* SPDX-License-Identifier: Apache-2.0 */
/* selectors.c - see selectors.h. */
#include "selectors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As SPIRE's attestor of Kubernetes workloads names them. */
static char *const usual[] = {
	(char *)"k8s:ns:{namespace}",
	(char *)"k8s:sa:{service_account}",
	(char *)"k8s:pod-name:{name}",
};

struct part {
	const char *text; /* NULL: the pod has none */
	size_t length;
};

/* ---- what a pod has ---- */

static struct part namespace_of(const struct kmtls_identity_subject *subject)
{
	const char *slash = strchr(subject->pod, '/');

	return (struct part){ slash ? subject->pod : NULL, slash ? slash - subject->pod : 0 };
}

static struct part name_of(const struct kmtls_identity_subject *subject)
{
	const char *slash = strchr(subject->pod, '/');
	const char *name = slash ? slash + 1 : subject->pod;

	return (struct part){ name, strlen(name) };
}

static struct part whole_of(const struct kmtls_identity_subject *subject)
{
	return (struct part){ subject->pod, strlen(subject->pod) };
}

/* Of an ID as SPIRE's controller for Kubernetes makes them: spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT. */
static struct part account_of(const struct kmtls_identity_subject *subject)
{
	const struct part none = { NULL, 0 };
	const char *at = strstr(subject->id, "://");

	at = at ? strchr(at + 3, '/') : NULL;
	if (!at || strncmp(at, "/ns/", 4) != 0)
		return none;
	at = strchr(at + 4, '/');
	if (!at || strncmp(at, "/sa/", 4) != 0 || !at[4] || strchr(at + 4, '/'))
		return none;
	return (struct part){ at + 4, strlen(at + 4) };
}

static const struct {
	const char *word;
	struct part (*get)(const struct kmtls_identity_subject *subject);
} places[] = {
	{ "{namespace}", namespace_of },
	{ "{name}", name_of },
	{ "{service_account}", account_of },
	{ "{pod}", whole_of },
};
#define PLACES (sizeof(places) / sizeof(places[0]))

/* Which one stands there, or PLACES. */
static size_t place_at(const char *text)
{
	size_t i = 0;

	while (i < PLACES && strncmp(text, places[i].word, strlen(places[i].word)) != 0)
		i++;
	return i;
}

const char *kmtls_selectors_check(const char *selector)
{
	const char *colon = strchr(selector, ':');

	if (strlen(selector) > KMTLS_SELECTOR_MAX)
		return "the selector is longer than 1024 bytes";
	if (!colon || colon == selector || !colon[1])
		return "the selector is not TYPE:VALUE";
	if (memchr(selector, '{', colon - selector))
		return "the selector's type cannot depend on the pod";
	for (const char *at = colon; (at = strchr(at, '{')); at++)
		if (place_at(at) == PLACES)
			return "after { there must be namespace}, name}, service_account} or pod}";
	return NULL;
}

/* ---- one for a pod ---- */

/* 0: the pod has not all of it, or it gets too long. */
static size_t expand(const char *from, const struct kmtls_identity_subject *subject, char *text)
{
	size_t length = 0;

	while (*from) {
		size_t place = place_at(from);
		struct part part = { from, 1 };

		if (place < PLACES)
			part = places[place].get(subject);
		if (!part.text || length + part.length > KMTLS_SELECTOR_MAX)
			return 0;
		memcpy(text + length, part.text, part.length);
		length += part.length;
		from += place < PLACES ? strlen(places[place].word) : 1;
	}
	text[length] = '\0';
	return length;
}

int kmtls_selectors_make(char *const *templates, unsigned count,
			 const struct kmtls_identity_subject *subject,
			 struct kmtls_selectors *ret_selectors, char *ret_why)
{
	struct kmtls_selectors made = { .count = 0 };
	char text[KMTLS_SELECTOR_MAX + 1];

	if (!templates) {
		templates = usual;
		count = sizeof(usual) / sizeof(usual[0]);
	}
	for (unsigned i = 0; i < count && made.count < KMTLS_SELECTORS_MAX; i++) {
		if (!expand(templates[i], subject, text))
			continue;
		made.items[made.count] = strdup(text);
		if (!made.items[made.count++]) {
			kmtls_selectors_free(&made);
			snprintf(ret_why, KMTLS_IDENTITY_WHY, "out of memory");
			return -ENOMEM;
		}
	}
	if (!made.count) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY,
			 "pod %.128s: there is no selector for it (selectors)", subject->pod);
		return -EINVAL;
	}
	*ret_selectors = made;
	return 0;
}

void kmtls_selectors_free(struct kmtls_selectors *selectors)
{
	for (unsigned i = 0; i < selectors->count; i++)
		free(selectors->items[i]);
	selectors->count = 0;
}
