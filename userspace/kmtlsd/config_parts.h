/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_parts.h - what the three files of the configuration reader share. config.c reads
 * the file and makes the result, config_schema.c has the schema, the rules and libcyaml,
 * config_check.c the checks a schema cannot express.
 */
#ifndef KMTLS_CONFIG_PARTS_H
#define KMTLS_CONFIG_PARTS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "config.h"
#include "config_yaml.h"

#define KMTLS_CONFIG_PATH_MAX 1024
#define KMTLS_CONFIG_SOCKET_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

#define KMTLS_CONFIG_KEY_MANAGER_DISK 1
#define KMTLS_CONFIG_KEY_MANAGER_MEMORY 2

#define KMTLS_CONFIG_MINUTE 60u
#define KMTLS_CONFIG_HOUR (60 * KMTLS_CONFIG_MINUTE)
#define KMTLS_CONFIG_DAY (24 * KMTLS_CONFIG_HOUR)

/* The file as the schema sees it. Durations are text until they are checked. */
struct kmtls_config_file {
	char *node, *bpf_dir, *run_dir, *control_socket, *cgroup;
	char *handshake_timeout, *peek_timeout, *peer_timeout, *key_limit, *resumption;
	int log_level, mode, rekey, key_limit_action, prefer_chacha20, authorization_default, accel,
		resumption_symmetric;
	unsigned workers, max_flows, max_udp_peers;
	struct kmtls_config_file_keepalive {
		char *idle, *interval;
		unsigned probes;
	} keepalive;
	struct kmtls_config_file_limits {
		unsigned handshakes, handshakes_per_source, flows_per_pod, refusal_lines,
			memory_percent;
	} limits;
	struct kmtls_config_file_metrics {
		char *listen;
	} metrics;
	struct kmtls_config_file_exclude {
		uint16_t *outbound_ports, *inbound_ports;
		unsigned outbound_ports_count, inbound_ports_count;
	} exclude;
	struct kmtls_config_file_identity {
		char *trust_domain, *enabled;
		unsigned renew_at;
		int peer_expiry;
		char **crl_files;
		unsigned crl_files_count;
		struct kmtls_config_file_backend {
			char *name, *root_file, *root_ttl, *svid_ttl;
			char *cert_file_path, *key_file_path, *bundle_file_path;
			char *cert, *key, *bundle;
			char *directory, *svid_file, *key_file, *bundle_file;
			char *socket, *hint, **selectors;
			unsigned selectors_count;
			int type, key_type, key_manager, trust;
		} * backends;
		unsigned backends_count;
	} identity;
};

struct kmtls_config_load {
	const char *path; /* of the file, for messages */
	char *error; /* KMTLS_CONFIG_ERROR bytes */
	struct kmtls_yaml yaml;
	struct kmtls_config_file *file;
	/* What libcyaml said of the first thing it refused. */
	char key[KMTLS_YAML_KEY];
	unsigned line;
	bool unknown_key;
};

/* "90", "90s", "5m", "24h", "3650d" -> seconds. -EINVAL, -ERANGE. */
int kmtls_config_parse_duration(const char *text, unsigned *ret_seconds);
/* The rule a key must keep, as a sentence; "unknown key" if there is no such key. Numbers of items
 * in the key, as in "identity.backends[0].name", do not matter. */
const char *kmtls_config_rule(const char *key);
/* The one place that writes an error. line 0 and key "" are left out. Always -EINVAL. */
int kmtls_config_say(struct kmtls_config_load *load, unsigned line, const char *key,
		     const char *rule);
/* Refuse a key or an item of a list, at its line. Always -EINVAL. */
int kmtls_config_refuse(struct kmtls_config_load *load, const char *key);
int kmtls_config_refuse_item(struct kmtls_config_load *load, const char *key, int item,
			     const char *rule);

/* load->yaml is there; sets load->file, to be freed with the other. -EINVAL, -ENOMEM. */
int kmtls_config_schema_load(struct kmtls_config_load *load, const char *bytes, size_t length);
void kmtls_config_schema_free(struct kmtls_config_load *load);

/* What the file does not have is fine and changes nothing. -EINVAL, said. */
int kmtls_config_check_duration(struct kmtls_config_load *load, const char *key, const char *text,
				unsigned from, unsigned to, unsigned *seconds);
int kmtls_config_check_number(struct kmtls_config_load *load, const char *key, unsigned value,
			      unsigned from, unsigned to, unsigned *number);
bool kmtls_config_is_path(const char *text, size_t limit);
bool kmtls_config_is_name(const char *text, const char *letters, size_t limit);
bool kmtls_config_has(const struct kmtls_config_load *load, const char *key);
#define KMTLS_CONFIG_LOWER "abcdefghijklmnopqrstuvwxyz0123456789.-_"
#define KMTLS_CONFIG_UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* config_identity.c: the section `identity`; moves its texts from load->file into config. */
int kmtls_config_check_identity(struct kmtls_config_load *load, struct kmtls_config *config);
void kmtls_config_identity_free(struct kmtls_config *config);

/* Checks load->file and writes its numbers and durations over config's defaults. */
int kmtls_config_check(struct kmtls_config_load *load, struct kmtls_config *config);

#endif
