/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - logfmt lines on stderr: time, level, msg, then key=value pairs. With
 * journald on the other end (JOURNAL_STREAM) each line starts with its level as <N>
 * and has no time. Modules return errors; the caller that decides logs once.
 * Thread-safe; one write(2) per line.
 */
#ifndef KMTLS_LOG_H
#define KMTLS_LOG_H

#include <stdbool.h>

enum kmtls_log_level {
	KMTLS_LOG_ERROR = 3, /* numbers are syslog's */
	KMTLS_LOG_WARNING = 4,
	KMTLS_LOG_INFO = 6,
	KMTLS_LOG_DEBUG = 7,
};

void kmtls_log_set_level(enum kmtls_log_level level);
enum kmtls_log_level kmtls_log_get_level(void);
/* "error", "warning", "info", "debug" -> level; -EINVAL for anything else. */
int kmtls_log_parse_level(const char *text, enum kmtls_log_level *ret_level);
const char *kmtls_log_level_name(enum kmtls_log_level level);

/*
 * One line. msg is a constant; fields is a printf format of ready logfmt pairs, or NULL:
 *   log_info("pod enrolled", "pod=%s netns=%llu", name, cookie);
 * Values that may hold spaces, quotes or control bytes go through kmtls_log_quote().
 */
void kmtls_log(enum kmtls_log_level level, const char *msg, const char *fields, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Who else sees lines: wants() says which, whatever the level is; take() gets the pairs without time
 * and level. Both are called by any thread, also after they were taken out (NULL), and must not log.
 */
struct kmtls_log_tap {
	bool (*wants)(enum kmtls_log_level level, const char *msg);
	void (*take)(enum kmtls_log_level level, const char *msg, const char *pairs);
};
void kmtls_log_set_tap(const struct kmtls_log_tap *tap);
/* Would anyone see it? For lines that cost more than a few registers to make. */
bool kmtls_log_is_wanted(enum kmtls_log_level level, const char *msg);

/* Quotes text as a logfmt value into a thread-local ring of 8 buffers of 512 bytes. What is longer
 * ends in an ellipsis. */
const char *kmtls_log_quote(const char *text);
/* The same for one value of a line: the buffer, of 2560 bytes, is used again by the next call. */
const char *kmtls_log_quote_long(const char *text);

#define log_error(...) kmtls_log(KMTLS_LOG_ERROR, __VA_ARGS__)
#define log_warning(...) kmtls_log(KMTLS_LOG_WARNING, __VA_ARGS__)
#define log_info(...) kmtls_log(KMTLS_LOG_INFO, __VA_ARGS__)
#define log_debug(...) kmtls_log(KMTLS_LOG_DEBUG, __VA_ARGS__)

#endif
