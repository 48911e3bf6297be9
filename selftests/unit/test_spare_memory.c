/* SPDX-License-Identifier: Apache-2.0 */
/* test_spare_memory.c - pieces are large enough, nobody else's, wiped, and not too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>

#include "spare_memory.h"

#define PIECES 512
#define LARGEST 1200 /* beyond what is kept */

static struct {
	unsigned char *memory;
	size_t size;
} pieces[PIECES];

static void *get(size_t size)
{
	void *memory = kmtls_spare_memory_take(size);

	if (!memory)
		memory = malloc(size);
	assert_non_null(memory);
	assert_true(malloc_usable_size(memory) >= size);
	return memory;
}

static void give(void *memory)
{
	kmtls_spare_memory_give(memory, malloc_usable_size(memory));
}

/* Each is full of its own number as long as it is in use. */
static void swap_piece(unsigned i, size_t size)
{
	for (size_t at = 0; at < pieces[i].size; at++)
		assert_int_equal(pieces[i].memory[at], i & 0xff);
	if (pieces[i].memory)
		give(pieces[i].memory);
	pieces[i].memory = size ? get(size) : NULL;
	pieces[i].size = size;
	if (size)
		memset(pieces[i].memory, i & 0xff, size);
}

static void own(void **state)
{
	unsigned random = 1;

	for (unsigned round = 0; round < 100000; round++) {
		random = random * 1103515245 + 12345;
		swap_piece(random >> 8 & (PIECES - 1),
			   1 + (random >> 17) % (round & 1 ? LARGEST : 100));
	}
	for (unsigned i = 0; i < PIECES; i++)
		swap_piece(i, 0);
}

static bool is_kept(void)
{
	void *memory = get(64), *again;

	give(memory);
	again = kmtls_spare_memory_take(64);
	if (again)
		give(again);
	return again == memory;
}

static void wiped(void **state)
{
	if (!is_kept())
		skip(); /* the sanitizer sees all */
	for (size_t size = 1; size <= 1016; size++) {
		unsigned char *memory = get(size), *again;
		size_t room = malloc_usable_size(memory);

		memset(memory, 0xa5, room);
		give(memory);
		again = kmtls_spare_memory_take(size);
		assert_ptr_equal(again, memory);
		/* A list's word is in front. */
		for (size_t i = sizeof(void *); i < room; i++)
			assert_int_equal(again[i], 0);
		give(again);
	}
}

/* What malloc() has given out. */
static size_t in_use(void)
{
	return mallinfo2().uordblks;
}

static void not_too_many(void **state)
{
	enum { MANY = 4 * KMTLS_SPARE_MEMORY_MAX / 1024 };
	static void *many[MANY];
	size_t before = in_use(), after;

	for (unsigned i = 0; i < MANY; i++)
		many[i] = get(1000);
	for (unsigned i = 0; i < MANY; i++)
		give(many[i]);
	after = in_use();
	assert_true(after <= before || after - before <= KMTLS_SPARE_MEMORY_MAX + 4096);
	for (unsigned i = 0; i < MANY; i++) /* all that is kept */
		free(kmtls_spare_memory_take(1000));
	if (is_kept())
		assert_null(kmtls_spare_memory_take(1000));
}

static void *fill(void *unused)
{
	void *all[100];

	for (unsigned i = 0; i < 100; i++)
		all[i] = get(500);
	for (unsigned i = 0; i < 100; i++)
		give(all[i]);
	return NULL;
}

/* Nobody could have it any more. */
static void thread_ends(void **state)
{
	size_t before = 0;

	for (unsigned i = 0; i < 50; i++) {
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, fill, NULL), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		if (!i)
			before = in_use(); /* what the first thread made for good */
	}
	assert_true(in_use() < before + 50000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own),
		cmocka_unit_test(wiped),
		cmocka_unit_test(not_too_many),
		cmocka_unit_test(thread_ends),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("spare_memory", tests, NULL, NULL);
}
