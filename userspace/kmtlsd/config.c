/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - reads the configuration file in three steps: an index of it (config_yaml.c,
 * which also refuses what is not plain YAML), libcyaml against a schema (config_schema.c),
 * and the checks a schema cannot express (config_check.c). Whatever fails becomes one line
 * FILE:LINE: KEY: RULE.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "config.h"
#include "config_parts.h"

#define FILE_MAX (1024 * 1024)

static char *or_default(char **text, const char *value)
{
	return *text ? kmtls_take_pointer(*text) : strdup(value);
}

static char *host_name(void)
{
	char name[254] = "";

	if (gethostname(name, sizeof(name) - 1) || !*name)
		return strdup("localhost");
	return strdup(name);
}

static int take_texts(struct kmtls_config_load *load, struct kmtls_config *config)
{
	struct kmtls_config_file *file = load->file;

	config->node = file->node ? kmtls_take_pointer(file->node) : host_name();
	config->bpf_dir = or_default(&file->bpf_dir, "/sys/fs/bpf/kmtls");
	config->run_dir = or_default(&file->run_dir, "/run/kmtls");
	config->control_socket = kmtls_take_pointer(file->control_socket);
	if (config->run_dir && !config->control_socket &&
	    asprintf(&config->control_socket, "%s/control.sock", config->run_dir) < 0)
		config->control_socket = NULL;
	config->cgroup = kmtls_take_pointer(file->cgroup);
	if (!config->node || !config->bpf_dir || !config->run_dir || !config->control_socket)
		return -ENOMEM;
	if (strlen(config->control_socket) > KMTLS_CONFIG_SOCKET_MAX)
		return kmtls_config_refuse_item(
			load, "run_dir", -1,
			"too long for control_socket below it, which is not set");
	config->metrics_listen = kmtls_take_pointer(file->metrics.listen);
	if (config->metrics_listen && !strcmp(config->metrics_listen, config->control_socket))
		return kmtls_config_refuse_item(load, "metrics.listen", -1,
						"is the control socket");
	return 0;
}

static int make_config(struct kmtls_config_load *load, struct kmtls_config *config)
{
	struct kmtls_config_file *file = load->file;
	int err;

	config->log_level =
		file->log_level ? (enum kmtls_log_level)file->log_level : KMTLS_LOG_INFO;
	config->mode = (enum kmtls_mode)file->mode;
	config->authorization_default = file->authorization_default;
	config->accel = file->accel ? (enum kmtls_accel)file->accel : KMTLS_ACCEL_AUTO;
	config->max_flows = 65536;
	config->max_udp_peers = 16384;
	config->handshake_timeout = 10;
	config->peek_timeout_ms = 100;
	config->resumption = KMTLS_CONFIG_HOUR;
	config->key_limit = KMTLS_CONFIG_KEY_LIMIT;
	config->identity.renew_at = 80;
	config->limits.flows_per_pod = UINT_MAX; /* not said */
	config->limits.handshakes = 4096;
	config->limits.handshakes_per_source = 256;
	config->limits.refusal_lines = 20;
	config->limits.memory_percent = 90;
	config->keepalive.idle = 60;
	config->keepalive.interval = 10;
	config->keepalive.probes = 6;
	err = kmtls_config_check(load, config);
	if (config->limits.flows_per_pod == UINT_MAX)
		config->limits.flows_per_pod = config->max_flows / 2;
	if (!err)
		err = take_texts(load, config);
	if (err)
		return err;
	config->exclude.outbound_ports = kmtls_take_pointer(file->exclude.outbound_ports);
	config->exclude.outbound_ports_count = file->exclude.outbound_ports_count;
	config->exclude.inbound_ports = kmtls_take_pointer(file->exclude.inbound_ports);
	config->exclude.inbound_ports_count = file->exclude.inbound_ports_count;
	/* libcyaml frees lists by their counts. */
	file->exclude.outbound_ports_count = file->exclude.inbound_ports_count = 0;
	return 0;
}

/* The whole file. O_NONBLOCK so that a FIFO by that name does not hang the start. */
static int read_file(struct kmtls_config_load *load, char **ret_bytes, size_t *ret_length)
{
	__cleanup_fd int fd = open(load->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	__cleanup_free char *bytes = NULL;
	struct stat status;
	size_t length = 0;
	ssize_t got;

	if (fd < 0 || fstat(fd, &status))
		return -errno;
	if (!S_ISREG(status.st_mode))
		return kmtls_config_say(load, 0, "", "must be a regular file");
	bytes = malloc(FILE_MAX + 1);
	if (!bytes)
		return -ENOMEM;
	do {
		got = read(fd, bytes + length, FILE_MAX + 1 - length);
		if (got < 0)
			return -errno;
		length += (size_t)got;
	} while (got && length <= FILE_MAX);
	if (length > FILE_MAX)
		return kmtls_config_say(load, 0, "", "must be at most 1 MiB");
	*ret_bytes = kmtls_take_pointer(bytes);
	*ret_length = length;
	return 0;
}

static int load_bytes(struct kmtls_config_load *load, const char *bytes, size_t length,
		      struct kmtls_config *config)
{
	struct kmtls_yaml_error error;
	int err;

	err = kmtls_yaml_index(bytes, length, &load->yaml, &error);
	if (err == -EINVAL)
		return kmtls_config_say(load, error.line, error.key, error.rule);
	if (err)
		return err;
	err = kmtls_config_schema_load(load, bytes, length);
	if (!err)
		err = make_config(load, config);
	kmtls_config_schema_free(load);
	kmtls_yaml_free(&load->yaml);
	return err;
}

int kmtls_config_load(const char *path, struct kmtls_config **ret_config, char *ret_error)
{
	struct kmtls_config_load load = { .path = path, .error = ret_error };
	struct kmtls_config *config = NULL;
	__cleanup_free char *bytes = NULL;
	size_t length = 0;
	int err;

	*ret_error = '\0';
	err = read_file(&load, &bytes, &length);
	if (!err) {
		config = calloc(1, sizeof(*config));
		err = config ? load_bytes(&load, bytes, length, config) : -ENOMEM;
	}
	if (bytes) /* there may be a key in it */
		explicit_bzero(bytes, length);
	if (err) {
		kmtls_config_free(config);
		if (!*ret_error)
			snprintf(ret_error, KMTLS_CONFIG_ERROR, "%s: %s", path, strerror(-err));
		return err;
	}
	*ret_config = config;
	return 0;
}

void kmtls_config_free(struct kmtls_config *config)
{
	if (!config)
		return;
	free(config->node);
	free(config->bpf_dir);
	free(config->run_dir);
	free(config->control_socket);
	free(config->metrics_listen);
	free(config->cgroup);
	free(config->exclude.outbound_ports);
	free(config->exclude.inbound_ports);
	kmtls_config_identity_free(config);
	free(config);
}
