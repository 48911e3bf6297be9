/* SPDX-License-Identifier: Apache-2.0 */
/* mesh_file.c - see mesh_file.h. The first broken rule ends it: nothing of a file is used then. */
#include "mesh_file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh_file_parts.h"
#include "yaml_events.h"

int kmtls_mesh_fail(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *key,
		    const char *format, ...)
{
	va_list list;

	parse->error->line = node ? (unsigned)node->start_mark.line + 1 : 0;
	snprintf(parse->error->key, sizeof(parse->error->key), "%s", key);
	va_start(list, format);
	vsnprintf(parse->error->rule, sizeof(parse->error->rule), format, list);
	va_end(list);
	return -EINVAL;
}

/* ---- nodes ---- */

const char *kmtls_mesh_text(const yaml_node_t *node)
{
	const char *text = (const char *)node->data.scalar.value;

	return node->type == YAML_SCALAR_NODE && strlen(text) == node->data.scalar.length ? text
											  : NULL;
}

yaml_node_t *kmtls_mesh_node(struct kmtls_mesh_parse *parse, int index)
{
	return yaml_document_get_node(&parse->document, index);
}

/* "modes:" with nothing behind it. */
static bool is_empty(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE && !node->data.scalar.length &&
	       node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

int kmtls_mesh_port(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *key,
		    __u16 *ret_port)
{
	const char *text = kmtls_mesh_text(node);
	size_t digits = text ? strspn(text, "0123456789") : 0;
	unsigned long port = digits && digits < 6 && !text[digits] ? strtoul(text, NULL, 10) : 0;

	if (!port || port > 65535)
		return kmtls_mesh_fail(parse, node, key, "must be a port, from 1 to 65535");
	*ret_port = (__u16)port;
	return 0;
}

int kmtls_mesh_pairs(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *path,
		     int (*take)(struct kmtls_mesh_parse *parse, const char *path, const char *name,
				 const yaml_node_t *key, const yaml_node_t *value, void *context),
		     void *context)
{
	int err = 0;

	if (is_empty(node))
		return 0;
	if (node->type != YAML_MAPPING_NODE)
		return kmtls_mesh_fail(parse, node, path, "must be a mapping");
	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	     !err && pair < node->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = kmtls_mesh_node(parse, pair->key);
		const char *name = kmtls_mesh_text(key);
		char inner[256];

		if (!name)
			return kmtls_mesh_fail(parse, key, path, "a key must be a word");
		snprintf(inner, sizeof(inner), "%s%s%s", path, *path ? "." : "", name);
		err = take(parse, inner, name, key, kmtls_mesh_node(parse, pair->value), context);
	}
	return err;
}

int kmtls_mesh_items(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *path,
		     int (*take)(struct kmtls_mesh_parse *parse, const char *path,
				 const yaml_node_t *item))
{
	unsigned number = 0;
	int err = 0;

	if (is_empty(node))
		return 0;
	if (node->type != YAML_SEQUENCE_NODE)
		return kmtls_mesh_fail(parse, node, path, "must be a list");
	for (yaml_node_item_t *item = node->data.sequence.items.start;
	     !err && item < node->data.sequence.items.top; item++) {
		char inner[256];

		snprintf(inner, sizeof(inner), "%s[%u]", path, number++);
		err = take(parse, inner, kmtls_mesh_node(parse, *item));
	}
	return err;
}

/* ---- the whole ---- */

static int take_section(struct kmtls_mesh_parse *parse, const char *path, const char *name,
			const yaml_node_t *key, const yaml_node_t *value, void *context)
{
	struct kmtls_mesh_file *file = parse->file;
	const char *text = kmtls_mesh_text(value);
	bool *seen = context, *has = NULL;

	if (!strcmp(name, "modes"))
		has = &file->has_modes;
	else if (!strcmp(name, "peers"))
		has = &file->has_peers;
	else if (!strcmp(name, "authorizations"))
		has = &file->has_authorizations;
	else if (!strcmp(name, "authorization_default"))
		has = seen;
	else
		return kmtls_mesh_fail(parse, key, path, "unknown key");
	if (*has)
		return kmtls_mesh_fail(parse, key, path, "must be there only once");
	*has = true;
	if (has == &file->has_modes)
		return kmtls_mesh_modes(parse, value, path);
	if (has == &file->has_peers)
		return kmtls_mesh_peers(parse, value, path);
	if (has == &file->has_authorizations)
		return kmtls_mesh_authorizations(parse, value, path);
	if (!text || (strcmp(text, "allow") != 0 && strcmp(text, "deny") != 0))
		return kmtls_mesh_fail(parse, value, path, "must be allow or deny");
	file->authorization_default =
		*text == 'a' ? KMTLS_AUTHORIZATION_DEFAULT_ALLOW : KMTLS_AUTHORIZATION_DEFAULT_DENY;
	return 0;
}

static int refuse_twice(struct kmtls_mesh_parse *parse, const char *section, unsigned line,
			unsigned first)
{
	kmtls_mesh_fail(parse, NULL, section, "the same is said on line %u already", first);
	parse->error->line = line;
	return -EINVAL;
}

/* After sorting, what is said twice is side by side. */
static int check_duplicates(struct kmtls_mesh_parse *parse)
{
	const struct kmtls_mode_table *modes = &parse->file->modes;
	const struct kmtls_authorization_table *rules = &parse->file->authorizations;

	for (size_t i = 1; i < modes->count; i++)
		if (!memcmp(&modes->entries[i - 1].key, &modes->entries[i].key,
			    sizeof(modes->entries[i].key)))
			return refuse_twice(parse, "modes", modes->entries[i].line,
					    modes->entries[i - 1].line);
	for (size_t i = 1; i < rules->count; i++)
		if (!memcmp(&rules->entries[i - 1].key, &rules->entries[i].key,
			    sizeof(rules->entries[i].key)))
			return refuse_twice(parse, "authorizations", rules->entries[i].line,
					    rules->entries[i - 1].line);
	return 0;
}

static int finish(struct kmtls_mesh_parse *parse)
{
	struct kmtls_peer_file_error error = { .line = 0 };
	int err;

	kmtls_mode_table_sort(&parse->file->modes);
	kmtls_authorization_table_sort(&parse->file->authorizations);
	err = check_duplicates(parse);
	if (err)
		return err;
	err = kmtls_peer_file_finish(&parse->file->peers, &error);
	if (err == -EINVAL) {
		kmtls_mesh_fail(parse, NULL, error.line ? "peers" : "", "%s", error.rule);
		parse->error->line = error.line;
	}
	return err;
}

static int walk(struct kmtls_mesh_parse *parse)
{
	const yaml_node_t *root = yaml_document_get_root_node(&parse->document);
	bool default_seen = false;
	int err;

	if (!root || is_empty(root))
		return kmtls_mesh_fail(parse, root, "", "says nothing: there is not one section");
	err = kmtls_mesh_pairs(parse, root, "", take_section, &default_seen);
	return err ? err : finish(parse);
}

/* The parser's own complaints; bytes that are not UTF-8 have an offset only. */
static int refuse_syntax(void *context, const yaml_parser_t *parser)
{
	struct kmtls_mesh_parse *parse = context;

	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	kmtls_mesh_fail(parse, NULL, "", "not YAML: %s",
			parser->problem ? parser->problem : "unknown error");
	if (parser->error != YAML_READER_ERROR)
		parse->error->line = (unsigned)parser->problem_mark.line + 1;
	return -EINVAL;
}

/* One document, and nothing behind it. */
static int check_end(struct kmtls_mesh_parse *parse, yaml_parser_t *parser)
{
	yaml_document_t more;
	int err = 0;

	if (!yaml_parser_load(parser, &more))
		return refuse_syntax(parse, parser);
	if (yaml_document_get_root_node(&more))
		err = kmtls_mesh_fail(parse, yaml_document_get_root_node(&more), "",
				      "one document only is allowed");
	yaml_document_delete(&more);
	return err;
}

/* An alias could make a small file say a thing millions of times. */
static int refuse_alias(void *context, const yaml_event_t *event)
{
	struct kmtls_mesh_parse *parse = context;

	if (event->type != YAML_ALIAS_EVENT)
		return 0;
	kmtls_mesh_fail(parse, NULL, "", "aliases are not allowed");
	parse->error->line = (unsigned)event->start_mark.line + 1;
	return -EINVAL;
}

int kmtls_mesh_file_parse(const char *bytes, size_t length, struct kmtls_mesh_file *ret_file,
			  struct kmtls_mesh_file_error *ret_error)
{
	struct kmtls_mesh_file file = { .has_modes = false };
	struct kmtls_mesh_parse parse = { .file = &file, .error = ret_error };
	const struct kmtls_yaml_visitor aliases = { &parse, refuse_alias, refuse_syntax };
	yaml_parser_t parser;
	int err;

	memset(ret_error, 0, sizeof(*ret_error));
	if (length > KMTLS_MESH_FILE_MAX)
		return kmtls_mesh_fail(&parse, NULL, "", "longer than %u MiB",
				       KMTLS_MESH_FILE_MAX >> 20);
	err = kmtls_yaml_visit(bytes, length, &aliases);
	if (err)
		return err;
	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, length);
	if (yaml_parser_load(&parser, &parse.document)) {
		err = walk(&parse);
		if (!err)
			err = check_end(&parse, &parser);
		yaml_document_delete(&parse.document);
	} else {
		err = refuse_syntax(&parse, &parser);
	}
	yaml_parser_delete(&parser);
	if (err)
		kmtls_mesh_file_free(&file);
	else
		*ret_file = file;
	return err;
}

void kmtls_mesh_file_free(struct kmtls_mesh_file *file)
{
	free(file->modes.entries);
	free(file->authorizations.entries);
	kmtls_peer_file_free(&file->peers);
	memset(file, 0, sizeof(*file));
}
