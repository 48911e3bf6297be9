/* SPDX-License-Identifier: Apache-2.0 */
/* bpf_links.c - see bpf_links.h. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <ftw.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "bpf_links.h"
#include "cleanup.h"
#include "pods.h"

enum place { PLACE_CGROUP, PLACE_NETNS };

/* Does the pinned link hang where we would attach? A defunct one hangs nowhere (id 0). */
static bool is_attached_at(int link_fd, enum place place, int target_fd)
{
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);
	struct stat status;

	if (bpf_obj_get_info_by_fd(link_fd, &info, &length) < 0 || fstat(target_fd, &status) < 0)
		return false;
	/* Of a cgroup v2 directory and of nsfs the inode number is the id. */
	if (place == PLACE_CGROUP)
		return info.type == BPF_LINK_TYPE_CGROUP && info.cgroup.cgroup_id == status.st_ino;
	return info.type == BPF_LINK_TYPE_NETNS && info.netns.netns_ino == status.st_ino;
}

/* 1: the pinned link now runs program. 0: there is none (any more). */
static int adopt(struct bpf_program *program, enum place place, int target_fd, const char *path)
{
	__cleanup_fd int fd = bpf_obj_get(path);

	if (fd < 0)
		return 0;
	if (!is_attached_at(fd, place, target_fd)) {
		unlink(path);
		return 0;
	}
	return bpf_link_update(fd, bpf_program__fd(program), NULL) < 0 ? -errno : 1;
}

static int attach(struct bpf_program *program, enum place place, int target_fd, const char *path)
{
	struct bpf_link *link;
	int err;

	err = adopt(program, place, target_fd, path);
	if (err)
		return err < 0 ? err : 0;
	link = place == PLACE_CGROUP ? bpf_program__attach_cgroup(program, target_fd)
				     : bpf_program__attach_netns(program, target_fd);
	if (!link)
		return -errno;
	err = bpf_link__pin(link, path);
	bpf_link__destroy(link); /* the pin keeps it */
	return err;
}

int kmtls_bpf_link_cgroup(struct bpf_program *program, int cgroup_fd, const char *path,
			  char *ret_why)
{
	int err = attach(program, PLACE_CGROUP, cgroup_fd, path);

	if (err)
		snprintf(ret_why, KMTLS_WHY, "%s cannot be attached to the cgroup: %s",
			 bpf_program__name(program), strerror(-err));
	return err;
}

int kmtls_bpf_link_netns(struct bpf_program *program, int netns_fd, const char *path, char *ret_why)
{
	int err = attach(program, PLACE_NETNS, netns_fd, path);

	if (err)
		snprintf(ret_why, KMTLS_WHY, "%s cannot be attached to the network namespace: %s",
			 bpf_program__name(program), strerror(-err));
	return err;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	remove(path);
	return 0;
}

void kmtls_bpf_links_remove(const char *directory)
{
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
