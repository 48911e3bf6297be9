/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_schema.c - the schema of the configuration file, the rules in words, and how
 * libcyaml's refusals become lines with them. libcyaml reports through its log function: a
 * sentence, then a backtrace of keys from the inside out with the place of each.
 */
#include <cyaml/cyaml.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_parts.h"

#define RULE_PATH "must be an absolute path without '..', of at most 1024 bytes"
#define RULE_PORTS "must be a list of ports, each from 1 to 65535"
#define RULE_MAPPING "must be a mapping"
#define RULE_KEY_TYPE "must be ec-p256, ec-p384, rsa-2048, rsa-3072 or rsa-4096"
#define RULE_ROOT_TTL "must be between 10s and 36500d"
#define RULE_SVID_TTL "must be between 10s and 3650d"
#define RULE_PEM "must be PEM text"
#define RULE_FILE "must be a file name of 1 to 255 bytes, without a slash"

static const struct {
	const char *key, *rule;
} rules[] = {
	{ "", "must be a mapping of keys" },
	{ "node", "must be 1 to 253 letters, digits, dots, hyphens or underscores" },
	{ "bpf_dir", RULE_PATH },
	{ "run_dir", RULE_PATH },
	{ "control_socket", "must be an absolute path without '..', of at most 107 bytes" },
	{ "cgroup", RULE_PATH },
	{ "log_level", "must be error, warning, info or debug" },
	{ "workers", "must be a number from 0 to 256" },
	{ "max_flows", "must be a number from 64 to 1048576" },
	{ "max_udp_peers", "must be a number from 64 to 1048576" },
	{ "handshake_timeout", "must be between 1s and 5m" },
	{ "peek_timeout", "must be between 10ms and 10s" },
	{ "peer_timeout", "must be 0 or between 1s and 24h" },
	{ "resumption", "must be 0 or between 1s and 1h" },
	{ "resumption_symmetric", "must be true or false" },
	{ "keepalive", RULE_MAPPING },
	{ "keepalive.idle", "must be 0 or between 1s and 9h" },
	{ "keepalive.interval", "must be between 1s and 9h" },
	{ "keepalive.probes", "must be a number from 1 to 127" },
	{ "limits", RULE_MAPPING },
	{ "limits.handshakes", "must be a number from 0 to 1048576" },
	{ "limits.handshakes_per_source", "must be a number from 0 to 1048576" },
	{ "limits.memory_percent", "must be a number from 0 to 100" },
	{ "limits.refusal_lines", "must be a number from 0 to 1000000" },
	{ "limits.flows_per_pod", "must be a number from 0 to 1048576" },
	{ "metrics", RULE_MAPPING },
	{ "metrics.listen",
	  "must be ADDRESS:PORT, [IPV6-ADDRESS]:PORT, or an absolute path without "
	  "'..', of at most 107 bytes" },
	{ "mode", "must be off, permissive or strict" },
	{ "authorization_default", "must be allow or deny" },
	{ "rekey", "must be auto or off" },
	{ "key_limit", "must be between 1MiB and 388736063996 bytes (RFC 8446)" },
	{ "key_limit_action", "must be warn or close" },
	{ "prefer_chacha20", "must be true or false" },
	{ "accel", "must be off, on or auto" },
	{ "exclude", RULE_MAPPING },
	{ "exclude.outbound_ports", RULE_PORTS },
	{ "exclude.inbound_ports", RULE_PORTS },
	{ "identity", RULE_MAPPING },
	{ "identity.trust_domain",
	  "must be 1 to 255 lower-case letters, digits, dots, hyphens or underscores" },
	{ "identity.enabled", "must be the name of a backend, or empty" },
	{ "identity.renew_at", "must be a number from 10 to 95" },
	{ "identity.peer_expiry", "must be close or warn" },
	{ "identity.crl_files",
	  "must be a list of at most 64 paths, each absolute, without '..', of at "
	  "most 1024 bytes" },
	{ "identity.backends", "must be a list of at most 8 mappings" },
	{ "identity.backends.name",
	  "must be 1 to 63 letters, digits, dots, hyphens or underscores" },
	{ "identity.backends.type",
	  "must be builtin, provided, files, workload-api or delegated-identity" },
	{ "identity.backends.trust", "must be true or false" },
	{ "identity.backends.key_type", RULE_KEY_TYPE },
	{ "identity.backends.root_ttl", RULE_ROOT_TTL },
	{ "identity.backends.svid_ttl", RULE_SVID_TTL },
	{ "identity.backends.key_manager", "must be disk or memory" },
	{ "identity.backends.root_file", RULE_PATH },
	{ "identity.backends.cert_file_path", RULE_PATH },
	{ "identity.backends.key_file_path", RULE_PATH },
	{ "identity.backends.bundle_file_path", RULE_PATH },
	{ "identity.backends.cert", RULE_PEM },
	{ "identity.backends.key", RULE_PEM },
	{ "identity.backends.bundle", RULE_PEM },
	{ "identity.backends.directory", RULE_PATH },
	{ "identity.backends.svid_file", RULE_FILE },
	{ "identity.backends.key_file", RULE_FILE },
	{ "identity.backends.bundle_file", RULE_FILE },
	{ "identity.backends.socket",
	  "must be an absolute path of at most 107 bytes, or unix:// and such a path" },
	{ "identity.backends.hint", "must be 1 to 1024 bytes" },
	{ "identity.backends.selectors",
	  "must be a list of 1 to 32 selectors, each TYPE:VALUE of at most 1024 bytes" },
	/* At run time, of the backend that is enabled. */
	{ "identity.key_type", RULE_KEY_TYPE },
	{ "identity.root_ttl", RULE_ROOT_TTL },
	{ "identity.svid_ttl", RULE_SVID_TTL },
};

#define OPTIONAL CYAML_FLAG_OPTIONAL
#define OPTIONAL_POINTER (CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER)
#define OPTIONAL_WORD (CYAML_FLAG_OPTIONAL | CYAML_FLAG_STRICT)
#define STRING(key, type) \
	CYAML_FIELD_STRING_PTR(#key, OPTIONAL_POINTER, type, key, 0, CYAML_UNLIMITED)
#define NUMBER(key, type) CYAML_FIELD_UINT(#key, OPTIONAL, type, key)
#define WORD(key, type, words) \
	CYAML_FIELD_ENUM(#key, OPTIONAL_WORD, type, key, words, CYAML_ARRAY_LEN(words))

static const cyaml_strval_t level_words[] = {
	{ "error", KMTLS_LOG_ERROR },
	{ "warning", KMTLS_LOG_WARNING },
	{ "info", KMTLS_LOG_INFO },
	{ "debug", KMTLS_LOG_DEBUG },
};
static const cyaml_strval_t mode_words[] = {
	{ "off", KMTLS_MODE_OFF },
	{ "permissive", KMTLS_MODE_PERMISSIVE },
	{ "strict", KMTLS_MODE_STRICT },
};
static const cyaml_strval_t authorization_words[] = {
	{ "allow", KMTLS_AUTHORIZATION_DEFAULT_ALLOW },
	{ "deny", KMTLS_AUTHORIZATION_DEFAULT_DENY },
};
static const cyaml_strval_t rekey_words[] = {
	{ "auto", 1 },
	{ "off", 2 },
};
static const cyaml_strval_t accel_words[] = {
	{ "auto", KMTLS_ACCEL_AUTO },
	{ "off", KMTLS_ACCEL_OFF },
	{ "on", KMTLS_ACCEL_ON },
};
static const cyaml_strval_t action_words[] = {
	{ "warn", 1 },
	{ "close", 2 },
};
static const cyaml_strval_t expiry_words[] = {
	{ "close", 1 },
	{ "warn", 2 },
};
static const cyaml_strval_t truth_words[] = {
	{ "true", 1 },
	{ "false", 2 },
};
static const cyaml_strval_t backend_words[] = {
	{ "builtin", KMTLS_BACKEND_BUILTIN },
	{ "provided", KMTLS_BACKEND_PROVIDED },
	{ "files", KMTLS_BACKEND_FILES },
	{ "workload-api", KMTLS_BACKEND_WORKLOAD_API },
	{ "delegated-identity", KMTLS_BACKEND_DELEGATED_IDENTITY },
};
static const cyaml_strval_t key_type_words[] = {
	{ "ec-p256", KMTLS_KEY_EC_P256 },   { "ec-p384", KMTLS_KEY_EC_P384 },
	{ "rsa-2048", KMTLS_KEY_RSA_2048 }, { "rsa-3072", KMTLS_KEY_RSA_3072 },
	{ "rsa-4096", KMTLS_KEY_RSA_4096 },
};
static const cyaml_strval_t key_manager_words[] = {
	{ "disk", KMTLS_CONFIG_KEY_MANAGER_DISK },
	{ "memory", KMTLS_CONFIG_KEY_MANAGER_MEMORY },
};
static const cyaml_schema_value_t port = { CYAML_VALUE_UINT(CYAML_FLAG_DEFAULT, uint16_t) };
static const cyaml_schema_field_t exclude_fields[] = {
	CYAML_FIELD_SEQUENCE("outbound_ports", OPTIONAL_POINTER, struct kmtls_config_file_exclude,
			     outbound_ports, &port, 0, CYAML_UNLIMITED),
	CYAML_FIELD_SEQUENCE("inbound_ports", OPTIONAL_POINTER, struct kmtls_config_file_exclude,
			     inbound_ports, &port, 0, CYAML_UNLIMITED),
	CYAML_FIELD_END,
};
static const cyaml_schema_field_t keepalive_fields[] = {
	STRING(idle, struct kmtls_config_file_keepalive),
	STRING(interval, struct kmtls_config_file_keepalive),
	NUMBER(probes, struct kmtls_config_file_keepalive),
	CYAML_FIELD_END,
};
static const cyaml_schema_field_t limits_fields[] = {
	NUMBER(handshakes, struct kmtls_config_file_limits),
	NUMBER(handshakes_per_source, struct kmtls_config_file_limits),
	NUMBER(memory_percent, struct kmtls_config_file_limits),
	NUMBER(refusal_lines, struct kmtls_config_file_limits),
	NUMBER(flows_per_pod, struct kmtls_config_file_limits),
	CYAML_FIELD_END,
};
static const cyaml_schema_field_t metrics_fields[] = {
	STRING(listen, struct kmtls_config_file_metrics),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t item_text = {
	CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED),
};
/* Of all types; config_identity.c knows which has which. */
static const cyaml_schema_field_t backend_fields[] = {
	STRING(name, struct kmtls_config_file_backend),
	WORD(type, struct kmtls_config_file_backend, backend_words),
	WORD(trust, struct kmtls_config_file_backend, truth_words),
	WORD(key_type, struct kmtls_config_file_backend, key_type_words),
	WORD(key_manager, struct kmtls_config_file_backend, key_manager_words),
	STRING(root_file, struct kmtls_config_file_backend),
	STRING(root_ttl, struct kmtls_config_file_backend),
	STRING(svid_ttl, struct kmtls_config_file_backend),
	STRING(cert_file_path, struct kmtls_config_file_backend),
	STRING(key_file_path, struct kmtls_config_file_backend),
	STRING(bundle_file_path, struct kmtls_config_file_backend),
	STRING(cert, struct kmtls_config_file_backend),
	STRING(key, struct kmtls_config_file_backend),
	STRING(bundle, struct kmtls_config_file_backend),
	STRING(directory, struct kmtls_config_file_backend),
	STRING(svid_file, struct kmtls_config_file_backend),
	STRING(key_file, struct kmtls_config_file_backend),
	STRING(bundle_file, struct kmtls_config_file_backend),
	STRING(socket, struct kmtls_config_file_backend),
	STRING(hint, struct kmtls_config_file_backend),
	CYAML_FIELD_SEQUENCE("selectors", OPTIONAL_POINTER, struct kmtls_config_file_backend,
			     selectors, &item_text, 0, CYAML_UNLIMITED),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t backend = { CYAML_VALUE_MAPPING(
	CYAML_FLAG_DEFAULT, struct kmtls_config_file_backend, backend_fields) };
static const cyaml_schema_field_t identity_fields[] = {
	STRING(trust_domain, struct kmtls_config_file_identity),
	STRING(enabled, struct kmtls_config_file_identity),
	NUMBER(renew_at, struct kmtls_config_file_identity),
	WORD(peer_expiry, struct kmtls_config_file_identity, expiry_words),
	CYAML_FIELD_SEQUENCE("crl_files", OPTIONAL_POINTER, struct kmtls_config_file_identity,
			     crl_files, &item_text, 0, CYAML_UNLIMITED),
	CYAML_FIELD_SEQUENCE("backends", OPTIONAL_POINTER, struct kmtls_config_file_identity,
			     backends, &backend, 0, KMTLS_BACKENDS_MAX),
	CYAML_FIELD_END,
};
static const cyaml_schema_field_t file_fields[] = {
	STRING(node, struct kmtls_config_file),
	STRING(bpf_dir, struct kmtls_config_file),
	STRING(run_dir, struct kmtls_config_file),
	STRING(control_socket, struct kmtls_config_file),
	STRING(cgroup, struct kmtls_config_file),
	STRING(handshake_timeout, struct kmtls_config_file),
	STRING(peek_timeout, struct kmtls_config_file),
	STRING(peer_timeout, struct kmtls_config_file),
	STRING(resumption, struct kmtls_config_file),
	WORD(log_level, struct kmtls_config_file, level_words),
	WORD(mode, struct kmtls_config_file, mode_words),
	WORD(authorization_default, struct kmtls_config_file, authorization_words),
	WORD(rekey, struct kmtls_config_file, rekey_words),
	STRING(key_limit, struct kmtls_config_file),
	WORD(key_limit_action, struct kmtls_config_file, action_words),
	WORD(prefer_chacha20, struct kmtls_config_file, truth_words),
	WORD(accel, struct kmtls_config_file, accel_words),
	WORD(resumption_symmetric, struct kmtls_config_file, truth_words),
	NUMBER(workers, struct kmtls_config_file),
	NUMBER(max_flows, struct kmtls_config_file),
	NUMBER(max_udp_peers, struct kmtls_config_file),
	CYAML_FIELD_MAPPING("keepalive", OPTIONAL, struct kmtls_config_file, keepalive,
			    keepalive_fields),
	CYAML_FIELD_MAPPING("limits", OPTIONAL, struct kmtls_config_file, limits, limits_fields),
	CYAML_FIELD_MAPPING("metrics", OPTIONAL, struct kmtls_config_file, metrics, metrics_fields),
	CYAML_FIELD_MAPPING("exclude", OPTIONAL, struct kmtls_config_file, exclude, exclude_fields),
	CYAML_FIELD_MAPPING("identity", OPTIONAL, struct kmtls_config_file, identity,
			    identity_fields),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct kmtls_config_file, file_fields),
};

/* Without the numbers of items. */
static void strip_items(const char *key, char *ret_key, size_t size)
{
	size_t length = 0;

	for (const char *c = key; *c && length + 1 < size; c++) {
		if (*c == '[')
			c += strcspn(c, "]");
		else
			ret_key[length++] = *c;
		if (!*c)
			break;
	}
	ret_key[length] = '\0';
}

const char *kmtls_config_rule(const char *item_key)
{
	char key[KMTLS_YAML_KEY];

	strip_items(item_key, key, sizeof(key));
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (!strcmp(rules[i].key, key))
			return rules[i].rule;
	}
	return "unknown key";
}

int kmtls_config_say(struct kmtls_config_load *load, unsigned line, const char *key,
		     const char *rule)
{
	char at[16] = "";

	if (line)
		snprintf(at, sizeof(at), ":%u", line);
	snprintf(load->error, KMTLS_CONFIG_ERROR, "%s%s: %s%s%s", load->path, at, key,
		 *key ? ": " : "", rule);
	for (char *c = load->error; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
	return -EINVAL;
}

int kmtls_config_refuse_item(struct kmtls_config_load *load, const char *key, int item,
			     const char *rule)
{
	const struct kmtls_yaml_entry *entry = kmtls_yaml_find(&load->yaml, key, item);

	return kmtls_config_say(load, entry ? entry->line : 0, key, rule);
}

int kmtls_config_refuse(struct kmtls_config_load *load, const char *key)
{
	return kmtls_config_refuse_item(load, key, -1, kmtls_config_rule(key));
}

/* Prepends part to the key collected so far: a backtrace goes from the inside out. */
static void prepend(struct kmtls_config_load *load, const char *part)
{
	char key[KMTLS_YAML_KEY];

	if (snprintf(key, sizeof(key), "%s%s%s", part, *load->key && *load->key != '[' ? "." : "",
		     load->key) < (int)sizeof(key))
		strcpy(load->key, key);
}

static void collect(cyaml_log_t level, void *context, const char *format, va_list list)
{
	struct kmtls_config_load *load = context;
	char text[512], part[128];
	unsigned item, line;

	(void)level;
	vsnprintf(text, sizeof(text), format, list);
	if (sscanf(text, "Load: Unexpected key: %127s", part) == 1) {
		load->unknown_key = true;
		prepend(load, part);
	} else if (sscanf(text, " in mapping field '%127[^']' (line: %u", part, &line) == 2) {
		prepend(load, part);
	} else if (sscanf(text, " in sequence entry '%u' (line: %u", &item, &line) == 2) {
		/* The item itself is wrong, or a key of the mapping that it is. */
		if (!*load->key) {
			load->line = line;
			return;
		}
		snprintf(part, sizeof(part), "[%u]", item - 1); /* it counts from 1 */
		prepend(load, part);
	}
}

/* So that strings and lists can be taken over and freed with free(). */
static void *allocate(void *context, void *pointer, size_t size)
{
	(void)context;
	if (size)
		return realloc(pointer, size);
	if (pointer) /* it may be a key */
		explicit_bzero(pointer, malloc_usable_size(pointer));
	free(pointer);
	return NULL;
}

static cyaml_config_t cyaml_config(struct kmtls_config_load *load)
{
	return (cyaml_config_t){
		.log_fn = collect,
		.log_ctx = load,
		.mem_fn = allocate,
		.log_level = CYAML_LOG_ERROR,
		.flags = CYAML_CFG_NO_ALIAS,
	};
}

int kmtls_config_schema_load(struct kmtls_config_load *load, const char *bytes, size_t length)
{
	cyaml_config_t config = cyaml_config(load);
	const struct kmtls_yaml_entry *entry;
	cyaml_err_t err;

	err = cyaml_load_data((const uint8_t *)bytes, length, &config, &schema,
			      (cyaml_data_t **)&load->file, NULL);
	if (err == CYAML_ERR_OOM)
		return -ENOMEM;
	if (err == CYAML_OK) {
		/* An empty file: no data and no error. */
		if (!load->file)
			load->file = calloc(1, sizeof(*load->file));
		return load->file ? 0 : -ENOMEM;
	}
	entry = kmtls_yaml_find(&load->yaml, load->key, -1);
	if (!load->line)
		load->line = entry ? entry->line : load->yaml.line;
	return kmtls_config_say(load, load->line, load->key,
				load->unknown_key ? "unknown key" : kmtls_config_rule(load->key));
}

void kmtls_config_schema_free(struct kmtls_config_load *load)
{
	cyaml_config_t config = cyaml_config(load);

	cyaml_free(&config, &schema, load->file, 0);
	load->file = NULL;
}
