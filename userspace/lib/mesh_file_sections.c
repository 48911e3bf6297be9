/* SPDX-License-Identifier: Apache-2.0 */
/* mesh_file_sections.c - see mesh_file_parts.h: modes, peers, authorizations. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "match.h"
#include "mesh_file_parts.h"
#include "subject.h"

#define NAME_MAX_ 127 /* of a pod; a namespace's is shorter */

/* ---- modes ---- */

/* What a mode in the file is about. */
struct place {
	__u8 scope;
	__u64 id;
	__u16 port;
};

static int put_mode(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *path,
		    const struct place *place, __u8 direction)
{
	static const char *const words[] = { [KMTLS_MODE_OFF] = "off",
					     [KMTLS_MODE_PERMISSIVE] = "permissive",
					     [KMTLS_MODE_STRICT] = "strict" };
	struct kmtls_mode_entry entry = { .key = { .id = place->id,
						   .scope = place->scope,
						   .direction = direction,
						   .port = place->port },
					  .line = (unsigned)node->start_mark.line + 1 };
	const char *text = kmtls_mesh_text(node);

	for (__u32 mode = KMTLS_MODE_OFF; text && mode <= KMTLS_MODE_STRICT; mode++)
		if (!strcmp(text, words[mode]))
			entry.mode = mode;
	if (!entry.mode)
		return kmtls_mesh_fail(parse, node, path, "must be off, permissive or strict");
	return kmtls_mode_table_append(&parse->file->modes, &entry);
}

static int put_both(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *path,
		    const struct place *place)
{
	int err = put_mode(parse, node, path, place, KMTLS_INBOUND);

	return err ? err : put_mode(parse, node, path, place, KMTLS_OUTBOUND);
}

static int take_port(struct kmtls_mesh_parse *parse, const char *path, const char *name,
		     const yaml_node_t *key, const yaml_node_t *value, void *context);

/* inbound, outbound; of a pod also mode (both) and ports. */
static int take_direction(struct kmtls_mesh_parse *parse, const char *path, const char *name,
			  const yaml_node_t *key, const yaml_node_t *value, void *context)
{
	const struct place *place = context;

	if (!strcmp(name, "inbound"))
		return put_mode(parse, value, path, place, KMTLS_INBOUND);
	if (!strcmp(name, "outbound"))
		return put_mode(parse, value, path, place, KMTLS_OUTBOUND);
	if (place->scope == KMTLS_SCOPE_POD && !strcmp(name, "mode"))
		return put_both(parse, value, path, place);
	if (place->scope == KMTLS_SCOPE_POD && !strcmp(name, "ports"))
		return kmtls_mesh_pairs(
			parse, value, path, take_port,
			&(struct place){ .scope = KMTLS_SCOPE_PORT, .id = place->id });
	return kmtls_mesh_fail(parse, key, path, "unknown key");
}

/* One mode for both directions, or a mapping. */
static int take_mode(struct kmtls_mesh_parse *parse, const yaml_node_t *value, const char *path,
		     struct place *place)
{
	if (value->type == YAML_MAPPING_NODE)
		return kmtls_mesh_pairs(parse, value, path, take_direction, place);
	return put_both(parse, value, path, place);
}

/* context: struct place without the port. */
static int take_port(struct kmtls_mesh_parse *parse, const char *path, const char *name,
		     const yaml_node_t *key, const yaml_node_t *value, void *context)
{
	struct place place = *(struct place *)context;
	int err = kmtls_mesh_port(parse, key, path, &place.port);

	return err ? err : take_mode(parse, value, path, &place);
}

/* A pod may be NAMESPACE/NAME. */
static bool is_name(const char *name, bool pod)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	size_t length = strspn(name, letters);

	if (pod && length && name[length] == '/') {
		size_t rest = strspn(name + length + 1, letters);

		length = rest ? length + 1 + rest : 0;
	}
	return length && length <= NAME_MAX_ && !name[length];
}

/* context: the scope. */
static int take_named(struct kmtls_mesh_parse *parse, const char *path, const char *name,
		      const yaml_node_t *key, const yaml_node_t *value, void *context)
{
	struct place place = { .scope = *(const __u8 *)context };
	bool pod = place.scope == KMTLS_SCOPE_POD;
	int err;

	if (!is_name(name, pod))
		return kmtls_mesh_fail(
			parse, key, path,
			"must be 1 to %d letters, digits, dots, hyphens or underscores%s",
			NAME_MAX_, pod ? ", or NAMESPACE/NAME" : "");
	err = kmtls_peer_file_add_name(&parse->file->peers, name, &place.id);
	return err ? err : take_mode(parse, value, path, &place);
}

static int take_scope(struct kmtls_mesh_parse *parse, const char *path, const char *name,
		      const yaml_node_t *key, const yaml_node_t *value, void *context)
{
	static __u8 of_namespace = KMTLS_SCOPE_NAMESPACE, of_pod = KMTLS_SCOPE_POD;

	if (!strcmp(name, "mesh"))
		return take_mode(parse, value, path, &(struct place){ .scope = KMTLS_SCOPE_MESH });
	if (!strcmp(name, "ports"))
		return kmtls_mesh_pairs(parse, value, path, take_port,
					&(struct place){ .scope = KMTLS_SCOPE_PORT });
	if (!strcmp(name, "namespaces"))
		return kmtls_mesh_pairs(parse, value, path, take_named, &of_namespace);
	if (!strcmp(name, "pods"))
		return kmtls_mesh_pairs(parse, value, path, take_named, &of_pod);
	return kmtls_mesh_fail(parse, key, path, "unknown key");
}

int kmtls_mesh_modes(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *path)
{
	return kmtls_mesh_pairs(parse, node, path, take_scope, NULL);
}

/* ---- fields of an element of a list ---- */

#define FIELDS 6

struct fields {
	const char *const *names; /* NULL-terminated */
	const yaml_node_t *values[FIELDS];
};

static int take_field(struct kmtls_mesh_parse *parse, const char *path, const char *name,
		      const yaml_node_t *key, const yaml_node_t *value, void *context)
{
	struct fields *fields = context;

	for (int i = 0; fields->names[i]; i++) {
		if (strcmp(fields->names[i], name) != 0)
			continue;
		if (fields->values[i])
			return kmtls_mesh_fail(parse, key, path, "must be there only once");
		fields->values[i] = value;
		return 0;
	}
	return kmtls_mesh_fail(parse, key, path, "unknown key");
}

/* A field that must be a text. *ret_text: NULL if it is not there. */
static int field_text(struct kmtls_mesh_parse *parse, const char *path, const struct fields *fields,
		      int i, const char **ret_text)
{
	char key[320];

	*ret_text = NULL;
	if (!fields->values[i])
		return 0;
	*ret_text = kmtls_mesh_text(fields->values[i]);
	if (*ret_text && **ret_text)
		return 0;
	snprintf(key, sizeof(key), "%s.%s", path, fields->names[i]);
	return kmtls_mesh_fail(parse, fields->values[i], key, "must be a text");
}

/* ---- peers ---- */

enum { PREFIX, ID, NAMESPACE, TRUST_DOMAIN, BYPASS };
static const char *const peer_names[] = { "prefix",	  "id",	    "namespace",
					  "trust_domain", "bypass", NULL };

static int take_prefix(struct kmtls_mesh_parse *parse, const char *path, const yaml_node_t *node,
		       const char *text, struct kmtls_peer_key *ret_key)
{
	char key[320];

	snprintf(key, sizeof(key), "%s.prefix", path);
	switch (kmtls_prefix_parse(text, ret_key)) {
	case 0:
		return 0;
	case -ERANGE:
		return kmtls_mesh_fail(parse, node, key, "%.64s: prefix length must be 0 to %d",
				       text, strchr(text, ':') ? 128 : 32);
	case -EDOM:
		return kmtls_mesh_fail(parse, node, key,
				       "%.64s: bits are set beyond the prefix length", text);
	default:
		return kmtls_mesh_fail(parse, node, key,
				       "%.64s: must be an IP address or ADDRESS/LENGTH", text);
	}
}

static int take_bypass(struct kmtls_mesh_parse *parse, const char *path, const yaml_node_t *node,
		       struct kmtls_peer_value *value)
{
	const char *text = kmtls_mesh_text(node);
	char key[320];
	int err = 0;

	snprintf(key, sizeof(key), "%s.bypass", path);
	value->kind = KMTLS_PEER_BYPASS;
	if (text && !strcmp(text, "all"))
		return 0;
	if (node->type != YAML_SEQUENCE_NODE ||
	    node->data.sequence.items.start == node->data.sequence.items.top)
		return kmtls_mesh_fail(parse, node, key, "must be all, or a list of ports");
	for (yaml_node_item_t *item = node->data.sequence.items.start;
	     !err && item < node->data.sequence.items.top; item++) {
		__u16 port;

		err = kmtls_mesh_port(parse, kmtls_mesh_node(parse, *item), key, &port);
		for (unsigned i = 0; !err && i < value->port_count; i++)
			if (value->ports[i] == port)
				return kmtls_mesh_fail(parse, kmtls_mesh_node(parse, *item), key,
						       "%u is there twice", port);
		if (!err && value->port_count == KMTLS_BYPASS_PORTS)
			return kmtls_mesh_fail(parse, kmtls_mesh_node(parse, *item), key,
					       "at most %d ports", KMTLS_BYPASS_PORTS);
		if (!err)
			value->ports[value->port_count++] = port;
	}
	return err;
}

static int take_mesh(struct kmtls_mesh_parse *parse, const char *path, const yaml_node_t *node,
		     const char *id, const char *namespace_, const char *domain,
		     struct kmtls_peer_value *value)
{
	char text[KMTLS_SPIFFE_ID_MAX + 1];
	const char *rule;
	int err;

	value->kind = KMTLS_PEER_MESH;
	value->match = id	    ? KMTLS_MATCH_EXACT
		       : namespace_ ? KMTLS_MATCH_NAMESPACE
				    : KMTLS_MATCH_TRUST_DOMAIN;
	if (id)
		err = kmtls_match_check(KMTLS_MATCH_EXACT, id, strlen(id), &rule);
	else
		err = kmtls_match_text(namespace_, domain, text, &rule);
	if (err)
		return kmtls_mesh_fail(parse, node, path, "%.128s: %s", id ? id : domain, rule);
	return kmtls_peer_file_add_name(&parse->file->peers, id ? id : text, &value->identity);
}

static int take_peer(struct kmtls_mesh_parse *parse, const char *path, const yaml_node_t *item)
{
	struct kmtls_peer_entry entry = { .line = (unsigned)item->start_mark.line + 1 };
	struct fields fields = { .names = peer_names };
	const char *texts[TRUST_DOMAIN + 1];
	int err = kmtls_mesh_pairs(parse, item, path, take_field, &fields);

	for (int i = PREFIX; !err && i <= TRUST_DOMAIN; i++)
		err = field_text(parse, path, &fields, i, &texts[i]);
	if (err)
		return err;
	if (!texts[PREFIX])
		return kmtls_mesh_fail(parse, item, path, "prefix is missing");
	if (!!texts[ID] + !!texts[TRUST_DOMAIN] + !!fields.values[BYPASS] != 1)
		return kmtls_mesh_fail(parse, item, path,
				       "needs exactly one of id, trust_domain and bypass");
	if (texts[NAMESPACE] && !texts[TRUST_DOMAIN])
		return kmtls_mesh_fail(parse, item, path,
				       "namespace: only together with trust_domain");
	err = take_prefix(parse, path, fields.values[PREFIX], texts[PREFIX], &entry.key);
	if (!err && fields.values[BYPASS])
		err = take_bypass(parse, path, fields.values[BYPASS], &entry.value);
	else if (!err)
		err = take_mesh(parse, path, item, texts[ID], texts[NAMESPACE], texts[TRUST_DOMAIN],
				&entry.value);
	return err ? err : kmtls_peer_table_append(&parse->file->peers.table, &entry);
}

int kmtls_mesh_peers(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *path)
{
	return kmtls_mesh_items(parse, node, path, take_peer);
}

/* ---- authorizations ---- */

enum { ALLOW, DENY, DRY_RUN, TO, PORT };
static const char *const rule_names[] = { "allow", "deny", "dry-run", "to", "port", NULL };

static int take_subject(struct kmtls_mesh_parse *parse, const char *path, const yaml_node_t *node,
			const char *text, __u64 *ret_hash, __u8 *ret_kind)
{
	struct kmtls_subject subject;
	const char *rule;
	__u64 hash;

	if (kmtls_subject_parse(text, &subject, &rule) < 0)
		return kmtls_mesh_fail(parse, node, path, "%.128s: %s", text, rule);
	*ret_hash = subject.hash;
	*ret_kind = (__u8)subject.kind;
	return subject.kind == KMTLS_MATCH_ANY
		       ? 0
		       : kmtls_peer_file_add_name(&parse->file->peers, subject.text, &hash);
}

static int take_rule(struct kmtls_mesh_parse *parse, const char *path, const yaml_node_t *item)
{
	static const __u32 actions[] = { KMTLS_AUTHORIZATION_ALLOW, KMTLS_AUTHORIZATION_DENY,
					 KMTLS_AUTHORIZATION_DRY_RUN };
	struct kmtls_authorization_entry entry = { .line = (unsigned)item->start_mark.line + 1 };
	struct kmtls_authorization_key *key = &entry.key;
	struct fields fields = { .names = rule_names };
	const char *texts[TO + 1];
	int err = kmtls_mesh_pairs(parse, item, path, take_field, &fields), at = -1;

	for (int i = ALLOW; !err && i <= TO; i++)
		err = field_text(parse, path, &fields, i, &texts[i]);
	if (err)
		return err;
	for (int i = ALLOW; i <= DRY_RUN; i++)
		at = !texts[i] ? at : at < 0 ? i : PORT;
	if (at < 0 || at == PORT)
		return kmtls_mesh_fail(parse, item, path,
				       "needs exactly one of allow, deny and dry-run");
	if (!texts[TO])
		return kmtls_mesh_fail(parse, item, path, "to is missing");
	entry.action = actions[at];
	err = take_subject(parse, path, fields.values[at], texts[at], &key->source,
			   &key->source_kind);
	if (!err)
		err = take_subject(parse, path, fields.values[TO], texts[TO], &key->destination,
				   &key->destination_kind);
	if (!err && fields.values[PORT])
		err = kmtls_mesh_port(parse, fields.values[PORT], path, &key->port);
	return err ? err : kmtls_authorization_table_append(&parse->file->authorizations, &entry);
}

int kmtls_mesh_authorizations(struct kmtls_mesh_parse *parse, const yaml_node_t *node,
			      const char *path)
{
	return kmtls_mesh_items(parse, node, path, take_rule);
}
