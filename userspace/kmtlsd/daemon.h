/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.h - the one object that ties the daemon's modules together. */
#ifndef KMTLS_DAEMON_H
#define KMTLS_DAEMON_H

#include <time.h>

#include "config.h"

struct kmtls_bpf;
struct kmtls_flow_table;
struct kmtls_hold;
struct kmtls_identity;
struct kmtls_loops;
struct kmtls_pods;
struct kmtls_control;
struct kmtls_rekey_table;

struct kmtls_daemon {
	const struct kmtls_config *config;
	time_t started;
	struct kmtls_bpf *bpf; /* programs, maps, pins */
	struct kmtls_flow_table *flows;
	struct kmtls_rekey_table *rekey; /* secrets of flows that may replace their keys */
	struct kmtls_identity *identity;
	struct kmtls_pods *pods;
	struct kmtls_hold *hold; /* held connects */
	struct kmtls_loops *loops;
	struct kmtls_control *control;
};

#endif
