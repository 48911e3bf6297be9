/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_settings.c - the verbs settings-get and settings-set: every key of the configuration with
 * its value now, and how it can be changed: in the map (it stays), at run time (until the daemon is
 * started anew), or with a restart. Of secrets there are paths at most.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "authorization.h"
#include "config_parts.h"
#include "control_request.h"
#include "daemon.h"
#include "identity.h"
#include "log.h"
#include "settings.h"

static const char in_map[] = "map", now[] = "run-time", restart[] = "restart";

struct listing {
	struct kmtls_text *result;
	const char *only; /* NULL: all */
	bool found;
};

static void put(struct listing *listing, const char *name, const char *changes, const char *value)
{
	if (listing->only && strcmp(listing->only, name))
		return;
	listing->found = true;
	kmtls_text_append_element(listing->result,
				  json_pack("{s:s, s:o, s:s}", "name", name, "value",
					    kmtls_json_string(value ? value : ""), "changes",
					    changes));
}

static void put_number(struct listing *listing, const char *name, const char *changes,
		       unsigned long long number, const char *unit)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu%s", number, unit);
	put(listing, name, changes, text);
}

static void put_ports(struct listing *listing, const char *name, const uint16_t *ports,
		      unsigned count)
{
	char text[1024] = "";
	size_t length = 0;

	for (unsigned i = 0; i < count && length < sizeof(text) - 16; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%u",
					   i ? " " : "", ports[i]);
	put(listing, name, restart, text);
}

static void put_paths(struct listing *listing, const char *name, char *const *paths, unsigned count)
{
	__cleanup_text struct kmtls_text text = { .limit = 65536 };

	for (unsigned i = 0; i < count; i++) {
		kmtls_text_append_string(&text, i ? " " : "");
		kmtls_text_append_string(&text, paths[i]);
	}
	kmtls_text_append(&text, "", 1);
	put(listing, name, restart, text.err ? "" : text.bytes);
}

static void put_setting(struct kmtls_daemon *daemon, enum kmtls_setting setting,
			struct listing *listing)
{
	const struct kmtls_setting_range *range = &kmtls_setting_ranges[setting];
	unsigned value;

	if (!kmtls_setting_is_there(daemon, setting))
		return;
	value = kmtls_setting_get(daemon, setting);
	if (range->key_type)
		put(listing, range->name, now, kmtls_key_type_name((enum kmtls_key_type)value));
	else if (range->truth)
		put(listing, range->name, now, value ? "true" : "false");
	else
		put_number(listing, range->name, now, value, range->duration ? "s" : "");
}

static void put_changeable(struct kmtls_daemon *daemon, struct listing *listing)
{
	__u32 value = 0;

	if (kmtls_authorization_default_get(daemon->bpf, &value) == 0)
		put(listing, "authorization_default", in_map,
		    value == KMTLS_AUTHORIZATION_DEFAULT_UNSET ||
				    value == KMTLS_AUTHORIZATION_DEFAULT_ALLOW
			    ? "allow"
			    : "deny");
	put(listing, "log_level", now, kmtls_log_level_name(kmtls_log_get_level()));
	for (unsigned i = 0; i < KMTLS_SETTING_COUNT; i++)
		put_setting(daemon, (enum kmtls_setting)i, listing);
}

/* A line for each. */
static void put_backends(const struct kmtls_config *config, struct listing *listing)
{
	for (unsigned i = 0; i < config->identity.backends_count; i++) {
		const struct kmtls_config_backend *backend = &config->identity.backends[i];
		char name[64], value[256];

		snprintf(name, sizeof(name), "identity.backends[%u]", i);
		snprintf(value, sizeof(value), "%s: %s%s", backend->name,
			 kmtls_backend_type_name(backend->type),
			 backend->trust ? "" : ", not trusted");
		put(listing, name, restart, value);
	}
}

static void put_fixed(const struct kmtls_config *config, struct listing *listing)
{
	put(listing, "node", restart, config->node);
	put(listing, "bpf_dir", restart, config->bpf_dir);
	put(listing, "run_dir", restart, config->run_dir);
	put(listing, "control_socket", restart, config->control_socket);
	put(listing, "cgroup", restart, config->cgroup);
	put(listing, "metrics.listen", restart, config->metrics_listen);
	put_number(listing, "workers", restart, config->workers, "");
	put_number(listing, "max_flows", restart, config->max_flows, "");
	put_number(listing, "max_udp_peers", restart, config->max_udp_peers, "");
	put_number(listing, "peek_timeout", restart, config->peek_timeout_ms, "ms");
	put_number(listing, "peer_timeout", restart, config->peer_timeout, "s");
	put_number(listing, "keepalive.idle", restart, config->keepalive.idle, "s");
	put_number(listing, "keepalive.interval", restart, config->keepalive.interval, "s");
	put_number(listing, "keepalive.probes", restart, config->keepalive.probes, "");
	put(listing, "rekey", restart, config->rekey ? "auto" : "off");
	put_number(listing, "key_limit", restart, config->key_limit, "");
	put(listing, "key_limit_action", restart, config->close_at_key_limit ? "close" : "warn");
	put(listing, "prefer_chacha20", restart, config->prefer_chacha20 ? "true" : "false");
	put(listing, "accel", restart, kmtls_accel_name(config->accel));
	put_ports(listing, "exclude.outbound_ports", config->exclude.outbound_ports,
		  config->exclude.outbound_ports_count);
	put_ports(listing, "exclude.inbound_ports", config->exclude.inbound_ports,
		  config->exclude.inbound_ports_count);
	put(listing, "identity.trust_domain", restart, config->identity.trust_domain);
	put(listing, "identity.enabled", restart,
	    config->identity.enabled ? config->identity.enabled->name : "");
	put(listing, "identity.peer_expiry", restart,
	    config->identity.keep_expired ? "warn" : "close");
	put_paths(listing, "identity.crl_files", config->identity.crl_files,
		  config->identity.crl_files_count);
	put_backends(config, listing);
}

static int unknown(const char *name, char *ret_why)
{
	if (!strcmp(name, "mode"))
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "mode: is policy, not a setting: kmtls policy");
	else
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "%.128s: there is no such setting, `kmtls settings get` lists them", name);
	return -ENOENT;
}

int kmtls_control_settings_get(struct kmtls_daemon *daemon, const json_t *arguments,
			       struct kmtls_text *result, char *ret_why)
{
	struct listing listing = {
		.result = result,
		.only = json_string_value(json_object_get(arguments, "name")),
	};

	kmtls_text_append_string(result, "[");
	put_changeable(daemon, &listing);
	put_fixed(daemon->config, &listing);
	kmtls_text_append_string(result, "]");
	return listing.only && !listing.found ? unknown(listing.only, ret_why) : 0;
}

/* One of those that another verb sets; its answer is not ours. */
static int set_by(struct kmtls_daemon *daemon,
		  int (*verb)(struct kmtls_daemon *daemon, const json_t *arguments,
			      struct kmtls_text *result, char *ret_why),
		  const char *argument, const char *value, char *ret_why)
{
	__cleanup_json json_t *arguments = json_pack("{s:o}", argument, kmtls_json_string(value));
	__cleanup_text struct kmtls_text ignored = { .limit = 0 };

	return arguments ? verb(daemon, arguments, &ignored, ret_why) : -ENOMEM;
}

static int bad_value(const char *name, const char *value, char *ret_why)
{
	snprintf(ret_why, KMTLS_CONTROL_WHY, "%s: %.64s: %s", name, value, kmtls_config_rule(name));
	return -EINVAL;
}

/* As the configuration has it; a root that there is may end sooner still. */
static bool breaks_order(struct kmtls_daemon *daemon, enum kmtls_setting setting, unsigned value)
{
	if (!kmtls_setting_is_there(daemon, KMTLS_SETTING_ROOT_TTL))
		return false;
	if (setting == KMTLS_SETTING_SVID_TTL)
		return value > kmtls_setting_get(daemon, KMTLS_SETTING_ROOT_TTL);
	return setting == KMTLS_SETTING_ROOT_TTL &&
	       value < kmtls_setting_get(daemon, KMTLS_SETTING_SVID_TTL);
}

static int set_number(struct kmtls_daemon *daemon, enum kmtls_setting setting, const char *value,
		      char *ret_why)
{
	const char *name = kmtls_setting_ranges[setting].name;
	unsigned number;

	if (kmtls_setting_parse(setting, value, &number))
		return bad_value(name, value, ret_why);
	if (!kmtls_setting_is_there(daemon, setting)) {
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "%s: the identity backend that is enabled has no such setting", name);
		return -ENOENT;
	}
	if (breaks_order(daemon, setting, number)) {
		snprintf(ret_why, KMTLS_CONTROL_WHY, "%s: %.64s: must not be %s", name, value,
			 setting == KMTLS_SETTING_SVID_TTL ? "longer than identity.root_ttl"
							   : "shorter than identity.svid_ttl");
		return -EINVAL;
	}
	log_info("setting changed", "name=%s from=%u to=%u", name,
		 kmtls_setting_get(daemon, setting), number);
	kmtls_setting_set(daemon, setting, number);
	return 0;
}

/* Known, but not at run time; or not known at all. */
static int refuse(struct kmtls_daemon *daemon, const char *name, char *ret_why)
{
	__cleanup_text struct kmtls_text ignored = { .limit = 0 };
	struct listing listing = { .result = &ignored, .only = name };

	put_fixed(daemon->config, &listing);
	if (!listing.found)
		return unknown(name, ret_why);
	snprintf(ret_why, KMTLS_CONTROL_WHY,
		 "%.64s: needs a restart: change it in the configuration file", name);
	return -EPERM;
}

static int set(struct kmtls_daemon *daemon, const char *name, const char *value, char *ret_why)
{
	enum kmtls_log_level level;

	if (!strcmp(name, "log_level"))
		return kmtls_log_parse_level(value, &level)
			       ? bad_value(name, value, ret_why)
			       : set_by(daemon, kmtls_control_log, "level", value, ret_why);
	if (!strcmp(name, "authorization_default"))
		return strcmp(value, "allow") && strcmp(value, "deny")
			       ? bad_value(name, value, ret_why)
			       : set_by(daemon, kmtls_control_authz_default, "action", value,
					ret_why);
	for (unsigned i = 0; i < KMTLS_SETTING_COUNT; i++) {
		if (!strcmp(kmtls_setting_ranges[i].name, name))
			return set_number(daemon, (enum kmtls_setting)i, value, ret_why);
	}
	return refuse(daemon, name, ret_why);
}

int kmtls_control_settings_set(struct kmtls_daemon *daemon, const json_t *arguments,
			       struct kmtls_text *result, char *ret_why)
{
	const char *name = json_string_value(json_object_get(arguments, "name"));
	int err =
		set(daemon, name, json_string_value(json_object_get(arguments, "value")), ret_why);

	return err ? err : kmtls_control_settings_get(daemon, arguments, result, ret_why);
}
