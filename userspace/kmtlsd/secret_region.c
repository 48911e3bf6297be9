/* SPDX-License-Identifier: Apache-2.0 */
/* secret_region.c - see secret_region.h. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pods.h"
#include "secret_region.h"

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

#define MAGIC 0x6b6d746c73736563ull
/* One for each pod, and some for what there is one of. */
#define CELLS (KMTLS_PODS_MAX + 16)

/* Pages that were never written to take no memory. */
struct cell {
	__u64 key;
	__u32 kind;
	__u32 current; /* 1 or 2: which of the two values counts; 0: none. Stored last. */
	__u32 lengths[2];
	__u32 pad[2];
	unsigned char values[2][KMTLS_SECRET_MAX];
};

struct kmtls_secret_region {
	__u64 magic;
	__u64 size; /* of all */
	__u32 max_flows;
	__u32 secret; /* memfd_secret */
	__u64 pad[509]; /* a page */
	struct cell cells[CELLS];
	unsigned char flows[][KMTLS_SECRET_FLOW_SIZE];
};

/* Of this process's threads; never held while a worker is made. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/*
 * Pages of memfd_secret count as locked when they are first written to; beyond the limit that is
 * a SIGBUS, whatever the capabilities and although mmap() had succeeded (6.12).
 */
static bool may_lock(size_t size)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	struct rlimit limit;

	return setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0 ||
	       (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur >= size);
}

static int map(int fd, size_t size, struct kmtls_secret_region **ret_region)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return -errno;
	madvise(memory, size, MADV_DONTDUMP);
	*ret_region = memory;
	return 0;
}

/* A descriptor, or -errno. */
static int open_file(size_t size, bool secret)
{
	int fd = secret ? (int)syscall(SYS_memfd_secret, O_CLOEXEC)
			: memfd_create("kmtls-secrets", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, size) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

static int create(size_t size, bool secret, struct kmtls_secret_region **ret_region, int *ret_fd)
{
	int fd = open_file(size, secret), err;

	if (fd < 0)
		return fd;
	err = map(fd, size, ret_region);
	if (err) {
		close(fd);
		return err;
	}
	(*ret_region)->magic = MAGIC;
	(*ret_region)->size = size;
	(*ret_region)->secret = secret;
	*ret_fd = fd;
	return 0;
}

int kmtls_secret_region_create(unsigned max_flows, struct kmtls_secret_region **ret_region,
			       int *ret_fd, char *ret_why)
{
	size_t size =
		sizeof(struct kmtls_secret_region) + (size_t)max_flows * KMTLS_SECRET_FLOW_SIZE;
	int err;

	size = (size + 4095) / 4096 * 4096;
	err = may_lock(size) ? create(size, true, ret_region, ret_fd) : -EPERM;
	if (err)
		err = create(size, false, ret_region, ret_fd);
	if (err) {
		snprintf(ret_why, KMTLS_WHY, "no memory for secrets: %s", strerror(-err));
		return err;
	}
	(*ret_region)->max_flows = max_flows;
	kmtls_secret_region_lock(*ret_region);
	return 0;
}

int kmtls_secret_region_map(int fd, struct kmtls_secret_region **ret_region, char *ret_why)
{
	struct kmtls_secret_region *region = NULL;
	struct stat status;
	int err;

	snprintf(ret_why, KMTLS_WHY, "the predecessor's secrets are of another version");
	if (fstat(fd, &status) < 0 || (size_t)status.st_size < sizeof(*region))
		return -EPROTO;
	err = map(fd, status.st_size, &region);
	if (err)
		return err;
	if (!may_lock(status.st_size) && region->secret) {
		snprintf(ret_why, KMTLS_WHY, "the limit of locked memory is below %lld bytes",
			 (long long)status.st_size);
		munmap(region, status.st_size);
		return -EPERM;
	}
	if (region->magic != MAGIC || region->size != (__u64)status.st_size) {
		munmap(region, status.st_size);
		return -EPROTO;
	}
	kmtls_secret_region_lock(region);
	*ret_region = region;
	return 0;
}

void kmtls_secret_region_lock(struct kmtls_secret_region *region)
{
	/* memfd_secret is locked by itself; a limit that is too low is not worth more than that. */
	if (!region->secret)
		mlock2(region, region->size, MLOCK_ONFAULT);
}

bool kmtls_secret_region_is_secret(const struct kmtls_secret_region *region)
{
	return region->secret;
}

/* The cell of a value, or one that is free, or NULL. */
static struct cell *find(struct kmtls_secret_region *region, enum kmtls_secret_kind kind, __u64 key,
			 bool or_free)
{
	struct cell *free_cell = NULL;

	for (unsigned i = 0; i < CELLS; i++) {
		struct cell *cell = &region->cells[i];

		if (cell->current && cell->kind == kind && cell->key == key)
			return cell;
		if (!cell->current && !free_cell)
			free_cell = cell;
	}
	return or_free ? free_cell : NULL;
}

int kmtls_secret_put(struct kmtls_secret_region *region, enum kmtls_secret_kind kind, __u64 key,
		     const void *bytes, size_t length)
{
	struct cell *cell;
	__u32 old, next;
	int err = -ENOSPC;

	if (length > KMTLS_SECRET_MAX)
		return -E2BIG;
	pthread_mutex_lock(&lock);
	cell = find(region, kind, key, true);
	if (cell) {
		old = cell->current;
		next = old == 1 ? 2 : 1;
		cell->kind = kind;
		cell->key = key;
		/* What a killed worker could not wipe any more. */
		if (cell->lengths[next - 1])
			explicit_bzero(cell->values[next - 1], KMTLS_SECRET_MAX);
		memcpy(cell->values[next - 1], bytes, length);
		cell->lengths[next - 1] = length;
		__atomic_store_n(&cell->current, next, __ATOMIC_RELEASE);
		if (old)
			explicit_bzero(cell->values[old - 1], cell->lengths[old - 1]);
		err = 0;
	}
	pthread_mutex_unlock(&lock);
	return err;
}

ssize_t kmtls_secret_get(struct kmtls_secret_region *region, enum kmtls_secret_kind kind, __u64 key,
			 void *buffer, size_t size)
{
	ssize_t length = -ENOENT;
	struct cell *cell;

	pthread_mutex_lock(&lock);
	cell = find(region, kind, key, false);
	if (cell) {
		length = cell->lengths[cell->current - 1];
		if ((size_t)length > size)
			length = -E2BIG;
		else
			memcpy(buffer, cell->values[cell->current - 1], length);
	}
	pthread_mutex_unlock(&lock);
	return length;
}

static void wipe(struct cell *cell)
{
	__u32 old = cell->current;

	__atomic_store_n(&cell->current, 0, __ATOMIC_RELEASE);
	explicit_bzero(cell->values[old - 1], cell->lengths[old - 1]);
}

void kmtls_secret_delete(struct kmtls_secret_region *region, enum kmtls_secret_kind kind, __u64 key)
{
	struct cell *cell;

	pthread_mutex_lock(&lock);
	cell = find(region, kind, key, false);
	if (cell)
		wipe(cell);
	pthread_mutex_unlock(&lock);
}

static bool is_among(__u64 key, const __u64 *keys, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (keys[i] == key)
			return true;
	return false;
}

void kmtls_secret_delete_others(struct kmtls_secret_region *region, enum kmtls_secret_kind kind,
				const __u64 *keys, unsigned count)
{
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < CELLS; i++) {
		struct cell *cell = &region->cells[i];

		if (cell->current && cell->kind == kind && !is_among(cell->key, keys, count))
			wipe(cell);
	}
	pthread_mutex_unlock(&lock);
}

void *kmtls_secret_of_flow(struct kmtls_secret_region *region, unsigned slot)
{
	return slot < region->max_flows ? region->flows[slot] : NULL;
}
