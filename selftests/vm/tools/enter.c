/* SPDX-License-Identifier: Apache-2.0 */
/*
 * enter - runs a command in a cgroup and a network namespace: enter CGROUP NETNS [-u USER] COMMAND...
 * What `testbed exec` does, as one program, because starting shells is slow in an emulated guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what)
{
	fprintf(stderr, "enter: %s: %s\n", what, strerror(errno));
	return 125;
}

static int become(const char *user)
{
	struct passwd *entry = getpwnam(user);

	if (!entry) {
		errno = errno ?: ENOENT;
		return -1;
	}
	if (initgroups(user, entry->pw_gid) || setgid(entry->pw_gid))
		return -1;
	return setuid(entry->pw_uid);
}

int main(int argc, char **argv)
{
	char procs[PATH_MAX];
	int fd, command = 3;

	if (argc < 4) {
		fprintf(stderr, "usage: enter CGROUP NETNS [-u USER] COMMAND...\n");
		return 2;
	}
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", argv[1]);
	fd = open(procs, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		return fail(procs);
	close(fd);
	fd = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		return fail(argv[2]);
	close(fd);
	if (!strcmp(argv[3], "-u")) {
		if (argc < 6 || become(argv[4]))
			return fail("-u USER");
		command = 5;
	}
	execvp(argv[command], argv + command);
	return fail(argv[command]);
}
