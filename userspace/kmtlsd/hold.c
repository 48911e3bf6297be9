/* SPDX-License-Identifier: Apache-2.0 */
/* hold.c - see hold.h. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf_loader.h"
#include "counters.h"
#include "handshake.h"
#include "hold.h"
#include "inject.h"
#include "log.h"
#include "loop.h"
#include "outbound.h"
#include "pod.h"
#include "pods.h"

#define BUCKETS 4096 /* a power of two */

struct kmtls_hold {
	struct kmtls_daemon *daemon;
	int events, verdicts, dials; /* maps; not owned */
	struct ring_buffer *ring;
	pthread_mutex_t consumer; /* the ring has one reader at a time */
	struct kmtls_loop *loop; /* that reader */
	unsigned budget;
	pthread_mutex_t lock; /* of the buckets */
	struct kmtls_attempt *buckets[BUCKETS];
};

/* ---- attempts ---- */

static struct kmtls_attempt **bucket(struct kmtls_hold *hold, __u64 cookie)
{
	return &hold->buckets[(cookie * 0x9e3779b97f4a7c15ull >> 32) & (BUCKETS - 1)];
}

static struct kmtls_attempt *find(struct kmtls_hold *hold, __u64 cookie)
{
	struct kmtls_attempt *attempt = *bucket(hold, cookie);

	while (attempt && attempt->cookie != cookie)
		attempt = attempt->next;
	return attempt;
}

static void list(struct kmtls_hold *hold, struct kmtls_handshake *handshake, __u64 cookie,
		 __u32 sequence)
{
	struct kmtls_attempt *attempt = &handshake->attempt;

	attempt->cookie = cookie;
	attempt->sequence = sequence;
	attempt->loop = handshake->loop->number;
	attempt->slot = handshake->slot;
	attempt->generation = kmtls_loop_flow(handshake->loop, handshake->slot)->generation;
	pthread_mutex_lock(&hold->lock);
	attempt->next = *bucket(hold, cookie);
	*bucket(hold, cookie) = attempt;
	attempt->listed = true;
	pthread_mutex_unlock(&hold->lock);
}

static void unlist(struct kmtls_hold *hold, struct kmtls_attempt *attempt)
{
	struct kmtls_attempt **link = bucket(hold, attempt->cookie);

	if (!attempt->listed)
		return;
	while (*link != attempt)
		link = &(*link)->next;
	*link = attempt->next;
	attempt->listed = false;
}

static void tell_owner(struct kmtls_hold *hold, const struct kmtls_attempt *attempt,
		       enum kmtls_message type, int fd)
{
	struct kmtls_loop_message message = {
		.type = type,
		.slot = attempt->slot,
		.generation = attempt->generation,
		.fd = fd,
	};

	kmtls_loop_post(&hold->daemon->loops->loops[attempt->loop], &message);
}

/* ---- events ---- */

static void on_gone(struct kmtls_hold *hold, const struct kmtls_event *event)
{
	struct kmtls_attempt *attempt;

	pthread_mutex_lock(&hold->lock);
	attempt = find(hold, event->cookie);
	if (attempt)
		tell_owner(hold, attempt, KMTLS_MESSAGE_GONE, -1);
	pthread_mutex_unlock(&hold->lock);
}

/* true: this SYN is a repetition of one we are at already. */
static bool is_repeated(struct kmtls_hold *hold, __u64 cookie, __u32 sequence)
{
	struct kmtls_attempt *attempt;
	bool repeated = false;

	pthread_mutex_lock(&hold->lock);
	attempt = find(hold, cookie);
	if (attempt) {
		repeated = attempt->sequence == sequence;
		tell_owner(hold, attempt, repeated ? KMTLS_MESSAGE_REPEATED : KMTLS_MESSAGE_STALE,
			   -1);
		if (!repeated)
			unlist(hold, attempt);
	}
	pthread_mutex_unlock(&hold->lock);
	return repeated;
}

/* port: of the wire, for one that passes. */
static void decide(struct kmtls_hold *hold, const struct kmtls_attempt *attempt,
		   enum kmtls_inject answer, __u16 port)
{
	struct kmtls_verdict verdict = {
		.sequence = attempt->sequence,
		.pass = answer == KMTLS_INJECT_SYN,
		.answer = answer,
		.port = port,
	};

	bpf_map_update_elem(hold->verdicts, &attempt->cookie, &verdict, BPF_ANY);
}

/*
 * true: it has been decided. If it was let go, this repetition was in the ring for longer than
 * that. If it was answered, the answer got lost: the kernel throws an ICMP error away that meets
 * the socket while its owner is busy with it.
 */
static bool is_decided(struct kmtls_hold *hold, struct kmtls_pod *pod,
		       const struct kmtls_event *event, __u32 sequence)
{
	struct kmtls_verdict verdict;

	if (bpf_map_lookup_elem(hold->verdicts, &event->cookie, &verdict) < 0 ||
	    verdict.sequence != sequence)
		return false;
	if (!verdict.pass)
		kmtls_injector_send(&pod->injector, verdict.answer, event->packet,
				    event->packet_length);
	return true;
}

/* After a pause (of ours, or a full ring) most of what comes out of it may be history. The
 * programs keep a dial as long as its socket is connecting. */
static bool is_connecting(struct kmtls_hold *hold, const struct kmtls_event *event,
			  const struct kmtls_syn *syn)
{
	struct kmtls_leg_key key = { .netns = event->netns, .from = syn->from, .to = syn->to };
	struct kmtls_socket dial;

	return bpf_map_lookup_elem(hold->dials, &key, &dial) == 0 && dial.cookie == event->cookie;
}

static void on_syn(struct kmtls_hold *hold, const struct kmtls_event *event)
{
	struct kmtls_handshake *handshake;
	struct kmtls_pod *pod;
	struct kmtls_syn syn;

	if (event->packet_length > sizeof(event->packet) ||
	    kmtls_inject_parse(event->packet, event->packet_length, &syn) < 0 ||
	    !is_connecting(hold, event, &syn) || is_repeated(hold, event->cookie, syn.sequence))
		return;
	pod = kmtls_pods_find(hold->daemon->pods, event->netns);
	if (!pod)
		return; /* being removed: the repetition meets no program */
	handshake = NULL;
	if (!is_decided(hold, pod, event, syn.sequence))
		handshake =
			kmtls_outbound_prepare(hold->loop, pod, &event->socket, &syn.from, event);
	kmtls_pod_put(pod);
	if (!handshake)
		return;
	list(hold, handshake, event->cookie, syn.sequence);
	kmtls_outbound_dial(handshake);
}

static int on_event(void *context, void *data, size_t size)
{
	struct kmtls_hold *hold = context;
	const struct kmtls_event *event = data;

	if (size < sizeof(*event))
		return 0;
	if (event->type == KMTLS_EVENT_SYN)
		on_syn(hold, event);
	else if (event->type == KMTLS_EVENT_GONE)
		on_gone(hold, event);
	/* An error stops the reader; the event itself is taken. */
	return --hold->budget ? 0 : -EAGAIN;
}

bool kmtls_hold_consume(struct kmtls_hold *hold, struct kmtls_loop *loop, unsigned budget)
{
	struct pollfd left = { .fd = hold->events, .events = POLLIN };

	if (pthread_mutex_trylock(&hold->consumer) != 0)
		return false;
	hold->loop = loop;
	hold->budget = budget;
	ring_buffer__consume(hold->ring);
	pthread_mutex_unlock(&hold->consumer);
	/* After unlocking: whoever was woken meanwhile and found it locked has gone away. */
	return poll(&left, 1, 0) == 1;
}

/* ---- answers ---- */

static void send_answer(struct kmtls_handshake *handshake, enum kmtls_inject kind)
{
	struct kmtls_attempt *attempt = &handshake->attempt;
	int err = kmtls_injector_send(&handshake->pod->injector, kind, attempt->packet,
				      attempt->packet_length);

	if (err) {
		/* The application repeats its SYN: passed then, or an attempt of its own. */
		kmtls_counters_add(KMTLS_REASON_INJECT_FAILED);
		log_warning("held connect not answered",
			    "flow=%u.%u pod=%s reason=inject-failed "
			    "err=%s",
			    attempt->slot, attempt->generation,
			    kmtls_log_quote(handshake->pod->name), kmtls_log_quote(strerror(-err)));
	}
}

void kmtls_hold_pass(struct kmtls_hold *hold, struct kmtls_handshake *handshake)
{
	/* First the verdict: should this SYN get lost, the repeated one passes by itself. */
	decide(hold, &handshake->attempt, KMTLS_INJECT_SYN,
	       kmtls_loop_flow(handshake->loop, handshake->slot)->self.port);
	handshake->attempt.passed = true;
	if (handshake->attempt.packet_length) /* after a take-over it is not here */
		send_answer(handshake, KMTLS_INJECT_SYN);
}

void kmtls_hold_resume(struct kmtls_hold *hold, struct kmtls_handshake *handshake)
{
	const struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);

	list(hold, handshake, flow->local_cookie, flow->syn_sequence);
	/* The SYN itself went with the worker; if it had not been sent on, its repetition passes. */
	decide(hold, &handshake->attempt, KMTLS_INJECT_SYN, flow->self.port);
	handshake->attempt.passed = true;
}

void kmtls_hold_answer(struct kmtls_hold *hold, struct kmtls_handshake *handshake,
		       enum kmtls_reason reason)
{
	enum kmtls_inject kind = KMTLS_INJECT_RESET;

	switch (reason) {
	case KMTLS_REASON_LOCAL_TIMEOUT:
		/* It had been let go: its next repetition is an attempt of its own. */
		bpf_map_delete_elem(hold->verdicts, &handshake->attempt.cookie);
		return;
	case KMTLS_REASON_DIAL_TIMEOUT: /* silence: the application's own patience decides */
	case KMTLS_REASON_HANDSHAKE_TIMEOUT:
	case KMTLS_REASON_LOCAL_GONE: /* nobody is there to answer */
	case KMTLS_REASON_STALE:
		return;
	case KMTLS_REASON_DIAL_UNREACHABLE:
		kind = KMTLS_INJECT_HOST_UNREACHABLE;
		if (handshake->attempt.error == ENETUNREACH || handshake->attempt.error == ENETDOWN)
			kind = KMTLS_INJECT_NET_UNREACHABLE;
		else if (handshake->attempt.error == EACCES)
			kind = KMTLS_INJECT_PROHIBITED;
		break;
	default:
		break;
	}
	decide(hold, &handshake->attempt, kind, 0);
	send_answer(handshake, kind);
	if (kind != KMTLS_INJECT_RESET)
		kmtls_loop_answer_again(handshake->loop, handshake->pod, kind,
					handshake->attempt.packet,
					handshake->attempt.packet_length);
}

void kmtls_hold_forget(struct kmtls_hold *hold, struct kmtls_handshake *handshake)
{
	struct kmtls_attempt *attempt = &handshake->attempt;

	if (!attempt->cookie)
		return;
	pthread_mutex_lock(&hold->lock);
	unlist(hold, attempt);
	pthread_mutex_unlock(&hold->lock);
}

bool kmtls_hold_claim(struct kmtls_hold *hold, struct kmtls_loop *loop, __u64 cookie, int fd)
{
	struct kmtls_attempt *attempt;

	pthread_mutex_lock(&hold->lock);
	attempt = find(hold, cookie);
	if (attempt)
		tell_owner(hold, attempt, KMTLS_MESSAGE_ACCEPTED, fd);
	pthread_mutex_unlock(&hold->lock);
	return attempt != NULL;
}

/* ---- start and stop ---- */

/* Verdicts of an earlier daemon: who asks again is held again. */
static void clear_verdicts(int fd)
{
	__u64 cookie;

	while (bpf_map_get_next_key(fd, NULL, &cookie) == 0)
		if (bpf_map_delete_elem(fd, &cookie) < 0)
			break;
}

int kmtls_hold_open(struct kmtls_daemon *daemon, struct kmtls_hold **ret_hold, char *ret_why)
{
	struct kmtls_hold *hold = calloc(1, sizeof(*hold));

	snprintf(ret_why, KMTLS_WHY, "the ring buffer of held connects cannot be opened");
	if (!hold)
		return -ENOMEM;
	hold->daemon = daemon;
	hold->events = kmtls_bpf_map(daemon->bpf, KMTLS_MAP_EVENTS);
	hold->dials = kmtls_bpf_map(daemon->bpf, KMTLS_MAP_DIALS);
	hold->verdicts = kmtls_bpf_map(daemon->bpf, KMTLS_MAP_VERDICTS);
	pthread_mutex_init(&hold->consumer, NULL);
	pthread_mutex_init(&hold->lock, NULL);
	if (!daemon->inherited)
		clear_verdicts(hold->verdicts);
	hold->ring = ring_buffer__new(hold->events, on_event, hold, NULL);
	if (!hold->ring) {
		int err = -errno;

		free(hold);
		return err;
	}
	*ret_hold = hold;
	return 0;
}

void kmtls_hold_close(struct kmtls_hold *hold)
{
	if (!hold)
		return;
	ring_buffer__free(hold->ring);
	pthread_mutex_destroy(&hold->lock);
	pthread_mutex_destroy(&hold->consumer);
	free(hold);
}

int kmtls_hold_fd(const struct kmtls_hold *hold)
{
	return hold->events;
}
