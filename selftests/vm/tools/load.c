/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load - the client of the tests, many threads against `serve`. Prints one line of JSON.
 *
 *   load storm [options] DESTINATION...   each connect must reach the destination it named, and
 *       both ends must name the same addresses: getsockname and getpeername here, accept,
 *       getpeername and getsockname there
 *     -t N  threads (1)      -r N  connects of each thread, one after the other (1)
 *     -H    hold every connection until all threads have theirs (then -r is 1)
 *     -b ADDRESS:PORT  bind first     -d DEVICE  SO_BINDTODEVICE first
 *     -s ADDRESS  this host's address that must be seen (IPv4 and IPv6 may be given)
 *   load transfer [options] DESTINATION...  byte-exact transfers, by SHA-256
 *     -t N  threads (1)      -r N  transfers in all     -e SEED     -m SIZE  largest (1 MiB)
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/time.h>
#include <time.h>

#include "testwire.h"

#define DESTINATIONS_MAX 16
#define TIMEOUT_SECONDS 90

static struct {
	bool hold;
	unsigned threads, rounds;
	uint64_t seed, largest;
	const char *device;
	bool bind;
	union address source;
	char self4[ADDRESS_TEXT], self6[ADDRESS_TEXT];
	union address destinations[DESTINATIONS_MAX];
	unsigned destination_count;
} options = { .threads = 1, .rounds = 1, .largest = 1 << 20, .seed = 1 };

static struct {
	pthread_mutex_t lock;
	unsigned ok, failed, next;
	uint64_t bytes;
	unsigned reached[DESTINATIONS_MAX];
	double slowest;
	char error[256];
} results = { .lock = PTHREAD_MUTEX_INITIALIZER };

static pthread_barrier_t everyone;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void note(unsigned destination, uint64_t bytes, double seconds, const char *error)
{
	pthread_mutex_lock(&results.lock);
	if (error) {
		results.failed++;
		if (!results.error[0])
			snprintf(results.error, sizeof(results.error), "%s", error);
	} else {
		results.ok++;
		results.reached[destination]++;
		results.bytes += bytes;
	}
	if (seconds > results.slowest)
		results.slowest = seconds;
	pthread_mutex_unlock(&results.lock);
}

static int dial(const union address *destination, char *error)
{
	struct timeval timeout = { .tv_sec = TIMEOUT_SECONDS };
	int fd = socket(destination->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	const char *step = "socket";

	if (fd < 0)
		goto fail;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	step = "SO_BINDTODEVICE";
	if (options.device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, options.device,
					 (socklen_t)strlen(options.device)))
		goto fail;
	step = "bind";
	if (options.bind) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, &options.source.any, address_length(&options.source)))
			goto fail;
	}
	step = "connect";
	if (connect(fd, &destination->any, address_length(destination)))
		goto fail;
	return fd;
fail:
	sprintf(error, "%s: %s", step, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Which connection it was: what the logs and a capture are searched for. */
static void no_answer(int fd, const union address *destination, int err, char *error)
{
	char self[ADDRESS_TEXT], peer[ADDRESS_TEXT];
	union address address;
	socklen_t length = sizeof(address);

	getsockname(fd, &address.any, &length);
	address_format(&address, self);
	address_format(destination, peer);
	sprintf(error, "no answer: %s, from %s to %s", strerror(-err), self, peer);
}

/* The addresses as both ends see them. */
static bool check_addresses(int fd, const union address *destination, char *line, char *error)
{
	char wanted[ADDRESS_TEXT], self[ADDRESS_TEXT], peer[ADDRESS_TEXT];
	char accepted[ADDRESS_TEXT], far_peer[ADDRESS_TEXT], far_self[ADDRESS_TEXT];
	const char *mine = destination->any.sa_family == AF_INET6 ? options.self6 : options.self4;
	union address address;
	socklen_t length = sizeof(address);

	if (sscanf(line, MARKER " %55s %55s %55s", accepted, far_peer, far_self) != 3) {
		sprintf(error, "unexpected answer '%.60s'", line);
		return false;
	}
	address_format(destination, wanted);
	getsockname(fd, &address.any, &length);
	address_format(&address, self);
	length = sizeof(address);
	getpeername(fd, &address.any, &length);
	address_format(&address, peer);
	if (strcmp(peer, wanted) || strcmp(far_self, wanted))
		sprintf(error, "connected to %s, getpeername says %s, the server is %s", wanted,
			peer, far_self);
	else if (strcmp(accepted, self) || strcmp(far_peer, self))
		sprintf(error, "getsockname says %s, the server's accept %s and getpeername %s",
			self, accepted, far_peer);
	else if (*mine && (strncmp(self, mine, strlen(mine)) || self[strlen(mine)] != ':'))
		sprintf(error, "the own address is %s, not %s", self, mine);
	else
		return true;
	return false;
}

static int read_line(int fd, char *line, size_t size)
{
	size_t used = 0;

	while (used < size - 1) {
		ssize_t got = recv(fd, line + used, size - 1 - used, 0);

		if (got <= 0)
			return got ? -errno : -ENODATA;
		used += (size_t)got;
		line[used] = 0;
		if (strchr(line, '\n'))
			return 0;
	}
	return -EMSGSIZE;
}

static void storm_once(unsigned destination)
{
	char line[4 * ADDRESS_TEXT] = "", error[sizeof(results.error)] = "";
	const union address *address = &options.destinations[destination];
	struct request request;
	double start = now();
	int err, fd = dial(address, error);

	if (options.hold)
		pthread_barrier_wait(&everyone);
	if (fd >= 0) {
		request_fill(&request, options.hold ? OP_HOLD : OP_REPORT, 0, 0);
		err = write_all(fd, &request, sizeof(request));
		if (!err)
			err = read_line(fd, line, sizeof(line));
		if (err)
			no_answer(fd, address, err, error);
		else
			check_addresses(fd, address, line, error);
	}
	if (options.hold)
		pthread_barrier_wait(&everyone);
	if (fd >= 0)
		close(fd);
	note(destination, 0, now() - start, *error ? error : NULL);
}

static void *storm(void *argument)
{
	unsigned number = (unsigned)(uintptr_t)argument;

	for (unsigned round = 0; round < options.rounds; round++)
		storm_once((number + round) % options.destination_count);
	return NULL;
}

struct hashes {
	EVP_MD_CTX *sent, *received;
	uint8_t sent_digest[DIGEST], received_digest[DIGEST];
};

/* Sends size bytes of the payload and reads size bytes at the same time; either may be zero. */
static int exchange(int fd, const struct request *request, uint64_t to_send, uint64_t to_receive,
		    struct hashes *hashes, uint8_t *out, uint8_t *in)
{
	struct pollfd wait = { .fd = fd };
	uint64_t sent = 0, received = 0;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (sent < to_send || received < to_receive) {
		wait.events = (short)((sent < to_send ? POLLOUT : 0) |
				      (received < to_receive ? POLLIN : 0));
		if (poll(&wait, 1, TIMEOUT_SECONDS * 1000) <= 0)
			return -ETIMEDOUT;
		if (wait.revents & POLLOUT) {
			uint64_t left = to_send - sent, room = CHUNK - sent % CHUNK;
			ssize_t done;

			if (!(sent % CHUNK))
				payload_chunk(request->seed, sent, out);
			done = send(fd, out + sent % CHUNK, left < room ? left : room,
				    MSG_NOSIGNAL);
			if (done < 0 && errno != EAGAIN)
				return -errno;
			if (done > 0) {
				EVP_DigestUpdate(hashes->sent, out + sent % CHUNK, (size_t)done);
				sent += (uint64_t)done;
			}
		}
		if (wait.revents & (POLLIN | POLLERR | POLLHUP)) {
			uint64_t left = to_receive - received;
			ssize_t done = recv(fd, in, left < CHUNK ? left : CHUNK, 0);

			if (!done)
				return -ENODATA;
			if (done < 0 && errno != EAGAIN)
				return -errno;
			if (done > 0) {
				EVP_DigestUpdate(hashes->received, in, (size_t)done);
				received += (uint64_t)done;
			}
		}
	}
	fcntl(fd, F_SETFL, 0);
	return 0;
}

static void payload_digest(const struct request *request, uint8_t *buffer, EVP_MD_CTX *hash)
{
	for (uint64_t offset = 0; offset < request->size; offset += CHUNK) {
		uint64_t left = request->size - offset;

		payload_chunk(request->seed, offset, buffer);
		EVP_DigestUpdate(hash, buffer, left < CHUNK ? left : CHUNK);
	}
}

/* After the last byte the server closes: anything else than a clean end is an error. */
static int transfer(int fd, const struct request *request, struct hashes *hashes, uint8_t *out,
		    uint8_t *in)
{
	uint64_t up = request->operation == OP_GENERATE ? 0 : request->size;
	uint64_t down = request->operation == OP_SINK ? 0 : request->size;
	int err = write_all(fd, request, sizeof(*request));
	ssize_t got;

	if (!err)
		err = exchange(fd, request, up, down, hashes, out, in);
	if (err)
		return err;
	if (request->operation == OP_GENERATE)
		payload_digest(request, out, hashes->sent);
	EVP_DigestFinal_ex(hashes->sent, hashes->sent_digest, NULL);
	EVP_DigestFinal_ex(hashes->received, hashes->received_digest, NULL);
	if (request->operation == OP_SINK)
		err = read_all(fd, hashes->received_digest, DIGEST);
	if (err)
		return err;
	if (memcmp(hashes->sent_digest, hashes->received_digest, DIGEST))
		return -EBADMSG;
	got = recv(fd, in, 1, 0);
	return got < 0 ? -errno : got ? -EOVERFLOW : 0;
}

/* Mostly small: the size's number of bits is uniform, the size below that too. */
static uint64_t transfer_size(uint64_t number)
{
	uint64_t random = mix(options.seed * 1000003 + number);
	uint64_t limit = 1ull << (1 + random % 20);

	return 1 + (random >> 8) % (limit < options.largest ? limit : options.largest);
}

static void transfer_once(unsigned number, uint8_t *out, uint8_t *in)
{
	static const enum operation operations[] = { OP_ECHO, OP_SINK, OP_GENERATE };
	unsigned destination = number / 3 % options.destination_count;
	struct hashes hashes = { .sent = EVP_MD_CTX_new(), .received = EVP_MD_CTX_new() };
	char error[sizeof(results.error)] = "";
	struct request request;
	double start = now();
	int fd, err;

	request_fill(&request, operations[number % 3], transfer_size(number), number);
	EVP_DigestInit_ex(hashes.sent, EVP_sha256(), NULL);
	EVP_DigestInit_ex(hashes.received, EVP_sha256(), NULL);
	fd = dial(&options.destinations[destination], error);
	if (fd >= 0) {
		err = transfer(fd, &request, &hashes, out, in);
		if (err)
			sprintf(error, "transfer %u (%c, %llu bytes): %s", number,
				request.operation, (unsigned long long)request.size,
				err == -EBADMSG ? "the digests differ" : strerror(-err));
		close(fd);
	}
	EVP_MD_CTX_free(hashes.sent);
	EVP_MD_CTX_free(hashes.received);
	note(destination, request.size, now() - start, *error ? error : NULL);
}

static void *transfers(void *argument)
{
	uint8_t *buffer = malloc(2 * CHUNK);
	unsigned number;

	while (buffer) {
		pthread_mutex_lock(&results.lock);
		number = results.next++;
		pthread_mutex_unlock(&results.lock);
		if (number >= options.rounds)
			break;
		transfer_once(number, buffer, buffer + CHUNK);
	}
	free(buffer);
	return NULL;
}

static void parse(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "t:r:Hb:d:s:e:m:")) > 0) {
		switch (option) {
		case 't':
			options.threads = (unsigned)atoi(optarg);
			break;
		case 'r':
			options.rounds = (unsigned)atoi(optarg);
			break;
		case 'H':
			options.hold = true;
			break;
		case 'b':
			options.bind = !address_parse(optarg, &options.source);
			break;
		case 'd':
			options.device = optarg;
			break;
		case 's':
			snprintf(strchr(optarg, ':') ? options.self6 : options.self4, ADDRESS_TEXT,
				 strchr(optarg, ':') ? "[%s]" : "%s", optarg);
			break;
		case 'e':
			options.seed = strtoull(optarg, NULL, 0);
			break;
		case 'm':
			options.largest = strtoull(optarg, NULL, 0);
			break;
		default:
			exit(2);
		}
	}
	for (; optind < argc && options.destination_count < DESTINATIONS_MAX; optind++)
		if (address_parse(argv[optind],
				  &options.destinations[options.destination_count++])) {
			fprintf(stderr, "load: '%s' is no ADDRESS:PORT\n", argv[optind]);
			exit(2);
		}
}

int main(int argc, char **argv)
{
	pthread_attr_t attributes;
	pthread_t *threads;
	double start = now();
	void *(*work)(void *);

	if (argc < 3 || (strcmp(argv[1], "storm") && strcmp(argv[1], "transfer"))) {
		fprintf(stderr, "usage: load storm|transfer [options] DESTINATION...\n");
		return 2;
	}
	work = argv[1][0] == 's' ? storm : transfers;
	parse(argc - 1, argv + 1);
	threads = calloc(options.threads, sizeof(*threads));
	if (!threads || !options.destination_count)
		return 2;
	pthread_barrier_init(&everyone, NULL, options.threads);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 128 * 1024);
	for (unsigned i = 0; i < options.threads; i++)
		if (pthread_create(&threads[i], &attributes, work, (void *)(uintptr_t)i))
			abort();
	for (unsigned i = 0; i < options.threads; i++)
		pthread_join(threads[i], NULL);
	printf("{\"ok\": %u, \"failed\": %u, \"bytes\": %llu, \"seconds\": %.1f, \"slowest\": "
	       "%.1f, "
	       "\"error\": \"%s\", \"reached\": [",
	       results.ok, results.failed, (unsigned long long)results.bytes, now() - start,
	       results.slowest, results.error);
	for (unsigned i = 0; i < options.destination_count; i++)
		printf("%s%u", i ? ", " : "", results.reached[i]);
	printf("]}\n");
	return results.failed ? 1 : 0;
}
