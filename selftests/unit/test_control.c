/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_control.c - the control socket against a real client: who may ask, in what order answers
 * come, and what a hostile or dead client costs. Verbs of its own stand in for the real ones;
 * what is a request is test_control_request.c's.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "kmtls/control.h"

#include "control_request.h"
#include "control_socket.h"
#include "daemon.h"
#include "log.h"
#include "monitor.h"

#define NOBODY 65534
#define ASK(verb, arguments) "{\"version\":1,\"verb\":\"" verb "\",\"arguments\":" arguments "}"

static int calls; /* of handlers; read only while no request is under way */

static int run_echo(struct kmtls_daemon *daemon, const json_t *arguments, struct kmtls_text *result,
		    char *ret_why)
{
	calls++;
	return kmtls_text_append_json(result, json_incref((json_t *)arguments));
}

static int run_fail(struct kmtls_daemon *daemon, const json_t *arguments, struct kmtls_text *result,
		    char *ret_why)
{
	calls++;
	kmtls_text_append_string(result, "[\"half\"");
	snprintf(ret_why, KMTLS_CONTROL_WHY, "thing: exists already");
	return -EEXIST;
}

static int run_large(struct kmtls_daemon *daemon, const json_t *arguments,
		     struct kmtls_text *result, char *ret_why)
{
	static char filler[1024];
	json_int_t size =
		json_integer_value(json_array_get(json_object_get(arguments, "ports"), 0));

	memset(filler, 'x', sizeof(filler));
	kmtls_text_append_string(result, "\"");
	while (size-- && !kmtls_text_append(result, filler, sizeof(filler)))
		;
	return kmtls_text_append_string(result, "\"");
}

static int run_watch(struct kmtls_daemon *daemon, const json_t *arguments,
		     struct kmtls_text *result, char *ret_why)
{
	int err = kmtls_monitor_subscribe(NULL, NULL, &daemon->subscription);

	return err ? err : kmtls_text_append_string(result, "{}");
}

static const struct kmtls_control_verb verbs[] = {
	{ .name = "echo",
	  .arguments = { { "text", KMTLS_CONTROL_STRING, true } },
	  .run = run_echo },
	{ .name = "none", .run = run_echo },
	{ .name = "watch", .run = run_watch },
	{ .name = "fail", .run = run_fail },
	{ .name = "large",
	  .arguments = { { "ports", KMTLS_CONTROL_PORTS, true } },
	  .run = run_large },
	{ .name = NULL },
};

static char directory[64], socket_path[96];
static struct kmtls_config config = { .control_socket = socket_path };
static struct kmtls_daemon daemon_ = { .config = &config };
static struct kmtls_control *control;

/* ---- helpers -------------------------------------------------------------------------- */

static int setup(void **state)
{
	char why[KMTLS_CONTROL_WHY];

	calls = 0;
	return kmtls_control_open_verbs(&daemon_, verbs, &control, why);
}

static int teardown(void **state)
{
	kmtls_control_close(control);
	control = NULL;
	return 0;
}

static int dial(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = 20 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, socket_path);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	return fd;
}

static void put(int fd, const char *bytes, size_t length)
{
	assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
}

static void put_text(int fd, const char *text)
{
	put(fd, text, strlen(text));
}

/* One line without its newline, or NULL at the end of the stream. */
static char *get_line(int fd)
{
	size_t size = 4096, length = 0;
	char *line = malloc(size);

	for (;;) {
		ssize_t got = recv(fd, line + length, 1, 0);

		if (got <= 0 || line[length] == '\n')
			break;
		if (++length == size)
			line = realloc(line, size *= 2);
		assert_non_null(line);
	}
	if (!length) {
		free(line);
		return NULL;
	}
	line[length] = '\0';
	return line;
}

static void expect_line(int fd, const char *expected)
{
	char *line = get_line(fd);

	assert_non_null(line);
	assert_string_equal(line, expected);
	free(line);
}

static void expect_error(int fd, const char *name, const char *message)
{
	char expected[1024];

	snprintf(expected, sizeof(expected),
		 "{\"version\":1,\"ok\":false,\"error\":{\"errno\":\"%s\",\"message\":\"%s\"}}",
		 name, message);
	expect_line(fd, expected);
}

static void expect_end(int fd)
{
	char byte;

	assert_true(recv(fd, &byte, 1, 0) <= 0);
	close(fd);
}

/* A client that gets events. */
static int watch(void)
{
	int fd = dial();

	put_text(fd, ASK("watch", "{}") "\n");
	expect_line(fd, "{\"version\":1,\"ok\":true,\"result\":{}}");
	return fd;
}

/* ---- the socket ----------------------------------------------------------------------- */

static void test_mode(void **state)
{
	struct stat status;

	assert_int_equal(lstat(socket_path, &status), 0);
	assert_true(S_ISSOCK(status.st_mode));
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(status.st_uid, geteuid());
}

static void test_order(void **state)
{
	char line[128], expected[128];
	int fd = dial();

	for (int i = 0; i < 500; i++) {
		snprintf(line, sizeof(line), ASK("echo", "{\"text\":\"%d\"}") "\n", i);
		put_text(fd, line);
	}
	for (int i = 0; i < 500; i++) {
		snprintf(expected, sizeof(expected),
			 "{\"version\":1,\"ok\":true,\"result\":{\"text\":\"%d\"}}", i);
		expect_line(fd, expected);
	}
	shutdown(fd, SHUT_WR);
	expect_end(fd);
}

static void test_byte_by_byte(void **state)
{
	static const char line[] = ASK("echo", "{\"text\":\"slow\"}") "\n";
	int fd = dial();

	for (size_t i = 0; i < sizeof(line) - 1; i++)
		put(fd, line + i, 1);
	expect_line(fd, "{\"version\":1,\"ok\":true,\"result\":{\"text\":\"slow\"}}");
	close(fd);
}

/* The client says all it has to say and closes its side, as `nc -N` does. */
static void test_half_close(void **state)
{
	int fd = dial();

	put_text(fd, ASK("none", "{}") "\n" ASK("none", "{}") "\n{\"version\":1,");
	shutdown(fd, SHUT_WR);
	expect_line(fd, "{\"version\":1,\"ok\":true,\"result\":{}}");
	expect_line(fd, "{\"version\":1,\"ok\":true,\"result\":{}}");
	expect_end(fd); /* the unfinished line is not a request */
}

static void test_error_keeps_connection(void **state)
{
	int fd = dial();
	char *line;

	put_text(fd, "nonsense\n" ASK("fail", "{}") "\n" ASK("none", "{}") "\n");
	line = get_line(fd);
	assert_non_null(line);
	assert_non_null(strstr(line, "\"EINVAL\",\"message\":\"request: not JSON: "));
	free(line);
	expect_error(fd, "EEXIST", "thing: exists already");
	expect_line(fd, "{\"version\":1,\"ok\":true,\"result\":{}}");
	close(fd);
}

static void test_line_limit(void **state)
{
	static char line[KMTLS_CONTROL_LINE_MAX + 1];
	const char *head = "{\"version\":1,\"verb\":\"none\"";
	int fd = dial();

	/* The longest line that is taken: 65536 bytes with its newline. */
	memset(line, ' ', sizeof(line));
	memcpy(line, head, strlen(head));
	line[KMTLS_CONTROL_LINE_MAX - 2] = '}';
	line[KMTLS_CONTROL_LINE_MAX - 1] = '\n';
	put(fd, line, KMTLS_CONTROL_LINE_MAX);
	expect_line(fd, "{\"version\":1,\"ok\":true,\"result\":{}}");
	/* One byte more. */
	memset(line, ' ', sizeof(line));
	put(fd, line, KMTLS_CONTROL_LINE_MAX);
	expect_error(fd, "EMSGSIZE", "request: a line is at most 65536 bytes");
	expect_end(fd);
}

static void test_large_answer(void **state)
{
	int fd = dial(), other = dial();
	size_t total = 0;
	char *buffer = malloc(1 << 20);
	ssize_t got;

	assert_non_null(buffer);
	put_text(fd, ASK("large", "{\"ports\":[10000]}") "\n" ASK("none", "{}") "\n");
	/* While that client does not read, others are served. */
	put_text(other, ASK("none", "{}") "\n");
	expect_line(other, "{\"version\":1,\"ok\":true,\"result\":{}}");
	close(other);
	shutdown(fd, SHUT_WR);
	while ((got = recv(fd, buffer, 1 << 20, 0)) > 0)
		total += (size_t)got;
	assert_int_equal(total, 10000 * 1024 +
					strlen("{\"version\":1,\"ok\":true,\"result\":\"\"}\n") +
					strlen("{\"version\":1,\"ok\":true,\"result\":{}}\n"));
	free(buffer);
	close(fd);
}

static void test_too_many(void **state)
{
	int fds[64], last;

	for (int i = 0; i < 64; i++) {
		fds[i] = dial();
		put_text(fds[i], ASK("none", "{}") "\n");
		expect_line(fds[i], "{\"version\":1,\"ok\":true,\"result\":{}}");
	}
	last = dial();
	expect_error(last, "EBUSY", "too many control clients, at most 64");
	expect_end(last);
	close(fds[0]);
	for (int i = 0; i < 100; i++) { /* until the daemon has noticed */
		char *line;

		last = dial();
		send(last, ASK("none", "{}") "\n", strlen(ASK("none", "{}") "\n"), MSG_NOSIGNAL);
		line = get_line(last);
		close(last);
		if (line && strstr(line, "true"))
			i = 1000;
		free(line);
		usleep(20 * 1000);
		if (i == 99)
			fail_msg("a freed place was not given away");
	}
	for (int i = 1; i < 64; i++)
		close(fds[i]);
}

/* Reads until each of so many events has been told, or counted as lost; how many were lost. */
static unsigned read_events(int fd, unsigned events)
{
	unsigned told = 0, lost = 0;

	while (told + lost < events) {
		char *line = get_line(fd), *number;

		assert_non_null(line);
		number = strstr(line, "\"lost\":\"");
		if (number)
			lost += (unsigned)strtoul(number + 8, NULL, 10);
		else
			told += strstr(line, "flow ended") != NULL;
		free(line);
	}
	assert_int_equal(told + lost, events);
	return lost;
}

/* Both kinds of stalling, at the same time: they take ten seconds. */
static void test_stalled(void **state)
{
	int line = dial(), answer = dial(), idle = dial(), slow = watch();
	struct timespec from, to;
	long waited;

	clock_gettime(CLOCK_MONOTONIC, &from);
	put_text(line, "{\"version\":1,");
	put_text(answer, ASK("large", "{\"ports\":[20000]}") "\n");
	for (unsigned i = 0; i < 50000; i++)
		log_debug("flow ended", "pod=a reason=ended number=%u", i);
	for (int i = 0; i < 8; i++) {
		usleep(1000 * 1000);
		put_text(line, " "); /* a byte now and then does not help */
	}
	expect_end(line);
	clock_gettime(CLOCK_MONOTONIC, &to);
	waited = to.tv_sec - from.tv_sec;
	assert_in_range(waited, 9, 13);
	usleep(2500 * 1000);
	/* What the socket held is still there, then the end: far from all of it. */
	{
		char *rest = get_line(answer);

		assert_non_null(rest);
		assert_true(strlen(rest) < 20000 * 1024);
		free(rest);
		close(answer);
	}
	/* A client that owes nothing may stay. */
	put_text(idle, ASK("none", "{}") "\n");
	expect_line(idle, "{\"version\":1,\"ok\":true,\"result\":{}}");
	close(idle);
	/* So may one that gets events and does not read them: it has lost some. */
	assert_true(read_events(slow, 50000) > 0);
	close(slow);
}

/* In the child: the error line and the end, then nothing of the request was done. */
static int ask_as_nobody(void)
{
	static const char expected[] = "{\"version\":1,\"ok\":false,\"error\":{\"errno\":\"EPERM\","
				       "\"message\":\"only root and "
				       "the daemon's user may control kmtlsd\"}}\n";
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = 5 };
	char buffer[512];
	size_t length = 0;
	ssize_t got;
	int fd;

	if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY))
		return 10;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	strcpy(address.sun_path, socket_path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return errno == EACCES ? 11 : 12;
	send(fd, ASK("none", "{}") "\n", strlen(ASK("none", "{}") "\n"), MSG_NOSIGNAL);
	while ((got = recv(fd, buffer + length, sizeof(buffer) - length, 0)) > 0)
		length += (size_t)got;
	return length == sizeof(expected) - 1 && !memcmp(buffer, expected, length) ? 0 : 13;
}

static int run_as_nobody(void)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (!child)
		_exit(ask_as_nobody());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_foreign_user(void **state)
{
	if (geteuid()) {
		print_message("# not root: nobody else's user to be\n");
		skip();
	}
	/* The first fence is the mode of the socket's file ... */
	assert_int_equal(run_as_nobody(), 11);
	/* ... and when somebody has opened it, the second are the credentials. */
	assert_int_equal(chmod(directory, 0755), 0);
	assert_int_equal(chmod(socket_path, 0666), 0);
	assert_int_equal(run_as_nobody(), 0);
	assert_int_equal(calls, 0);
	chmod(directory, 0700);
}

/* ---- subscribers ---------------------------------------------------------------------- */

static void expect_event(int fd, const char *part)
{
	char *line = get_line(fd);

	assert_non_null(line);
	if (!strstr(line, part))
		fail_msg("'%s' is not in '%s'", part, line);
	free(line);
}

static void test_events(void **state)
{
	int fd = watch(), other = watch();

	log_debug("flow ended", "pod=a number=1");
	expect_event(fd, "\"event\":\"flow ended\",\"pod\":\"a\",\"number\":\"1\"");
	expect_event(other, "\"number\":\"1\"");
	/* What it says now is nobody's business. */
	put_text(fd, ASK("none", "{}") "\n");
	close(other);
	log_debug("flow ended", "pod=a number=2");
	expect_event(fd, "\"number\":\"2\"");
	assert_int_equal(calls, 0);
	close(fd);
}

/* One that does not read costs a little memory, loses events and is told; others are served. */
static void test_slow_subscriber(void **state)
{
	const unsigned events = 50000;
	int fd = watch(), other = dial();

	for (unsigned i = 0; i < events; i++)
		log_debug("flow ended", "pod=a reason=ended number=%u", i);
	put_text(other, ASK("none", "{}") "\n");
	expect_line(other, "{\"version\":1,\"ok\":true,\"result\":{}}");
	assert_true(read_events(fd, events) > 0);
	close(other);
	close(fd);
}

static void test_too_many_subscribers(void **state)
{
	int fds[KMTLS_MONITOR_SUBSCRIBERS], fd;

	for (unsigned i = 0; i < KMTLS_MONITOR_SUBSCRIBERS; i++)
		fds[i] = watch();
	fd = dial();
	put_text(fd, ASK("watch", "{}") "\n");
	expect_error(fd, "EBUSY", "Device or resource busy");
	for (unsigned i = 0; i < KMTLS_MONITOR_SUBSCRIBERS; i++)
		close(fds[i]);
	/* As soon as the server has seen them go. */
	for (unsigned i = 0; kmtls_log_is_wanted(KMTLS_LOG_DEBUG, "flow ended"); i++) {
		assert_true(i < 500);
		usleep(10 * 1000);
	}
	close(watch());
	close(fd);
}

/* ---- who has the socket --------------------------------------------------------------- */

static void test_second_daemon(void **state)
{
	struct kmtls_control *second = (void *)1;
	char why[KMTLS_CONTROL_WHY], expected[KMTLS_CONTROL_WHY];
	int fd;

	assert_int_equal(kmtls_control_open_verbs(&daemon_, verbs, &second, why), -EADDRINUSE);
	snprintf(expected, sizeof(expected), "%s: another kmtlsd answers there", socket_path);
	assert_string_equal(why, expected);
	assert_ptr_equal(second, (void *)1);
	fd = dial(); /* the first is unharmed */
	put_text(fd, ASK("none", "{}") "\n");
	expect_line(fd, "{\"version\":1,\"ok\":true,\"result\":{}}");
	close(fd);
}

static void bind_dead_socket(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, socket_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	close(fd); /* the file stays, as after a kill -9 */
}

/* A daemon so busy that its backlog is full lives all the same. */
static void test_busy_daemon(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct kmtls_control *second = NULL;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), clients[16], count = 0;
	char why[KMTLS_CONTROL_WHY];
	struct stat status;

	strcpy(address.sun_path, socket_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 0), 0);
	do {
		clients[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	} while (!connect(clients[count], (struct sockaddr *)&address, sizeof(address)) &&
		 ++count < 15);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(kmtls_control_open_verbs(&daemon_, verbs, &second, why), -EADDRINUSE);
	assert_int_equal(lstat(socket_path, &status), 0);
	while (count >= 0)
		close(clients[count--]);
	close(fd);
	assert_int_equal(unlink(socket_path), 0);
}

static void test_dead_daemon(void **state)
{
	struct kmtls_control *second = NULL;
	char why[KMTLS_CONTROL_WHY];
	struct stat status;
	int fd;

	bind_dead_socket();
	assert_int_equal(kmtls_control_open_verbs(&daemon_, verbs, &second, why), 0);
	fd = dial();
	put_text(fd, ASK("none", "{}") "\n");
	expect_line(fd, "{\"version\":1,\"ok\":true,\"result\":{}}");
	close(fd);
	kmtls_control_close(second);
	assert_int_equal(lstat(socket_path, &status), -1); /* removed behind itself */
}

static void test_not_ours_to_remove(void **state)
{
	struct kmtls_control *second = NULL;
	char why[KMTLS_CONTROL_WHY];
	struct stat status;

	assert_int_equal(kmtls_control_open_verbs(&daemon_, verbs, &second, why), 0);
	/* Somebody removed it and a successor made its own. */
	assert_int_equal(unlink(socket_path), 0);
	bind_dead_socket();
	kmtls_control_close(second);
	assert_int_equal(lstat(socket_path, &status), 0);
	assert_int_equal(unlink(socket_path), 0);
}

static void test_not_a_socket(void **state)
{
	struct kmtls_control *second = NULL;
	char why[KMTLS_CONTROL_WHY], expected[KMTLS_CONTROL_WHY];
	int fd = open(socket_path, O_CREAT | O_WRONLY | O_EXCL, 0600);

	assert_true(fd >= 0);
	close(fd);
	snprintf(expected, sizeof(expected), "%s: exists and is not a socket", socket_path);
	assert_int_equal(kmtls_control_open_verbs(&daemon_, verbs, &second, why), -ENOTSOCK);
	assert_string_equal(why, expected);
	assert_int_equal(unlink(socket_path), 0);
	assert_int_equal(symlink("/etc/passwd", socket_path), 0);
	assert_int_equal(kmtls_control_open_verbs(&daemon_, verbs, &second, why), -ENOTSOCK);
	assert_int_equal(unlink(socket_path), 0);
}

/* A new configuration names another path: what is at the old one goes, if it is ours. */
static void test_discard(void **state)
{
	struct kmtls_control_socket socket, other;
	char why[KMTLS_CONTROL_WHY];
	int copy;

	assert_int_equal(kmtls_control_socket_open(socket_path, &socket, why), 0);
	copy = dup(socket.fd); /* of a keeper that has not ended yet */
	assert_int_equal(access(socket_path, F_OK), 0);
	kmtls_control_socket_discard(socket.fd);
	assert_int_equal(access(socket_path, F_OK), -1);
	close(copy);

	/* By then it may be somebody else's. */
	assert_int_equal(kmtls_control_socket_open(socket_path, &socket, why), 0);
	assert_int_equal(unlink(socket_path), 0);
	assert_int_equal(kmtls_control_socket_open(socket_path, &other, why), 0);
	kmtls_control_socket_discard(socket.fd);
	close(dial());
	kmtls_control_socket_close(&other);
	assert_int_equal(access(socket_path, F_OK), -1);

	/* Or no socket at all. */
	assert_int_equal(kmtls_control_socket_open(socket_path, &socket, why), 0);
	assert_int_equal(unlink(socket_path), 0);
	assert_int_equal(mkdir(socket_path, 0700), 0);
	kmtls_control_socket_discard(socket.fd);
	assert_int_equal(rmdir(socket_path), 0);
}

static void test_bad_path(void **state)
{
	struct kmtls_config other = { .control_socket = "/nonexistent/a/b.sock" };
	struct kmtls_daemon daemon = { .config = &other };
	struct kmtls_control *second = NULL;
	char why[KMTLS_CONTROL_WHY], path[128];

	assert_int_equal(kmtls_control_open_verbs(&daemon, verbs, &second, why), -ENOENT);
	assert_string_equal(why, "/nonexistent/a: No such file or directory");
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[108] = '\0';
	other.control_socket = path;
	assert_int_equal(kmtls_control_open_verbs(&daemon, verbs, &second, why), -ENAMETOOLONG);
	assert_non_null(strstr(why, ": longer than 107 bytes"));
}

/* Closing must not wait for clients, nor leak what they were owed. */
static void test_close_with_clients(void **state)
{
	struct kmtls_control *second = NULL;
	char why[KMTLS_CONTROL_WHY];
	int half, unread;

	assert_int_equal(kmtls_control_open_verbs(&daemon_, verbs, &second, why), 0);
	half = dial();
	unread = dial();
	put_text(half, "{\"version\"");
	put_text(unread, ASK("large", "{\"ports\":[5000]}") "\n");
	usleep(200 * 1000);
	kmtls_control_close(second);
	expect_end(half);
	close(unread);
	kmtls_control_close(NULL);
}

int main(void)
{
#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_SERVER(test_mode),
		WITH_SERVER(test_order),
		WITH_SERVER(test_byte_by_byte),
		WITH_SERVER(test_half_close),
		WITH_SERVER(test_error_keeps_connection),
		WITH_SERVER(test_line_limit),
		WITH_SERVER(test_large_answer),
		WITH_SERVER(test_too_many),
		WITH_SERVER(test_stalled),
		WITH_SERVER(test_foreign_user),
		WITH_SERVER(test_events),
		WITH_SERVER(test_slow_subscriber),
		WITH_SERVER(test_too_many_subscribers),
		WITH_SERVER(test_second_daemon),
		cmocka_unit_test(test_busy_daemon),
		cmocka_unit_test(test_dead_daemon),
		cmocka_unit_test(test_not_ours_to_remove),
		cmocka_unit_test(test_not_a_socket),
		cmocka_unit_test(test_discard),
		cmocka_unit_test(test_bad_path),
		cmocka_unit_test(test_close_with_clients),
	};
	int failed;

	snprintf(directory, sizeof(directory), "/tmp/kmtls-test-control-XXXXXX");
	if (!mkdtemp(directory))
		return 1;
	/* One level deeper: the daemon makes the last directory itself. */
	snprintf(socket_path, sizeof(socket_path), "%s/run/control.sock", directory);
	kmtls_log_set_level(KMTLS_LOG_INFO);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests_name("control", tests, NULL, NULL);
	snprintf(socket_path, sizeof(socket_path), "%s/run", directory);
	rmdir(socket_path);
	rmdir(directory);
	return failed;
}
