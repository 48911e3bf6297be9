/* SPDX-License-Identifier: Apache-2.0 */
/* psk_io.c - what a handshake of psk_handshake.h sends and receives: bytes, records, messages. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "psk_parts.h"

static ssize_t receive_now(int fd, void *bytes, size_t size)
{
	return recv(fd, bytes, size, MSG_DONTWAIT);
}

static ssize_t send_now(int fd, const void *bytes, size_t size)
{
	return send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

const struct kmtls_psk_transport kmtls_psk_socket_transport = { receive_now, send_now };

enum kmtls_psk_step kmtls_psk_fail(struct kmtls_psk_handshake *psk, enum kmtls_reason reason,
				   const char *why)
{
	psk->state = STATE_FAILED;
	psk->reason = reason;
	psk->why = why;
	return KMTLS_PSK_FAILED;
}

enum kmtls_psk_step kmtls_psk_fail_protocol(struct kmtls_psk_handshake *psk, const char *why)
{
	return kmtls_psk_fail(psk, KMTLS_REASON_HANDSHAKE_FAILED, why);
}

/* DONE: all of it has gone out. */
enum kmtls_psk_step kmtls_psk_flush(struct kmtls_psk_handshake *psk, int fd)
{
	ssize_t sent;

	while (psk->out_sent < psk->out_length) {
		sent = psk->parameters.transport->send(fd, psk->out + psk->out_sent,
						       psk->out_length - psk->out_sent);
		if (sent < 0 && (errno == EAGAIN || errno == EINTR))
			return KMTLS_PSK_AGAIN;
		if (sent < 0)
			return kmtls_psk_fail(psk, KMTLS_REASON_HANDSHAKE_RESET, strerror(errno));
		psk->out_sent += (size_t)sent;
		psk->spoken = true;
	}
	psk->out_length = psk->out_sent = 0;
	return KMTLS_PSK_DONE;
}

/* ---- what comes ---- */

/* Takes at most so many bytes in all. DONE: some more have come. */
enum kmtls_psk_step kmtls_psk_receive(struct kmtls_psk_handshake *psk, int fd, size_t most)
{
	ssize_t length = psk->parameters.transport->receive(fd, psk->in + psk->in_length,
							    most - psk->in_length);

	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return KMTLS_PSK_AGAIN;
	if (length < 0)
		return kmtls_psk_fail(psk, KMTLS_REASON_HANDSHAKE_RESET, strerror(errno));
	if (length == 0)
		return kmtls_psk_fail(psk, KMTLS_REASON_HANDSHAKE_RESET, "the connection ended");
	psk->in_length += (size_t)length;
	return KMTLS_PSK_DONE;
}

void kmtls_psk_drop_record(struct kmtls_psk_handshake *psk, size_t size)
{
	psk->in_length -= size;
	memmove(psk->in, psk->in + size, psk->in_length);
}

/* Section 5: one, of exactly this byte, before the peer's Finished, is dropped. */
bool kmtls_psk_is_change(struct kmtls_psk_handshake *psk, size_t size)
{
	if (psk->in[0] != KMTLS_PSK_RECORD_CHANGE_CIPHER_SPEC || psk->changed ||
	    size != KMTLS_PSK_RECORD_HEADER + 1 || psk->in[KMTLS_PSK_RECORD_HEADER] != 1)
		return false;
	psk->changed = true;
	return true;
}

bool kmtls_psk_is_alert(const struct kmtls_psk_handshake *psk, size_t size)
{
	return psk->in[0] == KMTLS_PSK_RECORD_ALERT && size == KMTLS_PSK_RECORD_HEADER + 2;
}

/* Decrypts the record behind the transcript. false: FAILED. */
bool kmtls_psk_open_record(struct kmtls_psk_handshake *psk, size_t size)
{
	unsigned char *content = psk->transcript + psk->transcript_length + psk->received_length;
	__u8 type;
	int length;

	if (content + size > psk->transcript + sizeof(psk->transcript)) {
		kmtls_psk_fail_protocol(psk, "messages too long");
		return false;
	}
	length = kmtls_psk_open(&psk->crypto, &psk->rx_key, psk->rx_sequence++, psk->in, size,
				&type, content);
	if (length < 0) {
		kmtls_psk_fail_protocol(psk, "record that cannot be decrypted");
	} else if (type == KMTLS_PSK_RECORD_ALERT && length == 2) {
		psk->alert = content[1];
		kmtls_psk_fail(psk, KMTLS_REASON_REFUSED_BY_PEER, "alert");
	} else if (type == KMTLS_PSK_RECORD_DATA) {
		kmtls_psk_fail(psk, KMTLS_REASON_EARLY_DATA, NULL);
	} else if (type != KMTLS_PSK_RECORD_HANDSHAKE || !length) {
		kmtls_psk_fail_protocol(psk, "record of another type");
	} else {
		psk->received_length += (size_t)length;
		return true;
	}
	return false;
}

/* The next message that is whole; 0: none. It is part of the transcript once it is taken. */
size_t kmtls_psk_next_message(const struct kmtls_psk_handshake *psk,
			      const unsigned char **ret_message)
{
	*ret_message = psk->transcript + psk->transcript_length;
	return kmtls_psk_message_size(*ret_message, psk->received_length);
}

void kmtls_psk_take_message(struct kmtls_psk_handshake *psk, size_t size)
{
	psk->transcript_length += size;
	psk->received_length -= size;
}
