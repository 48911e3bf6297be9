/* SPDX-License-Identifier: Apache-2.0 */
/* identity_ca.c - see identity_ca.h. */
#include "identity_ca.h"

#include <errno.h>
#include <stdlib.h>

#include "svid_store.h"

static const struct kmtls_identity_ca *ca_of(const struct kmtls_identity *identity)
{
	return (const struct kmtls_identity_ca *)identity;
}

static int issue(struct kmtls_identity *identity, const struct kmtls_identity_subject *subject,
		 struct kmtls_identity_material *ret_material, char *ret_why)
{
	return kmtls_ca_issue(&ca_of(identity)->ca, identity->options.trust_domain, subject->id,
			      kmtls_identity_key_type(identity), kmtls_identity_svid_ttl(identity),
			      ret_material, ret_why);
}

static STACK_OF(X509) *
	roots(struct kmtls_identity *identity, const struct kmtls_identity_subject *subject)
{
	return X509_chain_up_ref(ca_of(identity)->ca.roots);
}

static X509 *authority(const struct kmtls_identity *identity)
{
	return kmtls_ca_certificate(&ca_of(identity)->ca);
}

static int keep(const struct kmtls_identity *identity)
{
	struct kmtls_secret_region *secrets = identity->options.secrets;
	char name[KMTLS_BACKEND_KEPT_NAME];

	return secrets ? kmtls_svid_store_put_ca(
				 secrets, kmtls_backend_kept_name(identity->options.backend, name),
				 &ca_of(identity)->ca)
		       : 0;
}

static void close_ca(struct kmtls_identity *identity)
{
	kmtls_ca_clear(&((struct kmtls_identity_ca *)identity)->ca);
	free(identity);
}

static const struct kmtls_identity_operations operations = {
	.issue = issue,
	.roots = roots,
	.authority = authority,
	.keep = keep,
	.close = close_ca,
};

int kmtls_identity_ca_open(const struct kmtls_identity_options *options,
			   int (*find)(struct kmtls_identity_ca *identity, char *ret_why),
			   struct kmtls_identity **ret_identity, char *ret_why)
{
	struct kmtls_identity_ca *identity = calloc(1, sizeof(*identity));
	int err;

	if (!identity) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "out of memory");
		return -ENOMEM;
	}
	identity->identity.operations = &operations;
	identity->identity.options = *options;
	err = find(identity, ret_why);
	if (err)
		close_ca(&identity->identity);
	else
		*ret_identity = &identity->identity;
	return err;
}

int kmtls_identity_ca_kept(struct kmtls_identity_ca *identity)
{
	struct kmtls_secret_region *secrets = identity->identity.options.secrets;
	char name[KMTLS_BACKEND_KEPT_NAME];

	return secrets ? kmtls_svid_store_get_ca(
				 secrets,
				 kmtls_backend_kept_name(identity->identity.options.backend, name),
				 &identity->ca)
		       : -ENOENT;
}
