/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nonblocking - a client as event loops write it: non-blocking connect, edge-triggered epoll,
 * SO_ERROR, then an echo of SIZE bytes, sent and received as the edges come.
 * nonblocking DESTINATION SIZE prints one line of JSON: the steps' errno and what was moved.
 */
#include <sys/epoll.h>

#include "testwire.h"

#define TIMEOUT_MS 60000

struct state {
	int fd, connect_error, error;
	unsigned wakeups;
	uint64_t size, sent, received;
	struct request request;
	uint8_t out[CHUNK], in[CHUNK];
	uint64_t wrong;
};

static struct state state;

/* The request, then the payload, until the socket takes no more. */
static int send_some(void)
{
	uint64_t total = sizeof(state.request) + state.size, at;
	const uint8_t *data;
	uint64_t part;

	while (state.sent < total) {
		if (state.sent < sizeof(state.request)) {
			data = (uint8_t *)&state.request + state.sent;
			part = sizeof(state.request) - state.sent;
		} else {
			at = state.sent - sizeof(state.request);
			payload_chunk(state.request.seed, at - at % CHUNK, state.out);
			data = state.out + at % CHUNK;
			part = CHUNK - at % CHUNK;
			if (part > state.size - at)
				part = state.size - at;
		}
		ssize_t done = send(state.fd, data, part, MSG_NOSIGNAL);

		if (done < 0)
			return errno == EAGAIN ? 0 : -errno;
		state.sent += (uint64_t)done;
	}
	return 0;
}

static int receive_some(void)
{
	static uint8_t expected[CHUNK];
	uint64_t from = UINT64_MAX;

	while (state.received < state.size) {
		ssize_t done = recv(state.fd, state.in, sizeof(state.in), 0);

		if (done < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (!done)
			return -ENODATA;
		for (ssize_t i = 0; i < done; i++, state.received++) {
			if (state.received - state.received % CHUNK != from) {
				from = state.received - state.received % CHUNK;
				payload_chunk(state.request.seed, from, expected);
			}
			state.wrong += state.in[i] != expected[state.received % CHUNK];
		}
	}
	return 0;
}

static int run(const union address *destination)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };
	int epoll = epoll_create1(EPOLL_CLOEXEC), connected = 0, err = 0;
	socklen_t length = sizeof(err);

	state.fd =
		socket(destination->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (epoll < 0 || state.fd < 0)
		return -errno;
	if (connect(state.fd, &destination->any, address_length(destination)))
		state.connect_error = errno;
	if (state.connect_error && state.connect_error != EINPROGRESS)
		return -state.connect_error;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, state.fd, &event))
		return -errno;
	while (state.received < state.size) {
		if (epoll_wait(epoll, &event, 1, TIMEOUT_MS) != 1)
			return -ETIMEDOUT;
		state.wakeups++;
		if (!connected) {
			if (getsockopt(state.fd, SOL_SOCKET, SO_ERROR, &err, &length) || err)
				return -err;
			connected = 1;
		}
		err = receive_some();
		if (!err && event.events & EPOLLOUT)
			err = send_some();
		if (err)
			return err;
	}
	return state.wrong ? -EBADMSG : 0;
}

int main(int argc, char **argv)
{
	union address destination;

	if (argc != 3 || address_parse(argv[1], &destination)) {
		fprintf(stderr, "usage: nonblocking ADDRESS:PORT SIZE\n");
		return 2;
	}
	state.size = strtoull(argv[2], NULL, 0);
	request_fill(&state.request, OP_ECHO, state.size, 4711);
	state.error = -run(&destination);
	printf("{\"connect\": %d, \"errno\": %d, \"error\": \"%s\", \"received\": %llu, "
	       "\"wakeups\": %u}\n",
	       state.connect_error, state.error, state.error ? strerror(state.error) : "",
	       (unsigned long long)state.received, state.wakeups);
	return state.error ? 1 : 0;
}
