/* SPDX-License-Identifier: Apache-2.0 */
/* trust.c - see trust.h. */
#include "trust.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

static const char *rule(const struct kmtls_trust_bundle *bundles, unsigned count)
{
	if (!count)
		return "there is no trust bundle";
	if (count > KMTLS_TRUST_DOMAINS_MAX)
		return "there are bundles of more than 256 trust domains";
	for (unsigned i = 0; i < count; i++) {
		if (sk_X509_num(bundles[i].roots) < 1)
			return "the trust bundle is empty";
		if (sk_X509_num(bundles[i].roots) > KMTLS_TRUST_ROOTS_MAX)
			return "the trust bundle has more than 64 certificates";
		for (unsigned j = 0; j < i; j++)
			if (!strcmp(bundles[i].trust_domain, bundles[j].trust_domain))
				return "there are two bundles of one trust domain";
	}
	return NULL;
}

int kmtls_trust_new(const struct kmtls_trust_bundle *bundles, unsigned count,
		    struct kmtls_trust **ret_trust, const char **ret_why)
{
	struct kmtls_trust *trust;

	*ret_why = rule(bundles, count);
	if (*ret_why)
		return -EINVAL;
	*ret_why = "out of memory";
	trust = calloc(1, sizeof(*trust) + count * sizeof(trust->bundles[0]));
	if (!trust)
		return -ENOMEM;
	trust->references = 1;
	for (; trust->count < count; trust->count++) {
		struct kmtls_trust_bundle *bundle = &trust->bundles[trust->count];

		bundle->trust_domain = strdup(bundles[trust->count].trust_domain);
		bundle->roots = X509_chain_up_ref(bundles[trust->count].roots);
		if (bundle->trust_domain && bundle->roots)
			continue;
		trust->count++;
		kmtls_trust_put(trust);
		ERR_clear_error();
		return -ENOMEM;
	}
	*ret_trust = trust;
	return 0;
}

struct kmtls_trust *kmtls_trust_get(struct kmtls_trust *trust)
{
	__atomic_add_fetch(&trust->references, 1, __ATOMIC_RELAXED);
	return trust;
}

void kmtls_trust_put(struct kmtls_trust *trust)
{
	if (!trust || __atomic_sub_fetch(&trust->references, 1, __ATOMIC_ACQ_REL))
		return;
	for (unsigned i = 0; i < trust->count; i++) {
		free((char *)trust->bundles[i].trust_domain);
		sk_X509_pop_free(trust->bundles[i].roots, X509_free);
	}
	free(trust);
}

STACK_OF(X509) *
	kmtls_trust_roots(const struct kmtls_trust *trust, const char *trust_domain, size_t length)
{
	for (unsigned i = 0; i < trust->count; i++) {
		const struct kmtls_trust_bundle *bundle = &trust->bundles[i];

		if (strlen(bundle->trust_domain) == length &&
		    !memcmp(bundle->trust_domain, trust_domain, length))
			return bundle->roots;
	}
	return NULL;
}
