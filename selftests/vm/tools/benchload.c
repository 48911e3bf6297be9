/* SPDX-License-Identifier: Apache-2.0 */
/*
 * benchload - the load of vmtest/bench, and what measures it. Every message begins with a header of 64
 * bytes that says how long it is and what the server does with it.
 *
 *   benchload serve A:P                      answers, one thread, until stdin ends
 *   benchload rtt A:P SIZE COUNT RUNS        messages of SIZE bytes there and back on one connection
 *   benchload stream A:P LINKS BYTES RUNS    BYTES there, then BYTES back, in 64 KB, over LINKS connections
 *   benchload connect A:P COUNT RUNS         new connections, a message of 64 bytes there and back on each
 *   benchload idle A:P COUNT                 opens COUNT connections, says "ready", holds them until stdin ends
 *   benchload echo A:P BYTES                 BYTES there and back; the SHA-256 of what went and what came
 *
 * Prints JSON: for each run nanoseconds that passed, those of them that no CPU had anything to do, those
 * that CPUs were busy (the last two of the whole machine), and how often it was done. Then, of rtt and
 * connect, the percentiles of all single times.
 */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "benchclock.h"
#include "testwire.h"

#define HEADER 64
#define EVENTS 64
#define WARM_UP 20

struct message {
	struct request
		request; /* size: of the message with this header; what SINK and GENERATE move */
	uint8_t pad[HEADER - sizeof(struct request)];
};

_Static_assert(sizeof(struct message) == HEADER, "a message's header");

/* One connection of either side. */
struct link {
	int fd;
	uint8_t *message; /* the one that is coming in */
	size_t have, want;
	uint64_t to_send, to_read; /* of a stream */
};

static uint8_t scratch[CHUNK];

static int epoll_new(void)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0)
		fail("epoll");
	return epoll;
}

static void watch(int epoll, int operation, int fd, uint32_t events, void *data)
{
	struct epoll_event event = { .events = events, .data.ptr = data };

	if (epoll_ctl(epoll, operation, fd, &event))
		fail("epoll_ctl");
}

static void no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* Also where the descriptor does not block. */
static int send_all(int fd, const void *data, size_t size)
{
	const uint8_t *at = data;

	while (size) {
		ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
		struct pollfd wait = { .fd = fd, .events = POLLOUT };

		if (sent < 0 && errno == EAGAIN) {
			poll(&wait, 1, -1);
			continue;
		}
		if (sent < 0)
			return -errno;
		at += sent;
		size -= (size_t)sent;
	}
	return 0;
}

/* --- the server ------------------------------------------------------------------------------- */

static void drop(struct link *link)
{
	close(link->fd);
	free(link->message);
	free(link);
}

static int answer(struct link *link)
{
	int err = send_all(link->fd, link->message, link->want);

	link->have = 0;
	link->want = HEADER;
	return err;
}

/* A header is complete. */
static int begin(int epoll, struct link *link)
{
	const struct message *message = (const struct message *)link->message;
	uint64_t size = message->request.size;
	uint8_t *larger;

	switch (message->request.operation) {
	case OP_SINK:
		link->to_read = size;
		return 0;
	case OP_GENERATE:
		link->to_send = size;
		link->have = 0;
		watch(epoll, EPOLL_CTL_MOD, link->fd, EPOLLIN | EPOLLOUT, link);
		return 0;
	case OP_ECHO:
		if (size < HEADER || size > CHUNK)
			return -EPROTO;
		larger = realloc(link->message, size);
		if (!larger)
			return -ENOMEM;
		link->message = larger;
		link->want = size;
		return size == HEADER ? answer(link) : 0;
	}
	return -EPROTO;
}

static int take(int epoll, struct link *link, const uint8_t *data, size_t size)
{
	int err = 0;

	while (size && !err) {
		size_t part = link->to_read ?: link->want - link->have;

		if (part > size)
			part = size;
		if (link->to_read) {
			link->to_read -= part;
			if (!link->to_read)
				err = answer(link);
		} else {
			memcpy(link->message + link->have, data, part);
			link->have += part;
			if (link->have == HEADER && link->want == HEADER)
				err = begin(epoll, link);
			else if (link->have == link->want)
				err = answer(link);
		}
		data += part;
		size -= part;
	}
	return err;
}

static void serve_event(int epoll, const struct epoll_event *event)
{
	struct link *link = event->data.ptr;
	ssize_t done;

	if (event->events & EPOLLOUT) {
		done = send(link->fd, scratch, link->to_send < CHUNK ? link->to_send : CHUNK,
			    MSG_NOSIGNAL);
		if (done < 0 && errno != EAGAIN)
			return drop(link);
		link->to_send -= done > 0 ? (uint64_t)done : 0;
		if (!link->to_send)
			watch(epoll, EPOLL_CTL_MOD, link->fd, EPOLLIN, link);
	}
	if (event->events & ~(uint32_t)EPOLLOUT) {
		static uint8_t input[CHUNK];

		done = recv(link->fd, input, sizeof(input), 0);
		if (done < 0 && errno == EAGAIN)
			return;
		if (done <= 0 || take(epoll, link, input, (size_t)done))
			drop(link);
	}
}

static void admit(int epoll, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct link *link;

	if (fd < 0)
		return;
	no_delay(fd);
	link = calloc(1, sizeof(*link));
	if (!link || !(link->message = malloc(HEADER)))
		fail("memory");
	link->fd = fd;
	link->want = HEADER;
	watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, link);
}

static int serve(const union address *at)
{
	int listener = socket(at->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int epoll = epoll_new(), one = 1, count;
	struct epoll_event events[EVENTS];

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, &at->any, address_length(at)) || listen(listener, 4096))
		fail("listen");
	watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
	watch(epoll, EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, scratch);
	for (;;) {
		count = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr == scratch)
				return 0;
			if (events[i].data.ptr)
				serve_event(epoll, &events[i]);
			else
				admit(epoll, listener);
		}
	}
}

/* --- clients ---------------------------------------------------------------------------------- */

static int dial(const union address *to)
{
	int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, &to->any, address_length(to)))
		fail("connect");
	no_delay(fd);
	return fd;
}

/* message: size bytes that begin with a header. */
static void there_and_back(int fd, const uint8_t *message, size_t size, uint8_t *ret_answer)
{
	int err = send_all(fd, message, size) ?: read_all(fd, ret_answer, size);

	if (err) {
		errno = -err;
		fail("a message there and back");
	}
}

static void make_header(uint8_t *message, enum operation operation, uint64_t size)
{
	memset(message, 0, HEADER);
	request_fill((struct request *)message, operation, size, 0);
}

static void *array(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		fail("memory");
	return memory;
}

static int rtt(const union address *to, size_t size, unsigned count, unsigned runs)
{
	struct reading *readings = array(runs, sizeof(*readings));
	uint64_t *times = array((size_t)runs * count, sizeof(*times)), *time = times, before;
	static uint8_t message[CHUNK], reply[CHUNK];
	int fd = dial(to);

	payload_chunk(1, 0, message);
	make_header(message, OP_ECHO, size);
	for (unsigned i = 0; i < WARM_UP; i++)
		there_and_back(fd, message, size, reply);
	for (unsigned run = 0; run < runs; run++) {
		start(&readings[run]);
		for (unsigned i = 0; i < count; i++) {
			before = now_ns();
			there_and_back(fd, message, size, reply);
			*time++ = now_ns() - before;
		}
		stop(&readings[run]);
	}
	print(readings, runs, count, times);
	return 0;
}

static uint64_t connect_once(const union address *to)
{
	uint64_t before = now_ns(), after;
	uint8_t message[HEADER], reply[HEADER];
	int fd = dial(to);

	make_header(message, OP_ECHO, HEADER);
	there_and_back(fd, message, HEADER, reply);
	after = now_ns();
	close(fd);
	return after - before;
}

/* What is still to be done for the last connection after its end counts, too. */
static int connects(const union address *to, unsigned count, unsigned runs)
{
	const struct timespec settle = { .tv_nsec = 50000000 };
	struct reading *readings = array(runs, sizeof(*readings));
	uint64_t *times = array((size_t)runs * count, sizeof(*times)), *time = times;

	for (unsigned i = 0; i < 5; i++)
		connect_once(to);
	nanosleep(&settle, NULL);
	for (unsigned run = 0; run < runs; run++) {
		start(&readings[run]);
		for (unsigned i = 0; i < count; i++)
			*time++ = connect_once(to);
		nanosleep(&settle, NULL);
		stop(&readings[run]);
	}
	print(readings, runs, count, times);
	return 0;
}

/* One event of a stream; true if its connection has done its part. */
static bool move(int epoll, struct link *link)
{
	static uint8_t input[CHUNK];
	ssize_t done;

	if (link->to_send) {
		done = send(link->fd, scratch, link->to_send < CHUNK ? link->to_send : CHUNK,
			    MSG_NOSIGNAL);
		if (done < 0 && errno != EAGAIN)
			fail("send");
		link->to_send -= done > 0 ? (uint64_t)done : 0;
		if (!link->to_send)
			watch(epoll, EPOLL_CTL_MOD, link->fd, EPOLLIN, link);
		return false;
	}
	done = recv(link->fd, input, link->to_read < CHUNK ? link->to_read : CHUNK, 0);
	if (!done)
		errno = ENODATA;
	if (!done || (done < 0 && errno != EAGAIN))
		fail("recv");
	link->to_read -= done > 0 ? (uint64_t)done : 0;
	return !link->to_read;
}

static void stream_once(int epoll, struct link *links, unsigned count, enum operation operation,
			uint64_t bytes)
{
	struct epoll_event events[EVENTS];
	uint8_t header[HEADER];
	unsigned left = count;

	make_header(header, operation, bytes);
	for (unsigned i = 0; i < count; i++) {
		links[i].to_send = operation == OP_SINK ? bytes : 0;
		links[i].to_read = operation == OP_SINK ? HEADER : bytes;
		if (send_all(links[i].fd, header, HEADER))
			fail("send");
		watch(epoll, EPOLL_CTL_MOD, links[i].fd, operation == OP_SINK ? EPOLLOUT : EPOLLIN,
		      &links[i]);
	}
	while (left) {
		int ready = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < ready; i++) {
			struct link *link = events[i].data.ptr;

			if (move(epoll, link)) {
				watch(epoll, EPOLL_CTL_MOD, link->fd, 0, link);
				left--;
			}
		}
	}
}

static int stream(const union address *to, unsigned count, uint64_t bytes, unsigned runs)
{
	struct reading *readings = array(runs, sizeof(*readings));
	struct link *links = array(count, sizeof(*links));
	uint64_t each = bytes / count;
	int epoll = epoll_new();

	payload_chunk(1, 0, scratch);
	for (unsigned i = 0; i < count; i++) {
		links[i].fd = dial(to);
		fcntl(links[i].fd, F_SETFL, O_NONBLOCK);
		watch(epoll, EPOLL_CTL_ADD, links[i].fd, 0, &links[i]);
	}
	/* Windows and buffers have grown after that. */
	stream_once(epoll, links, count, OP_SINK, each);
	stream_once(epoll, links, count, OP_GENERATE, each);
	for (unsigned run = 0; run < runs; run++) {
		start(&readings[run]);
		stream_once(epoll, links, count, OP_SINK, each);
		stream_once(epoll, links, count, OP_GENERATE, each);
		stop(&readings[run]);
	}
	print(readings, runs, 2 * each * count, NULL);
	return 0;
}

static int idle(const union address *to, unsigned count)
{
	uint8_t message[HEADER], reply[HEADER], byte;

	make_header(message, OP_ECHO, HEADER);
	for (unsigned i = 0; i < count; i++)
		there_and_back(dial(to), message, HEADER, reply);
	printf("ready\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}

static int echo(const union address *to, uint64_t bytes)
{
	EVP_MD_CTX *hashes[2] = { EVP_MD_CTX_new(), EVP_MD_CTX_new() };
	static uint8_t message[CHUNK], reply[CHUNK];
	uint8_t digest[DIGEST];
	int fd = dial(to);

	for (int i = 0; i < 2; i++)
		EVP_DigestInit_ex(hashes[i], EVP_sha256(), NULL);
	for (uint64_t sent = 0; sent < bytes; sent += CHUNK) {
		payload_chunk(7, sent, message);
		make_header(message, OP_ECHO, CHUNK);
		EVP_DigestUpdate(hashes[0], message, CHUNK);
		there_and_back(fd, message, CHUNK, reply);
		EVP_DigestUpdate(hashes[1], reply, CHUNK);
	}
	printf("{\"bytes\": %llu", (unsigned long long)((bytes + CHUNK - 1) / CHUNK * CHUNK));
	for (int i = 0; i < 2; i++) {
		EVP_DigestFinal_ex(hashes[i], digest, NULL);
		EVP_MD_CTX_free(hashes[i]);
		printf(", \"%s\": \"", i ? "received" : "sent");
		for (int byte = 0; byte < DIGEST; byte++)
			printf("%02x", digest[byte]);
		printf("\"");
	}
	printf("}\n");
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	struct rlimit limit;
	union address at;
	uint64_t n[3] = { 0 };

	if (argc < 3 || argc > 6 || address_parse(argv[2], &at))
		goto usage;
	for (int i = 3; i < argc; i++)
		n[i - 3] = strtoull(argv[i], NULL, 10);
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (!strcmp(what, "serve") && argc == 3)
		return serve(&at);
	if (!strcmp(what, "rtt") && argc == 6 && n[0] >= HEADER && n[0] <= CHUNK && n[1] && n[2])
		return rtt(&at, n[0], (unsigned)n[1], (unsigned)n[2]);
	if (!strcmp(what, "stream") && argc == 6 && n[0] && n[1] >= n[0] && n[2])
		return stream(&at, (unsigned)n[0], n[1], (unsigned)n[2]);
	if (!strcmp(what, "connect") && argc == 5 && n[0] && n[1])
		return connects(&at, (unsigned)n[0], (unsigned)n[1]);
	if (!strcmp(what, "idle") && argc == 4)
		return idle(&at, (unsigned)n[0]);
	if (!strcmp(what, "echo") && argc == 4)
		return echo(&at, n[0]);
usage:
	fprintf(stderr,
		"usage: benchload serve|rtt|stream|connect|idle|echo ADDRESS:PORT NUMBER...\n");
	return 2;
}
