/* SPDX-License-Identifier: Apache-2.0 */
/* peer_file.c - see peer_file.h. The first broken rule ends it: nothing of a file is used then. */
#include "peer_file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "hash.h"
#include "match.h"

#define WORDS_MAX (2 + 2 * KMTLS_BYPASS_PORTS + 8)

struct line {
	char text[KMTLS_PEER_LINE_MAX + 1];
	char *words[WORDS_MAX];
	unsigned count, number;
};

/* What the options of one line say. */
struct options {
	const char *id, *namespace_, *trust_domain;
	bool bypass;
	unsigned ports[KMTLS_BYPASS_PORTS], port_count;
};

static int fail(struct kmtls_peer_file_error *ret_error, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(struct kmtls_peer_file_error *ret_error, unsigned line, const char *format, ...)
{
	va_list list;

	ret_error->line = line;
	va_start(list, format);
	vsnprintf(ret_error->rule, sizeof(ret_error->rule), format, list);
	va_end(list);
	return -EINVAL;
}

/* ---- a line into words ---- */

static int split(struct line *line, struct kmtls_peer_file_error *ret_error)
{
	char *at = line->text;

	for (line->count = 0;;) {
		at += strspn(at, " \t");
		if (!*at || *at == '#')
			return 0;
		if (line->count == WORDS_MAX)
			return fail(ret_error, line->number, "too many words");
		line->words[line->count++] = at;
		for (; *at && *at != ' ' && *at != '\t'; at++)
			if (*at == '\r')
				return fail(ret_error, line->number,
					    "a carriage return: lines end with a newline alone");
			else if (*at < 0x21 || *at > 0x7e)
				return fail(ret_error, line->number,
					    "a byte that is not printable ASCII");
		if (*at)
			*at++ = '\0';
	}
}

/* ---- options ---- */

static int take_text(const char *name, const char *value, const char **to, unsigned line,
		     struct kmtls_peer_file_error *ret_error)
{
	if (*to)
		return fail(ret_error, line, "%s: is given twice", name);
	*to = value;
	return 0;
}

static int take_port(struct options *options, const char *value, unsigned line,
		     struct kmtls_peer_file_error *ret_error)
{
	size_t digits = strspn(value, "0123456789");
	unsigned long port = digits && digits < 6 && !value[digits] ? strtoul(value, NULL, 10) : 0;

	if (!port || port > 65535)
		return fail(ret_error, line, "--port %.64s: must be a number from 1 to 65535",
			    value);
	for (unsigned i = 0; i < options->port_count; i++)
		if (options->ports[i] == port)
			return fail(ret_error, line, "--port %lu: is given twice", port);
	if (options->port_count == KMTLS_BYPASS_PORTS)
		return fail(ret_error, line, "--port: at most %d of them", KMTLS_BYPASS_PORTS);
	options->ports[options->port_count++] = (unsigned)port;
	return 0;
}

static bool is_option(const char *word, size_t length, const char *name)
{
	return strlen(name) == length && !memcmp(word, name, length);
}

/* The option at words[*at], with its value behind '=' or in the next word. */
static int take_option(const struct line *line, unsigned *at, struct options *options,
		       struct kmtls_peer_file_error *ret_error)
{
	const char *word = line->words[*at], *equals = strchr(word, '='), *value;
	size_t length = equals ? (size_t)(equals - word) : strlen(word);
	const char **text = NULL;
	char name[32];

	if (is_option(word, length, "--bypass")) {
		if (equals)
			return fail(ret_error, line->number, "--bypass: takes no value");
		options->bypass = true;
		return 0;
	}
	if (is_option(word, length, "--id"))
		text = &options->id;
	else if (is_option(word, length, "--namespace"))
		text = &options->namespace_;
	else if (is_option(word, length, "--trust-domain"))
		text = &options->trust_domain;
	else if (!is_option(word, length, "--port"))
		return fail(ret_error, line->number, "%.64s: %s", word,
			    *word == '-' ? "unknown option" : "unexpected word");
	snprintf(name, sizeof(name), "%.*s", (int)length, word);
	value = equals ? equals + 1 : *at + 1 < line->count ? line->words[++*at] : "";
	if (!*value || (!equals && !strncmp(value, "--", 2)))
		return fail(ret_error, line->number, "%s: a value is missing", name);
	return text ? take_text(name, value, text, line->number, ret_error)
		    : take_port(options, value, line->number, ret_error);
}

static int check_together(const struct options *options, unsigned line,
			  struct kmtls_peer_file_error *ret_error)
{
	if (!!options->id + !!options->trust_domain + options->bypass > 1)
		return fail(ret_error, line,
			    "--id, --trust-domain and --bypass exclude each other");
	if (options->namespace_ && !options->trust_domain)
		return fail(ret_error, line, "--namespace: only together with --trust-domain");
	if (!options->id && !options->trust_domain && !options->bypass)
		return fail(ret_error, line,
			    "--id ID, --trust-domain TD or --bypass: one of them is needed");
	if (options->port_count && !options->bypass)
		return fail(ret_error, line, "--port: only together with --bypass");
	return 0;
}

/* ---- an entry ---- */

static int parse_prefix(const char *text, unsigned line, struct kmtls_peer_key *ret_key,
			struct kmtls_peer_file_error *ret_error)
{
	switch (kmtls_prefix_parse(text, ret_key)) {
	case 0:
		return 0;
	case -ERANGE:
		return fail(ret_error, line, "%.64s: prefix length must be 0 to %d", text,
			    strchr(text, ':') ? 128 : 32);
	case -EDOM:
		return fail(ret_error, line, "%.64s: bits are set beyond the prefix length", text);
	default:
		return fail(ret_error, line, "%.64s: must be an IP address or ADDRESS/LENGTH",
			    text);
	}
}

int kmtls_peer_file_add_name(struct kmtls_peer_file *file, const char *text, __u64 *ret_hash)
{
	struct kmtls_peer_name *names = file->names;
	char *copy;

	if (file->name_count == file->name_size) {
		size_t size = file->name_size ? file->name_size * 2 : 256;

		names = reallocarray(names, size, sizeof(*names));
		if (!names)
			return -ENOMEM;
		file->names = names;
		file->name_size = size;
	}
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	*ret_hash = kmtls_hash_text(text);
	names[file->name_count++] = (struct kmtls_peer_name){ .hash = *ret_hash, .text = copy };
	return 0;
}

/* The text that goes into `names` for a mesh peer. */
static int make_text(const struct options *options, unsigned line, char *ret_text,
		     enum kmtls_match *ret_match, struct kmtls_peer_file_error *ret_error)
{
	const char *rule;

	if (!options->id) {
		*ret_match = options->namespace_ ? KMTLS_MATCH_NAMESPACE : KMTLS_MATCH_TRUST_DOMAIN;
		if (!kmtls_match_text(options->namespace_, options->trust_domain, ret_text, &rule))
			return 0;
		return fail(ret_error, line, "%s%.64s%s--trust-domain %.64s: %s",
			    options->namespace_ ? "--namespace " : "",
			    options->namespace_ ? options->namespace_ : "",
			    options->namespace_ ? " " : "", options->trust_domain, rule);
	}
	*ret_match = KMTLS_MATCH_EXACT;
	if (kmtls_match_check(*ret_match, options->id, strlen(options->id), &rule))
		return fail(ret_error, line, "--id %.128s: %s", options->id, rule);
	strcpy(ret_text, options->id);
	return 0;
}

static int parse_entry(struct line *line, struct kmtls_peer_file *file,
		       struct kmtls_peer_file_error *ret_error)
{
	struct kmtls_peer_entry entry = { .line = line->number };
	struct options options = { .id = NULL };
	char text[KMTLS_SPIFFE_ID_MAX + 1];
	enum kmtls_match match;
	int err = parse_prefix(line->words[0], line->number, &entry.key, ret_error);

	for (unsigned i = 1; !err && i < line->count; i++)
		err = take_option(line, &i, &options, ret_error);
	if (!err)
		err = check_together(&options, line->number, ret_error);
	if (err)
		return err;
	entry.value.kind = options.bypass ? KMTLS_PEER_BYPASS : KMTLS_PEER_MESH;
	if (options.bypass) {
		entry.value.port_count = (__u8)options.port_count;
		for (unsigned i = 0; i < options.port_count; i++)
			entry.value.ports[i] = (__u16)options.ports[i];
	} else {
		err = make_text(&options, line->number, text, &match, ret_error);
		if (!err)
			err = kmtls_peer_file_add_name(file, text, &entry.value.identity);
		if (err)
			return err;
		entry.value.match = (__u8)match;
	}
	return kmtls_peer_table_append(&file->table, &entry);
}

/* ---- the whole ---- */

static int compare_names(const void *left, const void *right)
{
	const struct kmtls_peer_name *a = left, *b = right;

	return (a->hash > b->hash) - (a->hash < b->hash);
}

/* Each text once. Two texts with one hash cannot both be in the map. */
static int merge_names(struct kmtls_peer_file *file, struct kmtls_peer_file_error *ret_error)
{
	size_t kept = 0;

	if (file->name_count)
		qsort(file->names, file->name_count, sizeof(*file->names), compare_names);
	for (size_t i = 0; i < file->name_count; i++) {
		struct kmtls_peer_name *name = &file->names[i];

		if (!kept || file->names[kept - 1].hash != name->hash) {
			file->names[kept++] = *name;
			continue;
		}
		if (strcmp(file->names[kept - 1].text, name->text)) {
			fail(ret_error, 0, "%.200s and %.200s have the same hash",
			     file->names[kept - 1].text, name->text);
			/* What is behind has not been looked at: it stays to be freed. */
			memmove(name - (i - kept), name, (file->name_count - i) * sizeof(*name));
			file->name_count -= i - kept;
			return -EINVAL;
		}
		free(name->text);
	}
	file->name_count = kept;
	return 0;
}

/* The first line, as the file goes, whose prefix another line has already. */
static int check_duplicates(const struct kmtls_peer_table *table,
			    struct kmtls_peer_file_error *ret_error)
{
	const struct kmtls_peer_entry *first = NULL, *second = NULL;
	char text[KMTLS_ENDPOINT_TEXT];

	for (size_t i = 1; i < table->count; i++) {
		const struct kmtls_peer_entry *entry = &table->entries[i];

		if (kmtls_peer_key_compare(&entry[-1].key, &entry->key) ||
		    (second && second->line < entry->line))
			continue;
		first = entry - 1;
		second = entry;
	}
	if (!second)
		return 0;
	return fail(ret_error, second->line, "%s: is on line %u already",
		    kmtls_prefix_format(&second->key, text, sizeof(text)), first->line);
}

static int parse_lines(const char *bytes, size_t length, struct kmtls_peer_file *file,
		       struct line *line, struct kmtls_peer_file_error *ret_error)
{
	const char *end = bytes + length;
	int err = 0;

	for (line->number = 1; !err && bytes < end; line->number++) {
		const char *newline = memchr(bytes, '\n', (size_t)(end - bytes));
		size_t size = (size_t)((newline ? newline : end) - bytes);

		if (size > KMTLS_PEER_LINE_MAX)
			return fail(ret_error, line->number, "the line is longer than %d bytes",
				    KMTLS_PEER_LINE_MAX);
		if (memchr(bytes, '\0', size))
			return fail(ret_error, line->number, "a zero byte");
		memcpy(line->text, bytes, size);
		line->text[size] = '\0';
		bytes += size + 1;
		err = split(line, ret_error);
		if (!err && line->count)
			err = parse_entry(line, file, ret_error);
		if (!newline)
			break;
	}
	return err;
}

int kmtls_peer_file_finish(struct kmtls_peer_file *file, struct kmtls_peer_file_error *ret_error)
{
	int err;

	kmtls_peer_table_sort(&file->table);
	err = check_duplicates(&file->table, ret_error);
	return err ? err : merge_names(file, ret_error);
}

int kmtls_peer_file_parse(const char *bytes, size_t length, struct kmtls_peer_file *ret_file,
			  struct kmtls_peer_file_error *ret_error)
{
	struct kmtls_peer_file file = { .names = NULL };
	struct line *line;
	int err;

	if (length > KMTLS_PEER_FILE_MAX)
		return fail(ret_error, 0, "longer than %u MiB", KMTLS_PEER_FILE_MAX >> 20);
	line = malloc(sizeof(*line));
	if (!line)
		return -ENOMEM;
	err = parse_lines(bytes, length, &file, line, ret_error);
	free(line);
	if (!err)
		err = kmtls_peer_file_finish(&file, ret_error);
	if (err) {
		kmtls_peer_file_free(&file);
		return err;
	}
	*ret_file = file;
	return 0;
}

void kmtls_peer_file_free(struct kmtls_peer_file *file)
{
	for (size_t i = 0; i < file->name_count; i++)
		free(file->names[i].text);
	free(file->names);
	kmtls_peer_table_free(&file->table);
	*file = (struct kmtls_peer_file){ .names = NULL };
}
