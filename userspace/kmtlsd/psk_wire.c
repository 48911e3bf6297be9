/* SPDX-License-Identifier: Apache-2.0 */
/* psk_wire.c - see psk_wire.h. Section numbers are those of RFC 8446. */
#include "psk_wire.h"

#include <string.h>

#include "tls_bytes.h"

#define VERSION_LEGACY 0x0303
#define VERSION_TLS13 0x0304
#define MODE_PSK_KE 0
#define EXTENSIONS_MAX 32 /* of a ClientHello; more are none of ours */

enum extension {
	EXTENSION_ALPN = 16,
	EXTENSION_PRE_SHARED_KEY = 41,
	EXTENSION_EARLY_DATA = 42,
	EXTENSION_SUPPORTED_VERSIONS = 43,
	EXTENSION_PSK_MODES = 45,
};

/* Section 4.1.3: a ServerHello with this random is a HelloRetryRequest. */
static const unsigned char retry_random[KMTLS_PSK_RANDOM] = {
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
	0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
	0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
};

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

/* What is behind the header, if it is one message of that type and nothing else. */
static bool open_message(const unsigned char *message, size_t length, enum kmtls_psk_message type,
			 struct kmtls_tls_bytes *ret_body)
{
	if (length < KMTLS_PSK_MESSAGE_HEADER || length > KMTLS_PSK_MESSAGE_MAX ||
	    message[0] != type || kmtls_psk_message_size(message, length) != length)
		return false;
	ret_body->at = message + KMTLS_PSK_MESSAGE_HEADER;
	ret_body->left = length - KMTLS_PSK_MESSAGE_HEADER;
	return true;
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

/* ---- reading ---- */

/* A vector of numbers of two bytes or one, with its length in lead bytes, holds value. */
static bool lists(struct kmtls_tls_bytes list, unsigned lead, unsigned width, size_t value)
{
	struct kmtls_tls_bytes numbers;
	bool found = false;

	if (!kmtls_tls_take_vector(&list, lead, &numbers) || list.left || !numbers.left ||
	    numbers.left % width)
		return false;
	for (size_t i = 0; i < numbers.left; i += width)
		found = found || kmtls_tls_number(numbers.at + i, width) == value;
	return found;
}

/* Names with a length byte in front, none of them empty (RFC 7301 section 3.1). */
static bool read_alpn(struct kmtls_tls_bytes extension, struct kmtls_tls_bytes *ret_list)
{
	struct kmtls_tls_bytes list, name;

	if (!kmtls_tls_take_vector(&extension, 2, &list) || extension.left || !list.left)
		return false;
	*ret_list = list;
	while (list.left)
		if (!kmtls_tls_take_vector(&list, 1, &name) || !name.left)
			return false;
	return true;
}

/* Section 4.2.11: one identity, one binder. */
static const char *read_offer(struct kmtls_tls_bytes extension, const unsigned char *message,
			      struct kmtls_psk_client_hello *hello)
{
	struct kmtls_tls_bytes identities, identity, age, binders, binder;

	if (!kmtls_tls_take_vector(&extension, 2, &identities) ||
	    !kmtls_tls_take_vector(&identities, 2, &identity) || !identity.left ||
	    !kmtls_tls_take(&identities, 4, &age))
		return "malformed PSK identity";
	if (identities.left)
		return "more than one PSK";
	if (identity.left > KMTLS_PSK_IDENTITY_MAX)
		return "PSK identity too long";
	hello->truncated = (size_t)(extension.at - message);
	if (!kmtls_tls_take_vector(&extension, 2, &binders) || extension.left ||
	    !kmtls_tls_take_vector(&binders, 1, &binder) || binders.left)
		return "malformed PSK binder";
	if (binder.left != KMTLS_PSK_HASH)
		return "PSK binder of another hash";
	hello->identity = identity.at;
	hello->identity_length = identity.left;
	hello->binder = binder.at;
	return NULL;
}

/* What the extensions of a ClientHello have said so far. */
struct said {
	size_t types[EXTENSIONS_MAX];
	unsigned count;
	bool tls13, psk_ke;
};

static bool is_repeated(struct said *said, size_t type)
{
	for (unsigned i = 0; i < said->count; i++)
		if (said->types[i] == type)
			return true;
	said->types[said->count++] = type;
	return false;
}

static const char *read_client_extension(struct said *said, size_t type,
					 struct kmtls_tls_bytes extension,
					 const unsigned char *message,
					 struct kmtls_psk_client_hello *hello)
{
	struct kmtls_tls_bytes alpn;

	if (said->count == EXTENSIONS_MAX)
		return "too many extensions";
	if (is_repeated(said, type))
		return "extension repeated";
	switch (type) {
	case EXTENSION_EARLY_DATA:
		return "early data";
	case EXTENSION_SUPPORTED_VERSIONS:
		said->tls13 = lists(extension, 1, 2, VERSION_TLS13);
		return said->tls13 ? NULL : "TLS 1.3 not offered";
	case EXTENSION_PSK_MODES:
		said->psk_ke = lists(extension, 1, 1, MODE_PSK_KE);
		hello->nothing_else = extension.left == 2;
		return said->psk_ke ? NULL : "psk_ke not offered";
	case EXTENSION_ALPN:
		if (!read_alpn(extension, &alpn))
			return "malformed ALPN";
		hello->alpn = alpn.at;
		hello->alpn_length = alpn.left;
		return NULL;
	case EXTENSION_PRE_SHARED_KEY:
		return read_offer(extension, message, hello);
	}
	return NULL; /* section 4.2: unknown ones are ignored */
}

static const char *read_client_extensions(struct kmtls_tls_bytes extensions,
					  const unsigned char *message,
					  struct kmtls_psk_client_hello *hello)
{
	struct kmtls_tls_bytes extension, type;
	struct said said = {};
	const char *why = NULL;

	while (extensions.left && !why) {
		if (hello->identity)
			return "PSK is not the last extension";
		if (!kmtls_tls_take(&extensions, 2, &type) ||
		    !kmtls_tls_take_vector(&extensions, 2, &extension))
			return "malformed extension";
		why = read_client_extension(&said, kmtls_tls_number(type.at, 2), extension, message,
					    hello);
	}
	if (why)
		return why;
	if (!said.tls13)
		return "TLS 1.3 not offered";
	if (!hello->identity)
		return "no PSK offered";
	return said.psk_ke ? NULL : "psk_ke not offered";
}

const char *kmtls_psk_read_client_hello(const unsigned char *message, size_t length,
					struct kmtls_psk_client_hello *ret_hello)
{
	struct kmtls_tls_bytes body, part, session_id, extensions;
	struct kmtls_psk_client_hello hello = {};
	const unsigned char *suites;
	const char *why;

	if (!open_message(message, length, KMTLS_PSK_CLIENT_HELLO, &body))
		return "no ClientHello";
	if (!kmtls_tls_take(&body, 2, &part) || kmtls_tls_number(part.at, 2) != VERSION_LEGACY)
		return "legacy version";
	if (!kmtls_tls_take(&body, KMTLS_PSK_RANDOM, &part) ||
	    !kmtls_tls_take_vector(&body, 1, &session_id) ||
	    session_id.left > KMTLS_PSK_SESSION_ID_MAX)
		return "malformed session ID";
	hello.session_id = session_id.at;
	hello.session_id_length = session_id.left;
	suites = body.at;
	if (!kmtls_tls_take_vector(&body, 2, &part))
		return "malformed cipher suites";
	if (!lists((struct kmtls_tls_bytes){ suites, 2 + part.left }, 2, 2, KMTLS_PSK_CIPHER))
		return "TLS_AES_128_GCM_SHA256 not offered";
	if (!kmtls_tls_take_vector(&body, 1, &part) || part.left != 1 || part.at[0] != 0)
		return "compression";
	if (!kmtls_tls_take_vector(&body, 2, &extensions) || body.left)
		return "malformed extensions";
	why = read_client_extensions(extensions, message, &hello);
	if (!why)
		*ret_hello = hello;
	return why;
}

/* Section 4.1.3: supported_versions and pre_shared_key, and nothing we did not ask for. */
static const char *read_server_extensions(struct kmtls_tls_bytes extensions)
{
	bool tls13 = false, psk = false;
	struct kmtls_tls_bytes extension, part;

	while (extensions.left) {
		if (!kmtls_tls_take(&extensions, 2, &part) ||
		    !kmtls_tls_take_vector(&extensions, 2, &extension))
			return "malformed extension";
		switch (kmtls_tls_number(part.at, 2)) {
		case EXTENSION_SUPPORTED_VERSIONS:
			if (tls13)
				return "extension repeated";
			tls13 = extension.left == 2 &&
				kmtls_tls_number(extension.at, 2) == VERSION_TLS13;
			if (!tls13)
				return "TLS 1.3 not selected";
			break;
		case EXTENSION_PRE_SHARED_KEY:
			if (psk)
				return "extension repeated";
			psk = extension.left == 2 && kmtls_tls_number(extension.at, 2) == 0;
			if (!psk)
				return "another PSK selected";
			break;
		default:
			return "extension that was not asked for";
		}
	}
	if (!tls13)
		return "TLS 1.3 not selected";
	return psk ? NULL : "PSK not selected";
}

const char *kmtls_psk_read_server_hello(const unsigned char *message, size_t length)
{
	struct kmtls_tls_bytes body, part, extensions;

	if (!open_message(message, length, KMTLS_PSK_SERVER_HELLO, &body))
		return "no ServerHello";
	if (!kmtls_tls_take(&body, 2, &part) || kmtls_tls_number(part.at, 2) != VERSION_LEGACY)
		return "legacy version";
	if (!kmtls_tls_take(&body, KMTLS_PSK_RANDOM, &part))
		return "malformed random";
	if (!memcmp(part.at, retry_random, sizeof(retry_random)))
		return "HelloRetryRequest";
	if (!kmtls_tls_take_vector(&body, 1, &part) || part.left)
		return "session ID that is not ours";
	if (!kmtls_tls_take(&body, 2, &part) || kmtls_tls_number(part.at, 2) != KMTLS_PSK_CIPHER)
		return "cipher suite that was not offered";
	if (!kmtls_tls_take(&body, 1, &part) || part.at[0] != 0)
		return "compression";
	if (!kmtls_tls_take_vector(&body, 2, &extensions) || body.left)
		return "malformed extensions";
	return read_server_extensions(extensions);
}

/* Is name, with its length byte in front, one of list? */
static bool is_offered(const unsigned char *list, size_t length, const unsigned char *name)
{
	for (size_t i = 0; i < length && i + list[i] < length; i += 1 + (size_t)list[i])
		if (list[i] == name[0] && !memcmp(list + i, name, 1 + (size_t)name[0]))
			return true;
	return false;
}

const char *kmtls_psk_read_encrypted_extensions(const unsigned char *message, size_t length,
						const unsigned char *offered, size_t offered_length,
						const unsigned char **ret_alpn)
{
	struct kmtls_tls_bytes body, extensions, type, extension, list;
	const unsigned char *alpn = NULL;

	if (!open_message(message, length, KMTLS_PSK_ENCRYPTED_EXTENSIONS, &body))
		return "no EncryptedExtensions";
	if (!kmtls_tls_take_vector(&body, 2, &extensions) || body.left)
		return "malformed extensions";
	if (extensions.left) {
		if (!kmtls_tls_take(&extensions, 2, &type) ||
		    !kmtls_tls_take_vector(&extensions, 2, &extension))
			return "malformed extension";
		if (extensions.left || kmtls_tls_number(type.at, 2) != EXTENSION_ALPN || !offered)
			return "extension that was not asked for";
		if (!read_alpn(extension, &list) || list.left != 1 + (size_t)list.at[0])
			return "malformed ALPN";
		alpn = list.at;
		if (!is_offered(offered, offered_length, alpn))
			return "ALPN that was not offered";
	}
	*ret_alpn = alpn;
	return NULL;
}

const char *kmtls_psk_read_finished(const unsigned char *message, size_t length,
				    const unsigned char **ret_verify_data)
{
	struct kmtls_tls_bytes body;

	if (!open_message(message, length, KMTLS_PSK_MESSAGE_FINISHED, &body) ||
	    body.left != KMTLS_PSK_HASH)
		return "no Finished";
	*ret_verify_data = body.at;
	return NULL;
}

const char *kmtls_psk_read_ticket(const unsigned char *message, size_t length)
{
	struct kmtls_tls_bytes body, part;

	if (!open_message(message, length, KMTLS_PSK_NEW_SESSION_TICKET, &body) ||
	    !kmtls_tls_take(&body, 8, &part) || /* ticket_lifetime, ticket_age_add */
	    !kmtls_tls_take_vector(&body, 1, &part) || /* nonce */
	    !kmtls_tls_take_vector(&body, 2, &part) || !part.left || /* ticket */
	    !kmtls_tls_take_vector(&body, 2, &part) || body.left) /* extensions */
		return "no session ticket";
	return NULL;
}
