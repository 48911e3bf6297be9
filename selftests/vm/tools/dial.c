/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dial - many connects of many kinds in one process, all at once: dial [-t SECONDS] JOB...
 *
 * A job is words with a comma between, and runs in a thread of its own (count=N: in N threads):
 *
 *   id=TEXT                 its name in the output
 *   to=A:P[+A:P]...         destinations, one after the other; IPv6 as [A]:P
 *   mode=blocking|poll|epoll|none  epoll is edge-triggered; none waits for nothing
 *   mapped                  IPv4 destinations through an IPv6 socket, as ::ffff:A
 *   from=A:P                bind() to this first
 *   same, unspec            all destinations with the same socket; connect(AF_UNSPEC) between
 *   syncnt=N sndtimeo=MS user_timeout=MS
 *   fastopen=send|connect   MSG_FASTOPEN, TCP_FASTOPEN_CONNECT
 *   mptcp                   IPPROTO_MPTCP
 *   wait=MS                 poll and epoll: give up after so long (errno 0, "gave_up": true)
 *   hold=MS                 keep the connection open for so long
 *   mute                    send and expect nothing
 *   reset                   end with RST, so that no TIME_WAIT remains
 *   rounds=N                all of it so many times
 *   repeat                  go on until -t is over
 *
 * Each connect is one line of JSON: what connect() said, how it ended and after how many ms,
 * getsockname and getpeername, and what tools/serve says it sees. -q prints only those that
 * failed, and a last line with the numbers of all errnos.
 */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

#include "testwire.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#define DESTINATIONS_MAX 16
#define ANSWER_SECONDS 60
#define STACK (128 * 1024)

enum mode { BLOCKING, POLL, EPOLL, NONE };
enum fastopen { NO_FASTOPEN, FASTOPEN_SEND, FASTOPEN_CONNECT };

struct job {
	char id[64];
	union address to[DESTINATIONS_MAX], from;
	unsigned to_count, count, rounds;
	enum mode mode;
	enum fastopen fastopen;
	bool mapped, bound, same, unspec, mptcp, mute, reset, repeat;
	int syncnt, sndtimeo, user_timeout, wait, hold;
};

struct attempt {
	int said, error; /* of connect() itself; in the end */
	bool gave_up;
	unsigned events;
	double ms, answered;
	char local[ADDRESS_TEXT], peer[ADDRESS_TEXT];
	char first[32], saw[ADDRESS_TEXT], self[ADDRESS_TEXT];
	int answer_error;
};

static bool quiet;
static double end_ms;
static unsigned errors[256];
static double slowest;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t start_line;

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void sleep_ms(int ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

/* ---- jobs ---- */

static int parse_destinations(struct job *job, char *text)
{
	char *rest = text, *one;

	while ((one = strsep(&rest, "+"))) {
		if (job->to_count == DESTINATIONS_MAX ||
		    address_parse(one, &job->to[job->to_count++]))
			return -EINVAL;
	}
	return 0;
}

static int parse_word(struct job *job, char *word)
{
	static const char *const modes[] = { "blocking", "poll", "epoll", "none" };
	char *value = word;

	word = strsep(&value, "=");
	if (!strcmp(word, "mapped"))
		job->mapped = true;
	else if (!strcmp(word, "same"))
		job->same = true;
	else if (!strcmp(word, "unspec"))
		job->unspec = true;
	else if (!strcmp(word, "mptcp"))
		job->mptcp = true;
	else if (!strcmp(word, "mute"))
		job->mute = true;
	else if (!strcmp(word, "reset"))
		job->reset = true;
	else if (!strcmp(word, "repeat"))
		job->repeat = true;
	else if (!value)
		return -EINVAL;
	else if (!strcmp(word, "id"))
		snprintf(job->id, sizeof(job->id), "%s", value);
	else if (!strcmp(word, "to"))
		return parse_destinations(job, value);
	else if (!strcmp(word, "from"))
		return job->bound = true, address_parse(value, &job->from);
	else if (!strcmp(word, "fastopen"))
		job->fastopen = !strcmp(value, "send") ? FASTOPEN_SEND : FASTOPEN_CONNECT;
	else if (!strcmp(word, "syncnt"))
		job->syncnt = atoi(value);
	else if (!strcmp(word, "sndtimeo"))
		job->sndtimeo = atoi(value);
	else if (!strcmp(word, "user_timeout"))
		job->user_timeout = atoi(value);
	else if (!strcmp(word, "wait"))
		job->wait = atoi(value);
	else if (!strcmp(word, "hold"))
		job->hold = atoi(value);
	else if (!strcmp(word, "count"))
		job->count = (unsigned)atoi(value);
	else if (!strcmp(word, "rounds"))
		job->rounds = (unsigned)atoi(value);
	else if (!strcmp(word, "mode")) {
		for (job->mode = BLOCKING; job->mode < NONE; job->mode++)
			if (!strcmp(value, modes[job->mode]))
				break;
	} else {
		return -EINVAL;
	}
	return 0;
}

static void map_destinations(struct job *job)
{
	for (unsigned i = 0; i < job->to_count; i++) {
		union address v4 = job->to[i], *to = &job->to[i];

		memset(to, 0, sizeof(*to));
		to->v6.sin6_family = AF_INET6;
		to->v6.sin6_port = v4.v4.sin_port;
		to->v6.sin6_addr.s6_addr[10] = to->v6.sin6_addr.s6_addr[11] = 0xff;
		memcpy(&to->v6.sin6_addr.s6_addr[12], &v4.v4.sin_addr, 4);
	}
}

static int parse_job(const char *text, struct job *job)
{
	char *copy = strdup(text), *rest = copy, *word;
	int err = copy ? 0 : -ENOMEM;

	*job = (struct job){ .count = 1, .rounds = 1, .wait = 120000 };
	while (!err && (word = strsep(&rest, ",")))
		err = parse_word(job, word);
	free(copy);
	if (!err && job->mapped)
		map_destinations(job);
	return err ?: job->to_count ? 0 : -EINVAL;
}

/* ---- one connect ---- */

static int open_socket(const struct job *job, int family)
{
	int flags = job->mode == BLOCKING ? 0 : SOCK_NONBLOCK, one = 1;
	struct timeval sndtimeo = { .tv_sec = job->sndtimeo / 1000,
				    .tv_usec = job->sndtimeo % 1000 * 1000 };
	struct linger reset_on_close = { .l_onoff = 1, .l_linger = 0 };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, job->mptcp ? IPPROTO_MPTCP : 0);

	if (fd < 0)
		return -errno;
	if (job->syncnt)
		setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &job->syncnt, sizeof(job->syncnt));
	if (job->user_timeout)
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &job->user_timeout,
			   sizeof(job->user_timeout));
	if (job->sndtimeo)
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &sndtimeo, sizeof(sndtimeo));
	if (job->reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset_on_close, sizeof(reset_on_close));
	if (job->fastopen == FASTOPEN_CONNECT)
		setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one));
	if (job->bound) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, &job->from.any, address_length(&job->from))) {
			int err = -errno;

			close(fd);
			return err;
		}
	}
	return fd;
}

/* 1: it happened; 0: the time is over. */
static int wait_for(const struct job *job, int fd, unsigned *ret_events)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };
	struct pollfd wanted = { .fd = fd, .events = POLLOUT };
	int epoll, count;

	if (job->mode == POLL) {
		count = poll(&wanted, 1, job->wait);
		*ret_events = (unsigned)wanted.revents;
		return count;
	}
	epoll = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
	count = epoll_wait(epoll, &event, 1, job->wait);
	*ret_events = event.events;
	close(epoll);
	return count;
}

static int begin(const struct job *job, int fd, const union address *to)
{
	struct request request;

	if (job->fastopen != FASTOPEN_SEND)
		return connect(fd, &to->any, address_length(to)) ? errno : 0;
	request_fill(&request, OP_REPORT, 0, 0);
	return sendto(fd, &request, sizeof(request), MSG_FASTOPEN | MSG_NOSIGNAL, &to->any,
		      address_length(to)) < 0
		       ? errno
		       : 0;
}

static void name_ends(int fd, struct attempt *attempt)
{
	union address address;
	socklen_t length = sizeof(address);

	if (getsockname(fd, &address.any, &length) == 0)
		address_format(&address, attempt->local);
	length = sizeof(address);
	if (getpeername(fd, &address.any, &length) == 0)
		address_format(&address, attempt->peer);
}

/* Asks the server whom it sees. */
static int ask(const struct job *job, int fd, struct attempt *attempt)
{
	struct timeval patience = { .tv_sec = ANSWER_SECONDS };
	char answer[4 * ADDRESS_TEXT] = "";
	struct request request;
	size_t length = 0;
	ssize_t got;
	int err;

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	request_fill(&request, OP_REPORT, 0, 0);
	if (job->fastopen != FASTOPEN_SEND) {
		err = write_all(fd, &request, sizeof(request));
		if (err)
			return -err;
	}
	while (length < sizeof(answer) - 1) {
		got = recv(fd, answer + length, sizeof(answer) - 1 - length, 0);
		if (got < 0)
			return errno;
		if (!got)
			break;
		length += (size_t)got;
	}
	if (sscanf(answer, "%31s %*s %55s %55s", attempt->first, attempt->saw, attempt->self) != 3)
		return ENODATA;
	return 0;
}

static void connect_once(const struct job *job, int fd, const union address *to,
			 struct attempt *attempt)
{
	double start = now_ms();
	socklen_t length = sizeof(attempt->error);

	memset(attempt, 0, sizeof(*attempt));
	attempt->said = begin(job, fd, to);
	/* What is left of a failed non-blocking connect, its error having been read: try again. */
	if (attempt->said == ECONNABORTED && job->same)
		attempt->said = begin(job, fd, to);
	attempt->error = attempt->said;
	if (attempt->said == EINPROGRESS && (job->mode == POLL || job->mode == EPOLL)) {
		attempt->error = 0;
		if (wait_for(job, fd, &attempt->events) != 1)
			attempt->gave_up = true;
		else
			getsockopt(fd, SOL_SOCKET, SO_ERROR, &attempt->error, &length);
	}
	attempt->ms = now_ms() - start;
	if (attempt->error || attempt->gave_up)
		return;
	if (!job->mute) {
		/* The first write of a Fast Open connect is what connects it. */
		if (job->fastopen != FASTOPEN_CONNECT)
			name_ends(fd, attempt);
		attempt->answer_error = ask(job, fd, attempt);
		if (job->fastopen == FASTOPEN_CONNECT)
			name_ends(fd, attempt);
	} else {
		name_ends(fd, attempt);
	}
	attempt->answered = now_ms() - start;
}

static const char *name_of(int error)
{
	const char *name = error ? strerrorname_np(error) : "OK";

	return name ?: "?";
}

static void report(const struct job *job, unsigned number, unsigned round, unsigned to,
		   const struct attempt *attempt)
{
	int result = attempt->error ?: attempt->gave_up ? EINPROGRESS : attempt->answer_error;

	pthread_mutex_lock(&lock);
	errors[result & 255]++;
	if (attempt->ms > slowest)
		slowest = attempt->ms;
	if (!quiet || result)
		printf("{\"id\": \"%s\", \"number\": %u, \"round\": %u, \"to\": %u, \"said\": "
		       "\"%s\", "
		       "\"errno\": \"%s\", \"gave_up\": %s, \"events\": %u, \"ms\": %.1f, "
		       "\"local\": \"%s\", \"peer\": \"%s\", \"first\": \"%s\", \"saw\": \"%s\", "
		       "\"self\": \"%s\", \"answer\": \"%s\", \"answered\": %.1f}\n",
		       job->id, number, round, to, name_of(attempt->said), name_of(attempt->error),
		       attempt->gave_up ? "true" : "false", attempt->events, attempt->ms,
		       attempt->local, attempt->peer, attempt->first, attempt->saw, attempt->self,
		       name_of(attempt->answer_error), attempt->answered);
	fflush(stdout);
	pthread_mutex_unlock(&lock);
}

/* What is wrong with a connection that works: other ends than were asked for. */
static int check_ends(const struct job *job, const union address *to, const struct attempt *attempt)
{
	char wanted[ADDRESS_TEXT];

	if (attempt->error || attempt->gave_up || attempt->answer_error || job->mute)
		return 0;
	address_format(to, wanted);
	if (strcmp(attempt->first, MARKER) || strcmp(attempt->peer, wanted) ||
	    strcmp(attempt->self, wanted) || strcmp(attempt->saw, attempt->local))
		return EBADMSG;
	return 0;
}

static void disconnect(int fd)
{
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

	(void)connect(fd, &nowhere, sizeof(nowhere));
}

static void run_round(const struct job *job, unsigned number, unsigned round)
{
	struct attempt attempt;
	int fd = -1;

	for (unsigned i = 0; i < job->to_count; i++) {
		if (fd < 0)
			fd = open_socket(job, job->to[i].any.sa_family);
		if (fd < 0) {
			attempt = (struct attempt){ .said = -fd, .error = -fd };
			report(job, number, round, i, &attempt);
			continue;
		}
		if (job->same && job->mode != BLOCKING)
			fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		connect_once(job, fd, &job->to[i], &attempt);
		if (!attempt.answer_error)
			attempt.answer_error = check_ends(job, &job->to[i], &attempt);
		if (job->hold)
			sleep_ms(job->hold);
		if (job->same && job->unspec)
			disconnect(fd);
		if (!job->same) {
			close(fd);
			fd = -1;
		}
		report(job, number, round, i, &attempt);
	}
	if (fd >= 0)
		close(fd);
}

struct worker {
	const struct job *job;
	unsigned number;
};

static void *work(void *argument)
{
	const struct worker *worker = argument;

	pthread_barrier_wait(&start_line);
	for (unsigned round = 0;
	     worker->job->repeat ? now_ms() < end_ms : round < worker->job->rounds; round++)
		run_round(worker->job, worker->number, round);
	return NULL;
}

static void print_totals(double seconds)
{
	bool first = true;

	printf("{\"totals\": {");
	for (int i = 0; i < 256; i++) {
		if (!errors[i])
			continue;
		printf("%s\"%s\": %u", first ? "" : ", ", name_of(i), errors[i]);
		first = false;
	}
	printf("}, \"seconds\": %.2f, \"slowest\": %.1f}\n", seconds, slowest);
}

int main(int argc, char **argv)
{
	struct rlimit files = { 65536, 65536 };
	unsigned total = 0, next = 0;
	struct worker *workers;
	pthread_attr_t attributes;
	pthread_t *threads;
	struct job *jobs;
	int option, seconds = 10, count;
	double start;

	while ((option = getopt(argc, argv, "t:q")) > 0) {
		if (option == 't')
			seconds = atoi(optarg);
		else if (option == 'q')
			quiet = true;
		else
			return 2;
	}
	count = argc - optind;
	jobs = calloc((size_t)count + 1, sizeof(*jobs));
	for (int i = 0; jobs && i < count; i++) {
		if (parse_job(argv[optind + i], &jobs[i])) {
			fprintf(stderr, "dial: '%s' is no job\n", argv[optind + i]);
			return 2;
		}
		total += jobs[i].count;
	}
	workers = calloc(total + 1, sizeof(*workers));
	threads = calloc(total + 1, sizeof(*threads));
	if (!total || !workers || !threads) {
		fprintf(stderr, "usage: dial [-q] [-t SECONDS] JOB...\n");
		return 2;
	}
	setrlimit(RLIMIT_NOFILE, &files);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK);
	pthread_barrier_init(&start_line, NULL, total + 1);
	for (int i = 0; i < count; i++) {
		for (unsigned number = 0; number < jobs[i].count; number++, next++) {
			workers[next] = (struct worker){ &jobs[i], number };
			errno = pthread_create(&threads[next], &attributes, work, &workers[next]);
			if (errno) {
				perror("dial: pthread_create");
				return 1;
			}
		}
	}
	start = now_ms();
	end_ms = start + seconds * 1e3;
	pthread_barrier_wait(&start_line);
	for (unsigned i = 0; i < total; i++)
		pthread_join(threads[i], NULL);
	print_totals((now_ms() - start) / 1e3);
	return 0;
}
