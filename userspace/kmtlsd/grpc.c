/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc.c - the connection: socket, nghttp2's session, deadlines, and which calls are open on it.
 */
#include "grpc.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "grpc_parts.h"
#include "wiping.h"

#define READ_SIZE 16384
#define READS_AT_ONCE 64

int64_t kmtls_grpc_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int kmtls_grpc_connect(const char *path, int *ret_fd, char *ret_why)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	__cleanup_fd int fd = -1;
	int err;

	if (strlen(path) >= sizeof(address.sun_path)) {
		snprintf(ret_why, KMTLS_GRPC_WHY,
			 "%.120s: longer than the %zu bytes of a socket's path", path,
			 sizeof(address.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* EAGAIN, of a Unix socket: the queue of those who wait for accept() is full. */
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		err = -errno;
		snprintf(ret_why, KMTLS_GRPC_WHY, "%.120s: %s", path, strerror(-err));
		return err;
	}
	*ret_fd = kmtls_take_fd(fd);
	return 0;
}

/* ---- what nghttp2 tells ---- */

static ssize_t on_send(nghttp2_session *session, const uint8_t *data, size_t length, int flags,
		       void *context)
{
	struct kmtls_grpc *grpc = context;
	ssize_t sent = send(grpc->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (sent >= 0)
		return sent;
	if (errno == EAGAIN || errno == EINTR)
		return NGHTTP2_ERR_WOULDBLOCK;
	snprintf(grpc->why, sizeof(grpc->why), "sending failed: %s", strerror(errno));
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static struct kmtls_grpc_call *call_of(nghttp2_session *session, int32_t stream)
{
	return nghttp2_session_get_stream_user_data(session, stream);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
		     void *context)
{
	struct kmtls_grpc_call *call = call_of(session, frame->hd.stream_id);

	if (call && frame->hd.type == NGHTTP2_HEADERS)
		kmtls_grpc_call_header(call, (const char *)name, name_length, (const char *)value,
				       value_length, frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
	struct kmtls_grpc *grpc = context;
	struct kmtls_grpc_call *call;

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		call = call_of(session, frame->hd.stream_id);
		if (call)
			kmtls_grpc_call_headers_end(call);
		break;
	case NGHTTP2_PING:
		if (frame->hd.flags & NGHTTP2_FLAG_ACK)
			grpc->pinged = KMTLS_GRPC_NEVER;
		break;
	case NGHTTP2_GOAWAY:
		grpc->leaves = true;
		snprintf(grpc->why, sizeof(grpc->why), "the agent takes its leave (%s)",
			 nghttp2_http2_strerror(frame->goaway.error_code));
		break;
	}
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
		   size_t length, void *context)
{
	struct kmtls_grpc_call *call = call_of(session, stream);

	if (call)
		kmtls_grpc_call_data(call, data, length);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error, void *context)
{
	struct kmtls_grpc_call *call = call_of(session, stream);

	if (call)
		kmtls_grpc_call_end(call, error);
	return 0;
}

static void complain(struct kmtls_grpc *grpc, const char *what, size_t length)
{
	snprintf(grpc->why, sizeof(grpc->why), "not HTTP/2 as it should be: %.*s", (int)length,
		 what);
}

/* nghttp2 ends a session whose other side breaks a rule with a GOAWAY, which has the rule. */
static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
	if (frame->hd.type != NGHTTP2_GOAWAY || !frame->goaway.error_code)
		return 0;
	if (frame->goaway.opaque_data_len) {
		complain(context, (const char *)frame->goaway.opaque_data,
			 frame->goaway.opaque_data_len);
	} else {
		const char *what = nghttp2_http2_strerror(frame->goaway.error_code);

		complain(context, what, strlen(what));
	}
	return 0;
}

static ssize_t read_request(nghttp2_session *session, int32_t stream, uint8_t *buffer,
			    size_t length, uint32_t *flags, nghttp2_data_source *source,
			    void *context)
{
	struct kmtls_grpc_call *call = source->ptr;
	size_t left = call->request_length - call->request_sent;

	if (length > left)
		length = left;
	memcpy(buffer, call->request + call->request_sent, length);
	call->request_sent += length;
	if (length == left)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return length;
}

/* ---- opening ---- */

static int make_session(struct kmtls_grpc *grpc)
{
	static const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, READ_SIZE },
	};
	nghttp2_session_callbacks *callbacks;
	int err = nghttp2_session_callbacks_new(&callbacks);

	if (err)
		return -ENOMEM;
	nghttp2_session_callbacks_set_send_callback(callbacks, on_send);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
	err = nghttp2_session_client_new3(&grpc->session, callbacks, grpc, NULL,
					  &kmtls_wiping_nghttp2);
	nghttp2_session_callbacks_del(callbacks);
	if (!err)
		err = nghttp2_submit_settings(grpc->session, NGHTTP2_FLAG_NONE, settings,
					      sizeof(settings) / sizeof(settings[0]));
	return err ? -ENOMEM : 0;
}

int kmtls_grpc_open(int fd, const struct kmtls_grpc_options *options, struct kmtls_grpc **ret_grpc)
{
	struct kmtls_grpc *grpc = calloc(1, sizeof(*grpc));
	int err;

	if (!grpc) {
		close(fd);
		return -ENOMEM;
	}
	grpc->fd = fd;
	grpc->options = *options;
	grpc->heard = kmtls_grpc_now();
	grpc->pinged = KMTLS_GRPC_NEVER;
	err = make_session(grpc);
	if (err) {
		kmtls_grpc_close(grpc);
		return err;
	}
	*ret_grpc = grpc;
	return 0;
}

void kmtls_grpc_close(struct kmtls_grpc *grpc)
{
	if (!grpc)
		return;
	nghttp2_session_del(grpc->session);
	while (grpc->calls) {
		struct kmtls_grpc_call *call = grpc->calls;

		grpc->calls = call->next;
		kmtls_grpc_call_free(call);
	}
	close(grpc->fd);
	free(grpc);
}

/* ---- calls ---- */

#define HEADER(name, value)                                                         \
	{                                                                           \
		(uint8_t *)(name), (uint8_t *)(value), strlen(name), strlen(value), \
			NGHTTP2_NV_FLAG_NONE                                        \
	}

static int submit(struct kmtls_grpc_call *call, const char *path)
{
	const nghttp2_nv headers[] = {
		HEADER(":method", "POST"),
		HEADER(":scheme", "http"),
		HEADER(":path", path),
		HEADER(":authority", "localhost"),
		HEADER("te", "trailers"),
		HEADER("content-type", "application/grpc"),
		HEADER("user-agent", "kmtls/" KMTLS_VERSION),
		/* Workload Endpoint section 3: no request that somebody was tricked into has it. */
		HEADER("workload.spiffe.io", "true"),
	};
	const nghttp2_data_provider body = { .source.ptr = call, .read_callback = read_request };

	call->stream = nghttp2_submit_request(call->grpc->session, NULL, headers,
					      sizeof(headers) / sizeof(headers[0]), &body, call);
	if (call->stream > 0)
		return 0;
	return call->stream == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPIPE;
}

int kmtls_grpc_call(struct kmtls_grpc *grpc, const char *path, const uint8_t *request,
		    size_t length, const struct kmtls_grpc_handler *handler, void *context,
		    struct kmtls_grpc_call **ret_call)
{
	struct kmtls_grpc_call *call = calloc(1, sizeof(*call));
	int err = -ENOMEM;

	if (!call)
		return -ENOMEM;
	call->grpc = grpc;
	call->handler = handler;
	call->context = context;
	call->due = kmtls_grpc_now() + grpc->options.deadline;
	call->request_length = KMTLS_GRPC_PREFIX + length;
	call->request = kmtls_wiping_zalloc(1, call->request_length);
	if (!call->request)
		goto fail;
	for (unsigned i = 0; i < 4; i++)
		call->request[1 + i] = (uint8_t)(length >> (24 - 8 * i));
	if (length)
		memcpy(call->request + KMTLS_GRPC_PREFIX, request, length);
	err = grpc->leaves ? -EPIPE : submit(call, path);
	if (err)
		goto fail;
	call->next = grpc->calls;
	grpc->calls = call;
	*ret_call = call;
	return 0;
fail:
	kmtls_grpc_call_free(call);
	return err;
}

void kmtls_grpc_cancel(struct kmtls_grpc_call *call)
{
	call->cancelled = true;
	kmtls_grpc_call_fail(call, KMTLS_GRPC_CANCELLED, "cancelled");
}

static struct kmtls_grpc_call *next_unreported(struct kmtls_grpc *grpc)
{
	for (struct kmtls_grpc_call *call = grpc->calls; call; call = call->next)
		if (call->over && !call->reported)
			return call;
	return NULL;
}

/* Tells of calls that are over, and frees those that nghttp2 is done with. closed() may cancel others
 * and begin some. */
static void report(struct kmtls_grpc *grpc)
{
	struct kmtls_grpc_call **at = &grpc->calls, *call;

	while ((call = next_unreported(grpc))) {
		call->reported = true;
		if (!call->cancelled)
			call->handler->closed(call->context, call->code, call->why);
	}
	while ((call = *at)) {
		if (!call->over || !call->closed) {
			at = &call->next;
			continue;
		}
		*at = call->next;
		kmtls_grpc_call_free(call);
	}
}

/* ---- stepping ---- */

int kmtls_grpc_fd(const struct kmtls_grpc *grpc)
{
	return grpc->fd;
}

short kmtls_grpc_events(struct kmtls_grpc *grpc)
{
	return POLLIN | (nghttp2_session_want_write(grpc->session) ? POLLOUT : 0);
}

int64_t kmtls_grpc_due(const struct kmtls_grpc *grpc)
{
	int64_t due = grpc->pinged;

	if (due == KMTLS_GRPC_NEVER)
		due = grpc->heard + grpc->options.ping;
	for (const struct kmtls_grpc_call *call = grpc->calls; call; call = call->next)
		if (call->due < due)
			due = call->due;
	return due;
}

/* 1: there may be more; 0: not now. */
static int read_some(struct kmtls_grpc *grpc, char *ret_why)
{
	uint8_t buffer[READ_SIZE];
	ssize_t count = recv(grpc->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	ssize_t taken;
	int err = -errno;

	if (count < 0 && (err == -EAGAIN || err == -EINTR))
		return 0;
	if (count < 0) {
		snprintf(ret_why, KMTLS_GRPC_WHY, "receiving failed: %s", strerror(-err));
		return err;
	}
	if (!count) {
		snprintf(ret_why, KMTLS_GRPC_WHY, "%s",
			 *grpc->why ? grpc->why : "the agent closed the connection");
		return -ECONNRESET;
	}
	grpc->heard = kmtls_grpc_now();
	taken = nghttp2_session_mem_recv(grpc->session, buffer, count);
	OPENSSL_cleanse(buffer, count);
	if (taken >= 0)
		return 1;
	complain(grpc, nghttp2_strerror((int)taken), strlen(nghttp2_strerror((int)taken)));
	snprintf(ret_why, KMTLS_GRPC_WHY, "%s", grpc->why);
	return -EPROTO;
}

static int read_all(struct kmtls_grpc *grpc, char *ret_why)
{
	int more = 1;

	for (unsigned i = 0; more > 0 && i < READS_AT_ONCE; i++) {
		more = read_some(grpc, ret_why);
		/* Also before an error: what was said before the end counts. */
		report(grpc);
	}
	return more < 0 ? more : 0;
}

static int look_at_clock(struct kmtls_grpc *grpc, char *ret_why)
{
	int64_t now = kmtls_grpc_now();

	for (struct kmtls_grpc_call *call = grpc->calls; call; call = call->next)
		if (call->due <= now)
			kmtls_grpc_call_fail(call, KMTLS_GRPC_DEADLINE_EXCEEDED,
					     call->prefix_length ? "half an answer for %u ms"
								 : "no answer for %u ms",
					     grpc->options.deadline);
	report(grpc);
	if (grpc->pinged <= now) {
		snprintf(ret_why, KMTLS_GRPC_WHY,
			 "the agent is silent: no answer to a ping for %u ms",
			 grpc->options.deadline);
		return -ETIMEDOUT;
	}
	if (grpc->pinged == KMTLS_GRPC_NEVER && grpc->heard + grpc->options.ping <= now) {
		nghttp2_submit_ping(grpc->session, NGHTTP2_FLAG_NONE, NULL);
		grpc->pinged = now + grpc->options.deadline;
	}
	return 0;
}

int kmtls_grpc_step(struct kmtls_grpc *grpc, char *ret_why)
{
	int err = read_all(grpc, ret_why);

	if (!err)
		err = look_at_clock(grpc, ret_why);
	if (err)
		return err;
	err = nghttp2_session_send(grpc->session);
	report(grpc);
	/* Without a call that waits for its end there is nothing left to do on it. */
	if (err || grpc->leaves ||
	    (!nghttp2_session_want_read(grpc->session) &&
	     !nghttp2_session_want_write(grpc->session))) {
		snprintf(ret_why, KMTLS_GRPC_WHY, "%s",
			 *grpc->why ? grpc->why : "the connection is over");
		return -ECONNRESET;
	}
	return 0;
}
