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
};

struct name {
	__u64 netns;
	char name[KMTLS_POD_NAME_MAX + 1];
};

struct names {
	struct name *pods; /* sorted */
	unsigned count;
};

struct top {
	struct kmtls_daemon *daemon;
	struct kmtls_text *result;
	struct pair *pairs; /* as they are in the answer */
	unsigned count, room; /* room: a power of two */
	unsigned *
		index; /* of 2 * room: number of a pair + 1, where its hash is or after that; 0: free */
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

static int by_netns(const void *a, const void *b)
{
	const struct name *left = a, *right = b;

	return (left->netns > right->netns) - (left->netns < right->netns);
}

static const char *name_of(const struct names *names, __u64 netns)
{
	const struct name wanted = { .netns = netns };
	const struct name *found =
		bsearch(&wanted, names->pods, names->count, sizeof(wanted), by_netns);

	return found ? found->name : "";
}

/* Where the pair is in the index, or belongs. */
static unsigned *place_of(const struct top *top, const struct pair *wanted)
{
	__u64 hash = (wanted->netns ^ wanted->peer) * 0x9e3779b97f4a7c15ull;
	unsigned mask = 2 * top->room - 1, at = (unsigned)(hash >> 32) & mask;

	while (top->index[at]) {
		const struct pair *there = &top->pairs[top->index[at] - 1];

		if (there->netns == wanted->netns && there->peer == wanted->peer)
			break;
		at = (at + 1) & mask;
	}
	return &top->index[at];
}

static int make_room(struct top *top)
{
	unsigned room = top->room ? 2 * top->room : 64;
	struct pair *pairs = reallocarray(top->pairs, room, sizeof(*pairs));
	unsigned *index = calloc(room, 2 * sizeof(*index));

	if (pairs)
		top->pairs = pairs;
	if (!pairs || !index) {
		free(index);
		return -ENOMEM;
	}
	free(top->index);
	top->index = index;
	top->room = room;
	for (unsigned i = 0; i < top->count; i++)
		*place_of(top, &pairs[i]) = i + 1;
	return 0;
}

/* The number of the pair, which is made if it is new; -ENOMEM. */
static int find_pair(struct top *top, __u64 netns, __u64 peer)
{
	const struct pair wanted = { .netns = netns, .peer = peer };
	unsigned *place;

	if (top->count == top->room && make_room(top) < 0)
		return -ENOMEM;
	place = place_of(top, &wanted);
	if (!*place) {
		top->pairs[top->count] = wanted;
		*place = ++top->count;
	}
	return (int)(*place - 1);
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

static void put_pairs(struct top *top, const struct names *names)
{
	char peer[KMTLS_SPIFFE_ID_MAX + 1];

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
	qsort(names.pods, names.count, sizeof(*names.pods), by_netns);
	kmtls_text_append_string(result, "{\"flows\":[");
	err = put_flows(&top);
	kmtls_text_append_string(result, "],\"pairs\":[");
	put_pairs(&top, &names);
	kmtls_text_append_string(result, "]}");
	free(top.pairs);
	free(top.index);
	free(names.pods);
	return result->err ? 0 : err; /* the caller looks at result->err */
}
