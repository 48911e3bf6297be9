/* SPDX-License-Identifier: Apache-2.0 */
/* shorten.c - see shorten.h. */
#include <ctype.h>
#include <string.h>

#include "shorten.h"

#define UTF8_MAX 4 /* bytes of a sequence */

static size_t before_sequence(const char *text, size_t length)
{
	size_t at = length;

	/* As many as a sequence can have: what is no UTF-8 is cut anywhere. */
	while (at && length - at < UTF8_MAX && (text[at] & 0xc0) == 0x80)
		at--;
	return (text[at] & 0xc0) == 0xc0 ? at : length;
}

static size_t before_percent(const char *text, size_t length)
{
	for (size_t back = 1; back <= 2 && back <= length; back++) {
		const char *percent = text + length - back;

		if (*percent == '%' && isxdigit((unsigned char)percent[1]) &&
		    isxdigit((unsigned char)percent[2]))
			return length - back;
	}
	return length;
}

size_t kmtls_shorten_at(const char *text, size_t length)
{
	return text[length] ? before_percent(text, before_sequence(text, length)) : length;
}

void kmtls_shorten(char *text, size_t length)
{
	const size_t mark = strlen(KMTLS_ELLIPSIS);

	if (strlen(text) > length)
		strcpy(text + kmtls_shorten_at(text, length - mark), KMTLS_ELLIPSIS);
}
