/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_socket.h - the listening Unix socket: made with mode 0600 before anyone can
 * connect, replacing what a dead daemon left, never what a living one listens on.
 */
#ifndef KMTLS_CONTROL_SOCKET_H
#define KMTLS_CONTROL_SOCKET_H

#include <sys/types.h>
#include <sys/un.h>

struct kmtls_control_socket {
	int fd; /* listening, non-blocking */
	struct sockaddr_un address;
	dev_t device; /* of the socket's file, to remove no other one */
	ino_t inode;
};

/* One that is open already. -ENOENT: it is not what is at path. */
int kmtls_control_socket_adopt(const char *path, int fd, struct kmtls_control_socket *ret_socket);
/* Closes one that is not adopted, and removes its file: it is where nobody looks any more. Others
 * may have copies of fd: they do not answer either. */
void kmtls_control_socket_discard(int fd);
/* The last directory of path is made if missing. -EADDRINUSE: something answers there;
 * -ENOTSOCK: something else has the name; -ENAMETOOLONG; -errno. ret_why: 256 bytes. */
int kmtls_control_socket_open(const char *path, struct kmtls_control_socket *ret_socket,
			      char *ret_why);
void kmtls_control_socket_close(struct kmtls_control_socket *control_socket);

#endif
