/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_server.h - serves the metrics over HTTP, where `metrics.listen` says. In a thread of its own:
 * whoever asks, slowly, often or nonsense, has to do with that thread only. All that it may
 * take is bounded: clients, bytes of a request, seconds, and how often a text is made.
 */
#ifndef KMTLS_METRICS_SERVER_H
#define KMTLS_METRICS_SERVER_H

struct kmtls_daemon;
struct kmtls_metrics_server;
struct kmtls_text;

#define KMTLS_METRICS_CLIENTS 16 /* at a time; one more takes the place of the slowest */
#define KMTLS_METRICS_ASK 5 /* seconds a client has for its request */
#define KMTLS_METRICS_TAKE 10 /* seconds it then has to take the answer */
#define KMTLS_METRICS_FRESH 200 /* ms: who asks within gets the same text */

/*
 * Without metrics.listen nothing is served and *ret_server is NULL. An address that cannot be had is
 * no reason not to start: flows matter more, so it is said and tried again every few seconds.
 */
int kmtls_metrics_server_open(struct kmtls_daemon *daemon,
			      struct kmtls_metrics_server **ret_server);
/* With another text, for tests. */
int kmtls_metrics_server_open_with(struct kmtls_daemon *daemon,
				   int (*render)(struct kmtls_daemon *daemon,
						 struct kmtls_text *text),
				   struct kmtls_metrics_server **ret_server);
void kmtls_metrics_server_close(struct kmtls_metrics_server *server);

#endif
