/* SPDX-License-Identifier: Apache-2.0 */
/* udp_ledger.c - see udp_ledger.h. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "bpf_loader.h"
#include "udp_ledger.h"

/* Entries that may be made while the map is read. */
#define MARGIN 1024

static __u64 now_boot(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (__u64)now.tv_sec * 1000000000 + (__u64)now.tv_nsec;
}

int kmtls_udp_ledger_begin(struct kmtls_bpf *bpf, __u64 netns)
{
	struct kmtls_udp_value fresh = { .first = now_boot() };

	if (bpf_map_update_elem(kmtls_bpf_map(bpf, KMTLS_MAP_UDP_TOTALS), &netns, &fresh,
				BPF_NOEXIST) < 0 &&
	    errno != EEXIST)
		return -errno;
	return 0;
}

void kmtls_udp_ledger_forget(struct kmtls_bpf *bpf, __u64 netns)
{
	int fd = kmtls_bpf_map(bpf, KMTLS_MAP_UDP_LEDGER);
	struct kmtls_udp_ledger ledger;

	/* First, so that the programs make no new entries. */
	bpf_map_delete_elem(kmtls_bpf_map(bpf, KMTLS_MAP_UDP_TOTALS), &netns);
	if (kmtls_udp_ledger_read(bpf, &ledger) < 0)
		return; /* they will be the oldest some day */
	for (size_t i = 0; i < ledger.count; i++)
		if (ledger.keys[i].netns == netns)
			bpf_map_delete_elem(fd, &ledger.keys[i]);
	kmtls_udp_ledger_free(&ledger);
}

int kmtls_udp_ledger_totals(struct kmtls_bpf *bpf, __u64 netns, struct kmtls_udp_value *ret_totals)
{
	return bpf_map_lookup_elem(kmtls_bpf_map(bpf, KMTLS_MAP_UDP_TOTALS), &netns, ret_totals) < 0
		       ? -errno
		       : 0;
}

int kmtls_udp_ledger_read(struct kmtls_bpf *bpf, struct kmtls_udp_ledger *ret_ledger)
{
	int fd = kmtls_bpf_map(bpf, KMTLS_MAP_UDP_LEDGER), err = 0;
	struct bpf_map_info info = {};
	__u32 length = sizeof(info), batch, count;
	struct kmtls_udp_ledger ledger = { .count = 0 };

	if (bpf_obj_get_info_by_fd(fd, &info, &length) < 0)
		return -errno;
	ledger.capacity = info.max_entries;
	count = info.max_entries + MARGIN;
	ledger.keys = calloc(count, sizeof(*ledger.keys));
	ledger.values = calloc(count, sizeof(*ledger.values));
	if (!ledger.keys || !ledger.values)
		err = -ENOMEM;
	/* In one call: one by one, an entry that is forgotten meanwhile sends us back to the start. */
	else if (bpf_map_lookup_batch(fd, NULL, &batch, ledger.keys, ledger.values, &count, NULL) <
			 0 &&
		 errno != ENOENT) /* that is the end */
		err = -errno;
	if (err) {
		kmtls_udp_ledger_free(&ledger);
		return err;
	}
	ledger.count = count;
	*ret_ledger = ledger;
	return 0;
}

void kmtls_udp_ledger_free(struct kmtls_udp_ledger *ledger)
{
	free(ledger->keys);
	free(ledger->values);
	*ledger = (struct kmtls_udp_ledger){ .count = 0 };
}
