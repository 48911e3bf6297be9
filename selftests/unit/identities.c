/* SPDX-License-Identifier: Apache-2.0 */
/* identities.c - see identities.h. */
#include "identities.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

int test_try_issue(struct kmtls_identity *identity, const char *id, struct kmtls_svid **ret_svid,
		   char *ret_why)
{
	struct kmtls_identity_material material = {};
	const struct kmtls_identity_subject subject = { .id = id, .pod = "pod" };
	int err = identity->operations->issue(identity, &subject, &material, ret_why);
	STACK_OF(X509) * bundle;
	const char *rule;

	if (err)
		return err;
	bundle = identity->operations->roots(identity, &subject);
	err = kmtls_svid_new(material.leaf, material.chain, material.key, bundle, ret_svid, &rule);
	if (err)
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%s", rule);
	sk_X509_pop_free(bundle, X509_free);
	kmtls_identity_material_clear(&material);
	return err;
}

struct kmtls_svid *test_issue(struct kmtls_identity *identity, const char *id)
{
	char why[KMTLS_IDENTITY_WHY] = "";
	struct kmtls_svid *svid = NULL;

	if (test_try_issue(identity, id, &svid, why))
		fail_msg("%s", why);
	return svid;
}
