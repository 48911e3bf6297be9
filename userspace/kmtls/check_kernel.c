/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_kernel.c - `kmtls check`, what the kernel has. Each is tried or looked at now; nothing is
 * concluded from a version but what only the version tells: holes that are known.
 */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "check.h"
#include "cleanup.h"
#include "kernel_floor.h"

#define BPF_FILE_SYSTEM 0xcafe4a11

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

static void check_release(struct kmtls_check *check)
{
	struct utsname kernel = { .release = "" };
	struct kmtls_kernel_version version;
	char why[256];

	uname(&kernel);
	switch (kmtls_kernel_judge(kernel.release, kernel.version, why, sizeof(why))) {
	case KMTLS_KERNEL_FINE:
		kmtls_kernel_version_parse(kernel.release, kernel.version, &version);
		kmtls_check_add(check, KMTLS_CHECK_OK, "release", NULL,
				"kernel %u.%u.%u (%s) has no hole that is known here",
				version.major, version.minor, version.patch, kernel.release);
		return;
	case KMTLS_KERNEL_UNTESTED:
	case KMTLS_KERNEL_UNREADABLE:
		kmtls_check_add(
			check, KMTLS_CHECK_WARNING, "release",
			"run a kernel of 6.1, 6.12 or 7.2, or look into its changes of TLS and BPF",
			"%s", why);
		return;
	default:
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "release",
				"install the distribution's newest kernel and restart the node",
				"%s", why);
	}
}

/* A socket that is not connected cannot have TLS, but only a kernel without TLS says ENOENT. */
static void check_tls(struct kmtls_check *check)
{
	__cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3) < 0 && errno != ENOTCONN))
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "tls",
				"run `modprobe tls` and list tls in /etc/modules-load.d/kmtls.conf",
				"the kernel has no TLS (module tls): %s", strerror(errno));
	else
		kmtls_check_add(check, KMTLS_CHECK_OK, "tls", NULL,
				"the module tls is there and can be used");
}

static void check_btf(struct kmtls_check *check)
{
	if (access("/sys/kernel/btf/vmlinux", R_OK) == 0)
		kmtls_check_add(check, KMTLS_CHECK_OK, "btf", NULL, "the kernel has BTF");
	else
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "btf",
				"run a kernel with CONFIG_DEBUG_INFO_BTF=y",
				"/sys/kernel/btf/vmlinux: %s: bpftool cannot name what maps hold",
				strerror(errno));
}

static void check_cgroup(struct kmtls_check *check)
{
	__cleanup_file FILE *file = fopen("/proc/self/mountinfo", "re");
	char line[4096], path[1024];

	while (file && fgets(line, sizeof(line), file)) {
		if (!strstr(line, " - cgroup2 ") ||
		    sscanf(line, "%*s %*s %*s %*s %1023s", path) != 1)
			continue;
		kmtls_check_add(check, KMTLS_CHECK_OK, "cgroup", NULL, "cgroup v2 is mounted at %s",
				path);
		return;
	}
	kmtls_check_add(check, KMTLS_CHECK_FAILED, "cgroup",
			"mount it: mount -t cgroup2 none /sys/fs/cgroup",
			"no cgroup v2 is mounted: programs have nothing to be attached to");
}

/* Of the directory or, before the first start, of the one above. */
static void check_bpffs(struct kmtls_check *check)
{
	struct statfs status;
	char path[4096];
	char *slash;

	snprintf(path, sizeof(path), "%s", check->bpf_dir);
	while (statfs(path, &status) < 0 && errno == ENOENT && (slash = strrchr(path, '/')) &&
	       slash != path)
		*slash = '\0';
	if (statfs(path, &status) == 0 && (unsigned)status.f_type == BPF_FILE_SYSTEM)
		kmtls_check_add(check, KMTLS_CHECK_OK, "bpffs", NULL, "a BPF file system is at %s",
				path);
	else
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "bpffs",
				"mount it: mount -t bpf bpf /sys/fs/bpf",
				"%s is not in a BPF file system: nothing can be pinned there",
				check->bpf_dir);
}

static void check_secret(struct kmtls_check *check)
{
	__cleanup_fd int fd = (int)syscall(SYS_memfd_secret, 0);

	if (fd >= 0)
		kmtls_check_add(
			check, KMTLS_CHECK_OK, "memfd_secret", NULL,
			"memfd_secret works: the kernel's own memory maps do not show keys");
	else
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "memfd_secret",
				"start the kernel with secretmem.enable=1",
				"memfd_secret: %s: keys are in locked memory instead",
				strerror(errno));
}

/* Asks to end a socket that does not exist: ENOENT if the kernel would have. */
static int try_destroy(void)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 query;
	} request = {
		.header = { .nlmsg_len = sizeof(request),
			    .nlmsg_type = SOCK_DESTROY,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.query = { .sdiag_family = AF_INET,
			   .sdiag_protocol = IPPROTO_TCP,
			   .id = { .idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } } },
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[256];
	} answer = { .header = { .nlmsg_len = 0 } };
	struct timeval patience = { .tv_sec = 2 };
	__cleanup_fd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (send(fd, &request, sizeof(request), 0) < 0 || recv(fd, &answer, sizeof(answer), 0) < 0)
		return -errno;
	return answer.header.nlmsg_type == NLMSG_ERROR ? answer.error.error : -EPROTO;
}

static void check_destroy(struct kmtls_check *check)
{
	int err = try_destroy();

	if (err == -ENOENT)
		kmtls_check_add(check, KMTLS_CHECK_OK, "diag_destroy", NULL,
				"sockets can be ended by others (ss --kill)");
	else
		kmtls_check_add(
			check, KMTLS_CHECK_WARNING, "diag_destroy",
			"run a kernel with CONFIG_INET_DIAG_DESTROY=y, and kmtls as root",
			"sockets cannot be ended by others (%s): plaintext connections from "
			"before enrolment end with their application only",
			strerror(-err));
}

static void check_ports(struct kmtls_check *check)
{
	__cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned range;
	socklen_t length = sizeof(range);

	if (fd >= 0 && getsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, &length) == 0)
		kmtls_check_add(check, KMTLS_CHECK_OK, "local_ports", NULL,
				"connections have the same local port in the pod and on the wire");
	else
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "local_ports",
				"run a kernel of 6.3 or later, or let applications bind their port",
				"no IP_LOCAL_PORT_RANGE (%s): on the wire connections have another "
				"local port than in the pod, unless the application bound it",
				strerror(errno));
}

void kmtls_check_kernel(struct kmtls_check *check)
{
	check->group = "kernel";
	check_release(check);
	check_tls(check);
	check_btf(check);
	check_cgroup(check);
	check_bpffs(check);
	check_secret(check);
	check_destroy(check);
	check_ports(check);
}
