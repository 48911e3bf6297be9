/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup.h - the daemon's own cgroup (v2). Its sockets must be told apart from the pods', so
 * it needs one that is neither the root nor an ancestor of a pod's.
 */
#ifndef KMTLS_CGROUP_H
#define KMTLS_CGROUP_H

#include <stdbool.h>

/* path NULL: the cgroup the process is in, refused if that is the root. Otherwise path is
 * made if missing and the process moved there. Returns a descriptor of the directory, or
 * -errno and a sentence in ret_why. */
int kmtls_cgroup_enter(const char *path, char *ret_why);
/* true: they are the same, or one of the two contains the other. */
bool kmtls_cgroup_is_within(int a_fd, int b_fd);
/* Opens a pod's cgroup directory: -ENOTDIR, -EINVAL (not cgroup v2, the root, or an ancestor of
 * own_fd's), ... */
int kmtls_cgroup_open(const char *path, int own_fd, char *ret_why);

/* Whether processes are in it or below: 1, 0, -ENOENT when it was removed, -errno. */
int kmtls_cgroup_populated(int fd);

#endif
