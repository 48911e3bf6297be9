/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - event loops: one thread each, one epoll instance each. A flow belongs to one
 * loop as long as a worker lives, and its slot of the flow table with it, so nothing here is
 * locked but the few requests from other threads. The next worker deals them out anew
 * (takeover.c).
 */
#ifndef KMTLS_LOOP_H
#define KMTLS_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "daemon.h"
#include "expiry.h"
#include "flow_table.h"
#include "inject.h"
#include "pipes.h"
#include "pod.h"
#include "pods.h"
#include "review.h"

struct kmtls_handshake;

/* What an epoll event is about. */
enum kmtls_tag {
	KMTLS_TAG_WAKE = 0,
	KMTLS_TAG_LISTENER = 1, /* index: pod's place * KMTLS_ACCEPTOR_COUNT + acceptor */
	KMTLS_TAG_LOCAL = 2, /* index: slot */
	KMTLS_TAG_WIRE = 3,
	KMTLS_TAG_HOLD = 4, /* events in the ring buffer */
};

/* What loops and the control thread tell a loop about one flow. */
enum kmtls_message {
	KMTLS_MESSAGE_ACCEPTED = 1, /* the application's connection has arrived: fd */
	KMTLS_MESSAGE_REPEATED, /* the application has sent its SYN again */
	KMTLS_MESSAGE_GONE, /* the application gave up */
	KMTLS_MESSAGE_STALE, /* the same socket connects anew */
	KMTLS_MESSAGE_FORBIDDEN, /* established, in plaintext, and not allowed any more */
	/* After a take-over: */
	KMTLS_MESSAGE_RESUME, /* the slot is CONFIRMED and has no handshake yet */
	KMTLS_MESSAGE_LEG, /* fd: an application's connection that nobody looked after; no slot */
	KMTLS_MESSAGE_WIRE, /* fd: a connection to a pod of which nothing was taken; likewise */
};

struct kmtls_loop_message {
	enum kmtls_message type;
	unsigned slot, generation;
	int fd; /* or -1; the receiver's */
};

/* An answer to a held SYN, once more a little later. */
struct kmtls_answer {
	__u64 due; /* ms, monotonic */
	struct kmtls_pod *pod;
	enum kmtls_inject kind;
	__u32 length;
	__u8 packet[KMTLS_EVENT_PACKET];
};
#define KMTLS_ANSWERS 256

/* Oldest first: all of one list have the same time. */
struct kmtls_handshake_list {
	struct kmtls_handshake *oldest, *newest;
};

/* A listener that is not looked at for a while. */
struct kmtls_pause {
	__u64 until; /* ms, monotonic */
	unsigned index, generation; /* of the pod */
	unsigned acceptor;
};
#define KMTLS_PAUSES (KMTLS_PODS_MAX * KMTLS_ACCEPTOR_COUNT)

struct kmtls_loop {
	struct kmtls_daemon *daemon;
	unsigned number;
	pthread_t thread;
	bool running;
	int epoll_fd, wake_fd;
	atomic_bool asked; /* a request from another thread waits */
	int spare_fd; /* given up to accept and refuse when descriptors run out */
	unsigned *again, again_count; /* slots with work left after their budget */
	bool starved; /* all that are left wait for a descriptor: not at once */
	struct kmtls_pipes pipes;
	/* Handshakes in progress, and those whose client has not said anything yet. */
	struct kmtls_handshake_list shaking_list, silent_list;
	bool hold_pending; /* events are left in the ring buffer for this loop */
	bool shaking; /* handshakes made progress in this round */
	bool draining, drained; /* nothing new is taken in; and no handshake is half done */
	__u64 last_shaking; /* ms, while draining: when a handshake got on */
	struct kmtls_answer *answers; /* a ring of KMTLS_ANSWERS, in the order they are due */
	unsigned answer_first, answer_count;
	struct kmtls_pause *pauses; /* KMTLS_PAUSES */
	unsigned pause_count;
	unsigned lingering; /* flows with a linger_deadline */
	__u32 last_sweep; /* seconds */
	struct kmtls_review review; /* of authorization */
	struct kmtls_expiry expiry; /* of peers' SVIDs */
	/* Requests from other threads. */
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool stop, drain, reset_pending, review_pending, expiry_pending;
	__u64 reset_netns;
	struct kmtls_loop_message *messages;
	size_t message_count, message_room;
};

struct kmtls_loops {
	unsigned count;
	atomic_bool admitting; /* new connections */
	atomic_uint undrained; /* loops with handshakes that are half done; while draining */
	struct kmtls_loop loops[];
};

/* Starts the threads, with the flows that are established; nothing new is taken in yet. ret_why:
 * 256 bytes. */
int kmtls_loops_open(struct kmtls_daemon *daemon, unsigned count, struct kmtls_loops **ret_loops,
		     char *ret_why);
void kmtls_loops_close(struct kmtls_loops *loops); /* stops and joins; flows are reset */

/* From here on: held connects, and the listeners of all pods, now and later. */
int kmtls_loops_admit(struct kmtls_loops *loops, struct kmtls_daemon *daemon, char *ret_why);
/* Returns when all that was posted before has been delivered. */
void kmtls_loops_sync(struct kmtls_loops *loops);

/*
 * Takes in nothing new, and says so in shared memory as soon as no handshake is in a state that
 * the next worker could not carry on, or those that are have not got on for three seconds. There is
 * no way back from it.
 */
void kmtls_loops_drain(struct kmtls_loops *loops);

/* All loops accept from the pod's listeners; those they know already are left as they are. */
int kmtls_loops_add_pod(struct kmtls_loops *loops, const struct kmtls_pod *pod);
void kmtls_loops_remove_pod(struct kmtls_loops *loops, const struct kmtls_pod *pod);
/* Resets every flow of one namespace; returns when it is done. */
void kmtls_loops_reset_pod(struct kmtls_loops *loops, __u64 netns_cookie);

/* Every loop looks again whether its flows are authorized (review.h); does not wait for it. */
void kmtls_loops_review(struct kmtls_loops *loops);

/* ---- for the modules that run inside a loop ---- */

/* Edge-triggered, all directions. */
int kmtls_loop_watch(struct kmtls_loop *loop, enum kmtls_tag tag, unsigned slot, int fd);
/* The flow has ended: FREE, and back to the table it came from (kmtls_flow_table_take()). */
void kmtls_loop_return_slot(struct kmtls_loop *loop, unsigned slot);
/* The flow is served again after the events at hand. */
void kmtls_loop_again(struct kmtls_loop *loop, unsigned slot);
/* The same, but a little later: it waits for descriptors, and must not spin. */
void kmtls_loop_again_later(struct kmtls_loop *loop, unsigned slot);

static inline struct kmtls_flow *kmtls_loop_flow(struct kmtls_loop *loop, unsigned slot)
{
	return &loop->daemon->flows->slots[slot];
}

static inline struct kmtls_flow_private *kmtls_loop_private(struct kmtls_loop *loop, unsigned slot)
{
	return &loop->daemon->flows->private[slot];
}

/*
 * Sends the same answer again in some milliseconds: the first may meet the application while it
 * is still inside connect(), where the kernel throws ICMP errors away. With many waiting it is
 * left to the application's next SYN.
 */
void kmtls_loop_answer_again(struct kmtls_loop *loop, struct kmtls_pod *pod, enum kmtls_inject kind,
			     const __u8 *packet, __u32 length);

/* From any thread, this loop's included. A message for a flow that is gone is dropped, its fd
 * closed (which resets the connection); so is one there is no memory for. */
void kmtls_loop_post(struct kmtls_loop *loop, const struct kmtls_loop_message *message);

/* ---- between the files of the loop ---- */

/* Level-triggered, one loop is woken per connection. Fine if it is watched already. -errno. */
int kmtls_loop_watch_listener(struct kmtls_loop *loop, const struct kmtls_pod *pod,
			      unsigned acceptor);

static inline __u64 kmtls_loop_tag(enum kmtls_tag tag, unsigned index, unsigned generation)
{
	return (__u64)tag << 56 | (__u64)index << 32 | generation;
}

void *kmtls_loop_run(void *loop); /* the thread */
/* After a request was left for it under its lock, from any thread. */
void kmtls_loop_wake(struct kmtls_loop *loop);
void kmtls_loop_deliver(struct kmtls_loop *loop); /* messages that were posted */
/* Sends the answers that are due; ms until the next one is, or -1. */
int kmtls_loop_send_answers(struct kmtls_loop *loop);
void kmtls_loop_drop_messages(struct kmtls_loop *loop);

/* Monotonic. */
__u64 kmtls_loop_now_ms(void);
__u64 kmtls_loop_now_us(void);

#endif
