/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_socket.c - see control_socket.h. Two daemons that start at the same time must not
 * both find a dead socket and the second remove the first one's new one: looking and binding
 * happen under a lock on the directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "control_socket.h"

#define WHY 256
#define BACKLOG 64

static int fail(char *ret_why, int err, const char *path, const char *what)
{
	snprintf(ret_why, WHY, "%.120s: %s", path, what ? what : strerror(-err));
	return err;
}

/* The directory of path, made if missing and locked; unlocked by closing it. */
static int lock_directory(const char *path, char *ret_why)
{
	char copy[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	const char *directory;
	int fd, err;

	snprintf(copy, sizeof(copy), "%s", path);
	directory = dirname(copy);
	if (mkdir(directory, 0755) && errno != EEXIST)
		return fail(ret_why, -errno, directory, NULL);
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail(ret_why, -errno, directory, NULL);
	if (flock(fd, LOCK_EX)) {
		err = -errno;
		close(fd);
		return fail(ret_why, err, directory, NULL);
	}
	return fd;
}

/* Removes the socket of a daemon that is no more. */
static int clear_path(const struct sockaddr_un *address, char *ret_why)
{
	__cleanup_fd int fd = -1;
	struct stat status;

	if (lstat(address->sun_path, &status))
		return errno == ENOENT ? 0 : fail(ret_why, -errno, address->sun_path, NULL);
	/* connect() says ECONNREFUSED to a regular file as well. */
	if (!S_ISSOCK(status.st_mode))
		return fail(ret_why, -ENOTSOCK, address->sun_path, "exists and is not a socket");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail(ret_why, -errno, address->sun_path, NULL);
	if (!connect(fd, (const struct sockaddr *)address, sizeof(*address)) || errno == EAGAIN)
		return fail(ret_why, -EADDRINUSE, address->sun_path,
			    "another kmtlsd answers there");
	if (errno != ECONNREFUSED && errno != ENOENT)
		return fail(ret_why, -errno, address->sun_path, NULL);
	if (unlink(address->sun_path) && errno != ENOENT)
		return fail(ret_why, -errno, address->sun_path, NULL);
	return 0;
}

/* fchmod() before bind(): the file is born with that mode (less the umask), so there is no
 * moment in which it is wider, and the umask of a threaded process stays alone. */
static int bind_socket(const struct sockaddr_un *address, struct stat *ret_status, char *ret_why)
{
	__cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || fchmod(fd, 0600) ||
	    bind(fd, (const struct sockaddr *)address, sizeof(*address)))
		return fail(ret_why, -errno, address->sun_path, NULL);
	if (lstat(address->sun_path, ret_status) || listen(fd, BACKLOG)) {
		int err = -errno;

		unlink(address->sun_path);
		return fail(ret_why, err, address->sun_path, NULL);
	}
	return kmtls_take_fd(fd);
}

int kmtls_control_socket_open(const char *path, struct kmtls_control_socket *ret_socket,
			      char *ret_why)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	__cleanup_fd int directory = -1;
	struct stat status;
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return fail(ret_why, -ENAMETOOLONG, path, "longer than 107 bytes");
	strcpy(address.sun_path, path);
	directory = lock_directory(path, ret_why);
	if (directory < 0)
		return directory;
	fd = clear_path(&address, ret_why);
	if (!fd)
		fd = bind_socket(&address, &status, ret_why);
	if (fd < 0)
		return fd;
	*ret_socket = (struct kmtls_control_socket){
		.fd = fd,
		.address = address,
		.device = status.st_dev,
		.inode = status.st_ino,
	};
	return 0;
}

int kmtls_control_socket_adopt(const char *path, int fd, struct kmtls_control_socket *ret_socket)
{
	struct kmtls_control_socket found = { .fd = fd };
	socklen_t length = sizeof(found.address);
	struct stat status;

	if (getsockname(fd, (struct sockaddr *)&found.address, &length) ||
	    found.address.sun_family != AF_UNIX || strcmp(found.address.sun_path, path) != 0 ||
	    lstat(path, &status) || !S_ISSOCK(status.st_mode))
		return -ENOENT;
	found.device = status.st_dev;
	found.inode = status.st_ino;
	*ret_socket = found;
	return 0;
}

void kmtls_control_socket_discard(int fd)
{
	struct sockaddr_un address = {};
	socklen_t length = sizeof(address);
	__cleanup_fd int directory = -1;
	char ignored[WHY];
	bool named = getsockname(fd, (struct sockaddr *)&address, &length) == 0 &&
		     address.sun_family == AF_UNIX && address.sun_path[0] == '/';

	/* The keeper before this one may not have ended yet: whoever connects is refused from here. */
	shutdown(fd, SHUT_RDWR);
	close(fd);
	if (!named || access(address.sun_path, F_OK))
		return;
	directory = lock_directory(address.sun_path, ignored);
	if (directory >= 0)
		clear_path(&address, ignored); /* what is not a socket, or answers, is another's */
}

void kmtls_control_socket_close(struct kmtls_control_socket *control_socket)
{
	const char *path = control_socket->address.sun_path;
	struct stat status;

	if (!lstat(path, &status) && status.st_dev == control_socket->device &&
	    status.st_ino == control_socket->inode)
		unlink(path);
	close(control_socket->fd);
}
