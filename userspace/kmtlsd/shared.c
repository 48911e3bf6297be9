/* SPDX-License-Identifier: Apache-2.0 */
/* shared.c - see shared.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pod.h"
#include "shared.h"

static int map(int fd, struct kmtls_shared **ret_shared)
{
	void *memory =
		mmap(NULL, sizeof(struct kmtls_shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return -errno;
	*ret_shared = memory;
	return 0;
}

int kmtls_shared_create(struct kmtls_shared **ret_shared, int *ret_fd)
{
	int fd = memfd_create("kmtls-shared", MFD_CLOEXEC), err = 0;
	struct kmtls_shared *shared = NULL;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, sizeof(*shared)) < 0)
		err = -errno;
	if (!err)
		err = map(fd, &shared);
	if (err) {
		close(fd);
		return err;
	}
	shared->magic = KMTLS_SHARED_MAGIC;
	shared->size = sizeof(*shared);
	shared->secret_fd = shared->lock_fd = shared->maps_lock_fd = shared->control_fd =
		shared->connection = -1;
	*ret_shared = shared;
	*ret_fd = fd;
	return 0;
}

int kmtls_shared_map(int fd, struct kmtls_shared **ret_shared, char *ret_why)
{
	struct kmtls_shared *shared = NULL;
	struct stat status;
	int err;

	snprintf(ret_why, KMTLS_WHY, "the predecessor's state is of another version");
	if (fstat(fd, &status) < 0 || status.st_size != sizeof(*shared))
		return -EPROTO;
	err = map(fd, &shared);
	if (err)
		return err;
	if (shared->magic != KMTLS_SHARED_MAGIC || shared->size != sizeof(*shared)) {
		munmap(shared, sizeof(*shared));
		return -EPROTO;
	}
	*ret_shared = shared;
	return 0;
}

struct kmtls_shared_pod *kmtls_shared_pod_find(struct kmtls_shared *shared, __u64 name)
{
	for (unsigned i = 0; i < KMTLS_PODS_MAX; i++)
		if (__atomic_load_n(&shared->pods[i].name, __ATOMIC_ACQUIRE) == name)
			return &shared->pods[i];
	return NULL;
}

void kmtls_shared_pod_forget(struct kmtls_shared *shared, __u64 name)
{
	struct kmtls_shared_pod *entry = kmtls_shared_pod_find(shared, name);

	if (entry)
		__atomic_store_n(&entry->name, 0, __ATOMIC_RELEASE);
}

void kmtls_shared_pod_put(struct kmtls_shared *shared, const struct kmtls_pod *pod)
{
	struct kmtls_shared_pod *entry = kmtls_shared_pod_find(shared, pod->name_hash);

	if (!entry)
		entry = kmtls_shared_pod_find(shared, 0);
	if (!entry)
		return; /* cannot be: as many as the table of pods has */
	/* The same as before, after a take-over, stays where it is: a kill may come at any time. */
	if (entry->name && entry->netns_fd == pod->netns_fd) {
		entry->attached_by = shared->instance;
		return;
	}
	__atomic_store_n(&entry->name, 0, __ATOMIC_RELEASE);
	entry->netns_cookie = pod->netns_cookie;
	entry->attached_by = shared->instance;
	entry->netns_fd = pod->netns_fd;
	entry->cgroup_fd = pod->cgroup_fd;
	memcpy(entry->listeners, pod->listeners, sizeof(entry->listeners));
	entry->raw4 = pod->injector.raw4;
	entry->raw6 = pod->injector.raw6;
	entry->svid_issued = pod->rotation.issued;
	entry->rotations = pod->rotation.rotations;
	entry->rotation_failures = pod->rotation.failures;
	__atomic_store_n(&entry->name, pod->name_hash, __ATOMIC_RELEASE);
}

void kmtls_shared_pod_rotation(struct kmtls_shared *shared, struct kmtls_pod *pod)
{
	struct kmtls_shared_pod *entry = kmtls_shared_pod_find(shared, pod->name_hash);

	if (!entry)
		return;
	pthread_mutex_lock(&pod->svid_lock);
	entry->svid_issued = pod->rotation.issued;
	entry->rotations = pod->rotation.rotations;
	entry->rotation_failures = pod->rotation.failures;
	pthread_mutex_unlock(&pod->svid_lock);
}

static void close_one(__s32 *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void kmtls_shared_pod_close(struct kmtls_shared *shared, struct kmtls_shared_pod *entry)
{
	__atomic_store_n(&entry->name, 0, __ATOMIC_RELEASE);
	for (unsigned a = 0; a < KMTLS_ACCEPTOR_COUNT; a++)
		close_one(&entry->listeners[a]);
	close_one(&entry->netns_fd);
	close_one(&entry->cgroup_fd);
	close_one(&entry->raw4);
	close_one(&entry->raw6);
}
