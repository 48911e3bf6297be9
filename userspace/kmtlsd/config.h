/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - the daemon's configuration file (YAML), documented in kmtlsd.conf(5). Read
 * once at start; what can change at run time lives in maps instead.
 */
#ifndef KMTLS_CONFIG_H
#define KMTLS_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"
#include "kmtls/abi.h"

#define KMTLS_CONFIG_ERROR 512

struct kmtls_config {
	char *node; /* this node's name in logs and status; default: host name */
	char *bpf_dir; /* maps and links are pinned below; /sys/fs/bpf/kmtls */
	char *run_dir; /* remembered pods; /run/kmtls */
	char *control_socket; /* <run_dir>/control.sock */
	char *cgroup; /* of the daemon, made if missing; NULL: the one it was started in */
	enum kmtls_log_level log_level; /* info */
	unsigned workers; /* event loop threads; 0: one per CPU the daemon may run on */
	unsigned max_flows; /* slots of the flow table, 64..1048576; 65536 */
	unsigned handshake_timeout; /* seconds, 1..300; 10 */
	struct {
		unsigned flows_per_pod; /* 0: no limit; half of max_flows */
	} limits;
	enum kmtls_mode mode; /* strict (default) or off; permissive is refused for now */
	struct {
		uint16_t *outbound_ports, *inbound_ports; /* never intercepted, all pods */
		unsigned outbound_ports_count, inbound_ports_count;
	} exclude;
	struct {
		char *trust_domain; /* required */
		struct {
			char *root_file; /* NULL: root in memory only */
			unsigned root_ttl; /* seconds; 10 years */
			unsigned svid_ttl; /* seconds; 24 h */
		} builtin;
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
