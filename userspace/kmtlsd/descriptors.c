/* SPDX-License-Identifier: Apache-2.0 */
/* descriptors.c - see descriptors.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "descriptors.h"

#define WORD (8 * sizeof(unsigned long))

/* The number a directory entry of /proc/self/fd is named after, or -1. */
static int number(const char *name)
{
	int fd = 0;

	for (; *name; name++) {
		if (*name < '0' || *name > '9')
			return -1;
		fd = fd * 10 + (*name - '0');
	}
	return fd;
}

int kmtls_descriptors_visit(int (*visit)(void *context, int fd), void *context)
{
	__cleanup_fd int directory = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char buffer[4096] __attribute__((aligned(__alignof__(struct dirent64))));
	long length;

	if (directory < 0)
		return -errno;
	/* Not readdir(): that allocates. */
	while ((length = syscall(SYS_getdents64, directory, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < length;) {
			struct dirent64 *entry = (struct dirent64 *)(buffer + at);
			int fd = entry->d_name[0] == '.' ? -1 : number(entry->d_name);
			int result = fd < 0 || fd == directory ? 0 : visit(context, fd);

			if (result)
				return result;
			at += entry->d_reclen;
		}
	}
	return length < 0 ? -errno : 0;
}

static int find_highest(void *context, int fd)
{
	int *highest = context;

	if (fd > *highest)
		*highest = fd;
	return 0;
}

static int add_one(void *context, int fd)
{
	kmtls_descriptor_set_add(context, fd);
	return 0;
}

int kmtls_descriptor_set_fill(struct kmtls_descriptor_set *set)
{
	int highest = 0, err;

	err = kmtls_descriptors_visit(find_highest, &highest);
	if (err)
		return err;
	set->size = (highest / WORD + 1) * WORD;
	set->bits = calloc(set->size / WORD, sizeof(*set->bits));
	if (!set->bits)
		return -ENOMEM;
	return kmtls_descriptors_visit(add_one, set);
}

void kmtls_descriptor_set_free(struct kmtls_descriptor_set *set)
{
	free(set->bits);
	*set = (struct kmtls_descriptor_set){};
}

void kmtls_descriptor_set_add(struct kmtls_descriptor_set *set, int fd)
{
	if (fd >= 0 && (unsigned)fd < set->size)
		set->bits[fd / WORD] |= 1ul << fd % WORD;
}

void kmtls_descriptor_set_remove(struct kmtls_descriptor_set *set, int fd)
{
	if (fd >= 0 && (unsigned)fd < set->size)
		set->bits[fd / WORD] &= ~(1ul << fd % WORD);
}

bool kmtls_descriptor_set_has(const struct kmtls_descriptor_set *set, int fd)
{
	return fd >= 0 && (unsigned)fd < set->size && set->bits[fd / WORD] >> fd % WORD & 1;
}
