/* SPDX-License-Identifier: Apache-2.0 */
/* counters.c - see counters.h. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <pthread.h>
#include <stdatomic.h>

#include "bpf_loader.h"
#include "cleanup.h"
#include "counters.h"

static atomic_ullong own[KMTLS_REASON_COUNT];
static atomic_ullong *pending = own;
static pthread_mutex_t flush_lock = PTHREAD_MUTEX_INITIALIZER;

void kmtls_counters_open(atomic_ullong *memory)
{
	pending = memory;
}

void kmtls_counters_add(enum kmtls_reason reason)
{
	atomic_fetch_add_explicit(&pending[reason], 1, memory_order_relaxed);
}

/* Per-CPU values of one counter; NULL when it cannot be read. */
static __u64 *read_values(int fd, __u32 reason, int cpus)
{
	__u64 *values = calloc(cpus, sizeof(*values));

	if (values && bpf_map_lookup_elem(fd, &reason, values) < 0) {
		free(values);
		return NULL;
	}
	return values;
}

static void flush_one(int fd, __u32 reason, int cpus)
{
	__u64 add = atomic_exchange(&pending[reason], 0);
	__cleanup_free __u64 *values = NULL;

	if (!add)
		return;
	/* No program counts this reason, so nobody writes between the two calls. */
	values = read_values(fd, reason, cpus);
	if (values) {
		values[0] += add;
		if (bpf_map_update_elem(fd, &reason, values, BPF_ANY) == 0)
			return;
	}
	atomic_fetch_add(&pending[reason], add);
}

void kmtls_counters_flush(struct kmtls_bpf *bpf)
{
	int fd = kmtls_bpf_map(bpf, KMTLS_MAP_COUNTERS);
	int cpus = libbpf_num_possible_cpus();

	if (cpus <= 0)
		return;
	pthread_mutex_lock(&flush_lock);
	for (__u32 reason = 0; reason < KMTLS_REASON_COUNT; reason++)
		flush_one(fd, reason, cpus);
	pthread_mutex_unlock(&flush_lock);
}

__u64 kmtls_counters_read(struct kmtls_bpf *bpf, enum kmtls_reason reason)
{
	int cpus = libbpf_num_possible_cpus();
	__cleanup_free __u64 *values = NULL;
	__u64 sum = 0;

	if (cpus <= 0)
		return 0;
	kmtls_counters_flush(bpf);
	values = read_values(kmtls_bpf_map(bpf, KMTLS_MAP_COUNTERS), reason, cpus);
	for (int i = 0; values && i < cpus; i++)
		sum += values[i];
	return sum;
}

int kmtls_counters_read_all(struct kmtls_bpf *bpf, __u64 ret_sums[KMTLS_REASON_COUNT])
{
	int cpus = libbpf_num_possible_cpus(), fd = kmtls_bpf_map(bpf, KMTLS_MAP_COUNTERS);

	if (cpus <= 0)
		return cpus < 0 ? cpus : -EINVAL;
	kmtls_counters_flush(bpf);
	for (__u32 reason = 0; reason < KMTLS_REASON_COUNT; reason++) {
		__cleanup_free __u64 *values = read_values(fd, reason, cpus);

		if (!values)
			return -EIO;
		ret_sums[reason] = 0;
		for (int i = 0; i < cpus; i++)
			ret_sums[reason] += values[i];
	}
	return 0;
}
