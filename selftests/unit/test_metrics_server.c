/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_metrics_server.c - metrics over real sockets, against clients that ask and clients that do not.
 * The text is one of the test's own: the daemon's needs a kernel with its maps.
 */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "address.h"
#include "daemon.h"
#include "metrics_server.h"
#include "metrics_socket.h"
#include "metrics_text.h"
#include "shared.h"

#define ASK "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
#define LARGE (8u << 20)

static char directory[64], path[96], address[32];
static struct kmtls_shared *shared;
static struct kmtls_config config;
static struct kmtls_daemon daemon_ = { .config = &config };
static struct kmtls_metrics_server *server;
static atomic_uint made;
static size_t size; /* of the text */
static int render_err;

static int render(struct kmtls_daemon *daemon, struct kmtls_text *text)
{
	atomic_fetch_add(&made, 1);
	kmtls_metrics_text_one(text, KMTLS_METRIC_PODS, made);
	while (text->length < size)
		kmtls_text_append_string(text, "# filler filler filler filler filler filler\n");
	return render_err ? render_err : text->err;
}

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000ll + time.tv_nsec / 1000000;
}

static void begin(char *listen)
{
	config.metrics_listen = listen;
	assert_int_equal(kmtls_metrics_server_open_with(&daemon_, render, &server), 0);
}

static int dial_path(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = 20 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(to.sun_path, path);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	return fd;
}

/* All there is up to the end, zero-terminated; "" if nothing. The caller frees. */
static char *read_all(int fd)
{
	size_t room = 2 * LARGE, used = 0;
	char *bytes = malloc(room);
	ssize_t got;

	assert_non_null(bytes);
	while ((got = recv(fd, bytes + used, room - 1 - used, 0)) > 0)
		used += (size_t)got;
	bytes[used] = '\0';
	close(fd);
	return bytes;
}

static void assert_served(int fd)
{
	char *answer;

	assert_int_equal(send(fd, ASK, strlen(ASK), MSG_NOSIGNAL), strlen(ASK));
	answer = read_all(fd);
	assert_non_null(strstr(answer, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(answer, "\nkmtls_pods "));
	free(answer);
}

static int setup(void **state)
{
	memset(shared, 0, sizeof(*shared));
	made = 0;
	size = 0;
	render_err = 0;
	server = NULL;
	return 0;
}

static int teardown(void **state)
{
	kmtls_metrics_server_close(server);
	server = NULL;
	return 0;
}

/* ---- what is served ---- */

static void test_off(void **state)
{
	begin(NULL);
	assert_null(server);
	assert_int_equal(shared->metrics_fd, 0);
}

static void test_path(void **state)
{
	struct stat status;

	begin(path);
	assert_served(dial_path());
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode, S_IFSOCK | 0600);
	kmtls_metrics_server_close(server);
	server = NULL;
	assert_int_equal(stat(path, &status), -1);
	assert_int_equal(shared->metrics_fd, 0);
}

static int dial_address(void)
{
	struct kmtls_endpoint endpoint;
	struct sockaddr_storage to;
	socklen_t length;
	int fd;

	assert_int_equal(kmtls_metrics_socket_parse(address, &endpoint), 0);
	length = kmtls_endpoint_to_sockaddr(&endpoint, &to);
	fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, length), 0);
	return fd;
}

static void serve_on(const char *host, int family)
{
	struct sockaddr_storage any = { .ss_family = (sa_family_t)family };
	socklen_t length = sizeof(any);
	struct kmtls_endpoint endpoint;
	int fd = socket(family, SOCK_STREAM, 0);

	/* A port that is free now. */
	assert_int_equal(bind(fd, (struct sockaddr *)&any, length), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &length), 0);
	assert_int_equal(kmtls_endpoint_from_sockaddr(&any, &endpoint), 0);
	close(fd);
	snprintf(address, sizeof(address), "%s:%u", host, endpoint.port);
	begin(address);
	assert_served(dial_address());
}

static void test_ipv4(void **state)
{
	serve_on("127.0.0.1", AF_INET);
}

static void test_ipv6(void **state)
{
	serve_on("[::1]", AF_INET6);
}

static void test_refused(void **state)
{
	char *answer;
	int fd;

	begin(path);
	fd = dial_path();
	assert_int_equal(send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL), 18);
	answer = read_all(fd);
	assert_memory_equal(answer, "HTTP/1.1 404 Not Found\r\n", 24);
	free(answer);
	assert_int_equal(made, 0);
}

static void test_no_text(void **state)
{
	char *answer;
	int fd;

	render_err = -EIO;
	begin(path);
	fd = dial_path();
	assert_int_equal(send(fd, ASK, strlen(ASK), MSG_NOSIGNAL), strlen(ASK));
	answer = read_all(fd);
	assert_memory_equal(answer, "HTTP/1.1 500 ", 13);
	assert_null(strstr(answer, "kmtls_pods"));
	free(answer);
}

/* Who asks a hundred times in a moment makes no more work than who asks a few times. */
static void test_often(void **state)
{
	long long start, took;

	begin(path);
	start = now();
	for (unsigned i = 0; i < 100; i++)
		assert_served(dial_path());
	took = now() - start;
	assert_in_range(made, 1, 1 + took / KMTLS_METRICS_FRESH);
	usleep((KMTLS_METRICS_FRESH + 50) * 1000);
	took = made;
	assert_served(dial_path());
	assert_int_equal(made, took + 1);
}

/* ---- who disturbs ---- */

/* As many as there are places and more, each with half a request: a scraper is served at once. */
static void test_slow(void **state)
{
	int slow[3 * KMTLS_METRICS_CLIENTS];
	const unsigned count = sizeof(slow) / sizeof(slow[0]);
	long long start;

	begin(path);
	for (unsigned i = 0; i < count; i++) {
		slow[i] = dial_path();
		assert_int_equal(send(slow[i], "GET /met", 8, MSG_NOSIGNAL), 8);
	}
	start = now();
	for (unsigned i = 0; i < 10; i++)
		assert_served(dial_path());
	assert_in_range(now() - start, 0, KMTLS_METRICS_ASK * 1000 / 2);
	for (unsigned i = 0; i < count; i++)
		close(slow[i]);
}

/* A byte now and then prolongs nothing. */
static void test_dribble(void **state)
{
	long long start;
	char byte;
	int fd;

	begin(path);
	fd = dial_path();
	start = now();
	while (recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN &&
	       send(fd, "G", 1, MSG_NOSIGNAL) == 1)
		usleep(100 * 1000);
	close(fd);
	assert_in_range(now() - start, KMTLS_METRICS_ASK * 1000 - 100,
			KMTLS_METRICS_ASK * 1000 + 3000);
}

/* Answers that nobody takes fill no place for others. */
static void test_not_taken(void **state)
{
	int lazy[KMTLS_METRICS_CLIENTS + 4];
	const unsigned count = sizeof(lazy) / sizeof(lazy[0]);

	size = LARGE;
	begin(path);
	for (unsigned i = 0; i < count; i++) {
		lazy[i] = dial_path();
		assert_int_equal(send(lazy[i], ASK, strlen(ASK), MSG_NOSIGNAL), strlen(ASK));
	}
	assert_served(dial_path());
	for (unsigned i = 0; i < count; i++)
		close(lazy[i]);
}

/* One that takes its answer slowly gets all of it. */
static void test_taken_slowly(void **state)
{
	size_t got = 0;
	char *bytes = malloc(LARGE);
	int fd;

	size = LARGE;
	begin(path);
	fd = dial_path();
	assert_int_equal(send(fd, ASK, strlen(ASK), MSG_NOSIGNAL), strlen(ASK));
	for (ssize_t part = 1; part > 0; got += (size_t)part) {
		part = recv(fd, bytes, LARGE / 8, 0);
		assert_true(part >= 0);
		usleep(2000);
	}
	assert_true(got > LARGE);
	close(fd);
	free(bytes);
}

/* ---- across workers and upgrades ---- */

/* What a worker that died has left is taken up: who has connected meanwhile is served. */
static void test_adopted(void **state)
{
	struct kmtls_metrics_socket left;
	char why[KMTLS_WHY];
	int fd;

	assert_int_equal(kmtls_metrics_socket_open(path, &left, why), 0);
	shared->metrics_fd = left.fd + 1;
	fd = dial_path();
	begin(path);
	assert_int_equal(shared->metrics_fd, left.fd + 1);
	assert_served(fd);
}

/* One that the configuration has no more, or elsewhere: nobody waits in it for ever. */
static void test_moved(void **state)
{
	struct kmtls_metrics_socket left;
	char why[KMTLS_WHY];
	char byte;
	int fd;

	assert_int_equal(kmtls_metrics_socket_open(path, &left, why), 0);
	shared->metrics_fd = left.fd + 1;
	fd = dial_path();
	begin(NULL);
	assert_null(server);
	assert_int_equal(shared->metrics_fd, 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_true(recv(fd, &byte, 1, 0) <= 0);
	close(fd);
}

/* An address that cannot be had is tried again: the daemon starts all the same. */
static void test_taken_address(void **state)
{
	struct kmtls_metrics_socket other;
	char why[KMTLS_WHY];
	long long start;

	assert_int_equal(kmtls_metrics_socket_open(path, &other, why), 0);
	begin(path);
	assert_non_null(server);
	assert_int_equal(shared->metrics_fd, 0);
	kmtls_metrics_socket_close(&other);
	for (start = now(); !shared->metrics_fd && now() - start < 15000;)
		usleep(50 * 1000);
	assert_served(dial_path());
}

static int make_directory(void **state)
{
	int fd;

	snprintf(directory, sizeof(directory), "/tmp/kmtls-metrics-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/metrics.sock", directory);
	if (kmtls_shared_create(&shared, &fd))
		return -1;
	daemon_.shared = shared;
	return 0;
}

static int remove_directory(void **state)
{
	return rmdir(directory);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_off),	      TEST(test_path),		TEST(test_ipv4),
		TEST(test_ipv6),      TEST(test_refused),	TEST(test_no_text),
		TEST(test_often),     TEST(test_slow),		TEST(test_dribble),
		TEST(test_not_taken), TEST(test_taken_slowly),	TEST(test_adopted),
		TEST(test_moved),     TEST(test_taken_address),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
