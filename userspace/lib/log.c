/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - see log.h. A line is built on the stack and leaves with one write(2), so lines of
 * several threads never mix (PIPE_BUF makes that atomic on a pipe as well). What a peer or a
 * user chose the bytes of must not be able to look like a line or a pair of its own: quoting
 * is the first fence, and whatever control byte is still in a line at the end is the second.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "shorten.h"

#define PATIENCE_MS 10 /* for a log that is full */
#define QUOTE_BUFFERS 8
#define QUOTE_SIZE 512
#define QUOTE_LONG 2560
#define LINE_SIZE PIPE_BUF

static const char cut_mark[] = " truncated=true\n";
static const struct kmtls_log_tap *current_tap; /* atomic */
static int current_level = KMTLS_LOG_INFO; /* atomic: any thread may set it */

static const struct {
	enum kmtls_log_level level;
	const char *name;
} levels[] = {
	{ KMTLS_LOG_ERROR, "error" },
	{ KMTLS_LOG_WARNING, "warning" },
	{ KMTLS_LOG_INFO, "info" },
	{ KMTLS_LOG_DEBUG, "debug" },
};

#define LEVELS (sizeof(levels) / sizeof(levels[0]))

void kmtls_log_set_level(enum kmtls_log_level level)
{
	__atomic_store_n(&current_level, (int)level, __ATOMIC_RELAXED);
}

enum kmtls_log_level kmtls_log_get_level(void)
{
	return (enum kmtls_log_level)__atomic_load_n(&current_level, __ATOMIC_RELAXED);
}

int kmtls_log_parse_level(const char *text, enum kmtls_log_level *ret_level)
{
	for (size_t i = 0; i < LEVELS; i++) {
		if (!strcmp(text, levels[i].name)) {
			*ret_level = levels[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

const char *kmtls_log_level_name(enum kmtls_log_level level)
{
	for (size_t i = 0; i < LEVELS; i++) {
		if (levels[i].level == level)
			return levels[i].name;
	}
	return "unknown";
}

/* Is stderr the journal's stream? sd_journal's rule: device and inode as announced. Looked
 * up for each line, because stderr may have been redirected since the start. */
static bool to_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat status;

	if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2)
		return false;
	return !fstat(STDERR_FILENO, &status) && status.st_dev == device && status.st_ino == inode;
}

/* The part of a line before msg. Returns its length; always fits. */
static size_t put_prefix(char *line, size_t size, enum kmtls_log_level level)
{
	struct timespec now;
	struct tm utc;
	size_t length;

	if (to_journal())
		return (size_t)snprintf(line, size, "<%d>level=%s ", (int)level,
					kmtls_log_level_name(level));
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	length = strftime(line, size, "time=%Y-%m-%dT%H:%M:%S", &utc);
	return length + (size_t)snprintf(line + length, size - length, ".%03ldZ level=%s ",
					 now.tv_nsec / 1000000, kmtls_log_level_name(level));
}

/* Writes all of it; stderr that is full or gone must not stop the daemon. */
static void write_line(const char *line, size_t length)
{
	struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };

	/* Whoever reads it may be stuck: a line is lost then, flows are not. */
	if (poll(&room, 1, PATIENCE_MS) == 0)
		return;
	while (length) {
		ssize_t written = write(STDERR_FILENO, line, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return;
		line += written;
		length -= (size_t)written;
	}
}

static void finish_line(char *line, size_t length)
{
	/* length is what the line would have; its last byte gives way to the newline. */
	if (length >= LINE_SIZE) {
		length = LINE_SIZE - (sizeof(cut_mark) - 1);
		memcpy(line + length, cut_mark, sizeof(cut_mark) - 1);
		length = LINE_SIZE;
	} else {
		line[length++] = '\n';
	}
	for (size_t i = 0; i < length - 1; i++) {
		unsigned char byte = (unsigned char)line[i];

		if (byte < 0x20 || byte == 0x7f)
			line[i] = '?';
	}
	write_line(line, length);
}

void kmtls_log_set_tap(const struct kmtls_log_tap *tap)
{
	__atomic_store_n(&current_tap, tap, __ATOMIC_RELEASE);
}

static const struct kmtls_log_tap *find_tap(enum kmtls_log_level level, const char *msg)
{
	const struct kmtls_log_tap *tap = __atomic_load_n(&current_tap, __ATOMIC_ACQUIRE);

	return tap && tap->wants(level, msg) ? tap : NULL;
}

static bool is_shown(enum kmtls_log_level level)
{
	return (int)level <= (int)kmtls_log_get_level();
}

bool kmtls_log_is_wanted(enum kmtls_log_level level, const char *msg)
{
	return is_shown(level) || find_tap(level, msg);
}

void kmtls_log(enum kmtls_log_level level, const char *msg, const char *fields, ...)
{
	const struct kmtls_log_tap *tap = find_tap(level, msg);
	size_t length, pairs;
	int saved = errno;
	char line[LINE_SIZE];
	va_list list;

	if (!tap && !is_shown(level))
		return;
	length = put_prefix(line, sizeof(line), level);
	length += (size_t)snprintf(line + length, sizeof(line) - length, "msg=\"%s\"", msg);
	pairs = length;
	if (fields && length < sizeof(line) - 1) {
		line[length++] = ' ';
		va_start(list, fields);
		length += (size_t)vsnprintf(line + length, sizeof(line) - length, fields, list);
		va_end(list);
	}
	if (tap)
		tap->take(level, msg, pairs < sizeof(line) ? line + pairs : "");
	if (is_shown(level))
		finish_line(line, length);
	errno = saved;
}

static bool is_plain(const char *text)
{
	if (!*text)
		return false;
	for (; *text; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte <= 0x20 || byte >= 0x7f || byte == '"' || byte == '=' || byte == '\\')
			return false;
	}
	return true;
}

/* Writes one byte of a quoted value (at most 4 characters); returns how many. Bytes beyond
 * ASCII are escaped too: U+0080 to U+009F are control characters for a terminal. */
static size_t escape(char *to, unsigned char byte)
{
	static const char hex[] = "0123456789abcdef";
	const char *names = "\nn\rr\tt\"\"\\\\";

	for (; *names; names += 2) {
		if (byte == (unsigned char)names[0]) {
			to[0] = '\\';
			to[1] = names[1];
			return 2;
		}
	}
	if (byte >= 0x20 && byte < 0x7f) {
		to[0] = (char)byte;
		return 1;
	}
	to[0] = '\\';
	to[1] = 'x';
	to[2] = hex[byte >> 4];
	to[3] = hex[byte & 15];
	return 4;
}

/* How many bytes of text fit when they are escaped. */
static size_t count_fitting(const char *text, size_t limit)
{
	size_t bytes = 0, length = 0;
	char ignored[4];

	while (text[bytes]) {
		length += escape(ignored, (unsigned char)text[bytes]);
		if (length > limit)
			return kmtls_shorten_at(text, bytes);
		bytes++;
	}
	return bytes;
}

static const char *quote(const char *text, char *buffer, size_t size)
{
	/* Without both quotes, the ellipsis and the end. */
	const size_t limit = size - 2 - strlen(KMTLS_ELLIPSIS) - 1;
	size_t length = 0, bytes;

	if (!text)
		text = "";
	if (is_plain(text) && strlen(text) < limit)
		return strcpy(buffer, text);
	bytes = count_fitting(text, limit);
	buffer[length++] = '"';
	for (size_t i = 0; i < bytes; i++)
		length += escape(buffer + length, (unsigned char)text[i]);
	sprintf(buffer + length, "%s\"", text[bytes] ? KMTLS_ELLIPSIS : "");
	return buffer;
}

const char *kmtls_log_quote(const char *text)
{
	static _Thread_local char ring[QUOTE_BUFFERS][QUOTE_SIZE];
	static _Thread_local unsigned next;

	return quote(text, ring[next++ % QUOTE_BUFFERS], QUOTE_SIZE);
}

const char *kmtls_log_quote_long(const char *text)
{
	static _Thread_local char buffer[QUOTE_LONG];

	return quote(text, buffer, sizeof(buffer));
}
