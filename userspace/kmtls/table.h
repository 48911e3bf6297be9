/* SPDX-License-Identifier: Apache-2.0 */
/* table.h - aligned columns on stdout, coloured on a terminal unless NO_COLOR is set. */
#ifndef KMTLS_TABLE_H
#define KMTLS_TABLE_H

#include <jansson.h>
#include <stdbool.h>

struct kmtls_cli;

enum kmtls_colour {
	KMTLS_PLAIN,
	KMTLS_BOLD,
	KMTLS_DIM,
	KMTLS_GREEN,
	KMTLS_YELLOW,
	KMTLS_RED,
};

/* Standard output is a terminal that wants colours. */
bool kmtls_table_is_coloured(void);
/* What switches a terminal to it, "\033[...m"; "" for plain, and where there are no colours. */
const char *kmtls_table_code(enum kmtls_colour colour);

struct kmtls_table {
	unsigned columns;
	unsigned cells; /* a multiple of columns when a row is whole */
	unsigned size;
	struct kmtls_cell {
		char *text;
		enum kmtls_colour colour;
	} * list;
};

/* The first row is the headings, if any. Out of memory ends the program. */
void kmtls_table_headings(struct kmtls_table *table, const char *const *headings);
/* Bytes that are not printable ASCII become '?'; an empty text becomes "-". */
void kmtls_table_cell(struct kmtls_table *table, enum kmtls_colour colour, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* A row for each element of list, printed; an error if put refused one. Exit status. */
int kmtls_table_list(const struct kmtls_cli *cli, const json_t *list, const char *const *headings,
		     int (*put)(struct kmtls_table *table, const json_t *element));
/* One text by itself, coloured like a cell; bytes that are not printable become '?'. */
void kmtls_table_put(enum kmtls_colour colour, const char *text);
void kmtls_table_out_of_memory(void) __attribute__((noreturn));
/* Prints and frees. */
void kmtls_table_print(struct kmtls_table *table);

/* "2026-01-31T12:00:00Z", or "" for 0. buffer: 32 bytes. */
const char *kmtls_table_time(long long seconds, char *buffer);

/*
 * A whole verb that lists something: no arguments, a list from the daemon, one row each. put
 * fills a row, or returns non-zero if element is not what it expects. Exit status.
 */
int kmtls_table_show(struct kmtls_cli *cli, int argc, char **argv, const char *verb,
		     const char *const *headings,
		     int (*put)(struct kmtls_table *table, const json_t *element));

#endif
