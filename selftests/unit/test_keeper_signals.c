/* SPDX-License-Identifier: Apache-2.0 */
/* test_keeper_signals.c - signals that arrive during an upgrade reach the successor, each once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "keeper_open.h"

static int signal_fd;

/* Counts what it gets until it gets SIGTERM: its exit status. Or 100, after a while. */
static void count_hangups(void)
{
	const struct timespec patience = { .tv_sec = 20 };
	sigset_t signals;
	int hangups = 0, got;

	sigemptyset(&signals);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGTERM);
	while ((got = sigtimedwait(&signals, NULL, &patience)) == SIGHUP)
		hangups++;
	_exit(got == SIGTERM ? hangups : 100);
}

static void passed_on(void **state)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		count_hangups();
	assert_true(child > 0);
	/* All at once: the kernel keeps one of each. */
	kill(getpid(), SIGHUP);
	kill(getpid(), SIGHUP);
	kill(getpid(), SIGCHLD);
	kmtls_keeper_pass_on_signals(signal_fd, child);
	usleep(100 * 1000);
	assert_int_equal(waitpid(child, &status, WNOHANG), 0);
	kill(getpid(), SIGHUP);
	kmtls_keeper_pass_on_signals(signal_fd, child);
	usleep(100 * 1000);
	kill(getpid(), SIGTERM);
	kmtls_keeper_pass_on_signals(signal_fd, child);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 2);
}

/* Without a successor they stay: nobody is killed, least of all process group 0. */
static void nobody_to_pass_to(void **state)
{
	struct signalfd_siginfo signal;

	kill(getpid(), SIGHUP);
	kmtls_keeper_pass_on_signals(signal_fd, 0);
	kmtls_keeper_pass_on_signals(signal_fd, -1);
	assert_int_equal(read(signal_fd, &signal, sizeof(signal)), sizeof(signal));
	assert_int_equal(signal.ssi_signo, SIGHUP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passed_on),
		cmocka_unit_test(nobody_to_pass_to),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (kmtls_keeper_open_signals(&signal_fd) < 0)
		return 1;
	return cmocka_run_group_tests_name("keeper_signals", tests, NULL, NULL);
}
