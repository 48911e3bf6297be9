/* SPDX-License-Identifier: Apache-2.0 */
/*
 * monitor.h - events as they happen, for `kmtls monitor`. An event is a line of the log: those of
 * level info and above, and of the debug ones those that monitor.c lists, whatever the level is. So
 * there is one place where an event is made, and the two cannot say different things.
 *
 * Whoever makes an event copies it into one ring, and never waits for a reader. A subscriber has a
 * place in the ring and no memory of its own; one that reads too slowly is overtaken, and told how
 * many it has lost. Subscribers are the control thread's.
 */
#ifndef KMTLS_MONITOR_H
#define KMTLS_MONITOR_H

#include <jansson.h>
#include <stdbool.h>

#include "json.h"

#define KMTLS_MONITOR_EVENTS 1024 /* in the ring */
#define KMTLS_MONITOR_SUBSCRIBERS 8

struct kmtls_daemon;
struct kmtls_subscription;

/* pod, reason: only events that have them; NULL: all. -EBUSY: there are as many as there may be;
 * -ENOMEM. The first one makes events be collected. */
int kmtls_monitor_subscribe(const char *pod, const char *reason,
			    struct kmtls_subscription **ret_subscription);
void kmtls_monitor_unsubscribe(struct kmtls_subscription *subscription); /* NULL is fine */

bool kmtls_monitor_is_watched(void); /* by anyone */

/* Appends what is new, one JSON line each, and no more than about limit bytes. True: there is more. */
bool kmtls_monitor_read(struct kmtls_subscription *subscription, size_t limit,
			struct kmtls_text *text);

/* An eventfd that is readable when there may be something new; -1 before the first subscriber.
 * kmtls_monitor_wake() makes it so, kmtls_monitor_woken() takes it back. */
int kmtls_monitor_fd(void);
void kmtls_monitor_wake(void);
void kmtls_monitor_woken(void);

/* control_monitor.c, once a second: what has no line of its own, because programs do it or someone
 * wrote a map. */
void kmtls_monitor_tick(struct kmtls_daemon *daemon);

#endif
