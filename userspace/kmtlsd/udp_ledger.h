/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udp_ledger.h - the maps that bpf/udp.bpf.c counts plaintext UDP in, as the daemon reads them.
 * Entries are forgotten when there are too many; the totals of a pod are not, so the difference
 * is what was forgotten.
 */
#ifndef KMTLS_UDP_LEDGER_H
#define KMTLS_UDP_LEDGER_H

#include <stddef.h>

#include "kmtls/abi.h"

struct kmtls_bpf;

struct kmtls_udp_ledger {
	struct kmtls_udp_key *keys; /* in the map's order */
	struct kmtls_udp_value *values;
	size_t count;
	unsigned capacity; /* of the map */
};

/* The pod is counted from now on; one that was goes on. -E2BIG: the map is full. */
int kmtls_udp_ledger_begin(struct kmtls_bpf *bpf, __u64 netns);
/* It is not counted any more, and nothing of it is left. */
void kmtls_udp_ledger_forget(struct kmtls_bpf *bpf, __u64 netns);
/* -ENOENT: is not counted. */
int kmtls_udp_ledger_totals(struct kmtls_bpf *bpf, __u64 netns, struct kmtls_udp_value *ret_totals);

/* All entries at about one moment. -ENOMEM, or what the kernel says. */
int kmtls_udp_ledger_read(struct kmtls_bpf *bpf, struct kmtls_udp_ledger *ret_ledger);
void kmtls_udp_ledger_free(struct kmtls_udp_ledger *ledger);

#endif
