/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.c - one request to the daemon. Everything up to the last byte of the answer happens
 * before one deadline, so that a daemon that hangs does not hang its operator.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "kmtls/control.h"

#include "cli.h"
#include "json.h"

#define ANSWER_MAX (65u << 20) /* a little more than the daemon ever sends */

static long long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* 0, -ETIMEDOUT, -errno. */
static int wait_for(int fd, short events, long long deadline)
{
	struct pollfd poller = { .fd = fd, .events = events };
	long long left;
	int count;

	do {
		left = deadline - milliseconds();
		if (left <= 0)
			return -ETIMEDOUT;
		count = poll(&poller, 1, (int)left);
	} while (count < 0 && errno == EINTR);
	if (count < 0)
		return -errno;
	return count ? 0 : -ETIMEDOUT;
}

/* A connected, non-blocking socket or -errno. */
static int dial(const char *path, long long deadline)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	__cleanup_fd int fd = -1;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		/* EAGAIN: the backlog is full, and poll() does not wait for that. */
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (milliseconds() >= deadline)
			return -ETIMEDOUT;
		usleep(20 * 1000);
	}
	return kmtls_take_fd(fd);
}

/* A daemon that turns us away may close before it has read: its answer is there all the same,
 * so a broken pipe is not an error yet. */
static int send_all(int fd, const char *bytes, size_t length, long long deadline)
{
	while (length) {
		ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
		int err = sent < 0 ? -errno : 0;

		if (err == -EPIPE)
			return 0;
		if (err == -EAGAIN)
			err = wait_for(fd, POLLOUT, deadline);
		if (err && err != -EINTR)
			return err;
		if (sent > 0) {
			bytes += sent;
			length -= (size_t)sent;
		}
	}
	return 0;
}

/* One line, its newline included. -EPIPE: the daemon closed before it. */
static int receive_line(int fd, struct kmtls_text *line, long long deadline)
{
	static char buffer[65536];
	int err = 0;

	while (!err && !(line->length && line->bytes[line->length - 1] == '\n')) {
		ssize_t got = recv(fd, buffer, sizeof(buffer), 0);

		if (!got)
			return -EPIPE;
		if (got > 0)
			err = kmtls_text_append(line, buffer, (size_t)got);
		else if (errno == EAGAIN)
			err = wait_for(fd, POLLIN, deadline);
		else if (errno != EINTR)
			err = -errno;
	}
	return err;
}

static int explain(const struct kmtls_cli *cli, int err, unsigned seconds)
{
	const char *advice = "";

	if (err == -ENOENT || err == -ECONNREFUSED)
		advice = ": kmtlsd does not run, or has another socket (--socket PATH)";
	else if (err == -EACCES || err == -EPERM)
		advice = ": run kmtls as root or as the user of kmtlsd";
	else if (err == -EPIPE || err == -ECONNRESET)
		advice = ": kmtlsd closed the connection without an answer, see its log";
	else if (err == -ENAMETOOLONG)
		advice = ": a socket's path has at most 107 bytes";
	if (err == -ETIMEDOUT)
		kmtls_cli_error(cli, "%s: no answer within %u s: is kmtlsd stopped or overloaded?",
				cli->socket, seconds);
	else
		kmtls_cli_error(cli, "%s: %s%s", cli->socket, strerror(-err), advice);
	return KMTLS_EXIT_REFUSED;
}

/* Takes the answer apart. */
static int read_answer(const struct kmtls_cli *cli, const struct kmtls_text *line,
		       json_t **ret_result)
{
	__cleanup_json json_t *answer = NULL;
	const char *message;
	json_t *result;
	char why[256];

	if (kmtls_json_parse(line->bytes, line->length, &answer, why)) {
		kmtls_cli_error(cli, "%s: an answer that is %s", cli->socket, why);
		return KMTLS_EXIT_REFUSED;
	}
	result = json_object_get(answer, "result");
	if (json_is_true(json_object_get(answer, "ok")) && result) {
		*ret_result = json_incref(result);
		return KMTLS_EXIT_OK;
	}
	message = json_string_value(json_object_get(json_object_get(answer, "error"), "message"));
	if (message)
		kmtls_cli_error(cli, "%s", message);
	else
		kmtls_cli_error(cli, "%s: an answer this version does not understand", cli->socket);
	return KMTLS_EXIT_REFUSED;
}

static int exchange(const struct kmtls_cli *cli, const char *request, unsigned seconds,
		    struct kmtls_text *line)
{
	long long deadline = milliseconds() + seconds * 1000LL;
	__cleanup_fd int fd = dial(cli->socket, deadline);
	int err = fd < 0 ? fd : 0;

	if (!err)
		err = send_all(fd, request, strlen(request), deadline);
	if (!err)
		err = send_all(fd, "\n", 1, deadline);
	return err ? err : receive_line(fd, line, deadline);
}

/* 0 with the line to be freed, or an exit status. */
static int make_request(const struct kmtls_cli *cli, const char *verb, json_t *arguments,
			char **ret_text)
{
	__cleanup_json json_t *request = NULL;
	__cleanup_free char *text = NULL;

	/* Arguments of the command line that are not UTF-8 cannot be packed. */
	request = json_pack("{s:i, s:s, s:o*}", "version", KMTLS_CONTROL_VERSION, "verb", verb,
			    "arguments", arguments);
	text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	if (!text)
		return explain(cli, -ENOMEM, 0);
	if (strlen(text) >= KMTLS_CONTROL_LINE_MAX)
		return kmtls_cli_usage(cli, "arguments are longer than %d bytes",
				       KMTLS_CONTROL_LINE_MAX - 1);
	*ret_text = kmtls_take_pointer(text);
	return 0;
}

int kmtls_client_call(const struct kmtls_cli *cli, const char *verb, json_t *arguments,
		      unsigned seconds, json_t **ret_result)
{
	__cleanup_text struct kmtls_text line = { .limit = ANSWER_MAX };
	__cleanup_free char *text = NULL;
	int err = make_request(cli, verb, arguments, &text);

	if (err)
		return err;
	err = exchange(cli, text, seconds, &line);
	return err ? explain(cli, err, seconds) : read_answer(cli, &line, ret_result);
}

int kmtls_client_subscribe(const struct kmtls_cli *cli, const char *verb, json_t *arguments,
			   json_t **ret_result, FILE **ret_events)
{
	long long deadline = milliseconds() + KMTLS_CLIENT_SECONDS * 1000LL;
	__cleanup_text struct kmtls_text line = { .limit = ANSWER_MAX };
	__cleanup_free char *text = NULL;
	__cleanup_fd int fd = -1;
	char byte = '\0';
	int err = make_request(cli, verb, arguments, &text);

	if (err)
		return err;
	fd = dial(cli->socket, deadline);
	err = fd < 0 ? fd : send_all(fd, text, strlen(text), deadline);
	if (!err)
		err = send_all(fd, "\n", 1, deadline);
	/* Byte by byte: what follows the answer is for others to read. */
	while (!err && byte != '\n') {
		err = wait_for(fd, POLLIN, deadline);
		if (!err && recv(fd, &byte, 1, 0) != 1)
			err = -EPIPE;
		if (!err)
			err = kmtls_text_append(&line, &byte, 1);
	}
	if (err)
		return explain(cli, err, KMTLS_CLIENT_SECONDS);
	err = read_answer(cli, &line, ret_result);
	if (err)
		return err;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	*ret_events = fdopen(kmtls_take_fd(fd), "re");
	return *ret_events ? 0 : explain(cli, -ENOMEM, 0);
}

void kmtls_client_print(const json_t *result)
{
	json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
}

int kmtls_client_do(const struct kmtls_cli *cli, const char *verb, json_t *arguments,
		    unsigned seconds)
{
	__cleanup_json json_t *result = NULL;
	int status = kmtls_client_call(cli, verb, arguments, seconds, &result);

	if (status == KMTLS_EXIT_OK && cli->json)
		kmtls_client_print(result);
	return status;
}

int kmtls_client_directory(struct kmtls_cli *cli, const char **directory, json_t **ret_status)
{
	int err;

	if (*directory)
		return 0;
	err = kmtls_client_call(cli, "status", NULL, KMTLS_CLIENT_SECONDS, ret_status);
	if (err)
		return err;
	*directory = json_string_value(json_object_get(*ret_status, "bpf_dir"));
	if (*directory)
		return 0;
	kmtls_cli_error(cli, "%s: an answer this version does not understand", cli->socket);
	return KMTLS_EXIT_REFUSED;
}
