/* SPDX-License-Identifier: Apache-2.0 */
/* settings_map.c - see settings_map.h. */
#include "settings_map.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static struct kmtls_settings *map_element(int fd)
{
	void *place = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED,
			   fd, 0);

	return place == MAP_FAILED ? NULL : place;
}

static void unmap_element(struct kmtls_settings *settings)
{
	munmap(settings, (size_t)sysconf(_SC_PAGESIZE));
}

int kmtls_settings_map_bump(int fd)
{
	struct kmtls_settings *settings = map_element(fd);

	if (!settings)
		return -errno;
	__atomic_fetch_add(&settings->generation, 1, __ATOMIC_RELEASE);
	unmap_element(settings);
	return 0;
}

int kmtls_settings_map_put_default(int fd, __u32 authorization_default)
{
	struct kmtls_settings *settings = map_element(fd);

	if (!settings)
		return -errno;
	__atomic_store_n(&settings->authorization_default, authorization_default, __ATOMIC_RELEASE);
	unmap_element(settings);
	return 0;
}

int kmtls_settings_map_set_default(int fd, __u32 authorization_default)
{
	int err = kmtls_settings_map_put_default(fd, authorization_default);

	return err ? err : kmtls_settings_map_bump(fd);
}
