/* SPDX-License-Identifier: Apache-2.0 */
/* metrics_socket.c - see metrics_socket.h. */
#include "metrics_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "cleanup.h"

#define WHY 256
#define BACKLOG 64

int kmtls_metrics_socket_parse(const char *text, struct kmtls_endpoint *ret_endpoint)
{
	const char *colon = strrchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0;
	struct kmtls_endpoint endpoint = {};
	char address[KMTLS_ENDPOINT_TEXT];
	bool brackets = text[0] == '[';
	unsigned long port;

	if (!length || length >= sizeof(address) || (brackets && colon[-1] != ']'))
		return -EINVAL;
	length -= 2 * brackets;
	memcpy(address, text + brackets, length);
	address[length] = '\0';
	/* Without brackets it could not be told where an IPv6 address ends. */
	if (brackets != (strchr(address, ':') != NULL) ||
	    kmtls_address_parse(address, &endpoint.address) < 0)
		return -EINVAL;
	length = strspn(colon + 1, "0123456789");
	if (!length || length > 5 || colon[1] == '0' || colon[1 + length])
		return -EINVAL;
	port = strtoul(colon + 1, NULL, 10);
	if (port > 65535)
		return -EINVAL;
	endpoint.port = (__u16)port;
	*ret_endpoint = endpoint;
	return 0;
}

static bool is_listening(int fd)
{
	socklen_t length = sizeof(int);
	int accepts = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &length) == 0 && accepts;
}

static int adopt_endpoint(const char *text, int fd, struct kmtls_metrics_socket *ret_socket)
{
	struct kmtls_endpoint wanted, found;
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	if (kmtls_metrics_socket_parse(text, &wanted) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &length) < 0 ||
	    kmtls_endpoint_from_sockaddr(&address, &found) < 0 ||
	    !kmtls_endpoint_equal(&wanted, &found))
		return -ENOENT;
	*ret_socket = (struct kmtls_metrics_socket){ .fd = fd };
	return 0;
}

int kmtls_metrics_socket_adopt(const char *text, int fd, struct kmtls_metrics_socket *ret_socket)
{
	struct kmtls_metrics_socket found = { .fd = fd, .is_file = true };

	if (!is_listening(fd))
		return -ENOENT;
	if (text[0] != '/')
		return adopt_endpoint(text, fd, ret_socket);
	if (kmtls_control_socket_adopt(text, fd, &found.file) < 0)
		return -ENOENT;
	*ret_socket = found;
	return 0;
}

/* [::] is all addresses of both families, whatever the sysctl says. */
static int open_endpoint(const char *text, struct kmtls_metrics_socket *ret_socket)
{
	static const int on = 1, off = 0;
	struct kmtls_endpoint endpoint;
	struct sockaddr_storage address;
	__cleanup_fd int fd = -1;
	socklen_t length;

	if (kmtls_metrics_socket_parse(text, &endpoint) < 0)
		return -EINVAL;
	length = kmtls_endpoint_to_sockaddr(&endpoint, &address);
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (const struct sockaddr *)&address, length) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	*ret_socket = (struct kmtls_metrics_socket){ .fd = kmtls_take_fd(fd) };
	return 0;
}

int kmtls_metrics_socket_open(const char *text, struct kmtls_metrics_socket *ret_socket,
			      char *ret_why)
{
	struct kmtls_metrics_socket opened = { .is_file = true };
	int err;

	if (text[0] != '/') {
		err = open_endpoint(text, ret_socket);
		if (err)
			snprintf(ret_why, WHY, "%.120s: %s", text, strerror(-err));
		return err;
	}
	err = kmtls_control_socket_open(text, &opened.file, ret_why);
	if (err)
		return err;
	opened.fd = opened.file.fd;
	*ret_socket = opened;
	return 0;
}

void kmtls_metrics_socket_close(struct kmtls_metrics_socket *metrics_socket)
{
	if (metrics_socket->fd < 0)
		return;
	if (metrics_socket->is_file)
		kmtls_control_socket_close(&metrics_socket->file);
	else
		close(metrics_socket->fd);
	metrics_socket->fd = -1;
}
