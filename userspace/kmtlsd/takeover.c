/* SPDX-License-Identifier: Apache-2.0 */
/* takeover.c - see takeover.h. The order of stores it relies on is in relay.c and handshake_tls.c. */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bpf_loader.h"
#include "counters.h"
#include "daemon.h"
#include "flow_table.h"
#include "log.h"
#include "loop.h"
#include "pod.h"
#include "reason.h"
#include "refusals.h"
#include "rekey.h"
#include "shared.h"
#include "takeover.h"

struct kmtls_takeover {
	struct kmtls_daemon *daemon;
	struct kmtls_descriptor_set left; /* open, and nobody's yet */
	struct list {
		int *fds;
		size_t count, room;
	} legs, /* accepted from applications, not in a slot */
		wires; /* to pods, nothing was taken from them, not in a slot any more */
	unsigned flows, confirmed, cut, closed;
};

/* ---- descriptors ---- */

static bool is_socket(int fd, __u64 cookie)
{
	socklen_t length = sizeof(cookie);
	__u64 found;

	return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_COOKIE, &found, &length) == 0 &&
	       found == cookie;
}

/* A TCP connection is reset, never ended: nobody knows how far it was. */
static void close_reset(int fd)
{
	struct linger reset_on_close = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset_on_close, sizeof(reset_on_close));
	close(fd);
}

/* Closes a socket that a slot names, if it is still that one. */
static void drop_socket(struct kmtls_takeover *takeover, int fd, __u64 cookie, bool reset)
{
	if (!is_socket(fd, cookie))
		return;
	kmtls_descriptor_set_remove(&takeover->left, fd);
	if (reset)
		close_reset(fd);
	else
		close(fd);
}

static void keep_pipe(struct kmtls_takeover *takeover, const struct kmtls_flow_direction *direction)
{
	if (direction->pipe_read < 0)
		return;
	kmtls_descriptor_set_remove(&takeover->left, direction->pipe_read);
	kmtls_descriptor_set_remove(&takeover->left, direction->pipe_write);
}

static void drop_pipe(struct kmtls_takeover *takeover, struct kmtls_flow_direction *direction)
{
	int read_fd = direction->pipe_read, write_fd = direction->pipe_write;

	if (read_fd < 0)
		return;
	keep_pipe(takeover, direction);
	direction->pipe_read = direction->pipe_write = -1;
	close(read_fd);
	close(write_fd);
}

/* ---- slots ---- */

/* It was being closed, and how had been decided: SO_LINGER says it. */
static void finish_closing(struct kmtls_takeover *takeover, struct kmtls_flow *flow, bool reset)
{
	if (kmtls_flow_state(flow) != KMTLS_FLOW_CLOSING)
		kmtls_flow_set_state(flow, KMTLS_FLOW_CLOSING);
	drop_pipe(takeover, &flow->to_wire);
	drop_pipe(takeover, &flow->to_local);
	drop_socket(takeover, flow->local_fd, flow->local_cookie, reset);
	drop_socket(takeover, flow->wire_fd, flow->wire_cookie, reset);
	kmtls_rekey_end(takeover->daemon->rekey, flow - takeover->daemon->flows->slots);
	kmtls_flow_set_state(flow, KMTLS_FLOW_FREE);
}

static void report_cut(unsigned slot, const struct kmtls_flow *flow)
{
	kmtls_counters_add(KMTLS_REASON_INTERRUPTED);
	if (!kmtls_refusals_worth_a_line(KMTLS_REASON_INTERRUPTED))
		return;
	log_warning("connection refused", "flow=%u.%u direction=%s reason=%s text=%s", slot,
		    flow->generation, flow->role == KMTLS_ROLE_CLIENT ? "outbound" : "inbound",
		    kmtls_reason_name(KMTLS_REASON_INTERRUPTED),
		    kmtls_log_quote(kmtls_reason_text(KMTLS_REASON_INTERRUPTED)));
}

/*
 * The secrets died with the worker. A client's application has sent nothing yet that is not still
 * in its socket: its SYN is held and will be repeated, or its connection is tried once more (it
 * stays among those that are left). A server's has been told nothing.
 */
static void cut_handshake(struct kmtls_takeover *takeover, unsigned slot, struct kmtls_flow *flow)
{
	takeover->cut++;
	report_cut(slot, flow);
	if (flow->role == KMTLS_ROLE_CLIENT)
		flow->local_fd = -1;
	finish_closing(takeover, flow, true);
}

static void keep(struct list *list, int fd)
{
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 64;
		int *fds = realloc(list->fds, room * sizeof(*fds));

		if (!fds) {
			close_reset(fd);
			return;
		}
		list->fds = fds;
		list->room = room;
	}
	list->fds[list->count++] = fd;
}

/* What the client has sent is all in its socket still: it is as if it had just been accepted. An
 * application that was being connected to sees a connection that is reset, and another one. */
static bool begin_anew(struct kmtls_takeover *takeover, struct kmtls_flow *flow)
{
	int fd = flow->wire_fd;

	if (!flow->untaken || !is_socket(fd, flow->wire_cookie))
		return false;
	kmtls_descriptor_set_remove(&takeover->left, fd);
	flow->wire_fd = -1;
	finish_closing(takeover, flow, true);
	keep(&takeover->wires, fd);
	return true;
}

/* Keys in the kernel, the application's connection not here yet. false: the wire is gone. */
static bool keep_confirmed(struct kmtls_takeover *takeover, struct kmtls_flow *flow)
{
	if (!is_socket(flow->wire_fd, flow->wire_cookie))
		return false;
	kmtls_descriptor_set_remove(&takeover->left, flow->wire_fd);
	if (flow->local_fd >= 0)
		kmtls_descriptor_set_remove(&takeover->left, flow->local_fd);
	takeover->confirmed++;
	return true;
}

static bool is_pipe(const struct kmtls_flow_direction *direction)
{
	return direction->pipe_read < 0 || (fcntl(direction->pipe_read, F_GETPIPE_SZ) > 0 &&
					    fcntl(direction->pipe_write, F_GETPIPE_SZ) > 0);
}

static bool keep_flow(struct kmtls_takeover *takeover, struct kmtls_flow *flow)
{
	if (!is_pipe(&flow->to_wire) || !is_pipe(&flow->to_local))
		return false;
	if (!is_socket(flow->local_fd, flow->local_cookie) ||
	    !is_socket(flow->wire_fd, flow->wire_cookie))
		return false;
	kmtls_descriptor_set_remove(&takeover->left, flow->local_fd);
	kmtls_descriptor_set_remove(&takeover->left, flow->wire_fd);
	keep_pipe(takeover, &flow->to_wire);
	keep_pipe(takeover, &flow->to_local);
	if (flow->in_hand && !flow->reset_reason)
		flow->reset_reason = KMTLS_REASON_ACCEL_CUT;
	takeover->flows++;
	return true;
}

static void look_at_slot(struct kmtls_takeover *takeover, unsigned slot)
{
	struct kmtls_flow *flow = &takeover->daemon->flows->slots[slot];
	bool kept = true;

	switch (kmtls_flow_state(flow)) {
	case KMTLS_FLOW_FREE:
		break;
	case KMTLS_FLOW_HANDSHAKE:
		if (!begin_anew(takeover, flow))
			cut_handshake(takeover, slot, flow);
		break;
	case KMTLS_FLOW_CONFIRMED:
		kept = keep_confirmed(takeover, flow);
		break;
	case KMTLS_FLOW_ESTABLISHED:
		kept = keep_flow(takeover, flow);
		break;
	default:
		finish_closing(takeover, flow, false);
	}
	if (!kept) {
		/* Cannot be, as long as nobody else closes our descriptors. */
		log_error("flow lost", "flow=%u.%u local_fd=%d wire_fd=%d", slot, flow->generation,
			  flow->local_fd, flow->wire_fd);
		finish_closing(takeover, flow, true);
	}
}

/* ---- what is in no slot ---- */

static void keep_pods(struct kmtls_takeover *takeover)
{
	struct kmtls_shared *shared = takeover->daemon->shared;

	for (unsigned i = 0; i < KMTLS_PODS_MAX; i++) {
		const struct kmtls_shared_pod *pod = &shared->pods[i];

		if (!pod->name)
			continue;
		kmtls_descriptor_set_remove(&takeover->left, pod->netns_fd);
		kmtls_descriptor_set_remove(&takeover->left, pod->cgroup_fd);
		kmtls_descriptor_set_remove(&takeover->left, pod->raw4);
		kmtls_descriptor_set_remove(&takeover->left, pod->raw6);
		for (unsigned a = 0; a < KMTLS_ACCEPTOR_COUNT; a++)
			kmtls_descriptor_set_remove(&takeover->left, pod->listeners[a]);
	}
}

/* An application's connection to us, accepted and not recorded, or its handshake cut. */
static bool is_leg(struct kmtls_takeover *takeover, int fd)
{
	int sockets = kmtls_bpf_map(takeover->daemon->bpf, KMTLS_MAP_SOCKETS);
	socklen_t length = sizeof(int);
	struct kmtls_socket turned;
	int accepts = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &length) == 0 && !accepts &&
	       bpf_map_lookup_elem(sockets, &fd, &turned) == 0 &&
	       turned.kind == KMTLS_SOCKET_TURNED;
}

/* Epolls, idle pipes, control clients, connections of unfinished business. */
static int sort_out(void *context, int fd)
{
	struct kmtls_takeover *takeover = context;

	if (!kmtls_descriptor_set_has(&takeover->left, fd))
		return 0;
	if (is_leg(takeover, fd)) {
		keep(&takeover->legs, fd);
		return 0;
	}
	close_reset(fd);
	takeover->closed++;
	return 0;
}

/* ---- the steps ---- */

static int remove_core(void *context, int fd)
{
	struct kmtls_takeover *takeover = context;

	if (kmtls_descriptor_set_has(&takeover->daemon->core, fd))
		kmtls_descriptor_set_remove(&takeover->left, fd);
	return 0;
}

int kmtls_takeover_open(struct kmtls_daemon *daemon, struct kmtls_takeover **ret_takeover,
			char *ret_why)
{
	struct kmtls_takeover *takeover = calloc(1, sizeof(*takeover));
	int err = -ENOMEM;

	if (takeover) {
		takeover->daemon = daemon;
		err = kmtls_descriptor_set_fill(&takeover->left);
	}
	if (!err)
		err = kmtls_descriptors_visit(remove_core, takeover);
	if (err) {
		snprintf(ret_why, KMTLS_WHY, "descriptors cannot be listed: %s", strerror(-err));
		return err;
	}
	*ret_takeover = takeover;
	return 0;
}

void kmtls_takeover_begin(struct kmtls_takeover *takeover)
{
	struct kmtls_daemon *daemon = takeover->daemon;
	struct kmtls_shared *shared = daemon->shared;

	if (daemon->inherited) {
		for (unsigned slot = 0; slot < shared->slots_used; slot++)
			look_at_slot(takeover, slot);
		keep_pods(takeover);
		kmtls_descriptor_set_remove(&takeover->left, shared->control_fd);
		kmtls_descriptor_set_remove(&takeover->left, shared->metrics_fd - 1);
		kmtls_descriptors_visit(sort_out, takeover);
		log_info("taking over",
			 "flows=%u confirmed=%u handshakes_cut=%u legs=%zu wires=%zu closed=%u",
			 takeover->flows, takeover->confirmed, takeover->cut, takeover->legs.count,
			 takeover->wires.count, takeover->closed);
	}
	kmtls_flow_table_adopt(daemon->flows, &shared->slots_used);
}

/* The slot that waits for the connection of this socket of an application's, or -1. */
static int find_confirmed(struct kmtls_daemon *daemon, __u64 cookie)
{
	for (unsigned slot = 0; slot < daemon->shared->slots_used; slot++) {
		const struct kmtls_flow *flow = &daemon->flows->slots[slot];

		if (kmtls_flow_state(flow) == KMTLS_FLOW_CONFIRMED && flow->local_fd < 0 &&
		    flow->local_cookie == cookie)
			return slot;
	}
	return -1;
}

static void post(struct kmtls_daemon *daemon, enum kmtls_message type, int slot, int fd)
{
	struct kmtls_loop_message message = { .type = type, .fd = fd };
	unsigned loop = 0;

	if (slot >= 0) {
		message.slot = slot;
		message.generation = daemon->flows->slots[slot].generation;
		loop = daemon->flows->private[slot].loop;
	}
	kmtls_loop_post(&daemon->loops->loops[loop], &message);
}

static void give_leg(struct kmtls_daemon *daemon, int fd)
{
	struct kmtls_socket turned = {};
	int slot;

	bpf_map_lookup_elem(kmtls_bpf_map(daemon->bpf, KMTLS_MAP_SOCKETS), &fd, &turned);
	slot = find_confirmed(daemon, turned.cookie);
	post(daemon, slot < 0 ? KMTLS_MESSAGE_LEG : KMTLS_MESSAGE_ACCEPTED, slot, fd);
}

/* Of pods that could not be enrolled again: a listener nobody serves would let connects hang. */
static void close_forgotten_pods(struct kmtls_daemon *daemon)
{
	for (unsigned i = 0; i < KMTLS_PODS_MAX; i++) {
		struct kmtls_shared_pod *entry = &daemon->shared->pods[i];
		struct kmtls_pod *pod;

		if (!entry->name)
			continue;
		pod = kmtls_pods_find(daemon->pods, entry->netns_cookie);
		if (!pod)
			kmtls_shared_pod_close(daemon->shared, entry);
		kmtls_pod_put(pod);
	}
}

void kmtls_takeover_finish(struct kmtls_takeover *takeover)
{
	struct kmtls_daemon *daemon = takeover->daemon;

	if (!daemon->inherited)
		return;
	close_forgotten_pods(daemon);
	for (unsigned slot = 0; slot < daemon->shared->slots_used; slot++)
		if (kmtls_flow_state(&daemon->flows->slots[slot]) == KMTLS_FLOW_CONFIRMED)
			post(daemon, KMTLS_MESSAGE_RESUME, slot, -1);
	for (size_t i = 0; i < takeover->legs.count; i++)
		give_leg(daemon, takeover->legs.fds[i]);
	for (size_t i = 0; i < takeover->wires.count; i++)
		post(daemon, KMTLS_MESSAGE_WIRE, -1, takeover->wires.fds[i]);
	/* Whoever is accepted from here on finds the handshake that waits for it. */
	kmtls_loops_sync(daemon->loops);
}

void kmtls_takeover_close(struct kmtls_takeover *takeover)
{
	kmtls_descriptor_set_free(&takeover->left);
	free(takeover->legs.fds);
	free(takeover->wires.fds);
	free(takeover);
}
