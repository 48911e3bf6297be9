/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stepkill - kills a process before its Nth system call: stepkill PID N
 *
 * Attaches to all threads of PID with ptrace, says "ready", counts their system calls together, and
 * kills PID with SIGKILL when the Nth is about to be made (it is not). Calls a thread was already
 * waiting in are not counted. Ends when PID is dead or stdin ends, and prints one line of JSON: how
 * many it counted, whether it killed, and the number of the call that was not made.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PTRACE_GET_SYSCALL_INFO
#define PTRACE_GET_SYSCALL_INFO 0x420e
#endif
#define SYSCALL_ENTRY 1 /* PTRACE_SYSCALL_INFO_ENTRY */

/* The beginning of the kernel's struct ptrace_syscall_info. */
struct syscall_info {
	uint8_t op, pad[3];
	uint32_t arch;
	uint64_t ip, sp, number, arguments[6];
};

static unsigned counted, limit;
static int pid;
static long long last_call = -1;
static bool killed;

static bool attach_all(void)
{
	const long flags = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;
	struct dirent *entry;
	char path[64];
	bool any = false;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		return false;
	while ((entry = readdir(tasks))) {
		int thread = atoi(entry->d_name);

		if (thread <= 0 || ptrace(PTRACE_SEIZE, thread, 0, flags) < 0)
			continue;
		any = true;
		/* It goes on from this stop with PTRACE_SYSCALL. */
		ptrace(PTRACE_INTERRUPT, thread, 0, 0);
	}
	closedir(tasks);
	return any;
}

static bool is_entry(int thread)
{
	struct syscall_info info = {};

	if (ptrace((enum __ptrace_request)PTRACE_GET_SYSCALL_INFO, thread, sizeof(info), &info) <=
		    0 ||
	    info.op != SYSCALL_ENTRY)
		return false;
	last_call = (long long)info.number;
	return true;
}

static void handle_stop(int thread, int status)
{
	int signal_number = WSTOPSIG(status), event = status >> 16;

	if (signal_number == (SIGTRAP | 0x80)) {
		if (!killed && is_entry(thread) && ++counted == limit) {
			killed = true;
			kill(pid, SIGKILL);
			return;
		}
		signal_number = 0;
	} else if (event) {
		signal_number = 0;
	}
	ptrace(PTRACE_SYSCALL, thread, 0, (long)signal_number);
}

/* False when the process is gone. */
static bool reap(void)
{
	int status, thread;

	while ((thread = waitpid(-1, &status, __WALL | WNOHANG)) > 0)
		if (WIFSTOPPED(status))
			handle_stop(thread, status);
	return thread == 0;
}

int main(int argc, char **argv)
{
	struct pollfd waiting[2] = { { .fd = STDIN_FILENO, .events = POLLIN },
				     { .events = POLLIN } };
	struct signalfd_siginfo info;
	sigset_t signals;
	char byte;

	if (argc != 3)
		return 2;
	pid = atoi(argv[1]);
	limit = (unsigned)atoi(argv[2]);
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	waiting[1].fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (!attach_all()) {
		perror("stepkill: ptrace");
		return 1;
	}
	/* All stop once, and are let go. */
	puts("ready");
	fflush(stdout);
	while (reap()) {
		if (poll(waiting, 2, 1000) < 0)
			break;
		if (waiting[0].revents && read(STDIN_FILENO, &byte, 1) <= 0)
			break;
		while (read(waiting[1].fd, &info, sizeof(info)) > 0)
			;
	}
	/* What is still attached is let go when we end. */
	printf("{\"counted\": %u, \"killed\": %s, \"call\": %lld}\n", counted,
	       killed ? "true" : "false", killed ? last_call : -1);
	return 0;
}
