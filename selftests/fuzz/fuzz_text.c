/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_text.c - SPIFFE IDs and address prefixes as operators and peers write them: what is
 * accepted means one thing, and is written back as what it was.
 */
#include <string.h>

#include "address.h"
#include "fuzz.h"
#include "spiffe.h"

#define SCHEME "spiffe://"

static bool is_id_byte(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
	       (byte >= '0' && byte <= '9') || (byte && strchr("._-/", byte));
}

static void check_id(const char *text, size_t length, const struct kmtls_spiffe_id *id)
{
	HOLDS(id->text == text && id->length == length && length <= KMTLS_SPIFFE_ID_MAX);
	HOLDS(length > strlen(SCHEME) && !memcmp(text, SCHEME, strlen(SCHEME)));
	HOLDS(id->trust_domain_offset == strlen(SCHEME) && id->trust_domain_length);
	HOLDS(id->trust_domain_length <= 255);
	HOLDS(id->trust_domain_offset + id->trust_domain_length + id->path_length == length);
	for (size_t i = strlen(SCHEME); i < length; i++)
		HOLDS(is_id_byte(text[i]));
	if (id->path_length) {
		HOLDS(id->path_offset + id->path_length == length && text[id->path_offset] == '/');
		HOLDS(text[length - 1] != '/');
	}
}

static void check_prefix(const char *text)
{
	struct kmtls_peer_key key, again;
	char formatted[KMTLS_ENDPOINT_TEXT];

	if (kmtls_prefix_parse(text, &key))
		return;
	HOLDS(key.prefix_len <= 128);
	for (unsigned bit = key.prefix_len; bit < 128; bit++)
		HOLDS(!(key.address.bytes[bit / 8] & (0x80 >> bit % 8)));
	kmtls_prefix_format(&key, formatted, sizeof(formatted));
	HOLDS(kmtls_prefix_parse(formatted, &again) == 0);
	HOLDS(!memcmp(&key, &again, sizeof(key)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kmtls_spiffe_id id;
	const char *rule = NULL;
	char *text = malloc(size + 1);

	HOLDS(text);
	memcpy(text, data, size);
	text[size] = '\0';
	check_prefix(text);
	/* Without the zero: a byte beyond the end is ASan's to notice. */
	text = realloc(text, size ? size : 1);
	HOLDS(text);
	if (kmtls_spiffe_id_parse(text, size, &id, &rule))
		HOLDS(rule && *rule);
	else
		check_id(text, size, &id);
	free(text);
	return 0;
}
