/* SPDX-License-Identifier: Apache-2.0 */
/* shorten.h - text that is longer than there is room for: cut where a reader is not misled. */
#ifndef KMTLS_SHORTEN_H
#define KMTLS_SHORTEN_H

#include <stddef.h>

/* What stands for the rest. */
#define KMTLS_ELLIPSIS "..."

/* How many bytes of text, length at most, may stay: no UTF-8 sequence and no %XX is torn. text is
 * zero-terminated and has at least length bytes. */
size_t kmtls_shorten_at(const char *text, size_t length);
/* In place: at most length bytes stay, the ellipsis included (3 at least). */
void kmtls_shorten(char *text, size_t length);

#endif
