/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_identity.c - the verbs identity-show, identity-renew and identity-ca: SVIDs and the
 * backends they come from. No private key passes here: whoever may have one reads its file.
 */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"
#include "control_request.h"
#include "daemon.h"
#include "identity.h"
#include "pod_svid.h"
#include "shared.h"
#include "verify.h"

/* ---- show ---- */

static void list_pod(void *context, const struct kmtls_pod_svid_info *info)
{
	const struct kmtls_pod_rotation *rotation = &info->rotation;

	json_array_append_new(
		context,
		json_pack("{s:o, s:o, s:o, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:s, s:o}",
			  "pod", kmtls_json_string(info->name), "id", kmtls_json_string(info->id),
			  "source", kmtls_json_string(info->source), "serial", info->serial,
			  "issuer", kmtls_json_string(info->issuer), "not_before",
			  (json_int_t)info->not_before, "not_after", (json_int_t)info->not_after,
			  "issued", (json_int_t)rotation->issued, "next", (json_int_t)rotation->due,
			  "rotations", (json_int_t)rotation->rotations, "failures",
			  (json_int_t)rotation->failures, "last_error",
			  kmtls_json_string(rotation->last_error), "source_state", info->state,
			  "source_error", kmtls_json_string(info->why)));
}

/* "": it makes SVIDs itself. */
static const char *source_state(struct kmtls_identity *identity, char *ret_why)
{
	if (!identity || !identity->operations->state)
		return "";
	return kmtls_identity_state_name(identity->operations->state(identity, NULL, ret_why));
}

/* NULL: there is no agent. */
static json_t *agent_json(struct kmtls_identity *identity)
{
	struct kmtls_agent_view view;

	if (!identity || !identity->operations->look)
		return json_null();
	identity->operations->look(identity, &view);
	return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "state",
			 kmtls_agent_state_name(view.state), "connected",
			 view.state == KMTLS_AGENT_STREAMING, "since", (json_int_t)view.since,
			 "updated", (json_int_t)view.updated, "retry_in_ms",
			 (json_int_t)view.retry_in, "tries", (json_int_t)view.tries, "failures",
			 (json_int_t)view.failures, "answers", (json_int_t)view.answers,
			 "bad_answers", (json_int_t)view.bad_answers, "error",
			 kmtls_json_string(view.why));
}

static int count_roots(struct kmtls_identity *identity)
{
	STACK_OF(X509) *roots = identity ? identity->operations->roots(identity, NULL) : NULL;
	int count = roots ? sk_X509_num(roots) : 0;

	sk_X509_pop_free(roots, X509_free);
	return count;
}

static json_t *backend_json(struct kmtls_daemon *daemon, unsigned place)
{
	const struct kmtls_config_backend *backend = &daemon->config->identity.backends[place];
	bool makes = kmtls_backend_signs(backend->type);
	const char *why = "";
	struct kmtls_identity *identity = kmtls_identities_at(daemon->identities, place, &why);
	X509 *authority = identity ? identity->operations->authority(identity) : NULL;
	time_t not_before = 0, not_after = 0;
	char source_why[KMTLS_IDENTITY_WHY] = "";
	const char *source = source_state(identity, source_why);

	if (authority) {
		kmtls_verify_time(X509_get0_notBefore(authority), &not_before);
		kmtls_verify_time(X509_get0_notAfter(authority), &not_after);
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:i, s:I, s:I, s:s, s:I, s:o}", "name",
			 backend->name, "type", kmtls_backend_type_name(backend->type), "state",
			 kmtls_identities_role(daemon->identities, place), "source", source,
			 "error", kmtls_json_string(*why ? why : source_why), "roots",
			 count_roots(identity), "not_before", (json_int_t)not_before, "not_after",
			 (json_int_t)not_after, "key_type",
			 makes ? kmtls_key_type_name((enum kmtls_key_type)backend->key_type) : "",
			 "svid_ttl", (json_int_t)(makes ? backend->svid_ttl : 0), "agent",
			 agent_json(identity));
}

int kmtls_control_identity_show(struct kmtls_daemon *daemon, const json_t *arguments,
				struct kmtls_text *result, char *ret_why)
{
	const struct kmtls_config *config = daemon->config;
	const struct kmtls_config_backend *enabled = config->identity.enabled;
	json_t *backends = json_array(), *pods = json_array();

	for (unsigned i = 0; i < config->identity.backends_count; i++)
		json_array_append_new(backends, backend_json(daemon, i));
	kmtls_pod_svid_visit(daemon->pods, list_pod, pods);
	return kmtls_text_append_json(
		result,
		json_pack("{s:s, s:I, s:I, s:I, s:o, s:o}", "enabled", enabled ? enabled->name : "",
			  "renew_at", (json_int_t)config->identity.renew_at, "refused",
			  (json_int_t)daemon->shared->identity_refused, "not_taken",
			  (json_int_t)daemon->shared->identity_not_taken, "backends", backends,
			  "pods", pods));
}

json_t *kmtls_control_identity_status(struct kmtls_daemon *daemon)
{
	const struct kmtls_config *config = daemon->config;
	const struct kmtls_config_backend *enabled = config->identity.enabled;
	char why[KMTLS_IDENTITY_WHY] = "";
	enum kmtls_identity_state state = kmtls_identities_state(daemon->identities, NULL, why);

	return json_pack("{s:s, s:s, s:I, s:I, s:s, s:o}", "enabled", enabled ? enabled->name : "",
			 "type", enabled ? kmtls_backend_type_name(enabled->type) : "", "renew_at",
			 (json_int_t)config->identity.renew_at, "refused",
			 (json_int_t)daemon->shared->identity_refused, "source",
			 kmtls_identity_state_name(state), "source_error", kmtls_json_string(why));
}

/* ---- renew ---- */

int kmtls_control_identity_renew(struct kmtls_daemon *daemon, const json_t *arguments,
				 struct kmtls_text *result, char *ret_why)
{
	const char *pod = json_string_value(json_object_get(arguments, "pod"));
	char why[KMTLS_IDENTITY_WHY] = "";
	bool changed = false;
	unsigned count = 0;
	__u64 netns;
	json_t *answer;
	int err = -ENOTSUP;

	if (!kmtls_identities_enabled(daemon->identities)) {
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "no identity backend is enabled (identity.enabled): mutual TLS is off");
		return err;
	}
	err = pod ? kmtls_control_find_pod(daemon, pod, &netns, ret_why) : 0;
	if (err)
		return err;
	/* What cannot be read anew is no reason not to issue by what there is. Another CA is for all pods. */
	kmtls_identities_refresh(daemon->identities, &changed, why);
	err = kmtls_pod_svid_renew(daemon->pods, changed ? NULL : pod, &count, ret_why);
	if (err)
		return err;
	answer = json_pack("{s:I}", "renewed", (json_int_t)count);
	if (why[0] && answer)
		json_object_set_new(answer, "not_taken", kmtls_json_string(why));
	return kmtls_text_append_json(result, answer);
}

/* ---- the CA ---- */

/* The place of a backend, or of the one that is enabled. -ENOENT. */
static int find_backend(const struct kmtls_config *config, const char *name, char *ret_why)
{
	for (unsigned i = 0; i < config->identity.backends_count; i++) {
		const struct kmtls_config_backend *backend = &config->identity.backends[i];

		if (name ? !strcmp(backend->name, name) : backend == config->identity.enabled)
			return (int)i;
	}
	if (name)
		snprintf(ret_why, KMTLS_CONTROL_WHY, "backend: %.128s: there is none of that name",
			 name);
	else
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "no identity backend is enabled: say which one (--backend)");
	return -ENOENT;
}

static json_t *pem_of(X509 *certificate)
{
	BIO *bio = BIO_new(BIO_s_mem());
	json_t *text = NULL;
	char *bytes;
	long length;

	if (bio && PEM_write_bio_X509(bio, certificate)) {
		length = BIO_get_mem_data(bio, &bytes);
		text = json_stringn(bytes, (size_t)length);
	}
	BIO_free(bio);
	ERR_clear_error();
	return text;
}

static json_t *roots_json(struct kmtls_identity *identity)
{
	STACK_OF(X509) *roots = identity->operations->roots(identity, NULL);
	json_t *list = json_array();

	for (int i = 0; i < sk_X509_num(roots); i++)
		json_array_append_new(list, pem_of(sk_X509_value(roots, i)));
	sk_X509_pop_free(roots, X509_free);
	return list;
}

/* Where the key is, in a word and a path. */
static const char *key_manager(const struct kmtls_config_backend *backend, const char **ret_path)
{
	*ret_path = "";
	if (backend->root_file) {
		*ret_path = backend->root_file;
		return "disk";
	}
	if (backend->type == KMTLS_BACKEND_BUILTIN)
		return "memory";
	if (backend->key_file)
		*ret_path = backend->key_file;
	return "provided";
}

int kmtls_control_identity_ca(struct kmtls_daemon *daemon, const json_t *arguments,
			      struct kmtls_text *result, char *ret_why)
{
	const char *name = json_string_value(json_object_get(arguments, "backend"));
	const struct kmtls_config_backend *backend;
	struct kmtls_identity *identity;
	const char *manager, *path, *why = "";
	int place = find_backend(daemon->config, name, ret_why);
	X509 *authority;

	if (place < 0)
		return place;
	backend = &daemon->config->identity.backends[place];
	identity = kmtls_identities_at(daemon->identities, (unsigned)place, &why);
	authority = identity ? identity->operations->authority(identity) : NULL;
	if (!authority) {
		snprintf(ret_why, KMTLS_CONTROL_WHY, "%s", identity ? "it has no CA here" : why);
		return -ENOENT;
	}
	manager = key_manager(backend, &path);
	return kmtls_text_append_json(
		result, json_pack("{s:s, s:s, s:o, s:o, s:s, s:o}", "backend", backend->name,
				  "type", kmtls_backend_type_name(backend->type), "certificate",
				  pem_of(authority), "roots", roots_json(identity), "key_manager",
				  manager, "key_file", kmtls_json_string(path)));
}
