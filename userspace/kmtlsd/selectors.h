/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selectors.h - by what a SPIRE agent is told which pod is meant: "TYPE:VALUE" with a pod's names put
 * into the value.
 */
#ifndef KMTLS_SELECTORS_H
#define KMTLS_SELECTORS_H

#include "identity.h"

#define KMTLS_SELECTORS_MAX 32
#define KMTLS_SELECTOR_MAX 1024 /* bytes of one, as it is written and as it is sent */

/* The rule that a selector of the configuration breaks; NULL: none. */
const char *kmtls_selectors_check(const char *selector);

/* All are the caller's. */
struct kmtls_selectors {
	char *items[KMTLS_SELECTORS_MAX];
	unsigned count;
};

/*
 * Of a pod; those that name something it does not have are left out, which can only make the agent
 * find less. templates NULL: the usual ones. -EINVAL and a sentence (KMTLS_IDENTITY_WHY): there is
 * none left; -ENOMEM.
 */
int kmtls_selectors_make(char *const *templates, unsigned count,
			 const struct kmtls_identity_subject *subject,
			 struct kmtls_selectors *ret_selectors, char *ret_why);
void kmtls_selectors_free(struct kmtls_selectors *selectors);

#endif
