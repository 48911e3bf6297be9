/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_request.h - as much of HTTP/1.1 (RFC 9112) as a scrape needs: one request without a body to
 * one path, one answer, and the connection ends.
 */
#ifndef KMTLS_METRICS_REQUEST_H
#define KMTLS_METRICS_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "json.h"

#define KMTLS_METRICS_REQUEST_MAX 4096 /* bytes, with the empty line */

/*
 * The status that length bytes of a request deserve, at most KMTLS_METRICS_REQUEST_MAX; 0: they are
 * not all yet. Strict: what may be read in two ways is a bad request.
 */
unsigned kmtls_metrics_request_read(const char *bytes, size_t length, bool *ret_head);

/* Status line and fields, and unless head the body, which for any status but 200 is ours. */
int kmtls_metrics_answer(struct kmtls_text *answer, unsigned status, bool head,
			 const struct kmtls_text *body);

#endif
