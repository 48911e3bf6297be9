/* SPDX-License-Identifier: Apache-2.0 */
/* key_memory.c - see key_memory.h. */
#include "key_memory.h"

#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cleanup.h"
#include "secret_region.h"
#include "spare_memory.h"

#define SMALLEST 32 /* of the secure heap's pieces: a scalar of P-256 */
#define PAGE 4096

/* The secure heap, once it is there. */
static const unsigned char *heap_begin, *heap_end;
/* What this thread has OpenSSL allocate goes there, too. */
static __thread bool all_secret;

/* ---- what is allocated and freed ---- */

static bool is_in_heap(const void *memory)
{
	return (const unsigned char *)memory >= heap_begin &&
	       (const unsigned char *)memory < heap_end;
}

static void *allocate_secret(size_t size)
{
	return size && heap_begin ? CRYPTO_secure_malloc(size, __FILE__, __LINE__) : NULL;
}

/* A heap that is full is no reason to fail: the rest is wiped when it is freed. */
static void *allocate(size_t size, const char *file, int line)
{
	void *memory = all_secret ? allocate_secret(size) : NULL;

	if (!memory)
		memory = kmtls_spare_memory_take(size);
	return memory ? memory : malloc(size);
}

static size_t room_of(void *memory)
{
	return is_in_heap(memory) ? CRYPTO_secure_actual_size(memory) : malloc_usable_size(memory);
}

static void wipe_and_free(void *memory, const char *file, int line)
{
	if (!memory)
		return;
	if (is_in_heap(memory)) {
		CRYPTO_secure_free(memory, file, line); /* wipes */
		return;
	}
	kmtls_spare_memory_give(memory, malloc_usable_size(memory));
}

/* realloc() may leave the old bytes behind. */
static void *reallocate(void *memory, size_t size, const char *file, int line)
{
	size_t room = memory ? room_of(memory) : 0;
	void *other;

	if (memory && !size) {
		wipe_and_free(memory, file, line);
		return NULL;
	}
	if (memory && size <= room && size > room / 2)
		return memory;
	other = memory && is_in_heap(memory) ? allocate_secret(size) : NULL;
	if (!other)
		other = allocate(size, file, line);
	if (!other || !memory)
		return other;
	memcpy(other, memory, size < room ? size : room);
	wipe_and_free(memory, file, line);
	return other;
}

bool kmtls_key_memory_wipe_freed(void)
{
	return CRYPTO_set_mem_functions(allocate, reallocate, wipe_and_free) == 1;
}

/* ---- keys ---- */

void kmtls_key_memory_all_secret(bool is_on)
{
	all_secret = is_on;
}

EVP_PKEY *kmtls_key_memory_settle(EVP_PKEY *key)
{
	static const unsigned char nothing[1];
	unsigned char signature[1024]; /* RSA of 8192 bits */
	size_t length = sizeof(signature);
	EVP_MD_CTX *context;

	if (!key || EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA)
		return key;
	all_secret = true;
	context = EVP_MD_CTX_new();
	/* If it does not work, nor will what comes, and that says so. */
	if (context && EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1)
		EVP_DigestSign(context, signature, &length, nothing, sizeof(nothing));
	EVP_MD_CTX_free(context);
	all_secret = false;
	ERR_clear_error();
	return key;
}

/* ---- the secure heap ---- */

/* OpenSSL does not say where it is. It lies between two pages that cannot be read, so it is a mapping
 * of its own. NULL: it is not. */
static unsigned char *find_heap(const void *piece)
{
	__cleanup_file FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned long begin, end;

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx ", &begin, &end) == 2 && begin <= (uintptr_t)piece &&
		    (uintptr_t)piece < end)
			return end - begin == KMTLS_KEY_MEMORY_SIZE ? (unsigned char *)begin : NULL;
	return NULL;
}

/* The heap is new: what is in it is the few words by which it finds its free pieces, on a few pages.
 * The others are not even looked at: flows of a worker before this one wait. */
static void copy_used(unsigned char *to, unsigned char *from)
{
	static unsigned char resident[KMTLS_KEY_MEMORY_SIZE / PAGE];

	if (sysconf(_SC_PAGESIZE) != PAGE || mincore(from, KMTLS_KEY_MEMORY_SIZE, resident) < 0)
		memset(resident, 1, sizeof(resident));
	for (size_t i = 0; i < sizeof(resident); i++)
		if (resident[i] & 1)
			memcpy(to + i * PAGE, from + i * PAGE, PAGE);
}

/* Puts memory of the other kind in its place, with the same content at the same address. */
static int replace(unsigned char *heap)
{
	bool secret;
	__cleanup_fd int fd = kmtls_secret_memory(KMTLS_KEY_MEMORY_SIZE, &secret);
	void *window, *there;

	if (fd < 0)
		return fd;
	window = mmap(NULL, KMTLS_KEY_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (window == MAP_FAILED)
		return -errno;
	copy_used(window, heap);
	munmap(window, KMTLS_KEY_MEMORY_SIZE);
	there = mmap(heap, KMTLS_KEY_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		     fd, 0);
	if (there == MAP_FAILED)
		return -errno;
	madvise(heap, KMTLS_KEY_MEMORY_SIZE, MADV_DONTDUMP);
	if (!secret)
		mlock2(heap, KMTLS_KEY_MEMORY_SIZE, MLOCK_ONFAULT);
	return 0;
}

int kmtls_key_memory_open(void)
{
	unsigned char *heap;
	void *piece;
	int err;

	if (!CRYPTO_secure_malloc_init(KMTLS_KEY_MEMORY_SIZE, SMALLEST))
		return -ENOMEM;
	piece = OPENSSL_secure_malloc(SMALLEST);
	heap = piece ? find_heap(piece) : NULL;
	err = heap ? replace(heap) : -ENOENT;
	if (!err) {
		heap_end = heap + KMTLS_KEY_MEMORY_SIZE;
		heap_begin = heap;
	}
	OPENSSL_secure_free(piece);
	return err;
}
