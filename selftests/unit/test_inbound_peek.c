/* SPDX-License-Identifier: Apache-2.0 */
/* test_inbound_peek.c - what a real socket shows of a client's first bytes; nothing is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "inbound_peek.h"
#include "sockets.h"

/* The smallest one that offers kmtls/1. */
static const char hello[] = "\x16\3\1\0\x3d\1\0\0\x39\3\3"
			    "0123456789abcdef0123456789abcdef"
			    "\0\0\2\x13\1\1\0\0\xe\0\x10\0\xa\0\x8\7kmtls/1";
#define HELLO (sizeof(hello) - 1)

/* Sends, and says what can be seen then. */
static enum kmtls_first_bytes after(int from, int to, const char *bytes, size_t length)
{
	int error = -1;

	assert_int_equal(send(from, bytes, length, MSG_NOSIGNAL), length);
	test_wait_readable(to);
	return kmtls_inbound_look(to, &error);
}

static void silence(void **state)
{
	int client, server, error = -1;

	test_tcp_pair(&client, &server);
	assert_int_equal(kmtls_inbound_look(server, &error), KMTLS_FIRST_NOTHING);
	close(client);
	test_wait_readable(server);
	assert_int_equal(kmtls_inbound_look(server, &error), KMTLS_FIRST_PLAIN);
	close(server);
}

static void mesh(void **state)
{
	char taken[HELLO + 1];
	int client, server;

	test_tcp_pair(&client, &server);
	assert_int_equal(after(client, server, hello, 1), KMTLS_FIRST_PARTIAL);
	assert_int_equal(after(client, server, hello + 1, HELLO - 2), KMTLS_FIRST_PARTIAL);
	assert_int_equal(after(client, server, hello + HELLO - 1, 1), KMTLS_FIRST_MESH);
	/* All of it is still there. */
	assert_int_equal(recv(server, taken, sizeof(taken), 0), HELLO);
	assert_memory_equal(taken, hello, HELLO);
	close(client);
	close(server);
}

static void plain(void **state)
{
	static const char *const first[] = { "G", "\x17", "\x16\2", "\x16\3\1\x40\1" };
	int client, server;

	for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
		test_tcp_pair(&client, &server);
		assert_int_equal(after(client, server, first[i], strlen(first[i])),
				 KMTLS_FIRST_PLAIN);
		close(client);
		close(server);
	}
}

/* What can still become a ClientHello cannot after the end. */
static void half_and_end(void **state)
{
	char taken[16];
	int client, server, error;

	test_tcp_pair(&client, &server);
	assert_int_equal(after(client, server, hello, 9), KMTLS_FIRST_PARTIAL);
	shutdown(client, SHUT_WR);
	for (int i = 0; i < 1000 && kmtls_inbound_look(server, &error) == KMTLS_FIRST_PARTIAL; i++)
		usleep(1000);
	assert_int_equal(kmtls_inbound_look(server, &error), KMTLS_FIRST_PLAIN);
	assert_int_equal(recv(server, taken, sizeof(taken), 0), 9);
	close(client);
	close(server);
}

static void reset(void **state)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };
	int client, server, error = -1;

	test_tcp_pair(&client, &server);
	setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(client);
	test_wait_readable(server);
	assert_int_equal(kmtls_inbound_look(server, &error), KMTLS_FIRST_FAILED);
	assert_int_equal(error, ECONNRESET);
	close(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence),	cmocka_unit_test(mesh),	 cmocka_unit_test(plain),
		cmocka_unit_test(half_and_end), cmocka_unit_test(reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
