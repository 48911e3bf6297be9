/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crosswise - many connections on which both ends send and check at the same time, until told to
 * stop. One process with epoll for each side.
 *
 *   crosswise serve [-d SECONDS] ADDRESS:PORT...
 *   crosswise dial [-c CONNECTIONS] [-r RATE] [-e SEED] [-w AT_ONCE] [-d SECONDS] ADDRESS:PORT...
 *
 * Each direction is FIRST bytes of a seed's payload at once, then RATE bytes a second more (0: the
 * connection is idle), and after the stop the SHA-256 of all that was sent, and a half-close. Every
 * byte is compared as it arrives; so an end is only right at the very place and with the digest of
 * the sender. On an eighth of the connections the receiver is slow instead of the sender, so that
 * everything in between is full.
 *
 * The end of stdin is the stop; serve gets it first. On connections with an odd number the server
 * ends first, on the others the client, and the other end answers. serve says "ready" when it
 * listens, dial says "connected" when each connection has succeeded, and been answered, or failed.
 * When all are closed, or SECONDS (60) after the stop, each prints one line of JSON:
 * cut are those that ended cleanly at the wrong place, hung those that have not ended, silence_ms is the
 * longest time without a byte.
 */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

#include "testwire.h"

#define OP_CROSSWISE 'X'
#define DESTINATIONS_MAX 16
#define CONNECTIONS_MAX 65536
#define FIRST 256
#define PART 16384
#define ROUNDS 8 /* parts in a row, so that no connection starves the others */
#define AHEAD (1 << 20) /* of what a slow receiver takes */
#define TICK_MS 20
#define SYN_RETRIES 6 /* the kernel's default, whatever the tests have made of it */

struct connection {
	struct request request;
	int fd;
	unsigned index; /* in connections[] */
	bool connecting, greeted, answered, ending, digested, sent_all, got_all;
	uint8_t greeting; /* bytes of the request sent or received */
	uint8_t digest_sent, tail_length;
	uint8_t digest[DIGEST], tail[DIGEST];
	uint64_t sent, received, begun_ms, heard_ms;
	EVP_MD_CTX *sent_hash, *received_hash;
};

static struct {
	bool server;
	unsigned count, at_once, destination_count;
	uint64_t rate, seed, patience_ms;
	union address destinations[DESTINATIONS_MAX];
} options = { .count = 1, .at_once = 50, .seed = 1, .patience_ms = 60000 };

static struct {
	unsigned ok, refused, resets, cut, wrong, other;
	uint64_t bytes, silence_ms, slowest_connect_ms;
	char error[200];
} results;

static struct connection *connections[CONNECTIONS_MAX];
static unsigned active, dialled, connecting, unanswered;
static int poller;
static bool stopped;
static uint64_t stopped_ms;
static uint8_t buffer[PART + DIGEST], expected[PAYLOAD_SCRATCH(PART)];

static uint64_t now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

static uint64_t seed_of(const struct connection *connection, bool server)
{
	return connection->request.seed * 2 + server;
}

static bool slow_reader(const struct connection *connection)
{
	unsigned number = connection->request.seed & 15;

	return number == 2 || number == 5;
}

static uint64_t allowed(const struct connection *connection, bool paced)
{
	uint64_t rate = connection->request.size;

	if (!rate)
		return FIRST;
	return FIRST + rate * (now_ms() - connection->begun_ms) / 1000 + (paced ? 0 : AHEAD);
}

/* The only way a connection goes. which: its counter in results. */
static void finish(struct connection *connection, unsigned *which, const char *what, int error)
{
	(*which)++;
	if (what && !results.error[0])
		snprintf(results.error, sizeof(results.error),
			 "connection %llu: %s%s%s after %llu sent, %llu received",
			 (unsigned long long)connection->request.seed, what, error ? ": " : "",
			 error ? strerror(error) : "", (unsigned long long)connection->sent,
			 (unsigned long long)connection->received);
	results.bytes += connection->received;
	if (connection->connecting)
		connecting--;
	if (!options.server && !connection->answered)
		unanswered--;
	close(connection->fd);
	EVP_MD_CTX_free(connection->sent_hash);
	EVP_MD_CTX_free(connection->received_hash);
	connections[connection->index] = connections[--active];
	connections[connection->index]->index = connection->index;
	free(connection);
}

static void fail(struct connection *connection, const char *what, int error)
{
	bool reset = error == ECONNRESET || error == EPIPE;

	finish(connection, reset ? &results.resets : &results.other, what, error);
}

/* This one and its like: false if the connection is gone. */
static bool send_digest(struct connection *connection)
{
	ssize_t done;

	if (!connection->digested)
		EVP_DigestFinal_ex(connection->sent_hash, connection->digest, NULL);
	connection->digested = true;
	done = send(connection->fd, connection->digest + connection->digest_sent,
		    DIGEST - connection->digest_sent, MSG_NOSIGNAL);
	if (done < 0 && errno != EAGAIN) {
		fail(connection, "sending the digest", errno);
		return false;
	}
	if (done > 0)
		connection->digest_sent += (uint8_t)done;
	if (connection->digest_sent == DIGEST) {
		connection->sent_all = true;
		shutdown(connection->fd, SHUT_WR);
	}
	return true;
}

static bool send_some(struct connection *connection)
{
	for (int round = 0; round < ROUNDS && !connection->sent_all; round++) {
		uint64_t limit = allowed(connection, !slow_reader(connection));
		uint64_t left = limit > connection->sent ? limit - connection->sent : 0;
		/* Of all sizes: records and pipes shall not always be full. */
		uint64_t size = 1 + mix(connection->sent + connection->request.seed) % PART;
		ssize_t done;

		if (connection->ending)
			return send_digest(connection);
		if (!left)
			return true;
		size = size < left ? size : left;
		const uint8_t *data = payload_part(seed_of(connection, options.server),
						   connection->sent, size, expected);

		done = send(connection->fd, data, size, MSG_NOSIGNAL);
		if (done < 0 && errno == EAGAIN)
			return true;
		if (done < 0) {
			fail(connection, "sending", errno);
			return false;
		}
		EVP_DigestUpdate(connection->sent_hash, data, (size_t)done);
		connection->sent += (uint64_t)done;
	}
	return true;
}

/* The end is right if the last bytes are the digest of all before them. */
static bool check_end(struct connection *connection)
{
	uint8_t digest[DIGEST];

	EVP_DigestFinal_ex(connection->received_hash, digest, NULL);
	if (connection->tail_length != DIGEST || memcmp(digest, connection->tail, DIGEST)) {
		finish(connection, &results.cut, "a clean end at the wrong place", 0);
		return false;
	}
	connection->got_all = true;
	connection->ending = true;
	return true;
}

static bool check_part(struct connection *connection, size_t size)
{
	const uint8_t *wanted = payload_part(seed_of(connection, !options.server),
					     connection->received, size, expected);

	if (memcmp(buffer, wanted, size)) {
		finish(connection, &results.wrong, "wrong bytes", 0);
		return false;
	}
	EVP_DigestUpdate(connection->received_hash, buffer, size);
	connection->received += size;
	return true;
}

static void hear(struct connection *connection)
{
	uint64_t now = now_ms(), silence = now - connection->heard_ms;

	if (connection->request.size && !slow_reader(connection) && silence > results.silence_ms)
		results.silence_ms = silence;
	connection->heard_ms = now;
	if (!connection->answered && !options.server)
		unanswered--;
	connection->answered = true;
}

static bool receive_some(struct connection *connection)
{
	bool paced = slow_reader(connection) && !stopped;

	for (int round = 0; round < ROUNDS && !connection->got_all; round++) {
		uint64_t limit =
			paced && connection->request.size ? allowed(connection, true) : UINT64_MAX;
		size_t total, room = PART;
		ssize_t got;

		if (limit <= connection->received)
			return true;
		if (limit - connection->received < room)
			room = (size_t)(limit - connection->received);
		memcpy(buffer, connection->tail, connection->tail_length);
		got = recv(connection->fd, buffer + connection->tail_length, room, 0);
		if (got < 0 && errno == EAGAIN)
			return true;
		if (got < 0) {
			fail(connection, "receiving", errno);
			return false;
		}
		if (!got)
			return check_end(connection);
		hear(connection);
		total = connection->tail_length + (size_t)got;
		connection->tail_length = (uint8_t)(total < DIGEST ? total : DIGEST);
		memcpy(connection->tail, buffer + total - connection->tail_length,
		       connection->tail_length);
		if (total > DIGEST && !check_part(connection, total - DIGEST))
			return false;
	}
	return true;
}

/* The client's first bytes say what the connection is. */
static bool greet(struct connection *connection)
{
	uint8_t *at = (uint8_t *)&connection->request + connection->greeting;
	size_t left = sizeof(connection->request) - connection->greeting;
	ssize_t done = options.server ? recv(connection->fd, at, left, 0)
				      : send(connection->fd, at, left, MSG_NOSIGNAL);

	if (done < 0 && errno == EAGAIN)
		return true;
	if (done < 0) {
		fail(connection, "the first bytes", errno);
		return false;
	}
	if (!done) {
		finish(connection, &results.cut, "a clean end before a word was said", 0);
		return false;
	}
	connection->greeting += (uint8_t)done;
	if (done < (ssize_t)left)
		return true;
	if (memcmp(connection->request.marker, MARKER, sizeof(MARKER) - 1)) {
		finish(connection, &results.wrong, "wrong first bytes", 0);
		return false;
	}
	connection->greeted = true;
	connection->begun_ms = connection->heard_ms = now_ms();
	return true;
}

static bool finish_connect(struct connection *connection)
{
	uint64_t took = now_ms() - connection->begun_ms;
	socklen_t length = sizeof(int);
	int error = 0;

	getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error) {
		finish(connection, &results.refused, "connect", error);
		return false;
	}
	if (took > results.slowest_connect_ms)
		results.slowest_connect_ms = took;
	connection->connecting = false;
	connecting--;
	return true;
}

static void progress(struct connection *connection)
{
	bool server_first = connection->request.seed & 1;

	if (connection->connecting)
		return;
	if (!connection->greeted && (!greet(connection) || !connection->greeted))
		return;
	if (stopped && server_first == options.server)
		connection->ending = true;
	if (!receive_some(connection) || !send_some(connection))
		return;
	if (connection->sent_all && connection->got_all)
		finish(connection, &results.ok, NULL, 0);
}

static struct connection *add(int fd, bool is_connecting)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				     .data.ptr = connection };

	if (!connection || active == CONNECTIONS_MAX)
		abort();
	connection->fd = fd;
	connection->connecting = is_connecting;
	connection->begun_ms = connection->heard_ms = now_ms();
	connection->sent_hash = EVP_MD_CTX_new();
	connection->received_hash = EVP_MD_CTX_new();
	EVP_DigestInit_ex(connection->sent_hash, EVP_sha256(), NULL);
	EVP_DigestInit_ex(connection->received_hash, EVP_sha256(), NULL);
	connection->index = active;
	connections[active++] = connection;
	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event))
		abort();
	return connection;
}

static void dial_next(void)
{
	uint64_t to_index = dialled % options.destination_count;
	const union address *to = &options.destinations[to_index];
	int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int retries = SYN_RETRIES;
	struct connection *connection;

	if (fd < 0)
		abort();
	setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &retries, sizeof(retries));
	connection = add(fd, true);
	request_fill(&connection->request, OP_CROSSWISE, options.rate,
		     (options.seed << 32) + (to_index << 24) + dialled / options.destination_count);
	dialled++;
	connecting++;
	unanswered++;
	if (connect(fd, &to->any, address_length(to)) && errno != EINPROGRESS)
		finish(connection, &results.refused, "connect", errno);
}

static void accept_all(int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		progress(add(fd, false));
}

static void listen_on(const union address *address, int *listener)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = listener };
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1;

	*listener = fd;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, &address->any, address_length(address)) || listen(fd, 4096) ||
	    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event))
		exit(2);
}

static void handle(struct epoll_event *event, int *listeners)
{
	struct connection *connection = event->data.ptr;
	char byte;

	if (!event->data.ptr) {
		if (read(STDIN_FILENO, &byte, 1) <= 0) {
			stopped = true;
			stopped_ms = now_ms();
			epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
		}
	} else if ((int *)event->data.ptr >= listeners &&
		   (int *)event->data.ptr < listeners + DESTINATIONS_MAX) {
		accept_all(*(int *)event->data.ptr);
	} else if (!connection->connecting || finish_connect(connection)) {
		progress(connection);
	}
}

static bool all_done(void)
{
	if (stopped && now_ms() - stopped_ms > options.patience_ms)
		return true;
	return !active && (options.server ? stopped : dialled == options.count);
}

static void run(int *listeners)
{
	struct epoll_event event;
	uint64_t ticked = now_ms();
	bool told = false;

	while (!all_done()) {
		while (!options.server && dialled < options.count && connecting < options.at_once)
			dial_next();
		if (!told && !options.server && dialled == options.count && !unanswered)
			told = puts("connected") >= 0 && fflush(stdout) == 0;
		/* One at a time: an earlier event may end a later one's connection. */
		if (epoll_wait(poller, &event, 1, TICK_MS) > 0)
			handle(&event, listeners);
		if (now_ms() - ticked >= TICK_MS) {
			for (unsigned i = active; i-- > 0;)
				if (stopped || connections[i]->request.size)
					progress(connections[i]);
			ticked = now_ms();
		}
	}
}

static void parse(int argc, char **argv)
{
	int option;

	options.server = argc > 1 && !strcmp(argv[1], "serve");
	if (argc < 3 || (!options.server && strcmp(argv[1], "dial")))
		exit(2);
	for (optind = 2; (option = getopt(argc, argv, "c:r:e:w:d:")) > 0;) {
		uint64_t value = optarg ? strtoull(optarg, NULL, 0) : 0;

		if (option == 'c')
			options.count = (unsigned)value;
		else if (option == 'r')
			options.rate = value;
		else if (option == 'e')
			options.seed = value;
		else if (option == 'w')
			options.at_once = (unsigned)value;
		else if (option == 'd')
			options.patience_ms = value * 1000;
		else
			exit(2);
	}
	for (; optind < argc && options.destination_count < DESTINATIONS_MAX; optind++)
		if (address_parse(argv[optind],
				  &options.destinations[options.destination_count++])) {
			fprintf(stderr, "crosswise: '%s' is no ADDRESS:PORT\n", argv[optind]);
			exit(2);
		}
}

int main(int argc, char **argv)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct rlimit files = { 65536, 65536 };
	int listeners[DESTINATIONS_MAX];

	parse(argc, argv);
	setrlimit(RLIMIT_NOFILE, &files);
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event))
		return 2; /* stdin must be a pipe */
	if (options.server) {
		for (unsigned i = 0; i < options.destination_count; i++)
			listen_on(&options.destinations[i], &listeners[i]);
		puts("ready");
		fflush(stdout);
	}
	run(listeners);
	printf("{\"ok\": %u, \"refused\": %u, \"resets\": %u, \"cut\": %u, \"wrong\": %u, "
	       "\"other\": %u, "
	       "\"hung\": %u, \"bytes\": %llu, \"silence_ms\": %llu, \"slowest_connect_ms\": %llu, "
	       "\"error\": \"%s\"}\n",
	       results.ok, results.refused, results.resets, results.cut, results.wrong,
	       results.other, active, (unsigned long long)results.bytes,
	       (unsigned long long)results.silence_ms,
	       (unsigned long long)results.slowest_connect_ms, results.error);
	return 0;
}
