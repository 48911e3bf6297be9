/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve - the server of the tests: serve ADDRESS:PORT... listens on all of them, prints "ready" and
 * answers the requests of testwire.h, one thread for each connection. Ends when stdin ends.
 */
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>

#include "testwire.h"

#define LISTENERS_MAX 16

struct connection {
	int fd;
	union address accepted;
};

static int report(const struct connection *connection, bool hold)
{
	char accepted[ADDRESS_TEXT], peer[ADDRESS_TEXT], self[ADDRESS_TEXT];
	union address address;
	socklen_t length = sizeof(address);
	char line[4 * ADDRESS_TEXT], byte;
	int size;

	if (getpeername(connection->fd, &address.any, &length))
		return -errno;
	address_format(&address, peer);
	length = sizeof(address);
	if (getsockname(connection->fd, &address.any, &length))
		return -errno;
	address_format(&address, self);
	address_format(&connection->accepted, accepted);
	size = snprintf(line, sizeof(line), "%s %s %s %s\n", MARKER, accepted, peer, self);
	if (write_all(connection->fd, line, (size_t)size))
		return -errno;
	if (hold)
		while (recv(connection->fd, &byte, 1, 0) > 0)
			;
	return 0;
}

static int echo(int fd, uint64_t size, uint8_t *buffer)
{
	while (size) {
		ssize_t got = recv(fd, buffer, size < CHUNK ? size : CHUNK, 0);

		if (got <= 0 || write_all(fd, buffer, (size_t)got))
			return -EIO;
		size -= (uint64_t)got;
	}
	return 0;
}

static int sink(int fd, uint64_t size, uint8_t *buffer)
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	uint8_t digest[DIGEST];
	int err = -ENOMEM;

	if (!hash || !EVP_DigestInit_ex(hash, EVP_sha256(), NULL))
		goto out;
	while (size) {
		size_t part = size < CHUNK ? size : CHUNK;

		err = read_all(fd, buffer, part);
		if (err)
			goto out;
		EVP_DigestUpdate(hash, buffer, part);
		size -= part;
	}
	EVP_DigestFinal_ex(hash, digest, NULL);
	err = write_all(fd, digest, sizeof(digest));
out:
	EVP_MD_CTX_free(hash);
	return err;
}

static int generate(int fd, uint64_t size, uint64_t seed, uint8_t *buffer)
{
	int err = 0;

	for (uint64_t offset = 0; offset < size && !err; offset += CHUNK) {
		payload_chunk(seed, offset, buffer);
		err = write_all(fd, buffer, size - offset < CHUNK ? size - offset : CHUNK);
	}
	return err;
}

static void *serve(void *argument)
{
	struct connection *connection = argument;
	struct request request;
	uint8_t *buffer = NULL;

	if (read_all(connection->fd, &request, sizeof(request)) ||
	    memcmp(request.marker, MARKER, sizeof(MARKER) - 1))
		goto out;
	buffer = malloc(CHUNK);
	if (!buffer)
		goto out;
	switch (request.operation) {
	case OP_REPORT:
	case OP_HOLD:
		report(connection, request.operation == OP_HOLD);
		break;
	case OP_ECHO:
		echo(connection->fd, request.size, buffer);
		break;
	case OP_SINK:
		sink(connection->fd, request.size, buffer);
		break;
	case OP_GENERATE:
		generate(connection->fd, request.size, request.seed, buffer);
		break;
	}
out:
	free(buffer);
	close(connection->fd);
	free(connection);
	return NULL;
}

static int listen_on(const char *text)
{
	union address address;
	int fd, one = 1, zero = 0;

	if (address_parse(text, &address)) {
		errno = EINVAL;
		return -1;
	}
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (address.any.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, &address.any, address_length(&address)) || listen(fd, 4096))
		return -1;
	return fd;
}

static void accept_one(int listener, const pthread_attr_t *attributes)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	socklen_t length = sizeof(connection->accepted);
	pthread_t thread;

	if (!connection)
		return;
	connection->fd = accept4(listener, &connection->accepted.any, &length, SOCK_CLOEXEC);
	if (connection->fd < 0 || pthread_create(&thread, attributes, serve, connection)) {
		if (connection->fd >= 0)
			close(connection->fd);
		free(connection);
	}
}

int main(int argc, char **argv)
{
	struct pollfd polls[LISTENERS_MAX + 1] = { { .fd = STDIN_FILENO, .events = POLLIN } };
	pthread_attr_t attributes;
	char byte;

	if (argc < 2 || argc > LISTENERS_MAX + 1) {
		fprintf(stderr, "usage: serve ADDRESS:PORT...\n");
		return 2;
	}
	for (int i = 1; i < argc; i++) {
		polls[i] = (struct pollfd){ .fd = listen_on(argv[i]), .events = POLLIN };
		if (polls[i].fd < 0) {
			fprintf(stderr, "serve: %s: %s\n", argv[i], strerror(errno));
			return 1;
		}
	}
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, 128 * 1024);
	printf("ready\n");
	fflush(stdout);
	while (poll(polls, (nfds_t)argc, -1) >= 0 || errno == EINTR) {
		if (polls[0].revents && read(STDIN_FILENO, &byte, 1) <= 0)
			return 0;
		for (int i = 1; i < argc; i++)
			if (polls[i].revents)
				accept_one(polls[i].fd, &attributes);
	}
	return 1;
}
