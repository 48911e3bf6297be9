/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_top.c - what `kmtls top` asks for every few seconds: of each established flow how many
 * bytes it has moved so far, and between whom. As little text as can be, because there may be many
 * flows; rates are for the client to make of two answers, so nothing is kept here.
 *
 *   {"pairs":[{"pod":..,"peer":..},..], "flows":[[slot,generation,pair,acked,received],..]}
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control_request.h"
#include "daemon.h"
#include "flow_table.h"
#include "pods.h"
#include "policy.h"

struct pair {
	__u64 netns, peer;
	unsigned number; /* in the answer */
};

struct names {
	struct {
		__u64 netns;
		char name[KMTLS_POD_NAME_MAX + 1];
	} * pods;
	unsigned count;
};

struct top {
	struct kmtls_daemon *daemon;
	struct kmtls_text *result;
	struct pair *pairs; /* sorted as compare() has it */
	unsigned count, room;
	__u64 only; /* cookie of a pod's namespace; 0: all */
};

static void take_pod(void *context, const struct kmtls_pod_info *info)
{
	struct names *names = context;

	if (names->count == KMTLS_PODS_MAX)
		return;
	names->pods[names->count].netns = info->netns_cookie;
	strncpy(names->pods[names->count].name, info->name, KMTLS_POD_NAME_MAX);
	names->count++;
}

static const char *name_of(const struct names *names, __u64 netns)
{
	for (unsigned i = 0; i < names->count; i++) {
		if (names->pods[i].netns == netns)
			return names->pods[i].name;
	}
	return "";
}

static int compare(const struct pair *a, const struct pair *b)
{
	if (a->netns != b->netns)
		return a->netns < b->netns ? -1 : 1;
	return (a->peer > b->peer) - (a->peer < b->peer);
}

/* The number of the pair, which is made if it is new; -ENOMEM. */
static int find_pair(struct top *top, __u64 netns, __u64 peer)
{
	const struct pair wanted = { .netns = netns, .peer = peer, .number = top->count };
	unsigned low = 0, high = top->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		int order = compare(&top->pairs[middle], &wanted);

		if (!order)
			return (int)top->pairs[middle].number;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (top->count == top->room) {
		unsigned room = top->room ? 2 * top->room : 64;
		struct pair *pairs = reallocarray(top->pairs, room, sizeof(*pairs));

		if (!pairs)
			return -ENOMEM;
		top->pairs = pairs;
		top->room = room;
	}
	memmove(&top->pairs[low + 1], &top->pairs[low], (top->count - low) * sizeof(wanted));
	top->pairs[low] = wanted;
	return (int)top->count++;
}

static int put_flows(struct top *top)
{
	struct kmtls_flow_table *table = top->daemon->flows;
	__u64 acked, received;
	struct kmtls_flow flow;
	int pair = 0;

	for (unsigned slot = 0; pair >= 0 && !top->result->err && slot < *table->used; slot++) {
		if (!kmtls_flow_table_snapshot(table, slot, &flow) ||
		    (top->only && flow.netns_cookie != top->only) ||
		    !kmtls_flow_bytes(&flow, &acked, &received))
			continue;
		pair = find_pair(top, flow.netns_cookie, flow.peer_identity);
		kmtls_text_append_element(top->result,
					  json_pack("[I, I, i, I, I]", (json_int_t)slot,
						    (json_int_t)flow.generation, pair,
						    (json_int_t)acked, (json_int_t)received));
	}
	return pair < 0 ? pair : 0;
}

static int by_number(const void *a, const void *b)
{
	const struct pair *left = a, *right = b;

	return left->number < right->number ? -1 : 1;
}

static void put_pairs(struct top *top, const struct names *names)
{
	char peer[KMTLS_SPIFFE_ID_MAX + 1];

	if (top->count)
		qsort(top->pairs, top->count, sizeof(*top->pairs), by_number);
	for (unsigned i = 0; i < top->count; i++) {
		if (kmtls_policy_name_get(top->daemon->bpf, top->pairs[i].peer, peer) < 0)
			peer[0] = '\0';
		kmtls_text_append_element(
			top->result,
			json_pack("{s:o, s:o}", "pod",
				  kmtls_json_string(name_of(names, top->pairs[i].netns)), "peer",
				  kmtls_json_string(peer)));
	}
}

int kmtls_control_top(struct kmtls_daemon *daemon, const json_t *arguments,
		      struct kmtls_text *result, char *ret_why)
{
	struct top top = { .daemon = daemon, .result = result };
	struct names names = { .count = 0 };
	const char *pod = json_string_value(json_object_get(arguments, "pod"));
	int err = pod ? kmtls_control_find_pod(daemon, pod, &top.only, ret_why) : 0;

	if (err)
		return err;
	names.pods = calloc(KMTLS_PODS_MAX, sizeof(*names.pods));
	if (!names.pods)
		return -ENOMEM;
	kmtls_pods_visit(daemon->pods, take_pod, &names);
	kmtls_text_append_string(result, "{\"flows\":[");
	err = put_flows(&top);
	kmtls_text_append_string(result, "],\"pairs\":[");
	put_pairs(&top, &names);
	kmtls_text_append_string(result, "]}");
	free(top.pairs);
	free(names.pods);
	return result->err ? 0 : err; /* the caller looks at result->err */
}
