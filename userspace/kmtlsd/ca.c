/* SPDX-License-Identifier: Apache-2.0 */
/* ca.c - see ca.h. */
#include "ca.h"

#include <errno.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "certificate.h"
#include "identity.h"
#include "spiffe.h"
#include "verify.h"

X509 *kmtls_ca_certificate(const struct kmtls_ca *ca)
{
	return sk_X509_value(ca->chain, 0);
}

/* -EINVAL unless id is a SPIFFE ID with a path of the trust domain. */
static int check_id(const char *trust_domain, const char *id, char *ret_why)
{
	struct kmtls_spiffe_id parsed;
	const char *rule;

	if (kmtls_spiffe_id_parse(id, strlen(id), &parsed, &rule)) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.120s: not a SPIFFE ID: %s", id, rule);
		return -EINVAL;
	}
	if (!parsed.path_length) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY,
			 "%.120s: names a trust domain, not a workload", id);
		return -EINVAL;
	}
	if (parsed.trust_domain_length != strlen(trust_domain) ||
	    memcmp(id + parsed.trust_domain_offset, trust_domain, parsed.trust_domain_length)) {
		snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.100s: is not of the trust domain %.100s",
			 id, trust_domain);
		return -EINVAL;
	}
	return 0;
}

static time_t soonest(X509 *certificate, time_t end)
{
	time_t own;

	/* What cannot be read has been refused when it was loaded. */
	if (kmtls_verify_time(X509_get0_notAfter(certificate), &own) < 0)
		return 0;
	return own < end ? own : end;
}

/* When the first certificate above an SVID ends. */
static time_t end_of(const struct kmtls_ca *ca)
{
	int last = sk_X509_num(ca->chain) - 1;
	X509 *top = sk_X509_value(ca->chain, last);
	time_t end = soonest(top, (time_t)1 << 62), of_roots = 0;

	for (int i = 0; i < last; i++)
		end = soonest(sk_X509_value(ca->chain, i), end);
	/* Of several roots that fit, the last one that ends counts. */
	for (int i = 0; i < sk_X509_num(ca->roots); i++) {
		X509 *root = sk_X509_value(ca->roots, i);
		time_t own = X509_check_issued(root, top) == X509_V_OK ? soonest(root, end) : 0;

		of_roots = own > of_roots ? own : of_roots;
	}
	return of_roots;
}

/* What an SVID carries beside the leaf: the root is the peer's to know. */
static int copy_chain(const struct kmtls_ca *ca, STACK_OF(X509) * *ret_chain)
{
	if (X509_self_signed(kmtls_ca_certificate(ca), 0) == 1)
		return 0;
	*ret_chain = X509_chain_up_ref(ca->chain);
	return *ret_chain ? 0 : -ENOMEM;
}

int kmtls_ca_issue(const struct kmtls_ca *ca, const char *trust_domain, const char *id,
		   enum kmtls_key_type key_type, unsigned ttl,
		   struct kmtls_identity_material *ret_material, char *ret_why)
{
	int err = check_id(trust_domain, id, ret_why);

	if (err)
		return err;
	err = kmtls_certificate_new_leaf(id, key_type, time(NULL), ttl, end_of(ca),
					 kmtls_ca_certificate(ca), ca->key, &ret_material->leaf,
					 &ret_material->key);
	if (!err)
		err = copy_chain(ca, &ret_material->chain);
	if (!err)
		return 0;
	snprintf(ret_why, KMTLS_IDENTITY_WHY, "%.120s: %s", id,
		 err == -EKEYEXPIRED ? "the CA has expired or is not valid yet"
				     : "OpenSSL could not make the certificate");
	kmtls_identity_material_clear(ret_material);
	return err;
}

void kmtls_ca_clear(struct kmtls_ca *ca)
{
	EVP_PKEY_free(ca->key);
	sk_X509_pop_free(ca->chain, X509_free);
	sk_X509_pop_free(ca->roots, X509_free);
	*ca = (struct kmtls_ca){ 0 };
}
