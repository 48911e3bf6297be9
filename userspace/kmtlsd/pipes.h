/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipes.h - pipes for bytes in flight. A flow has one per direction only while bytes are in
 * it; the rest of the time they wait here, empty.
 */
#ifndef KMTLS_PIPES_H
#define KMTLS_PIPES_H

/* How many bytes a flow puts into its pipe at most. */
#define KMTLS_PIPE_BYTES 65536
/* Idle pipes kept per loop; more are closed. */
#define KMTLS_PIPES_KEPT 64

struct kmtls_pipes {
	int idle[KMTLS_PIPES_KEPT][2];
	unsigned count;
};

/* Non-blocking, close-on-exec. -EMFILE, -ENFILE, ... */
int kmtls_pipes_get(struct kmtls_pipes *pipes, int *ret_read, int *ret_write);
/* The pipe must be empty. */
void kmtls_pipes_put(struct kmtls_pipes *pipes, int read_fd, int write_fd);
void kmtls_pipes_close(struct kmtls_pipes *pipes);

#endif
