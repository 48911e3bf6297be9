/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_listener.c - listeners that are bound to devices, in a network namespace of this process: which
 * of them a connection that came by a device is for, and how it is reached. What the kernel itself
 * does is asked of it in the same place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "cleanup.h"
#include "diag.h"
#include "listener.h"
#include "netns.h"

#define PORT 7100
#define PATIENCE 30000 /* ms, for what does happen */

/* one and two are ends of veths; each has one address of each family. */
static const char *const addresses[2][2] = {
	{ "10.89.2.11", "fd00:89:2::11" },
	{ "10.99.0.1", "fd00:99::1" },
};
static const char *const anywhere[2] = { "0.0.0.0", "::" };
static const char *const devices[2] = { "one", "two" };

static const char make_devices[] =
	"ip link set lo up && "
	"for d in one two bare; do ip link add $d type veth peer name peer-$d && "
	"ip link set $d up && ip link set peer-$d up || exit 1; done && "
	"ip addr add 10.89.2.11/24 dev one && ip addr add 10.99.0.1/24 dev two";

/* The kernel gives an address of IPv6 its route later, on a work queue: until then what is sent there goes
 * out by the device. */
static int add_address6(const char *address, const char *device)
{
	char command[256];

	snprintf(command, sizeof(command),
		 "ip addr add %s/64 dev %s nodad && "
		 "for i in $(seq 300); do ip -6 route show table local | grep -q '^local %s ' && "
		 "exit 0; "
		 "sleep 0.1; done; exit 1",
		 address, device, address);
	return system(command);
}

static struct kmtls_endpoint endpoint(const char *address, __u16 port)
{
	struct kmtls_endpoint result = { .port = port };

	assert_int_equal(kmtls_address_parse(address, &result.address), 0);
	return result;
}

static int new_socket(const char *address)
{
	int fd = socket(strchr(address, ':') ? AF_INET6 : AF_INET,
			SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	return fd;
}

static int name_it(int fd, const char *address, __u16 port,
		   int (*how)(int, const struct sockaddr *, socklen_t))
{
	struct kmtls_endpoint to = endpoint(address, port);
	struct sockaddr_storage storage;
	socklen_t length = kmtls_endpoint_to_sockaddr(&to, &storage);

	return how(fd, (struct sockaddr *)&storage, length) < 0 ? -errno : 0;
}

static void bind_to_device(int fd, const char *device)
{
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, strlen(device)), 0);
}

/* device: NULL for none. */
static int listen_at(const char *address, const char *device)
{
	int fd = new_socket(address), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (device)
		bind_to_device(fd, device);
	assert_int_equal(name_it(fd, address, PORT, bind), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

/* What the kernel says within so many ms: 0, an error, or -EINPROGRESS. */
static int connected(int fd, int ms)
{
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	socklen_t length = sizeof(int);
	int error = 0;

	if (poll(&wait, 1, ms) == 0)
		return -EINPROGRESS;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	return -error;
}

/* An accepted connection that came in by that device. */
static int wire(int device, int v)
{
	__cleanup_fd int listener = new_socket(addresses[device][v]);
	__cleanup_fd int client = new_socket(addresses[device][v]);
	struct pollfd wait = { .fd = listener, .events = POLLIN };
	int fd;

	assert_int_equal(name_it(listener, addresses[device][v], PORT + 1, bind), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(name_it(client, addresses[device][v], PORT + 1, connect), -EINPROGRESS);
	assert_int_equal(poll(&wait, 1, PATIENCE), 1);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	return fd;
}

/* ---- which one ---- */

/* Those the pod was enrolled with: all there are. */
static void read_own(struct kmtls_netns_addresses *ret_own)
{
	memset(ret_own, 0, sizeof(*ret_own));
	for (int i = 0; i < 4; i++)
		ret_own->all[ret_own->count++] = endpoint(addresses[i / 2][i % 2], 0).address;
}

static int find(int came_by, const char *address, unsigned *ret_device, char *ret_why)
{
	__cleanup_fd int fd = wire(came_by, strchr(address, ':') != NULL);
	struct kmtls_endpoint local = endpoint(address, PORT);
	struct kmtls_listener listener = { .device = ~0u };
	struct kmtls_netns_addresses own;
	int err;

	read_own(&own);
	strcpy(ret_why, "?");
	err = kmtls_listener_find(fd, &local, &own, &listener, ret_why);
	*ret_device = listener.device;
	if (!err && listener.device)
		assert_true(kmtls_address_equal(&listener.source, &local.address));
	return err;
}

static void which(void **state)
{
	static const struct {
		int bound; /* to devices[], -1: to none, -2: there is no listener */
		int came_by, address; /* indices */
		int expected;
		const char *why;
	} rows[] = {
		{ -2, 0, 0, -ECONNREFUSED, NULL },
		{ -1, 0, 0, 0, NULL },
		{ -1, 0, 1, 0, NULL },
		{ 0, 0, 0, 0, NULL },
		{ 1, 1, 1, 0, NULL },
		/* It came by the other one. */
		{ 0, 1, 0, -ENODEV, "bound to one, the connection came by two" },
		{ 1, 0, 1, -ENODEV, "bound to two, the connection came by one" },
		{ 0, 1, 1, -ENODEV, "bound to one, which does not have %s" },
		/* By the right one, for an address that the other has. */
		{ 0, 0, 1, -ENODEV, "bound to one, which does not have %s" },
		{ 1, 1, 0, -ENODEV, "bound to two, which does not have %s" },
	};
	char why[KMTLS_LISTENER_WHY], expected[KMTLS_LISTENER_WHY];
	unsigned device;

	/* The last one: a listener on [::] and a connection of IPv4. */
	for (size_t i = 0; i < 3 * sizeof(rows) / sizeof(rows[0]); i++) {
		int row = i / 3, v = i % 3 == 1, bound = rows[row].bound;
		const char *address = addresses[rows[row].address][v];
		__cleanup_fd int listener =
			bound == -2
				? -1
				: listen_at(anywhere[i % 3 > 0], bound < 0 ? NULL : devices[bound]);

		assert_int_equal(find(rows[row].came_by, address, &device, why),
				 rows[row].expected);
		if (!rows[row].expected)
			assert_int_equal(device, bound < 0 ? 0 : if_nametoindex(devices[bound]));
		if (!rows[row].why)
			continue;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(expected, sizeof(expected), rows[row].why, address);
#pragma GCC diagnostic pop
		assert_string_equal(why, expected);
	}
}

/* Bound after listen(), and released again. */
static void bound_later(void **state)
{
	char why[KMTLS_LISTENER_WHY];
	unsigned device;

	for (int v = 0; v < 2; v++) {
		__cleanup_fd int listener = listen_at(anywhere[v], NULL);

		bind_to_device(listener, "one");
		assert_int_equal(find(0, addresses[0][v], &device, why), 0);
		assert_int_equal(device, if_nametoindex("one"));
		assert_int_equal(find(1, addresses[1][v], &device, why), -ENODEV);
		bind_to_device(listener, "");
		assert_int_equal(find(1, addresses[1][v], &device, why), 0);
		assert_int_equal(device, 0);
	}
}

/* One for each device, on one port. */
static void several(void **state)
{
	char why[KMTLS_LISTENER_WHY];
	unsigned device;

	for (int v = 0; v < 2; v++) {
		__cleanup_fd int one = listen_at(anywhere[v], "one");
		__cleanup_fd int two = listen_at(anywhere[v], "two");

		for (int d = 0; d < 2; d++) {
			assert_int_equal(find(d, addresses[d][v], &device, why), 0);
			assert_int_equal(device, if_nametoindex(devices[d]));
			assert_int_equal(find(d, addresses[!d][v], &device, why), -ENODEV);
		}
	}
}

/* ---- how it is reached ---- */

static void reached(void **state)
{
	for (int i = 0; i < 4; i++) {
		const char *address = addresses[i / 2][i % 2];
		__cleanup_fd int listener = listen_at(anywhere[i % 2], devices[i / 2]);
		__cleanup_fd int leg = new_socket(address), accepted = -1;
		struct pollfd wait = { .fd = listener, .events = POLLIN };
		struct kmtls_endpoint to = endpoint(address, PORT), found;
		struct sockaddr_storage storage;
		socklen_t length = sizeof(storage);
		struct kmtls_listener way;

		way.device = if_nametoindex(devices[i / 2]);
		way.source = to.address;
		assert_int_equal(kmtls_listener_bind(leg, &way), 0);
		name_it(leg, address, PORT, connect);
		assert_int_equal(connected(leg, PATIENCE), 0);
		assert_int_equal(poll(&wait, 1, PATIENCE), 1);
		accepted = accept(listener, NULL, NULL);
		assert_int_equal(getsockname(accepted, (struct sockaddr *)&storage, &length), 0);
		assert_int_equal(kmtls_endpoint_from_sockaddr(&storage, &found), 0);
		assert_true(kmtls_endpoint_equal(&found, &to));
		assert_int_equal(send(leg, "x", 1, 0), 1);
		wait = (struct pollfd){ .fd = accepted, .events = POLLIN };
		assert_int_equal(poll(&wait, 1, PATIENCE), 1);
	}
}

/* Why all this: it answers nobody on loopback. */
static void not_reached_from_loopback(void **state)
{
	__cleanup_fd int listener = listen_at("0.0.0.0", "one");
	__cleanup_fd int leg = new_socket("0.0.0.0");

	assert_int_equal(name_it(leg, "127.70.1.1", 0, bind), 0);
	name_it(leg, addresses[0][0], PORT, connect);
	assert_int_equal(connected(leg, 300), -EINPROGRESS);
}

/* An address that came after the enrolment: connected to from one that is known, or not at all. */
static void young_address(void **state)
{
	for (int v = 0; v < 2; v++) {
		__cleanup_fd int listener = listen_at(anywhere[v], "one");
		__cleanup_fd int fd = wire(0, v), leg = new_socket(addresses[0][v]);
		struct kmtls_endpoint local = endpoint(v ? "fd00:89:2::77" : "10.89.2.77", PORT);
		struct kmtls_netns_addresses own;
		struct kmtls_listener way;
		struct sockaddr_storage storage;
		socklen_t length = kmtls_endpoint_to_sockaddr(&local, &storage);
		char why[KMTLS_LISTENER_WHY];

		read_own(&own);
		assert_int_equal(v ? add_address6("fd00:89:2::77", "one")
				   : system("ip addr add 10.89.2.77/24 dev one"),
				 0);
		assert_int_equal(kmtls_listener_find(fd, &local, &own, &way, why), 0);
		assert_true(kmtls_address_equal(&way.source, &own.all[v]));
		assert_int_equal(kmtls_listener_bind(leg, &way), 0);
		connect(leg, (struct sockaddr *)&storage, length);
		assert_int_equal(connected(leg, PATIENCE), 0);
		own.all[0] = own.all[1] = own.all[2]; /* none of this device is known */
		assert_int_equal(kmtls_listener_find(fd, &local, &own, &way, why), -ENODEV);
		assert_string_equal(
			why, "bound to one, which has no address that the pod was enrolled with");
	}
}

/* ---- without a connection ---- */

static void bound_or_not(void **state)
{
	char why[KMTLS_LISTENER_WHY];

	for (int v = 0; v < 2; v++) {
		struct kmtls_endpoint local = endpoint(addresses[0][v], PORT);
		int fd = -1;

		assert_int_equal(kmtls_listener_look(&local, why), 0);
		fd = listen_at(anywhere[v], "one");
		assert_int_equal(kmtls_listener_look(&local, why), 1);
		assert_string_equal(why, "one");
		close(fd);
		fd = listen_at(anywhere[v], "two");
		assert_int_equal(kmtls_listener_look(&local, why), -ENODEV);
		assert_non_null(strstr(why, "bound to two, which does not have "));
		close(fd);
		for (int i = 0; i < 2; i++) { /* no address but loopback, none at all */
			fd = listen_at(anywhere[v], i ? "bare" : "lo");
			assert_int_equal(kmtls_listener_look(&local, why), -ENODEV);
			close(fd);
		}
		fd = listen_at(addresses[1][v], "two"); /* of another address */
		assert_int_equal(kmtls_listener_look(&local, why), 0);
		close(fd);
		fd = listen_at(addresses[0][v], NULL);
		assert_int_equal(kmtls_listener_look(&local, why), 0);
		close(fd);
	}
}

static bool alone = true;

static int needs_namespace(void **state)
{
	if (!alone)
		skip();
	return 0;
}

static int setup(void **state)
{
	if (unshare(CLONE_NEWNET) == 0)
		return system(make_devices) || add_address6(addresses[0][1], devices[0]) ||
		       add_address6(addresses[1][1], devices[1]);
	if (getenv("KMTLS_REQUIRE_ROOT"))
		fail_msg("no network namespace of its own: %s", strerror(errno));
	print_message("# skipped: no network namespace of its own\n");
	alone = false;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(which, needs_namespace),
		cmocka_unit_test_setup(bound_later, needs_namespace),
		cmocka_unit_test_setup(several, needs_namespace),
		cmocka_unit_test_setup(reached, needs_namespace),
		cmocka_unit_test_setup(young_address, needs_namespace),
		cmocka_unit_test_setup(not_reached_from_loopback, needs_namespace),
		cmocka_unit_test_setup(bound_or_not, needs_namespace),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("listener", tests, setup, NULL);
}
