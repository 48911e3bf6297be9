/* SPDX-License-Identifier: Apache-2.0 */
/* workload_bundles.c - trust bundles and revocation lists out of DER (workload_identity.h). */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spiffe.h"
#include "workload_identity.h"
#include "workload_parts.h"

#define SCHEME "spiffe://"
#define CRL_MAX (1U << 20)

int kmtls_workload_refuse(int err, char *ret_why, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(ret_why, KMTLS_WORKLOAD_WHY, format, arguments);
	va_end(arguments);
	ERR_clear_error();
	return err;
}

int kmtls_workload_read_certificates(ProtobufCBinaryData der, const char *what, int max,
				     STACK_OF(X509) * to, char *ret_why)
{
	const unsigned char *at = der.data, *end;

	if (!der.len)
		return kmtls_workload_refuse(-EINVAL, ret_why, "%s: is empty", what);
	end = der.data + der.len;
	while (at < end) {
		const unsigned char *begin = at;
		X509 *certificate;

		if (sk_X509_num(to) >= max)
			return kmtls_workload_refuse(-EINVAL, ret_why,
						     "%s: more than %d certificates", what, max);
		certificate = d2i_X509(NULL, &at, end - at);
		if (!certificate)
			return kmtls_workload_refuse(
				-EINVAL, ret_why,
				begin == der.data ? "%s: not a certificate in DER"
						  : "%s: what follows a certificate is not one",
				what);
		if (at - begin > KMTLS_WORKLOAD_CERTIFICATE_MAX || !sk_X509_push(to, certificate)) {
			X509_free(certificate);
			return kmtls_workload_refuse(-EINVAL, ret_why,
						     "%s: a certificate of more than %d bytes",
						     what, KMTLS_WORKLOAD_CERTIFICATE_MAX);
		}
	}
	return 0;
}

const char *kmtls_workload_trust_domain(const char *text, const char **ret_rule)
{
	char buffer[sizeof(SCHEME) + KMTLS_WORKLOAD_TRUST_DOMAIN_MAX];
	struct kmtls_spiffe_id id;

	if (!strncmp(text, SCHEME, sizeof(SCHEME) - 1))
		text += sizeof(SCHEME) - 1;
	*ret_rule = "it is longer than 255 bytes";
	if (strlen(text) > KMTLS_WORKLOAD_TRUST_DOMAIN_MAX)
		return NULL;
	snprintf(buffer, sizeof(buffer), SCHEME "%s", text);
	if (kmtls_spiffe_id_parse(buffer, strlen(buffer), &id, ret_rule))
		return NULL;
	*ret_rule = "it has a path";
	return id.path_length ? NULL : text;
}

/* X.509-SVID section 3.2: a signing certificate may say of which trust domain it is. */
static bool is_foreign(X509 *root, const char *trust_domain)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(root, NID_subject_alt_name, NULL, NULL);
	bool foreign = false;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		const char *text = (const char *)ASN1_STRING_get0_data(name->d.ia5);
		struct kmtls_spiffe_id id;
		const char *rule;

		if (name->type != GEN_URI ||
		    ASN1_STRING_length(name->d.ia5) < (int)sizeof(SCHEME) - 1 ||
		    memcmp(text, SCHEME, sizeof(SCHEME) - 1))
			continue;
		if (kmtls_spiffe_id_parse(text, ASN1_STRING_length(name->d.ia5), &id, &rule) ||
		    id.trust_domain_length != strlen(trust_domain) ||
		    memcmp(text + id.trust_domain_offset, trust_domain, id.trust_domain_length))
			foreign = true;
	}
	GENERAL_NAMES_free(names);
	return foreign;
}

static int check_roots(const struct kmtls_workload_bundle *bundle, char *ret_why)
{
	for (int i = 0; i < sk_X509_num(bundle->roots); i++) {
		X509 *root = sk_X509_value(bundle->roots, i);
		__u32 flags = X509_get_extension_flags(root);

		if ((flags & EXFLAG_INVALID) || !(flags & EXFLAG_CA))
			return kmtls_workload_refuse(
				-EINVAL, ret_why, "bundle of %.100s: certificate %d is not a CA's",
				bundle->trust_domain, i + 1);
		if (is_foreign(root, bundle->trust_domain))
			return kmtls_workload_refuse(
				-EINVAL, ret_why,
				"bundle of %.100s: certificate %d is of another trust domain",
				bundle->trust_domain, i + 1);
	}
	ERR_clear_error();
	return 0;
}

const struct kmtls_workload_bundle *
kmtls_workload_bundles_find(const struct kmtls_workload_bundles *bundles, const char *trust_domain)
{
	const char *rule, *name = kmtls_workload_trust_domain(trust_domain, &rule);

	for (size_t i = 0; name && i < bundles->count; i++)
		if (!strcmp(bundles->items[i].trust_domain, name))
			return &bundles->items[i];
	return NULL;
}

/* Room for one more, zeroed and counted. NULL: no memory. */
struct kmtls_workload_bundle *kmtls_workload_bundles_extend(struct kmtls_workload_bundles *bundles)
{
	struct kmtls_workload_bundle *items =
		reallocarray(bundles->items, bundles->count + 1, sizeof(*items));

	if (!items)
		return NULL;
	bundles->items = items;
	items += bundles->count++;
	memset(items, 0, sizeof(*items));
	return items;
}

static int fill(struct kmtls_workload_bundle *bundle, const char *name, ProtobufCBinaryData der,
		char *ret_why)
{
	char what[KMTLS_WORKLOAD_TRUST_DOMAIN_MAX + 16];
	int err;

	snprintf(bundle->trust_domain, sizeof(bundle->trust_domain), "%s", name);
	snprintf(what, sizeof(what), "bundle of %.100s", name);
	bundle->roots = sk_X509_new_null();
	if (!bundle->roots)
		return kmtls_workload_refuse(-ENOMEM, ret_why, "out of memory");
	err = kmtls_workload_read_certificates(der, what, KMTLS_WORKLOAD_ROOTS_MAX, bundle->roots,
					       ret_why);
	return err ? err : check_roots(bundle, ret_why);
}

int kmtls_workload_bundles_add(struct kmtls_workload_bundles *bundles, const char *trust_domain,
			       ProtobufCBinaryData der, char *ret_why)
{
	const char *rule, *name = kmtls_workload_trust_domain(trust_domain, &rule);
	struct kmtls_workload_bundle *bundle;
	int err;

	if (!name)
		return kmtls_workload_refuse(-EINVAL, ret_why, "a bundle is of no trust domain: %s",
					     rule);
	if (kmtls_workload_bundles_find(bundles, name))
		return kmtls_workload_refuse(-EEXIST, ret_why, "two bundles of %.150s", name);
	bundle = kmtls_workload_bundles_extend(bundles);
	if (!bundle)
		return kmtls_workload_refuse(-ENOMEM, ret_why, "out of memory");
	err = fill(bundle, name, der, ret_why);
	if (err) {
		sk_X509_pop_free(bundle->roots, X509_free);
		bundles->count--;
	}
	return err;
}

int kmtls_workload_bundles_add_crls(struct kmtls_workload_bundles *bundles,
				    const ProtobufCBinaryData *ders, size_t count, char *ret_why)
{
	if (count > KMTLS_WORKLOAD_CRLS_MAX)
		return kmtls_workload_refuse(-EINVAL, ret_why, "more than %d revocation lists",
					     KMTLS_WORKLOAD_CRLS_MAX);
	if (count && !bundles->crls)
		bundles->crls = sk_X509_CRL_new_null();
	for (size_t i = 0; i < count; i++) {
		const unsigned char *at = ders[i].data;
		X509_CRL *crl;

		if (ders[i].len > CRL_MAX)
			return kmtls_workload_refuse(-EINVAL, ret_why,
						     "revocation list %zu: more than %u bytes",
						     i + 1, CRL_MAX);
		crl = ders[i].len ? d2i_X509_CRL(NULL, &at, (long)ders[i].len) : NULL;
		if (!crl || at != ders[i].data + ders[i].len) {
			X509_CRL_free(crl);
			return kmtls_workload_refuse(-EINVAL, ret_why,
						     "revocation list %zu: not one in DER", i + 1);
		}
		if (!bundles->crls || !sk_X509_CRL_push(bundles->crls, crl)) {
			X509_CRL_free(crl);
			return kmtls_workload_refuse(-ENOMEM, ret_why, "out of memory");
		}
	}
	return 0;
}

void kmtls_workload_bundles_free(struct kmtls_workload_bundles *bundles)
{
	for (size_t i = 0; i < bundles->count; i++)
		sk_X509_pop_free(bundles->items[i].roots, X509_free);
	free(bundles->items);
	sk_X509_CRL_pop_free(bundles->crls, X509_CRL_free);
	*bundles = (struct kmtls_workload_bundles){ 0 };
}
