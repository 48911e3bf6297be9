/* SPDX-License-Identifier: Apache-2.0 */
/* metrics_request.c - see metrics_request.h. */
#include "metrics_request.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "metrics_text.h"

#define PATH "/metrics"

/* A piece of the request. */
struct span {
	const char *bytes;
	size_t length;
};

static bool is(struct span span, const char *text)
{
	return span.length == strlen(text) && !memcmp(span.bytes, text, span.length);
}

static bool is_like(struct span span, const char *text)
{
	return span.length == strlen(text) && !strncasecmp(span.bytes, text, span.length);
}

/* RFC 9110, section 5.6.2. */
static bool is_token(struct span span)
{
	for (size_t i = 0; i < span.length; i++) {
		char c = span.bytes[i];

		if (!c || (!isalnum((unsigned char)c) && !strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return span.length;
}

/* Up to the first c, which is taken away from rest as well. false: there is none. */
static bool take_until(struct span *rest, char c, struct span *ret_taken)
{
	const char *at = memchr(rest->bytes, c, rest->length);

	if (!at)
		return false;
	*ret_taken = (struct span){ rest->bytes, (size_t)(at - rest->bytes) };
	rest->bytes = at + 1;
	rest->length -= ret_taken->length + 1;
	return true;
}

static bool is_version(struct span span)
{
	return span.length == 8 && !memcmp(span.bytes, "HTTP/", 5) &&
	       isdigit((unsigned char)span.bytes[5]) && span.bytes[6] == '.' &&
	       isdigit((unsigned char)span.bytes[7]);
}

static unsigned read_request_line(struct span line, bool *ret_head, bool *ret_needs_host)
{
	struct span method, target, path;

	if (!take_until(&line, ' ', &method) || !is_token(method) ||
	    !take_until(&line, ' ', &target) || !target.length || !is_version(line))
		return 400;
	*ret_needs_host = is(line, "HTTP/1.1");
	if (!*ret_needs_host && !is(line, "HTTP/1.0"))
		return 505;
	if (target.bytes[0] != '/')
		return 400; /* what is said to proxies */
	if (!take_until(&target, '?', &path))
		path = target;
	if (!is(path, PATH))
		return 404;
	*ret_head = is(method, "HEAD");
	return *ret_head || is(method, "GET") ? 200 : 405;
}

/* Of fields no more is asked than that they are fields, and that a host is named once. */
static unsigned read_field(struct span line, unsigned *hosts)
{
	struct span name;

	if (!take_until(&line, ':', &name) || !is_token(name))
		return 400; /* also a line that goes on from the one before */
	*hosts += is_like(name, "host");
	return 200;
}

/* Bytes that no request has. CR and LF are looked at where lines end. */
static bool has_control_bytes(struct span span)
{
	for (size_t i = 0; i < span.length; i++) {
		unsigned char c = (unsigned char)span.bytes[i];

		if ((c < 0x20 && c != '\t' && c != '\r' && c != '\n') || c == 0x7f)
			return true;
	}
	return false;
}

/* A line that ends in CR LF, and has no other CR. 0: it has not ended. */
static unsigned take_line(struct span *rest, struct span *ret_line)
{
	if (!take_until(rest, '\n', ret_line))
		return 0;
	if (!ret_line->length || ret_line->bytes[ret_line->length - 1] != '\r')
		return 400;
	ret_line->length--;
	return memchr(ret_line->bytes, '\r', ret_line->length) ? 400 : 200;
}

unsigned kmtls_metrics_request_read(const char *bytes, size_t length, bool *ret_head)
{
	struct span rest = { bytes, length }, line;
	unsigned hosts = 0, got, status, field = 200;
	bool head = false, needs_host = false;

	if (has_control_bytes(rest))
		return 400;
	got = take_line(&rest, &line);
	status = got == 200 ? read_request_line(line, &head, &needs_host) : got;
	if (status == 400)
		return 400;
	while (got == 200) {
		got = take_line(&rest, &line);
		if (got == 200 && !line.length)
			break;
		if (got == 200)
			field = read_field(line, &hosts);
		if (got == 400 || field == 400)
			return 400;
	}
	if (!got)
		return length >= KMTLS_METRICS_REQUEST_MAX ? 431 : 0;
	if (hosts > 1 || (needs_host && !hosts))
		return 400;
	*ret_head = head;
	return status;
}

static const char *phrase_of(unsigned status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 431:
		return "Request Header Fields Too Large";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Internal Server Error";
	}
}

int kmtls_metrics_answer(struct kmtls_text *answer, unsigned status, bool head,
			 const struct kmtls_text *body)
{
	char fields[512], own[64];

	snprintf(own, sizeof(own), "%s\n", phrase_of(status));
	snprintf(fields, sizeof(fields),
		 "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
		 "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
		 status, phrase_of(status),
		 status == 200 ? KMTLS_METRICS_CONTENT_TYPE : "text/plain; charset=utf-8",
		 status == 200 ? body->length : strlen(own),
		 status == 405 ? "Allow: GET, HEAD\r\n" : "");
	kmtls_text_append_string(answer, fields);
	if (!head && status == 200)
		kmtls_text_append(answer, body->bytes, body->length);
	else if (!head)
		kmtls_text_append_string(answer, own);
	return answer->err;
}
