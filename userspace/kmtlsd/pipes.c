/* SPDX-License-Identifier: Apache-2.0 */
/* pipes.c - see pipes.h. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "pipes.h"

int kmtls_pipes_get(struct kmtls_pipes *pipes, int *ret_read, int *ret_write)
{
	int ends[2];

	if (pipes->count) {
		pipes->count--;
		*ret_read = pipes->idle[pipes->count][0];
		*ret_write = pipes->idle[pipes->count][1];
		return 0;
	}
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0)
		return -errno;
	*ret_read = ends[0];
	*ret_write = ends[1];
	return 0;
}

void kmtls_pipes_put(struct kmtls_pipes *pipes, int read_fd, int write_fd)
{
	if (pipes->count == KMTLS_PIPES_KEPT) {
		close(read_fd);
		close(write_fd);
		return;
	}
	pipes->idle[pipes->count][0] = read_fd;
	pipes->idle[pipes->count][1] = write_fd;
	pipes->count++;
}

void kmtls_pipes_close(struct kmtls_pipes *pipes)
{
	while (pipes->count) {
		pipes->count--;
		close(pipes->idle[pipes->count][0]);
		close(pipes->idle[pipes->count][1]);
	}
}
