/* SPDX-License-Identifier: Apache-2.0 */
/* peer_maps_open.c - see peer_maps.h: finding the maps, and one writer at a time. */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cleanup.h"
#include "peer_maps.h"

int kmtls_peer_maps_fail(char *ret_why, int err, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(ret_why, KMTLS_PEER_MAPS_WHY, format, list);
	va_end(list);
	return err;
}

int kmtls_peer_maps_open_map(const char *directory, const char *name, __u32 key_size,
			     __u32 value_size, size_t *ret_capacity, char *ret_why)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	__cleanup_fd int fd = -1;
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return kmtls_peer_maps_fail(
			ret_why, -errno, "%.200s: %s%s", path, strerror(errno),
			errno == ENOENT ? ": kmtlsd has not been started, or has another "
					  "bpf_dir (--bpf-dir DIR)"
			: errno == EPERM || errno == EACCES ? ": run kmtls as root"
							    : "");
	if (bpf_obj_get_info_by_fd(fd, &info, &length) < 0 || info.key_size != key_size ||
	    info.value_size != value_size)
		return kmtls_peer_maps_fail(ret_why, -EPROTO, "%.200s: not a map of this version",
					    path);
	if (ret_capacity)
		*ret_capacity = info.max_entries;
	return kmtls_take_fd(fd);
}

static int check_version(int settings_fd, const char *directory, char *ret_why)
{
	struct kmtls_settings settings;
	__u32 zero = 0;

	if (bpf_map_lookup_elem(settings_fd, &zero, &settings) < 0)
		return kmtls_peer_maps_fail(ret_why, -errno, "%.200s/settings: %s", directory,
					    strerror(errno));
	if (settings.abi_version != KMTLS_ABI_VERSION)
		return kmtls_peer_maps_fail(
			ret_why, -EPROTO, "%.200s: maps of version %u, this kmtls knows version %u",
			directory, settings.abi_version, KMTLS_ABI_VERSION);
	return 0;
}

/* The lock of the directory itself is the keeper's for as long as it runs. */
static int lock_directory(const char *directory, char *ret_why)
{
	char path[PATH_MAX + 16];
	__cleanup_fd int fd = -1;

	snprintf(path, sizeof(path), "%s/internal", directory);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return kmtls_peer_maps_fail(ret_why, -errno, "%.200s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return kmtls_peer_maps_fail(ret_why, -errno, "%.200s: %s", directory,
					    errno == EWOULDBLOCK ? "another load is under way"
								 : strerror(errno));
	return kmtls_take_fd(fd);
}

int kmtls_peer_maps_open(const char *directory, struct kmtls_peer_maps *ret_maps, char *ret_why)
{
	struct kmtls_peer_maps maps = {
		.lock_fd = -1, .settings = -1, .peers = -1, .names = -1, .counters = -1
	};
	int err;

	snprintf(maps.directory, sizeof(maps.directory), "%s", directory);
	err = maps.settings = kmtls_peer_maps_open_map(
		directory, "settings", sizeof(__u32), sizeof(struct kmtls_settings), NULL, ret_why);
	if (err >= 0)
		err = check_version(maps.settings, directory, ret_why);
	if (err >= 0)
		err = maps.peers = kmtls_peer_maps_open_map(
			directory, "peers", sizeof(struct kmtls_peer_key),
			sizeof(struct kmtls_peer_value), &maps.capacity, ret_why);
	if (err >= 0)
		err = maps.names =
			kmtls_peer_maps_open_map(directory, "names", sizeof(__u64),
						 sizeof(struct kmtls_name_value), NULL, ret_why);
	if (err >= 0)
		err = maps.counters = kmtls_peer_maps_open_map(directory, "counters", sizeof(__u32),
							       sizeof(__u64), NULL, ret_why);
	if (err >= 0)
		err = maps.lock_fd = lock_directory(directory, ret_why);
	if (err < 0) {
		kmtls_peer_maps_close(&maps);
		return err;
	}
	*ret_maps = maps;
	return 0;
}

void kmtls_peer_maps_close(struct kmtls_peer_maps *maps)
{
	int *fds[] = { &maps->lock_fd, &maps->settings, &maps->peers, &maps->names,
		       &maps->counters };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}
