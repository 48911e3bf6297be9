/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_messages.c - what reaches an event loop other than through a socket: messages from other
 * loops, and its own answers that are due once more. See loop.h.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handshake.h"
#include "inbound.h"
#include "loop.h"
#include "outbound.h"
#include "relay.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define ANSWER_AGAIN_MS 5

/* ---- answers that are sent twice ---- */

void kmtls_loop_answer_again(struct kmtls_loop *loop, struct kmtls_pod *pod, enum kmtls_inject kind,
			     const __u8 *packet, __u32 length)
{
	struct kmtls_answer *answer;

	if (loop->answer_count == KMTLS_ANSWERS)
		return;
	answer = &loop->answers[(loop->answer_first + loop->answer_count++) % KMTLS_ANSWERS];
	answer->due = kmtls_loop_now_ms() + ANSWER_AGAIN_MS;
	answer->pod = pod;
	atomic_fetch_add(&pod->references, 1);
	answer->kind = kind;
	answer->length = length;
	memcpy(answer->packet, packet, length);
}

static void pop_answer(struct kmtls_loop *loop)
{
	kmtls_pod_put(loop->answers[loop->answer_first].pod);
	loop->answer_first = (loop->answer_first + 1) % KMTLS_ANSWERS;
	loop->answer_count--;
}

int kmtls_loop_send_answers(struct kmtls_loop *loop)
{
	while (loop->answer_count) {
		struct kmtls_answer *answer = &loop->answers[loop->answer_first];
		__u64 now = kmtls_loop_now_ms();

		if (answer->due > now)
			return answer->due - now;
		kmtls_injector_send(&answer->pod->injector, answer->kind, answer->packet,
				    answer->length);
		pop_answer(loop);
	}
	return -1;
}

/* ---- messages ---- */

static bool has_room(struct kmtls_loop *loop)
{
	size_t room = loop->message_room ? 2 * loop->message_room : 64;
	struct kmtls_loop_message *messages;

	if (loop->message_count < loop->message_room)
		return true;
	messages = realloc(loop->messages, room * sizeof(*messages));
	if (!messages)
		return false;
	loop->messages = messages;
	loop->message_room = room;
	return true;
}

void kmtls_loop_post(struct kmtls_loop *loop, const struct kmtls_loop_message *message)
{
	bool posted;

	pthread_mutex_lock(&loop->lock);
	posted = has_room(loop);
	if (posted)
		loop->messages[loop->message_count++] = *message;
	pthread_mutex_unlock(&loop->lock);
	if (posted)
		kmtls_loop_wake(loop);
	else if (message->fd >= 0)
		close(message->fd);
}

/* A connection without a handshake: as if it had just been accepted. */
static void begin(struct kmtls_loop *loop, int fd, bool inbound)
{
	socklen_t length = sizeof(__u64);
	struct kmtls_pod *pod = NULL;
	__u64 cookie;

	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) == 0)
		pod = kmtls_pods_find(loop->daemon->pods, cookie);
	if (pod && inbound)
		kmtls_inbound_accept(loop, pod, fd);
	else if (pod)
		kmtls_outbound_accept(loop, pod, fd);
	else
		close(fd);
	kmtls_pod_put(pod);
}

static void deliver(struct kmtls_loop *loop, const struct kmtls_loop_message *message)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, message->slot);
	__u32 state = kmtls_flow_state_of(flow, message->generation);

	if (message->type == KMTLS_MESSAGE_LEG || message->type == KMTLS_MESSAGE_WIRE)
		begin(loop, message->fd, message->type == KMTLS_MESSAGE_WIRE);
	else if (message->type == KMTLS_MESSAGE_RESUME)
		kmtls_handshake_resume(loop, message->slot);
	else if (message->type == KMTLS_MESSAGE_FORBIDDEN && state == KMTLS_FLOW_ESTABLISHED)
		kmtls_relay_reset(loop, message->slot, KMTLS_REASON_FORBIDDEN);
	else if (message->type == KMTLS_MESSAGE_FORBIDDEN)
		return; /* it has ended by itself */
	else if (state == KMTLS_FLOW_HANDSHAKE || state == KMTLS_FLOW_CONFIRMED)
		kmtls_handshake_message(kmtls_loop_private(loop, message->slot)->handshake,
					message);
	else if (message->fd >= 0)
		close(message->fd);
}

void kmtls_loop_deliver(struct kmtls_loop *loop)
{
	struct kmtls_loop_message *messages;
	size_t count;

	/* The whole list at once: delivering one may post others. */
	pthread_mutex_lock(&loop->lock);
	messages = loop->messages;
	count = loop->message_count;
	loop->messages = NULL;
	loop->message_count = loop->message_room = 0;
	pthread_mutex_unlock(&loop->lock);
	for (size_t i = 0; i < count; i++)
		deliver(loop, &messages[i]);
	free(messages);
}

void kmtls_loop_drop_messages(struct kmtls_loop *loop)
{
	while (loop->answer_count)
		pop_answer(loop);
	free(loop->answers);
	for (size_t i = 0; i < loop->message_count; i++)
		if (loop->messages[i].fd >= 0)
			close(loop->messages[i].fd);
	free(loop->messages);
}
