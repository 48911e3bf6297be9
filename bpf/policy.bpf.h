/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * policy.bpf.h - pure decisions from the operator's maps: which mode applies, what a peer
 * is. No side effects but counters; used by connect and sk_lookup alike.
 */
#ifndef KMTLS_POLICY_BPF_H
#define KMTLS_POLICY_BPF_H

#include "context.bpf.h"

static __always_inline __u32 mode_at(__u8 scope, __u64 id, __u8 direction, __u16 port)
{
	struct kmtls_mode_key key = {
		.id = id,
		.scope = scope,
		.direction = direction,
		.port = port,
	};
	struct kmtls_mode_value *value = bpf_map_lookup_elem(&modes, &key);

	return value ? value->mode : KMTLS_MODE_UNSET;
}

/* The most specific scope that says something wins; where none does: strict. */
static __always_inline bool is_off(struct kmtls_pod_value *pod, __u8 direction, __u16 port)
{
	__u32 mode = mode_at(KMTLS_SCOPE_PORT, pod->name, direction, port);

	if (!mode)
		mode = mode_at(KMTLS_SCOPE_PORT, 0, direction, port);
	if (!mode)
		mode = mode_at(KMTLS_SCOPE_POD, pod->name, direction, 0);
	if (!mode && pod->namespace_)
		mode = mode_at(KMTLS_SCOPE_NAMESPACE, pod->namespace_, direction, 0);
	if (!mode)
		mode = mode_at(KMTLS_SCOPE_MESH, 0, direction, 0);
	return mode == KMTLS_MODE_OFF;
}

static __always_inline struct kmtls_peer_value *find_peer(struct kmtls_address *address)
{
	struct kmtls_peer_key key = { .prefix_len = 128, .address = *address };

	return bpf_map_lookup_elem(&peers, &key);
}

/* Whom it promises is the daemon's to check; a promise nobody can read is refused at once. */
static __always_inline bool is_known_match(__u8 match)
{
	return match == KMTLS_MATCH_EXACT || match == KMTLS_MATCH_NAMESPACE ||
	       match == KMTLS_MATCH_TRUST_DOMAIN;
}

/* A BYPASS entry that covers port. */
static __always_inline bool is_bypassed(struct kmtls_peer_value *peer, __u16 port)
{
	if (peer->kind != KMTLS_PEER_BYPASS)
		return false;
	if (!peer->port_count)
		return true;
#pragma unroll
	for (int i = 0; i < KMTLS_BYPASS_PORTS; i++)
		if (i < peer->port_count && peer->ports[i] == port)
			return true;
	return false;
}

#endif
