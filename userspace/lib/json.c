/* SPDX-License-Identifier: Apache-2.0 */
/* json.c - see json.h. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "json.h"

#define WHY 256

/* jansson's own limit (2048) is fixed when it is built, and each level is a stack frame. */
static bool too_deep(const char *bytes, size_t length)
{
	unsigned depth = 0;
	bool string = false;

	for (size_t i = 0; i < length; i++) {
		if (string) {
			if (bytes[i] == '\\')
				i++;
			else if (bytes[i] == '"')
				string = false;
		} else if (bytes[i] == '"') {
			string = true;
		} else if (bytes[i] == '{' || bytes[i] == '[') {
			if (++depth > KMTLS_JSON_DEPTH)
				return true;
		} else if (depth && (bytes[i] == '}' || bytes[i] == ']')) {
			depth--;
		}
	}
	return false;
}

int kmtls_json_parse(const char *bytes, size_t length, json_t **ret_json, char *ret_why)
{
	json_error_t error;
	json_t *json;

	if (too_deep(bytes, length)) {
		snprintf(ret_why, WHY, "nested deeper than %d", KMTLS_JSON_DEPTH);
		return -EINVAL;
	}
	json = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &error);
	if (!json) {
		snprintf(ret_why, WHY, "not JSON: %s (byte %d)", error.text, error.position);
		return -EINVAL;
	}
	if (!json_is_object(json)) {
		json_decref(json);
		snprintf(ret_why, WHY, "not a JSON object");
		return -EINVAL;
	}
	*ret_json = json;
	return 0;
}

json_t *kmtls_json_string(const char *text)
{
	__cleanup_free char *copy = NULL;
	json_t *json = json_string(text);

	if (json)
		return json;
	/* A sentence cut at a buffer's end may stop inside a character. */
	copy = strdup(text);
	for (char *c = copy; c && *c; c++) {
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	}
	return copy ? json_string(copy) : NULL;
}

static int grow(struct kmtls_text *text, size_t need)
{
	size_t size = text->size ? text->size : 256;
	char *bytes;

	while (size < need)
		size *= 2;
	if (size == text->size)
		return 0;
	bytes = realloc(text->bytes, size);
	if (!bytes)
		return -ENOMEM;
	text->bytes = bytes;
	text->size = size;
	return 0;
}

int kmtls_text_append(struct kmtls_text *text, const char *bytes, size_t length)
{
	if (text->err || !length)
		return text->err;
	if (text->limit && length > text->limit - text->length)
		text->err = -E2BIG;
	else
		text->err = grow(text, text->length + length);
	if (text->err)
		return text->err;
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
	return 0;
}

int kmtls_text_append_string(struct kmtls_text *text, const char *string)
{
	return kmtls_text_append(text, string, strlen(string));
}

static int append_callback(const char *bytes, size_t length, void *text)
{
	return kmtls_text_append(text, bytes, length) ? -1 : 0;
}

int kmtls_text_append_json(struct kmtls_text *text, json_t *json)
{
	int err;

	if (!json && !text->err)
		text->err = -ENOMEM;
	if (text->err) {
		json_decref(json);
		return text->err;
	}
	err = json_dump_callback(json, append_callback, text, JSON_COMPACT | JSON_ENCODE_ANY);
	json_decref(json);
	if (err && !text->err)
		text->err = -ENOMEM;
	return text->err;
}

int kmtls_text_append_element(struct kmtls_text *text, json_t *json)
{
	if (text->length && text->bytes[text->length - 1] != '[')
		kmtls_text_append(text, ",", 1);
	return kmtls_text_append_json(text, json);
}

void kmtls_text_free(struct kmtls_text *text)
{
	free(text->bytes);
	text->bytes = NULL;
	text->length = text->size = 0;
	text->err = 0;
}
