/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_handover_batches.c - a take-over by message: every descriptor arrives under the number it
 * had, however many there are and whatever the receiver has open; the keeper's own stay.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"
#include "handover.h"
#include "pods.h"
#include "shared.h"

#define MOST 1300 /* of one message: 253 */
#define CORE 3 /* the keeper's, which stay */

static char directory[] = "/tmp/kmtls-test-batches-XXXXXX";
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static int numbers[MOST], listener;
static unsigned count;
static struct kmtls_shared *shared;
static struct kmtls_daemon keeper;

/* A file that says which one it is. */
static int open_file(int name)
{
	int fd = memfd_create("handover", MFD_CLOEXEC);

	assert_true(fd > STDERR_FILENO);
	assert_int_equal(write(fd, &name, sizeof(name)), sizeof(name));
	return fd;
}

static bool is_file(int fd, int name)
{
	int found = -1;

	return pread(fd, &found, sizeof(found), 0) == sizeof(found) && found == name &&
	       fcntl(fd, F_GETFD) == FD_CLOEXEC;
}

/* No copy is left over, under a number of passage or of the keeper's own. */
static int find_stray(void *context, int fd)
{
	int name;

	/* Standard output may be a file that can be read: make --output-sync. */
	if (fd <= STDERR_FILENO || pread(fd, &name, sizeof(name), 0) != sizeof(name))
		return 0;
	return name < 0 || numbers[name] != fd;
}

/* What is wrong, as an exit status. */
static int receive(void)
{
	char why[KMTLS_WHY];
	int shared_fd = -1, fd;

	/* Of its own, where others shall be. */
	close_range(STDERR_FILENO + 1, ~0u, 0);
	for (int i = 0; i < 40; i++)
		if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
			return 2;
	fd = kmtls_handover_receive(address.sun_path, &shared_fd, why);
	if (fd < 0) {
		fprintf(stderr, "# %s\n", why);
		return 3;
	}
	if (shared_fd != numbers[0])
		return 4;
	for (unsigned i = 0; i < count; i++)
		if (!is_file(numbers[i], (int)i))
			return 5;
	/* The conversation's socket is out of the way of all. */
	for (unsigned i = 0; i < count; i++)
		if (fd <= numbers[i])
			return 6;
	return kmtls_descriptors_visit(find_stray, NULL) ? 7 : 0;
}

static void give(void)
{
	int socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	char request[128] = "";

	assert_true(socket >= 0);
	assert_true(recv(socket, request, sizeof(request) - 1, 0) > 0);
	assert_string_equal(request, "{\"version\":1,\"verb\":\"take-over\"}\n");
	assert_int_equal(kmtls_handover_send(&keeper, numbers[0], socket), 0);
	close(socket);
}

static void hand_over(unsigned files)
{
	int core[CORE], status;
	pid_t child;

	/* What is open before these is the keeper's, or this process's. */
	assert_int_equal(kmtls_descriptor_set_fill(&keeper.core), 0);
	for (int i = 0; i < CORE; i++) {
		core[i] = open_file(-1);
		kmtls_descriptor_set_add(&keeper.core, core[i]);
	}
	for (count = 0; count < files; count++)
		numbers[count] = open_file((int)count);
	/* Those of the keeper that go along. */
	for (unsigned i = 0; i < 4 && i < count; i++)
		kmtls_descriptor_set_add(&keeper.core, numbers[i]);
	shared->secret_fd = count > 1 ? numbers[1] : -1;
	shared->lock_fd = count > 2 ? numbers[2] : -1;
	shared->maps_lock_fd = count > 3 ? numbers[3] : -1;
	child = fork();
	if (child == 0)
		_exit(receive());
	assert_true(child > 0);
	give();
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	for (unsigned i = 0; i < count; i++)
		close(numbers[i]);
	for (int i = 0; i < CORE; i++)
		close(core[i]);
	kmtls_descriptor_set_free(&keeper.core);
}

static void batches(void **state)
{
	static const unsigned sizes[] = { 1, 4, 252, 253, 254, 505, 506, 507, 759, MOST };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		hand_over(sizes[i]);
}

/* A number out of the shared memory is a worker's word. */
static void not_a_socket(void **state)
{
	int fd = open_file(0), pair[2];

	assert_int_equal(kmtls_handover_send(&keeper, 3, fd), -ENOTSOCK);
	close(fd);
	assert_int_equal(kmtls_handover_send(&keeper, 3, fd), -ENOTSOCK);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(kmtls_handover_send(&keeper, 3, fd), -ENOTSOCK);
	close(fd);
	/* And one whose other end has gone is an error, no end of the keeper. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	close(pair[1]);
	assert_int_equal(kmtls_descriptor_set_fill(&keeper.core), 0);
	assert_int_equal(kmtls_handover_send(&keeper, 3, pair[0]), -EPIPE);
	kmtls_descriptor_set_free(&keeper.core);
	close(pair[0]);
}

static int setup(void **state)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
	setrlimit(RLIMIT_NOFILE, &limit);
	shared = calloc(1, sizeof(*shared));
	keeper.shared = shared;
	if (!shared || !mkdtemp(directory))
		return -1;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", directory);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 1);
}

static int teardown(void **state)
{
	close(listener);
	unlink(address.sun_path);
	rmdir(directory);
	free(shared);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(batches),
		cmocka_unit_test(not_a_socket),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("handover_batches", tests, setup, teardown);
}
