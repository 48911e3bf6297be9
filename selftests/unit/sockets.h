/* SPDX-License-Identifier: Apache-2.0 */
/* sockets.h - TCP pairs on loopback for tests, and the rule for a kernel without TLS. */
#ifndef KMTLS_TEST_SOCKETS_H
#define KMTLS_TEST_SOCKETS_H

/* Two ends of one connection, non-blocking, without Nagle's delay. */
void test_tcp_pair(int *ret_connected, int *ret_accepted);
/* Waits at most five seconds for input; fails the test when none comes. */
void test_wait_readable(int fd);
/* Skips the test where the kernel has no TLS; fails it there if KMTLS_REQUIRE_KTLS is 1. */
void test_require_ktls(void);

#endif
