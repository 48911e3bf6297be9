/* SPDX-License-Identifier: Apache-2.0 */
/* monitor.c - see monitor.h. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "log.h"
#include "logfmt.h"
#include "monitor.h"

#define PAIRS 1000 /* a longer event is cut */

struct event {
	struct timespec time;
	const char *msg; /* a constant of the program */
	unsigned char level;
	char pairs[PAIRS];
};

struct kmtls_subscription {
	unsigned long long next; /* number of the event it has not seen yet */
	char *pod, *reason; /* NULL: any */
};

static struct {
	pthread_mutex_t lock; /* of ring, written and woken; held for a copy */
	struct event *ring; /* KMTLS_MONITOR_EVENTS, NULL without subscribers */
	unsigned long long written;
	bool woken;
	unsigned subscribers; /* the control thread's */
	atomic_int fd; /* made once, stays */
} monitor = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1 };

/* Debug lines that are events. */
static const char *const extra[] = { "flow established",	  "flow ended",
				     "handshake tried once more", "key replaced",
				     "refused by a program",	  "policy changed" };

/* ---- those who make events ------------------------------------------------------------- */

static bool wants(enum kmtls_log_level level, const char *msg)
{
	if (level <= KMTLS_LOG_INFO)
		return true;
	for (size_t i = 0; i < sizeof(extra) / sizeof(extra[0]); i++) {
		if (!strcmp(msg, extra[i]))
			return true;
	}
	return false;
}

static void take(enum kmtls_log_level level, const char *msg, const char *pairs)
{
	bool wake = false;
	struct event *event;
	size_t length;

	pthread_mutex_lock(&monitor.lock);
	if (monitor.ring) {
		event = &monitor.ring[monitor.written++ % KMTLS_MONITOR_EVENTS];
		clock_gettime(CLOCK_REALTIME, &event->time);
		event->msg = msg;
		event->level = (unsigned char)level;
		length = strnlen(pairs, PAIRS - 1);
		memcpy(event->pairs, pairs, length);
		event->pairs[length] = '\0';
		wake = !monitor.woken;
		monitor.woken = true;
	}
	pthread_mutex_unlock(&monitor.lock);
	if (wake)
		kmtls_monitor_wake();
}

static const struct kmtls_log_tap tap = { .wants = wants, .take = take };

/* ---- subscribers ------------------------------------------------------------------------ */

static int start(void)
{
	struct event *ring;

	if (monitor.fd < 0)
		monitor.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (monitor.fd < 0)
		return -errno;
	ring = calloc(KMTLS_MONITOR_EVENTS, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	pthread_mutex_lock(&monitor.lock);
	monitor.ring = ring;
	pthread_mutex_unlock(&monitor.lock);
	kmtls_log_set_tap(&tap);
	return 0;
}

static void stop(void)
{
	struct event *ring;

	kmtls_log_set_tap(NULL);
	/* Someone may be in take() still. */
	pthread_mutex_lock(&monitor.lock);
	ring = monitor.ring;
	monitor.ring = NULL;
	pthread_mutex_unlock(&monitor.lock);
	free(ring);
}

int kmtls_monitor_subscribe(const char *pod, const char *reason,
			    struct kmtls_subscription **ret_subscription)
{
	struct kmtls_subscription *subscription;
	int err;

	if (monitor.subscribers == KMTLS_MONITOR_SUBSCRIBERS)
		return -EBUSY;
	subscription = calloc(1, sizeof(*subscription));
	if (!subscription)
		return -ENOMEM;
	subscription->pod = pod ? strdup(pod) : NULL;
	subscription->reason = reason ? strdup(reason) : NULL;
	err = (pod && !subscription->pod) || (reason && !subscription->reason) ? -ENOMEM : 0;
	if (!err && !monitor.subscribers)
		err = start();
	monitor.subscribers++;
	if (err) {
		kmtls_monitor_unsubscribe(subscription);
		return err;
	}
	pthread_mutex_lock(&monitor.lock);
	subscription->next = monitor.written;
	pthread_mutex_unlock(&monitor.lock);
	*ret_subscription = subscription;
	return 0;
}

void kmtls_monitor_unsubscribe(struct kmtls_subscription *subscription)
{
	if (!subscription)
		return;
	if (!--monitor.subscribers)
		stop();
	free(subscription->pod);
	free(subscription->reason);
	free(subscription);
}

bool kmtls_monitor_is_watched(void)
{
	return monitor.subscribers > 0;
}

int kmtls_monitor_fd(void)
{
	return monitor.fd;
}

void kmtls_monitor_wake(void)
{
	eventfd_write(monitor.fd, 1);
}

void kmtls_monitor_woken(void)
{
	eventfd_t ignored;

	eventfd_read(monitor.fd, &ignored);
	pthread_mutex_lock(&monitor.lock);
	monitor.woken = false;
	pthread_mutex_unlock(&monitor.lock);
}

/* ---- reading ---------------------------------------------------------------------------- */

/* Copies the next event. False: there is none. *ret_lost: how many before it are gone. */
static bool copy_next(struct kmtls_subscription *subscription, struct event *ret_event,
		      unsigned long long *ret_lost)
{
	bool found;

	*ret_lost = 0;
	pthread_mutex_lock(&monitor.lock);
	if (monitor.written - subscription->next > KMTLS_MONITOR_EVENTS) {
		*ret_lost = monitor.written - subscription->next - KMTLS_MONITOR_EVENTS;
		subscription->next += *ret_lost;
	}
	found = subscription->next != monitor.written;
	if (found)
		*ret_event = monitor.ring[subscription->next++ % KMTLS_MONITOR_EVENTS];
	pthread_mutex_unlock(&monitor.lock);
	return found;
}

static json_t *begin_event(const struct timespec *time, enum kmtls_log_level level, const char *msg)
{
	char text[40];
	struct tm utc;
	size_t length;

	gmtime_r(&time->tv_sec, &utc);
	length = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(text + length, sizeof(text) - length, ".%03ldZ", time->tv_nsec / 1000000);
	return json_pack("{s:s, s:s, s:s}", "time", text, "level", kmtls_log_level_name(level),
			 "event", msg);
}

static void put_line(struct kmtls_text *text, json_t *json)
{
	kmtls_text_append_json(text, json);
	kmtls_text_append(text, "\n", 1);
}

static bool has(const json_t *json, const char *key, const char *value)
{
	const char *found = json_string_value(json_object_get(json, key));

	return !value || (found && !strcmp(found, value));
}

static void put_event(const struct kmtls_subscription *subscription, const struct event *event,
		      struct kmtls_text *text)
{
	json_t *json = begin_event(&event->time, event->level, event->msg);

	kmtls_logfmt_read(event->pairs, json);
	if (has(json, "pod", subscription->pod) && has(json, "reason", subscription->reason))
		put_line(text, json);
	else
		json_decref(json);
}

/* In the place where they were, whatever is filtered: nobody knows what they said. */
static void put_lost(const struct event *event, unsigned long long lost, struct kmtls_text *text)
{
	json_t *json = begin_event(&event->time, KMTLS_LOG_WARNING, "events lost");
	char number[24];

	snprintf(number, sizeof(number), "%llu", lost);
	json_object_set_new(json, "lost", json_string(number));
	put_line(text, json);
}

bool kmtls_monitor_read(struct kmtls_subscription *subscription, size_t limit,
			struct kmtls_text *text)
{
	unsigned long long lost;
	struct event event;

	/* Also without a line that passes the filters it has to end some time. */
	for (unsigned i = 0; i < KMTLS_MONITOR_EVENTS && text->length < limit; i++) {
		if (!copy_next(subscription, &event, &lost))
			return false;
		if (lost)
			put_lost(&event, lost, text);
		put_event(subscription, &event, text);
	}
	return true;
}
