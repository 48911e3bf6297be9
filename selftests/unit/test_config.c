/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config.c - every rule of kmtlsd.conf(5) broken once, with the exact line, key and
 * sentence that must come of it, and good files with what they must mean.
 */
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

#include "config.h"
#include "config_yaml.h"

#define TD "identity:\n  trust_domain: example.org\n"
/* The same with a backend that is enabled, for files with a mode. */
#define ON                                                                                  \
	"identity: {trust_domain: example.org, enabled: own, backends: [{name: own, type: " \
	"builtin}]}\n"
#define LISTEN                                                                    \
	"must be ADDRESS:PORT, [IPV6-ADDRESS]:PORT, or an absolute path without " \
	"'..', of at most 107 bytes"
#define PATH "must be an absolute path without '..', of at most 1024 bytes"
#define PORTS "must be a list of ports, each from 1 to 65535"
#define NODE "must be 1 to 253 letters, digits, dots, hyphens or underscores"
#define FLOWS "must be a number from 64 to 1048576"
#define WORKERS "must be a number from 0 to 256"
#define TIMEOUT "must be between 1s and 5m"
#define PEEK "must be between 10ms and 10s"
#define SVID "must be between 10s and 3650d"
#define ROOT "must be between 10s and 36500d"
#define LIMIT "must be between 1MiB and 388736063996 bytes (RFC 8446)"
#define DOMAIN "must be 1 to 255 lower-case letters, digits, dots, hyphens or underscores"
#define CRLS \
	"must be a list of at most 64 paths, each absolute, without '..', of at most 1024 bytes"
#define BACKENDS "must be a list of at most 8 mappings"
#define BACKEND "must be 1 to 63 letters, digits, dots, hyphens or underscores"
#define TYPES "must be ec-p256, ec-p384, rsa-2048, rsa-3072 or rsa-4096"
#define RENEW "must be a number from 10 to 95"
#define NEEDS "needs identity.enabled, which names no backend: mutual TLS is off"
#define A16 "aaaaaaaaaaaaaaaa"
#define A64 A16 A16 A16 A16
#define A256 A64 A64 A64 A64
#define BUILTIN(text) TD "  backends:\n  - name: own\n    type: builtin\n    " text "\n"
#define PROVIDED(text) TD "  backends:\n  - name: pki\n    type: provided\n" text
#define FILES(text) TD "  backends:\n  - name: pki\n    type: files\n" text
#define DIRECTORY "    directory: /d\n"
#define AGENT(text) TD "  backends:\n  - name: spire\n    type: workload-api\n" text
#define DELEGATED(text)                                                   \
	TD "  backends:\n  - name: spire\n    type: delegated-identity\n" \
	   "    socket: /s\n" text
#define SOCKET "must be an absolute path of at most 107 bytes, or unix:// and such a path"
#define SELECTORS "must be a list of 1 to 32 selectors, each TYPE:VALUE of at most 1024 bytes"
#define S8 "'a:1','a:2','a:3','a:4','a:5','a:6','a:7','a:8',"
#define FILE_NAME "must be a file name of 1 to 255 bytes, without a slash"
#define CERT "    cert_file_path: /c\n"
#define KEY "    key_file_path: /k\n"

struct bad {
	const char *name, *text, *error; /* error: after the file's path */
};

static const struct bad bad_files[] = {
	/* Shape. */
	{ "empty", "", ": identity.trust_domain: is required" },
	{ "comment only", "# nothing\n", ": identity.trust_domain: is required" },
	{ "list at the top", "- a\n", ":1: must be a mapping of keys" },
	{ "scalar at the top", "\n\nabc\n", ":3: must be a mapping of keys" },
	{ "unknown key", TD "colour: red\n", ":3: colour: unknown key" },
	{ "unknown key below", TD "  renew_at: 80\n  spire: x\n",
	  ":4: identity.spire: unknown key" },
	{ "unknown key two below", BUILTIN("keys: x"),
	  ":6: identity.backends[0].keys: unknown key" },
	{ "unknown key before all", "a: 1\n" TD, ":1: a: unknown key" },
	{ "wrong case", TD "Node: a\n", ":3: Node: unknown key" },
	{ "key with a dot", TD "identity.enabled: own\n", ":3: unknown key" },
	{ "long key", TD A64 "b: 1\n", ":3: unknown key" },
	{ "key that is a list", TD "? [a]\n: b\n", ":3: a key must be a word" },
	{ "merge key", TD "<<: {node: a}\n", ":3: unknown key" },
	{ "duplicate key", "node: a\n" TD "node: b\n", ":4: node: must be there only once" },
	{ "duplicate key below", TD "  trust_domain: b\n",
	  ":3: identity.trust_domain: must be there only once" },
	{ "duplicate mapping", TD "identity:\n  enabled: own\n",
	  ":3: identity: must be there only once" },
	{ "two documents", TD "---\nnode: a\n", ":3: one document only is allowed" },
	{ "anchor", TD "node: &n a\n", ":3: node: anchors, aliases and tags are not allowed" },
	{ "alias", TD "node: *n\n", ":3: node: anchors, aliases and tags are not allowed" },
	{ "tag", TD "workers: !!int 3\n",
	  ":3: workers: anchors, aliases and tags are not allowed" },
	{ "zero byte", TD "node: \"a\\0b\"\n", ":3: node: must not hold a zero byte" },
	{ "deep nesting", TD "exclude: [[[[[[[[[1]]]]]]]]]\n",
	  ":3: exclude: nested deeper than 8" },
	/* Syntax. */
	{ "not closed", TD "node: [a\n", ":4: not YAML: did not find expected ',' or ']'" },
	{ "tab", TD "\tnode: a\n",
	  ":3: not YAML: found a tab character that violates indentation" },
	{ "indentation", TD " node: a\n", ":3: not YAML: did not find expected key" },
	{ "not UTF-8", TD "node: a\n# \xff\n", ":4: not YAML: invalid leading UTF-8 octet" },
	{ "control byte", TD "# \x01\n", ":3: not YAML: control characters are not allowed" },
	/* node */
	{ "node empty", TD "node: \"\"\n", ":3: node: " NODE },
	{ "node null", TD "node:\n", ":3: node: " NODE },
	{ "node blank", TD "node: a b\n", ":3: node: " NODE },
	{ "node newline", TD "node: \"a\\nb\"\n", ":3: node: " NODE },
	{ "node long", TD "node: " A256 "\n", ":3: node: " NODE },
	{ "node a list", TD "node: [a]\n", ":3: node: " NODE },
	{ "node a mapping", TD "node:\n  a: b\n", ":3: node: " NODE },
	/* paths */
	{ "bpf_dir relative", TD "bpf_dir: sys/fs\n", ":3: bpf_dir: " PATH },
	{ "bpf_dir empty", TD "bpf_dir: ''\n", ":3: bpf_dir: " PATH },
	{ "bpf_dir dots", TD "bpf_dir: /sys/../etc\n", ":3: bpf_dir: " PATH },
	{ "bpf_dir dots last", TD "bpf_dir: /sys/..\n", ":3: bpf_dir: " PATH },
	{ "run_dir control byte", TD "run_dir: \"/run\\tx\"\n", ":3: run_dir: " PATH },
	{ "run_dir long", TD "run_dir: /" A256 A256 A256 A256 "\n", ":3: run_dir: " PATH },
	{ "run_dir too long for the socket", TD "\n\nrun_dir: /" A64 A16 A16 "\n",
	  ":5: run_dir: too long for control_socket below it, which is not set" },
	{ "control_socket relative", TD "control_socket: a.sock\n",
	  ":3: control_socket: must be an absolute path without '..', of at most 107 bytes" },
	{ "control_socket long", TD "control_socket: /" A64 A16 A16 "bbbbbbbbbbb\n",
	  ":3: control_socket: must be an absolute path without '..', of at most 107 bytes" },
	{ "metrics empty", TD "metrics: {}\n", ":3: metrics: has no key `listen`" },
	{ "metrics null", TD "metrics:\n", ":3: metrics: must be a mapping" },
	{ "metrics a word", TD "metrics: on\n", ":3: metrics: must be a mapping" },
	{ "metrics other", TD "metrics:\n  port: 1\n", ":4: metrics.port: unknown key" },
	{ "metrics port alone", TD "metrics:\n  listen: 9464\n", ":4: metrics.listen: " LISTEN },
	{ "metrics no address", TD "metrics:\n  listen: ':9464'\n", ":4: metrics.listen: " LISTEN },
	{ "metrics name", TD "metrics:\n  listen: localhost:9464\n",
	  ":4: metrics.listen: " LISTEN },
	{ "metrics port 0", TD "metrics:\n  listen: 127.0.0.1:0\n", ":4: metrics.listen: " LISTEN },
	{ "metrics empty text", TD "metrics: {listen: ''}\n", ":3: metrics.listen: " LISTEN },
	{ "metrics dots", TD "metrics: {listen: /run/../m.sock}\n", ":3: metrics.listen: " LISTEN },
	{ "metrics a list", TD "metrics: {listen: [/a, /b]}\n", ":3: metrics.listen: " LISTEN },
	{ "metrics the control socket", TD "metrics: {listen: /run/kmtls/control.sock}\n",
	  ":3: metrics.listen: is the control socket" },
	{ "cgroup relative", TD "cgroup: kmtls\n", ":3: cgroup: " PATH },
	{ "cgroup tilde", TD "cgroup: ~\n", ":3: cgroup: " PATH },
	/* words */
	{ "log_level", TD "log_level: loud\n",
	  ":3: log_level: must be error, warning, info or debug" },
	{ "log_level a number", TD "log_level: 7\n",
	  ":3: log_level: must be error, warning, info or debug" },
	{ "mode", TD "mode: on\n", ":3: mode: must be off, permissive or strict" },
	{ "mode a number", TD "mode: 3\n", ":3: mode: must be off, permissive or strict" },
	{ "peer_expiry", TD "  peer_expiry: keep\n",
	  ":3: identity.peer_expiry: must be close or warn" },
	{ "crl_files a word", TD "  crl_files: /etc/a.crl\n", ":3: identity.crl_files: " CRLS },
	{ "crl_files relative", TD "  crl_files: [/etc/a.crl, b.crl]\n",
	  ":3: identity.crl_files: " CRLS },
	{ "crl_files climbs", TD "  crl_files:\n    - /etc/../a.crl\n",
	  ":4: identity.crl_files: " CRLS },
	{ "crl_files twice", TD "  crl_files:\n    - /etc/a.crl\n    - /etc/a.crl\n",
	  ":5: identity.crl_files: the path is listed twice" },
	{ "source of old", TD "  source: builtin\n", ":3: identity.source: unknown key" },
	/* numbers */
	{ "workers many", TD "workers: 257\n", ":3: workers: " WORKERS },
	{ "workers negative", TD "workers: -1\n", ":3: workers: " WORKERS },
	{ "workers wrapped", TD "workers: -18446744073709551615\n", ":3: workers: " WORKERS },
	{ "workers hex", TD "workers: 0x10\n", ":3: workers: " WORKERS },
	{ "workers octal", TD "workers: 010\n", ":3: workers: " WORKERS },
	{ "workers quoted", TD "workers: \"4\"\n", ":3: workers: " WORKERS },
	{ "workers a word", TD "workers: many\n", ":3: workers: " WORKERS },
	{ "workers empty", TD "workers:\n", ":3: workers: " WORKERS },
	{ "workers a fraction", TD "workers: 1.5\n", ":3: workers: " WORKERS },
	{ "workers a list", TD "workers: [1]\n", ":3: workers: " WORKERS },
	{ "limits list", TD "limits: []\n", ":3: limits: must be a mapping" },
	{ "limits unknown", TD "limits: {flows: 1}\n", ":3: limits.flows: unknown key" },
	{ "flows_per_pod many", TD "limits:\n  flows_per_pod: 1048577\n",
	  ":4: limits.flows_per_pod: must be a number from 0 to 1048576" },
	{ "flows_per_pod text", TD "limits: {flows_per_pod: half}\n",
	  ":3: limits.flows_per_pod: must be a number from 0 to 1048576" },
	{ "handshakes many", TD "limits:\n  handshakes: 1048577\n",
	  ":4: limits.handshakes: must be a number from 0 to 1048576" },
	{ "handshakes_per_source negative", TD "limits: {handshakes_per_source: -1}\n",
	  ":3: limits.handshakes_per_source: must be a number from 0 to 1048576" },
	{ "refusal_lines many", TD "limits: {refusal_lines: 1000001}\n",
	  ":3: limits.refusal_lines: must be a number from 0 to 1000000" },
	{ "memory_percent many", TD "limits: {memory_percent: 101}\n",
	  ":3: limits.memory_percent: must be a number from 0 to 100" },
	{ "peer_timeout long", TD "peer_timeout: 25h\n",
	  ":3: peer_timeout: must be 0 or between 1s and 24h" },
	{ "resumption long", TD "resumption: 61m\n",
	  ":3: resumption: must be 0 or between 1s and 1h" },
	{ "resumption word", TD "resumption: off\n",
	  ":3: resumption: must be 0 or between 1s and 1h" },
	{ "keepalive number", TD "keepalive: 60\n", ":3: keepalive: must be a mapping" },
	{ "keepalive.idle long", TD "keepalive: {idle: 10h}\n",
	  ":3: keepalive.idle: must be 0 or between 1s and 9h" },
	{ "keepalive.interval zero", TD "keepalive: {interval: 0}\n",
	  ":3: keepalive.interval: must be between 1s and 9h" },
	{ "keepalive.probes zero", TD "keepalive: {probes: 0}\n",
	  ":3: keepalive.probes: must be a number from 1 to 127" },
	{ "authorization_default", TD "authorization_default: allow-all\n",
	  ":3: authorization_default: must be allow or deny" },
	{ "rekey", TD "rekey: on\n", ":3: rekey: must be auto or off" },
	{ "key_limit small", TD "key_limit: 1048575\n", ":3: key_limit: " LIMIT },
	{ "key_limit beyond the RFC's", TD "key_limit: 388736063997\n", ":3: key_limit: " LIMIT },
	{ "key_limit large", TD "key_limit: 363GiB\n", ":3: key_limit: " LIMIT },
	{ "key_limit wrapped", TD "key_limit: 17179869185GiB\n", ":3: key_limit: " LIMIT },
	{ "key_limit unit", TD "key_limit: 64MB\n", ":3: key_limit: " LIMIT },
	{ "key_limit blank", TD "key_limit: 64 MiB\n", ":3: key_limit: " LIMIT },
	{ "key_limit octal", TD "key_limit: 064MiB\n", ":3: key_limit: " LIMIT },
	{ "key_limit negative", TD "key_limit: -64MiB\n", ":3: key_limit: " LIMIT },
	{ "key_limit empty", TD "key_limit:\n", ":3: key_limit: " LIMIT },
	{ "key_limit_action", TD "key_limit_action: reset\n",
	  ":3: key_limit_action: must be warn or close" },
	{ "prefer_chacha20", TD "prefer_chacha20: 1\n",
	  ":3: prefer_chacha20: must be true or false" },
	{ "max_flows few", TD "max_flows: 63\n", ":3: max_flows: " FLOWS },
	{ "max_flows zero", TD "max_flows: 0\n", ":3: max_flows: " FLOWS },
	{ "max_flows many", TD "max_flows: 1048577\n", ":3: max_flows: " FLOWS },
	{ "max_udp_peers few", TD "max_udp_peers: 63\n", ":3: max_udp_peers: " FLOWS },
	{ "max_udp_peers many", TD "max_udp_peers: 1048577\n", ":3: max_udp_peers: " FLOWS },
	{ "max_flows beyond 32 bits", TD "max_flows: 4294967360\n", ":3: max_flows: " FLOWS },
	/* durations */
	{ "peek_timeout zero", TD "peek_timeout: 0\n", ":3: peek_timeout: " PEEK },
	{ "peek_timeout short", TD "peek_timeout: 9ms\n", ":3: peek_timeout: " PEEK },
	{ "peek_timeout long", TD "peek_timeout: 10001ms\n", ":3: peek_timeout: " PEEK },
	{ "peek_timeout longer", TD "peek_timeout: 11s\n", ":3: peek_timeout: " PEEK },
	{ "peek_timeout wraps", TD "peek_timeout: 4294968s\n", ":3: peek_timeout: " PEEK },
	{ "peek_timeout zero first", TD "peek_timeout: 0100ms\n", ":3: peek_timeout: " PEEK },
	{ "peek_timeout unit", TD "peek_timeout: 100us\n", ":3: peek_timeout: " PEEK },
	{ "peek_timeout unit alone", TD "peek_timeout: ms\n", ":3: peek_timeout: " PEEK },
	{ "handshake_timeout zero", TD "handshake_timeout: 0\n",
	  ":3: handshake_timeout: " TIMEOUT },
	{ "handshake_timeout long", TD "handshake_timeout: 301s\n",
	  ":3: handshake_timeout: " TIMEOUT },
	{ "handshake_timeout unit", TD "handshake_timeout: 10ms\n",
	  ":3: handshake_timeout: " TIMEOUT },
	{ "handshake_timeout fraction", TD "handshake_timeout: 1.5s\n",
	  ":3: handshake_timeout: " TIMEOUT },
	{ "handshake_timeout blank", TD "handshake_timeout: 10 s\n",
	  ":3: handshake_timeout: " TIMEOUT },
	{ "handshake_timeout sign", TD "handshake_timeout: +10s\n",
	  ":3: handshake_timeout: " TIMEOUT },
	{ "handshake_timeout unit alone", TD "handshake_timeout: s\n",
	  ":3: handshake_timeout: " TIMEOUT },
	{ "handshake_timeout empty", TD "handshake_timeout:\n", ":3: handshake_timeout: " TIMEOUT },
	{ "svid_ttl short", BUILTIN("svid_ttl: 9s"), ":6: identity.backends[0].svid_ttl: " SVID },
	{ "svid_ttl long", BUILTIN("svid_ttl: 3651d"), ":6: identity.backends[0].svid_ttl: " SVID },
	{ "svid_ttl leading zero", BUILTIN("svid_ttl: 010s"),
	  ":6: identity.backends[0].svid_ttl: " SVID },
	{ "root_ttl long", BUILTIN("root_ttl: 36501d"),
	  ":6: identity.backends[0].root_ttl: " ROOT },
	{ "root_ttl overflow", BUILTIN("root_ttl: 9999999999d"),
	  ":6: identity.backends[0].root_ttl: " ROOT },
	{ "root_ttl digits", BUILTIN("root_ttl: 99999999999"),
	  ":6: identity.backends[0].root_ttl: " ROOT },
	{ "svid_ttl beyond root_ttl", BUILTIN("svid_ttl: 2h\n    root_ttl: 1h"),
	  ":6: identity.backends[0].svid_ttl: must not be longer than root_ttl" },
	{ "root_ttl below the default svid_ttl", BUILTIN("root_ttl: 1h"),
	  ":6: identity.backends[0].root_ttl: must not be shorter than svid_ttl (default 24h)" },
	/* identity */
	{ "trust_domain missing", "node: a\n\nidentity:\n  enabled: own\n",
	  ":3: identity.trust_domain: is required" },
	{ "trust_domain empty", "identity:\n  trust_domain: ''\n",
	  ":2: identity.trust_domain: " DOMAIN },
	{ "trust_domain upper case", "identity:\n  trust_domain: Example.org\n",
	  ":2: identity.trust_domain: " DOMAIN },
	{ "trust_domain with a scheme", "identity:\n  trust_domain: spiffe://a\n",
	  ":2: identity.trust_domain: " DOMAIN },
	{ "trust_domain long", "identity:\n  trust_domain: " A256 "\n",
	  ":2: identity.trust_domain: " DOMAIN },
	{ "identity empty", "identity:\n", ":1: identity: must be a mapping" },
	{ "identity a list", "identity: [a]\n", ":1: identity: must be a mapping" },
	{ "builtin of old", TD "  builtin: {root_ttl: 1h}\n", ":3: identity.builtin: unknown key" },
	{ "root_file relative", BUILTIN("root_file: root.pem"),
	  ":6: identity.backends[0].root_file: " PATH },
	/* backends */
	{ "backends a scalar", TD "  backends: own\n", ":3: identity.backends: " BACKENDS },
	{ "backends a mapping", TD "  backends: {name: own}\n",
	  ":3: identity.backends: " BACKENDS },
	{ "backend a scalar", TD "  backends:\n  - own\n", ":4: identity.backends: " BACKENDS },
	{ "backends nine", TD "  backends: [{}, {}, {}, {}, {}, {}, {}, {}, {}]\n",
	  ":3: identity.backends: " BACKENDS },
	{ "backend without a name", TD "  backends:\n  - type: builtin\n",
	  ":4: identity.backends[0].name: is required" },
	{ "backend without a type", TD "  backends:\n  - name: own\n",
	  ":4: identity.backends[0].type: is required" },
	{ "backend's name empty", TD "  backends:\n  - name: ''\n    type: builtin\n",
	  ":4: identity.backends[0].name: " BACKEND },
	{ "backend's name with a blank", TD "  backends:\n  - name: a b\n    type: builtin\n",
	  ":4: identity.backends[0].name: " BACKEND },
	{ "backend's name long", TD "  backends:\n  - name: " A64 "\n    type: builtin\n",
	  ":4: identity.backends[0].name: " BACKEND },
	{ "backend's name a list", TD "  backends:\n  - type: builtin\n    name: [a]\n",
	  ":5: identity.backends[0].name: " BACKEND },
	{ "backend's name twice in one", BUILTIN("name: own"),
	  ":6: identity.backends[0].name: must be there only once" },
	{ "backends of one name", BUILTIN("svid_ttl: 1h\n  - type: builtin\n    name: own"),
	  ":8: identity.backends[1].name: is that of another backend" },
	{ "backend's type", TD "  backends:\n  - name: own\n    type: vault\n",
	  ":5: identity.backends[0].type: must be builtin, provided, files, workload-api or "
	  "delegated-identity" },
	{ "backend's unknown key", BUILTIN("colour: red"),
	  ":6: identity.backends[0].colour: unknown key" },
	{ "second backend's unknown key", BUILTIN("svid_ttl: 1h\n  - name: b\n    colour: red"),
	  ":8: identity.backends[1].colour: unknown key" },
	{ "key_type", BUILTIN("key_type: rsa-1024"), ":6: identity.backends[0].key_type: " TYPES },
	{ "trust", BUILTIN("trust: no"), ":6: identity.backends[0].trust: must be true or false" },
	{ "key_manager", BUILTIN("key_manager: tpm"),
	  ":6: identity.backends[0].key_manager: must be disk or memory" },
	{ "key_manager disk without a file", BUILTIN("key_manager: disk"),
	  ":4: identity.backends[0].root_file: is required where key_manager is disk" },
	{ "key_manager memory with a file", BUILTIN("key_manager: memory\n    root_file: /r"),
	  ":7: identity.backends[0].root_file: there is none where key_manager is memory" },
	{ "provided's key in builtin", BUILTIN("cert_file_path: /c"),
	  ":6: identity.backends[0].cert_file_path: type builtin has no such key" },
	{ "inline key in builtin", BUILTIN("key: k"),
	  ":6: identity.backends[0].key: type builtin has no such key" },
	{ "builtin's key in provided", PROVIDED("    root_ttl: 1h\n"),
	  ":6: identity.backends[0].root_ttl: type provided has no such key" },
	{ "root_file in provided", PROVIDED(CERT KEY "    root_file: /r\n"),
	  ":8: identity.backends[0].root_file: type provided has no such key" },
	{ "key_manager in provided", PROVIDED(CERT KEY "    key_manager: disk\n"),
	  ":8: identity.backends[0].key_manager: type provided has no such key" },
	{ "no certificate", PROVIDED(KEY),
	  ":4: identity.backends[0].cert_file_path: is required (or, for development, cert)" },
	{ "no key", PROVIDED(CERT),
	  ":4: identity.backends[0].key_file_path: is required (or, for development, key)" },
	{ "two certificates", PROVIDED(CERT KEY "    cert: c\n"),
	  ":8: identity.backends[0].cert: cannot be together with cert_file_path" },
	{ "two keys", PROVIDED(CERT KEY "    key: k\n"),
	  ":8: identity.backends[0].key: cannot be together with key_file_path" },
	{ "two bundles", PROVIDED(CERT KEY "    bundle: b\n    bundle_file_path: /b\n"),
	  ":8: identity.backends[0].bundle: cannot be together with bundle_file_path" },
	{ "inline certificate empty", PROVIDED(KEY "    cert: ''\n"),
	  ":7: identity.backends[0].cert: must be PEM text" },
	{ "cert_file_path relative", PROVIDED("    cert_file_path: c\n" KEY),
	  ":6: identity.backends[0].cert_file_path: " PATH },
	{ "key_file_path relative", PROVIDED("    key_file_path: ../k\n" CERT),
	  ":6: identity.backends[0].key_file_path: " PATH },
	{ "bundle_file_path dots", PROVIDED("    bundle_file_path: /a/../b\n" CERT KEY),
	  ":6: identity.backends[0].bundle_file_path: " PATH },
	{ "svid_ttl short in provided", PROVIDED(CERT KEY "    svid_ttl: 9s\n"),
	  ":8: identity.backends[0].svid_ttl: " SVID },
	{ "no directory", FILES("    svid_file: a\n"),
	  ":4: identity.backends[0].directory: is required" },
	{ "directory relative", FILES("    directory: d\n"),
	  ":6: identity.backends[0].directory: " PATH },
	{ "directory dots", FILES("    directory: /d/{pod}/../x\n"),
	  ":6: identity.backends[0].directory: " PATH },
	{ "svid_file with a slash", FILES(DIRECTORY "    svid_file: a/b\n"),
	  ":7: identity.backends[0].svid_file: " FILE_NAME },
	{ "key_file empty", FILES(DIRECTORY "    key_file: ''\n"),
	  ":7: identity.backends[0].key_file: " FILE_NAME },
	{ "bundle_file dots", FILES(DIRECTORY "    bundle_file: ..\n"),
	  ":7: identity.backends[0].bundle_file: " FILE_NAME },
	{ "bundle_file long", FILES(DIRECTORY "    bundle_file: " A256 "\n"),
	  ":7: identity.backends[0].bundle_file: " FILE_NAME },
	{ "one file twice", FILES(DIRECTORY "    bundle_file: svid.pem\n"),
	  ":7: identity.backends[0].bundle_file: is the name of another file" },
	{ "svid_ttl in files", FILES(DIRECTORY "    svid_ttl: 1h\n"),
	  ":7: identity.backends[0].svid_ttl: type files has no such key" },
	{ "key_type in files", FILES(DIRECTORY "    key_type: ec-p256\n"),
	  ":7: identity.backends[0].key_type: type files has no such key" },
	{ "directory in builtin", BUILTIN("directory: /d"),
	  ":6: identity.backends[0].directory: type builtin has no such key" },
	{ "svid_file in provided", PROVIDED(CERT KEY "    svid_file: a\n"),
	  ":8: identity.backends[0].svid_file: type provided has no such key" },
	/* agents */
	{ "agent without a socket", AGENT(""), ":4: identity.backends[0].socket: is required" },
	{ "socket relative", AGENT("    socket: a.sock\n"),
	  ":6: identity.backends[0].socket: " SOCKET },
	{ "socket with a host", AGENT("    socket: unix://host/s\n"),
	  ":6: identity.backends[0].socket: " SOCKET },
	{ "socket by TCP", AGENT("    socket: tcp://127.0.0.1:1\n"),
	  ":6: identity.backends[0].socket: " SOCKET },
	{ "socket with a query", AGENT("    socket: unix:///s?x\n"),
	  ":6: identity.backends[0].socket: " SOCKET },
	{ "socket with dots", AGENT("    socket: unix:///run/../s\n"),
	  ":6: identity.backends[0].socket: " SOCKET },
	{ "socket long", AGENT("    socket: /" A64 A16 A16 "bbbbbbbbbbb\n"),
	  ":6: identity.backends[0].socket: " SOCKET },
	{ "hint empty", AGENT("    socket: /s\n    hint: ''\n"),
	  ":7: identity.backends[0].hint: must be 1 to 1024 bytes" },
	{ "hint long", AGENT("    socket: /s\n    hint: " A256 A256 A256 A256 "b\n"),
	  ":7: identity.backends[0].hint: must be 1 to 1024 bytes" },
	{ "workload-api with selectors", AGENT("    socket: /s\n    selectors: [a:b]\n"),
	  ":7: identity.backends[0].selectors: type workload-api has no such key" },
	{ "workload-api with svid_ttl", AGENT("    socket: /s\n    svid_ttl: 1h\n"),
	  ":7: identity.backends[0].svid_ttl: type workload-api has no such key" },
	{ "files with a socket", FILES(DIRECTORY "    socket: /s\n"),
	  ":7: identity.backends[0].socket: type files has no such key" },
	{ "delegated without a socket",
	  TD "  backends:\n  - name: spire\n    type: delegated-identity\n",
	  ":4: identity.backends[0].socket: is required" },
	{ "delegated with a directory", DELEGATED("    directory: /d\n"),
	  ":7: identity.backends[0].directory: type delegated-identity has no such key" },
	{ "selectors empty", DELEGATED("    selectors: []\n"),
	  ":7: identity.backends[0].selectors: " SELECTORS },
	{ "selectors a word", DELEGATED("    selectors: a:b\n"),
	  ":7: identity.backends[0].selectors: " SELECTORS },
	{ "selectors 33", DELEGATED("    selectors: [" S8 S8 S8 S8 "b:1]\n"),
	  ":7: identity.backends[0].selectors: " SELECTORS },
	{ "selector without a type", DELEGATED("    selectors: ['a:b', ':c']\n"),
	  ":7: identity.backends[0].selectors: the selector is not TYPE:VALUE" },
	{ "selector without a value", DELEGATED("    selectors:\n    - 'a:b'\n    - 'a:'\n"),
	  ":9: identity.backends[0].selectors: the selector is not TYPE:VALUE" },
	{ "selector long", DELEGATED("    selectors: ['a:" A256 A256 A256 A256 "']\n"),
	  ":7: identity.backends[0].selectors: the selector is longer than 1024 bytes" },
	{ "selector twice", DELEGATED("    selectors: ['a:b', 'a:b']\n"),
	  ":7: identity.backends[0].selectors: the selector is listed twice" },
	{ "selector of what no pod has", DELEGATED("    selectors: ['k8s:pod-uid:{uid}']\n"),
	  ":7: identity.backends[0].selectors: after { there must be namespace}, name}, "
	  "service_account} or pod}" },
	{ "selector with a changing type", DELEGATED("    selectors: ['{pod}:a']\n"),
	  ":7: identity.backends[0].selectors: the selector's type cannot depend on the pod" },
	{ "renew_at small", TD "  renew_at: 9\n", ":3: identity.renew_at: " RENEW },
	{ "renew_at large", TD "  renew_at: 96\n", ":3: identity.renew_at: " RENEW },
	{ "renew_at percent", TD "  renew_at: 80%\n", ":3: identity.renew_at: " RENEW },
	{ "enabled names none", BUILTIN("svid_ttl: 1h\n  enabled: pki"),
	  ":7: identity.enabled: no backend has that name (identity.backends)" },
	{ "enabled without backends", TD "  enabled: own\n",
	  ":3: identity.enabled: no backend has that name (identity.backends)" },
	{ "enabled a list", TD "  enabled: [own]\n",
	  ":3: identity.enabled: must be the name of a backend, or empty" },
	{ "enabled and not trusted", BUILTIN("trust: false\n  enabled: own"),
	  ":7: identity.enabled: is a backend whose trust is false" },
	{ "strict and nothing enabled", "mode: strict\n" TD, ":1: mode: " NEEDS },
	{ "permissive and enabled empty", TD "  enabled: ''\nmode: permissive\n",
	  ":4: mode: " NEEDS },
	/* ports */
	{ "exclude a scalar", TD "exclude: 22\n", ":3: exclude: must be a mapping" },
	{ "ports a scalar", TD "exclude:\n  inbound_ports: 22\n",
	  ":4: exclude.inbound_ports: " PORTS },
	{ "ports a mapping", TD "exclude:\n  inbound_ports: {a: 1}\n",
	  ":4: exclude.inbound_ports: " PORTS },
	{ "ports empty", TD "exclude:\n  inbound_ports:\n", ":4: exclude.inbound_ports: " PORTS },
	{ "port zero", TD "exclude:\n  inbound_ports:\n    - 22\n    - 0\n",
	  ":6: exclude.inbound_ports: " PORTS },
	{ "port large", TD "exclude:\n  outbound_ports:\n    - 65535\n    - 65536\n",
	  ":6: exclude.outbound_ports: " PORTS },
	{ "port a word", TD "exclude:\n  outbound_ports: [22,\n    23,\n    ssh]\n",
	  ":6: exclude.outbound_ports: " PORTS },
	{ "port hex", TD "exclude:\n  outbound_ports:\n    - 1\n    - 0x16\n",
	  ":6: exclude.outbound_ports: " PORTS },
	{ "port quoted", TD "exclude:\n  outbound_ports: ['22']\n",
	  ":4: exclude.outbound_ports: " PORTS },
	{ "port a list", TD "exclude:\n  outbound_ports: [[22]]\n",
	  ":4: exclude.outbound_ports: " PORTS },
	{ "port twice", TD "exclude:\n  outbound_ports:\n    - 22\n    - 80\n    - 22\n",
	  ":7: exclude.outbound_ports: port 22 is listed twice" },
};

#define BAD_FILES (sizeof(bad_files) / sizeof(bad_files[0]))

static char path[64];

static void put_file(const char *text, size_t length)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

static void test_bad(void **state)
{
	const struct bad *bad = *state;
	struct kmtls_config *config = (void *)1;
	char error[KMTLS_CONFIG_ERROR], expected[KMTLS_CONFIG_ERROR];

	put_file(bad->text, strlen(bad->text));
	snprintf(expected, sizeof(expected), "%s%s", path, bad->error);
	assert_int_equal(kmtls_config_load(path, &config, error), -EINVAL);
	assert_string_equal(error, expected);
	assert_ptr_equal(config, (void *)1); /* written only on success */
}

static struct kmtls_config *load_good(const char *text)
{
	struct kmtls_config *config = NULL;
	char error[KMTLS_CONFIG_ERROR];
	int err;

	put_file(text, strlen(text));
	err = kmtls_config_load(path, &config, error);
	assert_string_equal(error, "");
	assert_int_equal(err, 0);
	return config;
}

static void test_defaults(void **state)
{
	struct kmtls_config *config = load_good(TD);
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
	config = load_good(ON);
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
		load_good("---\n"
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
		config = load_good(text);
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
		config = load_good(text);
		assert_int_equal(config->identity.backends[0].svid_ttl, durations[i].seconds);
		kmtls_config_free(config);
	}
}

static void test_limits_taken(void **state)
{
	struct kmtls_config *config;

	config = load_good(
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
	config = load_good(TD "run_dir: /srv\nlog_level: error\n");
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
	put_file(large, 1024 * 1024);
	assert_int_equal(kmtls_config_load(path, &config, error), 0);
	kmtls_config_free(config);
	put_file(large, 1024 * 1024 + 1);
	snprintf(expected, sizeof(expected), "%s: must be at most 1 MiB", path);
	assert_int_equal(kmtls_config_load(path, &config, error), -EINVAL);
	assert_string_equal(error, expected);
}

static void test_fifo(void **state)
{
	struct kmtls_config *config = NULL;
	char error[KMTLS_CONFIG_ERROR], fifo[80];

	snprintf(fifo, sizeof(fifo), "%s.fifo", path);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(kmtls_config_load(fifo, &config, error), -EINVAL); /* does not hang */
	assert_non_null(strstr(error, ".fifo: must be a regular file"));
	unlink(fifo);
}

static void test_many(void **state)
{
	struct kmtls_config *config = NULL;
	char error[KMTLS_CONFIG_ERROR];
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(TD "exclude:\n  inbound_ports:\n", file);
	for (unsigned i = 1; i <= 65535; i++)
		fprintf(file, "    - %u\n", i);
	fclose(file);
	assert_int_equal(kmtls_config_load(path, &config, error), 0);
	assert_int_equal(config->exclude.inbound_ports_count, 65535);
	assert_int_equal(config->exclude.inbound_ports[65534], 65535);
	kmtls_config_free(config);
	file = fopen(path, "w");
	assert_non_null(file);
	for (unsigned i = 0; i < 100000; i++)
		fprintf(file, "k%u: 1\n", i);
	fclose(file);
	assert_int_equal(kmtls_config_load(path, &config, error), -EINVAL);
	assert_non_null(strstr(error, ":257: k256: more than 256 keys in one file"));
}

static void test_free_null(void **state)
{
	kmtls_config_free(NULL);
}

int main(void)
{
	static struct CMUnitTest tests[BAD_FILES + 8] = {
		cmocka_unit_test(test_defaults),     cmocka_unit_test(test_everything),
		cmocka_unit_test(test_sizes),	     cmocka_unit_test(test_durations),
		cmocka_unit_test(test_limits_taken), cmocka_unit_test(test_file),
		cmocka_unit_test(test_fifo),	     cmocka_unit_test(test_many),
		cmocka_unit_test(test_free_null),
	};
	int fd, failed;

	for (size_t i = 0; i < BAD_FILES; i++)
		tests[8 + i] = (struct CMUnitTest){ .name = bad_files[i].name,
						    .test_func = test_bad,
						    .initial_state = (void *)&bad_files[i] };
	snprintf(path, sizeof(path), "/tmp/kmtls-test-config-XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return 1;
	close(fd);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests_name("config", tests, NULL, NULL);
	unlink(path);
	return failed;
}
