/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc_call.c - one call as gRPC has it ("gRPC over HTTP2", PROTOCOL-HTTP2.md): which headers an
 * answer must have, messages behind their five bytes of prefix, and how it ended.
 */
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grpc_parts.h"
#include "wiping.h"

#define HEADER_BYTES_MAX 16384 /* of all headers and trailers of a call */
#define FIRST_SIZE 4096

static const char *const code_names[] = {
	"OK",
	"Cancelled",
	"Unknown",
	"InvalidArgument",
	"DeadlineExceeded",
	"NotFound",
	"AlreadyExists",
	"PermissionDenied",
	"ResourceExhausted",
	"FailedPrecondition",
	"Aborted",
	"OutOfRange",
	"Unimplemented",
	"Internal",
	"Unavailable",
	"DataLoss",
	"Unauthenticated",
};

const char *kmtls_grpc_code_name(unsigned code)
{
	return code < sizeof(code_names) / sizeof(code_names[0]) ? code_names[code]
								 : "code of no meaning";
}

void kmtls_grpc_call_fail(struct kmtls_grpc_call *call, unsigned code, const char *format, ...)
{
	va_list arguments;

	if (call->over)
		return;
	call->over = true;
	call->due = KMTLS_GRPC_NEVER;
	call->code = code;
	va_start(arguments, format);
	vsnprintf(call->why, sizeof(call->why), format, arguments);
	va_end(arguments);
	nghttp2_submit_rst_stream(call->grpc->session, NGHTTP2_FLAG_NONE, call->stream,
				  NGHTTP2_CANCEL);
}

void kmtls_grpc_call_free(struct kmtls_grpc_call *call)
{
	kmtls_wiping_free(call->request);
	kmtls_wiping_free(call->bytes);
	OPENSSL_cleanse(call, sizeof(*call));
	free(call);
}

/* ---- headers ---- */

static bool is(const char *name, size_t length, const char *wanted)
{
	return length == strlen(wanted) && !memcmp(name, wanted, length);
}

/* At most four digits; UINT32_MAX: no such number. */
static unsigned number(const char *text, size_t length)
{
	unsigned value = 0;

	if (!length || length > 4)
		return UINT32_MAX;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return UINT32_MAX;
		value = value * 10 + (text[i] - '0');
	}
	return value;
}

static int hex(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* grpc-message is percent-encoded; what is no such code stands for itself. */
static void read_message(struct kmtls_grpc_call *call, const char *text, size_t length)
{
	size_t to = 0;

	for (size_t i = 0; i < length && to < sizeof(call->why) - 1; i++) {
		char byte = text[i];

		if (byte == '%' && length - i > 2 && hex(text[i + 1]) >= 0 &&
		    hex(text[i + 2]) >= 0) {
			byte = (char)(hex(text[i + 1]) << 4 | hex(text[i + 2]));
			i += 2;
		}
		call->why[to++] = byte ? byte : '?';
	}
	call->why[to] = '\0';
}

/* application/grpc, and whatever follows after a + or a ; */
static bool is_grpc(const char *type, size_t length)
{
	static const char prefix[] = "application/grpc";
	const size_t prefix_length = sizeof(prefix) - 1;

	return length >= prefix_length && !memcmp(type, prefix, prefix_length) &&
	       (length == prefix_length || type[prefix_length] == '+' ||
		type[prefix_length] == ';');
}

void kmtls_grpc_call_header(struct kmtls_grpc_call *call, const char *name, size_t name_length,
			    const char *value, size_t value_length, bool last)
{
	if (call->over)
		return;
	call->header_bytes += name_length + value_length;
	if (call->header_bytes > HEADER_BYTES_MAX) {
		kmtls_grpc_call_fail(call, KMTLS_GRPC_RESOURCE_EXHAUSTED,
				     "the headers are longer than %u bytes", HEADER_BYTES_MAX);
		return;
	}
	if (is(name, name_length, ":status"))
		call->http_status = number(value, value_length);
	else if (is(name, name_length, "content-type"))
		call->is_grpc = is_grpc(value, value_length);
	else if (last && is(name, name_length, "grpc-message"))
		read_message(call, value, value_length);
	else if (last && is(name, name_length, "grpc-status")) {
		unsigned code = number(value, value_length);

		call->has_code = true;
		call->code = code < sizeof(code_names) / sizeof(code_names[0]) ? code
									       : KMTLS_GRPC_UNKNOWN;
	}
}

/* gRPC's http-grpc-status-mapping.md */
static unsigned code_of_http(unsigned status)
{
	switch (status) {
	case 400:
		return KMTLS_GRPC_INTERNAL;
	case 401:
		return KMTLS_GRPC_UNAUTHENTICATED;
	case 403:
		return KMTLS_GRPC_PERMISSION_DENIED;
	case 404:
		return KMTLS_GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return KMTLS_GRPC_UNAVAILABLE;
	default:
		return KMTLS_GRPC_UNKNOWN;
	}
}

void kmtls_grpc_call_headers_end(struct kmtls_grpc_call *call)
{
	/* 1xx comes before the answer; trailers were checked with the headers. */
	if (call->over || call->checked || call->http_status < 200)
		return;
	call->checked = true;
	if (call->has_code)
		return;
	if (call->http_status != 200)
		kmtls_grpc_call_fail(call, code_of_http(call->http_status),
				     "the answer has HTTP status %u", call->http_status);
	else if (!call->is_grpc)
		kmtls_grpc_call_fail(call, KMTLS_GRPC_UNKNOWN,
				     "the answer's content-type is not application/grpc");
}

/* ---- messages ---- */

static void wipe_message(struct kmtls_grpc_call *call)
{
	kmtls_wiping_free(call->bytes);
	call->bytes = NULL;
	call->length = call->size = call->wanted = 0;
	call->prefix_length = 0;
}

static bool read_prefix(struct kmtls_grpc_call *call)
{
	size_t wanted = (size_t)call->prefix[1] << 24 | (size_t)call->prefix[2] << 16 |
			(size_t)call->prefix[3] << 8 | call->prefix[4];

	if (call->prefix[0] > 1)
		kmtls_grpc_call_fail(call, KMTLS_GRPC_INTERNAL,
				     "a message begins with %u where 0 or 1 must be",
				     call->prefix[0]);
	else if (call->prefix[0])
		kmtls_grpc_call_fail(call, KMTLS_GRPC_INTERNAL,
				     "a message is compressed, which was not offered");
	else if (wanted > KMTLS_GRPC_MESSAGE_MAX)
		kmtls_grpc_call_fail(call, KMTLS_GRPC_RESOURCE_EXHAUSTED,
				     "a message of %zu bytes: more than %u", wanted,
				     KMTLS_GRPC_MESSAGE_MAX);
	call->wanted = wanted;
	return !call->over;
}

/* Memory comes with the bytes, not with the promise of them. */
static bool make_room(struct kmtls_grpc_call *call, size_t more)
{
	size_t size = call->size ? call->size : FIRST_SIZE;
	uint8_t *bytes;

	while (size < call->length + more)
		size *= 2;
	if (size == call->size)
		return true;
	bytes = kmtls_wiping_realloc(call->bytes, size);
	if (!bytes) {
		kmtls_grpc_call_fail(call, KMTLS_GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return false;
	}
	call->bytes = bytes;
	call->size = size;
	return true;
}

static void hand_on(struct kmtls_grpc_call *call)
{
	static const uint8_t nothing;
	int err;

	call->due = KMTLS_GRPC_NEVER;
	err = call->handler->message(call->context, call->bytes ? call->bytes : &nothing,
				     call->length);
	wipe_message(call);
	if (err && !call->cancelled)
		kmtls_grpc_cancel(call);
}

static size_t take_prefix(struct kmtls_grpc_call *call, const uint8_t *data, size_t length)
{
	size_t count = KMTLS_GRPC_PREFIX - call->prefix_length;

	if (!call->prefix_length)
		call->due = kmtls_grpc_now() + call->grpc->options.deadline;
	if (count > length)
		count = length;
	memcpy(call->prefix + call->prefix_length, data, count);
	call->prefix_length += count;
	if (call->prefix_length == KMTLS_GRPC_PREFIX && read_prefix(call) && !call->wanted)
		hand_on(call);
	return count;
}

static size_t take_bytes(struct kmtls_grpc_call *call, const uint8_t *data, size_t length)
{
	size_t count = call->wanted - call->length;

	if (count > length)
		count = length;
	if (!make_room(call, count))
		return 0;
	memcpy(call->bytes + call->length, data, count);
	call->length += count;
	if (call->length == call->wanted)
		hand_on(call);
	return count;
}

void kmtls_grpc_call_data(struct kmtls_grpc_call *call, const uint8_t *data, size_t length)
{
	while (length && !call->over && !call->cancelled) {
		size_t count = call->prefix_length < KMTLS_GRPC_PREFIX
				       ? take_prefix(call, data, length)
				       : take_bytes(call, data, length);

		data += count;
		length -= count;
	}
}

/* ---- the end ---- */

static unsigned code_of_reset(uint32_t error)
{
	switch (error) {
	case NGHTTP2_REFUSED_STREAM:
		return KMTLS_GRPC_UNAVAILABLE;
	case NGHTTP2_CANCEL:
		return KMTLS_GRPC_CANCELLED;
	case NGHTTP2_ENHANCE_YOUR_CALM:
		return KMTLS_GRPC_RESOURCE_EXHAUSTED;
	case NGHTTP2_INADEQUATE_SECURITY:
		return KMTLS_GRPC_PERMISSION_DENIED;
	default:
		return KMTLS_GRPC_INTERNAL;
	}
}

void kmtls_grpc_call_end(struct kmtls_grpc_call *call, uint32_t error)
{
	const char *rule = NULL;
	unsigned code = KMTLS_GRPC_UNKNOWN;

	call->closed = true;
	if (call->over)
		return;
	call->over = true;
	call->due = KMTLS_GRPC_NEVER;
	if (call->has_code && call->code)
		return;
	if (!call->has_code && error) {
		call->code = code_of_reset(error);
		/* After a GOAWAY nghttp2 resets what the server will not look at any more. */
		if (call->grpc->leaves && error == NGHTTP2_REFUSED_STREAM)
			snprintf(call->why, sizeof(call->why), "%s", call->grpc->why);
		else
			snprintf(call->why, sizeof(call->why), "the stream was reset (%s)",
				 nghttp2_http2_strerror(error));
		return;
	}
	if (call->prefix_length) {
		rule = "the stream ends inside a message";
		code = KMTLS_GRPC_INTERNAL;
	} else if (!call->has_code) {
		rule = "the stream ends without grpc-status";
	} else {
		return;
	}
	call->code = code;
	snprintf(call->why, sizeof(call->why), "%s", rule);
}
