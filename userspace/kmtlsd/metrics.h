/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h - what the daemon tells Prometheus: the text of one scrape, made when it is asked for.
 * Nothing is counted for it; it reads what is there, and holds no lock longer than a copy takes.
 */
#ifndef KMTLS_METRICS_H
#define KMTLS_METRICS_H

#include "metrics_text.h"

struct kmtls_daemon;

/* Appends all metrics. Any thread. -ENOMEM, -E2BIG beyond text's limit. */
int kmtls_metrics_render(struct kmtls_daemon *daemon, struct kmtls_text *text);

/* The parts, each of whole metrics. */
void kmtls_metrics_render_pods(struct kmtls_daemon *daemon, struct kmtls_text *text);
void kmtls_metrics_render_backends(struct kmtls_daemon *daemon, struct kmtls_text *text);

#endif
