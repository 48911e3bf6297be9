/* SPDX-License-Identifier: Apache-2.0 */
/* test_config.c - good files of kmtlsd.conf(5), with what they must mean. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "config_files.h"

static void test_defaults(void **state)
{
	struct kmtls_config *config = test_config_load(TD);
	char host[256] = "";

	gethostname(host, sizeof(host) - 1);
	assert_string_equal(config->node, host);
	assert_string_equal(config->bpf_dir, "/sys/fs/bpf/kmtls");
	assert_string_equal(config->run_dir, "/run/kmtls");
	assert_string_equal(config->control_socket, "/run/kmtls/control.sock");
	assert_null(config->metrics_listen);
	assert_null(config->cgroup);
	assert_int_equal(config->log_level, KMTLS_LOG_INFO);
	assert_int_equal(config->workers, 0);
	assert_int_equal(config->max_flows, 65536);
	assert_int_equal(config->max_udp_peers, 16384);
	assert_int_equal(config->limits.flows_per_pod, 32768);
	assert_int_equal(config->limits.memory_percent, 90);
	assert_int_equal(config->peer_timeout, 0);
	assert_int_equal(config->resumption, 60 * 60);
	assert_int_equal(config->resumption_symmetric, 0);
	assert_int_equal(config->keepalive.idle, 60);
	assert_int_equal(config->keepalive.interval, 10);
	assert_int_equal(config->keepalive.probes, 6);
	assert_int_equal(config->limits.handshakes, 4096);
	assert_int_equal(config->limits.handshakes_per_source, 256);
	assert_int_equal(config->limits.refusal_lines, 20);
	assert_int_equal(config->handshake_timeout, 10);
	assert_int_equal(config->peek_timeout_ms, 100);
	assert_true(config->rekey && !config->close_at_key_limit && !config->prefer_chacha20);
	assert_int_equal(config->authorization_default, KMTLS_AUTHORIZATION_DEFAULT_UNSET);
	assert_int_equal(config->key_limit, 388736063996ull);
	assert_int_equal(config->accel, KMTLS_ACCEL_AUTO);
	assert_int_equal(config->mode, KMTLS_MODE_OFF); /* nothing is enabled */
	assert_int_equal(config->exclude.outbound_ports_count, 0);
	assert_int_equal(config->exclude.inbound_ports_count, 0);
	assert_string_equal(config->identity.trust_domain, "example.org");
	assert_false(config->identity.keep_expired);
	assert_int_equal(config->identity.crl_files_count, 0);
	assert_int_equal(config->identity.renew_at, 80);
	assert_int_equal(config->identity.backends_count, 0);
	assert_null(config->identity.enabled);
	kmtls_config_free(config);
	config = test_config_load(ON);
	assert_int_equal(config->mode, KMTLS_MODE_UNSET);
	assert_int_equal(config->identity.backends_count, 1);
	assert_ptr_equal(config->identity.enabled, &config->identity.backends[0]);
	assert_string_equal(config->identity.enabled->name, "own");
	assert_int_equal(config->identity.enabled->type, KMTLS_BACKEND_BUILTIN);
	assert_true(config->identity.enabled->trust);
	assert_int_equal(config->identity.enabled->key_type, KMTLS_KEY_EC_P256);
	assert_null(config->identity.enabled->root_file);
	assert_int_equal(config->identity.enabled->root_ttl, 3650 * 86400);
	assert_int_equal(config->identity.enabled->svid_ttl, 86400);
	kmtls_config_free(config);
}

static void check_backends(const struct kmtls_config *config)
{
	const struct kmtls_config_backend *backends = config->identity.backends;

	assert_int_equal(config->identity.renew_at, 95);
	assert_int_equal(config->identity.backends_count, 7);
	assert_ptr_equal(config->identity.enabled, &backends[1]);
	assert_string_equal(backends[0].name, "own");
	assert_false(backends[0].trust);
	assert_int_equal(backends[0].key_type, KMTLS_KEY_RSA_4096);
	assert_string_equal(backends[0].root_file, "/etc/kmtls/root.pem");
	assert_int_equal(backends[0].root_ttl, 36500u * 86400u);
	assert_int_equal(backends[0].svid_ttl, 3650 * 86400);
	assert_int_equal(backends[1].type, KMTLS_BACKEND_PROVIDED);
	assert_int_equal(backends[1].key_type, KMTLS_KEY_EC_P384);
	assert_string_equal(backends[1].cert_file, "/c");
	assert_string_equal(backends[1].key_file, "/k");
	assert_string_equal(backends[1].bundle_file, "/b");
	assert_null(backends[1].cert);
	assert_int_equal(backends[1].svid_ttl, 10);
	assert_string_equal(backends[2].cert, "c1\nc2\n");
	assert_string_equal(backends[2].key, "k");
	assert_string_equal(backends[2].bundle, "b");
	assert_null(backends[2].key_file);
	assert_int_equal(backends[3].type, KMTLS_BACKEND_FILES);
	assert_string_equal(backends[3].directory, "/run/{pod}");
	assert_string_equal(backends[3].svid_name, "svid.pem");
	assert_string_equal(backends[3].key_name, "svid_key.pem");
	assert_string_equal(backends[3].bundle_name, "bundle.pem");
	assert_string_equal(backends[4].svid_name, "tls.crt");
	assert_string_equal(backends[4].key_name, "tls.key");
	assert_string_equal(backends[4].bundle_name, "ca.crt");
	assert_int_equal(backends[5].type, KMTLS_BACKEND_WORKLOAD_API);
	assert_string_equal(backends[5].socket, "unix:///run/api.sock");
	assert_string_equal(backends[5].hint, "mesh");
	assert_int_equal(backends[6].type, KMTLS_BACKEND_DELEGATED_IDENTITY);
	assert_string_equal(backends[6].socket, "/run/admin.sock");
	assert_null(backends[6].hint);
	assert_int_equal(backends[6].selectors_count, 2);
	assert_string_equal(backends[6].selectors[0], "k8s:ns:{namespace}");
	assert_string_equal(backends[6].selectors[1], "x:{pod}-{name}{service_account}");
}

static void test_everything(void **state)
{
	struct kmtls_config *config =
		test_config_load("---\n"
				 "node: node-1.a_b\n"
				 "bpf_dir: /sys/fs/bpf/other\n"
				 "run_dir: /run/other\n"
				 "control_socket: /run/other.sock\n"
				 "cgroup: /sys/fs/cgroup/kmtls\n"
				 "metrics: {listen: '[::1]:9464'}\n"
				 "log_level: debug\n"
				 "workers: 256\n"
				 "rekey: off\n"
				 "authorization_default: deny\n"
				 "key_limit: 362GiB\n"
				 "key_limit_action: close\n"
				 "prefer_chacha20: true\n"
				 "accel: on\n"
				 "max_flows: 1048576\n"
				 "max_udp_peers: 1048575\n"
				 "handshake_timeout: 5m\n"
				 "peek_timeout: 10s\n"
				 "limits:\n"
				 "  flows_per_pod: 1048576\n"
				 "  memory_percent: 100\n"
				 "  handshakes: 1048575\n"
				 "  handshakes_per_source: 1048574\n"
				 "  refusal_lines: 1000000\n"
				 "keepalive: {idle: 9h, interval: 8h, probes: 127}\n"
				 "peer_timeout: 24h\n"
				 "resumption: 59m\n"
				 "resumption_symmetric: true\n"
				 "mode: off\n"
				 "exclude:\n"
				 "  outbound_ports: [22, 65535]\n"
				 "  inbound_ports:\n"
				 "    - 1\n"
				 "identity:\n"
				 "  trust_domain: \"a.b-c_d.9\"\n"
				 "  enabled: pki\n"
				 "  renew_at: 95\n"
				 "  peer_expiry: warn\n"
				 "  crl_files: [/etc/kmtls/a.crl, /etc/kmtls/b.crl]\n"
				 "  backends:\n"
				 "  - name: own\n"
				 "    type: builtin\n"
				 "    trust: false\n"
				 "    key_manager: disk\n"
				 "    key_type: rsa-4096\n"
				 "    root_file: /etc/kmtls/root.pem\n"
				 "    root_ttl: 36500d\n"
				 "    svid_ttl: 3650d\n"
				 "  - name: pki\n"
				 "    type: provided\n"
				 "    key_type: ec-p384\n"
				 "    cert_file_path: /c\n"
				 "    key_file_path: /k\n"
				 "    bundle_file_path: /b\n"
				 "    svid_ttl: 10s\n"
				 "  - name: inline\n"
				 "    type: provided\n"
				 "    cert: |\n"
				 "      c1\n"
				 "      c2\n"
				 "    key: k\n"
				 "    bundle: b\n"
				 "  - name: usual\n"
				 "    type: files\n"
				 "    directory: /run/{pod}\n"
				 "  - name: certs\n"
				 "    type: files\n"
				 "    directory: /certs\n"
				 "    svid_file: tls.crt\n"
				 "    key_file: tls.key\n"
				 "    bundle_file: ca.crt\n"
				 "  - name: api\n"
				 "    type: workload-api\n"
				 "    socket: unix:///run/api.sock\n"
				 "    hint: mesh\n"
				 "  - name: admin\n"
				 "    type: delegated-identity\n"
				 "    socket: /run/admin.sock\n"
				 "    selectors:\n"
				 "    - k8s:ns:{namespace}\n"
				 "    - x:{pod}-{name}{service_account}\n"
				 "...\n");

	assert_string_equal(config->node, "node-1.a_b");
	assert_string_equal(config->bpf_dir, "/sys/fs/bpf/other");
	assert_string_equal(config->run_dir, "/run/other");
	assert_string_equal(config->control_socket, "/run/other.sock");
	assert_string_equal(config->metrics_listen, "[::1]:9464");
	assert_string_equal(config->cgroup, "/sys/fs/cgroup/kmtls");
	assert_int_equal(config->log_level, KMTLS_LOG_DEBUG);
	assert_int_equal(config->workers, 256);
	assert_int_equal(config->max_flows, 1048576);
	assert_int_equal(config->max_udp_peers, 1048575);
	assert_int_equal(config->limits.flows_per_pod, 1048576);
	assert_int_equal(config->limits.memory_percent, 100);
	assert_int_equal(config->peer_timeout, 86400);
	assert_int_equal(config->resumption, 59 * 60);
	assert_int_equal(config->resumption_symmetric, 1);
	assert_int_equal(config->keepalive.idle, 9 * 3600);
	assert_int_equal(config->keepalive.interval, 8 * 3600);
	assert_int_equal(config->keepalive.probes, 127);
	assert_int_equal(config->limits.handshakes, 1048575);
	assert_int_equal(config->limits.handshakes_per_source, 1048574);
	assert_int_equal(config->limits.refusal_lines, 1000000);
	assert_int_equal(config->handshake_timeout, 300);
	assert_int_equal(config->peek_timeout_ms, 10000);
	assert_true(!config->rekey && config->close_at_key_limit && config->prefer_chacha20);
	assert_int_equal(config->authorization_default, KMTLS_AUTHORIZATION_DEFAULT_DENY);
	assert_int_equal(config->key_limit, 362ull << 30);
	assert_int_equal(config->accel, KMTLS_ACCEL_ON);
	assert_int_equal(config->mode, KMTLS_MODE_OFF);
	assert_int_equal(config->exclude.outbound_ports_count, 2);
	assert_int_equal(config->exclude.outbound_ports[0], 22);
	assert_int_equal(config->exclude.outbound_ports[1], 65535);
	assert_int_equal(config->exclude.inbound_ports_count, 1);
	assert_int_equal(config->exclude.inbound_ports[0], 1);
	assert_string_equal(config->identity.trust_domain, "a.b-c_d.9");
	assert_true(config->identity.keep_expired);
	assert_int_equal(config->identity.crl_files_count, 2);
	assert_string_equal(config->identity.crl_files[0], "/etc/kmtls/a.crl");
	assert_string_equal(config->identity.crl_files[1], "/etc/kmtls/b.crl");
	check_backends(config);
	kmtls_config_free(config);
}

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} sizes[] = { { "1MiB", 1048576 },
		      { "1048576", 1048576 },
		      { "1024KiB", 1048576 },
		      { "'3GiB'", 3ull << 30 },
		      { "388736063996", 388736063996 } };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct kmtls_config *config;
		char text[128];

		snprintf(text, sizeof(text), "key_limit: %s\n" TD, sizes[i].text);
		config = test_config_load(text);
		assert_int_equal(config->key_limit, sizes[i].bytes);
		kmtls_config_free(config);
	}
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		unsigned seconds;
	} durations[] = { { "10", 10 },	    { "11s", 11 },   { "\"12\"", 12 },	 { "2m", 120 },
			  { "24h", 86400 }, { "1d", 86400 }, { "'3d'", 259200 }, { "1h", 3600 } };
	char text[128];

	for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
		struct kmtls_config *config;

		snprintf(text, sizeof(text), BUILTIN("svid_ttl: %s"), durations[i].text);
		config = test_config_load(text);
		assert_int_equal(config->identity.backends[0].svid_ttl, durations[i].seconds);
		kmtls_config_free(config);
	}
}

static void test_limits_taken(void **state)
{
	struct kmtls_config *config;

	config = test_config_load(
		"{workers: 0, max_flows: 64, handshake_timeout: 1s, peek_timeout: 10ms, mode: "
		"permissive,\n"
		" limits: {flows_per_pod: 0},\n"
		" exclude: {outbound_ports: [], inbound_ports: []},\n"
		" control_socket: /" A64 A16 A16 "bbbbbbbbbb,\n"
		" identity: {trust_domain: a, enabled: b, renew_at: 10, backends: [{name: b,\n"
		" type: builtin, root_ttl: 10s, svid_ttl: 10s}]}}\n");
	assert_int_equal(config->max_flows, 64);
	assert_int_equal(config->limits.flows_per_pod, 0);
	assert_int_equal(config->handshake_timeout, 1);
	assert_int_equal(config->peek_timeout_ms, 10);
	assert_int_equal(strlen(config->control_socket), 107);
	assert_int_equal(config->exclude.outbound_ports_count, 0);
	assert_int_equal(config->identity.backends[0].root_ttl, 10);
	assert_int_equal(config->identity.renew_at, 10);
	kmtls_config_free(config);
	config = test_config_load(TD "run_dir: /srv\nlog_level: error\n");
	assert_string_equal(config->control_socket, "/srv/control.sock");
	assert_int_equal(config->log_level, KMTLS_LOG_ERROR);
	kmtls_config_free(config);
}

static void test_file(void **state)
{
	static char large[1024 * 1024 + 2];
	struct kmtls_config *config = NULL;
	char error[KMTLS_CONFIG_ERROR], expected[KMTLS_CONFIG_ERROR];

	assert_int_equal(kmtls_config_load("/nonexistent/c.yaml", &config, error), -ENOENT);
	assert_string_equal(error, "/nonexistent/c.yaml: No such file or directory");
	assert_int_equal(kmtls_config_load("/", &config, error), -EINVAL);
	assert_string_equal(error, "/: must be a regular file");
	/* Exactly 1 MiB is taken, one byte more is not. */
	memset(large, '#', sizeof(large));
	memcpy(large, TD, strlen(TD));
	test_config_put(large, 1024 * 1024);
	assert_int_equal(kmtls_config_load(test_config_path, &config, error), 0);
	kmtls_config_free(config);
	test_config_put(large, 1024 * 1024 + 1);
	snprintf(expected, sizeof(expected), "%s: must be at most 1 MiB", test_config_path);
	assert_int_equal(kmtls_config_load(test_config_path, &config, error), -EINVAL);
	assert_string_equal(error, expected);
}

static void test_fifo(void **state)
{
	struct kmtls_config *config = NULL;
	char error[KMTLS_CONFIG_ERROR], fifo[80];

	snprintf(fifo, sizeof(fifo), "%s.fifo", test_config_path);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(kmtls_config_load(fifo, &config, error), -EINVAL); /* does not hang */
	assert_non_null(strstr(error, ".fifo: must be a regular file"));
	unlink(fifo);
}

static void test_many(void **state)
{
	struct kmtls_config *config = NULL;
	char error[KMTLS_CONFIG_ERROR];
	FILE *file = fopen(test_config_path, "w");

	assert_non_null(file);
	fputs(TD "exclude:\n  inbound_ports:\n", file);
	for (unsigned i = 1; i <= 65535; i++)
		fprintf(file, "    - %u\n", i);
	fclose(file);
	assert_int_equal(kmtls_config_load(test_config_path, &config, error), 0);
	assert_int_equal(config->exclude.inbound_ports_count, 65535);
	assert_int_equal(config->exclude.inbound_ports[65534], 65535);
	kmtls_config_free(config);
	file = fopen(test_config_path, "w");
	assert_non_null(file);
	for (unsigned i = 0; i < 100000; i++)
		fprintf(file, "k%u: 1\n", i);
	fclose(file);
	assert_int_equal(kmtls_config_load(test_config_path, &config, error), -EINVAL);
	assert_non_null(strstr(error, ":257: k256: more than 256 keys in one file"));
}

static void test_free_null(void **state)
{
	kmtls_config_free(NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),     cmocka_unit_test(test_everything),
		cmocka_unit_test(test_sizes),	     cmocka_unit_test(test_durations),
		cmocka_unit_test(test_limits_taken), cmocka_unit_test(test_file),
		cmocka_unit_test(test_fifo),	     cmocka_unit_test(test_many),
		cmocka_unit_test(test_free_null),
	};
	int failed;

	if (test_config_begin() < 0)
		return 1;
	failed = cmocka_run_group_tests_name("config", tests, NULL, NULL);
	unlink(test_config_path);
	return failed;
}
