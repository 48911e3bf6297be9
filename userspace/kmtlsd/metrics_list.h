/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_list.h - every metric there is. docs/metrics.md is generated from it (scripts/gen-metrics),
 * so what stands here is what users read.
 */
#ifndef KMTLS_METRICS_LIST_H
#define KMTLS_METRICS_LIST_H

/* X(SYMBOL, "name without kmtls_", type, "its labels", "what it says"). No label: "". */
#define KMTLS_METRICS(X)                                                                          \
	X(NODE_INFO, "node_info", gauge, "node version trust_domain", "always 1")                 \
	X(START_TIME, "start_time_seconds", gauge, "", "when the daemon was started")             \
	X(WORKER_STARTS, "worker_starts_total", counter, "",                                      \
	  "workers started so far, the first one and those of upgrades included")                 \
	X(UPGRADES, "upgrades_total", counter, "", "upgrades and take-overs that were begun")     \
	X(CLOCK_BEHIND, "clock_behind_seconds", gauge, "",                                        \
	  "how far the wall clock is behind the latest time seen, if it is doubted; else 0")      \
	X(EVENTS, "events_total", counter, "reason",                                              \
	  "refusals, ends of flows and other things that are counted, by reason code")            \
	X(FLOWS, "flows", gauge, "state role", "slots of the flow table in use")                  \
	X(FLOWS_PLAINTEXT, "flows_plaintext", gauge, "",                                          \
	  "established flows that are relayed in plaintext")                                      \
	X(FLOW_SLOTS, "flow_slots", gauge, "", "flows that there can be at a time")               \
	X(HANDSHAKES, "handshakes_in_progress", gauge, "role",                                    \
	  "flows that wait for their handshake")                                                  \
	X(PEER_CHAINS, "peer_chains_total", counter, "state",                                     \
	  "chains of certificates that peers have shown this worker, known from before or new")   \
	X(PODS, "pods", gauge, "", "enrolled pods")                                               \
	X(POD_INFO, "pod_info", gauge, "pod spiffe_id", "always 1")                               \
	X(POD_FLOWS, "pod_flows", gauge, "pod", "slots of the flow table that the pod has")       \
	X(POD_UDP_PACKETS, "pod_udp_packets_total", counter, "pod direction",                     \
	  "UDP packets of the pod in the clear")                                                  \
	X(POD_UDP_BYTES, "pod_udp_bytes_total", counter, "pod direction",                         \
	  "bytes of UDP of the pod in the clear")                                                 \
	X(SVID_VALID, "svid_valid", gauge, "pod", "1: the pod has an SVID that has not expired")  \
	X(SVID_NOT_BEFORE, "svid_not_before_timestamp_seconds", gauge, "pod",                     \
	  "notBefore of the pod's SVID")                                                          \
	X(SVID_NOT_AFTER, "svid_not_after_timestamp_seconds", gauge, "pod",                       \
	  "notAfter of the pod's SVID")                                                           \
	X(SVID_NEXT, "svid_next_rotation_timestamp_seconds", gauge, "pod",                        \
	  "when another SVID is asked for; from a source that is given SVIDs: is missed")         \
	X(SVID_ROTATIONS, "svid_rotations_total", counter, "pod",                                 \
	  "SVIDs the pod got after its first one")                                                \
	X(SVID_FAILURES, "svid_rotation_failures_total", counter, "pod",                          \
	  "times the source gave no SVID for the pod")                                            \
	X(SVID_SOURCE, "svid_source_state", gauge, "pod state",                                   \
	  "1 for the state that the source is in for this pod, 0 for the others")                 \
	X(IDENTITY_ENABLED, "identity_enabled", gauge, "",                                        \
	  "1: a backend issues SVIDs; 0: mutual TLS is off")                                      \
	X(BACKEND_INFO, "identity_backend_info", gauge, "backend type state",                     \
	  "always 1; state is enabled, trusted, not-trusted or unavailable")                      \
	X(BACKEND_SOURCE, "identity_backend_source_state", gauge, "backend state",                \
	  "of a backend that is given its SVIDs: 1 for the worst state, 0 for the others")        \
	X(BACKEND_NOT_AFTER, "identity_backend_ca_not_after_timestamp_seconds", gauge, "backend", \
	  "notAfter of the certificate that signs SVIDs, where it is known here")                 \
	X(ROOT_NOT_AFTER, "trust_root_not_after_timestamp_seconds", gauge,                        \
	  "backend subject sha256", "notAfter of a root that peers' SVIDs may end in")            \
	X(IDENTITY_REFUSED, "identity_configurations_refused_total", counter, "",                 \
	  "configurations whose identity backend could not be used")                              \
	X(IDENTITY_NOT_TAKEN, "identity_not_taken_total", counter, "",                            \
	  "SVIDs and bundles that were given and are of no use")

#endif
