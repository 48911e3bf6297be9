/* SPDX-License-Identifier: Apache-2.0 */
/* psk_wire.c - records and headers of psk_wire.h, and writing. Section numbers are those of RFC 8446. */
#include "psk_wire.h"

#include <string.h>

#include "psk_parts.h"
#include "tls_bytes.h"

/* ---- records and messages ---- */

int kmtls_psk_record_size(const unsigned char *bytes, size_t length)
{
	size_t size;

	if ((length > 0 && (bytes[0] < KMTLS_PSK_RECORD_CHANGE_CIPHER_SPEC ||
			    bytes[0] > KMTLS_PSK_RECORD_DATA)) ||
	    (length > 1 && bytes[1] != 3))
		return -1;
	if (length < KMTLS_PSK_RECORD_HEADER)
		return 0;
	size = KMTLS_PSK_RECORD_HEADER + kmtls_tls_number(bytes + 3, 2);
	if (size == KMTLS_PSK_RECORD_HEADER || size > KMTLS_PSK_RECORD_MAX)
		return -1;
	return length < size ? 0 : (int)size;
}

void kmtls_psk_write_record(unsigned char ret_header[KMTLS_PSK_RECORD_HEADER], __u8 type,
			    size_t length)
{
	ret_header[0] = type;
	ret_header[1] = VERSION_LEGACY >> 8;
	ret_header[2] = VERSION_LEGACY & 0xff;
	ret_header[3] = length >> 8;
	ret_header[4] = length & 0xff;
}

size_t kmtls_psk_message_size(const unsigned char *bytes, size_t length)
{
	size_t size;

	if (length < KMTLS_PSK_MESSAGE_HEADER)
		return 0;
	size = KMTLS_PSK_MESSAGE_HEADER + kmtls_tls_number(bytes + 1, 3);
	return size > KMTLS_PSK_MESSAGE_MAX || size > length ? 0 : size;
}

/* ---- writing ---- */

struct writer {
	unsigned char *bytes;
	size_t length;
	bool full;
};

static void add(struct writer *writer, const void *bytes, size_t size)
{
	if (writer->length + size > KMTLS_PSK_MESSAGE_MAX) {
		writer->full = true;
		return;
	}
	if (size)
		memcpy(writer->bytes + writer->length, bytes, size);
	writer->length += size;
}

static void add_number(struct writer *writer, unsigned width, size_t value)
{
	unsigned char bytes[4];

	for (unsigned i = 0; i < width; i++)
		bytes[i] = value >> 8 * (width - 1 - i);
	add(writer, bytes, width);
}

/* A length of that width is to stand here; close_length() knows it. */
static size_t open_length(struct writer *writer, unsigned width)
{
	add_number(writer, width, 0);
	return writer->length;
}

static void close_length(struct writer *writer, unsigned width, size_t opened)
{
	size_t value = writer->length - opened;

	for (unsigned i = 0; !writer->full && i < width; i++)
		writer->bytes[opened - width + i] = value >> 8 * (width - 1 - i);
}

static size_t open_extension(struct writer *writer, enum extension type)
{
	add_number(writer, 2, type);
	return open_length(writer, 2);
}

static size_t begin_message(struct writer *writer, enum kmtls_psk_message type)
{
	add_number(writer, 1, type);
	return open_length(writer, 3);
}

static size_t end_message(struct writer *writer, size_t opened)
{
	close_length(writer, 3, opened);
	return writer->full ? 0 : writer->length;
}

static void add_alpn(struct writer *writer, const unsigned char *list, size_t length)
{
	size_t extension = open_extension(writer, EXTENSION_ALPN);

	add_number(writer, 2, length);
	add(writer, list, length);
	close_length(writer, 2, extension);
}

/* Section 4.2.11. The age of an external PSK is 0. */
static void add_offer(struct writer *writer, const struct kmtls_psk_client_hello *hello,
		      size_t *ret_truncated)
{
	static const unsigned char no_binder[KMTLS_PSK_HASH];
	size_t extension = open_extension(writer, EXTENSION_PRE_SHARED_KEY);

	add_number(writer, 2, 2 + hello->identity_length + 4);
	add_number(writer, 2, hello->identity_length);
	add(writer, hello->identity, hello->identity_length);
	add_number(writer, 4, 0);
	*ret_truncated = writer->length;
	add_number(writer, 2, 1 + KMTLS_PSK_HASH);
	add_number(writer, 1, KMTLS_PSK_HASH);
	add(writer, no_binder, KMTLS_PSK_HASH);
	close_length(writer, 2, extension);
}

size_t kmtls_psk_write_client_hello(const struct kmtls_psk_client_hello *hello,
				    const unsigned char random[KMTLS_PSK_RANDOM],
				    unsigned char ret_message[KMTLS_PSK_MESSAGE_MAX],
				    size_t *ret_truncated)
{
	struct writer writer = { .bytes = ret_message };
	size_t message = begin_message(&writer, KMTLS_PSK_CLIENT_HELLO), extensions, extension;

	if (!hello->identity_length || hello->identity_length > KMTLS_PSK_IDENTITY_MAX)
		return 0;
	add_number(&writer, 2, VERSION_LEGACY);
	add(&writer, random, KMTLS_PSK_RANDOM);
	add_number(&writer, 1, 0); /* legacy_session_id */
	add_number(&writer, 2, 2);
	add_number(&writer, 2, KMTLS_PSK_CIPHER);
	add_number(&writer, 2, 0x0100); /* legacy_compression_methods: null */
	extensions = open_length(&writer, 2);
	extension = open_extension(&writer, EXTENSION_SUPPORTED_VERSIONS);
	add_number(&writer, 1, 2);
	add_number(&writer, 2, VERSION_TLS13);
	close_length(&writer, 2, extension);
	if (hello->alpn)
		add_alpn(&writer, hello->alpn, hello->alpn_length);
	extension = open_extension(&writer, EXTENSION_PSK_MODES);
	add_number(&writer, 1, 1);
	add_number(&writer, 1, MODE_PSK_KE);
	close_length(&writer, 2, extension);
	add_offer(&writer, hello, ret_truncated); /* the last one, as it must be */
	close_length(&writer, 2, extensions);
	return end_message(&writer, message);
}

size_t kmtls_psk_write_server_hello(const struct kmtls_psk_server_hello *hello,
				    unsigned char ret_message[KMTLS_PSK_MESSAGE_MAX])
{
	struct writer writer = { .bytes = ret_message };
	size_t message = begin_message(&writer, KMTLS_PSK_SERVER_HELLO), extensions;

	if (hello->session_id_length > KMTLS_PSK_SESSION_ID_MAX)
		return 0;
	add_number(&writer, 2, VERSION_LEGACY);
	add(&writer, hello->random, KMTLS_PSK_RANDOM);
	add_number(&writer, 1, hello->session_id_length);
	add(&writer, hello->session_id, hello->session_id_length);
	add_number(&writer, 2, KMTLS_PSK_CIPHER);
	add_number(&writer, 1, 0); /* legacy_compression_method */
	extensions = open_length(&writer, 2);
	add_number(&writer, 2, EXTENSION_SUPPORTED_VERSIONS);
	add_number(&writer, 2, 2);
	add_number(&writer, 2, VERSION_TLS13);
	add_number(&writer, 2, EXTENSION_PRE_SHARED_KEY);
	add_number(&writer, 2, 2);
	add_number(&writer, 2, 0); /* selected_identity: the only one */
	close_length(&writer, 2, extensions);
	return end_message(&writer, message);
}

size_t kmtls_psk_write_encrypted_extensions(const unsigned char *alpn,
					    unsigned char ret_message[KMTLS_PSK_MESSAGE_MAX])
{
	struct writer writer = { .bytes = ret_message };
	size_t message = begin_message(&writer, KMTLS_PSK_ENCRYPTED_EXTENSIONS);
	size_t extensions = open_length(&writer, 2);

	if (alpn)
		add_alpn(&writer, alpn, 1 + (size_t)alpn[0]);
	close_length(&writer, 2, extensions);
	return end_message(&writer, message);
}

size_t kmtls_psk_write_finished(const unsigned char verify_data[KMTLS_PSK_HASH],
				unsigned char ret_message[KMTLS_PSK_MESSAGE_MAX])
{
	struct writer writer = { .bytes = ret_message };
	size_t message = begin_message(&writer, KMTLS_PSK_MESSAGE_FINISHED);

	add(&writer, verify_data, KMTLS_PSK_HASH);
	return end_message(&writer, message);
}
