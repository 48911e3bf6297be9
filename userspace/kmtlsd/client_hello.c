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
#include "tls_bytes.h"

#define RECORD_HEADER 5
#define RECORD_HANDSHAKE 22
#define RECORD_LENGTH_MAX 16384
#define MESSAGE_HEADER 4
#define MESSAGE_CLIENT_HELLO 1
#define EXTENSION_ALPN 16
#define RANDOM_SIZE 32
#define SESSION_ID_MAX 32

static bool is_name(const struct kmtls_tls_bytes *name, const char *text)
{
	return name->left == strlen(text) && !memcmp(name->at, text, name->left);
}

/* The list is well-formed, and one of its names is ours. */
static bool offers_ours(struct kmtls_tls_bytes extension)
{
	struct kmtls_tls_bytes list, name;
	bool found = false;

	if (!kmtls_tls_take_vector(&extension, 2, &list) || extension.left)
		return false;
	while (list.left) {
		if (!kmtls_tls_take_vector(&list, 1, &name))
			return false;
		found = found || is_name(&name, KMTLS_ALPN) || is_name(&name, KMTLS_ALPN_REKEY);
	}
	return found;
}

static bool is_ours(struct kmtls_tls_bytes hello)
{
	struct kmtls_tls_bytes part, extensions, extension, type;
	bool seen = false, ours = false;

	if (!kmtls_tls_take(&hello, 2 + RANDOM_SIZE, &part) || /* legacy_version, random */
	    !kmtls_tls_take_vector(&hello, 1, &part) || part.left > SESSION_ID_MAX ||
	    !kmtls_tls_take_vector(&hello, 2, &part) || /* cipher_suites */
	    !kmtls_tls_take_vector(&hello, 1, &part) || /* legacy_compression_methods */
	    !kmtls_tls_take_vector(&hello, 2, &extensions) || hello.left)
		return false;
	while (extensions.left) {
		if (!kmtls_tls_take(&extensions, 2, &type) ||
		    !kmtls_tls_take_vector(&extensions, 2, &extension))
			return false;
		if (kmtls_tls_number(type.at, 2) != EXTENSION_ALPN)
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
	       (length < RECORD_HEADER || (kmtls_tls_number(header + 3, 2) > 0 &&
					   kmtls_tls_number(header + 3, 2) <= RECORD_LENGTH_MAX));
}

/* Whether the message, or as much of it as is there, is a ClientHello of a length we look at. */
static bool is_hello(const unsigned char *message, size_t length)
{
	return (length < 1 || message[0] == MESSAGE_CLIENT_HELLO) &&
	       (length < MESSAGE_HEADER ||
		kmtls_tls_number(message + 1, 3) <=
			KMTLS_CLIENT_HELLO_MAX - RECORD_HEADER - MESSAGE_HEADER);
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
		part = kmtls_tls_number(bytes + at + 3, 2);
		at += RECORD_HEADER;
		if (part > length - at)
			part = length - at;
		memcpy(message + size, bytes + at, part);
		size += part;
		at += part;
		if (!is_hello(message, size))
			return KMTLS_CLIENT_HELLO_OTHER;
		whole = size < MESSAGE_HEADER ? 0
					      : MESSAGE_HEADER + kmtls_tls_number(message + 1, 3);
		if (whole && size >= whole)
			return is_ours((struct kmtls_tls_bytes){ message + MESSAGE_HEADER,
								 whole - MESSAGE_HEADER })
				       ? KMTLS_CLIENT_HELLO_OURS
				       : KMTLS_CLIENT_HELLO_OTHER;
	}
	return length < KMTLS_CLIENT_HELLO_MAX ? KMTLS_CLIENT_HELLO_PARTIAL
					       : KMTLS_CLIENT_HELLO_OTHER;
}
