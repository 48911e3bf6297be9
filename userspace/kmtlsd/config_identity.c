/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_identity.c - the section `identity` of the configuration: named backends of several
 * types, of which one is enabled or none. Which keys a type has stands in one table here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "agent.h"
#include "config_parts.h"
#include "selectors.h"
#include "workload_identity.h"

#define NAME_MAX_LENGTH 63
#define ITEM_KEY 64

#define BUILTIN (1u << KMTLS_BACKEND_BUILTIN)
#define PROVIDED (1u << KMTLS_BACKEND_PROVIDED)
#define FILES (1u << KMTLS_BACKEND_FILES)
#define DELEGATED (1u << KMTLS_BACKEND_DELEGATED_IDENTITY)
#define AGENT (1u << KMTLS_BACKEND_WORKLOAD_API | DELEGATED)

/* What not every type has. */
static const struct {
	const char *key;
	unsigned types;
} keys[] = {
	{ "key_type", BUILTIN | PROVIDED },
	{ "svid_ttl", BUILTIN | PROVIDED },
	{ "root_ttl", BUILTIN },
	{ "root_file", BUILTIN },
	{ "key_manager", BUILTIN },
	{ "cert_file_path", PROVIDED },
	{ "key_file_path", PROVIDED },
	{ "bundle_file_path", PROVIDED },
	{ "cert", PROVIDED },
	{ "key", PROVIDED },
	{ "bundle", PROVIDED },
	{ "directory", FILES },
	{ "svid_file", FILES },
	{ "key_file", FILES },
	{ "bundle_file", FILES },
	{ "socket", AGENT },
	{ "hint", AGENT },
	{ "selectors", DELEGATED },
};

struct place {
	struct kmtls_config_load *load;
	struct kmtls_config_file_backend *file;
	unsigned number;
	char key[ITEM_KEY]; /* of the last question */
};

static const char *key_of(struct place *place, const char *key)
{
	snprintf(place->key, sizeof(place->key), "identity.backends[%u].%s", place->number, key);
	return place->key;
}

static bool has(struct place *place, const char *key)
{
	return kmtls_config_has(place->load, key_of(place, key));
}

/* At the key's line, or that of its backend if it is not there. */
static int refuse(struct place *place, const char *key, const char *rule)
{
	const struct kmtls_yaml *yaml = &place->load->yaml;
	const struct kmtls_yaml_entry *entry = kmtls_yaml_find(yaml, key_of(place, key), -1);

	if (!entry)
		entry = kmtls_yaml_find(yaml, "identity.backends", (int)place->number);
	return kmtls_config_say(place->load, entry ? entry->line : 0, key_of(place, key), rule);
}

static int refuse_by_rule(struct place *place, const char *key)
{
	return refuse(place, key, kmtls_config_rule(key_of(place, key)));
}

static int check_name(struct place *place, const struct kmtls_config *config)
{
	const char *name = place->file->name;

	if (!has(place, "name"))
		return refuse(place, "name", "is required");
	if (!kmtls_config_is_name(name, KMTLS_CONFIG_LOWER KMTLS_CONFIG_UPPER, NAME_MAX_LENGTH))
		return refuse_by_rule(place, "name");
	for (unsigned i = 0; i < place->number; i++) {
		if (!strcmp(config->identity.backends[i].name, name))
			return refuse(place, "name", "is that of another backend");
	}
	return 0;
}

static int check_builtin(struct place *place)
{
	int manager = place->file->key_manager;

	if (manager == KMTLS_CONFIG_KEY_MANAGER_DISK && !place->file->root_file)
		return refuse(place, "root_file", "is required where key_manager is disk");
	if (manager == KMTLS_CONFIG_KEY_MANAGER_MEMORY && place->file->root_file)
		return refuse(place, "root_file", "there is none where key_manager is memory");
	return 0;
}

/* Exactly one of a path and a text, or at most one. */
static int check_either(struct place *place, const char *path_key, const char *path,
			const char *text_key, const char *text, bool required)
{
	char rule[64];

	if (text && !*text)
		return refuse_by_rule(place, text_key);
	if (path && text) {
		snprintf(rule, sizeof(rule), "cannot be together with %s", path_key);
		return refuse(place, text_key, rule);
	}
	if (path || text || !required)
		return 0;
	snprintf(rule, sizeof(rule), "is required (or, for development, %s)", text_key);
	return refuse(place, path_key, rule);
}

static int check_provided(struct place *place)
{
	const struct kmtls_config_file_backend *file = place->file;
	int err;

	err = check_either(place, "cert_file_path", file->cert_file_path, "cert", file->cert, true);
	if (!err)
		err = check_either(place, "key_file_path", file->key_file_path, "key", file->key,
				   true);
	return err ? err
		   : check_either(place, "bundle_file_path", file->bundle_file_path, "bundle",
				  file->bundle, false);
}

static bool is_file_name(const char *text)
{
	size_t length = strlen(text);

	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f || *c == '/')
			return false;
	return length && length <= 255 && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

/* Fills in those that are not there. -ENOMEM. */
static int check_files(struct place *place)
{
	struct kmtls_config_file_backend *file = place->file;
	const struct {
		const char *key, *usual;
		char **value;
	} names[] = {
		{ "svid_file", "svid.pem", &file->svid_file },
		{ "key_file", "svid_key.pem", &file->key_file },
		{ "bundle_file", "bundle.pem", &file->bundle_file },
	};

	if (!file->directory)
		return refuse(place, "directory", "is required");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!*names[i].value)
			*names[i].value = strdup(names[i].usual);
		if (!*names[i].value)
			return -ENOMEM;
		if (!is_file_name(*names[i].value))
			return refuse_by_rule(place, names[i].key);
	}
	for (size_t i = 1; i < sizeof(names) / sizeof(names[0]); i++)
		for (size_t j = 0; j < i; j++)
			if (!strcmp(*names[i].value, *names[j].value))
				return refuse(place, names[i].key, "is the name of another file");
	return 0;
}

/* ---- of agents ---- */

static int check_agent(struct place *place)
{
	const struct kmtls_config_file_backend *file = place->file;
	char why[KMTLS_GRPC_WHY];
	const char *path;

	if (!file->socket)
		return refuse(place, "socket", "is required");
	if (kmtls_agent_parse_socket(file->socket, &path, why) ||
	    !kmtls_config_is_path(path, KMTLS_CONFIG_SOCKET_MAX))
		return refuse_by_rule(place, "socket");
	if (file->hint && (!*file->hint || strlen(file->hint) > KMTLS_WORKLOAD_HINT_MAX))
		return refuse_by_rule(place, "hint");
	return 0;
}

static int refuse_selector(struct place *place, unsigned item, const char *rule)
{
	return kmtls_config_refuse_item(place->load, key_of(place, "selectors"), (int)item, rule);
}

static int check_selector(struct place *place, unsigned item)
{
	char *const *selectors = place->file->selectors;
	const char *rule = kmtls_selectors_check(selectors[item]);

	if (rule)
		return refuse_selector(place, item, rule);
	for (unsigned i = 0; i < item; i++)
		if (!strcmp(selectors[i], selectors[item]))
			return refuse_selector(place, item, "the selector is listed twice");
	return 0;
}

static int check_delegated(struct place *place)
{
	unsigned count = place->file->selectors_count;
	int err = check_agent(place);

	if (!err && has(place, "selectors") && (!count || count > KMTLS_CONFIG_SELECTORS_MAX))
		return refuse_by_rule(place, "selectors");
	for (unsigned i = 0; !err && i < count; i++)
		err = check_selector(place, i);
	return err;
}

/* What a type wants beside the keys that it may have. */
static const struct {
	const char *name;
	int (*check)(struct place *place);
} types[] = {
	[KMTLS_BACKEND_BUILTIN] = { "builtin", check_builtin },
	[KMTLS_BACKEND_PROVIDED] = { "provided", check_provided },
	[KMTLS_BACKEND_FILES] = { "files", check_files },
	[KMTLS_BACKEND_WORKLOAD_API] = { "workload-api", check_agent },
	[KMTLS_BACKEND_DELEGATED_IDENTITY] = { "delegated-identity", check_delegated },
};

static int check_type(struct place *place)
{
	char rule[64];

	if (!has(place, "type"))
		return refuse(place, "type", "is required");
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if ((keys[i].types & 1u << place->file->type) || !has(place, keys[i].key))
			continue;
		snprintf(rule, sizeof(rule), "type %s has no such key",
			 types[place->file->type].name);
		return refuse(place, keys[i].key, rule);
	}
	return 0;
}

static int check_paths(struct place *place)
{
	const struct kmtls_config_file_backend *file = place->file;
	const struct {
		const char *key, *value;
	} paths[] = {
		{ "root_file", file->root_file },
		{ "cert_file_path", file->cert_file_path },
		{ "key_file_path", file->key_file_path },
		{ "bundle_file_path", file->bundle_file_path },
		{ "directory", file->directory },
	};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		if (paths[i].value && !kmtls_config_is_path(paths[i].value, KMTLS_CONFIG_PATH_MAX))
			return refuse_by_rule(place, paths[i].key);
	}
	return 0;
}

static int check_ttls(struct place *place, struct kmtls_config_backend *backend)
{
	struct kmtls_config_load *load = place->load;
	int err;

	err = kmtls_config_check_duration(load, key_of(place, "root_ttl"), place->file->root_ttl,
					  10, 36500 * KMTLS_CONFIG_DAY, &backend->root_ttl);
	if (!err)
		err = kmtls_config_check_duration(load, key_of(place, "svid_ttl"),
						  place->file->svid_ttl, 10,
						  3650 * KMTLS_CONFIG_DAY, &backend->svid_ttl);
	if (err || backend->svid_ttl <= backend->root_ttl)
		return err;
	if (has(place, "svid_ttl"))
		return refuse(place, "svid_ttl", "must not be longer than root_ttl");
	return refuse(place, "root_ttl", "must not be shorter than svid_ttl (default 24h)");
}

static void take_texts(struct kmtls_config_file_backend *file, struct kmtls_config_backend *backend)
{
	backend->name = kmtls_take_pointer(file->name);
	backend->root_file = kmtls_take_pointer(file->root_file);
	backend->cert_file = kmtls_take_pointer(file->cert_file_path);
	backend->key_file = kmtls_take_pointer(file->key_file_path);
	backend->bundle_file = kmtls_take_pointer(file->bundle_file_path);
	backend->cert = kmtls_take_pointer(file->cert);
	backend->key = kmtls_take_pointer(file->key);
	backend->bundle = kmtls_take_pointer(file->bundle);
	backend->directory = kmtls_take_pointer(file->directory);
	backend->svid_name = kmtls_take_pointer(file->svid_file);
	backend->key_name = kmtls_take_pointer(file->key_file);
	backend->bundle_name = kmtls_take_pointer(file->bundle_file);
	backend->socket = kmtls_take_pointer(file->socket);
	backend->hint = kmtls_take_pointer(file->hint);
	backend->selectors = kmtls_take_pointer(file->selectors);
	backend->selectors_count = file->selectors_count;
	file->selectors_count = 0;
}

static int check_backend(struct place *place, struct kmtls_config *config)
{
	struct kmtls_config_backend *backend = &config->identity.backends[place->number];
	int err = check_name(place, config);

	if (!err)
		err = check_type(place);
	if (!err)
		err = check_paths(place);
	if (err)
		return err;
	backend->type = (enum kmtls_backend_type)place->file->type;
	backend->trust = place->file->trust != 2;
	backend->key_type =
		place->file->key_type ? (unsigned)place->file->key_type : KMTLS_KEY_EC_P256;
	backend->root_ttl = 3650 * KMTLS_CONFIG_DAY;
	backend->svid_ttl = KMTLS_CONFIG_DAY;
	err = check_ttls(place, backend);
	if (!err)
		err = types[backend->type].check(place);
	if (!err)
		take_texts(place->file, backend);
	return err;
}

static int check_backends(struct kmtls_config_load *load, struct kmtls_config *config)
{
	struct kmtls_config_file_identity *file = &load->file->identity;
	int err = 0;

	if (!file->backends_count)
		return 0;
	config->identity.backends =
		calloc(file->backends_count, sizeof(*config->identity.backends));
	if (!config->identity.backends)
		return -ENOMEM;
	for (unsigned i = 0; !err && i < file->backends_count; i++) {
		struct place place = { .load = load, .file = &file->backends[i], .number = i };

		err = check_backend(&place, config);
		config->identity.backends_count = i + 1;
	}
	return err;
}

static int find_enabled(struct kmtls_config_load *load, struct kmtls_config *config)
{
	const char *name = load->file->identity.enabled;

	if (!name || !*name)
		return 0;
	for (unsigned i = 0; i < config->identity.backends_count; i++) {
		struct kmtls_config_backend *backend = &config->identity.backends[i];

		if (strcmp(backend->name, name) != 0)
			continue;
		if (!backend->trust)
			return kmtls_config_refuse_item(load, "identity.enabled", -1,
							"is a backend whose trust is false");
		config->identity.enabled = backend;
		return 0;
	}
	return kmtls_config_refuse_item(load, "identity.enabled", -1,
					"no backend has that name (identity.backends)");
}

/* Nothing issues: no promise of encryption, and where nothing is promised mutual TLS is off. */
static int check_mode(struct kmtls_config_load *load, struct kmtls_config *config)
{
	if (config->identity.enabled || config->mode == KMTLS_MODE_OFF)
		return 0;
	if (config->mode != KMTLS_MODE_UNSET)
		return kmtls_config_refuse_item(
			load, "mode", -1,
			"needs identity.enabled, which names no backend: mutual TLS is off");
	config->mode = KMTLS_MODE_OFF;
	return 0;
}

static int check_crl_files(struct kmtls_config_load *load)
{
	const struct kmtls_config_file_identity *identity = &load->file->identity;

	if (identity->crl_files_count > KMTLS_CONFIG_CRL_FILES_MAX)
		return kmtls_config_refuse(load, "identity.crl_files");
	for (unsigned i = 0; i < identity->crl_files_count; i++) {
		if (!kmtls_config_is_path(identity->crl_files[i], KMTLS_CONFIG_PATH_MAX))
			return kmtls_config_refuse_item(load, "identity.crl_files", (int)i,
							kmtls_config_rule("identity.crl_files"));
		for (unsigned j = 0; j < i; j++)
			if (!strcmp(identity->crl_files[i], identity->crl_files[j]))
				return kmtls_config_refuse_item(load, "identity.crl_files", (int)i,
								"the path is listed twice");
	}
	return 0;
}

int kmtls_config_check_identity(struct kmtls_config_load *load, struct kmtls_config *config)
{
	struct kmtls_config_file_identity *file = &load->file->identity;
	const struct kmtls_yaml_entry *entry;
	int err;

	if (!file->trust_domain) {
		entry = kmtls_yaml_find(&load->yaml, "identity", -1);
		return kmtls_config_say(load, entry ? entry->line : 0, "identity.trust_domain",
					"is required");
	}
	if (!kmtls_config_is_name(file->trust_domain, KMTLS_CONFIG_LOWER, 255))
		return kmtls_config_refuse(load, "identity.trust_domain");
	err = kmtls_config_check_number(load, "identity.renew_at", file->renew_at, 10, 95,
					&config->identity.renew_at);
	if (!err)
		err = check_crl_files(load);
	if (!err)
		err = check_backends(load, config);
	if (!err)
		err = find_enabled(load, config);
	if (!err)
		err = check_mode(load, config);
	if (err)
		return err;
	config->identity.trust_domain = kmtls_take_pointer(file->trust_domain);
	config->identity.keep_expired = file->peer_expiry == 2;
	config->identity.crl_files = kmtls_take_pointer(file->crl_files);
	config->identity.crl_files_count = file->crl_files_count;
	file->crl_files_count = 0;
	return 0;
}

void kmtls_config_identity_free(struct kmtls_config *config)
{
	for (unsigned i = 0; i < config->identity.backends_count; i++) {
		struct kmtls_config_backend *backend = &config->identity.backends[i];

		free(backend->name);
		free(backend->root_file);
		free(backend->cert_file);
		free(backend->key_file);
		free(backend->bundle_file);
		free(backend->cert);
		if (backend->key)
			explicit_bzero(backend->key, strlen(backend->key));
		free(backend->key);
		free(backend->bundle);
		free(backend->directory);
		free(backend->svid_name);
		free(backend->key_name);
		free(backend->bundle_name);
		free(backend->socket);
		free(backend->hint);
		for (unsigned s = 0; s < backend->selectors_count; s++)
			free(backend->selectors[s]);
		free(backend->selectors);
	}
	for (unsigned i = 0; i < config->identity.crl_files_count; i++)
		free(config->identity.crl_files[i]);
	free(config->identity.crl_files);
	free(config->identity.backends);
	free(config->identity.trust_domain);
}
