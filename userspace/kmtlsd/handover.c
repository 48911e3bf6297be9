/* SPDX-License-Identifier: Apache-2.0 */
/* handover.c - see handover.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "daemon.h"
#include "handover.h"
#include "log.h"
#include "pods.h"
#include "shared.h"

#define BATCH 253 /* SCM_MAX_FD */
#define MAGIC 0x6b6d746c73746f31ull

/* Precedes a batch of descriptors; count 0 ends them. */
struct batch {
	__u64 magic;
	__s32 shared_fd;
	__s32 highest; /* number of all */
	__u32 count;
	__s32 numbers[BATCH];
};

union control {
	char bytes[CMSG_SPACE(BATCH * sizeof(int))];
	struct cmsghdr align;
};

/* Those that belong to workers, and the few of the keeper's that go along. */
static bool goes_along(const struct kmtls_daemon *daemon, int shared_fd, int fd)
{
	const struct kmtls_shared *shared = daemon->shared;

	return !kmtls_descriptor_set_has(&daemon->core, fd) || fd == shared_fd ||
	       fd == shared->secret_fd || fd == shared->lock_fd || fd == shared->maps_lock_fd;
}

/* ---- by execution ---- */

struct keep {
	const struct kmtls_daemon *daemon;
	int shared_fd, socket;
};

static int keep_open(void *context, int fd)
{
	struct keep *keep = context;

	if (fd == keep->socket || goes_along(keep->daemon, keep->shared_fd, fd))
		fcntl(fd, F_SETFD, 0);
	return 0;
}

pid_t kmtls_handover_execute(const struct kmtls_daemon *daemon, int shared_fd, const char *program,
			     const char *config, int *ret_socket)
{
	char shared_text[16], socket_text[16];
	int sockets[2];
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	snprintf(shared_text, sizeof(shared_text), "%d", shared_fd);
	snprintf(socket_text, sizeof(socket_text), "%d", sockets[1]);
	child = fork();
	if (child < 0) {
		int err = -errno;

		close(sockets[0]);
		close(sockets[1]);
		return err;
	}
	if (child == 0) {
		struct keep keep = { daemon, shared_fd, sockets[1] };
		sigset_t none;

		close(sockets[0]);
		kmtls_descriptors_visit(keep_open, &keep);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		execl(program, program, "--config", config, "--inherit", shared_text,
		      "--predecessor", socket_text, (char *)NULL);
		kmtls_handover_tell(sockets[1], KMTLS_HANDOVER_FAILED, strerror(errno));
		_exit(127);
	}
	close(sockets[1]);
	*ret_socket = sockets[0];
	return child;
}

/* SIGKILL to every child there is. false: there was none. */
static bool kill_children(void)
{
	char path[64], text[4096];
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (length <= 0)
		return false;
	/* Only whole numbers: what is cut off comes in the next round. */
	while (length && text[length - 1] != ' ')
		length--;
	text[length] = '\0';
	for (char *at = text, *end; *at; at = end) {
		long child = strtol(at, &end, 10);

		if (end == at)
			break;
		if (child > 1)
			kill((pid_t)child, SIGKILL);
	}
	return true;
}

void kmtls_handover_end(pid_t child)
{
	kill(child, SIGKILL);
	for (int i = 0; i < 1000; i++) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (!kill_children())
			return;
		poll(NULL, 0, 5);
	}
	log_error("processes of the successor do not end", NULL);
}

void kmtls_handover_end_peer(int socket)
{
	struct ucred peer = {};
	socklen_t length = sizeof(peer);

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid > 1 &&
	    peer.pid != getpid())
		kill(peer.pid, SIGKILL);
}

/* ---- by message ---- */

struct sender {
	const struct kmtls_daemon *daemon;
	int shared_fd, socket;
	struct batch batch;
};

static int send_batch(struct sender *sender)
{
	union control control = {};
	struct iovec vector = { &sender->batch, sizeof(sender->batch) };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1 };
	size_t length = sender->batch.count * sizeof(int);
	ssize_t sent;

	if (sender->batch.count) {
		struct cmsghdr *header;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(length);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(length);
		memcpy(CMSG_DATA(header), sender->batch.numbers, length);
	}
	sent = sendmsg(sender->socket, &message, MSG_NOSIGNAL);
	sender->batch.count = 0;
	if (sent < 0)
		return -errno;
	return sent == sizeof(sender->batch) ? 0 : -EIO;
}

static int send_one(void *context, int fd)
{
	struct sender *sender = context;

	if (fd == sender->socket || !goes_along(sender->daemon, sender->shared_fd, fd))
		return 0;
	sender->batch.numbers[sender->batch.count++] = fd;
	return sender->batch.count == BATCH ? send_batch(sender) : 0;
}

static int find_highest(void *context, int fd)
{
	__s32 *highest = context;

	if (fd > *highest)
		*highest = fd;
	return 0;
}

static void set_timeouts(int socket)
{
	struct timeval limit = { .tv_sec = KMTLS_HANDOVER_TIMEOUT };

	fcntl(socket, F_SETFL, 0); /* blocking */
	setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

int kmtls_handover_send(const struct kmtls_daemon *daemon, int shared_fd, int socket)
{
	static struct sender sender;
	socklen_t length = sizeof(int);
	int domain = 0, err;

	/* A number out of the shared memory: a worker's word. */
	if (getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || domain != AF_UNIX)
		return -ENOTSOCK;

	sender = (struct sender){ .daemon = daemon, .shared_fd = shared_fd, .socket = socket };
	sender.batch.magic = MAGIC;
	sender.batch.shared_fd = shared_fd;
	set_timeouts(socket);
	err = kmtls_descriptors_visit(find_highest, &sender.batch.highest);
	if (!err)
		err = kmtls_descriptors_visit(send_one, &sender);
	if (!err && sender.batch.count)
		err = send_batch(&sender);
	return err ? err : send_batch(&sender);
}

/* ---- the conversation ---- */

int kmtls_handover_tell(int socket, char word, const char *why)
{
	char text[1 + KMTLS_WHY];
	int length = snprintf(text, sizeof(text), "%c%s", word, why ? why : "");

	if (length >= (int)sizeof(text))
		length = sizeof(text) - 1;
	return send(socket, text, length, MSG_NOSIGNAL) == length ? 0 : -EPIPE;
}

int kmtls_handover_await(int socket, void (*tick)(void *context), void *context, char *ret_why)
{
	struct pollfd ready = { .fd = socket, .events = POLLIN };
	char text[1 + KMTLS_WHY];
	ssize_t length;
	int result = 0;

	for (int i = 0; i < KMTLS_HANDOVER_TIMEOUT && result <= 0; i++) {
		result = poll(&ready, 1, 1000);
		tick(context);
	}
	if (result <= 0) {
		snprintf(ret_why, KMTLS_WHY, "the successor was not ready after %d seconds",
			 KMTLS_HANDOVER_TIMEOUT);
		return -ETIMEDOUT;
	}
	length = recv(socket, text, sizeof(text) - 1, 0);
	text[length > 0 ? length : 0] = '\0';
	if (text[0] == KMTLS_HANDOVER_READY)
		return 0;
	if (text[0] == KMTLS_HANDOVER_FAILED)
		snprintf(ret_why, KMTLS_WHY, "the successor cannot start: %.200s", text + 1);
	else
		snprintf(ret_why, KMTLS_WHY, "the successor died before it was ready");
	return -ECANCELED;
}

int kmtls_handover_go(int socket)
{
	return kmtls_handover_tell(socket, KMTLS_HANDOVER_GO, NULL);
}

int kmtls_handover_await_go(int socket)
{
	char word = '\0';

	if (recv(socket, &word, 1, 0) != 1 || word != KMTLS_HANDOVER_GO)
		return -ECANCELED;
	/* Its copies of the descriptors go with it. */
	while (recv(socket, &word, 1, 0) > 0)
		;
	return 0;
}

/* ---- receiving ---- */

static int ask(const char *path, char *ret_why)
{
	static const char request[] = "{\"version\":1,\"verb\":\"take-over\"}\n";
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	__cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path)) {
		snprintf(ret_why, KMTLS_WHY, "%.150s: longer than 107 bytes", path);
		return -ENAMETOOLONG;
	}
	strcpy(address.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0) {
		int err = -errno;

		snprintf(ret_why, KMTLS_WHY, "%.150s: %s", path, strerror(-err));
		return err;
	}
	set_timeouts(fd);
	return kmtls_take_fd(fd);
}

/*
 * Descriptors come with whatever numbers are free, which may be the numbers others shall have:
 * all first go up, out of the way, and then down to where they belong.
 */
static int place(const int *received, const struct batch *batch, int above)
{
	int high[BATCH];

	for (__u32 i = 0; i < batch->count; i++) {
		high[i] = fcntl(received[i], F_DUPFD_CLOEXEC, above);
		close(received[i]);
		if (high[i] < 0)
			return -errno;
	}
	for (__u32 i = 0; i < batch->count; i++) {
		if (dup3(high[i], batch->numbers[i], O_CLOEXEC) < 0)
			return -errno;
		close(high[i]);
	}
	return 0;
}

/* One batch. 1: there are more. *socket goes up, too, before anything is put where it is. */
static int receive_batch(int *socket, struct batch *batch)
{
	int above;

	union control control;
	struct iovec vector = { batch, sizeof(*batch) };
	struct msghdr message = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t length = recvmsg(*socket, &message, MSG_WAITALL | MSG_CMSG_CLOEXEC);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int received[BATCH];

	if (length < 0)
		return -errno;
	if (length != sizeof(*batch) || batch->magic != MAGIC || batch->count > BATCH)
		return -EPROTO;
	if (!batch->count)
		return 0;
	above = batch->highest + 1;
	if (*socket < above) {
		int moved = fcntl(*socket, F_DUPFD_CLOEXEC, above);

		if (moved < 0)
			return -errno;
		close(*socket);
		*socket = moved;
	}
	if (!header || header->cmsg_type != SCM_RIGHTS || message.msg_flags & MSG_CTRUNC ||
	    header->cmsg_len != CMSG_LEN(batch->count * sizeof(int)))
		return -EPROTO;
	memcpy(received, CMSG_DATA(header), batch->count * sizeof(int));
	for (__u32 i = 0; i < batch->count; i++)
		if (batch->numbers[i] <= STDERR_FILENO || batch->numbers[i] >= above)
			return -EPROTO;
	return place(received, batch, above) ?: 1;
}

/* A daemon that refuses answers with a line of JSON (kmtls/control.h). */
static int check_refusal(int socket, char *ret_why)
{
	char line[512];
	ssize_t length = recv(socket, line, sizeof(line) - 1, MSG_PEEK);
	char *text;

	if (length <= 0 || line[0] != '{')
		return 0;
	line[length] = '\0';
	text = strstr(line, "\"message\":");
	snprintf(ret_why, KMTLS_WHY, "the running daemon refuses: %.200s",
		 text ? text + strlen("\"message\":") : line);
	ret_why[strcspn(ret_why, "}\n")] = '\0';
	return -EACCES;
}

int kmtls_handover_receive(const char *path, int *ret_shared_fd, char *ret_why)
{
	static struct batch batch;
	int fd = ask(path, ret_why), result;

	if (fd < 0)
		return fd;
	result = check_refusal(fd, ret_why);
	if (result < 0) {
		close(fd);
		return result;
	}
	do
		result = receive_batch(&fd, &batch);
	while (result > 0);
	if (result < 0) {
		snprintf(ret_why, KMTLS_WHY, "%.150s: does not hand over: %s%s", path,
			 strerror(-result),
			 result == -EINVAL || result == -EMFILE || result == -EBADF
				 ? " (is RLIMIT_NOFILE lower than there?)"
				 : "");
		close(fd);
		return result;
	}
	*ret_shared_fd = batch.shared_fd;
	return fd;
}
