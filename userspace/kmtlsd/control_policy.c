/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_policy.c - the verbs of `kmtls policy`. A handler translates between names and elements
 * of `modes`; which of them decides is mode_rules.h's, what a change would end is plaintext.c's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "control_request.h"
#include "daemon.h"
#include "hash.h"
#include "modes.h"
#include "plaintext.h"
#include "pod.h"
#include "pods.h"
#include "policy.h"

static const char *text_of(const json_t *arguments, const char *name)
{
	return json_string_value(json_object_get(arguments, name));
}

static __u16 port_of(const json_t *arguments)
{
	return json_integer_value(json_object_get(arguments, "port"));
}

static const char *direction_name(unsigned direction)
{
	switch (direction) {
	case KMTLS_INBOUND:
		return "inbound";
	case KMTLS_OUTBOUND:
		return "outbound";
	default:
		return "unknown";
	}
}

static const char *scope_name(unsigned scope)
{
	switch (scope) {
	case KMTLS_SCOPE_MESH:
		return "mesh";
	case KMTLS_SCOPE_NAMESPACE:
		return "namespace";
	case KMTLS_SCOPE_POD:
		return "pod";
	case KMTLS_SCOPE_PORT:
		return "port";
	default:
		return "unknown";
	}
}

/* ---- what is meant ---- */

static __u64 hash_or_none(const char *text)
{
	return text ? kmtls_hash_text(text) : 0;
}

/* The part of a pod's name before its slash, 0 if it has none. */
static __u64 namespace_hash(const char *pod)
{
	char text[KMTLS_POD_NAME_MAX + 1];
	const char *slash = strchr(pod, '/');

	if (!slash)
		return 0;
	snprintf(text, sizeof(text), "%.*s", (int)(slash - pod), pod);
	return kmtls_hash_text(text);
}

static int check_pod(const char *verb, const char *pod, char *ret_why)
{
	if (!pod || kmtls_pods_is_name(pod))
		return 0;
	snprintf(ret_why, KMTLS_CONTROL_WHY,
		 "%s: pod: must be 1 to %d of A-Z a-z 0-9 . _ -, with at most one / between", verb,
		 KMTLS_POD_NAME_MAX);
	return -EINVAL;
}

static int check_selector(const char *verb, const json_t *arguments, char *ret_why)
{
	const char *namespace_ = text_of(arguments, "namespace"), *pod = text_of(arguments, "pod");
	const char *direction = text_of(arguments, "direction"), *rule = NULL;

	if (direction && strcmp(direction, "inbound") && strcmp(direction, "outbound"))
		rule = "direction: must be inbound or outbound";
	else if (namespace_ && pod)
		rule = "namespace: cannot be together with pod";
	else if (namespace_ && (!kmtls_pods_is_name(namespace_) || strchr(namespace_, '/')))
		rule = "namespace: must be of A-Z a-z 0-9 . _ -";
	else if (namespace_ && port_of(arguments))
		rule = "port: cannot be together with namespace";
	if (!rule)
		return check_pod(verb, pod, ret_why);
	snprintf(ret_why, KMTLS_CONTROL_WHY, "%s: %s", verb, rule);
	return -EINVAL;
}

static int parse_change(const char *verb, const json_t *arguments,
			struct kmtls_mode_change *ret_change, char *ret_why)
{
	const char *namespace_ = text_of(arguments, "namespace"), *pod = text_of(arguments, "pod");
	const char *direction = text_of(arguments, "direction"), *mode = text_of(arguments, "mode");
	struct kmtls_mode_change change = { .key = { .port = port_of(arguments) } };
	int err = check_selector(verb, arguments, ret_why);

	if (err)
		return err;
	if (mode && kmtls_mode_parse(mode, &change.mode) < 0) {
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "%s: mode: %.32s: must be off, permissive or strict", verb, mode);
		return -EINVAL;
	}
	change.key.scope = change.key.port ? KMTLS_SCOPE_PORT
			   : pod	   ? KMTLS_SCOPE_POD
			   : namespace_	   ? KMTLS_SCOPE_NAMESPACE
					   : KMTLS_SCOPE_MESH;
	change.key.id = hash_or_none(pod ? pod : namespace_);
	if (direction)
		change.key.direction =
			!strcmp(direction, "inbound") ? KMTLS_INBOUND : KMTLS_OUTBOUND;
	*ret_change = change;
	return 0;
}

/* In a direction that it is about the mesh is strict, which passes it over. */
static bool is_ignored(struct kmtls_bpf *bpf, const struct kmtls_mode_change *change)
{
	enum kmtls_mode_rule rule = kmtls_modes_rule_of(&change->key);

	for (enum kmtls_direction d = KMTLS_INBOUND; d <= KMTLS_OUTBOUND; d++)
		if ((!change->key.direction || change->key.direction == d) &&
		    kmtls_mode_is_ignored(rule, change->mode, kmtls_modes_mesh(bpf, d)))
			return true;
	return false;
}

/* ---- set, unset ---- */

static int put_name(struct kmtls_bpf *bpf, const char *verb, const json_t *arguments, char *ret_why)
{
	const char *pod = text_of(arguments, "pod");
	const char *text = pod ? pod : text_of(arguments, "namespace");
	__u64 hash;
	int err;

	if (!text)
		return 0;
	err = kmtls_policy_name_put(bpf, text, &hash);
	if (err == -ENOSPC && kmtls_policy_names_collect(bpf))
		err = kmtls_policy_name_put(bpf, text, &hash);
	if (err)
		snprintf(ret_why, KMTLS_CONTROL_WHY, "%s: the names map refused the name: %s", verb,
			 err == -EEXIST	  ? "its hash names another text"
			 : err == -ENOSPC ? "it is full"
					  : strerror(-err));
	return err;
}

static int end_forbidden(struct kmtls_daemon *daemon, const struct kmtls_mode_change *change,
			 size_t *ret_ended)
{
	struct kmtls_plaintext_list list;
	int err = kmtls_plaintext_find(daemon, change, &list);

	if (err)
		return err;
	*ret_ended = kmtls_plaintext_end(daemon, &list);
	kmtls_plaintext_free(&list);
	return 0;
}

/* What holds now, for the search: an element that was taken away says nothing any more. */
static int make_change(struct kmtls_daemon *daemon, const json_t *arguments,
		       const struct kmtls_mode_change *change, struct kmtls_text *result,
		       char *ret_why)
{
	const char *text;
	size_t ended = 0;
	int err = kmtls_modes_change(daemon->bpf, change, ret_why);

	if (err)
		return err;
	text = text_of(arguments, "pod") ?: text_of(arguments, "namespace");
	log_info("mode changed", "scope=%s name=%s port=%u direction=%s mode=%s",
		 scope_name(change->key.scope), kmtls_log_quote(text ? text : ""), change->key.port,
		 change->key.direction ? direction_name(change->key.direction) : "both",
		 kmtls_mode_name(change->mode));
	if (json_is_true(json_object_get(arguments, "now")))
		err = end_forbidden(daemon, change, &ended);
	if (err) {
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "the mode is changed, but connections could not be looked at: %s",
			 strerror(-err));
		return err;
	}
	return kmtls_text_append_json(result, json_pack("{s:b, s:I}", "ignored",
							is_ignored(daemon->bpf, change), "reset",
							(json_int_t)ended));
}

int kmtls_control_policy_set(struct kmtls_daemon *daemon, const json_t *arguments,
			     struct kmtls_text *result, char *ret_why)
{
	struct kmtls_mode_change change;
	int err = parse_change("policy-set", arguments, &change, ret_why);

	if (!err)
		err = put_name(daemon->bpf, "policy-set", arguments, ret_why);
	return err ? err : make_change(daemon, arguments, &change, result, ret_why);
}

int kmtls_control_policy_unset(struct kmtls_daemon *daemon, const json_t *arguments,
			       struct kmtls_text *result, char *ret_why)
{
	struct kmtls_mode_change change;
	int err = parse_change("policy-unset", arguments, &change, ret_why);

	if (err)
		return err;
	if (change.key.scope == KMTLS_SCOPE_MESH) {
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "policy-unset: the mesh always has a mode, which can only be set to "
			 "another");
		return -EINVAL;
	}
	return make_change(daemon, arguments, &change, result, ret_why);
}

/* ---- dry-run ---- */

struct dry_run {
	struct kmtls_bpf *bpf;
	const struct kmtls_mode_change *change;
	struct kmtls_text *result;
};

static int compare_pod(void *context, struct kmtls_pod *pod)
{
	struct dry_run *dry_run = context;
	const struct kmtls_mode_change *change = dry_run->change;

	for (enum kmtls_direction d = KMTLS_INBOUND; d <= KMTLS_OUTBOUND; d++) {
		enum kmtls_mode before, after;

		before = kmtls_modes_resolve(dry_run->bpf, pod->name_hash, pod->namespace_hash, d,
					     change->key.port, NULL);
		after = kmtls_modes_resolve_if(dry_run->bpf, change, pod->name_hash,
					       pod->namespace_hash, d, change->key.port, NULL);
		if (before != after)
			kmtls_text_append_element(dry_run->result,
						  json_pack("{s:o, s:s, s:s, s:s}", "pod",
							    kmtls_json_string(pod->name),
							    "direction", direction_name(d),
							    "before", kmtls_mode_name(before),
							    "after", kmtls_mode_name(after)));
	}
	return 0;
}

static json_t *pack_forbidden(const struct kmtls_plaintext *found)
{
	char local[KMTLS_ENDPOINT_TEXT], remote[KMTLS_ENDPOINT_TEXT];

	return json_pack("{s:o, s:s, s:s, s:s, s:b}", "pod", kmtls_json_string(found->pod->name),
			 "direction", direction_name(found->direction), "self",
			 kmtls_endpoint_format(&found->socket.local, local, sizeof(local)), "peer",
			 kmtls_endpoint_format(&found->socket.remote, remote, sizeof(remote)),
			 "relayed", found->relayed);
}

int kmtls_control_policy_dry_run(struct kmtls_daemon *daemon, const json_t *arguments,
				 struct kmtls_text *result, char *ret_why)
{
	struct kmtls_mode_change change;
	struct kmtls_plaintext_list list;
	struct dry_run dry_run = { daemon->bpf, &change, result };
	int err = parse_change("policy-dry-run", arguments, &change, ret_why);

	if (!err)
		err = kmtls_plaintext_find(daemon, &change, &list);
	if (err)
		return err;
	kmtls_text_append_string(result, "{\"ignored\":");
	kmtls_text_append_string(result, is_ignored(daemon->bpf, &change) ? "true" : "false");
	kmtls_text_append_string(result, ",\"pods\":[");
	kmtls_pods_each(daemon->pods, compare_pod, &dry_run);
	kmtls_text_append_string(result, "],\"connections\":[");
	for (size_t i = 0; i < list.count; i++)
		kmtls_text_append_element(result, pack_forbidden(&list.list[i]));
	kmtls_plaintext_free(&list);
	return kmtls_text_append_string(result, "]}");
}

/* ---- show ---- */

struct element {
	struct kmtls_mode_key key;
	__u32 mode;
};

struct elements {
	struct element *list;
	size_t count, size;
};

static int take_element(void *context, const void *key, const void *value)
{
	struct elements *elements = context;
	struct element *element;

	if (elements->count == elements->size) {
		size_t size = elements->size ? 2 * elements->size : 64;
		struct element *list = reallocarray(elements->list, size, sizeof(*list));

		if (!list)
			return -ENOMEM;
		elements->list = list;
		elements->size = size;
	}
	element = &elements->list[elements->count++];
	memcpy(&element->key, key, sizeof(element->key));
	element->mode = ((const struct kmtls_mode_value *)value)->mode;
	return 0;
}

/* By scope, whom, port, direction. */
static int compare(const void *a, const void *b)
{
	const struct kmtls_mode_key *left = a, *right = b;

	if (left->scope != right->scope)
		return left->scope - right->scope;
	if (left->id != right->id)
		return left->id < right->id ? -1 : 1;
	if (left->port != right->port)
		return left->port - right->port;
	return left->direction - right->direction;
}

/* "": of all. A text that is not there any more is shown by its hash. */
static json_t *name_of(struct kmtls_bpf *bpf, __u64 id)
{
	char text[KMTLS_SPIFFE_ID_MAX + 1] = "";

	if (id && kmtls_policy_name_get(bpf, id, text) < 0)
		snprintf(text, sizeof(text), "0x%016llx", (unsigned long long)id);
	return kmtls_json_string(text);
}

static json_t *pack_element(struct kmtls_bpf *bpf, const struct kmtls_mode_key *key, __u32 mode)
{
	enum kmtls_mode_rule rule = kmtls_modes_rule_of(key);
	bool known = rule != KMTLS_MODE_RULE_COUNT &&
		     (key->direction == KMTLS_INBOUND || key->direction == KMTLS_OUTBOUND);
	enum kmtls_mode read = kmtls_mode_read(mode);

	return json_pack(
		"{s:s, s:o, s:s, s:i, s:s, s:b, s:b}", "scope", scope_name(key->scope), "name",
		name_of(bpf, key->id), "direction", direction_name(key->direction), "port",
		key->port, "mode", kmtls_mode_name(read), "readable",
		known && mode <= KMTLS_MODE_STRICT, "ignored",
		known && kmtls_mode_is_ignored(rule, read, kmtls_modes_mesh(bpf, key->direction)));
}

/* All elements, or those of one port. */
static int list_elements(struct kmtls_bpf *bpf, __u16 port, struct kmtls_text *result)
{
	struct elements elements = { .list = NULL };
	int err = kmtls_modes_visit(bpf, take_element, &elements);

	if (!err && elements.count)
		qsort(elements.list, elements.count, sizeof(*elements.list), compare);
	for (size_t i = 0; !err && i < elements.count; i++)
		if (!port || elements.list[i].key.port == port)
			kmtls_text_append_element(result, pack_element(bpf, &elements.list[i].key,
								       elements.list[i].mode));
	free(elements.list);
	return err;
}

/* One direction of one pod: what holds, and the elements that speak of it, the first first. */
static json_t *pack_effective(struct kmtls_bpf *bpf, const char *pod,
			      enum kmtls_direction direction, __u16 port)
{
	struct kmtls_mode_consulted consulted[KMTLS_MODE_RULE_COUNT];
	json_t *rules = json_array();
	enum kmtls_mode mode;

	mode = kmtls_modes_resolve(bpf, kmtls_hash_text(pod), namespace_hash(pod), direction, port,
				   consulted);
	for (unsigned rule = 0; rule < KMTLS_MODE_RULE_COUNT; rule++) {
		json_t *element;

		if (!consulted[rule].mode && !consulted[rule].decided)
			continue;
		/* A mesh of which nothing is said decides, too. */
		element = pack_element(bpf, &consulted[rule].key,
				       consulted[rule].mode ? consulted[rule].mode : mode);
		json_object_set_new(element, "decided", json_boolean(consulted[rule].decided));
		json_array_append_new(rules, element);
	}
	return json_pack("{s:s, s:s, s:o}", "direction", direction_name(direction), "mode",
			 kmtls_mode_name(mode), "elements", rules);
}

int kmtls_control_policy_show(struct kmtls_daemon *daemon, const json_t *arguments,
			      struct kmtls_text *result, char *ret_why)
{
	const char *pod = text_of(arguments, "pod");
	__u16 port = port_of(arguments);
	int err = check_pod("policy-show", pod, ret_why);

	if (err)
		return err;
	kmtls_text_append_string(result, "[");
	if (!pod) {
		err = list_elements(daemon->bpf, port, result);
	} else {
		for (enum kmtls_direction d = KMTLS_INBOUND; d <= KMTLS_OUTBOUND; d++)
			kmtls_text_append_element(result,
						  pack_effective(daemon->bpf, pod, d, port));
	}
	kmtls_text_append_string(result, "]");
	return result->err ? 0 : err;
}
