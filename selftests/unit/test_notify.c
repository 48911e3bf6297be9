/* SPDX-License-Identifier: Apache-2.0 */
/* test_notify.c - what the service manager gets, on a socket like its own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "notify.h"

/* The C library's own calls come here too. A sanitizer has an allocator that must stay. */
static unsigned allocations;
#ifndef __SANITIZE_ADDRESS__
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *pointer, size_t size);

void *malloc(size_t size)
{
	allocations++;
	return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	allocations++;
	return __libc_calloc(count, size);
}

void *realloc(void *pointer, size_t size)
{
	allocations++;
	return __libc_realloc(pointer, size);
}
#endif

static char directory[] = "/tmp/kmtls-notify-XXXXXX";
static char path[64];
static int manager = -1;

/* What systemd does: a datagram socket that is told who sent. name begins with / or @. */
static void listen_as_manager(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length = offsetof(struct sockaddr_un, sun_path) + strlen(name);
	int one = 1;

	memcpy(address.sun_path, name, strlen(name));
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(manager >= 0);
	assert_int_equal(bind(manager, (struct sockaddr *)&address, length), 0);
	assert_int_equal(setsockopt(manager, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)), 0);
	setenv("NOTIFY_SOCKET", name, 1);
}

/* The next message, whose sender must be this process; NULL: none. */
static const char *received(void)
{
	static char text[2048];
	char control[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec data = { text, sizeof(text) - 1 };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t length = recvmsg(manager, &message, 0);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	struct ucred sender;

	if (length < 0) {
		assert_int_equal(errno, EAGAIN);
		return NULL;
	}
	assert_non_null(header);
	assert_int_equal(header->cmsg_type, SCM_CREDENTIALS);
	memcpy(&sender, CMSG_DATA(header), sizeof(sender));
	assert_int_equal(sender.pid, getpid());
	text[length] = '\0';
	assert_int_equal(strlen(text), length);
	return text;
}

static int setup(void **state)
{
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	return 0;
}

static int teardown(void **state)
{
	if (manager >= 0)
		close(manager);
	manager = -1;
	unlink(path);
	return 0;
}

static void test_nobody(void **state)
{
	struct kmtls_notify_socket notify;

	assert_int_equal(kmtls_notify_open(&notify), 0);
	assert_int_equal(notify.fd, -1);
	assert_int_equal(kmtls_notify_send(&notify, "READY=1"), 0);
	kmtls_notify_close(&notify);
}

static void talk(const char *name)
{
	struct kmtls_notify_socket notify;
	char expected[64];

	listen_as_manager(name);
	assert_int_equal(kmtls_notify_open(&notify), 0);
	assert_true(notify.fd >= 0);
	assert_int_equal(kmtls_notify_send(&notify, "READY=1\nSTATUS=%u flows", 7), 0);
	assert_string_equal(received(), "READY=1\nSTATUS=7 flows");
	assert_int_equal(kmtls_notify_main_pid(&notify, 12345), 0);
	assert_string_equal(received(), "MAINPID=12345");
	/* A message is one datagram, and the variable is still there for the next program. */
	snprintf(expected, sizeof(expected), "%s", getenv("NOTIFY_SOCKET"));
	assert_string_equal(expected, name);
	assert_null(received());
	kmtls_notify_close(&notify);
	assert_int_equal(notify.fd, -1);
	assert_int_equal(kmtls_notify_send(&notify, "STOPPING=1"), 0);
	assert_null(received());
}

static void test_path(void **state)
{
	talk(path);
}

static void test_abstract(void **state)
{
	char name[64];

	snprintf(name, sizeof(name), "@kmtls-test-notify-%d", (int)getpid());
	talk(name);
}

/* As long as an address can be, with no room for a zero at its end. */
static void test_longest(void **state)
{
	char name[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	struct kmtls_notify_socket notify;
	int length = snprintf(name, sizeof(name), "@kmtls-test-notify-%d-", (int)getpid());

	memset(name + length, 'x', sizeof(name) - length);
	name[sizeof(name) - 1] = '\0';
	listen_as_manager(name);
	assert_int_equal(kmtls_notify_open(&notify), 0);
	assert_int_equal(kmtls_notify_send(&notify, "READY=1"), 0);
	assert_string_equal(received(), "READY=1");
	kmtls_notify_close(&notify);
}

static void test_bad_addresses(void **state)
{
	static const char *const addresses[] = { "", "/", "@", "relative", "vsock:2:1234" };
	struct kmtls_notify_socket notify;
	char longer[sizeof(((struct sockaddr_un *)0)->sun_path) + 2];

	for (unsigned i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		setenv("NOTIFY_SOCKET", addresses[i], 1);
		notify.fd = 1;
		assert_int_equal(kmtls_notify_open(&notify), -EINVAL);
		assert_int_equal(notify.fd, -1);
	}
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	longer[0] = '@';
	setenv("NOTIFY_SOCKET", longer, 1);
	assert_int_equal(kmtls_notify_open(&notify), -EINVAL);
	/* A path of that length could not be ended. */
	longer[0] = '/';
	longer[sizeof(longer) - 2] = '\0';
	setenv("NOTIFY_SOCKET", longer, 1);
	assert_int_equal(kmtls_notify_open(&notify), -EINVAL);
}

static void test_manager_gone(void **state)
{
	struct kmtls_notify_socket notify;

	setenv("NOTIFY_SOCKET", path, 1);
	assert_int_equal(kmtls_notify_open(&notify), 0);
	assert_int_equal(kmtls_notify_send(&notify, "READY=1"), -ENOENT);
	listen_as_manager(path);
	assert_int_equal(kmtls_notify_send(&notify, "READY=1"), 0);
	/* It comes back under the same name. */
	close(manager);
	unlink(path);
	listen_as_manager(path);
	assert_int_equal(kmtls_notify_send(&notify, "STATUS=again"), 0);
	assert_string_equal(received(), "STATUS=again");
	kmtls_notify_close(&notify);
}

/* All or nothing, and a manager that does not read cannot stop us. */
static void test_limits(void **state)
{
	char text[KMTLS_NOTIFY_MESSAGE + 1];
	struct kmtls_notify_socket notify;
	int err = 0, sent = 0;

	listen_as_manager(path);
	assert_int_equal(kmtls_notify_open(&notify), 0);
	memset(text, 'x', sizeof(text));
	text[KMTLS_NOTIFY_MESSAGE] = '\0';
	assert_int_equal(kmtls_notify_send(&notify, "%s", text), -EMSGSIZE);
	assert_null(received());
	text[KMTLS_NOTIFY_MESSAGE - 1] = '\0';
	assert_int_equal(kmtls_notify_send(&notify, "%s", text), 0);
	assert_string_equal(received(), text);
	alarm(10);
	while (!err && sent++ < 1000000)
		err = kmtls_notify_send(&notify, "WATCHDOG=1");
	alarm(0);
	assert_int_equal(err, -EAGAIN);
	assert_string_equal(received(), "WATCHDOG=1");
	assert_int_equal(kmtls_notify_send(&notify, "WATCHDOG=1"), 0);
	kmtls_notify_close(&notify);
}

static void test_reloading(void **state)
{
	unsigned long long before, after, said;
	struct kmtls_notify_socket notify;
	struct timespec now;
	int end = 0;

	listen_as_manager(path);
	assert_int_equal(kmtls_notify_open(&notify), 0);
	clock_gettime(CLOCK_MONOTONIC, &now);
	before = now.tv_sec * 1000000ull + now.tv_nsec / 1000;
	assert_int_equal(kmtls_notify_reloading(&notify, "upgrading"), 0);
	clock_gettime(CLOCK_MONOTONIC, &now);
	after = now.tv_sec * 1000000ull + now.tv_nsec / 1000;
	assert_int_equal(sscanf(received(), "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=upgrading%n",
				&said, &end),
			 1);
	assert_true(end > 0);
	assert_in_range(said, before, after);
	kmtls_notify_close(&notify);
}

static void test_watchdog(void **state)
{
	static const char *const bad[] = {
		"", "0", "-5", "+5", "5s", " 5", "99999999999999999999"
	};
	char text[32];

	assert_int_equal(kmtls_notify_watchdog_usec(), 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	assert_int_equal(kmtls_notify_watchdog_usec(), 30000000);
	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("WATCHDOG_PID", text, 1);
	assert_int_equal(kmtls_notify_watchdog_usec(), 30000000);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("WATCHDOG_USEC", bad[i], 1);
		assert_int_equal(kmtls_notify_watchdog_usec(), 0);
	}
	setenv("WATCHDOG_USEC", "1000", 1);
	setenv("WATCHDOG_PID", "1", 1);
	assert_int_equal(kmtls_notify_watchdog_usec(), 0);
	setenv("WATCHDOG_PID", "", 1);
	assert_int_equal(kmtls_notify_watchdog_usec(), 0);
}

/* What the next main process, a child of the first, makes of the environment. */
static uint64_t watchdog_in_child(void)
{
	int status;
	pid_t child = fork();

	if (!child)
		_exit(kmtls_notify_watchdog_usec());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_watchdog_passed_on(void **state)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("WATCHDOG_USEC", "77", 1);
	setenv("WATCHDOG_PID", text, 1);
	assert_int_equal(watchdog_in_child(), 0);
	kmtls_notify_pass_on_watchdog();
	assert_int_equal(kmtls_notify_watchdog_usec(), 77);
	assert_int_equal(watchdog_in_child(), 77);
	/* Somebody else's watchdog is not ours to give. */
	setenv("WATCHDOG_PID", "1", 1);
	kmtls_notify_pass_on_watchdog();
	assert_int_equal(watchdog_in_child(), 0);
}

/* The keeper must get through when no memory is to be had. */
static void test_allocates_nothing(void **state)
{
	struct kmtls_notify_socket notify;
	unsigned before;
	char text[32];

	listen_as_manager(path);
	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("WATCHDOG_USEC", "77", 1);
	setenv("WATCHDOG_PID", text, 1);
	before = allocations;
	assert_int_equal(kmtls_notify_open(&notify), 0);
	assert_int_equal(kmtls_notify_send(&notify, "STATUS=%u flows, %s", 1000000, "all is well"),
			 0);
	assert_int_equal(kmtls_notify_reloading(&notify, "upgrading"), 0);
	assert_int_equal(kmtls_notify_main_pid(&notify, 1), 0);
	kmtls_notify_pass_on_watchdog();
	assert_int_equal(allocations, before);
	kmtls_notify_close(&notify);
#ifndef __SANITIZE_ADDRESS__
	assert_true(before > 0); /* it is counted */
#endif
}

static int setup_group(void **state)
{
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/notify", directory);
	return 0;
}

static int teardown_group(void **state)
{
	return rmdir(directory);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_nobody),
		test(test_path),
		test(test_abstract),
		test(test_longest),
		test(test_bad_addresses),
		test(test_manager_gone),
		test(test_limits),
		test(test_reloading),
		test(test_watchdog),
		test(test_watchdog_passed_on),
		test(test_allocates_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("notify", tests, setup_group, teardown_group);
}
