/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_metrics.c - the text format, and what HTTP is understood: texts against texts. That metrics
 * say what is so is a test in guests, where there is something to say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "metrics_request.h"
#include "metrics_socket.h"
#include "metrics_text.h"

/* ---- the text ---- */

static void assert_text(struct kmtls_text *text, const char *expected)
{
	assert_int_equal(text->err, 0);
	assert_int_equal(kmtls_text_append(text, "", 1), 0);
	assert_string_equal(text->bytes, expected);
	kmtls_text_free(text);
}

static void test_samples(void **state)
{
	struct kmtls_text text = { .limit = 0 };

	kmtls_metrics_text_one(&text, KMTLS_METRIC_PODS, 3);
	kmtls_metrics_text_begin(&text, KMTLS_METRIC_POD_UDP_BYTES);
	kmtls_metrics_text_put(&text, KMTLS_METRIC_POD_UDP_BYTES, INT64_MAX, "shop/web", "sent");
	kmtls_metrics_text_put(&text, KMTLS_METRIC_POD_UDP_BYTES, 0, "shop/web", "received");
	assert_text(&text,
		    "# HELP kmtls_pods enrolled pods\n# TYPE kmtls_pods gauge\nkmtls_pods 3\n"
		    "# HELP kmtls_pod_udp_bytes_total bytes of UDP of the pod in the clear\n"
		    "# TYPE kmtls_pod_udp_bytes_total counter\n"
		    "kmtls_pod_udp_bytes_total{pod=\"shop/web\",direction=\"sent\"} "
		    "9223372036854775807\n"
		    "kmtls_pod_udp_bytes_total{pod=\"shop/web\",direction=\"received\"} 0\n");
}

/* What comes from outside, as the subject of a root does, cannot make a sample of its own. */
static void test_escaping(void **state)
{
	struct kmtls_text text = { .limit = 0 };

	kmtls_metrics_text_put(&text, KMTLS_METRIC_POD_INFO, 1, "a\"} 1\nkmtls_pods 7\n", "\\\"\\");
	kmtls_metrics_text_put(&text, KMTLS_METRIC_POD_INFO, 1, "\xc3\xa9", "\xff\xc3");
	kmtls_metrics_text_put(&text, KMTLS_METRIC_POD_INFO, 1, "", "{}=,");
	assert_text(
		&text,
		"kmtls_pod_info{pod=\"a\\\"} 1\\nkmtls_pods 7\\n\",spiffe_id=\"\\\\\\\"\\\\\"} 1\n"
		"kmtls_pod_info{pod=\"\xc3\xa9\",spiffe_id=\"\?\?\"} 1\n"
		"kmtls_pod_info{pod=\"\",spiffe_id=\"{}=,\"} 1\n");
}

/* Each name once, by the rules of the format; a counter and nothing else ends in _total. */
static void test_names(void **state)
{
	static const struct {
		const char *name, *type, *labels, *help;
	} all[] = {
#define METRIC(symbol, name, type, labels, help) { name, #type, labels, help },
		KMTLS_METRICS(METRIC)
#undef METRIC
	};
	const size_t count = sizeof(all) / sizeof(all[0]);

	for (size_t i = 0; i < count; i++) {
		size_t length = strlen(all[i].name);
		bool total = length > 6 && !strcmp(all[i].name + length - 6, "_total");

		assert_int_equal(strspn(all[i].name, "abcdefghijklmnopqrstuvwxyz_"), length);
		assert_int_equal(total, strcmp(all[i].type, "counter") == 0);
		assert_true(total || strcmp(all[i].type, "gauge") == 0);
		assert_null(strpbrk(all[i].help, "\\\n"));
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(all[i].name, all[j].name);
	}
}

static void test_no_memory(void **state)
{
	struct kmtls_text text = { .limit = 10 };

	kmtls_metrics_text_one(&text, KMTLS_METRIC_PODS, 3);
	assert_int_equal(text.err, -E2BIG);
	kmtls_text_free(&text);
}

/* ---- requests ---- */

#define GET "GET /metrics HTTP/1.1\r\n"
#define HOST "Host: a\r\n"

static const struct {
	const char *request;
	unsigned status;
} requests[] = {
	{ GET HOST "\r\n", 200 },
	{ "HEAD /metrics HTTP/1.1\r\n" HOST "\r\n", 200 },
	{ "GET /metrics HTTP/1.0\r\n\r\n", 200 },
	{ "GET /metrics?a=b HTTP/1.1\r\n" HOST "\r\n", 200 },
	{ GET "host:\r\nAccept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n"
	      "User-Agent: Prometheus/2.42.0\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n",
	  200 },
	{ GET HOST "\r\nGET /else HTTP/1.1\r\n", 200 }, /* what comes after is not looked at */
	{ GET HOST "Odd:\t\x80\xff\r\n\r\n", 200 }, /* obs-text */
	/* not all of it */
	{ "", 0 },
	{ "G", 0 },
	{ GET, 0 },
	{ GET HOST, 0 },
	{ GET HOST "\r", 0 },
	{ "GET /else HTTP/1.1\r\n", 0 },
	{ "nonsense", 0 },
	/* elsewhere, otherwise */
	{ "GET / HTTP/1.1\r\n" HOST "\r\n", 404 },
	{ "GET /metrics/ HTTP/1.1\r\n" HOST "\r\n", 404 },
	{ "GET /METRICS HTTP/1.1\r\n" HOST "\r\n", 404 },
	{ "GET /metricsx HTTP/1.1\r\n" HOST "\r\n", 404 },
	{ "GET //metrics HTTP/1.1\r\n" HOST "\r\n", 404 },
	{ "POST / HTTP/1.1\r\n" HOST "\r\n", 404 },
	{ "POST /metrics HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 405 },
	{ "get /metrics HTTP/1.1\r\n" HOST "\r\n", 405 },
	{ "GET /metrics HTTP/2.0\r\n" HOST "\r\n", 505 },
	{ "GET /metrics HTTP/1.2\r\n\r\n", 505 },
	/* no HTTP, or of two minds */
	{ "\r\n", 400 },
	{ "\n", 400 },
	{ "GET /metrics\r\n", 400 },
	{ "GET  /metrics HTTP/1.1\r\n", 400 },
	{ "GET /metrics  HTTP/1.1\r\n", 400 },
	{ "GET /metrics HTTP/1.1 \r\n", 400 },
	{ " GET /metrics HTTP/1.1\r\n", 400 },
	{ "GET /metrics http/1.1\r\n", 400 },
	{ "GET /metrics HTTP/11\r\n", 400 },
	{ "G@T /metrics HTTP/1.1\r\n", 400 },
	{ "GET http://a/metrics HTTP/1.1\r\n", 400 },
	{ "GET metrics HTTP/1.1\r\n", 400 },
	{ "OPTIONS * HTTP/1.1\r\n", 400 },
	{ "GET /metrics HTTP/1.1\n", 400 },
	{ "GET /met\rrics HTTP/1.1\r\n", 400 },
	{ GET "\r\n", 400 }, /* a host is asked for */
	{ GET HOST HOST "\r\n", 400 },
	{ "GET /metrics HTTP/1.0\r\n" HOST HOST "\r\n", 400 },
	{ GET HOST "no colon\r\n", 400 },
	{ GET "Host : a\r\n", 400 },
	{ GET ": a\r\n", 400 },
	{ GET HOST " folded\r\n", 400 },
	{ GET "\x01", 400 },
	{ GET "Host: \x7f", 400 },
	{ "\x16\x03\x01\x02\x05\x01", 400 }, /* a ClientHello */
};

static void test_requests(void **state)
{
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		const char *request = requests[i].request;
		bool head = false;
		unsigned status = kmtls_metrics_request_read(request, strlen(request), &head);

		if (status != requests[i].status)
			fail_msg("%u, not %u: %s", status, requests[i].status, request);
		if (status == 200)
			assert_int_equal(head, !strncmp(request, "HEAD ", 5));
	}
}

/* However it is cut into pieces: nothing is answered too early, and no other way. */
static void test_pieces(void **state)
{
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		const char *request = requests[i].request;
		unsigned status = 0;
		bool head;

		for (size_t length = 0; !status && length <= strlen(request); length++)
			status = kmtls_metrics_request_read(request, length, &head);
		assert_int_equal(status, requests[i].status);
	}
}

static void test_zero_bytes(void **state)
{
	bool head;

	assert_int_equal(kmtls_metrics_request_read(GET "Host: \0\r\n\r\n", 34, &head), 400);
}

static void test_long(void **state)
{
	char request[KMTLS_METRICS_REQUEST_MAX];
	bool head;

	memset(request, 'x', sizeof(request));
	memcpy(request, GET HOST "X: ", strlen(GET HOST "X: "));
	assert_int_equal(kmtls_metrics_request_read(request, sizeof(request) - 1, &head), 0);
	assert_int_equal(kmtls_metrics_request_read(request, sizeof(request), &head), 431);
	memcpy(request + sizeof(request) - 4, "\r\n\r\n", 4);
	assert_int_equal(kmtls_metrics_request_read(request, sizeof(request), &head), 200);
}

static void test_answers(void **state)
{
	struct kmtls_text body = { .bytes = "kmtls_pods 1\n", .length = 13 };
	struct kmtls_text answer = { .limit = 0 };

	assert_int_equal(kmtls_metrics_answer(&answer, 200, false, &body), 0);
	assert_text(&answer,
		    "HTTP/1.1 200 OK\r\n"
		    "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
		    "Content-Length: 13\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
		    "kmtls_pods 1\n");
	assert_int_equal(kmtls_metrics_answer(&answer, 200, true, &body), 0);
	assert_text(&answer,
		    "HTTP/1.1 200 OK\r\n"
		    "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
		    "Content-Length: 13\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n");
	assert_int_equal(kmtls_metrics_answer(&answer, 405, false, &body), 0);
	assert_text(&answer,
		    "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\n"
		    "Content-Length: 19\r\nAllow: GET, HEAD\r\nCache-Control: no-store\r\n"
		    "Connection: close\r\n\r\nMethod Not Allowed\n");
}

/* ---- where ---- */

static void test_addresses(void **state)
{
	static const struct {
		const char *text;
		unsigned port; /* 0: refused */
	} table[] = {
		{ "127.0.0.1:9464", 9464 },
		{ "[::1]:1", 1 },
		{ "0.0.0.0:65535", 65535 },
		{ "[::]:9464", 9464 },
		{ "", 0 },
		{ ":9464", 0 },
		{ "127.0.0.1", 0 },
		{ "127.0.0.1:", 0 },
		{ "127.0.0.1:0", 0 },
		{ "127.0.0.1:65536", 0 },
		{ "127.0.0.1:01", 0 },
		{ "127.0.0.1:9464 ", 0 },
		{ "127.0.0.1:+1", 0 },
		{ "127.0.0.1:1a", 0 },
		{ "127.0.0.1:123456", 0 },
		{ "::1:9464", 0 },
		{ "[::1]9464", 0 },
		{ "[::1:9464", 0 },
		{ "[]:9464", 0 },
		{ "[:9464", 0 },
		{ "]:9464", 0 },
		{ "[127.0.0.1]:9464", 0 },
		{ "localhost:9464", 0 },
		{ "[fe80::1%eth0]:9464", 0 },
		{ "http://127.0.0.1:80", 0 },
	};
	struct kmtls_endpoint endpoint;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int err = kmtls_metrics_socket_parse(table[i].text, &endpoint);

		if (err != (table[i].port ? 0 : -EINVAL))
			fail_msg("%d: %s", err, table[i].text);
		if (!err)
			assert_int_equal(endpoint.port, table[i].port);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),	   cmocka_unit_test(test_escaping),
		cmocka_unit_test(test_names),	   cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_requests),   cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_zero_bytes), cmocka_unit_test(test_long),
		cmocka_unit_test(test_answers),	   cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
