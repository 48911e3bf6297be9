/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * context.bpf.h - addresses out of the various program contexts, and what an address is
 * (loopback, one of the pod's own).
 */
#ifndef KMTLS_CONTEXT_BPF_H
#define KMTLS_CONTEXT_BPF_H

#include <bpf/bpf_endian.h>

#include "maps.bpf.h"

#define AF_INET 2
#define AF_INET6 10

/*
 * clang 14 merges context loads across branches into a load from a modified context
 * pointer, which the verifier refuses: fix the offset in the instruction.
 */
#define LOAD(context, type, field)                                                  \
	({                                                                          \
		__u32 loaded_;                                                      \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                               \
			     : "=r"(loaded_)                                        \
			     : "r"(context), "i"(__builtin_offsetof(type, field))); \
		loaded_;                                                            \
	})

#define V4_MAPPED bpf_htonl(0x0000ffff)

static __always_inline __u32 *words(struct kmtls_address *address)
{
	return (__u32 *)address->bytes;
}

static __always_inline void set_v4(struct kmtls_address *address, __u32 v4)
{
	words(address)[0] = 0;
	words(address)[1] = 0;
	words(address)[2] = V4_MAPPED;
	words(address)[3] = v4;
}

static __always_inline bool is_v4(struct kmtls_address *address)
{
	return !words(address)[0] && !words(address)[1] && words(address)[2] == V4_MAPPED;
}

/* 127/8, 0.0.0.0, ::1, ::. Connecting to the unspecified address means loopback. */
static __always_inline bool is_loopback(struct kmtls_address *address)
{
	__u32 *w = words(address);

	if (is_v4(address))
		return !w[3] || (w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !w[0] && !w[1] && !w[2] && (!w[3] || w[3] == bpf_htonl(1));
}

static __always_inline bool same_address(struct kmtls_address *a, struct kmtls_address *b)
{
	return words(a)[0] == words(b)[0] && words(a)[1] == words(b)[1] &&
	       words(a)[2] == words(b)[2] && words(a)[3] == words(b)[3];
}

static __always_inline bool is_own(__u64 netns, struct kmtls_address *address)
{
	struct kmtls_own_address_key key = { .netns = netns, .address = *address };

	return bpf_map_lookup_elem(&own_addresses, &key) != NULL;
}

/* struct bpf_sock_ops and struct bpf_sk_lookup name these fields alike. */
#define LOAD_V6(context, type, field, address)                         \
	do {                                                           \
		words(address)[0] = LOAD(context, type, field##6 [0]); \
		words(address)[1] = LOAD(context, type, field##6 [1]); \
		words(address)[2] = LOAD(context, type, field##6 [2]); \
		words(address)[3] = LOAD(context, type, field##6 [3]); \
	} while (0)

#define LOAD_ADDRESS(context, type, field, address)                     \
	do {                                                            \
		if (LOAD(context, type, family) == AF_INET)             \
			set_v4(address, LOAD(context, type, field##4)); \
		else                                                    \
			LOAD_V6(context, type, field, address);         \
	} while (0)

#endif
