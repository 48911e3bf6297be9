/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accel_probe.c - see accel_probe.h. Two ends of a connection on loopback are put into a sockmap of
 * our own whose program redirects whatever the first one sends to the second one's queue.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "accel_probe.h"
#include "cleanup.h"

#define MESSAGE 100
/* Nothing here waits but for this process's own other end; so long, should it not come. */
#define PATIENCE_MS 500

struct pair {
	int from, to; /* what `from` sends is redirected to `to` */
};

static const char message[MESSAGE] = "kmtls";
static const struct linger reset_on_close = { .l_onoff = 1, .l_linger = 0 };

/* ---- the program and its map ---- */

/* return bpf_msg_redirect_map(context, map, 0, BPF_F_INGRESS); */
static int load_program(int map)
{
	const struct bpf_insn program[] = {
		{ .code = BPF_LD | BPF_IMM | BPF_DW,
		  .dst_reg = BPF_REG_2,
		  .src_reg = BPF_PSEUDO_MAP_FD,
		  .imm = map },
		{},
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_4, .imm = BPF_F_INGRESS },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_msg_redirect_map },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SK_MSG, "kmtls_probe", "Dual BSD/GPL", program,
			       sizeof(program) / sizeof(program[0]), NULL);

	return fd < 0 ? -errno : fd;
}

/* Element 0 is the receiver, 1 the sender. */
static int open_map(int *ret_map)
{
	int map __cleanup_fd = bpf_map_create(BPF_MAP_TYPE_SOCKMAP, "kmtls_probe", sizeof(int),
					      sizeof(int), 2, NULL);
	int program __cleanup_fd = -1;

	if (map < 0)
		return -errno;
	program = load_program(map);
	if (program < 0)
		return program;
	if (bpf_prog_attach(program, map, BPF_SK_MSG_VERDICT, 0) < 0)
		return -errno;
	*ret_map = kmtls_take_fd(map);
	return 0;
}

/* ---- a connection ---- */

static int connect_pair(int listener, struct pair *ret_pair)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int from __cleanup_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int to;

	if (from < 0 || getsockname(listener, (struct sockaddr *)&address, &length) < 0 ||
	    connect(from, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	to = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (to < 0)
		return -errno;
	ret_pair->from = kmtls_take_fd(from);
	ret_pair->to = to;
	return 0;
}

static void close_pair(struct pair *pair)
{
	if (pair->from >= 0)
		close(pair->from);
	if (pair->to >= 0)
		close(pair->to);
	pair->from = pair->to = -1;
}

static int redirect(int map, const struct pair *pair)
{
	const struct timeval patience = { .tv_usec = PATIENCE_MS * 1000 };
	const int receiver = 0, sender = 1;

	if (bpf_map_update_elem(map, &receiver, &pair->to, BPF_ANY) < 0 ||
	    bpf_map_update_elem(map, &sender, &pair->from, BPF_ANY) < 0)
		return -errno;
	setsockopt(pair->from, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(pair->to, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return 0;
}

static int say(int fd)
{
	ssize_t sent = send(fd, message, MESSAGE, MSG_NOSIGNAL);

	return sent < 0 ? -errno : sent == MESSAGE ? 0 : -EIO;
}

/* Without it whoever does not read is given memory without end: a kernel that cannot be used. */
static int is_counted(struct pair *pair)
{
	__u32 memory[SK_MEMINFO_VARS] = {};
	socklen_t length = sizeof(memory);
	int err = say(pair->from);

	if (err)
		return err;
	if (getsockopt(pair->to, SOL_SOCKET, SO_MEMINFO, memory, &length) < 0)
		return -errno;
	return memory[SK_MEMINFO_RMEM_ALLOC] >= MESSAGE ? 1 : -ENOBUFS;
}

/* ---- the questions: 1 it works, 0 it does not, -errno ---- */

/* Redirected bytes are there as soon as send() is back. */
static int ask_fionread(struct pair *pair)
{
	int queued = 0, err = say(pair->from);

	if (err)
		return err;
	return ioctl(pair->to, FIONREAD, &queued) < 0 ? -errno : queued == MESSAGE;
}

static int ask_splice(struct pair *pair)
{
	int read_end __cleanup_fd = -1, write_end __cleanup_fd = -1, ends[2];
	int err = say(pair->from);

	if (err)
		return err;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	read_end = ends[0];
	write_end = ends[1];
	/* SPLICE_F_NONBLOCK is the pipe's; the socket's own flag says whether it waits. */
	if (fcntl(pair->to, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return splice(pair->to, NULL, write_end, NULL, MESSAGE, SPLICE_F_NONBLOCK) == MESSAGE;
}

/* As /proc says: in a call that waits. */
static bool is_asleep(pid_t pid)
{
	char path[64], line[512];
	const char *end;
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	length = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (length <= 0)
		return false;
	line[length] = '\0';
	end = strrchr(line, ')');
	return end && strncmp(end, ") S", 3) == 0;
}

/* Until it does; not for ever. */
static void await_sleep(pid_t pid)
{
	for (int i = 0; i < PATIENCE_MS && !is_asleep(pid); i++)
		usleep(1000);
}

/* The rest comes by the deadline only, if it does not wait for it. */
static int ask_waitall(struct pair *pair)
{
	char buffer[2 * MESSAGE];
	int err = say(pair->from), status;
	pid_t parent = getpid(), child;
	ssize_t received;

	if (err)
		return err;
	child = fork();
	if (child < 0)
		return -errno;
	if (child == 0) {
		await_sleep(parent); /* in recv(), or done with it: the rest comes afterwards */
		_exit(say(pair->from) ? 1 : 0);
	}
	received = recv(pair->to, buffer, sizeof(buffer), MSG_WAITALL);
	waitpid(child, &status, 0);
	return received == sizeof(buffer);
}

/* The reset has to come while recv() waits: the other end is closed by a child that watches. */
static int ask_reset(struct pair *pair)
{
	pid_t parent = getpid(), child = fork();
	int status, error = 0;
	char byte;

	if (child < 0)
		return -errno;
	if (child == 0) {
		close(pair->to);
		await_sleep(parent);
		setsockopt(pair->from, SOL_SOCKET, SO_LINGER, &reset_on_close,
			   sizeof(reset_on_close));
		close(pair->from);
		_exit(0);
	}
	close(pair->from);
	pair->from = -1;
	if (recv(pair->to, &byte, 1, 0) < 0)
		error = errno;
	waitpid(child, &status, 0);
	return error == ECONNRESET;
}

/* TCP answers a close with bytes unread by a reset: whoever sent them must learn it. */
static int ask_unread(struct pair *pair)
{
	int err = say(pair->from);
	char byte;

	if (err)
		return err;
	close(pair->to);
	pair->to = -1;
	return recv(pair->from, &byte, 1, 0) < 0 && errno == ECONNRESET;
}

static const struct {
	unsigned defect;
	const char *name;
	int (*ask)(struct pair *pair);
} questions[] = {
	{ KMTLS_ACCEL_NO_SPLICE, "splice", ask_splice },
	{ KMTLS_ACCEL_NO_FIONREAD, "FIONREAD", ask_fionread },
	{ KMTLS_ACCEL_NO_WAITALL, "MSG_WAITALL", ask_waitall },
	{ KMTLS_ACCEL_NO_RESET, "reset", ask_reset },
	{ KMTLS_ACCEL_NO_UNREAD, "close", ask_unread },
};
#define QUESTIONS (sizeof(questions) / sizeof(questions[0]))

/* On a connection of its own. */
static int ask(int listener, int map, int (*question)(struct pair *pair))
{
	struct pair pair = { -1, -1 };
	int answer = connect_pair(listener, &pair);

	if (!answer)
		answer = redirect(map, &pair);
	if (!answer)
		answer = question(&pair);
	close_pair(&pair);
	return answer;
}

int kmtls_accel_probe(void)
{
	const struct sockaddr_in loopback = { .sin_family = AF_INET,
					      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener __cleanup_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int map __cleanup_fd = -1;
	unsigned defects = 0;
	int err;

	if (listener < 0 ||
	    bind(listener, (const struct sockaddr *)&loopback, sizeof(loopback)) < 0 ||
	    listen(listener, 1) < 0)
		return -errno;
	err = open_map(&map);
	if (!err)
		err = ask(listener, map, is_counted);
	for (size_t i = 0; i < QUESTIONS && err >= 0; i++) {
		err = ask(listener, map, questions[i].ask);
		if (err == 0)
			defects |= questions[i].defect;
	}
	return err < 0 ? err : (int)defects;
}

const char *kmtls_accel_defects(unsigned defects, char ret_text[KMTLS_ACCEL_TEXT])
{
	size_t length = 0;

	ret_text[0] = '\0';
	for (size_t i = 0; i < QUESTIONS; i++)
		if (defects & questions[i].defect)
			length += snprintf(ret_text + length, KMTLS_ACCEL_TEXT - length, "%s%s",
					   length ? ", " : "", questions[i].name);
	return ret_text;
}
