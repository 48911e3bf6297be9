/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connectcost - how long connects take, the median of many: in a guest under vmtest/vm --icount
 * that is the number of instructions, of everything that runs.
 *
 *   connectcost connect A:P N    connect() alone, however it ends
 *   connectcost full A:P N       connect() to the first byte of tools/serve's answer
 *   connectcost loopback A:P N   one byte there and back over a connection to this very process
 *   connectcost udp A:P N        one datagram to "connectcost echo" and back
 *   connectcost echo A:P N       sends back N datagrams (0: all) that come to A:P
 */
#include <netinet/tcp.h>
#include <time.h>

#include "testwire.h"

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

static int new_socket(const union address *to)
{
	struct linger reset_on_close = { .l_onoff = 1, .l_linger = 0 };
	int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset_on_close, sizeof(reset_on_close));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* One connect; its errno in *ret_error. */
static uint64_t measure(const union address *to, int full, int *ret_error)
{
	int fd = new_socket(to);
	struct request request;
	uint64_t start, end;
	char byte = 0;

	request_fill(&request, OP_REPORT, 0, 0);
	*ret_error = 0;
	start = now_ns();
	if (connect(fd, &to->any, address_length(to)))
		*ret_error = errno;
	else if (full && (write_all(fd, &request, sizeof(request)) || read_all(fd, &byte, 1)))
		*ret_error = EIO;
	end = now_ns();
	close(fd);
	return end - start;
}

static int loopback_pair(const union address *at, int *ret_accepted)
{
	int listener = new_socket(at), fd = new_socket(at), one = 1;

	if (bind(listener, &at->any, address_length(at)) || listen(listener, 1) ||
	    connect(fd, &at->any, address_length(at)))
		return -1;
	*ret_accepted = accept(listener, NULL, NULL);
	setsockopt(*ret_accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	close(listener);
	return fd;
}

static uint64_t there_and_back(int one, int other)
{
	uint64_t start = now_ns();
	char byte = 'x';

	if (send(one, &byte, 1, 0) != 1 || recv(other, &byte, 1, 0) != 1 ||
	    send(other, &byte, 1, 0) != 1 || recv(one, &byte, 1, 0) != 1)
		return 0;
	return now_ns() - start;
}

static int udp_socket(const union address *at, int serve)
{
	int fd = socket(at->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || (serve ? bind(fd, &at->any, address_length(at))
			     : connect(fd, &at->any, address_length(at))))
		return -1;
	return fd;
}

static int echo(int fd, unsigned count)
{
	char bytes[2048];

	for (unsigned i = 0; !count || i < count; i++) {
		union address from;
		socklen_t length = sizeof(from);
		ssize_t got = recvfrom(fd, bytes, sizeof(bytes), 0, &from.any, &length);

		if (got < 0 || sendto(fd, bytes, (size_t)got, 0, &from.any, length) != got)
			return 1;
	}
	return 0;
}

/* 64 bytes. */
static uint64_t ask(int fd)
{
	uint64_t start = now_ns();
	char bytes[64] = "";

	if (send(fd, bytes, sizeof(bytes), 0) != sizeof(bytes) ||
	    recv(fd, bytes, sizeof(bytes), 0) != sizeof(bytes))
		return 0;
	return now_ns() - start;
}

int main(int argc, char **argv)
{
	int error = 0, accepted = -1, fd = -1;
	union address to;
	uint64_t *times;
	unsigned count;

	if (argc != 4 || address_parse(argv[2], &to)) {
		fprintf(stderr,
			"usage: connectcost connect|full|loopback|udp|echo ADDRESS:PORT NUMBER\n");
		return 2;
	}
	count = (unsigned)atoi(argv[3]);
	if (!strcmp(argv[1], "echo")) {
		fd = udp_socket(&to, 1);
		return fd < 0 || echo(fd, count);
	}
	if (!strcmp(argv[1], "loopback") || !strcmp(argv[1], "udp")) {
		fd = *argv[1] == 'u' ? udp_socket(&to, 0) : loopback_pair(&to, &accepted);
		if (fd < 0) {
			perror("connectcost");
			return 1;
		}
	}
	times = calloc(count + 1, sizeof(*times));
	if (!times)
		return 1;
	for (unsigned i = 0; i < count; i++)
		times[i] = *argv[1] == 'u' ? ask(fd)
			   : fd >= 0	   ? there_and_back(fd, accepted)
					   : measure(&to, !strcmp(argv[1], "full"), &error);
	qsort(times, count, sizeof(*times), compare);
	printf("%-9s %-22s median %10llu  lowest %10llu  (%s)\n", argv[1], argv[2],
	       (unsigned long long)times[count / 2], (unsigned long long)times[0],
	       error ? strerrorname_np(error) : "OK");
	free(times);
	return 0;
}
