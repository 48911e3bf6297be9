/* SPDX-License-Identifier: Apache-2.0 */
/* identity_ca.c - see identity_ca.h. */
#include "identity_ca.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "log.h"
#include "svid_store.h"

static struct kmtls_identity_ca *ca_of(const struct kmtls_identity *identity)
{
	return (struct kmtls_identity_ca *)identity;
}

static int issue(struct kmtls_identity *identity, const struct kmtls_identity_subject *subject,
		 struct kmtls_identity_material *ret_material, char *ret_why)
{
	struct kmtls_identity_ca *own = ca_of(identity);
	int err;

	pthread_rwlock_rdlock(&own->lock);
	err = kmtls_ca_issue(&own->ca, identity->options.trust_domain, subject->id,
			     kmtls_identity_key_type(identity), kmtls_identity_svid_ttl(identity),
			     ret_material, ret_why);
	pthread_rwlock_unlock(&own->lock);
	return err;
}

static STACK_OF(X509) *
	roots(struct kmtls_identity *identity, const struct kmtls_identity_subject *subject)
{
	struct kmtls_identity_ca *own = ca_of(identity);
	STACK_OF(X509) * all;

	pthread_rwlock_rdlock(&own->lock);
	all = X509_chain_up_ref(own->ca.roots);
	pthread_rwlock_unlock(&own->lock);
	return all;
}

static X509 *authority(const struct kmtls_identity *identity)
{
	struct kmtls_identity_ca *own = ca_of(identity);
	X509 *certificate;

	pthread_rwlock_rdlock(&own->lock);
	certificate = kmtls_ca_certificate(&own->ca);
	pthread_rwlock_unlock(&own->lock);
	return certificate;
}

static int keep(const struct kmtls_identity *identity)
{
	struct kmtls_secret_region *secrets = identity->options.secrets;
	struct kmtls_identity_ca *own = ca_of(identity);
	char name[KMTLS_BACKEND_KEPT_NAME];
	int err = 0;

	pthread_rwlock_rdlock(&own->lock);
	if (secrets)
		err = kmtls_svid_store_put_ca(
			secrets, kmtls_backend_kept_name(identity->options.backend, name),
			&own->ca);
	pthread_rwlock_unlock(&own->lock);
	return err;
}

static bool is_same_stack(const STACK_OF(X509) * a, const STACK_OF(X509) * b)
{
	int count = sk_X509_num(a);

	if (count != sk_X509_num(b))
		return false;
	for (int i = 0; i < count; i++)
		if (X509_cmp(sk_X509_value(a, i), sk_X509_value(b, i)) != 0)
			return false;
	return true;
}

/* The certificate that was given out stays as long as the source. */
static bool use(struct kmtls_identity_ca *own, struct kmtls_ca *fresh)
{
	X509 *former = kmtls_ca_certificate(&own->ca);
	struct kmtls_ca old;

	if (!X509_up_ref(former))
		return false;
	if (sk_X509_push(own->retired, former) <= 0) {
		X509_free(former);
		return false;
	}
	pthread_rwlock_wrlock(&own->lock);
	old = own->ca;
	own->ca = *fresh;
	pthread_rwlock_unlock(&own->lock);
	*fresh = (struct kmtls_ca){ .key = NULL };
	kmtls_ca_clear(&old);
	return true;
}

/* By one thread at a time: that of the control socket. */
static int refresh(struct kmtls_identity *identity, bool *ret_changed, char *ret_why)
{
	struct kmtls_identity_ca *own = ca_of(identity);
	struct kmtls_identity_ca fresh = { .identity = *identity };
	bool same;
	int err;

	*ret_changed = false;
	if (!own->load)
		return 0;
	err = own->load(&fresh, ret_why);
	same = !err && is_same_stack(fresh.ca.chain, own->ca.chain) &&
	       is_same_stack(fresh.ca.roots, own->ca.roots);
	if (!err && !same && !use(own, &fresh.ca)) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "out of memory");
		err = -ENOMEM;
	}
	kmtls_ca_clear(&fresh.ca);
	if (err || same)
		return err;
	*ret_changed = true;
	log_info("CA read anew", "backend=%s", kmtls_log_quote(identity->options.backend->name));
	if (keep(identity) < 0)
		log_warning("identity backend not kept for the next worker", "backend=%s",
			    kmtls_log_quote(identity->options.backend->name));
	return 0;
}

static void close_ca(struct kmtls_identity *identity)
{
	struct kmtls_identity_ca *own = ca_of(identity);

	kmtls_ca_clear(&own->ca);
	sk_X509_pop_free(own->retired, X509_free);
	pthread_rwlock_destroy(&own->lock);
	free(identity);
}

static const struct kmtls_identity_operations operations = {
	.issue = issue,
	.roots = roots,
	.authority = authority,
	.refresh = refresh,
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
	pthread_rwlock_init(&identity->lock, NULL);
	snprintf(ret_why, KMTLS_IDENTITY_WHY, "out of memory");
	identity->retired = sk_X509_new_null();
	err = identity->retired ? find(identity, ret_why) : -ENOMEM;
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
