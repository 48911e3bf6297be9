/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - the daemon's configuration file (YAML), documented in kmtlsd.conf(5). Read
 * once at start; what can change at run time lives in maps instead.
 */
#ifndef KMTLS_CONFIG_H
#define KMTLS_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "accel.h"
#include "key_type.h"
#include "log.h"
#include "kmtls/abi.h"

#define KMTLS_CONFIG_ERROR 512
#define KMTLS_BACKENDS_MAX 8 /* identity backends */

#define KMTLS_CONFIG_CRL_FILES_MAX 64

/* RFC 8446 section 5.5: 2^24.5 records of 2^14 bytes. */
#define KMTLS_CONFIG_KEY_LIMIT 388736063996ull

enum kmtls_backend_type {
	KMTLS_BACKEND_BUILTIN = 1,
	KMTLS_BACKEND_PROVIDED,
	KMTLS_BACKEND_FILES,
	KMTLS_BACKEND_WORKLOAD_API,
	KMTLS_BACKEND_DELEGATED_IDENTITY,
};

/* It signs SVIDs itself, so there are settings of them. */
static inline bool kmtls_backend_signs(enum kmtls_backend_type type)
{
	return type == KMTLS_BACKEND_BUILTIN || type == KMTLS_BACKEND_PROVIDED;
}

#define KMTLS_CONFIG_SELECTORS_MAX 32

/* Where SVIDs come from, or came from: what is trusted may be more than what issues. */
struct kmtls_config_backend {
	char *name;
	enum kmtls_backend_type type;
	bool trust; /* its roots are in every bundle; true */
	unsigned key_type; /* enum kmtls_key_type, of what it makes; ec-p256 */
	unsigned root_ttl; /* builtin: seconds; 10 years */
	unsigned svid_ttl; /* seconds; 24 h */
	char *root_file; /* builtin, key manager disk; NULL: memory */
	/* provided: a file each, or the text itself. bundle: neither if the certificate is a root */
	char *cert_file, *key_file, *bundle_file;
	char *cert, *key, *bundle;
	/* files: names within the directory, whose path may have "{pod}" in it */
	char *directory, *svid_name, *key_name, *bundle_name;
	/* workload-api, delegated-identity: a path or unix:///PATH; of SVIDs those with this hint, or
	 * (NULL) any */
	char *socket, *hint;
	/* delegated-identity: TYPE:VALUE with "{namespace}", "{name}", "{service_account}" or "{pod}"
	 * in the value. None: the usual ones. */
	char **selectors;
	unsigned selectors_count;
};

struct kmtls_config {
	char *node; /* this node's name in logs and status; default: host name */
	char *bpf_dir; /* maps and links are pinned below; /sys/fs/bpf/kmtls */
	char *run_dir; /* remembered pods; /run/kmtls */
	char *control_socket; /* <run_dir>/control.sock */
	char *cgroup; /* of the daemon, made if missing; NULL: the one it was started in */
	char *metrics_listen; /* ADDRESS:PORT or a path; NULL: metrics are not served */
	enum kmtls_log_level log_level; /* info */
	unsigned workers; /* event loop threads; 0: one per CPU the daemon may run on */
	unsigned max_flows; /* slots of the flow table, 64..1048576; 65536 */
	unsigned max_udp_peers; /* entries of the UDP ledger, 64..1048576; 16384 */
	unsigned handshake_timeout; /* seconds, 1..300; 10 */
	unsigned peek_timeout_ms; /* 10..10000; 100 */
	unsigned
		resumption; /* seconds that a full handshake counts for others; 0: none is resumed */
	unsigned resumption_symmetric; /* 1: also without (EC)DHE; 0 */
	unsigned peer_timeout; /* seconds, TCP_USER_TIMEOUT of the wire; 0: the kernel's own */
	struct { /* of the wire, unless the application asks by itself */
		unsigned idle, interval, probes; /* seconds, seconds; 60, 10, 6. idle 0: none */
	} keepalive;
	struct {
		unsigned handshakes; /* inbound, in progress; 0: no limit; 4096 */
		unsigned handshakes_per_source; /* of one IPv4 address or IPv6 /64; 256 */
		unsigned refusal_lines; /* in the log, a second and reason; 0: no limit; 20 */
		unsigned memory_percent; /* of memory.max: from there on refuse; 0: never; 90 */
		unsigned flows_per_pod; /* 0: no limit; half of max_flows */
	} limits;
	enum kmtls_mode mode; /* UNSET: what the map says, or else permissive */
	/* UNSET (default): as it is in the map; that is allow in a new one */
	enum kmtls_authorization_default authorization_default;
	bool rekey; /* replace keys where kernel and peer can (auto) */
	uint64_t key_limit; /* bytes under one AES-GCM key; KMTLS_CONFIG_KEY_LIMIT */
	bool close_at_key_limit; /* else a warning is all */
	bool prefer_chacha20;
	enum kmtls_accel accel; /* of pods that say nothing else; auto */
	struct {
		uint16_t *outbound_ports, *inbound_ports; /* never intercepted, all pods */
		unsigned outbound_ports_count, inbound_ports_count;
	} exclude;
	struct {
		char *trust_domain; /* required */
		unsigned renew_at; /* percent of an SVID's lifetime, 10..95; 80 */
		bool keep_expired; /* peer_expiry: warn; else flows of an expired peer are closed */
		char **crl_files;
		unsigned crl_files_count;
		struct kmtls_config_backend *backends;
		unsigned backends_count;
		struct kmtls_config_backend *enabled; /* of these; NULL: mutual TLS is off */
	} identity;
};

/*
 * -EINVAL with "FILE:LINE: KEY: RULE" (line and key as far as they apply) in ret_error
 * (KMTLS_CONFIG_ERROR bytes), or -errno when the file cannot be read, likewise. Unknown
 * keys, wrong types, values out of range, duplicate keys are all refused.
 */
int kmtls_config_load(const char *path, struct kmtls_config **ret_config, char *ret_error);
void kmtls_config_free(struct kmtls_config *config);

#endif
