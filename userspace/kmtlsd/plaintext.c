/* SPDX-License-Identifier: Apache-2.0 */
/* plaintext.c - see plaintext.h. What is forbidden is decided as the backstop decides it. */
#include "plaintext.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "address.h"
#include "counters.h"
#include "daemon.h"
#include "handshake.h"
#include "kmtls/decision_rules.h"
#include "log.h"
#include "loop.h"
#include "netns.h"
#include "pod.h"
#include "pods_table.h"
#include "policy.h"
#include "reason.h"
#include "refusals.h"

struct search {
	struct kmtls_daemon *daemon;
	const struct kmtls_mode_change *change;
	struct kmtls_plaintext_list *list;
	__u64 own_cgroup;
	struct kmtls_pod *pod; /* at hand */
	unsigned char listening[65536 / 8]; /* its ports */
};

/* ---- is it forbidden? ---- */

/* Is that what the change speaks of? */
static bool is_meant(const struct search *search, const struct kmtls_plaintext *found)
{
	const struct kmtls_mode_key *key = &search->change->key;
	const struct kmtls_pod *pod = found->pod;

	if (key->direction && key->direction != found->direction)
		return false;
	switch (key->scope) {
	case KMTLS_SCOPE_NAMESPACE:
		return key->id == pod->namespace_hash;
	case KMTLS_SCOPE_POD:
		return key->id == pod->name_hash;
	case KMTLS_SCOPE_PORT:
		return (!key->id || key->id == pod->name_hash) &&
		       key->port == (found->direction == KMTLS_INBOUND ? found->socket.local.port
								       : found->socket.remote.port);
	default:
		return true;
	}
}

/* As the programs read it; what cannot be read covers nothing. */
static bool is_bypassed(struct kmtls_bpf *bpf, const struct kmtls_address *address, __u16 port)
{
	struct kmtls_peer_value peer;

	return kmtls_policy_peer_lookup(bpf, address, &peer) == 0 &&
	       kmtls_peer_read(&peer, port) == KMTLS_PEER_BYPASSED;
}

static bool may_be_plain(const struct search *search, const struct kmtls_plaintext *found,
			 enum kmtls_direction direction)
{
	struct kmtls_bpf *bpf = search->daemon->bpf;
	__u16 port =
		direction == KMTLS_INBOUND ? found->socket.local.port : found->socket.remote.port;

	return kmtls_modes_resolve_if(bpf, search->change, found->pod->name_hash,
				      found->pod->namespace_hash, direction, port,
				      NULL) != KMTLS_MODE_STRICT ||
	       is_bypassed(bpf, &found->socket.remote.address, port);
}

static int take_if_forbidden(struct search *search, const struct kmtls_plaintext *found)
{
	struct kmtls_plaintext_list *list = search->list;
	size_t size = list->size ? 2 * list->size : 64;
	struct kmtls_plaintext *grown;

	if (!is_meant(search, found) || may_be_plain(search, found, found->direction))
		return 0;
	/* Whoever listens there may also have connected from there. */
	if (found->direction == KMTLS_INBOUND && !found->relayed &&
	    may_be_plain(search, found, KMTLS_OUTBOUND))
		return 0;
	if (list->count == list->size) {
		grown = reallocarray(list->list, size, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		list->list = grown;
		list->size = size;
	}
	list->list[list->count] = *found;
	list->list[list->count++].pod = kmtls_pod_get(found->pod);
	return 0;
}

/* ---- connections of the pods' own ---- */

static bool is_loopback(const struct kmtls_address *address)
{
	static const __u8 one[16] = { [15] = 1 };

	return kmtls_address_is_v4(address) ? address->bytes[12] == 127
					    : !memcmp(address->bytes, one, sizeof(one));
}

static bool is_inside(const struct kmtls_pod *pod, const struct kmtls_address *address)
{
	if (is_loopback(address))
		return true;
	for (unsigned i = 0; i < pod->addresses.count; i++)
		if (!memcmp(&pod->addresses.all[i], address, sizeof(*address)))
			return true;
	return false;
}

/* The daemon's on the wire: made in its cgroup, or in that of one it took them over from. */
static bool is_ours(const struct search *search, const struct kmtls_diag_socket *socket)
{
	const struct kmtls_flow_table *table = search->daemon->flows;

	if (socket->cgroup == search->own_cgroup)
		return true;
	for (unsigned slot = 0; slot < *table->used; slot++)
		if (table->slots[slot].wire_cookie == socket->cookie &&
		    kmtls_flow_state(&table->slots[slot]) != KMTLS_FLOW_FREE)
			return true;
	return false;
}

static int see_listener(void *context, const struct kmtls_endpoint *local, unsigned device)
{
	struct search *search = context;

	search->listening[local->port / 8] |= 1 << local->port % 8;
	return 0;
}

static int see_socket(void *context, const struct kmtls_diag_socket *socket)
{
	struct search *search = context;
	struct kmtls_plaintext found = { .pod = search->pod, .socket = *socket };

	if (is_inside(search->pod, &socket->remote.address) || is_ours(search, socket))
		return 0;
	found.direction = search->listening[socket->local.port / 8] >> socket->local.port % 8 & 1
				  ? KMTLS_INBOUND
				  : KMTLS_OUTBOUND;
	return take_if_forbidden(search, &found);
}

static int look_into(void *context, struct kmtls_pod *pod)
{
	struct search *search = context;
	int err = kmtls_netns_enter(pod->netns_fd, pod->netns_cookie);

	search->pod = pod;
	memset(search->listening, 0, sizeof(search->listening));
	if (!err)
		err = kmtls_diag_listeners(see_listener, search);
	if (!err)
		err = kmtls_diag_connected(see_socket, search);
	kmtls_netns_leave();
	if (err && err != -ENOMEM)
		log_warning("connections not looked at", "pod=%s err=%s",
			    kmtls_log_quote(pod->name), kmtls_log_quote(strerror(-err)));
	return err == -ENOMEM ? err : 0;
}

/* ---- connections that the daemon relays ---- */

/* Without a cipher it was never encrypted. */
static bool is_plain(const struct kmtls_flow *flow)
{
	return kmtls_flow_state(flow) == KMTLS_FLOW_ESTABLISHED && !flow->cipher &&
	       flow->role == KMTLS_ROLE_SERVER;
}

static int look_at_slot(struct search *search, unsigned slot)
{
	const struct kmtls_flow *flow = &search->daemon->flows->slots[slot];
	struct kmtls_plaintext found = {
		.direction = KMTLS_INBOUND,
		.relayed = true,
		.slot = slot,
		.generation = flow->generation,
		.socket = { .local = flow->self, .remote = flow->peer },
	};
	int err;

	if (!is_plain(flow))
		return 0;
	found.pod = kmtls_pods_find(search->daemon->pods, flow->netns_cookie);
	if (!found.pod)
		return 0;
	err = take_if_forbidden(search, &found);
	kmtls_pod_put(found.pod);
	return err;
}

/* ---- all of them ---- */

int kmtls_plaintext_find(struct kmtls_daemon *daemon, const struct kmtls_mode_change *change,
			 struct kmtls_plaintext_list *ret_list)
{
	struct search *search = calloc(1, sizeof(*search));
	struct stat status;
	int err = 0;

	memset(ret_list, 0, sizeof(*ret_list));
	if (!search)
		return -ENOMEM;
	search->daemon = daemon;
	search->change = change;
	search->list = ret_list;
	if (fstat(daemon->cgroup_fd, &status) == 0)
		search->own_cgroup = status.st_ino;
	for (unsigned slot = 0; !err && slot < *daemon->flows->used; slot++)
		err = look_at_slot(search, slot);
	if (!err)
		err = kmtls_pods_each(daemon->pods, look_into, search);
	free(search);
	if (err)
		kmtls_plaintext_free(ret_list);
	return err;
}

static void tell(const struct kmtls_plaintext *found)
{
	char local[KMTLS_ENDPOINT_TEXT], remote[KMTLS_ENDPOINT_TEXT];

	if (!kmtls_refusals_worth_a_line(KMTLS_REASON_FORBIDDEN))
		return;
	log_warning("connection reset", "pod=%s direction=%s self=%s peer=%s reason=%s text=%s",
		    kmtls_log_quote(found->pod->name),
		    found->direction == KMTLS_INBOUND ? "inbound" : "outbound",
		    kmtls_endpoint_format(&found->socket.local, local, sizeof(local)),
		    kmtls_endpoint_format(&found->socket.remote, remote, sizeof(remote)),
		    kmtls_reason_name(KMTLS_REASON_FORBIDDEN),
		    kmtls_log_quote(kmtls_reason_text(KMTLS_REASON_FORBIDDEN)));
}

static int end_socket(const struct kmtls_plaintext *found)
{
	int err = kmtls_netns_enter(found->pod->netns_fd, found->pod->netns_cookie);

	if (!err)
		err = kmtls_diag_destroy(&found->socket);
	kmtls_netns_leave();
	if (!err) {
		kmtls_counters_add(KMTLS_REASON_FORBIDDEN);
		tell(found);
	} else if (err != -ENOENT) {
		log_warning("connection not reset", "pod=%s err=%s",
			    kmtls_log_quote(found->pod->name), kmtls_log_quote(strerror(-err)));
	}
	return err;
}

/* Its loop does it, which counts it and tells of it. */
static void end_relay(struct kmtls_daemon *daemon, const struct kmtls_plaintext *found)
{
	struct kmtls_loop_message message = {
		.type = KMTLS_MESSAGE_FORBIDDEN,
		.slot = found->slot,
		.generation = found->generation,
		.fd = -1,
	};
	unsigned loop =
		__atomic_load_n(&daemon->flows->private[found->slot].loop, __ATOMIC_RELAXED);

	kmtls_loop_post(&daemon->loops->loops[loop], &message);
}

size_t kmtls_plaintext_end(struct kmtls_daemon *daemon, const struct kmtls_plaintext_list *list)
{
	size_t ended = 0;

	for (size_t i = 0; i < list->count; i++) {
		if (list->list[i].relayed)
			end_relay(daemon, &list->list[i]);
		else if (end_socket(&list->list[i]) < 0)
			continue;
		ended++;
	}
	return ended;
}

void kmtls_plaintext_free(struct kmtls_plaintext_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		kmtls_pod_put(list->list[i].pod);
	free(list->list);
	memset(list, 0, sizeof(*list));
}
