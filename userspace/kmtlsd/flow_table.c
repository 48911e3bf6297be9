/* SPDX-License-Identifier: Apache-2.0 */
/* flow_table.c - see flow_table.h. */
#include <errno.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bpf_loader.h"
#include "daemon.h"
#include "diag.h"
#include "flow_table.h"
#include "log.h"
#include "pod.h"
#include "pods.h"
#include "policy.h"
#include "tally.h"

_Static_assert(sizeof(struct kmtls_flow_private) + sizeof(struct kmtls_flow) <= 256,
	       "an idle flow costs the daemon at most 256 bytes");

static void store_state(struct kmtls_flow *flow, enum kmtls_flow_state state)
{
	__atomic_store_n(&flow->state, state, __ATOMIC_RELEASE);
}

void kmtls_flow_set_state(struct kmtls_flow *flow, enum kmtls_flow_state state)
{
#define TRANSITION(from, to, when) [KMTLS_FLOW_##from][KMTLS_FLOW_##to] = true,
	static const bool allowed[8][8] = { KMTLS_FLOW_TRANSITIONS(TRANSITION) };
#undef TRANSITION
	__u32 before = kmtls_flow_state(flow);

	if (before >= 8 || !allowed[before][state])
		log_error("flow state out of order", "from=%u to=%u", before, state);
	store_state(flow, state);
}

static void free_memory(struct kmtls_flow_table *table)
{
	pthread_mutex_destroy(&table->lock);
	kmtls_tally_close(table->per_pod);
	free(table->free_slots);
	free(table->private);
	free(table);
}

int kmtls_flow_table_open(struct kmtls_bpf *bpf, unsigned capacity, unsigned pod_limit, bool keep,
			  struct kmtls_flow_table **ret_table, char *ret_why)
{
	struct kmtls_flow_table *table = calloc(1, sizeof(*table));
	long page = sysconf(_SC_PAGESIZE);
	int err;

	snprintf(ret_why, KMTLS_WHY, "out of memory for %u flows", capacity);
	if (!table)
		return -ENOMEM;
	table->capacity = table->usable = capacity;
	table->pod_limit = pod_limit;
	pthread_mutex_init(&table->lock, NULL);
	table->private = calloc(capacity, sizeof(*table->private));
	table->free_slots = calloc(capacity, sizeof(*table->free_slots));
	table->per_pod = kmtls_tally_open(KMTLS_PODS_MAX);
	if (!table->private || !table->free_slots || !table->per_pod) {
		err = -ENOMEM;
		goto free_table;
	}
	table->map_bytes = (capacity * sizeof(*table->slots) + page - 1) / page * page;
	table->slots = mmap(NULL, table->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			    kmtls_bpf_map(bpf, KMTLS_MAP_FLOWS), 0);
	if (table->slots == MAP_FAILED) {
		err = -errno;
		snprintf(ret_why, KMTLS_WHY, "the flows map cannot be mapped: %s", strerror(-err));
		goto free_table;
	}
	/* Pages that never were in use are not touched. */
	for (unsigned i = 0; !keep && i < capacity; i++)
		if (kmtls_flow_state(&table->slots[i]) != KMTLS_FLOW_FREE)
			store_state(&table->slots[i], KMTLS_FLOW_FREE);
	*ret_table = table;
	return 0;
free_table:
	free_memory(table);
	return err;
}

void kmtls_flow_table_close(struct kmtls_flow_table *table)
{
	if (!table)
		return;
	munmap(table->slots, table->map_bytes);
	free_memory(table);
}

static struct kmtls_tally_key pod_key(__u64 netns_cookie)
{
	return (struct kmtls_tally_key){ .low = netns_cookie };
}

void kmtls_flow_table_adopt(struct kmtls_flow_table *table, _Atomic __u32 *used)
{
	table->used = used;
	/* Highest first on the stack, so that low slots are used first. */
	for (unsigned slot = *used; slot-- > 0;) {
		struct kmtls_tally_key key = pod_key(table->slots[slot].netns_cookie);

		if (kmtls_flow_state(&table->slots[slot]) == KMTLS_FLOW_FREE)
			table->free_slots[table->free_count++] = slot;
		else
			kmtls_tally_add(table->per_pod, &key, 0);
	}
}

int kmtls_flow_table_take(struct kmtls_flow_table *table, unsigned loop, __u64 netns_cookie,
			  unsigned *ret_slot)
{
	struct kmtls_tally_key key = pod_key(netns_cookie);
	struct kmtls_flow_private *private;
	struct kmtls_flow *flow;
	unsigned slot = 0;
	__u32 generation;
	int err = -ENOSPC;

	pthread_mutex_lock(&table->lock);
	if (*table->used - table->free_count < table->usable)
		err = kmtls_tally_add(table->per_pod, &key, table->pod_limit);
	if (!err)
		slot = table->free_count ? table->free_slots[--table->free_count]
					 : atomic_fetch_add(table->used, 1);
	pthread_mutex_unlock(&table->lock);
	if (err)
		return err;
	flow = &table->slots[slot];
	private = &table->private[slot];
	generation = flow->generation + 1;
	memset(flow, 0, sizeof(*flow));
	flow->generation = generation;
	flow->netns_cookie = netns_cookie;
	flow->local_fd = flow->wire_fd = -1;
	flow->to_wire.pipe_read = flow->to_wire.pipe_write = -1;
	flow->to_local.pipe_read = flow->to_local.pipe_write = -1;
	/* Never zero in between: that is a loop too. */
	memset(private, 0, offsetof(struct kmtls_flow_private, loop));
	__atomic_store_n(&private->loop, loop, __ATOMIC_RELAXED);
	*ret_slot = slot;
	return 0;
}

void kmtls_flow_table_return(struct kmtls_flow_table *table, unsigned slot)
{
	struct kmtls_tally_key key = pod_key(table->slots[slot].netns_cookie);

	pthread_mutex_lock(&table->lock);
	kmtls_tally_remove(table->per_pod, &key);
	table->free_slots[table->free_count++] = slot;
	pthread_mutex_unlock(&table->lock);
}

unsigned kmtls_flow_table_taken(struct kmtls_flow_table *table, __u64 netns_cookie)
{
	const struct kmtls_tally_key key = pod_key(netns_cookie);
	unsigned count;

	pthread_mutex_lock(&table->lock);
	count = kmtls_tally_count(table->per_pod, &key);
	pthread_mutex_unlock(&table->lock);
	return count;
}

void kmtls_flow_table_limit(struct kmtls_flow_table *table, unsigned pod_limit)
{
	pthread_mutex_lock(&table->lock);
	table->pod_limit = pod_limit;
	pthread_mutex_unlock(&table->lock);
}

/* A copy whose state and generation were the same before and after. */
static bool snapshot(const struct kmtls_flow *flow, struct kmtls_flow *ret_copy)
{
	__u32 state = kmtls_flow_state(flow);
	__u32 generation = flow->generation;

	if (state == KMTLS_FLOW_FREE)
		return false;
	memcpy(ret_copy, flow, sizeof(*ret_copy));
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	ret_copy->state = state;
	return flow->generation == generation && kmtls_flow_state(flow) != KMTLS_FLOW_FREE;
}

static bool is_socket(int fd, __u64 cookie)
{
	socklen_t length = sizeof(cookie);
	__u64 found;

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &found, &length) == 0 && found == cookie;
}

/*
 * The descriptor belongs to an event loop and may be closed under us, even reused: ask the
 * cookie afterwards, and believe the answers only if it is still the flow's socket.
 */
static void read_wire(struct kmtls_flow_info *info)
{
	struct tcp_info tcp;
	socklen_t length = sizeof(tcp);
	const struct kmtls_flow *flow = &info->flow;

	if (flow->state != KMTLS_FLOW_ESTABLISHED)
		return;
	memset(&tcp, 0, sizeof(tcp));
	if (getsockopt(flow->wire_fd, IPPROTO_TCP, TCP_INFO, &tcp, &length) == 0 &&
	    is_socket(flow->wire_fd, flow->wire_cookie)) {
		info->bytes_sent = tcp.tcpi_bytes_sent;
		info->bytes_received = tcp.tcpi_bytes_received;
	}
}

bool kmtls_flow_table_snapshot(const struct kmtls_flow_table *table, unsigned slot,
			       struct kmtls_flow *ret_flow)
{
	return snapshot(&table->slots[slot], ret_flow);
}

bool kmtls_flow_bytes(const struct kmtls_flow *flow, __u64 *ret_acked, __u64 *ret_received)
{
	socklen_t length = sizeof(struct tcp_info);
	struct tcp_info tcp = { .tcpi_state = 0 };

	/* In this order, as in read_wire(). */
	if (flow->state != KMTLS_FLOW_ESTABLISHED ||
	    getsockopt(flow->wire_fd, IPPROTO_TCP, TCP_INFO, &tcp, &length) < 0 ||
	    !is_socket(flow->wire_fd, flow->wire_cookie))
		return false;
	*ret_acked = tcp.tcpi_bytes_acked;
	*ret_received = tcp.tcpi_bytes_received;
	return true;
}

/* inet_diag asks inside the pod's namespace, by the socket's cookie. */
static void read_offload(struct kmtls_daemon *daemon, struct kmtls_flow_info *info)
{
	struct kmtls_pod *pod;

	if (info->flow.state != KMTLS_FLOW_ESTABLISHED)
		return;
	pod = kmtls_pods_find(daemon->pods, info->flow.netns_cookie);
	if (!pod)
		return;
	if (kmtls_netns_enter(pod->netns_fd, pod->netns_cookie) == 0)
		kmtls_diag_tls(&info->flow.self, &info->flow.peer, info->flow.wire_cookie,
			       &info->offload_tx, &info->offload_rx);
	kmtls_pod_put(pod);
}

int kmtls_flow_table_visit(struct kmtls_daemon *daemon,
			   bool (*wants)(void *context, const struct kmtls_flow *flow),
			   int (*visit)(void *context, const struct kmtls_flow_info *info),
			   void *context)
{
	char self_id[KMTLS_SPIFFE_ID_MAX + 1], peer_id[KMTLS_SPIFFE_ID_MAX + 1];
	struct kmtls_flow_table *table = daemon->flows;
	int err = 0;

	for (unsigned i = 0; !err && i < *table->used; i++) {
		struct kmtls_flow_info info = { .slot = i };

		if (!snapshot(&table->slots[i], &info.flow) ||
		    (wants && !wants(context, &info.flow)))
			continue;
		read_wire(&info);
		read_offload(daemon, &info);
		if (kmtls_policy_name_get(daemon->bpf, info.flow.self_identity, self_id) < 0)
			self_id[0] = '\0';
		if (kmtls_policy_name_get(daemon->bpf, info.flow.peer_identity, peer_id) < 0)
			peer_id[0] = '\0';
		info.self_id = self_id;
		info.peer_id = peer_id;
		err = visit(context, &info);
	}
	kmtls_netns_leave();
	return err;
}

void kmtls_flow_table_totals(struct kmtls_daemon *daemon, struct kmtls_flow_totals *ret_totals)
{
	struct kmtls_flow_totals totals = { .capacity = daemon->flows->capacity };

	for (unsigned i = 0; i < *daemon->flows->used; i++) {
		switch (kmtls_flow_state(&daemon->flows->slots[i])) {
		case KMTLS_FLOW_HANDSHAKE:
		case KMTLS_FLOW_CONFIRMED:
			totals.handshake++;
			break;
		case KMTLS_FLOW_ESTABLISHED:
			totals.established++;
			break;
		case KMTLS_FLOW_CLOSING:
			totals.closing++;
			break;
		}
	}
	*ret_totals = totals;
}

static int by_cookie(const void *a, const void *b)
{
	const struct kmtls_flow_count *left = a, *right = b;

	return (left->netns_cookie > right->netns_cookie) -
	       (left->netns_cookie < right->netns_cookie);
}

void kmtls_flow_table_count(const struct kmtls_flow_table *table, struct kmtls_flow_count *counts,
			    size_t number)
{
	struct kmtls_flow_count *found, wanted = { .flows = 0 };

	qsort(counts, number, sizeof(*counts), by_cookie);
	for (unsigned i = 0; number && i < *table->used; i++) {
		if (kmtls_flow_state(&table->slots[i]) == KMTLS_FLOW_FREE)
			continue;
		wanted.netns_cookie = table->slots[i].netns_cookie;
		found = bsearch(&wanted, counts, number, sizeof(*counts), by_cookie);
		if (found)
			found->flows++;
	}
}

unsigned kmtls_flow_count_of(const struct kmtls_flow_count *counts, size_t number,
			     __u64 netns_cookie)
{
	const struct kmtls_flow_count wanted = { .netns_cookie = netns_cookie };
	const struct kmtls_flow_count *found =
		bsearch(&wanted, counts, number, sizeof(*counts), by_cookie);

	return found ? found->flows : 0;
}
