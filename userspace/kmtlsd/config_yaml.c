/* SPDX-License-Identifier: Apache-2.0 */
/* config_yaml.c - see config_yaml.h. One pass over libyaml's events. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "config_yaml.h"
#include "yaml_events.h"

#define DEPTH 8 /* the schema needs four */
#define KEYS 256 /* so that looking for duplicates stays cheap */
#define KEY_PART 64

struct level {
	bool mapping;
	bool value_next; /* in a mapping: the key has been seen */
	int items; /* in a list: seen so far */
	unsigned key_line;
	char key[KMTLS_YAML_KEY]; /* of the value that comes next, or of the list */
};

struct walk {
	struct kmtls_yaml yaml;
	struct kmtls_yaml_error *error;
	const char *bytes;
	size_t length;
	struct level levels[DEPTH];
	unsigned depth, keys, documents;
};

static int refuse(struct walk *walk, size_t line, const char *key, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static int refuse(struct walk *walk, size_t line, const char *key, const char *format, ...)
{
	va_list list;

	walk->error->line = (unsigned)line + 1;
	snprintf(walk->error->key, sizeof(walk->error->key), "%s", key);
	va_start(list, format);
	vsnprintf(walk->error->rule, sizeof(walk->error->rule), format, list);
	va_end(list);
	return -EINVAL;
}

static int add_entry(struct walk *walk, const struct kmtls_yaml_entry *entry, const char *text)
{
	struct kmtls_yaml *yaml = &walk->yaml;
	struct kmtls_yaml_entry *to;

	if (yaml->count == yaml->size) {
		unsigned size = yaml->size ? yaml->size * 2 : 64;

		to = reallocarray(yaml->entries, size, sizeof(*to));
		if (!to)
			return -ENOMEM;
		yaml->entries = to;
		yaml->size = size;
	}
	to = &yaml->entries[yaml->count];
	*to = *entry;
	to->key = strdup(entry->key);
	to->text = text ? strdup(text) : NULL;
	yaml->count++; /* freed with the rest even if half made */
	return to->key && (to->text || !text) ? 0 : -ENOMEM;
}

/* The scalar in event is a key of the mapping at level. */
static int take_key(struct walk *walk, struct level *level, const yaml_event_t *event)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_-";
	const struct level *around = walk->depth > 1 ? &walk->levels[walk->depth - 2] : NULL;
	const char *prefix = around ? around->key : "";
	char number[16] = "";
	size_t line = event->start_mark.line;
	const char *part;
	int length;

	if (event->type != YAML_SCALAR_EVENT)
		return refuse(walk, line, prefix, "a key must be a word");
	part = (const char *)event->data.scalar.value;
	if (event->data.scalar.length > KEY_PART || strlen(part) != event->data.scalar.length ||
	    !*part || part[strspn(part, letters)])
		return refuse(walk, line, prefix, "unknown key");
	/* A mapping in a list: items may have the same keys. */
	if (around && !around->mapping)
		snprintf(number, sizeof(number), "[%d]", around->items - 1);
	length = snprintf(level->key, sizeof(level->key), "%s%s%s%s", prefix, number,
			  *prefix ? "." : "", part);
	if (length >= (int)sizeof(level->key))
		return refuse(walk, line, prefix, "unknown key");
	if (kmtls_yaml_find(&walk->yaml, level->key, -1))
		return refuse(walk, line, level->key, "must be there only once");
	if (walk->keys++ >= KEYS)
		return refuse(walk, line, level->key, "more than %d keys in one file", KEYS);
	level->key_line = (unsigned)line;
	level->value_next = true;
	return 0;
}

/* Notes the value that event starts; *ret_key is its key if it is a list or a mapping. */
static int take_value(struct walk *walk, const yaml_event_t *event, const char **ret_key)
{
	struct level *level = walk->depth ? &walk->levels[walk->depth - 1] : NULL;
	struct kmtls_yaml_entry entry = { .item = -1, .line = (unsigned)event->start_mark.line };
	const char *text = NULL;

	*ret_key = "";
	if (level && level->mapping && !level->value_next)
		return take_key(walk, level, event);
	if (level) {
		*ret_key = entry.key = level->key;
		if (level->mapping)
			entry.line = level->key_line;
		else
			entry.item = level->items++;
		level->value_next = false;
	}
	if (event->type == YAML_SCALAR_EVENT) {
		text = (const char *)event->data.scalar.value;
		entry.plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
		if (strlen(text) != event->data.scalar.length)
			return refuse(walk, entry.line, *ret_key, "must not hold a zero byte");
	}
	entry.line++;
	if (!walk->yaml.line)
		walk->yaml.line = entry.line;
	return level ? add_entry(walk, &entry, text) : 0;
}

static int push(struct walk *walk, const yaml_event_t *event, const char *key)
{
	struct level *level = &walk->levels[walk->depth];

	if (walk->depth == DEPTH)
		return refuse(walk, event->start_mark.line, key, "nested deeper than %d", DEPTH);
	*level = (struct level){ .mapping = event->type == YAML_MAPPING_START_EVENT };
	snprintf(level->key, sizeof(level->key), "%s", key);
	walk->depth++;
	return 0;
}

static bool has_anchor_or_tag(const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return event->data.scalar.anchor || event->data.scalar.tag;
	case YAML_SEQUENCE_START_EVENT:
		return event->data.sequence_start.anchor || event->data.sequence_start.tag;
	case YAML_MAPPING_START_EVENT:
		return event->data.mapping_start.anchor || event->data.mapping_start.tag;
	default:
		return event->type == YAML_ALIAS_EVENT;
	}
}

static int take_event(void *context, const yaml_event_t *event)
{
	struct walk *walk = context;
	const char *key;
	int err;

	if (has_anchor_or_tag(event))
		return refuse(walk, event->start_mark.line,
			      walk->depth ? walk->levels[walk->depth - 1].key : "",
			      "anchors, aliases and tags are not allowed");
	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (walk->documents++)
			return refuse(walk, event->start_mark.line, "",
				      "one document only is allowed");
		return 0;
	case YAML_SCALAR_EVENT:
		return take_value(walk, event, &key);
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		err = take_value(walk, event, &key);
		return err ? err : push(walk, event, key);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		walk->depth--;
		return 0;
	default:
		return 0;
	}
}

/* libyaml's reader (bytes that are not UTF-8) knows an offset only, no line. */
static int refuse_syntax(void *context, const yaml_parser_t *parser)
{
	struct walk *walk = context;
	size_t line = parser->problem_mark.line;

	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (parser->error == YAML_READER_ERROR) {
		line = 0;
		for (size_t i = 0; i < parser->problem_offset && i < walk->length; i++)
			line += walk->bytes[i] == '\n';
	}
	return refuse(walk, line, "", "not YAML: %s",
		      parser->problem ? parser->problem : "unknown error");
}

int kmtls_yaml_index(const char *bytes, size_t length, struct kmtls_yaml *ret_yaml,
		     struct kmtls_yaml_error *ret_error)
{
	struct walk walk = { .error = ret_error, .bytes = bytes, .length = length };
	const struct kmtls_yaml_visitor visitor = { &walk, take_event, refuse_syntax };
	int err;

	memset(ret_error, 0, sizeof(*ret_error));
	err = kmtls_yaml_visit(bytes, length, &visitor);
	if (err)
		kmtls_yaml_free(&walk.yaml);
	else
		*ret_yaml = walk.yaml;
	return err;
}

void kmtls_yaml_free(struct kmtls_yaml *yaml)
{
	for (unsigned i = 0; i < yaml->count; i++) {
		free(yaml->entries[i].key);
		if (yaml->entries[i].text)
			explicit_bzero(yaml->entries[i].text, strlen(yaml->entries[i].text));
		free(yaml->entries[i].text);
	}
	free(yaml->entries);
	memset(yaml, 0, sizeof(*yaml));
}

const struct kmtls_yaml_entry *kmtls_yaml_find(const struct kmtls_yaml *yaml, const char *key,
					       int item)
{
	for (unsigned i = 0; i < yaml->count; i++) {
		const struct kmtls_yaml_entry *entry = &yaml->entries[i];

		if (entry->item == item && !strcmp(entry->key, key))
			return entry;
	}
	return NULL;
}
