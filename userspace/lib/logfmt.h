/* SPDX-License-Identifier: Apache-2.0 */
/* logfmt.h - pairs as log.h writes them, read back. */
#ifndef KMTLS_LOGFMT_H
#define KMTLS_LOGFMT_H

#include <jansson.h>

/*
 * Adds each key=value of text to object as a string, what kmtls_log_quote() did undone; keys that
 * object has already stay as they are. What is no pair is skipped. Bytes that are not UTF-8 become
 * '?'.
 */
void kmtls_logfmt_read(const char *text, json_t *object);

#endif
