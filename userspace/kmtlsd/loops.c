/* SPDX-License-Identifier: Apache-2.0 */
/* loops.c - starts and stops the event loops, and tells them about pods. See loop.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "hold.h"
#include "loop.h"
#include "pods.h"
#include "rekey.h"
#include "relay.h"
#include "shared.h"

/* The cookie of no namespace. */
#define NOBODY (~0ull)

static void loop_close(struct kmtls_loop *loop)
{
	kmtls_pipes_close(&loop->pipes);
	if (loop->spare_fd >= 0)
		close(loop->spare_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	kmtls_loop_drop_messages(loop);
	free(loop->again);
	free(loop->pauses);
}

static int loop_open(struct kmtls_loop *loop, struct kmtls_daemon *daemon, unsigned number)
{
	struct epoll_event wake = { .events = EPOLLIN,
				    .data.u64 = kmtls_loop_tag(KMTLS_TAG_WAKE, 0, 0) };

	loop->daemon = daemon;
	loop->number = number;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->done, NULL);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	/* Twice: flows may come back on the list while it is being served. */
	loop->again = calloc(2 * daemon->flows->capacity, sizeof(*loop->again));
	loop->answers = calloc(KMTLS_ANSWERS, sizeof(*loop->answers));
	loop->pauses = calloc(KMTLS_PAUSES, sizeof(*loop->pauses));
	if (!loop->answers || !loop->pauses || loop->epoll_fd < 0 || loop->wake_fd < 0 ||
	    loop->spare_fd < 0 || !loop->again)
		return -ENOMEM;
	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &wake) < 0 ? -errno : 0;
}

/* A flow that a worker before this one established: what is not in the slot is asked of the
 * kernel, and the edges that worker took along are made good by trying everything once. */
static void adopt_flow(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	enum kmtls_reason reason = flow->reset_reason;

	for (int way = KMTLS_TO_WIRE; way <= KMTLS_TO_LOCAL; way++) {
		int pipe_fd = kmtls_flow_way(flow, way)->pipe_read, queued = 0;

		if (pipe_fd >= 0 && ioctl(pipe_fd, FIONREAD, &queued) < 0)
			reason = KMTLS_REASON_RELAY_FAILED;
		loop->daemon->flows->private[slot].queued[way] = queued;
	}
	private->source_ended[KMTLS_TO_LOCAL] = flow->to_local.source_closed;
	private->error = true;
	if (!reason && !kmtls_flow_is_plain(flow))
		reason = kmtls_rekey_adopt(loop, slot);
	if (!reason && (kmtls_loop_watch(loop, KMTLS_TAG_LOCAL, slot, flow->local_fd) < 0 ||
			kmtls_loop_watch(loop, KMTLS_TAG_WIRE, slot, flow->wire_fd) < 0))
		reason = KMTLS_REASON_NO_RESOURCES;
	if (reason)
		kmtls_relay_reset(loop, slot, reason);
	else
		kmtls_loop_again(loop, slot);
}

/* Beginning somewhere else each time: where workers do not live long, the last are not always the
 * same. */
static void adopt_flows(struct kmtls_loops *loops, struct kmtls_daemon *daemon)
{
	unsigned used = daemon->shared->slots_used;
	unsigned first = used ? daemon->shared->starts * 7919u % used : 0;

	for (unsigned i = 0; i < used; i++) {
		unsigned slot = (first + i) % used;
		__u32 state = kmtls_flow_state(&daemon->flows->slots[slot]);

		daemon->flows->private[slot].loop = slot % loops->count;
		if (state == KMTLS_FLOW_ESTABLISHED)
			adopt_flow(&loops->loops[slot % loops->count], slot);
	}
}

int kmtls_loops_open(struct kmtls_daemon *daemon, unsigned count, struct kmtls_loops **ret_loops,
		     char *ret_why)
{
	struct kmtls_loops *loops = calloc(1, sizeof(*loops) + count * sizeof(loops->loops[0]));
	int err = 0;

	snprintf(ret_why, KMTLS_WHY, "%u event loops cannot be made", count);
	if (!loops)
		return -ENOMEM;
	loops->count = count;
	for (unsigned i = 0; i < count; i++)
		loops->loops[i].epoll_fd = loops->loops[i].wake_fd = loops->loops[i].spare_fd = -1;
	daemon->loops = loops; /* loops know each other's number through it */
	for (unsigned i = 0; !err && i < count; i++)
		err = loop_open(&loops->loops[i], daemon, i);
	if (!err)
		adopt_flows(loops, daemon);
	for (unsigned i = 0; !err && i < count; i++) {
		err = -pthread_create(&loops->loops[i].thread, NULL, kmtls_loop_run,
				      &loops->loops[i]);
		loops->loops[i].running = !err;
	}
	if (err) {
		kmtls_loops_close(loops);
		daemon->loops = NULL;
		return err;
	}
	*ret_loops = loops;
	return 0;
}

void kmtls_loops_close(struct kmtls_loops *loops)
{
	if (!loops)
		return;
	for (unsigned i = 0; i < loops->count; i++) {
		struct kmtls_loop *loop = &loops->loops[i];

		if (!loop->running)
			continue;
		pthread_mutex_lock(&loop->lock);
		loop->stop = true;
		pthread_mutex_unlock(&loop->lock);
		kmtls_loop_wake(loop);
		pthread_join(loop->thread, NULL);
	}
	for (unsigned i = 0; i < loops->count; i++)
		loop_close(&loops->loops[i]);
	free(loops);
}

int kmtls_loop_watch_listener(struct kmtls_loop *loop, const struct kmtls_pod *pod,
			      unsigned acceptor)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLEXCLUSIVE,
		.data.u64 = kmtls_loop_tag(KMTLS_TAG_LISTENER,
					   pod->index * KMTLS_ACCEPTOR_COUNT + acceptor,
					   pod->generation),
	};

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, pod->listeners[acceptor], &event) < 0 &&
	    errno != EEXIST)
		return -errno;
	return 0;
}

static int watch_held(struct kmtls_loops *loops, int fd)
{
	for (unsigned i = 0; i < loops->count; i++) {
		struct epoll_event held = {
			.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE,
			.data.u64 = kmtls_loop_tag(KMTLS_TAG_HOLD, 0, 0),
		};

		if (epoll_ctl(loops->loops[i].epoll_fd, EPOLL_CTL_ADD, fd, &held) < 0)
			return -errno;
	}
	return 0;
}

static int add_pod(void *context, struct kmtls_pod *pod)
{
	return kmtls_loops_add_pod(context, pod);
}

int kmtls_loops_admit(struct kmtls_loops *loops, struct kmtls_daemon *daemon, char *ret_why)
{
	int err;

	loops->admitting = true;
	err = kmtls_pods_each(daemon->pods, add_pod, loops);
	if (!err)
		err = watch_held(loops, kmtls_hold_fd(daemon->hold));
	if (err)
		snprintf(ret_why, KMTLS_WHY, "the event loops admit nothing: %s", strerror(-err));
	return err;
}

int kmtls_loops_add_pod(struct kmtls_loops *loops, const struct kmtls_pod *pod)
{
	int err = 0;

	if (!loops->admitting)
		return 0;
	for (unsigned i = 0; i < loops->count; i++)
		for (unsigned a = 0; !err && a < KMTLS_ACCEPTOR_COUNT; a++)
			if (pod->listeners[a] >= 0)
				err = kmtls_loop_watch_listener(&loops->loops[i], pod, a);
	return err;
}

void kmtls_loops_remove_pod(struct kmtls_loops *loops, const struct kmtls_pod *pod)
{
	for (unsigned i = 0; i < loops->count; i++)
		for (unsigned a = 0; a < KMTLS_ACCEPTOR_COUNT; a++)
			if (pod->listeners[a] >= 0)
				epoll_ctl(loops->loops[i].epoll_fd, EPOLL_CTL_DEL,
					  pod->listeners[a], NULL);
}

void kmtls_loops_drain(struct kmtls_loops *loops)
{
	if (!loops->admitting)
		return;
	loops->admitting = false;
	atomic_store(&loops->undrained, loops->count);
	for (unsigned i = 0; i < loops->count; i++) {
		struct kmtls_loop *loop = &loops->loops[i];

		pthread_mutex_lock(&loop->lock);
		loop->drain = true;
		pthread_mutex_unlock(&loop->lock);
		kmtls_loop_wake(loop);
	}
}

void kmtls_loops_review(struct kmtls_loops *loops)
{
	for (unsigned i = 0; i < loops->count; i++) {
		struct kmtls_loop *loop = &loops->loops[i];

		pthread_mutex_lock(&loop->lock);
		loop->review_pending = true;
		pthread_mutex_unlock(&loop->lock);
		kmtls_loop_wake(loop);
	}
}

void kmtls_loops_sync(struct kmtls_loops *loops)
{
	kmtls_loops_reset_pod(loops, NOBODY);
}

void kmtls_loops_reset_pod(struct kmtls_loops *loops, __u64 netns_cookie)
{
	for (unsigned i = 0; i < loops->count; i++) {
		struct kmtls_loop *loop = &loops->loops[i];

		pthread_mutex_lock(&loop->lock);
		while (loop->reset_pending)
			pthread_cond_wait(&loop->done, &loop->lock);
		loop->reset_pending = true;
		loop->reset_netns = netns_cookie;
		kmtls_loop_wake(loop);
		while (loop->reset_pending)
			pthread_cond_wait(&loop->done, &loop->lock);
		pthread_mutex_unlock(&loop->lock);
	}
}
