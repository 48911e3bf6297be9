/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_text.h - the text exposition format of Prometheus, version 0.0.4: a metric's two comment
 * lines, then its samples, then the next metric's.
 */
#ifndef KMTLS_METRICS_TEXT_H
#define KMTLS_METRICS_TEXT_H

#include <linux/types.h>

#include "json.h"
#include "metrics_list.h"

enum kmtls_metric {
#define KMTLS_METRIC_ENUM(symbol, name, type, labels, help) KMTLS_METRIC_##symbol,
	KMTLS_METRICS(KMTLS_METRIC_ENUM)
#undef KMTLS_METRIC_ENUM
		KMTLS_METRIC_COUNT
};

#define KMTLS_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Once for each metric, before its samples. */
void kmtls_metrics_text_begin(struct kmtls_text *text, enum kmtls_metric metric);
/* values: as many as the metric has labels, in their order; of any bytes. Errors stay in text. */
void kmtls_metrics_text_sample(struct kmtls_text *text, enum kmtls_metric metric,
			       const char *const *values, __s64 value);

#define kmtls_metrics_text_put(text, metric, value, ...) \
	kmtls_metrics_text_sample(text, metric, (const char *const[]){ __VA_ARGS__ }, value)
/* A metric without labels: all of it. */
void kmtls_metrics_text_one(struct kmtls_text *text, enum kmtls_metric metric, __s64 value);

#endif
