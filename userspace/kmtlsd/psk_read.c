/* SPDX-License-Identifier: Apache-2.0 */
/* psk_read.c - the readers of psk_wire.h. Section numbers are those of RFC 8446. */
#include <string.h>

#include "psk_parts.h"
#include "psk_wire.h"
#include "tls_bytes.h"

#define EXTENSIONS_MAX 32 /* of a ClientHello; more are none of ours */

/* Section 4.1.3: a ServerHello with this random is a HelloRetryRequest. */
static const unsigned char retry_random[KMTLS_PSK_RANDOM] = {
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
	0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
	0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
};

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
