/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - see table.h. All cells are kept until the end, because a column is as wide as its
 * widest cell. Texts come from the daemon, but may have been chosen by whoever could write a
 * map: nothing in them reaches the terminal as a control sequence.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "json.h"
#include "table.h"

#define GAP 2

static const char *const codes[] = {
	[KMTLS_PLAIN] = "",	    [KMTLS_BOLD] = "\033[1m",	 [KMTLS_DIM] = "\033[2m",
	[KMTLS_GREEN] = "\033[32m", [KMTLS_YELLOW] = "\033[33m", [KMTLS_RED] = "\033[31m",
};

void kmtls_table_out_of_memory(void)
{
	fprintf(stderr, "kmtls: out of memory\n");
	exit(1);
}

bool kmtls_table_is_coloured(void)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no_color && *no_color) && term && strcmp(term, "dumb");
}

const char *kmtls_table_code(enum kmtls_colour colour)
{
	return kmtls_table_is_coloured() ? codes[colour] : "";
}

static void make_printable(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			*text = '?';
	}
}

void kmtls_table_cell(struct kmtls_table *table, enum kmtls_colour colour, const char *format, ...)
{
	char *text = NULL;
	va_list list;
	int length;

	va_start(list, format);
	length = vasprintf(&text, format, list);
	va_end(list);
	if (length == 0) {
		free(text);
		text = strdup("-");
	}
	if (length < 0 || !text)
		kmtls_table_out_of_memory();
	make_printable(text);
	if (table->cells == table->size) {
		table->size = table->size ? table->size * 2 : 64;
		table->list = reallocarray(table->list, table->size, sizeof(*table->list));
		if (!table->list)
			kmtls_table_out_of_memory();
	}
	table->list[table->cells++] = (struct kmtls_cell){ .text = text, .colour = colour };
}

void kmtls_table_headings(struct kmtls_table *table, const char *const *headings)
{
	for (; *headings; headings++) {
		kmtls_table_cell(table, KMTLS_BOLD, "%s", *headings);
		table->columns++;
	}
}

static unsigned width_of(const struct kmtls_table *table, unsigned column)
{
	size_t width = 0;

	for (unsigned i = column; i < table->cells; i += table->columns) {
		if (strlen(table->list[i].text) > width)
			width = strlen(table->list[i].text);
	}
	return (unsigned)width;
}

static void print_cell(const struct kmtls_cell *cell, bool colour, unsigned width, bool last)
{
	const char *code = colour ? codes[cell->colour] : "";

	printf("%s%s%s", code, cell->text, *code ? "\033[0m" : "");
	if (last)
		putchar('\n');
	else
		printf("%*s", (int)(width - strlen(cell->text) + GAP), "");
}

void kmtls_table_put(enum kmtls_colour colour, const char *text)
{
	const char *code = kmtls_table_code(colour);

	fputs(code, stdout);
	for (; *text; text++)
		putchar((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f ? '?' : *text);
	fputs(*code ? "\033[0m" : "", stdout);
}

void kmtls_table_print(struct kmtls_table *table)
{
	unsigned *widths = calloc(table->columns, sizeof(*widths));
	bool colour = kmtls_table_is_coloured();

	if (!widths)
		kmtls_table_out_of_memory();
	for (unsigned column = 0; column < table->columns; column++)
		widths[column] = width_of(table, column);
	for (unsigned i = 0; i < table->cells; i++) {
		unsigned column = i % table->columns;

		print_cell(&table->list[i], colour, widths[column], column == table->columns - 1);
		free(table->list[i].text);
	}
	free(table->list);
	free(widths);
	*table = (struct kmtls_table){ .columns = 0 };
}

const char *kmtls_table_time(long long seconds, char *buffer)
{
	time_t time = (time_t)seconds;
	struct tm utc;

	*buffer = '\0';
	if (seconds > 0 && gmtime_r(&time, &utc))
		strftime(buffer, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
	return buffer;
}

int kmtls_table_list(const struct kmtls_cli *cli, const json_t *list, const char *const *headings,
		     int (*put)(struct kmtls_table *table, const json_t *element))
{
	struct kmtls_table table = { .columns = 0 };
	bool whole = json_is_array(list);
	const json_t *element;
	size_t i;

	kmtls_table_headings(&table, headings);
	json_array_foreach (list, i, element) {
		if (put(&table, element))
			whole = false;
	}
	kmtls_table_print(&table);
	if (whole)
		return KMTLS_EXIT_OK;
	kmtls_cli_error(cli, "%s: an answer this version does not understand", cli->socket);
	return KMTLS_EXIT_REFUSED;
}

int kmtls_table_show(struct kmtls_cli *cli, int argc, char **argv, const char *verb,
		     const char *const *headings,
		     int (*put)(struct kmtls_table *table, const json_t *element))
{
	__cleanup_json json_t *result = NULL;
	int status = kmtls_options_parse(cli, argc, argv, NULL, NULL, NULL);

	if (!status)
		status = kmtls_client_call(cli, verb, NULL, KMTLS_CLIENT_SECONDS, &result);
	if (status)
		return status;
	if (!cli->json)
		return kmtls_table_list(cli, result, headings, put);
	kmtls_client_print(result);
	return KMTLS_EXIT_OK;
}
