/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_files.h - for tests of kmtlsd.conf(5): files that are good or bad, and the beginnings and
 * sentences they have in common.
 */
#ifndef KMTLS_TEST_CONFIG_FILES_H
#define KMTLS_TEST_CONFIG_FILES_H

#include <stddef.h>

#include "config.h"

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

struct test_config_bad {
	const char *name, *text, *error; /* error: after the file's path */
};

extern char test_config_path[64]; /* of the file that is written */

void test_config_put(const char *text, size_t length);
/* Must be taken. */
struct kmtls_config *test_config_load(const char *text);
/* All of a program: each row is a test by its name. What main() returns. */
int test_config_refused(const char *name, const struct test_config_bad *rows, size_t count);
/* The file for tests of another kind; -1: there can be none. */
int test_config_begin(void);

#endif
