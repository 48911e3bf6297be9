/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_verbs.c - the table of verbs and the handlers that change something or list pods
 * and peers. A handler translates: what may be done and what it means is decided by pods.c
 * and policy.c, whose sentences go back to the user as they are. Pods are logged there, peers
 * here: policy.c does not know who asked.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "control_request.h"
#include "daemon.h"
#include "match.h"
#include "pods.h"
#include "policy.h"
#include "shared.h"

static const char *text_of(const json_t *arguments, const char *name)
{
	return json_string_value(json_object_get(arguments, name));
}

/* The result of a verb that has none. */
static int nothing(struct kmtls_text *result)
{
	return kmtls_text_append_string(result, "{}");
}

/* ---- pods ----------------------------------------------------------------------------- */

/* "held" (also when it is not said) or "at-once". */
static int parse_connect(const char *text, bool *ret_at_once, char *ret_why)
{
	if (text && strcmp(text, "held") != 0 && strcmp(text, "at-once") != 0) {
		snprintf(ret_why, KMTLS_CONTROL_WHY, "pod-add: connect: must be held or at-once");
		return -EINVAL;
	}
	*ret_at_once = text && strcmp(text, "at-once") == 0;
	return 0;
}

/* Nothing is the default of the configuration, which may not be had on this kernel. */
static int parse_accel(const struct kmtls_daemon *daemon, const char *text,
		       enum kmtls_accel *ret_accel, char *ret_why)
{
	if (kmtls_accel_parse(text, ret_accel) < 0) {
		snprintf(ret_why, KMTLS_CONTROL_WHY, "pod-add: accel: must be off, on or auto");
		return -EINVAL;
	}
	if (*ret_accel == KMTLS_ACCEL_ON && !daemon->accel.usable) {
		snprintf(ret_why, KMTLS_CONTROL_WHY, "pod-add: accel: not on this kernel: %.200s",
			 daemon->accel.why);
		return -EOPNOTSUPP;
	}
	return 0;
}

static int pod_add(struct kmtls_daemon *daemon, const json_t *arguments, struct kmtls_text *result,
		   char *ret_why)
{
	struct kmtls_pod_spec spec = {
		.name = text_of(arguments, "name"),
		.netns = text_of(arguments, "netns"),
		.cgroup = text_of(arguments, "cgroup"),
		.id = text_of(arguments, "id"),
	};
	int err = parse_connect(text_of(arguments, "connect"), &spec.connect_at_once, ret_why);

	if (!err)
		err = parse_accel(daemon, text_of(arguments, "accel"), &spec.accel, ret_why);
	if (!err)
		err = kmtls_pods_add(daemon->pods, &spec, ret_why);
	return err ? err : nothing(result);
}

static int pod_delete(struct kmtls_daemon *daemon, const json_t *arguments,
		      struct kmtls_text *result, char *ret_why)
{
	int err = kmtls_pods_delete(daemon->pods, text_of(arguments, "name"), ret_why);

	return err ? err : nothing(result);
}

static void add_address(json_t *list, const struct kmtls_address *address)
{
	char text[KMTLS_ENDPOINT_TEXT];

	if (!kmtls_address_is_zero(address))
		json_array_append_new(
			list, json_string(kmtls_address_format(address, text, sizeof(text))));
}

static void list_pod(void *context, const struct kmtls_pod_info *info)
{
	json_t *addresses = json_array();

	add_address(addresses, &info->address4);
	add_address(addresses, &info->address6);
	kmtls_text_append_element(
		context,
		json_pack("{s:o, s:o, s:o, s:o, s:s, s:s, s:b, s:I, s:o, s:I, s:I, s:I, s:I}",
			  "name", kmtls_json_string(info->name), "id", kmtls_json_string(info->id),
			  "netns", kmtls_json_string(info->netns), "cgroup",
			  kmtls_json_string(info->cgroup), "connect",
			  info->connect_at_once ? "at-once" : "held", "accel",
			  kmtls_accel_name(info->accel), "accelerated", (int)info->accelerated,
			  "netns_cookie", (json_int_t)info->netns_cookie, "addresses", addresses,
			  "svid_issued", (json_int_t)info->svid_issued, "svid_not_before",
			  (json_int_t)info->svid_not_before, "svid_not_after",
			  (json_int_t)info->svid_not_after, "flows", (json_int_t)info->flows));
}

static int pod_list(struct kmtls_daemon *daemon, const json_t *arguments, struct kmtls_text *result,
		    char *ret_why)
{
	kmtls_text_append_string(result, "[");
	kmtls_pods_visit(daemon->pods, list_pod, result);
	return kmtls_text_append_string(result, "]");
}

/* ---- peers ---------------------------------------------------------------------------- */

static int parse_prefix(const char *verb, const char *text, struct kmtls_peer_key *ret_key,
			char *ret_why)
{
	int err = kmtls_prefix_parse(text, ret_key);

	if (err == -ERANGE)
		snprintf(ret_why, KMTLS_CONTROL_WHY, "%s: prefix: %.64s: length must be 0 to %d",
			 verb, text, strchr(text, ':') ? 128 : 32);
	else if (err == -EDOM)
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "%s: prefix: %.64s: bits set beyond the length", verb, text);
	else if (err)
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "%s: prefix: %.64s: not ADDRESS or ADDRESS/LEN", verb, text);
	return err ? -EINVAL : 0;
}

static int add_bypass(struct kmtls_daemon *daemon, const struct kmtls_peer_key *key,
		      const json_t *list, char *ret_why)
{
	__u16 ports[KMTLS_BYPASS_PORTS];
	unsigned count = 0;
	const json_t *item;
	size_t i;

	json_array_foreach (list, i, item)
		ports[count++] = (__u16)json_integer_value(item);
	return kmtls_policy_peer_add_bypass(daemon->bpf, key, ports, count, ret_why);
}

/* Exactly one of id, trust_domain and bypass, and the others with what they belong to. */
static int check_kind(const json_t *arguments, char *ret_why)
{
	bool bypass = json_object_get(arguments, "bypass") != NULL;
	bool id = text_of(arguments, "id"), domain = text_of(arguments, "trust_domain");
	const char *rule = NULL;

	if (bypass && !json_is_true(json_object_get(arguments, "bypass")))
		rule = "bypass: must be true where it is given";
	else if (bypass && id)
		rule = "id: cannot be together with bypass";
	else if (domain && (id || bypass))
		rule = "trust_domain: cannot be together with id or bypass";
	else if (text_of(arguments, "namespace") && !domain)
		rule = "namespace: only with trust_domain";
	else if (!bypass && !id && !domain)
		rule = "id: is required, or trust_domain, or bypass";
	else if (!bypass && json_object_get(arguments, "ports"))
		rule = "ports: only with bypass";
	if (!rule)
		return 0;
	snprintf(ret_why, KMTLS_CONTROL_WHY, "peer-add: %s", rule);
	return -EINVAL;
}

static int add_mesh(struct kmtls_daemon *daemon, const struct kmtls_peer_key *key,
		    const json_t *arguments, char *ret_why)
{
	const char *id = text_of(arguments, "id"), *namespace_ = text_of(arguments, "namespace");
	const char *prefix = text_of(arguments, "prefix"), *rule;
	enum kmtls_match match = KMTLS_MATCH_EXACT;
	char text[KMTLS_SPIFFE_ID_MAX + 1];
	int err;

	if (!id) {
		match = namespace_ ? KMTLS_MATCH_NAMESPACE : KMTLS_MATCH_TRUST_DOMAIN;
		err = kmtls_match_text(namespace_, text_of(arguments, "trust_domain"), text, &rule);
		if (err) {
			snprintf(ret_why, KMTLS_CONTROL_WHY, "peer-add: %s: %s",
				 namespace_ ? "namespace, trust_domain" : "trust_domain", rule);
			return err;
		}
	}
	err = kmtls_policy_peer_add_mesh(daemon->bpf, key, match, id ? id : text, ret_why);
	if (!err)
		log_info("peer added", "prefix=%s kind=mesh match=%s id=%s",
			 kmtls_log_quote(prefix), kmtls_match_name(match),
			 kmtls_log_quote(id ? id : text));
	return err;
}

static int peer_add(struct kmtls_daemon *daemon, const json_t *arguments, struct kmtls_text *result,
		    char *ret_why)
{
	const char *prefix = text_of(arguments, "prefix");
	struct kmtls_peer_key key;
	int err;

	err = check_kind(arguments, ret_why);
	if (!err)
		err = parse_prefix("peer-add", prefix, &key, ret_why);
	if (err)
		return err;
	if (!json_object_get(arguments, "bypass")) {
		err = add_mesh(daemon, &key, arguments, ret_why);
	} else {
		err = add_bypass(daemon, &key, json_object_get(arguments, "ports"), ret_why);
		if (!err)
			log_info("peer added", "prefix=%s kind=bypass", kmtls_log_quote(prefix));
	}
	return err ? err : nothing(result);
}

static int peer_delete(struct kmtls_daemon *daemon, const json_t *arguments,
		       struct kmtls_text *result, char *ret_why)
{
	const char *prefix = text_of(arguments, "prefix");
	struct kmtls_peer_key key;
	int err;

	err = parse_prefix("peer-del", prefix, &key, ret_why);
	if (!err)
		err = kmtls_policy_peer_delete(daemon->bpf, &key, ret_why);
	if (err)
		return err;
	log_info("peer deleted", "prefix=%s", kmtls_log_quote(prefix));
	return nothing(result);
}

static const char *kind_name(unsigned kind)
{
	switch (kind) {
	case KMTLS_PEER_MESH:
		return "mesh";
	case KMTLS_PEER_BYPASS:
		return "bypass";
	default:
		return "unknown";
	}
}

static int list_peer(void *context, const struct kmtls_peer_info *info)
{
	const struct kmtls_peer_value *value = &info->value;
	unsigned count = value->kind == KMTLS_PEER_BYPASS ? value->port_count : 0;
	json_t *ports = json_array();
	char prefix[KMTLS_ENDPOINT_TEXT];

	/* Anyone may write the map: a count this version cannot read is not trusted. */
	for (unsigned i = 0; i < count && i < KMTLS_BYPASS_PORTS; i++)
		json_array_append_new(ports, json_integer(value->ports[i]));
	kmtls_prefix_format(&info->key, prefix, sizeof(prefix));
	return kmtls_text_append_element(
		context,
		json_pack("{s:s, s:s, s:s, s:o, s:o}", "prefix", prefix, "kind",
			  kind_name(value->kind), "match",
			  value->kind == KMTLS_PEER_MESH ? kmtls_match_name(value->match) : "",
			  "id", kmtls_json_string(info->id ? info->id : ""), "ports", ports));
}

static int peer_list(struct kmtls_daemon *daemon, const json_t *arguments,
		     struct kmtls_text *result, char *ret_why)
{
	int err;

	kmtls_text_append_string(result, "[");
	err = kmtls_policy_peer_visit(daemon->bpf, list_peer, result);
	kmtls_text_append_string(result, "]");
	return result->err ? 0 : err; /* the caller looks at result->err */
}

/* ---- log ------------------------------------------------------------------------------ */

int kmtls_control_log(struct kmtls_daemon *daemon, const json_t *arguments,
		      struct kmtls_text *result, char *ret_why)
{
	const char *text = text_of(arguments, "level");
	enum kmtls_log_level before = kmtls_log_get_level(), level;

	if (kmtls_log_parse_level(text, &level)) {
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "log: level: %.32s: must be error, warning, info or debug", text);
		return -EINVAL;
	}
	/* At the level that shows it, whichever way it goes. */
	kmtls_log_set_level(level > KMTLS_LOG_INFO ? level : KMTLS_LOG_INFO);
	log_info("log level changed", "from=%s to=%s", kmtls_log_level_name(before),
		 kmtls_log_level_name(level));
	kmtls_log_set_level(level);
	if (daemon->shared)
		daemon->shared->log_level = level;
	return kmtls_text_append_json(result,
				      json_pack("{s:s, s:s}", "level", kmtls_log_level_name(level),
						"before", kmtls_log_level_name(before)));
}

/* ---- upgrade ------------------------------------------------------------------------- */

/* One at a time: the keeper looks at one request. */
static int check_idle(const char *verb, const struct kmtls_shared *shared, char *ret_why)
{
	if (shared->request == KMTLS_REQUEST_NONE && shared->outcome != KMTLS_OUTCOME_RUNNING)
		return 0;
	snprintf(ret_why, KMTLS_CONTROL_WHY, "%s: another upgrade is under way", verb);
	return -EBUSY;
}

/* Answered before anything happens; status tells how it went. */
static int upgrade(struct kmtls_daemon *daemon, const json_t *arguments, struct kmtls_text *result,
		   char *ret_why)
{
	struct kmtls_shared *shared = daemon->shared;
	const char *program = text_of(arguments, "program");
	int err = check_idle("upgrade", shared, ret_why);

	if (err)
		return err;
	if (!program)
		program = daemon->program;
	if (program[0] != '/' || strlen(program) >= sizeof(shared->path)) {
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "upgrade: program: %.128s: must be an absolute path", program);
		return -EINVAL;
	}
	if (access(program, X_OK) < 0) {
		err = -errno;
		snprintf(ret_why, KMTLS_CONTROL_WHY, "upgrade: program: %.128s: %s", program,
			 strerror(-err));
		return err;
	}
	strcpy(shared->path, program);
	atomic_store(&shared->outcome, KMTLS_OUTCOME_RUNNING);
	atomic_fetch_add(&shared->upgrades, 1);
	atomic_store(&shared->request, KMTLS_REQUEST_UPGRADE);
	err = kmtls_text_append_json(result,
				     json_pack("{s:I, s:o}", "number", (json_int_t)shared->upgrades,
					       "program", kmtls_json_string(program)));
	daemon->wake_keeper = true;
	return err;
}

/* Asked by `kmtlsd --take-over`; the answer is not a line but everything there is (handover.h). */
static int take_over(struct kmtls_daemon *daemon, const json_t *arguments,
		     struct kmtls_text *result, char *ret_why)
{
	int err = check_idle("take-over", daemon->shared, ret_why);

	if (err)
		return err;
	daemon->give_away = true;
	return nothing(result);
}

/* ---- the table ------------------------------------------------------------------------ */

#define REQUIRED_STRING(name)                    \
	{                                        \
		name, KMTLS_CONTROL_STRING, true \
	}
#define OPTIONAL_ARGUMENT(name, type) \
	{                             \
		name, type, false     \
	}

const struct kmtls_control_verb kmtls_control_verbs[] = {
	{ .name = "pod-add",
	  .arguments = { REQUIRED_STRING("name"), REQUIRED_STRING("netns"),
			 REQUIRED_STRING("cgroup"), REQUIRED_STRING("id"),
			 OPTIONAL_ARGUMENT("connect", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("accel", KMTLS_CONTROL_STRING) },
	  .run = pod_add },
	{ .name = "pod-del", .arguments = { REQUIRED_STRING("name") }, .run = pod_delete },
	{ .name = "pod-list", .run = pod_list },
	{ .name = "peer-add",
	  .arguments = { REQUIRED_STRING("prefix"), OPTIONAL_ARGUMENT("id", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("namespace", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("trust_domain", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("bypass", KMTLS_CONTROL_BOOLEAN),
			 OPTIONAL_ARGUMENT("ports", KMTLS_CONTROL_PORTS) },
	  .run = peer_add },
	{ .name = "peer-del", .arguments = { REQUIRED_STRING("prefix") }, .run = peer_delete },
	{ .name = "peer-list", .run = peer_list },
	{ .name = "authz-add",
	  .arguments = { REQUIRED_STRING("action"), REQUIRED_STRING("source"),
			 REQUIRED_STRING("destination"),
			 OPTIONAL_ARGUMENT("port", KMTLS_CONTROL_PORT) },
	  .run = kmtls_control_authz_add },
	{ .name = "authz-del",
	  .arguments = { REQUIRED_STRING("source"), REQUIRED_STRING("destination"),
			 OPTIONAL_ARGUMENT("port", KMTLS_CONTROL_PORT) },
	  .run = kmtls_control_authz_delete },
	{ .name = "authz-list", .run = kmtls_control_authz_list },
	{ .name = "authz-default",
	  .arguments = { OPTIONAL_ARGUMENT("action", KMTLS_CONTROL_STRING) },
	  .run = kmtls_control_authz_default },
	{ .name = "authz-test",
	  .arguments = { REQUIRED_STRING("source"),
			 REQUIRED_STRING("destination"),
			 { "port", KMTLS_CONTROL_PORT, true } },
	  .run = kmtls_control_authz_test },
	{ .name = "explain",
	  .arguments = { OPTIONAL_ARGUMENT("source", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("destination", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("port", KMTLS_CONTROL_PORT),
			 OPTIONAL_ARGUMENT("udp", KMTLS_CONTROL_BOOLEAN),
			 OPTIONAL_ARGUMENT("flow", KMTLS_CONTROL_STRING) },
	  .run = kmtls_control_explain },
	{ .name = "policy-show",
	  .arguments = { OPTIONAL_ARGUMENT("pod", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("port", KMTLS_CONTROL_PORT) },
	  .run = kmtls_control_policy_show },
	{ .name = "policy-set",
	  .arguments = { REQUIRED_STRING("mode"),
			 OPTIONAL_ARGUMENT("namespace", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("pod", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("port", KMTLS_CONTROL_PORT),
			 OPTIONAL_ARGUMENT("direction", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("now", KMTLS_CONTROL_BOOLEAN) },
	  .run = kmtls_control_policy_set },
	{ .name = "policy-unset",
	  .arguments = { OPTIONAL_ARGUMENT("namespace", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("pod", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("port", KMTLS_CONTROL_PORT),
			 OPTIONAL_ARGUMENT("direction", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("now", KMTLS_CONTROL_BOOLEAN) },
	  .run = kmtls_control_policy_unset },
	{ .name = "policy-dry-run",
	  .arguments = { REQUIRED_STRING("mode"),
			 OPTIONAL_ARGUMENT("namespace", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("pod", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("port", KMTLS_CONTROL_PORT),
			 OPTIONAL_ARGUMENT("direction", KMTLS_CONTROL_STRING) },
	  .run = kmtls_control_policy_dry_run },
	{ .name = "flows",
	  .arguments = { OPTIONAL_ARGUMENT("pod", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("peer", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("id", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("port", KMTLS_CONTROL_PORT),
			 OPTIONAL_ARGUMENT("state", KMTLS_CONTROL_STRING) },
	  .run = kmtls_control_flows },
	{ .name = "udp",
	  .arguments = { OPTIONAL_ARGUMENT("pod", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("peer", KMTLS_CONTROL_STRING) },
	  .run = kmtls_control_udp },
	{ .name = "top",
	  .arguments = { OPTIONAL_ARGUMENT("pod", KMTLS_CONTROL_STRING) },
	  .run = kmtls_control_top },
	{ .name = "metrics", .run = kmtls_control_metrics },
	{ .name = "identity-show", .run = kmtls_control_identity_show },
	{ .name = "identity-renew",
	  .arguments = { OPTIONAL_ARGUMENT("pod", KMTLS_CONTROL_STRING) },
	  .run = kmtls_control_identity_renew },
	{ .name = "identity-ca",
	  .arguments = { OPTIONAL_ARGUMENT("backend", KMTLS_CONTROL_STRING) },
	  .run = kmtls_control_identity_ca },
	{ .name = "settings-get",
	  .arguments = { OPTIONAL_ARGUMENT("name", KMTLS_CONTROL_STRING) },
	  .run = kmtls_control_settings_get },
	{ .name = "settings-set",
	  .arguments = { REQUIRED_STRING("name"), REQUIRED_STRING("value") },
	  .run = kmtls_control_settings_set },
	{ .name = "monitor",
	  .arguments = { OPTIONAL_ARGUMENT("pod", KMTLS_CONTROL_STRING),
			 OPTIONAL_ARGUMENT("reason", KMTLS_CONTROL_STRING) },
	  .run = kmtls_control_monitor },
	{ .name = "check", .run = kmtls_control_check },
	{ .name = "status", .run = kmtls_control_status },
	{ .name = "upgrade",
	  .arguments = { OPTIONAL_ARGUMENT("program", KMTLS_CONTROL_STRING) },
	  .run = upgrade },
	{ .name = "take-over", .run = take_over },
	{ .name = "log", .arguments = { REQUIRED_STRING("level") }, .run = kmtls_control_log },
	{ .name = NULL },
};
