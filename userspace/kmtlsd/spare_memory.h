/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spare_memory.h - small pieces of memory that OpenSSL has freed, wiped, for whoever in the same
 * thread wants as much next. A handshake takes and returns thousands of them, more than
 * malloc() keeps at hand: a list for each size costs a quarter.
 */
#ifndef KMTLS_SPARE_MEMORY_H
#define KMTLS_SPARE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes a thread keeps at most. */
#define KMTLS_SPARE_MEMORY_MAX (256 * 1024)

/* A piece of at least size bytes, from malloc(); NULL: there is none at hand. */
void *kmtls_spare_memory_take(size_t size);

/* Wipes what malloc() gave, of room bytes (malloc_usable_size()), and keeps it or frees it. */
void kmtls_spare_memory_give(void *memory, size_t room);

#endif
