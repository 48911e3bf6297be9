/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sandbox.c - what a worker cannot do any more, and what it still can. Each refused call is
 * made outside of the sandbox as well, where the answer must be another: so it is the sandbox that
 * refuses, not the kernel for a reason of its own.
 */
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "pods.h"
#include "sandbox.h"

/* In the order of docs/security.md. */
#define KEPT_TEXT "0000000000283400"

static char why[KMTLS_WHY];
/* Shared with the children: what they found wrong. */
static char *complaint;

static void complain(const char *format, ...)
{
	size_t used = strlen(complaint);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(complaint + used, 4096 - used, format, arguments);
	va_end(arguments);
}

#define expect(condition)                                                                  \
	do {                                                                               \
		if (!(condition))                                                          \
			complain("line %d: %s (errno %d); ", __LINE__, #condition, errno); \
	} while (0)

/* Runs it in a child that is in the sandbox, or just in a child. */
static void in_child(void (*function)(void), bool sandboxed)
{
	int status, err;
	pid_t child;

	complaint[0] = '\0';
	child = fork();
	if (!child) {
		err = sandboxed ? kmtls_sandbox_enter(NULL, why) : 0;
		if (err)
			complain("not entered: %d, %s", err, why);
		else
			function();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (complaint[0])
		fail_msg("%s", complaint);
	assert_int_equal(status, 0);
}

/* With arguments that do no harm where the call is not refused. A child it makes is ended. */
static const struct refused {
	const char *name;
	long number, arguments[5];
} refused[] = {
	{ "execve", SYS_execve, {} },
	{ "execveat", SYS_execveat, { -1 } },
	{ "clone, a process", SYS_clone, { SIGCHLD } },
	{ "clone, namespaces", SYS_clone, { CLONE_NEWUTS | SIGCHLD } },
	{ "clone, memory shared but no thread",
	  SYS_clone,
	  { CLONE_VM | CLONE_NEWNET | CLONE_NEWUSER | CLONE_FS } },
	{ "ptrace", SYS_ptrace, { PTRACE_PEEKDATA, 0x7ffffff0 } },
	{ "process_vm_readv", SYS_process_vm_readv, { 0x7ffffff0 } },
	{ "process_vm_writev", SYS_process_vm_writev, { 0x7ffffff0 } },
	{ "process_madvise", SYS_process_madvise, { -1 } },
	{ "pidfd_open", SYS_pidfd_open, { 0x7ffffff0 } },
	{ "pidfd_getfd", SYS_pidfd_getfd, { -1 } },
	{ "pidfd_send_signal", SYS_pidfd_send_signal, { -1 } },
	{ "kill", SYS_kill, { 0x7ffffff0, 0 } },
	{ "tgkill of another process", SYS_tgkill, { 0x7ffffff0, 0x7ffffff0, 0 } },
	{ "prlimit64 of another process", SYS_prlimit64, { 0x7ffffff0 } },
	{ "mount", SYS_mount, {} },
	{ "umount2", SYS_umount2, {} },
	{ "pivot_root", SYS_pivot_root, {} },
	{ "chroot", SYS_chroot, {} },
	{ "move_mount", SYS_move_mount, { -1, 0, -1 } },
	{ "open_tree", SYS_open_tree, { -1 } },
	{ "fsopen", SYS_fsopen, {} },
	{ "mount_setattr", SYS_mount_setattr, { -1 } },
	{ "unshare", SYS_unshare, { 0 } },
	{ "setns, any kind", SYS_setns, { -1, 0 } },
	{ "setns, mounts", SYS_setns, { -1, CLONE_NEWNS } },
	{ "init_module", SYS_init_module, {} },
	{ "finit_module", SYS_finit_module, { -1 } },
	{ "delete_module", SYS_delete_module, {} },
	{ "kexec_load", SYS_kexec_load, { 0, 0, 0, -1 } },
	{ "reboot", SYS_reboot, {} },
	{ "swapon", SYS_swapon, {} },
	{ "sethostname", SYS_sethostname, { 0, 1 } },
	{ "clock_settime", SYS_clock_settime, { CLOCK_REALTIME, 0 } },
	{ "open_by_handle_at", SYS_open_by_handle_at, { -1 } },
	{ "name_to_handle_at", SYS_name_to_handle_at, { -1 } },
	{ "keyctl", SYS_keyctl, { -1 } },
	{ "add_key", SYS_add_key, {} },
	{ "request_key", SYS_request_key, {} },
	{ "userfaultfd", SYS_userfaultfd, { -1 } },
	{ "perf_event_open", SYS_perf_event_open, {} },
	{ "io_uring_setup", SYS_io_uring_setup, {} },
	{ "seccomp", SYS_seccomp, { -1 } },
	{ "prctl", SYS_prctl, { PR_GET_DUMPABLE } },
	{ "capset", SYS_capset, {} },
	{ "setuid", SYS_setuid, { 0 } },
	{ "setgroups", SYS_setgroups, { 1, 0 } },
	{ "fchownat", SYS_fchownat, { -1, (long)"x" } },
	{ "fchmodat", SYS_fchmodat, { -1, (long)"x" } },
	{ "mknodat", SYS_mknodat, { -1, (long)"x" } },
	{ "setxattr", SYS_setxattr, {} },
	{ "bpf, everybody's programs", SYS_bpf, { BPF_PROG_GET_NEXT_ID, 0, 0 } },
	{ "bpf, a map by number", SYS_bpf, { BPF_MAP_GET_FD_BY_ID, 0, 0 } },
	{ "bpf, tracepoints", SYS_bpf, { BPF_RAW_TRACEPOINT_OPEN, 0, 0 } },
	{ "socket, packets", SYS_socket, { AF_PACKET, SOCK_RAW } },
	{ "socket, kernel crypto", SYS_socket, { AF_ALG, SOCK_SEQPACKET } },
	{ "socket, machines", SYS_socket, { AF_VSOCK, SOCK_STREAM } },
	{ "ioctl, typing into a terminal", SYS_ioctl, { -1, TIOCSTI } },
	{ "mmap, code",
	  SYS_mmap,
	  { 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1 } },
	{ "mprotect, code", SYS_mprotect, { 0, 0, PROT_EXEC } },
	{ "pkey_mprotect", SYS_pkey_mprotect, { 0, 0, PROT_EXEC, -1 } },
#ifdef __x86_64__
	{ "fork", SYS_fork, {} },
	{ "iopl", SYS_iopl, { 4 } },
#endif
};
#define REFUSED (sizeof(refused) / sizeof(refused[0]))

static bool is_refused(const struct refused *call)
{
	const long *a = call->arguments;
	pid_t self = getpid();
	long result;

	errno = 0;
	result = syscall(call->number, a[0], a[1], a[2], a[3], a[4], 0);
	if (getpid() != self)
		_exit(0);
	return result == -1 && errno == EPERM;
}

static void try_refused(void)
{
	for (unsigned i = 0; i < REFUSED; i++)
		if (!is_refused(&refused[i]))
			complain("%s is not refused (errno %d); ", refused[i].name, errno);
}

static void try_refused_outside(void)
{
	for (unsigned i = 0; i < REFUSED; i++)
		if (is_refused(&refused[i]))
			complain("%s is refused anyway; ", refused[i].name);
}

/* The C library must believe that there is none. */
static void try_clone3(void)
{
	struct clone_args arguments = { .exit_signal = SIGCHLD };
	long result = syscall(SYS_clone3, &arguments, sizeof(arguments));

	if (!result)
		_exit(0);
	expect(result == -1 && errno == ENOSYS);
}

static void test_refused(void **state)
{
	in_child(try_refused_outside, false);
	in_child(try_refused, true);
	in_child(try_clone3, true);
}

static void *try_in_thread(void *argument)
{
	try_refused();
	return argument;
}

static void try_thread(void)
{
	void *result = NULL;
	pthread_t thread;

	expect(pthread_create(&thread, NULL, try_in_thread, why) == 0);
	expect(pthread_join(thread, &result) == 0 && result == why);
}

static void test_thread(void **state)
{
	in_child(try_thread, true);
}

static void try_sockets(void)
{
	static const int families[] = { AF_INET, AF_INET6, AF_NETLINK, AF_UNIX };
	int fd;

	for (unsigned i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		expect(socket(families[i], SOCK_DGRAM | SOCK_CLOEXEC, 0) >= 0);
	expect(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW) >= 0);
	fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	expect(fd >= 0 && setns(fd, CLONE_NEWNET) == 0);
}

static void try_descriptors(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int a[2], b[2], left = 0, epoll = epoll_create1(EPOLL_CLOEXEC);
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	int number = eventfd(1, EFD_NONBLOCK);

	expect(epoll >= 0 && timer >= 0 && number >= 0);
	expect(epoll_ctl(epoll, EPOLL_CTL_ADD, number, &event) == 0);
	expect(epoll_wait(epoll, &event, 1, 0) == 1);
	expect(pipe2(a, O_NONBLOCK) == 0 && pipe2(b, O_NONBLOCK) == 0);
	expect(write(a[1], "abc", 3) == 3);
	expect(splice(a[0], NULL, b[1], NULL, 3, 0) == 3);
	expect(ioctl(b[0], FIONREAD, &left) == 0 && left == 3);
}

static void try_bpf(void)
{
	union bpf_attr attributes = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1
	};

	expect(syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof(attributes)) >= 0);
}

static void try_files(void)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	char name[] = "/tmp/kmtls-sandbox-XXXXXX";
	int fd = mkostemp(name, O_CLOEXEC);

	expect(fd >= 0 && write(fd, "x", 1) == 1 && fsync(fd) == 0 && unlink(name) == 0);
	expect(EVP_Digest("x", 1, digest, NULL, EVP_sha256(), NULL) == 1);
	free(malloc(64 << 20));
}

static void test_allowed(void **state)
{
	in_child(try_sockets, true);
	in_child(try_descriptors, true);
	in_child(try_bpf, true);
	in_child(try_files, true);
}

static void expect_line(const char *line)
{
	char text[8192] = "";
	FILE *file = fopen("/proc/thread-self/status", "re");

	expect(file && fread(text, 1, sizeof(text) - 1, file) > 0);
	if (!strstr(text, line))
		complain("no '%s' in %s", line, strstr(text, "CapInh") ?: text);
	if (file)
		fclose(file);
}

static void expect_capabilities(void)
{
	expect_line("\nCapInh:\t0000000000000000\n");
	expect_line("\nCapPrm:\t" KEPT_TEXT "\n");
	expect_line("\nCapEff:\t" KEPT_TEXT "\n");
	expect_line("\nCapBnd:\t" KEPT_TEXT "\n");
	expect_line("\nCapAmb:\t0000000000000000\n");
	expect_line("\nNoNewPrivs:\t1\n");
	expect_line("\nSeccomp:\t2\n");
}

static void *expect_in_thread(void *argument)
{
	expect_capabilities();
	return argument;
}

/* A parent that passed something on gives us nothing by it. */
static void try_capabilities(void)
{
	pthread_t thread;

	capng_get_caps_process();
	capng_update(CAPNG_ADD, CAPNG_INHERITABLE, CAP_NET_RAW);
	capng_update(CAPNG_ADD, CAPNG_INHERITABLE, CAP_CHOWN);
	expect(capng_apply(CAPNG_SELECT_CAPS) == 0);
	expect(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0) == 0);
	expect_line("\nCapAmb:\t0000000000002000\n");
	expect(kmtls_sandbox_enter(NULL, why) == 0);
	expect_capabilities();
	expect(pthread_create(&thread, NULL, expect_in_thread, NULL) == 0);
	pthread_join(thread, NULL);
}

static void test_capabilities(void **state)
{
	in_child(try_capabilities, false);
}

static void drop(unsigned capability)
{
	capng_get_caps_process();
	capng_update(CAPNG_DROP, CAPNG_EFFECTIVE | CAPNG_PERMITTED, capability);
	expect(capng_apply(CAPNG_SELECT_CAPS) == 0);
}

static void try_without(void)
{
	drop(CAP_NET_RAW);
	expect(kmtls_sandbox_enter(NULL, why) == -EPERM);
	expect(strcmp(why, "sandbox: started without CAP_NET_RAW, which it needs") == 0);
}

static void try_without_setpcap(void)
{
	drop(CAP_SETPCAP);
	expect(kmtls_sandbox_enter(NULL, why) == -EPERM);
	expect(strstr(why, "CAP_SETPCAP") != NULL);
}

static void test_missing_capability(void **state)
{
	in_child(try_without, false);
	in_child(try_without_setpcap, false);
}

static void *sleep_long(void *argument)
{
	pause();
	return argument;
}

static void try_late(void)
{
	pthread_t thread;

	expect(pthread_create(&thread, NULL, sleep_long, NULL) == 0);
	expect(kmtls_sandbox_enter(NULL, why) == -EBUSY);
	expect(strcmp(why, "sandbox: the process has 2 threads already") == 0);
	expect_line("\nSeccomp:\t0\n");
}

static void test_late(void **state)
{
	in_child(try_late, false);
}

static int oom_score(void)
{
	FILE *file = fopen("/proc/self/oom_score_adj", "re");
	int value = -1;

	expect(file && fscanf(file, "%d", &value) == 1);
	if (file)
		fclose(file);
	return value;
}

static void try_oom(void)
{
	expect(kmtls_sandbox_oom(1001) == -EINVAL);
	expect(kmtls_sandbox_oom(500) == 0);
	expect(oom_score() == 500);
	expect(kmtls_sandbox_enter(NULL, why) == 0);
	expect(oom_score() == 500); /* somebody wanted that */
	expect(kmtls_sandbox_oom(-1000) == -EACCES);
}

static void try_oom_protected(void)
{
	expect(kmtls_sandbox_oom(-1000) == 0);
	expect(oom_score() == -1000);
	expect(kmtls_sandbox_enter(NULL, why) == 0);
	expect(oom_score() == 0);
}

static void test_oom(void **state)
{
	in_child(try_oom, false);
	capng_get_caps_process();
	if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_RESOURCE)) {
		in_child(try_oom_protected, false);
		return;
	}
	if (getenv("KMTLS_REQUIRE_ROOT"))
		fail_msg("no CAP_SYS_RESOURCE");
	print_message("# skipped in part: no CAP_SYS_RESOURCE\n");
}

static int end_of(void (*function)(void))
{
	int status;
	pid_t child = fork();

	if (!child) {
		if (!kmtls_sandbox_enter(NULL, why))
			function();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* The second table of system calls, whose numbers are others, is no way around. */
static void *call_as_32_bits(void *argument)
{
#ifdef __x86_64__
	long result = 20; /* getpid */

	__asm__ volatile("int $0x80" : "+a"(result) : : "memory");
#endif
	return argument;
}

/* The whole process ends, not the one thread. */
static void call_in_thread(void)
{
	pthread_t thread;

	if (!pthread_create(&thread, NULL, call_as_32_bits, NULL))
		pthread_join(thread, NULL);
}

static void test_ends(void **state)
{
	signal(SIGABRT, SIG_DFL);
	assert_int_equal(end_of(abort), SIGABRT);
#ifdef __x86_64__
	assert_int_equal(end_of(call_in_thread), SIGSYS);
#endif
}

/* Root without what the sandbox takes away and keeps cannot be tested with. */
static int setup(void **state)
{
	static const unsigned needed[] = { CAP_SETPCAP, CAP_NET_ADMIN, CAP_SYS_ADMIN };
	bool missing = capng_get_caps_process();

	for (unsigned i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		missing |= !capng_have_capability(CAPNG_EFFECTIVE, needed[i]);
	if (!missing)
		return 0;
	if (getenv("KMTLS_REQUIRE_ROOT"))
		fail_msg("not all of root's capabilities");
	print_message("# skipped: not all of root's capabilities\n");
	skip();
	return 0;
}

static int setup_group(void **state)
{
	complaint = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return complaint == MAP_FAILED ? -1 : 0;
}

#define test(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_refused),
		test(test_thread),
		test(test_allowed),
		test(test_capabilities),
		test(test_missing_capability),
		test(test_late),
		test(test_oom),
		test(test_ends),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("sandbox", tests, setup_group, NULL);
}
