/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_config.c - the YAML configuration: any bytes as a file. What is accepted keeps every rule
 * of kmtlsd.conf(5); what is refused has a sentence of one line that names the file.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"
#include "fuzz.h"

static void check_accepted(const struct kmtls_config *config)
{
	HOLDS(config->identity.trust_domain && *config->identity.trust_domain);
	HOLDS(strlen(config->identity.trust_domain) <= 255);
	HOLDS(config->bpf_dir[0] == '/' && config->run_dir[0] == '/');
	HOLDS(config->control_socket[0] == '/' && strlen(config->control_socket) <= 107);
	HOLDS(config->max_flows >= 64 && config->max_flows <= 1048576);
	HOLDS(config->max_udp_peers >= 64 && config->max_udp_peers <= 1048576);
	HOLDS(config->workers <= 256);
	HOLDS(config->peek_timeout_ms >= 10 && config->peek_timeout_ms <= 10000);
	HOLDS(config->handshake_timeout >= 1 && config->handshake_timeout <= 300);
	HOLDS(config->key_limit && config->key_limit <= KMTLS_CONFIG_KEY_LIMIT);
	HOLDS(config->limits.memory_percent <= 100);
	HOLDS(config->accel >= KMTLS_ACCEL_AUTO && config->accel <= KMTLS_ACCEL_ON);
	for (unsigned i = 0; i < config->exclude.outbound_ports_count; i++)
		HOLDS(config->exclude.outbound_ports[i]);
	for (unsigned i = 0; i < config->exclude.inbound_ports_count; i++)
		HOLDS(config->exclude.inbound_ports[i]);
	HOLDS(config->identity.renew_at >= 10 && config->identity.renew_at <= 95);
	HOLDS(config->identity.backends_count <= KMTLS_BACKENDS_MAX);
	HOLDS(config->identity.enabled || config->mode == KMTLS_MODE_OFF);
	for (unsigned i = 0; i < config->identity.backends_count; i++) {
		const struct kmtls_config_backend *backend = &config->identity.backends[i];

		HOLDS(*backend->name && backend->svid_ttl >= 10 && backend->root_ttl >= 10);
		HOLDS((backend->type == KMTLS_BACKEND_PROVIDED) ==
		      (!backend->cert_file != !backend->cert &&
		       !backend->key_file != !backend->key));
		HOLDS((backend->type == KMTLS_BACKEND_FILES) ==
		      (backend->directory && backend->directory[0] == '/' && *backend->svid_name &&
		       *backend->key_name && !strchr(backend->bundle_name, '/')));
		HOLDS((backend->type >= KMTLS_BACKEND_WORKLOAD_API) == (backend->socket != NULL));
		HOLDS(!backend->hint || (backend->socket && *backend->hint));
		HOLDS(!backend->selectors_count ||
		      backend->type == KMTLS_BACKEND_DELEGATED_IDENTITY);
		for (unsigned s = 0; s < backend->selectors_count; s++)
			HOLDS(strchr(backend->selectors[s], ':'));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64], error[KMTLS_CONFIG_ERROR];
	struct kmtls_config *config = NULL;
	int fd = memfd_create("config", MFD_CLOEXEC), err;

	HOLDS(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	memset(error, 'x', sizeof(error));
	err = kmtls_config_load(path, &config, error);
	if (err) {
		HOLDS(err < 0 && !config);
		HOLDS(memchr(error, '\0', sizeof(error)) && !strchr(error, '\n'));
		HOLDS(!strncmp(error, path, strlen(path)));
	} else {
		check_accepted(config);
	}
	kmtls_config_free(config);
	close(fd);
	return 0;
}
