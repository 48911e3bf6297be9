/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_metrics.c - what a scraper sends, and what is told to it. The request is answered the same
 * however it arrives in pieces; the same bytes as a label's value make no line of their own.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "metrics_request.h"
#include "metrics_socket.h"
#include "metrics_text.h"

static bool is_status(unsigned status)
{
	return status == 200 || status == 400 || status == 404 || status == 405 || status == 431 ||
	       status == 505;
}

static void check_request(const char *bytes, size_t length)
{
	bool head = false;
	unsigned status = kmtls_metrics_request_read(bytes, length, &head), piecewise = 0;
	size_t taken = 0;
	char *copy;

	HOLDS(!status || is_status(status));
	HOLDS(!head || !strncmp(bytes, "HEAD ", 5));
	if (status == 200)
		HOLDS(!strncmp(bytes + (head ? 5 : 4), "/metrics", 8) &&
		      memmem(bytes, length, "\r\n\r\n", 4));
	/* What was decided stays decided. In memory of its own, so that reading on is seen. */
	while (!piecewise && taken < length) {
		taken += 1 + (unsigned char)bytes[taken] % 64;
		taken = taken < length ? taken : length;
		copy = malloc(taken);
		memcpy(copy, bytes, taken);
		piecewise = kmtls_metrics_request_read(copy, taken, &head);
		free(copy);
	}
	HOLDS(piecewise == status || (piecewise && taken < length));
}

static void check_text(const char *value)
{
	struct kmtls_text text = { .limit = 0 };
	unsigned quotes = 0;

	kmtls_metrics_text_put(&text, KMTLS_METRIC_POD_FLOWS, 1, value);
	HOLDS(!text.err && memchr(text.bytes, '\n', text.length) == text.bytes + text.length - 1);
	for (size_t i = 0; i < text.length; i++) {
		if (text.bytes[i] == '\\')
			i++; /* and what it stands before */
		else
			quotes += text.bytes[i] == '"';
	}
	HOLDS(quotes == 2 && !memcmp(text.bytes + text.length - 5, "\"} 1\n", 5));
	kmtls_text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kmtls_endpoint endpoint;
	char *text;

	if (size > KMTLS_METRICS_REQUEST_MAX)
		return 0;
	check_request((const char *)data, size);
	text = strndup((const char *)data, size);
	check_text(text);
	if (kmtls_metrics_socket_parse(text, &endpoint) == 0)
		HOLDS(endpoint.port);
	free(text);
	return 0;
}
