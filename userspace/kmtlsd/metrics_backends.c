/* SPDX-License-Identifier: Apache-2.0 */
/* metrics_backends.c - the part of metrics.h that is about identity backends and their roots. */
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>

#include "daemon.h"
#include "identity.h"
#include "metrics.h"
#include "shared.h"
#include "verify.h"

#define SUBJECT 512

static struct kmtls_identity *backend_at(struct kmtls_daemon *daemon, unsigned place)
{
	const char *ignored;

	return kmtls_identities_at(daemon->identities, place, &ignored);
}

static void put_infos(struct kmtls_daemon *daemon, struct kmtls_text *text)
{
	const struct kmtls_config *config = daemon->config;

	kmtls_metrics_text_begin(text, KMTLS_METRIC_BACKEND_INFO);
	for (unsigned i = 0; i < config->identity.backends_count; i++) {
		const struct kmtls_config_backend *backend = &config->identity.backends[i];

		kmtls_metrics_text_put(text, KMTLS_METRIC_BACKEND_INFO, 1, backend->name,
				       kmtls_backend_type_name(backend->type),
				       kmtls_identities_role(daemon->identities, i));
	}
}

static void put_sources(struct kmtls_daemon *daemon, struct kmtls_text *text)
{
	const struct kmtls_config *config = daemon->config;
	char ignored[KMTLS_IDENTITY_WHY];

	kmtls_metrics_text_begin(text, KMTLS_METRIC_BACKEND_SOURCE);
	for (unsigned i = 0; i < config->identity.backends_count; i++) {
		struct kmtls_identity *identity = backend_at(daemon, i);
		enum kmtls_identity_state now;

		if (!identity || !identity->operations->state)
			continue;
		now = identity->operations->state(identity, NULL, ignored);
		for (unsigned state = KMTLS_IDENTITY_OK; state <= KMTLS_IDENTITY_REFUSED; state++)
			kmtls_metrics_text_put(text, KMTLS_METRIC_BACKEND_SOURCE, now == state,
					       config->identity.backends[i].name,
					       kmtls_identity_state_name(state));
	}
}

static void put_authorities(struct kmtls_daemon *daemon, struct kmtls_text *text)
{
	const struct kmtls_config *config = daemon->config;

	kmtls_metrics_text_begin(text, KMTLS_METRIC_BACKEND_NOT_AFTER);
	for (unsigned i = 0; i < config->identity.backends_count; i++) {
		struct kmtls_identity *identity = backend_at(daemon, i);
		X509 *authority = identity ? identity->operations->authority(identity) : NULL;
		time_t not_after;

		if (authority && !kmtls_verify_time(X509_get0_notAfter(authority), &not_after))
			kmtls_metrics_text_put(text, KMTLS_METRIC_BACKEND_NOT_AFTER, not_after,
					       config->identity.backends[i].name);
	}
}

static const char *subject_of(const X509 *root, char *buffer)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int length = 0;

	if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(root), 0, XN_FLAG_RFC2253) >= 0)
		length = BIO_read(bio, buffer, SUBJECT - 1);
	buffer[length > 0 ? length : 0] = '\0';
	BIO_free(bio);
	return buffer;
}

static void put_root(const char *backend, const X509 *root, struct kmtls_text *text)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	char subject[SUBJECT], hex[2 * EVP_MAX_MD_SIZE + 1] = "";
	unsigned length = 0;
	time_t not_after;

	if (!X509_digest(root, EVP_sha256(), digest, &length) ||
	    kmtls_verify_time(X509_get0_notAfter(root), &not_after))
		return;
	for (unsigned i = 0; i < length; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	kmtls_metrics_text_put(text, KMTLS_METRIC_ROOT_NOT_AFTER, not_after, backend,
			       subject_of(root, subject), hex);
}

/* Of a bundle with the same certificate twice one is told: two samples with the same labels would
 * make the whole scrape worthless. */
static bool is_repeated(STACK_OF(X509) * roots, int place)
{
	for (int i = 0; i < place; i++)
		if (X509_cmp(sk_X509_value(roots, i), sk_X509_value(roots, place)) == 0)
			return true;
	return false;
}

static void put_roots(struct kmtls_daemon *daemon, struct kmtls_text *text)
{
	const struct kmtls_config *config = daemon->config;

	kmtls_metrics_text_begin(text, KMTLS_METRIC_ROOT_NOT_AFTER);
	for (unsigned i = 0; i < config->identity.backends_count; i++) {
		const struct kmtls_config_backend *backend = &config->identity.backends[i];
		struct kmtls_identity *identity = backend->trust ? backend_at(daemon, i) : NULL;
		STACK_OF(X509) *roots =
			identity ? identity->operations->roots(identity, NULL) : NULL;

		for (int j = 0; j < sk_X509_num(roots); j++)
			if (!is_repeated(roots, j))
				put_root(backend->name, sk_X509_value(roots, j), text);
		sk_X509_pop_free(roots, X509_free);
	}
}

void kmtls_metrics_render_backends(struct kmtls_daemon *daemon, struct kmtls_text *text)
{
	kmtls_metrics_text_one(text, KMTLS_METRIC_IDENTITY_ENABLED,
			       kmtls_identities_enabled(daemon->identities));
	put_infos(daemon, text);
	put_sources(daemon, text);
	put_authorities(daemon, text);
	put_roots(daemon, text);
	kmtls_metrics_text_one(text, KMTLS_METRIC_IDENTITY_REFUSED,
			       daemon->shared->identity_refused);
	kmtls_metrics_text_one(text, KMTLS_METRIC_IDENTITY_NOT_TAKEN,
			       daemon->shared->identity_not_taken);
	ERR_clear_error();
}
