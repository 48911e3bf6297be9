/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_calls.c - what a worker may ask of the kernel, found by running it. Whatever is not here
 * is refused: programs and processes of its own, other processes, mounts, modules, keys, io_uring,
 * userfaultfd, perf events, file handles, owners and times of files.
 */
#include <linux/bpf.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "sandbox_calls.h"

const int kmtls_sandbox_calls[] = {
	/* memory; mmap() and mprotect() are below */
	SCMP_SYS(brk),
	SCMP_SYS(madvise),
	SCMP_SYS(mremap),
	SCMP_SYS(munmap),

	/* threads and signals */
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(futex),
	SCMP_SYS(getpid),
	SCMP_SYS(getppid),
	SCMP_SYS(gettid),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rseq),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigtimedwait),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_yield),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(sigaltstack),

	/* time; the vDSO falls back to these where the clock cannot be read without the kernel */
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(nanosleep),
	SCMP_SYS(time),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_gettime),
	SCMP_SYS(timerfd_settime),

	/* descriptors */
	SCMP_SYS(close),
	SCMP_SYS(dup),
	SCMP_SYS(dup2),
	SCMP_SYS(dup3),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(eventfd2),
	SCMP_SYS(fcntl),
	SCMP_SYS(memfd_create),
	SCMP_SYS(pipe2),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(splice),

	/* files: remembered pods, pins, the control socket, the root of the CA, /proc */
	SCMP_SYS(access),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(fchmod),
	SCMP_SYS(flock),
	SCMP_SYS(fstat),
	SCMP_SYS(fstatfs),
	SCMP_SYS(fsync),
	SCMP_SYS(ftruncate),
	SCMP_SYS(getdents64),
	SCMP_SYS(inotify_add_watch),
	SCMP_SYS(inotify_init1),
	SCMP_SYS(inotify_rm_watch),
	SCMP_SYS(link),
	SCMP_SYS(linkat),
	SCMP_SYS(lseek),
	SCMP_SYS(lstat),
	SCMP_SYS(mkdir),
	SCMP_SYS(mkdirat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(read),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(readv),
	SCMP_SYS(rename),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(rmdir),
	SCMP_SYS(stat),
	SCMP_SYS(statfs),
	SCMP_SYS(statx),
	SCMP_SYS(umask),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(write),
	SCMP_SYS(writev),

	/* sockets; socket() is below */
	SCMP_SYS(accept4),
	SCMP_SYS(bind),
	SCMP_SYS(connect),
	SCMP_SYS(getpeername),
	SCMP_SYS(getsockname),
	SCMP_SYS(getsockopt),
	SCMP_SYS(listen),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(setsockopt),
	SCMP_SYS(shutdown),

	/* what there is */
	SCMP_SYS(getegid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getrandom),
	SCMP_SYS(getuid),
	SCMP_SYS(sysinfo),
	SCMP_SYS(uname),
};
const unsigned kmtls_sandbox_calls_count =
	sizeof(kmtls_sandbox_calls) / sizeof(kmtls_sandbox_calls[0]);

/* The kernel looks at no more than 32 bits of an int, so neither may we look at more. */
#define INT UINT32_MAX

/* Namespaces, that is, and anything that makes a process and not a thread. */
#define CLONE_CHECKED                                                                            \
	(CLONE_VM | CLONE_THREAD | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | \
	 CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

const struct kmtls_sandbox_rule kmtls_sandbox_rules[] = {
	/* No new code. */
	{ SCMP_SYS(mmap), 2, PROT_EXEC, 0 },
	{ SCMP_SYS(mprotect), 2, PROT_EXEC, 0 },
	/* Threads only. (The flags are the first argument except on s390.) */
	{ SCMP_SYS(clone), 0, CLONE_CHECKED, CLONE_VM | CLONE_THREAD },
	/* Its own limits, nobody else's. */
	{ SCMP_SYS(prlimit64), 0, INT, 0 },
	/* Into the pods' network namespaces, and no other kind. */
	{ SCMP_SYS(setns), 1, INT, CLONE_NEWNET },
	/* No packet sockets, kernel crypto, virtual machines... */
	{ SCMP_SYS(socket), 0, INT, AF_INET },
	{ SCMP_SYS(socket), 0, INT, AF_INET6 },
	{ SCMP_SYS(socket), 0, INT, AF_NETLINK },
	{ SCMP_SYS(socket), 0, INT, AF_UNIX },
	{ SCMP_SYS(ioctl), 1, INT, FIONREAD },
	{ SCMP_SYS(ioctl), 1, INT, NS_GET_NSTYPE },
	/* stdio asks whether a file is a terminal. */
	{ SCMP_SYS(ioctl), 1, INT, TCGETS },
	/* Its own maps, programs and links by descriptor or pin; not everybody's by number. */
	{ SCMP_SYS(bpf), 0, INT, BPF_BTF_LOAD },
	{ SCMP_SYS(bpf), 0, INT, BPF_LINK_CREATE },
	{ SCMP_SYS(bpf), 0, INT, BPF_LINK_UPDATE },
	{ SCMP_SYS(bpf), 0, INT, BPF_MAP_CREATE },
	{ SCMP_SYS(bpf), 0, INT, BPF_MAP_DELETE_ELEM },
	{ SCMP_SYS(bpf), 0, INT, BPF_MAP_FREEZE },
	{ SCMP_SYS(bpf), 0, INT, BPF_MAP_GET_NEXT_KEY },
	{ SCMP_SYS(bpf), 0, INT, BPF_MAP_LOOKUP_AND_DELETE_ELEM },
	{ SCMP_SYS(bpf), 0, INT, BPF_MAP_LOOKUP_BATCH },
	{ SCMP_SYS(bpf), 0, INT, BPF_MAP_LOOKUP_ELEM },
	{ SCMP_SYS(bpf), 0, INT, BPF_MAP_UPDATE_ELEM },
	{ SCMP_SYS(bpf), 0, INT, BPF_OBJ_GET },
	{ SCMP_SYS(bpf), 0, INT, BPF_OBJ_GET_INFO_BY_FD },
	{ SCMP_SYS(bpf), 0, INT, BPF_OBJ_PIN },
	{ SCMP_SYS(bpf), 0, INT, BPF_PROG_BIND_MAP },
	{ SCMP_SYS(bpf), 0, INT, BPF_PROG_LOAD },
};
const unsigned kmtls_sandbox_rules_count =
	sizeof(kmtls_sandbox_rules) / sizeof(kmtls_sandbox_rules[0]);
