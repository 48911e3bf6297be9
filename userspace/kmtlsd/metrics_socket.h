/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_socket.h - where metrics are served: ADDRESS:PORT, or the path of a Unix socket. Listening
 * goes on across workers and upgrades, as with the control socket: who connects meanwhile waits.
 */
#ifndef KMTLS_METRICS_SOCKET_H
#define KMTLS_METRICS_SOCKET_H

#include <stdbool.h>

#include "control_socket.h"
#include "kmtls/abi.h"

/* "127.0.0.1:9464", "[::1]:9464". -EINVAL. */
int kmtls_metrics_socket_parse(const char *text, struct kmtls_endpoint *ret_endpoint);

struct kmtls_metrics_socket {
	int fd; /* listening, non-blocking; -1: none */
	bool is_file; /* then file is the same socket */
	struct kmtls_control_socket file;
};

/* One that a worker before this one left. -ENOENT: it is not what text says. */
int kmtls_metrics_socket_adopt(const char *text, int fd, struct kmtls_metrics_socket *ret_socket);
/* In the network namespace of the calling thread. -errno, and a sentence in ret_why (256 bytes). */
int kmtls_metrics_socket_open(const char *text, struct kmtls_metrics_socket *ret_socket,
			      char *ret_why);
void kmtls_metrics_socket_close(struct kmtls_metrics_socket *metrics_socket);

#endif
