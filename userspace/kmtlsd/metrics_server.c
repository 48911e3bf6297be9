/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_server.c - see metrics_server.h. A client asks once and gets one answer. It has a deadline
 * for the whole request, which no byte prolongs. When there are as many clients as there may be,
 * the next one takes the place of whoever has been asking for longest: a scraper's request is
 * there at once, so those who hold places are not scrapers.
 */
#include "metrics_server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "daemon.h"
#include "log.h"
#include "metrics.h"
#include "metrics_request.h"
#include "metrics_socket.h"
#include "netns.h"
#include "shared.h"

#define AGAIN 5000 /* ms until an address is tried again */
#define LINGER 2000 /* ms for a client to close when it has its answer */
#define TEXT_MAX (64u << 20)

enum stage { ASKING = 0, TAKING, ENDING };

struct client {
	int fd; /* -1: free */
	enum stage stage;
	long long since, deadline; /* ms, monotonic */
	size_t used, sent;
	struct kmtls_text answer;
	char request[KMTLS_METRICS_REQUEST_MAX];
};

struct kmtls_metrics_server {
	struct kmtls_daemon *daemon;
	int (*render)(struct kmtls_daemon *daemon, struct kmtls_text *text);
	struct kmtls_metrics_socket socket;
	int epoll_fd, stop_fd;
	long long next_try; /* ms, of the address; while there is no socket */
	bool told; /* that it cannot be had */
	struct kmtls_text text;
	long long made; /* ms, when text was; 0: never */
	pthread_t thread;
	struct client clients[KMTLS_METRICS_CLIENTS];
};

static long long monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ll + now.tv_nsec / 1000000;
}

static void drop(struct client *client)
{
	close(client->fd); /* which takes it out of the epoll set */
	kmtls_text_free(&client->answer);
	client->fd = -1;
}

/* ---- listening ---- */

static int watch(struct kmtls_metrics_server *server, int fd, void *source, unsigned events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* What a worker before this one left, if it is still what is wanted. */
static int adopt(struct kmtls_metrics_server *server, const char *address)
{
	struct kmtls_shared *shared = server->daemon->shared;
	int fd = shared->metrics_fd - 1;

	if (fd < 0)
		return -ENOENT;
	if (address && kmtls_metrics_socket_adopt(address, fd, &server->socket) == 0)
		return 0;
	/* Forgotten first: the number may be another's as soon as it is closed. */
	shared->metrics_fd = 0;
	kmtls_control_socket_discard(fd);
	return -ENOENT;
}

static int open_socket(struct kmtls_metrics_server *server, char *ret_why)
{
	const char *address = server->daemon->config->metrics_listen;
	int err = adopt(server, address);

	if (err)
		err = kmtls_metrics_socket_open(address, &server->socket, ret_why);
	if (err)
		return err;
	server->daemon->shared->metrics_fd = server->socket.fd + 1;
	return watch(server, server->socket.fd, &server->socket, EPOLLIN);
}

static void try_to_listen(struct kmtls_metrics_server *server)
{
	char why[KMTLS_WHY] = "";
	long long now = monotonic();
	int err;

	if (server->socket.fd >= 0 || now < server->next_try)
		return;
	server->next_try = now + AGAIN;
	err = open_socket(server, why);
	if (err && !server->told)
		log_error("metrics cannot be served, tried again every 5 s", "listen=%s err=%s",
			  kmtls_log_quote(server->daemon->config->metrics_listen),
			  kmtls_log_quote(*why ? why : strerror(-err)));
	else if (!err)
		log_info("metrics are served", "listen=%s",
			 kmtls_log_quote(server->daemon->config->metrics_listen));
	server->told = err != 0;
}

/* A free place, or that of the one who has been asking for longest; of those who take their
 * answers, if all do. */
static struct client *find_place(struct kmtls_metrics_server *server)
{
	struct client *worst = &server->clients[0];

	for (unsigned i = 0; i < KMTLS_METRICS_CLIENTS; i++) {
		struct client *client = &server->clients[i];

		if (client->fd < 0)
			return client;
		if (client->stage == worst->stage ? client->since < worst->since
						  : client->stage == ASKING)
			worst = client;
	}
	drop(worst);
	return worst;
}

static void accept_clients(struct kmtls_metrics_server *server)
{
	/* Not for ever: those who are in have their turn, too. */
	for (unsigned i = 0; i < KMTLS_METRICS_CLIENTS; i++) {
		int fd = accept4(server->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct client *client;

		if (fd < 0) {
			/* Level-triggered, so it would spin. */
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			    errno == ENOBUFS)
				usleep(100 * 1000);
			return;
		}
		client = find_place(server);
		client->fd = fd;
		client->stage = ASKING;
		client->used = client->sent = 0;
		client->since = monotonic();
		client->deadline = client->since + KMTLS_METRICS_ASK * 1000;
		if (watch(server, fd, client, EPOLLIN))
			drop(client);
	}
}

/* ---- one client ---- */

static void next_stage(struct kmtls_metrics_server *server, struct client *client, enum stage stage,
		       unsigned ms, unsigned events)
{
	struct epoll_event event = { .events = events, .data.ptr = client };

	client->stage = stage;
	client->deadline = monotonic() + ms;
	if (epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, client->fd, &event))
		drop(client);
}

static int refresh(struct kmtls_metrics_server *server)
{
	long long now = monotonic();
	int err;

	if (server->made && now - server->made < KMTLS_METRICS_FRESH)
		return 0;
	kmtls_text_free(&server->text);
	server->text.limit = TEXT_MAX;
	server->made = 0;
	err = server->render(server->daemon, &server->text);
	if (err) {
		log_error("metrics not made", "err=%s", kmtls_log_quote(strerror(-err)));
		return err;
	}
	server->made = monotonic();
	return 0;
}

/* All of it at once, if the socket takes it: then the client is not waited for. */
static void send_answer(struct kmtls_metrics_server *server, struct client *client)
{
	while (client->sent < client->answer.length) {
		ssize_t sent = send(client->fd, client->answer.bytes + client->sent,
				    client->answer.length - client->sent, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			return;
		if (sent < 0) {
			drop(client);
			return;
		}
		client->sent += (size_t)sent;
	}
	kmtls_text_free(&client->answer);
	/* What it still sends is read and thrown away: a reset could overtake the answer. */
	shutdown(client->fd, SHUT_WR);
	next_stage(server, client, ENDING, LINGER, EPOLLIN);
}

static void answer(struct kmtls_metrics_server *server, struct client *client, unsigned status,
		   bool head)
{
	if (status == 200 && refresh(server))
		status = 500;
	client->answer = (struct kmtls_text){ .limit = 0 };
	if (kmtls_metrics_answer(&client->answer, status, head, &server->text)) {
		drop(client);
		return;
	}
	next_stage(server, client, TAKING, KMTLS_METRICS_TAKE * 1000, EPOLLOUT);
	if (client->fd >= 0)
		send_answer(server, client);
}

static void receive(struct kmtls_metrics_server *server, struct client *client)
{
	ssize_t got = recv(client->fd, client->request + client->used,
			   sizeof(client->request) - client->used, 0);
	unsigned status;
	bool head = false;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		drop(client);
		return;
	}
	client->used += (size_t)got;
	status = kmtls_metrics_request_read(client->request, client->used, &head);
	if (status)
		answer(server, client, status, head);
}

static void discard(struct client *client)
{
	ssize_t got = recv(client->fd, client->request, sizeof(client->request), 0);

	if (!got || (got < 0 && errno != EAGAIN && errno != EINTR))
		drop(client);
}

static void serve(struct kmtls_metrics_server *server, struct client *client)
{
	if (client->fd < 0)
		return; /* another one has taken its place, or it was dropped */
	if (client->stage == ASKING)
		receive(server, client);
	else if (client->stage == TAKING)
		send_answer(server, client);
	else
		discard(client);
}

/* ---- the thread ---- */

static void drop_late(struct kmtls_metrics_server *server)
{
	long long now = monotonic();

	for (unsigned i = 0; i < KMTLS_METRICS_CLIENTS; i++)
		if (server->clients[i].fd >= 0 && now >= server->clients[i].deadline)
			drop(&server->clients[i]);
}

static void *run(void *argument)
{
	struct kmtls_metrics_server *server = argument;
	struct epoll_event events[KMTLS_METRICS_CLIENTS + 2];

	for (;;) {
		int count = epoll_wait(server->epoll_fd, events, KMTLS_METRICS_CLIENTS + 2, 1000);
		bool more = false;

		for (int i = 0; i < count; i++) {
			void *source = events[i].data.ptr;

			if (source == &server->stop_fd)
				return NULL;
			if (source == &server->socket)
				more = true;
			else
				serve(server, source);
		}
		/* Last: a place that is given away may have been in events. */
		if (more)
			accept_clients(server);
		drop_late(server);
		try_to_listen(server);
	}
}

static int start_thread(struct kmtls_metrics_server *server)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&server->thread, NULL, run, server);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

static struct kmtls_metrics_server *new_server(struct kmtls_daemon *daemon)
{
	struct kmtls_metrics_server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	server->daemon = daemon;
	server->socket.fd = -1;
	for (unsigned i = 0; i < KMTLS_METRICS_CLIENTS; i++)
		server->clients[i].fd = -1;
	return server;
}

int kmtls_metrics_server_open_with(struct kmtls_daemon *daemon,
				   int (*render)(struct kmtls_daemon *daemon,
						 struct kmtls_text *text),
				   struct kmtls_metrics_server **ret_server)
{
	struct kmtls_metrics_server *server = new_server(daemon);
	int err = -ENOMEM;

	if (!server)
		return err;
	server->render = render;
	*ret_server = NULL;
	if (!daemon->config->metrics_listen) {
		adopt(server, NULL); /* an earlier configuration may have had one */
		free(server);
		return 0;
	}
	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	err = server->epoll_fd < 0 ? -errno : 0;
	if (err)
		goto no_epoll;
	server->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = server->stop_fd < 0 ? -errno : 0;
	if (err)
		goto no_event;
	err = watch(server, server->stop_fd, &server->stop_fd, EPOLLIN);
	/* A pod's network namespace is no place to listen, and a thread begins in that of its maker. */
	if (!err)
		err = kmtls_netns_leave();
	if (err)
		goto no_thread;
	try_to_listen(server);
	err = start_thread(server);
	if (err)
		goto no_thread;
	*ret_server = server;
	return 0;

no_thread:
	kmtls_metrics_socket_close(&server->socket);
	daemon->shared->metrics_fd = 0;
	close(server->stop_fd);
no_event:
	close(server->epoll_fd);
no_epoll:
	free(server);
	return err;
}

int kmtls_metrics_server_open(struct kmtls_daemon *daemon, struct kmtls_metrics_server **ret_server)
{
	return kmtls_metrics_server_open_with(daemon, kmtls_metrics_render, ret_server);
}

void kmtls_metrics_server_close(struct kmtls_metrics_server *server)
{
	if (!server)
		return;
	eventfd_write(server->stop_fd, 1);
	pthread_join(server->thread, NULL);
	for (unsigned i = 0; i < KMTLS_METRICS_CLIENTS; i++)
		if (server->clients[i].fd >= 0)
			drop(&server->clients[i]);
	server->daemon->shared->metrics_fd = 0;
	kmtls_metrics_socket_close(&server->socket);
	kmtls_text_free(&server->text);
	close(server->stop_fd);
	close(server->epoll_fd);
	free(server);
}
