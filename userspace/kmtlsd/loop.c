/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c - see loop.h. */
#include <errno.h>
#include <fcntl.h>
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
#include "refusals.h"
#include "rekey.h"
#include "relay.h"
#include "shared.h"

/* Few: until the last of them has had its turn, nobody else is looked at. */
#define EVENTS 32
/* For flows that had work left, before events are looked at again. */
#define SERVE_US 5000
/*
 * New connections and held SYNs taken at a time. Few while handshakes are making progress:
 * those begun first end first, and what is not begun yet waits where it has no deadline, in the
 * backlog and in the ring buffer. Taken all at once, a thousand would crawl side by side until
 * none is in time.
 */
#define ADMIT_IDLE 32
#define ADMIT_SHAKING 4
/* Until a flow that found no descriptor for a pipe tries again. */
#define STARVED_MS 10
/* So long do handshakes that do not get on keep an upgrade waiting. */
#define DRAIN_QUIET_MS 3000
/* Until a listener is looked at again that could not accept. */
#define PAUSE_MS 100

__u64 kmtls_loop_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000ull + now.tv_nsec / 1000;
}

__u64 kmtls_loop_now_ms(void)
{
	return kmtls_loop_now_us() / 1000;
}

void kmtls_loop_wake(struct kmtls_loop *loop)
{
	atomic_store(&loop->asked, true);
	eventfd_write(loop->wake_fd, 1);
}

/* ---- slots ---- */

void kmtls_loop_return_slot(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);

	kmtls_rekey_end(loop->daemon->rekey, slot);
	kmtls_flow_set_state(kmtls_loop_flow(loop, slot), KMTLS_FLOW_FREE);
	if (private->again) {
		/* Still on the list: serve_again() gives the slot back. */
		private->handshake = NULL;
		return;
	}
	kmtls_flow_table_return(loop->daemon->flows, slot);
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

/* One more turn for each flow that had work left, the longest waiting first; those that time does
 * not suffice for, and new ones, wait for the next round. */
static void serve_again(struct kmtls_loop *loop)
{
	__u64 end = loop->again_count ? kmtls_loop_now_us() + SERVE_US : 0;
	unsigned count = loop->again_count, served = 0;

	loop->starved = false;
	while (served < count && (!served || kmtls_loop_now_us() < end)) {
		unsigned slot = loop->again[served++];

		kmtls_loop_private(loop, slot)->again = false;
		if (kmtls_flow_state(kmtls_loop_flow(loop, slot)) == KMTLS_FLOW_ESTABLISHED)
			kmtls_relay_pump(loop, slot, false);
		else
			kmtls_flow_table_return(loop->daemon->flows, slot);
	}
	loop->again_count -= served;
	memmove(loop->again, loop->again + served, loop->again_count * sizeof(*loop->again));
	if (served < count)
		loop->starved = false;
}

int kmtls_loop_watch(struct kmtls_loop *loop, enum kmtls_tag tag, unsigned slot, int fd)
{
	struct epoll_event event = {
		/* Edge-triggered: on 6.1 level-triggered epoll spins on half a TLS record. */
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.u64 = kmtls_loop_tag(tag, slot, kmtls_loop_flow(loop, slot)->generation),
	};

	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* ---- accepting ---- */

static bool have_spare(struct kmtls_loop *loop)
{
	if (loop->spare_fd < 0)
		loop->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return loop->spare_fd >= 0;
}

/* A connection that was taken, but there is no descriptor to serve it with. */
static void refuse(struct kmtls_loop *loop, const struct kmtls_pod *pod, int fd)
{
	kmtls_handshake_reset_socket(fd);
	have_spare(loop);
	kmtls_handshake_refuse(pod, KMTLS_ROLE_SERVER, NULL, KMTLS_REASON_NO_RESOURCES,
			       "out of descriptors");
}

/*
 * Out of descriptors: takes connections with the spare one and resets them, so that they are
 * refused now rather than left to hang. Another thread may be faster and have the spare one; it is
 * made again before a connection is served (accept_some()).
 */
static void refuse_some(struct kmtls_loop *loop, const struct kmtls_pod *pod, int listener)
{
	for (unsigned i = 0; i < ADMIT_IDLE; i++) {
		int fd;

		if (loop->spare_fd >= 0)
			close(loop->spare_fd);
		loop->spare_fd = -1;
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			have_spare(loop);
			return;
		}
		refuse(loop, pod, fd);
	}
}

static unsigned admission(const struct kmtls_loop *loop)
{
	return loop->shaking ? ADMIT_SHAKING : ADMIT_IDLE;
}

/*
 * Out of descriptors or memory: what waits at the listener would wake us at once and forever. So
 * it is left alone for a while; the flows there are go on.
 */
static void pause_listener(struct kmtls_loop *loop, const struct kmtls_pod *pod, unsigned acceptor,
			   int err)
{
	struct kmtls_pause *pause = &loop->pauses[loop->pause_count];

	if (loop->pause_count == KMTLS_PAUSES)
		return;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, pod->listeners[acceptor], NULL);
	pause->index = pod->index;
	pause->generation = pod->generation;
	pause->acceptor = acceptor;
	pause->until = kmtls_loop_now_ms() + PAUSE_MS;
	loop->pause_count++;
	kmtls_counters_add(KMTLS_REASON_ACCEPT_PAUSED);
	if (kmtls_refusals_worth_a_line(KMTLS_REASON_ACCEPT_PAUSED))
		log_warning("accepting paused", "pod=%s reason=accept-paused err=%s",
			    kmtls_log_quote(pod->name), kmtls_log_quote(strerror(err)));
}

/* Takes up those whose pause is over; ms until the next one's is, or -1. */
static int resume_listeners(struct kmtls_loop *loop)
{
	__u64 now = loop->pause_count ? kmtls_loop_now_ms() : 0, next = 0;

	for (unsigned i = 0; i < loop->pause_count;) {
		struct kmtls_pause *pause = &loop->pauses[i];
		struct kmtls_pod *pod;
		int err = 0;

		if (pause->until <= now) {
			pod = kmtls_pods_get(loop->daemon->pods, pause->index, pause->generation);
			if (pod)
				err = kmtls_loop_watch_listener(loop, pod, pause->acceptor);
			kmtls_pod_put(pod);
			if (!err) {
				*pause = loop->pauses[--loop->pause_count];
				continue;
			}
			pause->until = now + PAUSE_MS;
		}
		if (!next || pause->until < next)
			next = pause->until;
		i++;
	}
	return loop->pause_count ? (int)(next - now) : -1;
}

static void accept_some(struct kmtls_loop *loop, struct kmtls_pod *pod, unsigned acceptor)
{
	bool turned = acceptor == KMTLS_ACCEPTOR_TURNED4 || acceptor == KMTLS_ACCEPTOR_TURNED6;
	unsigned budget = admission(loop);

	for (unsigned i = 0; i < budget; i++) {
		int fd =
			accept4(pod->listeners[acceptor], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0 && turned) {
			kmtls_outbound_accept(loop, pod, fd);
		} else if (fd >= 0 && !have_spare(loop)) {
			refuse(loop, pod, fd);
		} else if (fd >= 0) {
			kmtls_inbound_accept(loop, pod, fd);
		} else if (errno != ECONNABORTED) {
			int err = errno;

			if (err == EAGAIN)
				return;
			/* Applications of the pod have been promised a connection: they wait. */
			if (!turned && (err == EMFILE || err == ENFILE))
				refuse_some(loop, pod, pod->listeners[acceptor]);
			pause_listener(loop, pod, acceptor, err);
			return;
		}
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
	if (loop->draining)
		epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL,
			  pod->listeners[index % KMTLS_ACCEPTOR_COUNT], NULL);
	else if (events & (EPOLLERR | EPOLLHUP))
		drop_listener(loop, pod, pod->listeners[index % KMTLS_ACCEPTOR_COUNT]);
	else
		accept_some(loop, pod, index % KMTLS_ACCEPTOR_COUNT);
	kmtls_pod_put(pod);
}

/* ---- draining ---- */

static void begin_to_drain(struct kmtls_loop *loop)
{
	if (!loop->draining)
		loop->last_shaking = kmtls_loop_now_ms();
	loop->draining = true;
	loop->hold_pending = false;
	loop->pause_count = 0;
}

static void drain(struct kmtls_loop *loop)
{
	struct kmtls_daemon *daemon = loop->daemon;
	__u64 now;

	if (!loop->draining || loop->drained)
		return;
	now = kmtls_loop_now_ms();
	if (loop->shaking)
		loop->last_shaking = now;
	if (now - loop->last_shaking < DRAIN_QUIET_MS && kmtls_handshake_any_half_done(loop))
		return;
	loop->drained = true;
	if (atomic_fetch_sub(&daemon->loops->undrained, 1) != 1)
		return;
	atomic_store(&daemon->shared->drained, daemon->shared->starts);
	eventfd_write(daemon->wake_fd, 1);
}

/* ---- events ---- */

static void on_flow(struct kmtls_loop *loop, enum kmtls_tag tag, unsigned slot, unsigned generation,
		    __u32 events)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);

	/* FREE also for an event of the slot's former life. */
	switch (kmtls_flow_state_of(flow, generation)) {
	case KMTLS_FLOW_HANDSHAKE:
	case KMTLS_FLOW_CONFIRMED:
		if (loop->draining &&
		    !kmtls_handshake_is_half_done(kmtls_loop_private(loop, slot)->handshake))
			break;
		loop->shaking = true;
		kmtls_handshake_event(kmtls_loop_private(loop, slot)->handshake, tag, events);
		break;
	case KMTLS_FLOW_ESTABLISHED:
		kmtls_relay_event(loop, slot, tag, events);
		break;
	}
}

/* Ends what one namespace, or (0) the whole loop, has open. */
static void reset_flows(struct kmtls_loop *loop, __u64 netns, enum kmtls_reason reason)
{
	struct kmtls_flow_table *table = loop->daemon->flows;

	for (unsigned slot = 0; slot < table->capacity; slot++) {
		struct kmtls_flow *flow = &table->slots[slot];

		if (!kmtls_flow_table_owns(table, loop->number, slot) ||
		    (netns && flow->netns_cookie != netns))
			continue;
		switch (kmtls_flow_state(flow)) {
		case KMTLS_FLOW_HANDSHAKE:
		case KMTLS_FLOW_CONFIRMED:
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

/* true: stop. */
static bool answer(struct kmtls_loop *loop)
{
	bool stop, reset, review, expiry, asked_to_drain;

	/* After each event, and mostly nobody has. Who asks wakes the loop afterwards. */
	if (!atomic_load_explicit(&loop->asked, memory_order_relaxed) ||
	    !atomic_exchange(&loop->asked, false))
		return false;
	pthread_mutex_lock(&loop->lock);
	stop = loop->stop;
	asked_to_drain = loop->drain;
	reset = loop->reset_pending;
	review = loop->review_pending;
	expiry = loop->expiry_pending;
	loop->review_pending = loop->expiry_pending = false;
	pthread_mutex_unlock(&loop->lock);
	/* After that: who asks for a reset may rely on what was posted before (kmtls_loops_sync()). */
	kmtls_loop_deliver(loop);
	if (asked_to_drain)
		begin_to_drain(loop);
	if (review)
		kmtls_review_begin(loop);
	if (expiry)
		kmtls_expiry_begin(loop);
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

/* Peers that never close TCP after close_notify, or never end their ClientHello. Looks once a second, and only if any. */
static void sweep_lingering(struct kmtls_loop *loop)
{
	struct kmtls_flow_table *table = loop->daemon->flows;
	__u32 now = kmtls_loop_now_ms() / 1000;

	if (!loop->lingering || now == loop->last_sweep)
		return;
	loop->last_sweep = now;
	for (unsigned slot = 0; slot < table->capacity; slot++)
		if (kmtls_flow_table_owns(table, loop->number, slot) &&
		    table->private[slot].linger_deadline &&
		    table->private[slot].linger_deadline <= now &&
		    kmtls_flow_state(&table->slots[slot]) == KMTLS_FLOW_ESTABLISHED)
			kmtls_relay_reset(loop, slot,
					  table->slots[slot].untaken
						  ? KMTLS_REASON_HANDSHAKE_TIMEOUT
						  : KMTLS_REASON_LINGER_TIMEOUT);
}

static int next_timeout(struct kmtls_loop *loop)
{
	int timeout = kmtls_handshake_expire(loop);
	int answer = kmtls_loop_send_answers(loop);
	int resume = resume_listeners(loop);

	sweep_lingering(loop);
	if (answer >= 0 && (timeout < 0 || answer < timeout))
		timeout = answer;
	if (resume >= 0 && (timeout < 0 || resume < timeout))
		timeout = resume;
	if (loop->hold_pending || loop->review.walk.left || loop->expiry.walk.left)
		return 0;
	if (loop->again_count)
		return loop->starved ? STARVED_MS : 0;
	if (((loop->draining && !loop->drained) || loop->lingering) &&
	    (timeout < 0 || timeout > 1000))
		return 1000;
	return timeout;
}

static bool is_new(enum kmtls_tag tag)
{
	return tag == KMTLS_TAG_LISTENER || tag == KMTLS_TAG_HOLD;
}

static void on_event(struct kmtls_loop *loop, const struct epoll_event *event)
{
	enum kmtls_tag tag = event->data.u64 >> 56;
	unsigned index = event->data.u64 >> 32 & 0xffffff;
	unsigned generation = event->data.u64;
	eventfd_t ignored;

	switch (tag) {
	case KMTLS_TAG_WAKE: /* the loop asks itself what for, see answer() */
		eventfd_read(loop->wake_fd, &ignored);
		break;
	case KMTLS_TAG_HOLD:
		loop->hold_pending = !loop->draining;
		break;
	case KMTLS_TAG_LISTENER:
		on_listener(loop, index, generation, event->events);
		break;
	case KMTLS_TAG_LOCAL:
	case KMTLS_TAG_WIRE:
		on_flow(loop, tag, index, generation, event->events);
		break;
	}
}

void *kmtls_loop_run(void *argument)
{
	struct epoll_event events[EVENTS];
	struct kmtls_loop *loop = argument;
	bool stop = false;

	while (!stop) {
		int count = epoll_wait(loop->epoll_fd, events, EVENTS, next_timeout(loop));

		loop->shaking = false;
		/* What has begun comes before what is new. A turn takes long where there is much to
		 * move: whoever asks for something does not wait for all of them. */
		for (int i = 0; i < count; i++) {
			if (!is_new(events[i].data.u64 >> 56))
				on_event(loop, &events[i]);
			stop = answer(loop) || stop;
		}
		for (int i = 0; i < count; i++)
			if (is_new(events[i].data.u64 >> 56))
				on_event(loop, &events[i]);
		if (loop->hold_pending)
			loop->hold_pending =
				kmtls_hold_consume(loop->daemon->hold, loop, admission(loop));
		serve_again(loop);
		kmtls_review_some(loop);
		kmtls_expiry_some(loop);
		drain(loop);
	}
	reset_flows(loop, 0, KMTLS_REASON_STOPPED);
	return NULL;
}
