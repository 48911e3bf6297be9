/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * maps.bpf.h - every map, declared once and included by every object. The daemon creates
 * and pins them from the first object it loads and hands the same maps to the others
 * (bpf_loader.c). Typed for BTF, so that bpftool prints field names.
 */
#ifndef KMTLS_MAPS_BPF_H
#define KMTLS_MAPS_BPF_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "kmtls/abi.h"
#include "kmtls/internal_maps.h"

#define KMTLS_MAP(name_, type_, key_, value_, entries_, flags_) \
	struct {                                                \
		__uint(type, BPF_MAP_TYPE_##type_);             \
		__type(key, key_);                              \
		__type(value, value_);                          \
		__uint(max_entries, entries_);                  \
		__uint(map_flags, flags_);                      \
	} name_ SEC(".maps")

/* ---- the operator's, see abi.h ---- */
KMTLS_MAP(settings, ARRAY, __u32, struct kmtls_settings, 1, BPF_F_MMAPABLE);
KMTLS_MAP(modes, HASH, struct kmtls_mode_key, struct kmtls_mode_value, 65536, BPF_F_NO_PREALLOC);
KMTLS_MAP(peers, LPM_TRIE, struct kmtls_peer_key, struct kmtls_peer_value, 131072,
	  BPF_F_NO_PREALLOC);
KMTLS_MAP(authorizations, HASH, struct kmtls_authorization_key, struct kmtls_authorization_value,
	  65536, BPF_F_NO_PREALLOC);
KMTLS_MAP(names, HASH, __u64, struct kmtls_name_value, 131072, BPF_F_NO_PREALLOC);
KMTLS_MAP(pods, HASH, __u64, struct kmtls_pod_value, 1024, 0);
KMTLS_MAP(flows, ARRAY, __u32, struct kmtls_flow, 65536, BPF_F_MMAPABLE);
KMTLS_MAP(udp_ledger, LRU_HASH, struct kmtls_udp_key, struct kmtls_udp_value, 16384, 0);
KMTLS_MAP(udp_totals, HASH, __u64, struct kmtls_udp_value, 1024, 0);
KMTLS_MAP(peer_expiries, LRU_HASH, struct kmtls_peer_expiry_key, struct kmtls_peer_expiry_value,
	  16384, 0);
KMTLS_MAP(counters, PERCPU_ARRAY, __u32, __u64, KMTLS_REASON_COUNT, 0);

/* ---- internal, see internal_maps.h ---- */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__type(key, int);
	__type(value, struct kmtls_socket);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} sockets SEC(".maps");
KMTLS_MAP(dials, LRU_HASH, struct kmtls_leg_key, struct kmtls_socket, 65536, 0);
KMTLS_MAP(callers, LRU_HASH, struct kmtls_leg_key, struct kmtls_endpoint, 65536, 0);
KMTLS_MAP(verdicts, LRU_HASH, __u64, struct kmtls_verdict, 65536, 0);
KMTLS_MAP(turned_names, LRU_HASH, struct kmtls_leg_key, struct kmtls_endpoint, 4096, 0);
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 21);
} events SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} denials SEC(".maps");
KMTLS_MAP(listeners, HASH, struct kmtls_local_key, __u32, 65536, BPF_F_NO_PREALLOC);
KMTLS_MAP(own_addresses, HASH, struct kmtls_own_address_key, __u32, 8192, BPF_F_NO_PREALLOC);
KMTLS_MAP(acceptors, SOCKHASH, struct kmtls_acceptor_key, __u64, 4096, 0);
KMTLS_MAP(accel_applications, SOCKHASH, __u64, __u64, 65536, 0);
KMTLS_MAP(accel_daemons, SOCKHASH, __u64, __u64, 65536, 0);
KMTLS_MAP(accel_legs, LRU_HASH, struct kmtls_leg_key, struct kmtls_accel_leg, 16384, 0);
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__type(key, int);
	__type(value, struct kmtls_accel_peer);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} accel_peers SEC(".maps");

static __always_inline void count(enum kmtls_reason reason)
{
	__u32 key = reason;
	__u64 *counter = bpf_map_lookup_elem(&counters, &key);

	if (counter)
		*counter += 1; /* per CPU: no other writer */
}

#endif
