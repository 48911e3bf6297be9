/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wiping.h - memory that is zeroed before it goes back: for libraries that are handed private keys.
 */
#ifndef KMTLS_WIPING_H
#define KMTLS_WIPING_H

#include <nghttp2/nghttp2.h>
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

/* As malloc(), calloc(), realloc() and free(); what these give, only these may take. */
void *kmtls_wiping_alloc(size_t size);
void *kmtls_wiping_zalloc(size_t count, size_t size);
void *kmtls_wiping_realloc(void *pointer, size_t size);
void kmtls_wiping_free(void *pointer);

/* For nghttp2; constant, whatever its type says. */
extern nghttp2_mem kmtls_wiping_nghttp2;

/*
 * For one message of protobuf-c, which makes a hundred bytes of two if somebody likes: no more than
 * budget bytes are given out in all. Must live as long as the message.
 */
struct kmtls_wiping_protobuf {
	ProtobufCAllocator allocator;
	size_t budget;
};
void kmtls_wiping_protobuf_init(struct kmtls_wiping_protobuf *protobuf, size_t budget);

#endif
