/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_hello.c - see client_hello.h. TLS records (RFC 8446 section 5.1), the message in them
 * (4.1.2) and its extension for ALPN (RFC 7301 section 3.1). Stricter than need be nowhere: what
 * is taken for ours and is broken elsewhere, OpenSSL refuses; it never reaches an application.
 */
#include "client_hello.h"

#include <stdbool.h>
#include <string.h>

#include "tls.h"

#define RECORD_HEADER 5
#define RECORD_HANDSHAKE 22
#define RECORD_LENGTH_MAX 16384
#define MESSAGE_HEADER 4
#define MESSAGE_CLIENT_HELLO 1
#define EXTENSION_ALPN 16
#define RANDOM_SIZE 32
#define SESSION_ID_MAX 32

/* What is left of something of known length. */
struct bytes {
	const unsigned char *at;
	size_t left;
};

static bool take(struct bytes *from, size_t size, struct bytes *ret_part)
{
	if (from->left < size)
		return false;
	ret_part->at = from->at;
	ret_part->left = size;
	from->at += size;
	from->left -= size;
	return true;
}

static size_t number(const unsigned char *at, unsigned width)
{
	size_t value = 0;

	for (unsigned i = 0; i < width; i++)
		value = value << 8 | at[i];
	return value;
}

/* A part with its length, width bytes, in front. */
static bool take_vector(struct bytes *from, unsigned width, struct bytes *ret_part)
{
	struct bytes length;

	return take(from, width, &length) && take(from, number(length.at, width), ret_part);
}

static bool is_name(const struct bytes *name, const char *text)
{
	return name->left == strlen(text) && !memcmp(name->at, text, name->left);
}

/* The list is well-formed, and one of its names is ours. */
static bool offers_ours(struct bytes extension)
{
	struct bytes list, name;
	bool found = false;

	if (!take_vector(&extension, 2, &list) || extension.left)
		return false;
	while (list.left) {
		if (!take_vector(&list, 1, &name))
			return false;
		found = found || is_name(&name, KMTLS_ALPN) || is_name(&name, KMTLS_ALPN_REKEY);
	}
	return found;
}

static bool is_ours(struct bytes hello)
{
	struct bytes part, extensions, extension, type;
	bool seen = false, ours = false;

	if (!take(&hello, 2 + RANDOM_SIZE, &part) || /* legacy_version, random */
	    !take_vector(&hello, 1, &part) || part.left > SESSION_ID_MAX ||
	    !take_vector(&hello, 2, &part) || /* cipher_suites */
	    !take_vector(&hello, 1, &part) || /* legacy_compression_methods */
	    !take_vector(&hello, 2, &extensions) || hello.left)
		return false;
	while (extensions.left) {
		if (!take(&extensions, 2, &type) || !take_vector(&extensions, 2, &extension))
			return false;
		if (number(type.at, 2) != EXTENSION_ALPN)
			continue;
		if (seen) /* each type once */
			return false;
		seen = true;
		ours = offers_ours(extension);
	}
	return ours;
}

/* Whether the header, or as much of it as is there, is that of a record with a part of a handshake. */
static bool is_record(const unsigned char *header, size_t length)
{
	return (length < 1 || header[0] == RECORD_HANDSHAKE) && (length < 2 || header[1] == 3) &&
	       (length < RECORD_HEADER ||
		(number(header + 3, 2) > 0 && number(header + 3, 2) <= RECORD_LENGTH_MAX));
}

/* Whether the message, or as much of it as is there, is a ClientHello of a length we look at. */
static bool is_hello(const unsigned char *message, size_t length)
{
	return (length < 1 || message[0] == MESSAGE_CLIENT_HELLO) &&
	       (length < MESSAGE_HEADER ||
		number(message + 1, 3) <= KMTLS_CLIENT_HELLO_MAX - RECORD_HEADER - MESSAGE_HEADER);
}

enum kmtls_client_hello kmtls_client_hello_look(const unsigned char *bytes, size_t length)
{
	unsigned char message[KMTLS_CLIENT_HELLO_MAX];
	size_t at = 0, size = 0, whole;

	if (length > KMTLS_CLIENT_HELLO_MAX)
		length = KMTLS_CLIENT_HELLO_MAX;
	while (at < length) {
		size_t room = length - at, part;

		if (!is_record(bytes + at, room))
			return KMTLS_CLIENT_HELLO_OTHER;
		if (room < RECORD_HEADER)
			break;
		part = number(bytes + at + 3, 2);
		at += RECORD_HEADER;
		if (part > length - at)
			part = length - at;
		memcpy(message + size, bytes + at, part);
		size += part;
		at += part;
		if (!is_hello(message, size))
			return KMTLS_CLIENT_HELLO_OTHER;
		whole = size < MESSAGE_HEADER ? 0 : MESSAGE_HEADER + number(message + 1, 3);
		if (whole && size >= whole)
			return is_ours((struct bytes){ message + MESSAGE_HEADER,
						       whole - MESSAGE_HEADER })
				       ? KMTLS_CLIENT_HELLO_OURS
				       : KMTLS_CLIENT_HELLO_OTHER;
	}
	return length < KMTLS_CLIENT_HELLO_MAX ? KMTLS_CLIENT_HELLO_PARTIAL
					       : KMTLS_CLIENT_HELLO_OTHER;
}
