/* SPDX-License-Identifier: Apache-2.0 */
/* wiping.c - see wiping.h. Each piece begins with its size, padded so that what follows is aligned. */
#include "wiping.h"

#include <errno.h>
#include <stdalign.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct piece {
	size_t size;
	alignas(max_align_t) unsigned char bytes[];
};

static struct piece *piece_of(void *pointer)
{
	return (struct piece *)((unsigned char *)pointer - offsetof(struct piece, bytes));
}

void *kmtls_wiping_alloc(size_t size)
{
	struct piece *piece;

	if (size > SIZE_MAX - sizeof(*piece))
		return NULL;
	piece = malloc(sizeof(*piece) + size);
	if (!piece)
		return NULL;
	piece->size = size;
	/* cppcheck-suppress memleak */
	return piece->bytes;
}

void *kmtls_wiping_zalloc(size_t count, size_t size)
{
	void *pointer = NULL;

	if (!size || count <= SIZE_MAX / size)
		pointer = kmtls_wiping_alloc(count * size);
	if (pointer)
		memset(pointer, 0, count * size);
	return pointer;
}

void kmtls_wiping_free(void *pointer)
{
	struct piece *piece;

	if (!pointer)
		return;
	piece = piece_of(pointer);
	OPENSSL_cleanse(piece, sizeof(*piece) + piece->size);
	free(piece);
}

/* Not realloc(3), which leaves the old bytes where they were. */
void *kmtls_wiping_realloc(void *pointer, size_t size)
{
	void *copy = kmtls_wiping_alloc(size);

	if (!copy || !pointer)
		return copy;
	memcpy(copy, pointer, piece_of(pointer)->size < size ? piece_of(pointer)->size : size);
	kmtls_wiping_free(pointer);
	return copy;
}

/* ---- OpenSSL ---- */

/* ---- nghttp2 ---- */

static void *nghttp2_alloc(size_t size, void *unused)
{
	return kmtls_wiping_alloc(size);
}

static void nghttp2_give_back(void *pointer, void *unused)
{
	kmtls_wiping_free(pointer);
}

static void *nghttp2_zalloc(size_t count, size_t size, void *unused)
{
	return kmtls_wiping_zalloc(count, size);
}

static void *nghttp2_change(void *pointer, size_t size, void *unused)
{
	return kmtls_wiping_realloc(pointer, size);
}

nghttp2_mem kmtls_wiping_nghttp2 = {
	.malloc = nghttp2_alloc,
	.free = nghttp2_give_back,
	.calloc = nghttp2_zalloc,
	.realloc = nghttp2_change,
};

/* ---- protobuf-c ---- */

static void *protobuf_alloc(void *context, size_t size)
{
	struct kmtls_wiping_protobuf *protobuf = context;

	if (size + sizeof(struct piece) > protobuf->budget)
		return NULL;
	protobuf->budget -= size + sizeof(struct piece);
	return kmtls_wiping_alloc(size);
}

static void protobuf_free(void *unused, void *pointer)
{
	kmtls_wiping_free(pointer);
}

void kmtls_wiping_protobuf_init(struct kmtls_wiping_protobuf *protobuf, size_t budget)
{
	protobuf->allocator.alloc = protobuf_alloc;
	protobuf->allocator.free = protobuf_free;
	protobuf->allocator.allocator_data = protobuf;
	protobuf->budget = budget;
}
