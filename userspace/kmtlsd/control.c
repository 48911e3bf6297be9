/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - the control socket's thread: accepts, reads lines, writes answers. Verbs run in
 * this thread too, one at a time; that may keep other control clients waiting, never the data
 * path. A client's next request is looked at only when its last answer has left, so requests
 * are answered in order and a client that does not read costs one answer at most.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kmtls/control.h"

#include "cleanup.h"
#include "control_request.h"
#include "control_socket.h"
#include "daemon.h"
#include "monitor.h"
#include "shared.h"

#define CLIENTS 64
#define TELL_BYTES 65536 /* of events, in memory for a client that does not read them */
#define TELL_ROUNDS 16 /* before others have their turn */
#define STALL 10 /* seconds a client may leave an answer unread or a line unfinished */

struct client {
	int fd; /* -1: free */
	bool ended; /* the client has closed its side, or is being turned away */
	time_t stalls; /* monotonic; when it will have stalled, 0: it is idle */
	size_t used; /* bytes of input */
	size_t sent; /* bytes of answer */
	struct kmtls_text answer;
	struct kmtls_subscription *subscription; /* gets events, asks nothing any more */
	char *input; /* KMTLS_CONTROL_LINE_MAX bytes */
};

struct kmtls_control {
	struct kmtls_daemon *daemon;
	const struct kmtls_control_verb *verbs;
	struct kmtls_control_socket socket;
	int epoll_fd, stop_fd;
	bool watches_events;
	pthread_t thread;
	struct client clients[CLIENTS];
};

static time_t monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void drop(struct client *client)
{
	close(client->fd); /* which takes it out of the epoll set */
	kmtls_monitor_unsubscribe(client->subscription);
	free(client->input);
	kmtls_text_free(&client->answer);
	*client = (struct client){ .fd = -1 };
}

static int watch_source(struct kmtls_control *control, int fd, void *source)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = source };

	return epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* ---- accepting ------------------------------------------------------------------------ */

/* For a client that is not let in: one line, sent if the socket takes it, and goodbye. */
static void turn_away(int fd, int err, const char *message)
{
	struct kmtls_text line = { .limit = 0 };

	if (!kmtls_control_answer_error(&line, err, message))
		send(fd, line.bytes, line.length, MSG_NOSIGNAL | MSG_DONTWAIT);
	kmtls_text_free(&line);
	close(fd);
}

static bool may_enter(int fd)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return false;
	if (peer.uid == 0 || peer.uid == geteuid())
		return true;
	log_warning("control client refused", "uid=%u pid=%d", peer.uid, peer.pid);
	return false;
}

static struct client *find_free(struct kmtls_control *control)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (control->clients[i].fd < 0)
			return &control->clients[i];
	}
	return NULL;
}

static void enter(struct kmtls_control *control, struct client *client, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };

	client->input = malloc(KMTLS_CONTROL_LINE_MAX);
	client->fd = fd;
	if (!client->input || epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, fd, &event))
		drop(client);
}

static void accept_clients(struct kmtls_control *control)
{
	struct client *client;
	int fd;

	for (;;) {
		fd = accept4(control->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			/* Out of descriptors: the connection stays in the backlog, and the
			 * level-triggered epoll would spin on it. */
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
				usleep(100 * 1000);
			return;
		}
		client = find_free(control);
		if (!may_enter(fd))
			turn_away(fd, -EPERM, "only root and the daemon's user may control kmtlsd");
		else if (!client)
			turn_away(fd, -EBUSY, "too many control clients, at most 64");
		else
			enter(control, client, fd);
	}
}

/* ---- one client ----------------------------------------------------------------------- */

static bool has_answer(const struct client *client)
{
	return client->sent < client->answer.length;
}

/* Sends what the socket takes. -errno: the client is gone. */
static int send_answer(struct client *client)
{
	while (has_answer(client)) {
		ssize_t sent =
			send(client->fd, client->answer.bytes + client->sent,
			     client->answer.length - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN ? 0 : -errno;
		client->sent += (size_t)sent;
		client->stalls = monotonic() + STALL;
	}
	kmtls_text_free(&client->answer);
	client->sent = 0;
	return 0;
}

/* The client takes everything over: its connection goes to the keeper, which answers. */
static void give_away(struct kmtls_control *control, struct client *client)
{
	struct kmtls_shared *shared = control->daemon->shared;

	control->daemon->give_away = false;
	epoll_ctl(control->epoll_fd, EPOLL_CTL_DEL, client->fd, NULL);
	shared->connection = client->fd;
	atomic_store(&shared->outcome, KMTLS_OUTCOME_RUNNING);
	atomic_fetch_add(&shared->upgrades, 1);
	atomic_store(&shared->request, KMTLS_REQUEST_TAKE_OVER);
	eventfd_write(control->daemon->wake_fd, 1);
	free(client->input);
	kmtls_text_free(&client->answer);
	*client = (struct client){ .fd = -1 };
}

/* The client asked for events: from here on it is told, and not asked. */
static int subscribe(struct kmtls_control *control, struct client *client)
{
	client->subscription = control->daemon->subscription;
	control->daemon->subscription = NULL;
	if (control->watches_events)
		return 0;
	control->watches_events = true;
	return watch_source(control, kmtls_monitor_fd(), &control->watches_events);
}

/* Sends what has happened. What does not fit now waits in the ring, and is lost if that is long. */
static int tell(struct client *client)
{
	bool more = true;
	int err = 0;

	for (unsigned i = 0; !err && more && !has_answer(client) && i < TELL_ROUNDS; i++) {
		more = kmtls_monitor_read(client->subscription, TELL_BYTES, &client->answer);
		err = client->answer.err;
		if (!err)
			err = send_answer(client);
	}
	if (!err && more && !has_answer(client))
		kmtls_monitor_wake();
	return err;
}

/* Answers the first line in the input, if there is a whole one. 1: answered; 0: none. */
static int answer_line(struct kmtls_control *control, struct client *client)
{
	char *newline = client->used ? memchr(client->input, '\n', client->used) : NULL;
	size_t length;
	int err;

	if (client->subscription) {
		client->used = 0;
		return 0;
	}
	if (!newline && client->used < KMTLS_CONTROL_LINE_MAX)
		return 0;
	if (!newline) {
		client->ended = true;
		client->used = 0;
		err = kmtls_control_answer_error(&client->answer, -EMSGSIZE,
						 "request: a line is at most 65536 bytes");
		return err ? err : 1;
	}
	length = (size_t)(newline - client->input);
	err = kmtls_control_answer(control->daemon, control->verbs, client->input, length,
				   &client->answer);
	if (control->daemon->subscription && subscribe(control, client) < 0)
		err = -EIO;
	if (!err && control->daemon->give_away) {
		give_away(control, client);
		return 0;
	}
	client->used -= length + 1;
	memmove(client->input, newline + 1, client->used);
	return err ? err : 1;
}

/* Reads once. 0; -errno: the client is gone. */
static int receive(struct client *client)
{
	size_t room = KMTLS_CONTROL_LINE_MAX - client->used;
	ssize_t got;

	if (client->ended || !room)
		return 0;
	got = recv(client->fd, client->input + client->used, room, MSG_DONTWAIT);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (!got)
		client->ended = true;
	client->used += (size_t)got;
	return 0;
}

/* Waits for what the client must do next; how long that may take starts anew when bytes of
 * an answer have left or a line has been finished, not with every byte of a line. */
static int watch(struct kmtls_control *control, struct client *client)
{
	struct epoll_event event = { .data.ptr = client };

	if (has_answer(client))
		event.events = EPOLLOUT;
	else if (!client->ended)
		event.events = EPOLLIN;
	else
		return -EPIPE;
	if (client->subscription || (!has_answer(client) && !client->used))
		client->stalls = 0;
	else if (!client->stalls)
		client->stalls = monotonic() + STALL;
	return epoll_ctl(control->epoll_fd, EPOLL_CTL_MOD, client->fd, &event) ? -errno : 0;
}

static void serve(struct kmtls_control *control, struct client *client)
{
	int err = send_answer(client);

	if (!err && !has_answer(client))
		err = receive(client);
	while (!err && !has_answer(client)) {
		err = answer_line(control, client);
		if (err <= 0)
			break;
		client->stalls = 0;
		err = send_answer(client);
	}
	if (!err && client->fd >= 0 && client->subscription && !has_answer(client))
		err = tell(client);
	if (control->daemon->wake_keeper && (err || !has_answer(client))) {
		control->daemon->wake_keeper = false;
		eventfd_write(control->daemon->wake_fd, 1);
	}
	if (client->fd < 0)
		return; /* given away */
	if (!err)
		err = watch(control, client);
	if (err)
		drop(client);
}

/* ---- the thread ----------------------------------------------------------------------- */

static void drop_stalled(struct kmtls_control *control)
{
	time_t now = monotonic();

	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *client = &control->clients[i];

		if (client->fd < 0 || !client->stalls || now < client->stalls)
			continue;
		log_warning("control client dropped", "why=%s",
			    has_answer(client) ? "answer-not-read" : "line-not-finished");
		drop(client);
	}
}

static void tell_all(struct kmtls_control *control)
{
	kmtls_monitor_woken();
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *client = &control->clients[i];

		if (client->fd >= 0 && client->subscription && !has_answer(client))
			serve(control, client);
	}
}

static void handle(struct kmtls_control *control, void *source)
{
	struct client *client = source;

	if (source == &control->socket)
		accept_clients(control);
	else if (source == &control->watches_events)
		tell_all(control);
	else if (client->fd >= 0) /* tell_all() may have dropped it */
		serve(control, client);
}

static void *run(void *argument)
{
	struct kmtls_control *control = argument;
	struct epoll_event events[16];

	for (;;) {
		int count = epoll_wait(control->epoll_fd, events, 16, 1000);

		for (int i = 0; i < count; i++) {
			void *source = events[i].data.ptr;

			if (source == &control->stop_fd)
				return NULL;
			handle(control, source);
		}
		drop_stalled(control);
		kmtls_monitor_tick(control->daemon);
	}
}

static int start_thread(struct kmtls_control *control)
{
	sigset_t all, before;
	int err;

	/* Signals belong to the main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&control->thread, NULL, run, control);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

static struct kmtls_control *new_control(struct kmtls_daemon *daemon,
					 const struct kmtls_control_verb *verbs)
{
	struct kmtls_control *control = calloc(1, sizeof(*control));

	if (!control)
		return NULL;
	control->daemon = daemon;
	control->verbs = verbs;
	for (unsigned i = 0; i < CLIENTS; i++)
		control->clients[i].fd = -1;
	return control;
}

/* After a take-over it is open already, and clients may be waiting in it. */
static int open_socket(struct kmtls_daemon *daemon, struct kmtls_control_socket *ret_socket,
		       char *ret_why)
{
	const char *path = daemon->config->control_socket;
	struct kmtls_shared *shared = daemon->shared;
	int err;

	if (shared && shared->control_fd >= 0) {
		if (kmtls_control_socket_adopt(path, shared->control_fd, ret_socket) == 0)
			return 0;
		/* Forgotten first: the number may be another's as soon as it is closed. */
		kmtls_control_socket_discard(kmtls_take_fd(shared->control_fd));
	}
	err = kmtls_control_socket_open(path, ret_socket, ret_why);
	if (!err && shared)
		shared->control_fd = ret_socket->fd;
	return err;
}

static void close_socket(struct kmtls_control *control)
{
	if (control->daemon->shared)
		control->daemon->shared->control_fd = -1;
	kmtls_control_socket_close(&control->socket);
}

int kmtls_control_open_verbs(struct kmtls_daemon *daemon, const struct kmtls_control_verb *verbs,
			     struct kmtls_control **ret_control, char *ret_why)
{
	struct kmtls_control *control = new_control(daemon, verbs);
	int err = -ENOMEM;

	*ret_why = '\0';
	if (!control)
		goto no_control;
	err = open_socket(daemon, &control->socket, ret_why);
	if (err)
		goto no_socket;
	control->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	err = control->epoll_fd < 0 ? -errno : 0;
	if (err)
		goto no_epoll;
	control->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = control->stop_fd < 0 ? -errno : 0;
	if (err)
		goto no_event;
	err = watch_source(control, control->stop_fd, &control->stop_fd);
	if (!err)
		err = watch_source(control, control->socket.fd, &control->socket);
	if (!err)
		err = start_thread(control);
	if (err)
		goto no_thread;
	*ret_control = control;
	return 0;

no_thread:
	close(control->stop_fd);
no_event:
	close(control->epoll_fd);
no_epoll:
	close_socket(control);
no_socket:
	free(control);
no_control:
	if (!*ret_why)
		snprintf(ret_why, KMTLS_CONTROL_WHY, "control socket: %s", strerror(-err));
	return err;
}

int kmtls_control_open(struct kmtls_daemon *daemon, struct kmtls_control **ret_control,
		       char *ret_why)
{
	return kmtls_control_open_verbs(daemon, kmtls_control_verbs, ret_control, ret_why);
}

void kmtls_control_close(struct kmtls_control *control)
{
	const unsigned long long one = 1;

	if (!control)
		return;
	if (write(control->stop_fd, &one, sizeof(one)) != sizeof(one))
		log_error("control thread cannot be stopped", NULL); /* an eventfd at 0: never */
	pthread_join(control->thread, NULL);
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (control->clients[i].fd >= 0)
			drop(&control->clients[i]);
	}
	close(control->stop_fd);
	close(control->epoll_fd);
	close_socket(control);
	free(control);
}
