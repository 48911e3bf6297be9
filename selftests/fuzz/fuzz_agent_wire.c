/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_agent_wire.c - what an agent may send: any bytes into a gRPC client with two calls open. The
 * first byte says how the rest is cut into pieces and whether the server's SETTINGS come before it.
 * Messages that are handed on are no longer than may be, a call that was closed says nothing more, and
 * the connection either goes on or has a sentence.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "grpc.h"

struct heard {
	bool closed, cancelled;
	struct kmtls_grpc_call *call;
	size_t messages;
};

static int on_message(void *context, const uint8_t *bytes, size_t length)
{
	struct heard *heard = context;
	volatile uint8_t sum = 0;

	HOLDS(!heard->closed && !heard->cancelled);
	HOLDS(bytes && length <= KMTLS_GRPC_MESSAGE_MAX);
	for (size_t i = 0; i < length; i++)
		sum += bytes[i];
	/* Both ways to have enough of it. */
	if (++heard->messages == 3) {
		heard->cancelled = true;
		if (sum & 1)
			return -EINVAL;
		kmtls_grpc_cancel(heard->call);
	}
	return 0;
}

static void on_closed(void *context, unsigned code, const char *why)
{
	struct heard *heard = context;

	HOLDS(!heard->closed && !heard->cancelled);
	HOLDS(code <= KMTLS_GRPC_UNAUTHENTICATED && memchr(why, '\0', KMTLS_GRPC_WHY));
	heard->closed = true;
}

/* All that was sent is read, and what the client says is thrown away, or it would wait for room. */
static int step(struct kmtls_grpc *grpc, int fd)
{
	char why[KMTLS_GRPC_WHY] = "", buffer[16384];
	int err = kmtls_grpc_step(grpc, why);

	if (err)
		HOLDS(*why && memchr(why, '\0', sizeof(why)));
	while (recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
		;
	return err;
}

static void feed(struct kmtls_grpc *grpc, int fd, const uint8_t *data, size_t size)
{
	static const uint8_t settings[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0 };
	size_t piece = 1 + (data[0] & 0x7f);
	int err = step(grpc, fd);

	if (data[0] & 0x80)
		HOLDS(send(fd, settings, sizeof(settings), 0) == sizeof(settings));
	if (piece == 0x80)
		piece = size;
	for (size_t at = 1; !err && at < size; at += piece) {
		size_t count = size - at < piece ? size - at : piece;

		HOLDS(send(fd, data + at, count, 0) == (ssize_t)count);
		err = step(grpc, fd);
	}
	shutdown(fd, SHUT_WR);
	if (!err)
		HOLDS(step(grpc, fd) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct kmtls_grpc_options options = { .deadline = 10000, .ping = 100000 };
	static const struct kmtls_grpc_handler handler = { on_message, on_closed };
	struct heard heard[2] = { 0 };
	struct kmtls_grpc *grpc;
	int fds[2];

	if (!size)
		return 0;
	HOLDS(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
	HOLDS(!kmtls_grpc_open(fds[0], &options, &grpc));
	for (int i = 0; i < 2; i++)
		HOLDS(!kmtls_grpc_call(grpc, "/Service/Method", (const uint8_t *)"abc", 3 * i,
				       &handler, &heard[i], &heard[i].call));
	feed(grpc, fds[1], data, size);
	kmtls_grpc_close(grpc);
	close(fds[1]);
	return 0;
}
