/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bpf_loader.h - BPF objects, maps and links: loads them, pins everything below the
 * configured directory, adopts what an earlier daemon pinned. Pins outlive the daemon on
 * purpose: without it meshed connections are refused, not sent in plaintext.
 *
 *   DIR/{settings,modes,peers,authorizations,names,pods,flows,counters,
 *       udp_ledger,udp_totals,peer_expiries}
 *                                                          the operator's maps (abi.h)
 *   DIR/internal/NAME                                      internal_maps.h
 *   DIR/links/{daemon,daemon_reset}, DIR/links/POD-HASH/PROGRAM   attachments
 */
#ifndef KMTLS_BPF_LOADER_H
#define KMTLS_BPF_LOADER_H

#include <linux/types.h>

struct kmtls_bpf;
struct kmtls_config;

enum kmtls_map {
	KMTLS_MAP_SETTINGS,
	KMTLS_MAP_MODES,
	KMTLS_MAP_PEERS,
	KMTLS_MAP_AUTHORIZATIONS,
	KMTLS_MAP_NAMES,
	KMTLS_MAP_PODS,
	KMTLS_MAP_FLOWS,
	KMTLS_MAP_COUNTERS,
	KMTLS_MAP_UDP_LEDGER,
	KMTLS_MAP_UDP_TOTALS,
	KMTLS_MAP_PEER_EXPIRIES,
	KMTLS_MAP_SOCKETS,
	KMTLS_MAP_DIALS,
	KMTLS_MAP_CALLERS,
	KMTLS_MAP_VERDICTS,
	KMTLS_MAP_TURNED_NAMES,
	KMTLS_MAP_EVENTS,
	KMTLS_MAP_DENIALS,
	KMTLS_MAP_LISTENERS,
	KMTLS_MAP_OWN_ADDRESSES,
	KMTLS_MAP_ACCEPTORS,
	KMTLS_MAP_ACCEL_APPLICATIONS,
	KMTLS_MAP_ACCEL_DAEMONS,
	KMTLS_MAP_ACCEL_LEGS,
	KMTLS_MAP_ACCEL_PEERS,
	KMTLS_MAP_NUMBER
};

/* Everything that takes ret_why writes a sentence of at most 256 bytes into it on failure. */

/*
 * Loads or adopts. -EPROTO: pinned maps of another ABI version, nothing was touched.
 * Nothing is attached yet.
 */
int kmtls_bpf_open(const struct kmtls_config *config, struct kmtls_bpf **ret_bpf, char *ret_why);
/* sk_msg for the sockets of accelerated pods; without it there can be none. After kmtls_bpf_open(). */
int kmtls_bpf_open_accel(struct kmtls_bpf *bpf, char *ret_why);
/* How many elements a map pinned below directory has room for; 0: there is none. */
unsigned kmtls_bpf_pinned_entries(const char *directory, enum kmtls_map map);
/* Programs that act for the daemon's own sockets, on its cgroup. */
int kmtls_bpf_attach_daemon(struct kmtls_bpf *bpf, int cgroup_fd, char *ret_why);
/* Frees what this process holds; the pins stay. */
void kmtls_bpf_close(struct kmtls_bpf *bpf);

/* Where everything is pinned; bpf's. */
const char *kmtls_bpf_directory(const struct kmtls_bpf *bpf);

/* The descriptor stays bpf's. */
int kmtls_bpf_map(const struct kmtls_bpf *bpf, enum kmtls_map map);

/* Attaches (or re-points existing links of) one pod. All or nothing for new pods. */
int kmtls_bpf_attach_pod(struct kmtls_bpf *bpf, __u64 name_hash, int cgroup_fd, int netns_fd,
			 __u64 netns_cookie, char *ret_why);
void kmtls_bpf_detach_pod(struct kmtls_bpf *bpf, __u64 name_hash);

/* Removes every pin below bpf_dir. 0 also when there is none. */
int kmtls_bpf_uninstall(const char *bpf_dir, char *ret_why);

#endif
