/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - what daemon and command line share about JSON lines: one strict way to read a
 * line, and a growing text that long answers are written into piece by piece, so that a list
 * of a hundred thousand flows never exists as a tree of JSON objects.
 */
#ifndef KMTLS_JSON_H
#define KMTLS_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "cleanup.h"

/* Deepest nesting of a line; the protocol itself needs five. */
#define KMTLS_JSON_DEPTH 16

static inline void kmtls_cleanup_json(json_t **json)
{
	json_decref(*json);
}

#define __cleanup_json __attribute__((cleanup(kmtls_cleanup_json)))

/*
 * One JSON object out of length bytes: UTF-8, no duplicate keys, no zero bytes in strings, no
 * deeper than KMTLS_JSON_DEPTH. -EINVAL and a sentence in ret_why (256 bytes).
 */
int kmtls_json_parse(const char *bytes, size_t length, json_t **ret_json, char *ret_why);

/* A JSON string of text; bytes that are not UTF-8 become '?'. NULL: no memory. */
json_t *kmtls_json_string(const char *text);

struct kmtls_text {
	char *bytes; /* not zero-terminated */
	size_t length, size;
	size_t limit; /* 0: none */
	int err; /* the first error sticks; what is appended after it is dropped */
};

/* 0; -ENOMEM; -E2BIG beyond limit. */
int kmtls_text_append(struct kmtls_text *text, const char *bytes, size_t length);
int kmtls_text_append_string(struct kmtls_text *text, const char *string);
/* json on one line. Takes the reference; NULL is -ENOMEM, so that packing needs no check. */
int kmtls_text_append_json(struct kmtls_text *text, json_t *json);
/* The same as an element of a list: after a comma unless it follows '['. */
int kmtls_text_append_element(struct kmtls_text *text, json_t *json);
void kmtls_text_free(struct kmtls_text *text); /* and makes it empty */
#define __cleanup_text __attribute__((cleanup(kmtls_text_free)))

#endif
