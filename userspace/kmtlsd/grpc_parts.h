/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_parts.h - shared by grpc.c (the connection) and grpc_call.c (what belongs to one call). */
#ifndef KMTLS_GRPC_PARTS_H
#define KMTLS_GRPC_PARTS_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>

#include "grpc.h"

#define KMTLS_GRPC_PREFIX 5 /* a flag and the length of the message that follows */

struct kmtls_grpc {
	int fd;
	nghttp2_session *session;
	struct kmtls_grpc_options options;
	struct kmtls_grpc_call *calls;
	bool leaves; /* GOAWAY came */
	int64_t heard; /* when the last byte came */
	int64_t pinged; /* when an answer to our ping is due; NEVER: none is out */
	char why[KMTLS_GRPC_WHY]; /* what nghttp2 says about the other side */
};

struct kmtls_grpc_call {
	struct kmtls_grpc *grpc;
	struct kmtls_grpc_call *next;
	int32_t stream;
	const struct kmtls_grpc_handler *handler;
	void *context;
	int64_t due; /* of the answer that is waited for, or NEVER */
	bool cancelled; /* nobody wants to hear of it any more */
	bool over; /* code and why are final; to be reported */
	bool reported;
	bool closed; /* nghttp2 has done with it, which may be later: until then it stays */
	unsigned code;
	char why[KMTLS_GRPC_WHY];
	/* The request, with its prefix, and what of it is sent. */
	uint8_t *request;
	size_t request_length, request_sent;
	/* Headers. */
	unsigned http_status;
	size_t header_bytes;
	bool is_grpc, checked, has_code;
	/* The answer that is coming: its prefix, then its bytes. */
	uint8_t prefix[KMTLS_GRPC_PREFIX];
	unsigned prefix_length;
	uint8_t *bytes;
	size_t length, size, wanted;
};

/* The first complaint about a call counts; the stream is reset. */
void kmtls_grpc_call_fail(struct kmtls_grpc_call *call, unsigned code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* What came on the call's stream. last: with the end of the stream. */
void kmtls_grpc_call_header(struct kmtls_grpc_call *call, const char *name, size_t name_length,
			    const char *value, size_t value_length, bool last);
void kmtls_grpc_call_headers_end(struct kmtls_grpc_call *call);
void kmtls_grpc_call_data(struct kmtls_grpc_call *call, const uint8_t *data, size_t length);
/* The stream is over; error is HTTP/2's. */
void kmtls_grpc_call_end(struct kmtls_grpc_call *call, uint32_t error);
void kmtls_grpc_call_free(struct kmtls_grpc_call *call);

#endif
