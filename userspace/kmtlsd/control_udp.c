/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_udp.c - what `kmtls udp` shows, and its sum in `kmtls status`. Only reads. A pod's
 * totals are read before its entries: what is counted in between makes "forgotten" too small
 * for a moment, never too big.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "address.h"
#include "control_request.h"
#include "daemon.h"
#include "pods.h"
#include "udp_ledger.h"

struct row {
	const char *pod;
	struct kmtls_udp_key key;
	struct kmtls_udp_value value;
	bool forgotten; /* what the pod's totals have and its entries have not */
};

struct listing {
	struct kmtls_daemon *daemon;
	const char *only_pod; /* NULL: all */
	const struct kmtls_peer_key *only_peer; /* NULL: all */
	struct counted {
		char name[KMTLS_POD_NAME_MAX + 1];
		__u64 netns;
		struct kmtls_udp_value totals;
	} * pods;
	unsigned pod_count;
	struct row *rows;
	size_t row_count;
};

static void take_pod(void *context, const struct kmtls_pod_info *info)
{
	struct listing *listing = context;
	struct counted *pod = &listing->pods[listing->pod_count];

	if (listing->pod_count == KMTLS_PODS_MAX ||
	    (listing->only_pod && strcmp(listing->only_pod, info->name)) ||
	    kmtls_udp_ledger_totals(listing->daemon->bpf, info->netns_cookie, &pod->totals) < 0)
		return;
	snprintf(pod->name, sizeof(pod->name), "%s", info->name);
	pod->netns = info->netns_cookie;
	listing->pod_count++;
}

static int compare_pods(const void *a, const void *b)
{
	const struct counted *left = a, *right = b;

	return (left->netns > right->netns) - (left->netns < right->netns);
}

static bool is_within(const struct kmtls_address *address, const struct kmtls_peer_key *prefix)
{
	unsigned whole = prefix->prefix_len / 8, bits = prefix->prefix_len % 8;

	if (memcmp(address->bytes, prefix->address.bytes, whole))
		return false;
	return !bits || !((address->bytes[whole] ^ prefix->address.bytes[whole]) >> (8 - bits));
}

static void subtract(__u64 *from, __u64 what)
{
	*from -= what < *from ? what : *from;
}

/* Each entry to its pod; what is left of the totals was forgotten. */
static void take_entries(struct listing *listing, const struct kmtls_udp_ledger *ledger)
{
	for (size_t i = 0; i < ledger->count; i++) {
		const struct kmtls_udp_value *value = &ledger->values[i];
		const struct counted wanted = { .netns = ledger->keys[i].netns };
		struct counted *pod = bsearch(&wanted, listing->pods, listing->pod_count,
					      sizeof(wanted), compare_pods);

		if (!pod)
			continue;
		subtract(&pod->totals.sent_packets, value->sent_packets);
		subtract(&pod->totals.sent_bytes, value->sent_bytes);
		subtract(&pod->totals.received_packets, value->received_packets);
		subtract(&pod->totals.received_bytes, value->received_bytes);
		if (listing->only_peer &&
		    !is_within(&ledger->keys[i].remote.address, listing->only_peer))
			continue;
		listing->rows[listing->row_count++] =
			(struct row){ .pod = pod->name, .key = ledger->keys[i], .value = *value };
	}
	for (unsigned i = 0; i < listing->pod_count && !listing->only_peer; i++) {
		const struct counted *pod = &listing->pods[i];

		if (pod->totals.sent_packets || pod->totals.received_packets)
			listing->rows[listing->row_count++] = (struct row){ .pod = pod->name,
									    .value = pod->totals,
									    .forgotten = true };
	}
}

/* Most bytes first; then by name and key, so that a list without traffic stays as it is. */
static int compare_rows(const void *a, const void *b)
{
	const struct row *left = a, *right = b;
	__u64 left_bytes = left->value.sent_bytes + left->value.received_bytes;
	__u64 right_bytes = right->value.sent_bytes + right->value.received_bytes;
	int names;

	if (left_bytes != right_bytes)
		return left_bytes < right_bytes ? 1 : -1;
	names = strcmp(left->pod, right->pod);
	return names ? names : memcmp(&left->key, &right->key, sizeof(left->key));
}

/* Nanoseconds since boot to seconds since the epoch, as the clock is now. */
static json_int_t to_epoch(__u64 boot)
{
	struct timespec real, since_boot;

	if (!boot)
		return 0;
	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_BOOTTIME, &since_boot);
	return (json_int_t)(real.tv_sec - since_boot.tv_sec + (time_t)(boot / 1000000000));
}

static json_t *row_json(const struct row *row)
{
	char remote[KMTLS_ENDPOINT_TEXT] = "";

	if (!row->forgotten)
		kmtls_address_format(&row->key.remote.address, remote, sizeof(remote));
	return json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "pod", row->pod,
			 "protocol",
			 row->forgotten		    ? ""
			 : row->key.protocol == 136 ? "udplite"
						    : "udp",
			 "remote", remote, "port", (int)row->key.remote.port, "sent_packets",
			 (json_int_t)row->value.sent_packets, "sent_bytes",
			 (json_int_t)row->value.sent_bytes, "received_packets",
			 (json_int_t)row->value.received_packets, "received_bytes",
			 (json_int_t)row->value.received_bytes, "first",
			 row->forgotten ? 0 : to_epoch(row->value.first), "last",
			 row->forgotten ? 0 : to_epoch(row->value.last), "forgotten",
			 row->forgotten);
}

static void free_listing(struct listing *listing)
{
	free(listing->pods);
	free(listing->rows);
}

/* Fills the rest of listing, sorted. -ENOMEM, -ENOENT: no such pod, or what the kernel says. */
static int make_listing(struct listing *listing, struct kmtls_udp_ledger *ledger)
{
	int err;

	listing->pods = calloc(KMTLS_PODS_MAX, sizeof(*listing->pods));
	if (!listing->pods)
		return -ENOMEM;
	kmtls_pods_visit(listing->daemon->pods, take_pod, listing);
	if (listing->only_pod && !listing->pod_count)
		return -ENOENT;
	qsort(listing->pods, listing->pod_count, sizeof(*listing->pods), compare_pods);
	err = kmtls_udp_ledger_read(listing->daemon->bpf, ledger);
	if (err)
		return err;
	listing->rows = calloc(ledger->count + listing->pod_count + 1, sizeof(*listing->rows));
	if (!listing->rows)
		return -ENOMEM;
	take_entries(listing, ledger);
	qsort(listing->rows, listing->row_count, sizeof(*listing->rows), compare_rows);
	return 0;
}

int kmtls_control_udp(struct kmtls_daemon *daemon, const json_t *arguments,
		      struct kmtls_text *result, char *ret_why)
{
	const char *peer = json_string_value(json_object_get(arguments, "peer"));
	struct kmtls_udp_ledger ledger = { .count = 0 };
	struct listing listing = {
		.daemon = daemon,
		.only_pod = json_string_value(json_object_get(arguments, "pod")),
	};
	struct kmtls_peer_key prefix;
	int err;

	if (peer && kmtls_prefix_parse(peer, &prefix) < 0) {
		snprintf(ret_why, KMTLS_CONTROL_WHY, "udp: peer: %.64s: not ADDRESS or ADDRESS/LEN",
			 peer);
		return -EINVAL;
	}
	listing.only_peer = peer ? &prefix : NULL;
	err = make_listing(&listing, &ledger);
	if (err == -ENOENT)
		snprintf(ret_why, KMTLS_CONTROL_WHY, "pod %.150s: is not enrolled",
			 listing.only_pod);
	else if (err)
		snprintf(ret_why, KMTLS_CONTROL_WHY, "udp: the ledger cannot be read: %s",
			 strerror(-err));
	kmtls_text_append_string(result, "[");
	for (size_t i = 0; !err && i < listing.row_count; i++)
		err = kmtls_text_append_element(result, row_json(&listing.rows[i]));
	kmtls_text_append_string(result, "]");
	kmtls_udp_ledger_free(&ledger);
	free_listing(&listing);
	return result->err ? 0 : err; /* the caller looks at result->err */
}

json_t *kmtls_control_udp_totals(struct kmtls_daemon *daemon)
{
	struct kmtls_udp_ledger ledger = { .count = 0 };
	struct listing listing = { .daemon = daemon };
	struct kmtls_udp_value sum = { .first = 0 };
	__u64 forgotten = 0, entries = 0;
	int err = make_listing(&listing, &ledger);
	json_t *json;

	for (size_t i = 0; !err && i < listing.row_count; i++) {
		const struct kmtls_udp_value *value = &listing.rows[i].value;

		sum.sent_packets += value->sent_packets;
		sum.sent_bytes += value->sent_bytes;
		sum.received_packets += value->received_packets;
		sum.received_bytes += value->received_bytes;
		if (listing.rows[i].forgotten)
			forgotten += value->sent_packets + value->received_packets;
		else
			entries++;
	}
	json = err ? json_null()
		   : json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "sent_packets",
			       (json_int_t)sum.sent_packets, "sent_bytes",
			       (json_int_t)sum.sent_bytes, "received_packets",
			       (json_int_t)sum.received_packets, "received_bytes",
			       (json_int_t)sum.received_bytes, "entries", (json_int_t)entries,
			       "capacity", (json_int_t)ledger.capacity, "forgotten_packets",
			       (json_int_t)forgotten);
	kmtls_udp_ledger_free(&ledger);
	free_listing(&listing);
	return json;
}
