/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_authz.c - the verbs of `kmtls authz`. A handler translates; what an entry means is in
 * authorization.c. Established flows are looked at again at once (review.h), not only when the
 * change would be noticed.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "authorization.h"
#include "control_request.h"
#include "daemon.h"
#include "loop.h"
#include "spiffe.h"

struct pair {
	struct kmtls_subject source, destination;
	__u16 port; /* 0: any */
};

static const char *text_of(const json_t *arguments, const char *name)
{
	return json_string_value(json_object_get(arguments, name));
}

static int parse_subject(const char *verb, const char *name, const json_t *arguments,
			 struct kmtls_subject *ret_subject, char *ret_why)
{
	const char *text = text_of(arguments, name), *rule;

	if (kmtls_subject_parse(text, ret_subject, &rule) == 0)
		return 0;
	snprintf(ret_why, KMTLS_CONTROL_WHY, "%s: %s: %.64s: %s", verb, name, text, rule);
	return -EINVAL;
}

static int parse_pair(const char *verb, const json_t *arguments, struct pair *ret_pair,
		      char *ret_why)
{
	int err = parse_subject(verb, "source", arguments, &ret_pair->source, ret_why);

	if (!err)
		err = parse_subject(verb, "destination", arguments, &ret_pair->destination,
				    ret_why);
	ret_pair->port = json_integer_value(json_object_get(arguments, "port"));
	return err;
}

static void log_change(const char *what, const char *action, const json_t *arguments)
{
	log_info(what, "action=%s source=%s destination=%s port=%d", action,
		 kmtls_log_quote(text_of(arguments, "source")),
		 kmtls_log_quote(text_of(arguments, "destination")),
		 (int)json_integer_value(json_object_get(arguments, "port")));
}

int kmtls_control_authz_add(struct kmtls_daemon *daemon, const json_t *arguments,
			    struct kmtls_text *result, char *ret_why)
{
	const char *text = text_of(arguments, "action");
	struct pair pair;
	__u32 action;
	int err;

	if (kmtls_authorization_parse_action(text, &action) < 0) {
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "authz-add: action: %.32s: must be allow, deny or dry-run", text);
		return -EINVAL;
	}
	err = parse_pair("authz-add", arguments, &pair, ret_why);
	if (!err)
		err = kmtls_authorization_add(daemon->bpf, &pair.source, &pair.destination,
					      pair.port, action, ret_why);
	if (err)
		return err;
	kmtls_loops_review(daemon->loops);
	log_change("authorization added", text, arguments);
	return kmtls_text_append_string(result, "{}");
}

int kmtls_control_authz_delete(struct kmtls_daemon *daemon, const json_t *arguments,
			       struct kmtls_text *result, char *ret_why)
{
	struct pair pair;
	int err = parse_pair("authz-del", arguments, &pair, ret_why);

	if (!err)
		err = kmtls_authorization_delete(daemon->bpf, &pair.source, &pair.destination,
						 pair.port, ret_why);
	if (err)
		return err;
	kmtls_loops_review(daemon->loops);
	log_change("authorization deleted", "none", arguments);
	return kmtls_text_append_string(result, "{}");
}

static json_t *pack_rule(struct kmtls_bpf *bpf, const struct kmtls_authorization_rule *rule)
{
	char source[KMTLS_SUBJECT_TEXT], destination[KMTLS_SUBJECT_TEXT], action[32];
	const struct kmtls_authorization_key *key = &rule->key;

	kmtls_authorization_subject(bpf, key->source_kind, key->source, source);
	kmtls_authorization_subject(bpf, key->destination_kind, key->destination, destination);
	return json_pack("{s:s, s:o, s:o, s:i, s:b}", "action",
			 kmtls_authorization_action_name(rule->value.action, action), "source",
			 kmtls_json_string(source), "destination", kmtls_json_string(destination),
			 "port", key->port, "readable", kmtls_authorization_is_readable(key));
}

struct list {
	struct kmtls_bpf *bpf;
	struct kmtls_text *result;
};

static int list_rule(void *context, const struct kmtls_authorization_rule *rule)
{
	struct list *list = context;

	return kmtls_text_append_element(list->result, pack_rule(list->bpf, rule));
}

int kmtls_control_authz_list(struct kmtls_daemon *daemon, const json_t *arguments,
			     struct kmtls_text *result, char *ret_why)
{
	struct list list = { daemon->bpf, result };
	int err;

	kmtls_text_append_string(result, "[");
	err = kmtls_authorization_visit(daemon->bpf, list_rule, &list);
	kmtls_text_append_string(result, "]");
	if (result->err)
		return 0; /* the caller looks at it */
	if (err)
		snprintf(ret_why, KMTLS_CONTROL_WHY, "the authorizations map cannot be read: %s",
			 strerror(-err));
	return err;
}

/* ---- the default ---- */

static const char *default_name(__u32 value, char *buffer)
{
	switch (value) {
	case KMTLS_AUTHORIZATION_DEFAULT_UNSET:
	case KMTLS_AUTHORIZATION_DEFAULT_ALLOW:
		return "allow";
	case KMTLS_AUTHORIZATION_DEFAULT_DENY:
		return "deny";
	}
	return kmtls_authorization_action_name(value, buffer); /* denies */
}

static int set_default(struct kmtls_bpf *bpf, const char *text, char *ret_why)
{
	bool deny = !strcmp(text, "deny");
	int err;

	if (!deny && strcmp(text, "allow")) {
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "authz-default: action: %.32s: must be allow or deny", text);
		return -EINVAL;
	}
	err = kmtls_authorization_default_set(
		bpf, deny ? KMTLS_AUTHORIZATION_DEFAULT_DENY : KMTLS_AUTHORIZATION_DEFAULT_ALLOW,
		ret_why);
	if (!err)
		log_info("authorization default set", "action=%s", text);
	return err;
}

int kmtls_control_authz_default(struct kmtls_daemon *daemon, const json_t *arguments,
				struct kmtls_text *result, char *ret_why)
{
	const char *text = text_of(arguments, "action");
	char buffer[32];
	__u32 value;
	int err = text ? set_default(daemon->bpf, text, ret_why) : 0;

	if (!err && text)
		kmtls_loops_review(daemon->loops);
	if (!err)
		err = kmtls_authorization_default_get(daemon->bpf, &value);
	return err ? err
		   : kmtls_text_append_json(
			     result, json_pack("{s:s}", "default", default_name(value, buffer)));
}

/* ---- what would happen ---- */

static int check_id(const char *name, const json_t *arguments, char *ret_why)
{
	const char *text = text_of(arguments, name), *rule;
	struct kmtls_spiffe_id id;

	if (kmtls_spiffe_id_parse(text, strlen(text), &id, &rule) == 0)
		return 0;
	snprintf(ret_why, KMTLS_CONTROL_WHY, "authz-test: %s: %.64s: %s", name, text, rule);
	return -EINVAL;
}

int kmtls_control_authz_test(struct kmtls_daemon *daemon, const json_t *arguments,
			     struct kmtls_text *result, char *ret_why)
{
	struct kmtls_authorization_verdict verdict;
	char why[KMTLS_AUTHORIZATION_WHY];
	json_t *answer;
	int err = check_id("source", arguments, ret_why);

	if (!err)
		err = check_id("destination", arguments, ret_why);
	if (err)
		return err;
	kmtls_authorization_ask(daemon->bpf, text_of(arguments, "source"),
				text_of(arguments, "destination"),
				json_integer_value(json_object_get(arguments, "port")), &verdict);
	answer = json_pack("{s:s, s:o}", "result", verdict.allowed ? "allow" : "deny", "decided_by",
			   kmtls_json_string(kmtls_authorization_why(daemon->bpf, &verdict, why,
								     sizeof(why))));
	if (answer && verdict.decider == KMTLS_DECIDED_BY_RULE)
		json_object_set_new(answer, "rule", pack_rule(daemon->bpf, &verdict.rule));
	if (answer && verdict.would_deny)
		json_object_set_new(answer, "dry_run", pack_rule(daemon->bpf, &verdict.dry_run));
	return kmtls_text_append_json(result, answer);
}
