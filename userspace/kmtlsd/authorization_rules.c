/* SPDX-License-Identifier: Apache-2.0 */
/* authorization_rules.c - the operator's side of authorization.h: entries and the default. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "authorization.h"
#include "bpf_loader.h"
#include "config.h"
#include "pods.h"
#include "policy.h"
#include "settings_map.h"

static const char *const actions[] = {
	[KMTLS_AUTHORIZATION_ALLOW] = "allow",
	[KMTLS_AUTHORIZATION_DENY] = "deny",
	[KMTLS_AUTHORIZATION_DRY_RUN] = "dry-run",
};

#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

int kmtls_authorization_parse_action(const char *text, __u32 *ret_action)
{
	for (__u32 action = 1; action < ACTIONS; action++) {
		if (!strcmp(actions[action], text)) {
			*ret_action = action;
			return 0;
		}
	}
	return -EINVAL;
}

const char *kmtls_authorization_action_name(__u32 action, char *buffer)
{
	if (action && action < ACTIONS)
		return actions[action];
	snprintf(buffer, 32, "unknown-%u", action);
	return buffer;
}

const char *kmtls_authorization_subject(struct kmtls_bpf *bpf, unsigned kind, __u64 hash,
					char *buffer)
{
	char text[KMTLS_SPIFFE_ID_MAX + 1];
	bool named = hash && kmtls_policy_name_get(bpf, hash, text) == 0;

	return kmtls_subject_format(kind, hash, named ? text : NULL, buffer, KMTLS_SUBJECT_TEXT);
}

/* ---- settings ---- */

static int read_settings(struct kmtls_bpf *bpf, struct kmtls_settings *ret_settings)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(kmtls_bpf_map(bpf, KMTLS_MAP_SETTINGS), &zero, ret_settings) < 0
		       ? -errno
		       : 0;
}

int kmtls_authorization_default_get(struct kmtls_bpf *bpf, __u32 *ret_default)
{
	struct kmtls_settings settings;
	int err = read_settings(bpf, &settings);

	if (!err)
		*ret_default = settings.authorization_default;
	return err;
}

int kmtls_authorization_default_set(struct kmtls_bpf *bpf, __u32 value, char *ret_why)
{
	int err = kmtls_settings_map_set_default(kmtls_bpf_map(bpf, KMTLS_MAP_SETTINGS), value);

	if (err)
		snprintf(ret_why, KMTLS_WHY, "the settings map refused the default: %s",
			 strerror(-err));
	return err;
}

int kmtls_authorization_apply_config(struct kmtls_bpf *bpf, const struct kmtls_config *config,
				     char *ret_why)
{
	if (config->authorization_default == KMTLS_AUTHORIZATION_DEFAULT_UNSET)
		return 0;
	return kmtls_authorization_default_set(bpf, config->authorization_default, ret_why);
}

/* ---- entries ---- */

static struct kmtls_authorization_key make_key(const struct kmtls_subject *source,
					       const struct kmtls_subject *destination, __u16 port)
{
	return (struct kmtls_authorization_key){
		.source = source->hash,
		.destination = destination->hash,
		.source_kind = source->kind,
		.destination_kind = destination->kind,
		.port = port,
	};
}

static int name_subject(struct kmtls_bpf *bpf, const char *what,
			const struct kmtls_subject *subject, char *ret_why)
{
	__u64 hash;
	int err;

	if (subject->kind == KMTLS_MATCH_ANY)
		return 0;
	err = kmtls_policy_name_put(bpf, subject->text, &hash);
	if (err)
		kmtls_policy_name_why(what, err, ret_why);
	return err;
}

/* Before the entry: two texts of one hash must not become one rule. */
static int name_both(struct kmtls_bpf *bpf, const struct kmtls_subject *source,
		     const struct kmtls_subject *destination, char *ret_why)
{
	int err = name_subject(bpf, "source", source, ret_why);

	return err ? err : name_subject(bpf, "destination", destination, ret_why);
}

int kmtls_authorization_add(struct kmtls_bpf *bpf, const struct kmtls_subject *source,
			    const struct kmtls_subject *destination, __u16 port, __u32 action,
			    char *ret_why)
{
	struct kmtls_authorization_key key = make_key(source, destination, port);
	struct kmtls_authorization_value value = { .action = action };
	int err = name_both(bpf, source, destination, ret_why);

	/* Collecting may take the first of the two as well: both again. */
	if (err == -ENOSPC && kmtls_policy_names_collect(bpf))
		err = name_both(bpf, source, destination, ret_why);
	if (err)
		return err;
	if (bpf_map_update_elem(kmtls_bpf_map(bpf, KMTLS_MAP_AUTHORIZATIONS), &key, &value,
				BPF_ANY) < 0) {
		err = kmtls_policy_map_refused(errno);
		snprintf(ret_why, KMTLS_WHY, "the authorizations map refused the entry: %s",
			 err == -ENOSPC ? "it is full" : strerror(-err));
		return err;
	}
	/* Again: they may have been collected before there was a reference. */
	err = name_both(bpf, source, destination, ret_why);
	return err ? err : kmtls_policy_bump_generation(bpf);
}

int kmtls_authorization_delete(struct kmtls_bpf *bpf, const struct kmtls_subject *source,
			       const struct kmtls_subject *destination, __u16 port, char *ret_why)
{
	struct kmtls_authorization_key key = make_key(source, destination, port);

	if (bpf_map_delete_elem(kmtls_bpf_map(bpf, KMTLS_MAP_AUTHORIZATIONS), &key) < 0) {
		int err = -errno;

		snprintf(ret_why, KMTLS_WHY, "%s",
			 err == -ENOENT ? "no such entry in the authorizations map"
					: strerror(-err));
		return err;
	}
	return kmtls_policy_bump_generation(bpf);
}
