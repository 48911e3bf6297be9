/* SPDX-License-Identifier: Apache-2.0 */
/* logfmt.c - see logfmt.h. */
#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "json.h"
#include "logfmt.h"

#define KEY 64
#define VALUE 1024

static unsigned digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(tolower(c) - 'a' + 10);
}

/* One character after a backslash; returns what follows it. */
static const char *unescape(const char *text, char *ret_byte)
{
	static const char names[] = "nrt", bytes[] = "\n\r\t";
	const char *name = *text ? strchr(names, *text) : NULL;

	if (*text == 'x' && isxdigit(text[1]) && isxdigit(text[2])) {
		*ret_byte = (char)(digit(text[1]) << 4 | digit(text[2]));
		return text + 3;
	}
	*ret_byte = name ? bytes[name - names] : *text;
	return *text ? text + 1 : text;
}

/* Returns where the value ends. A longer one than there is room for is cut. */
static const char *read_value(const char *text, char *value)
{
	bool quoted = *text == '"';
	size_t length = 0;
	char byte;

	text += quoted;
	while (*text && (quoted ? *text != '"' : *text != ' ')) {
		byte = *text++;
		if (quoted && byte == '\\')
			text = unescape(text, &byte);
		/* A zero would end the string that JSON is made of. */
		if (length < VALUE - 1)
			value[length++] = byte ? byte : '?';
	}
	value[length] = '\0';
	return quoted && *text ? text + 1 : text;
}

void kmtls_logfmt_read(const char *text, json_t *object)
{
	char key[KEY], value[VALUE];
	size_t length;

	while (*text) {
		text += strspn(text, " ");
		length = strcspn(text, "= ");
		if (!length || length >= KEY || text[length] != '=') {
			text += strcspn(text, " ");
			continue;
		}
		memcpy(key, text, length);
		key[length] = '\0';
		text = read_value(text + length + 1, value);
		if (!json_object_get(object, key))
			json_object_set_new(object, key, kmtls_json_string(value));
	}
}
