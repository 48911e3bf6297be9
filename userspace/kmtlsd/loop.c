/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c - see loop.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "counters.h"
#include "handshake.h"
#include "hold.h"
#include "inbound.h"
#include "log.h"
#include "loop.h"
#include "outbound.h"
#include "pods.h"
#include "relay.h"

#define EVENTS 128
/*
 * New connections and held SYNs taken at a time. Few while handshakes are making progress:
 * those begun first end first, and what is not begun yet waits where it has no deadline, in the
 * backlog and in the ring buffer. Taken all at once, a thousand would crawl side by side until
 * none is in time.
 */
#define ADMIT_IDLE 32
#define ADMIT_SHAKING 4
#define ANSWER_AGAIN_MS 5
/* Until a flow that found no descriptor for a pipe tries again. */
#define STARVED_MS 10

__u64 kmtls_loop_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

static __u64 make_tag(enum kmtls_tag tag, unsigned index, unsigned generation)
{
	return (__u64)tag << 56 | (__u64)index << 32 | generation;
}

/* ---- slots ---- */

int kmtls_loop_take_slot(struct kmtls_loop *loop, unsigned *ret_slot)
{
	struct kmtls_flow *flow;
	__u32 generation;
	unsigned slot;

	if (!loop->free_count)
		return -ENOSPC;
	slot = loop->free_slots[--loop->free_count];
	flow = kmtls_loop_flow(loop, slot);
	generation = flow->generation + 1;
	memset(flow, 0, sizeof(*flow));
	flow->generation = generation;
	flow->local_fd = flow->wire_fd = -1;
	flow->to_wire.pipe_read = flow->to_wire.pipe_write = -1;
	flow->to_local.pipe_read = flow->to_local.pipe_write = -1;
	memset(kmtls_loop_private(loop, slot), 0, sizeof(struct kmtls_flow_private));
	*ret_slot = slot;
	return 0;
}

void kmtls_loop_return_slot(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);

	kmtls_flow_set_state(kmtls_loop_flow(loop, slot), KMTLS_FLOW_FREE);
	if (private->again) {
		/* Still on the list: serve_again() gives the slot back. */
		private->handshake = NULL;
		return;
	}
	loop->free_slots[loop->free_count++] = slot;
}

void kmtls_loop_again(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);

	if (private->again)
		return;
	private->again = true;
	loop->again[loop->again_count++] = slot;
}

void kmtls_loop_again_later(struct kmtls_loop *loop, unsigned slot)
{
	loop->starved = true;
	kmtls_loop_again(loop, slot);
}

/* One more budget for each flow that had work left; new ones wait for the next round. */
static void serve_again(struct kmtls_loop *loop)
{
	unsigned count = loop->again_count;

	loop->starved = false;
	for (unsigned i = 0; i < count; i++) {
		unsigned slot = loop->again[i];

		kmtls_loop_private(loop, slot)->again = false;
		if (kmtls_flow_state(kmtls_loop_flow(loop, slot)) == KMTLS_FLOW_ESTABLISHED)
			kmtls_relay_pump(loop, slot, false);
		else
			loop->free_slots[loop->free_count++] = slot;
	}
	loop->again_count -= count;
	memmove(loop->again, loop->again + count, loop->again_count * sizeof(*loop->again));
}

int kmtls_loop_watch(struct kmtls_loop *loop, enum kmtls_tag tag, unsigned slot, int fd)
{
	struct epoll_event event = {
		/* Edge-triggered: on 6.1 level-triggered epoll spins on half a TLS record. */
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.u64 = make_tag(tag, slot, kmtls_loop_flow(loop, slot)->generation),
	};

	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* ---- accepting ---- */

/* Out of descriptors: take one connection with the spare one and reset it, so that it is
 * refused now rather than left to hang, and epoll does not spin on it. */
static void refuse_one(struct kmtls_loop *loop, int listener)
{
	struct linger reset_on_close = { .l_onoff = 1, .l_linger = 0 };
	int fd;

	close(loop->spare_fd);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0) {
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset_on_close, sizeof(reset_on_close));
		close(fd);
		kmtls_counters_add(KMTLS_REASON_NO_RESOURCES);
		log_warning("connection refused", "reason=no-resources errno=EMFILE");
	}
	loop->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static unsigned admission(const struct kmtls_loop *loop)
{
	return loop->shaking ? ADMIT_SHAKING : ADMIT_IDLE;
}

/* Out of memory, or the spare descriptor was taken by another thread: the event comes back at
 * once and forever, so wait. */
static void pause_accepting(void)
{
	usleep(STARVED_MS * 1000);
}

static void accept_some(struct kmtls_loop *loop, struct kmtls_pod *pod, unsigned acceptor)
{
	unsigned budget = admission(loop);

	for (unsigned i = 0; i < budget; i++) {
		int fd =
			accept4(pod->listeners[acceptor], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE))
			refuse_one(loop, pod->listeners[acceptor]);
		if (fd < 0 && errno == ECONNABORTED)
			continue;
		if (fd < 0) {
			if (errno != EAGAIN)
				pause_accepting();
			return;
		}
		if (acceptor == KMTLS_ACCEPTOR_TURNED4 || acceptor == KMTLS_ACCEPTOR_TURNED6)
			kmtls_outbound_accept(loop, pod, fd);
		else
			kmtls_inbound_accept(loop, pod, fd);
	}
}

/* Closed by someone else (SOCK_DESTROY): the pods module opens it again. */
static void drop_listener(struct kmtls_loop *loop, struct kmtls_pod *pod, int fd)
{
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	atomic_store(&pod->broken, true);
}

static void on_listener(struct kmtls_loop *loop, unsigned index, unsigned generation, __u32 events)
{
	struct kmtls_pod *pod =
		kmtls_pods_get(loop->daemon->pods, index / KMTLS_ACCEPTOR_COUNT, generation);

	if (!pod)
		return;
	if (events & (EPOLLERR | EPOLLHUP))
		drop_listener(loop, pod, pod->listeners[index % KMTLS_ACCEPTOR_COUNT]);
	else
		accept_some(loop, pod, index % KMTLS_ACCEPTOR_COUNT);
	kmtls_pod_put(pod);
}

/* ---- events ---- */

static void on_flow(struct kmtls_loop *loop, enum kmtls_tag tag, unsigned slot, unsigned generation,
		    __u32 events)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);

	if (flow->generation != generation)
		return; /* an event of the slot's former life */
	switch (kmtls_flow_state(flow)) {
	case KMTLS_FLOW_HANDSHAKE:
		loop->shaking = true;
		kmtls_handshake_event(kmtls_loop_private(loop, slot)->handshake, tag, events);
		break;
	case KMTLS_FLOW_ESTABLISHED:
		kmtls_relay_pump(loop, slot, events & EPOLLERR);
		break;
	}
}

/* Ends what one namespace, or (0) the whole loop, has open. */
static void reset_flows(struct kmtls_loop *loop, __u64 netns, enum kmtls_reason reason)
{
	struct kmtls_flow_table *table = loop->daemon->flows;
	unsigned loops = loop->daemon->loops->count;

	for (unsigned slot = loop->number; slot < table->capacity; slot += loops) {
		struct kmtls_flow *flow = &table->slots[slot];

		if (netns && flow->netns_cookie != netns)
			continue;
		switch (kmtls_flow_state(flow)) {
		case KMTLS_FLOW_HANDSHAKE:
			kmtls_handshake_fail(table->private[slot].handshake,
					     reason == KMTLS_REASON_POD_DELETED
						     ? KMTLS_REASON_POD_REMOVED
						     : reason,
					     NULL);
			break;
		case KMTLS_FLOW_ESTABLISHED:
			kmtls_relay_reset(loop, slot, reason);
			break;
		}
	}
}

/* ---- answers that are sent twice ---- */

void kmtls_loop_answer_again(struct kmtls_loop *loop, struct kmtls_pod *pod, enum kmtls_inject kind,
			     const __u8 *packet, __u32 length)
{
	struct kmtls_answer *answer;

	if (loop->answer_count == KMTLS_ANSWERS)
		return;
	answer = &loop->answers[(loop->answer_first + loop->answer_count++) % KMTLS_ANSWERS];
	answer->due = kmtls_loop_now_ms() + ANSWER_AGAIN_MS;
	answer->pod = pod;
	atomic_fetch_add(&pod->references, 1);
	answer->kind = kind;
	answer->length = length;
	memcpy(answer->packet, packet, length);
}

static void pop_answer(struct kmtls_loop *loop)
{
	kmtls_pod_put(loop->answers[loop->answer_first].pod);
	loop->answer_first = (loop->answer_first + 1) % KMTLS_ANSWERS;
	loop->answer_count--;
}

/* ms until the next one is due, or -1. */
static int send_answers(struct kmtls_loop *loop)
{
	while (loop->answer_count) {
		struct kmtls_answer *answer = &loop->answers[loop->answer_first];
		__u64 now = kmtls_loop_now_ms();

		if (answer->due > now)
			return answer->due - now;
		kmtls_injector_send(&answer->pod->injector, answer->kind, answer->packet,
				    answer->length);
		pop_answer(loop);
	}
	return -1;
}

/* ---- messages ---- */

static bool has_room(struct kmtls_loop *loop)
{
	size_t room = loop->message_room ? 2 * loop->message_room : 64;
	struct kmtls_loop_message *messages;

	if (loop->message_count < loop->message_room)
		return true;
	messages = realloc(loop->messages, room * sizeof(*messages));
	if (!messages)
		return false;
	loop->messages = messages;
	loop->message_room = room;
	return true;
}

void kmtls_loop_post(struct kmtls_loop *loop, const struct kmtls_loop_message *message)
{
	bool posted;

	pthread_mutex_lock(&loop->lock);
	posted = has_room(loop);
	if (posted)
		loop->messages[loop->message_count++] = *message;
	pthread_mutex_unlock(&loop->lock);
	if (posted)
		eventfd_write(loop->wake_fd, 1);
	else if (message->fd >= 0)
		close(message->fd);
}

static void deliver(struct kmtls_loop *loop, const struct kmtls_loop_message *message)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, message->slot);

	if (flow->generation == message->generation &&
	    kmtls_flow_state(flow) == KMTLS_FLOW_HANDSHAKE)
		kmtls_handshake_message(kmtls_loop_private(loop, message->slot)->handshake,
					message);
	else if (message->fd >= 0)
		close(message->fd);
}

/* Takes the whole list at once: delivering one may post others. */
static void deliver_messages(struct kmtls_loop *loop)
{
	struct kmtls_loop_message *messages;
	size_t count;

	pthread_mutex_lock(&loop->lock);
	messages = loop->messages;
	count = loop->message_count;
	loop->messages = NULL;
	loop->message_count = loop->message_room = 0;
	pthread_mutex_unlock(&loop->lock);
	for (size_t i = 0; i < count; i++)
		deliver(loop, &messages[i]);
	free(messages);
}

static bool on_wake(struct kmtls_loop *loop)
{
	eventfd_t ignored;
	bool stop, reset;

	eventfd_read(loop->wake_fd, &ignored);
	deliver_messages(loop);
	pthread_mutex_lock(&loop->lock);
	stop = loop->stop;
	reset = loop->reset_pending;
	pthread_mutex_unlock(&loop->lock);
	if (reset) {
		/* Unlocked: ending a handshake takes the lock of the held connects. */
		reset_flows(loop, loop->reset_netns, KMTLS_REASON_POD_DELETED);
		kmtls_netns_leave(); /* or this thread would keep the namespace alive */
		pthread_mutex_lock(&loop->lock);
		loop->reset_pending = false;
		pthread_cond_broadcast(&loop->done);
		pthread_mutex_unlock(&loop->lock);
	}
	return stop;
}

/* Peers that never close TCP after close_notify. Looks once a second, and only if any. */
static void sweep_lingering(struct kmtls_loop *loop)
{
	struct kmtls_flow_table *table = loop->daemon->flows;
	unsigned loops = loop->daemon->loops->count;
	__u32 now = kmtls_loop_now_ms() / 1000;

	if (!loop->lingering || now == loop->last_sweep)
		return;
	loop->last_sweep = now;
	for (unsigned slot = loop->number; slot < table->capacity; slot += loops)
		if (table->private[slot].linger_deadline &&
		    table->private[slot].linger_deadline <= now &&
		    kmtls_flow_state(&table->slots[slot]) == KMTLS_FLOW_ESTABLISHED)
			kmtls_relay_reset(loop, slot, KMTLS_REASON_LINGER_TIMEOUT);
}

static int next_timeout(struct kmtls_loop *loop)
{
	int timeout = kmtls_handshake_expire(loop);
	int answer = send_answers(loop);

	sweep_lingering(loop);
	if (answer >= 0 && (timeout < 0 || answer < timeout))
		timeout = answer;
	if (loop->again_count)
		return loop->starved ? STARVED_MS : 0;
	if (loop->lingering && (timeout < 0 || timeout > 1000))
		return 1000;
	return timeout;
}

static bool is_new(enum kmtls_tag tag)
{
	return tag == KMTLS_TAG_LISTENER || tag == KMTLS_TAG_HOLD;
}

/* true: stop. */
static bool on_event(struct kmtls_loop *loop, const struct epoll_event *event)
{
	enum kmtls_tag tag = event->data.u64 >> 56;
	unsigned index = event->data.u64 >> 32 & 0xffffff;
	unsigned generation = event->data.u64;

	switch (tag) {
	case KMTLS_TAG_WAKE:
		return on_wake(loop);
	case KMTLS_TAG_HOLD:
		kmtls_hold_consume(loop->daemon->hold, loop, admission(loop));
		break;
	case KMTLS_TAG_LISTENER:
		on_listener(loop, index, generation, event->events);
		break;
	case KMTLS_TAG_LOCAL:
	case KMTLS_TAG_WIRE:
		on_flow(loop, tag, index, generation, event->events);
		break;
	}
	return false;
}

static void *run(void *argument)
{
	struct epoll_event events[EVENTS];
	struct kmtls_loop *loop = argument;
	bool stop = false;

	while (!stop) {
		int count = epoll_wait(loop->epoll_fd, events, EVENTS, next_timeout(loop));

		loop->shaking = false;
		/* What has begun comes before what is new. */
		for (int i = 0; i < count; i++)
			if (!is_new(events[i].data.u64 >> 56))
				stop = on_event(loop, &events[i]) || stop;
		for (int i = 0; i < count; i++)
			if (is_new(events[i].data.u64 >> 56))
				on_event(loop, &events[i]);
		serve_again(loop);
	}
	reset_flows(loop, 0, KMTLS_REASON_STOPPED);
	return NULL;
}

/* ---- start and stop ---- */

static void loop_close(struct kmtls_loop *loop)
{
	kmtls_pipes_close(&loop->pipes);
	if (loop->spare_fd >= 0)
		close(loop->spare_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	while (loop->answer_count)
		pop_answer(loop);
	free(loop->answers);
	for (size_t i = 0; i < loop->message_count; i++)
		if (loop->messages[i].fd >= 0)
			close(loop->messages[i].fd);
	free(loop->messages);
	free(loop->again);
	free(loop->free_slots);
}

static int loop_open(struct kmtls_loop *loop, struct kmtls_daemon *daemon, unsigned number,
		     unsigned count)
{
	struct epoll_event wake = { .events = EPOLLIN, .data.u64 = make_tag(KMTLS_TAG_WAKE, 0, 0) };
	struct epoll_event held = {
		.events = EPOLLIN | EPOLLEXCLUSIVE,
		.data.u64 = make_tag(KMTLS_TAG_HOLD, 0, 0),
	};
	unsigned capacity = daemon->flows->capacity;
	unsigned share = capacity / count + 1;

	loop->daemon = daemon;
	loop->number = number;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->done, NULL);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	loop->free_slots = calloc(share, sizeof(*loop->free_slots));
	/* Twice: flows may come back on the list while it is being served. */
	loop->again = calloc(2 * share, sizeof(*loop->again));
	loop->answers = calloc(KMTLS_ANSWERS, sizeof(*loop->answers));
	if (!loop->answers || loop->epoll_fd < 0 || loop->wake_fd < 0 || loop->spare_fd < 0 ||
	    !loop->free_slots || !loop->again)
		return -ENOMEM;
	/* Highest first on the stack, so that low slots are used first. */
	for (unsigned slot = number + (capacity - 1 - number) / count * count;; slot -= count) {
		loop->free_slots[loop->free_count++] = slot;
		if (slot == number)
			break;
	}
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &wake) < 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, kmtls_hold_fd(daemon->hold), &held) < 0)
		return -errno;
	return 0;
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
		err = loop_open(&loops->loops[i], daemon, i, count);
	for (unsigned i = 0; !err && i < count; i++) {
		err = -pthread_create(&loops->loops[i].thread, NULL, run, &loops->loops[i]);
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
		eventfd_write(loop->wake_fd, 1);
		pthread_join(loop->thread, NULL);
	}
	for (unsigned i = 0; i < loops->count; i++)
		loop_close(&loops->loops[i]);
	free(loops);
}

int kmtls_loops_add_pod(struct kmtls_loops *loops, const struct kmtls_pod *pod)
{
	for (unsigned i = 0; i < loops->count; i++) {
		for (unsigned a = 0; a < KMTLS_ACCEPTOR_COUNT; a++) {
			struct epoll_event event = {
				/* Level-triggered, one loop is woken per connection. */
				.events = EPOLLIN | EPOLLEXCLUSIVE,
				.data.u64 = make_tag(KMTLS_TAG_LISTENER,
						     pod->index * KMTLS_ACCEPTOR_COUNT + a,
						     pod->generation),
			};

			if (pod->listeners[a] >= 0 &&
			    epoll_ctl(loops->loops[i].epoll_fd, EPOLL_CTL_ADD, pod->listeners[a],
				      &event) < 0 &&
			    errno != EEXIST)
				return -errno;
		}
	}
	return 0;
}

void kmtls_loops_remove_pod(struct kmtls_loops *loops, const struct kmtls_pod *pod)
{
	for (unsigned i = 0; i < loops->count; i++)
		for (unsigned a = 0; a < KMTLS_ACCEPTOR_COUNT; a++)
			if (pod->listeners[a] >= 0)
				epoll_ctl(loops->loops[i].epoll_fd, EPOLL_CTL_DEL,
					  pod->listeners[a], NULL);
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
		eventfd_write(loop->wake_fd, 1);
		while (loop->reset_pending)
			pthread_cond_wait(&loop->done, &loop->lock);
		pthread_mutex_unlock(&loop->lock);
	}
}
