/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * policy.bpf.h - what the maps say of a connection: which mode applies, what a peer is, whether an
 * application listens. Used by connect, sk_lookup and backstop alike. What follows from it says
 * decision_rules.h, to them as to the daemon.
 */
#ifndef KMTLS_POLICY_BPF_H
#define KMTLS_POLICY_BPF_H

#include "context.bpf.h"
#include "kmtls/decision_rules.h"
#include "kmtls/mode_rules.h"

static __always_inline __u32 mode_at(struct kmtls_mode_key *key)
{
	struct kmtls_mode_value *value = bpf_map_lookup_elem(&modes, key);

	return value ? value->mode : KMTLS_MODE_UNSET;
}

/* port: of the destination, whichever the direction. */
static __always_inline enum kmtls_mode mode_of(struct kmtls_pod_value *pod, __u8 direction,
					       __u16 port)
{
	struct kmtls_mode_key key;
	enum kmtls_mode mesh, mode;

	kmtls_mode_rule_key(KMTLS_MODE_RULE_MESH, 0, 0, direction, port, &key);
	mesh = kmtls_mode_of_mesh(mode_at(&key));
#pragma unroll
	for (int rule = 0; rule < KMTLS_MODE_RULE_MESH; rule++) {
		if (!kmtls_mode_rule_key(rule, pod->name, pod->namespace_, direction, port, &key))
			continue;
		mode = kmtls_mode_read(mode_at(&key));
		if (mode != KMTLS_MODE_UNSET && !kmtls_mode_is_ignored(rule, mode, mesh))
			return mode;
	}
	return mesh;
}

static __always_inline struct kmtls_peer_value *find_peer(struct kmtls_address *address)
{
	struct kmtls_peer_key key = { .prefix_len = 128, .address = *address };

	return bpf_map_lookup_elem(&peers, &key);
}

/* ---- does an application of the pod listen there? ---- */

static __always_inline bool counted(struct kmtls_local_key *key)
{
	__u32 *number = bpf_map_lookup_elem(&listeners, key);

	return number && *number;
}

static __always_inline bool is_listening(struct kmtls_local_key *local)
{
	struct kmtls_local_key key = *local;

	if (counted(&key))
		return true;
	__builtin_memset(&key.local.address, 0, sizeof(key.local.address));
	if (counted(&key)) /* [::]:port */
		return true;
	if (is_v4(&local->local.address)) {
		set_v4(&key.local.address, 0); /* 0.0.0.0:port */
		if (counted(&key))
			return true;
	}
	__builtin_memset(&key.local, 0, sizeof(key.local));
	return counted(&key); /* more than there is room for */
}

#endif
