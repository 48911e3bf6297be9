/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spare_memory.c - see spare_memory.h. What is given in another thread than it was taken in stays
 * there; beyond the most that a thread keeps it goes back to malloc(), so nothing piles up.
 */
#include "spare_memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define STEP 16 /* malloc()'s */
#define KINDS 65 /* up to 1032 bytes */

/* A sanitizer would not see what is used after it was freed. */
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define KEEPS false
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define KEEPS false
#endif
#ifndef KEEPS
#define KEEPS true
#endif

struct piece {
	struct piece *next;
};

/* In kind n all are of 16 * n - 8 bytes or more: what glibc's malloc() makes of a request. */
struct spare {
	struct piece *kinds[KINDS];
	size_t bytes;
	enum { NOT_YET, OPEN, CLOSED } state;
};

static __thread struct spare spare;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool has_key;

/* The thread ends. What others free in it after this is not kept any more. */
static void empty(void *pointer)
{
	struct spare *gone = pointer;

	gone->state = CLOSED;
	for (unsigned i = 0; i < KINDS; i++)
		while (gone->kinds[i]) {
			struct piece *piece = gone->kinds[i];

			gone->kinds[i] = piece->next;
			free(piece);
		}
}

static void make_key(void)
{
	has_key = pthread_key_create(&key, empty) == 0;
}

static bool is_open(void)
{
	if (spare.state == NOT_YET) {
		pthread_once(&once, make_key);
		spare.state =
			KEEPS && has_key && pthread_setspecific(key, &spare) == 0 ? OPEN : CLOSED;
	}
	return spare.state == OPEN;
}

/* As explicit_bzero(), which takes longer to begin than this to end. */
static void wipe_small(void *memory, size_t room)
{
	typedef unsigned long long pair __attribute__((vector_size(16), aligned(8), may_alias));
	typedef unsigned char byte;
	byte *at = memory, *end = at + room;

	for (; end - at >= 16; at += 16) {
		*(pair *)at = (pair){ 0, 0 };
		/* Not to be replaced by a call, nor left out. */
		__asm__ volatile("" : : : "memory");
	}
	for (; at < end; at++)
		*(volatile byte *)at = 0;
}

void *kmtls_spare_memory_take(size_t size)
{
	size_t kind = (size + STEP + STEP / 2 - 1) / STEP;
	struct piece *piece;

	if (size > STEP * (KINDS - 1) - STEP / 2)
		return NULL;
	if (kind < 2)
		kind = 2; /* the smallest there are */
	piece = spare.kinds[kind];
	if (!piece)
		return NULL;
	spare.kinds[kind] = piece->next;
	spare.bytes -= STEP * kind;
	return piece;
}

void kmtls_spare_memory_give(void *memory, size_t room)
{
	size_t kind = (room + STEP / 2) / STEP;
	struct piece *piece = memory;

	if (kind >= KINDS) {
		explicit_bzero(memory, room);
		free(memory);
		return;
	}
	wipe_small(memory, room);
	if (spare.bytes + STEP * kind > KMTLS_SPARE_MEMORY_MAX || !is_open()) {
		free(memory);
		return;
	}
	piece->next = spare.kinds[kind];
	spare.kinds[kind] = piece;
	spare.bytes += STEP * kind;
}
