/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup.c - see cgroup.h. */
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "cgroup.h"
#include "cleanup.h"
#include "pods.h"

static int find_mount(char *ret_path, size_t size)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent *entry;
	int err = -ENOENT;

	if (!mounts)
		return -errno;
	while (err && (entry = getmntent(mounts))) {
		if (strcmp(entry->mnt_type, "cgroup2") != 0)
			continue;
		snprintf(ret_path, size, "%s", entry->mnt_dir);
		err = 0;
	}
	endmntent(mounts);
	return err;
}

/* The path below the mount, from the "0::" line of /proc/self/cgroup. */
static int find_own(char *ret_path, size_t size)
{
	__cleanup_file FILE *file = fopen("/proc/self/cgroup", "re");
	char line[PATH_MAX];

	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, "0::", 3) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(ret_path, size, "%s", line + 3);
		return 0;
	}
	return -ENOENT;
}

static bool is_root(int fd)
{
	/* Only the root has no cgroup.type. */
	return faccessat(fd, "cgroup.type", F_OK, 0) < 0;
}

static int open_directory(const char *path, char *ret_why)
{
	__cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs filesystem;

	if (fd < 0) {
		int err = -errno;

		snprintf(ret_why, KMTLS_WHY, "%.150s: %s", path, strerror(-err));
		return err;
	}
	if (fstatfs(fd, &filesystem) < 0 || filesystem.f_type != CGROUP2_SUPER_MAGIC) {
		snprintf(ret_why, KMTLS_WHY, "%.150s: not a cgroup v2 directory", path);
		return -EINVAL;
	}
	if (is_root(fd)) {
		snprintf(ret_why, KMTLS_WHY, "%.150s: is the root cgroup", path);
		return -EINVAL;
	}
	return kmtls_take_fd(fd);
}

static int move_here(int fd, const char *path, char *ret_why)
{
	__cleanup_fd int procs = openat(fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	if (procs < 0 || write(procs, "0", 1) < 0) {
		int err = -errno;

		snprintf(ret_why, KMTLS_WHY, "%.150s: cannot move there: %s", path, strerror(-err));
		return err;
	}
	return 0;
}

int kmtls_cgroup_enter(const char *path, char *ret_why)
{
	char mount[PATH_MAX / 2], own[PATH_MAX / 2], joined[PATH_MAX];
	__cleanup_fd int fd = -1;
	int err;

	if (path) {
		if (mkdir(path, 0755) < 0 && errno != EEXIST) {
			err = -errno;
			snprintf(ret_why, KMTLS_WHY, "%.150s: cannot be made: %s", path,
				 strerror(-err));
			return err;
		}
		fd = open_directory(path, ret_why);
		if (fd < 0)
			return fd;
		err = move_here(fd, path, ret_why);
		return err ? err : kmtls_take_fd(fd);
	}
	if (find_mount(mount, sizeof(mount)) || find_own(own, sizeof(own))) {
		snprintf(ret_why, KMTLS_WHY, "no cgroup v2 hierarchy is mounted");
		return -ENOENT;
	}
	if (strcmp(own, "/") == 0) {
		snprintf(ret_why, KMTLS_WHY,
			 "started in the root cgroup: set `cgroup` in the configuration, or start "
			 "as a service");
		return -EINVAL;
	}
	snprintf(joined, sizeof(joined), "%s%s", mount, own);
	return open_directory(joined, ret_why);
}

static ssize_t path_of(int fd, char *ret_path)
{
	char link[64];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return readlink(link, ret_path, PATH_MAX);
}

bool kmtls_cgroup_is_within(int a_fd, int b_fd)
{
	char a[PATH_MAX], b[PATH_MAX];
	ssize_t a_length = path_of(a_fd, a), b_length = path_of(b_fd, b);
	ssize_t shorter = a_length < b_length ? a_length : b_length;

	if (shorter <= 0)
		return false;
	return memcmp(a, b, shorter) == 0 &&
	       (a_length == b_length || (a_length > b_length ? a : b)[shorter] == '/');
}

int kmtls_cgroup_open(const char *path, int own_fd, char *ret_why)
{
	__cleanup_fd int fd = open_directory(path, ret_why);

	if (fd < 0)
		return fd;
	/* Programs run for descendants too: the daemon's own connects would be turned. */
	if (kmtls_cgroup_is_within(fd, own_fd)) {
		snprintf(ret_why, KMTLS_WHY,
			 "%.150s: is, contains or is below the daemon's own cgroup", path);
		return -EINVAL;
	}
	return kmtls_take_fd(fd);
}

int kmtls_cgroup_populated(int fd)
{
	__cleanup_fd int events = openat(fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	char text[256];
	ssize_t length;

	if (events < 0)
		return errno == ENODEV ? -ENOENT : -errno;
	length = read(events, text, sizeof(text) - 1);
	if (length < 0) /* removed in between */
		return errno == ENODEV ? -ENOENT : -errno;
	text[length] = '\0';
	return strstr(text, "populated 0") == NULL;
}
