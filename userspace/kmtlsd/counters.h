/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counters.h - the daemon's share of the `counters` map: reason codes that only the daemon
 * decides. Counted in memory by any thread, added to the map once a second (and before
 * anyone is told), because a per-CPU map has no atomic add from user space.
 */
#ifndef KMTLS_COUNTERS_H
#define KMTLS_COUNTERS_H

#include <stdatomic.h>

#include "kmtls/abi.h"

struct kmtls_bpf;

/* From now on counts in KMTLS_REASON_COUNT numbers that outlive this process: what is not in the
 * map yet is not lost with it. */
void kmtls_counters_open(atomic_ullong *memory);

void kmtls_counters_add(enum kmtls_reason reason);
void kmtls_counters_flush(struct kmtls_bpf *bpf);
/* Sum over CPUs of one counter, after a flush. */
__u64 kmtls_counters_read(struct kmtls_bpf *bpf, enum kmtls_reason reason);
/* The same for all, after one flush. -errno. */
int kmtls_counters_read_all(struct kmtls_bpf *bpf, __u64 ret_sums[KMTLS_REASON_COUNT]);

#endif
