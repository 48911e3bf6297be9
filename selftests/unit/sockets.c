/* SPDX-License-Identifier: Apache-2.0 */
/* sockets.c - see sockets.h. */
#include "sockets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ktls.h"

void test_tcp_pair(int *ret_connected, int *ret_accepted)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	*ret_connected = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(*ret_connected, (struct sockaddr *)&address, length), 0);
	*ret_accepted = accept(listener, NULL, NULL);
	assert_true(*ret_accepted >= 0);
	close(listener);
	setsockopt(*ret_connected, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(*ret_accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(*ret_connected, F_SETFL, O_NONBLOCK);
	fcntl(*ret_accepted, F_SETFL, O_NONBLOCK);
}

void test_wait_readable(int fd)
{
	struct pollfd wanted = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&wanted, 1, 30000), 1);
}

void test_require_ktls(void)
{
	const char *require = getenv("KMTLS_REQUIRE_KTLS");
	int err = kmtls_ktls_probe();

	if (!err)
		return;
	if (require && !strcmp(require, "1"))
		fail_msg("the kernel has no TLS: %s", strerror(-err));
	print_message("# skipped: the kernel has no TLS: %s\n", strerror(-err));
	skip();
}
