/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counters.h - the daemon's share of the `counters` map: reason codes that only the daemon
 * decides. Counted in memory by any thread, added to the map once a second (and before
 * anyone is told), because a per-CPU map has no atomic add from user space.
 */
#ifndef KMTLS_COUNTERS_H
#define KMTLS_COUNTERS_H

#include "kmtls/abi.h"

struct kmtls_bpf;

void kmtls_counters_add(enum kmtls_reason reason);
void kmtls_counters_flush(struct kmtls_bpf *bpf);
/* Sum over CPUs of one counter, after a flush. */
__u64 kmtls_counters_read(struct kmtls_bpf *bpf, enum kmtls_reason reason);

#endif
