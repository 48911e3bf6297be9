/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend.c - agentctl's third kind: the identity backends of a configuration file, as the daemon has
 * them.
 *
 *   agentctl backend CONFIG
 *
 *   issue ID POD              an SVID of the pod, kept for the next worker
 *   version ID POD            whether there is something new
 *   state [ID POD]            of the backend that is enabled
 *   look                      the connection of the one that is enabled
 *   tick                      what the daemon does twice a second
 *   worker                    another worker in place of this one
 *   kept ID                   what it was left
 */
#include "backend.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/bn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"
#include "config.h"
#include "identity.h"
#include "json.h"
#include "secret_region.h"
#include "svid_store.h"

static struct kmtls_config *config;
static struct kmtls_secret_region *region;
static struct kmtls_identities *identities;
static _Atomic __u32 not_taken;
static char why[KMTLS_IDENTITY_WHY];

static int open_identities(bool prefer_kept)
{
	const struct kmtls_identities_options options = {
		.config = config,
		.secrets = region,
		.prefer_kept = prefer_kept,
		.not_taken = &not_taken,
	};

	return kmtls_identities_open(&options, &identities, why);
}

int backend_open(const char *path)
{
	char error[KMTLS_CONFIG_ERROR];
	int fd, err = kmtls_config_load(path, &config, error);

	if (err) {
		fprintf(stderr, "agentctl: %s\n", error);
		return err;
	}
	err = kmtls_secret_region_create(64, &region, &fd, why);
	if (!err)
		err = open_identities(false);
	if (err)
		fprintf(stderr, "agentctl: %s\n", why);
	return err;
}

void backend_close(void)
{
	kmtls_identities_close(identities);
	kmtls_config_free(config);
}

static json_t *describe_trust(const struct kmtls_trust *trust)
{
	json_t *json = json_object();

	for (unsigned i = 0; i < trust->count; i++)
		json_object_set_new(json, trust->bundles[i].trust_domain,
				    json_integer(sk_X509_num(trust->bundles[i].roots)));
	return json;
}

/* Takes the reference. */
static json_t *describe(const char *event, struct kmtls_svid *svid)
{
	X509 *leaf = SSL_CTX_get0_certificate(svid->client);
	BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(leaf), NULL);
	char *serial = BN_bn2hex(number);
	json_t *json = json_pack("{s:s, s:i, s:s, s:s, s:s, s:o, s:s}", "event", event, "err", 0,
				 "why", "", "id", svid->id, "serial", serial, "trust",
				 describe_trust(svid->trust), "source",
				 kmtls_identities_source(identities, svid));

	OPENSSL_free(serial);
	BN_free(number);
	kmtls_svid_put(svid);
	return json;
}

static json_t *failed(const char *event, int err)
{
	return json_pack("{s:s, s:i, s:o, s:I}", "event", event, "err", err, "why",
			 kmtls_json_string(why), "not_taken", (json_int_t)not_taken);
}

static json_t *issue(const struct kmtls_identity_subject *subject)
{
	struct kmtls_svid *svid;
	int err = kmtls_identities_issue(identities, subject, &svid, why);

	if (err)
		return failed("issue", err);
	err = kmtls_svid_store_put(region, svid);
	if (!err)
		return describe("issue", svid);
	kmtls_svid_put(svid);
	snprintf(why, sizeof(why), "not kept");
	return failed("issue", err);
}

static json_t *kept(const char *id)
{
	struct kmtls_svid *svid;
	int err = kmtls_svid_store_get(region, id, &svid);

	snprintf(why, sizeof(why), "%s", strerror(-err));
	return err ? failed("kept", err) : describe("kept", svid);
}

static json_t *state(const struct kmtls_identity_subject *subject)
{
	enum kmtls_identity_state now = kmtls_identities_state(identities, subject, why);

	return json_pack("{s:s, s:s, s:o, s:I}", "event", "state", "state",
			 kmtls_identity_state_name(now), "why", kmtls_json_string(why), "not_taken",
			 (json_int_t)not_taken);
}

static json_t *look(void)
{
	const char *ignored;
	unsigned place = (unsigned)(config->identity.enabled - config->identity.backends);
	struct kmtls_identity *one = kmtls_identities_at(identities, place, &ignored);
	struct kmtls_agent_view view;

	one->operations->look(one, &view);
	return json_pack("{s:s, s:s, s:I, s:I}", "event", "look", "state",
			 kmtls_agent_state_name(view.state), "answers", (json_int_t)view.answers,
			 "updated", (json_int_t)view.updated);
}

static json_t *next_worker(void)
{
	int err;

	kmtls_identities_close(identities);
	identities = NULL;
	err = open_identities(true);
	return failed("worker", err);
}

json_t *backend_obey(int count, char **words)
{
	const struct kmtls_identity_subject subject = {
		.id = count > 1 ? words[1] : NULL,
		.pod = count > 2 ? words[2] : NULL,
	};

	if (!strcmp(words[0], "tick")) {
		kmtls_identities_tick(identities);
		return failed("tick", 0);
	}
	if (!strcmp(words[0], "worker"))
		return next_worker();
	if (!strcmp(words[0], "look"))
		return look();
	if (!strcmp(words[0], "state"))
		return state(count > 2 ? &subject : NULL);
	if (!strcmp(words[0], "kept") && count > 1)
		return kept(words[1]);
	if (!strcmp(words[0], "issue") && count > 2)
		return issue(&subject);
	if (!strcmp(words[0], "version") && count > 2)
		return json_pack("{s:s, s:I}", "event", "version", "version",
				 (json_int_t)kmtls_identities_version(identities, &subject));
	return json_pack("{s:s}", "event", "unknown");
}
