/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon.h - the one object that ties the daemon's modules together. The keeper makes it and
 * fills in what outlives workers; each worker has a copy of its own (clone without CLONE_VM)
 * and adds the rest.
 */
#ifndef KMTLS_DAEMON_H
#define KMTLS_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "accel.h"
#include "config.h"
#include "descriptors.h"

struct kmtls_bpf;
struct kmtls_denials;
struct kmtls_flow_table;
struct kmtls_hold;
struct kmtls_identities;
struct kmtls_loops;
struct kmtls_metrics_server;
struct kmtls_pods;
struct kmtls_pressure;
struct kmtls_resumption;
struct kmtls_sources;
struct kmtls_subscription;
struct kmtls_control;
struct kmtls_secret_region;
struct kmtls_shared;
struct kmtls_rekey_table;

struct kmtls_daemon {
	/* The keeper's. */
	const struct kmtls_config *config;
	const char *program; /* path of this one, where its successor will be */
	time_t started;
	struct kmtls_shared *shared; /* shared memory */
	struct kmtls_secret_region *secrets; /* likewise */
	struct kmtls_bpf *bpf; /* programs, maps, pins */
	struct kmtls_accel_kernel accel;
	struct kmtls_flow_table *flows;
	int cgroup_fd; /* the daemon's own */
	int wake_fd; /* eventfd: the worker tells the keeper to look at shared */
	int go_fd; /* eventfd: the keeper tells a gated worker to go on */
	struct kmtls_descriptor_set core; /* descriptors that are not workers' */
	pid_t keeper;
	bool inherited; /* flows and descriptors may be there from a worker before */
	bool gated; /* first worker after an upgrade: touches nothing before it is told to */

	/* The worker's. */
	struct kmtls_rekey_table *rekey; /* secrets of flows that may replace their keys */
	struct kmtls_identities *identities;
	struct kmtls_pods *pods;
	struct kmtls_sources *sources; /* inbound handshakes in progress */
	struct kmtls_pressure *pressure; /* of the daemon's cgroup */
	struct kmtls_resumption *resumption; /* handshakes that others may stand on */
	struct kmtls_hold *hold; /* held connects */
	struct kmtls_denials *denials; /* what the programs refused */
	struct kmtls_loops *loops;
	struct kmtls_metrics_server *metrics; /* NULL: not served */
	struct kmtls_control *control;
	bool wake_keeper; /* once the answer at hand has left */
	struct kmtls_subscription *subscription; /* the control client at hand wants events */
	bool give_away; /* the control client at hand takes over; its connection is the keeper's */
};

#endif
