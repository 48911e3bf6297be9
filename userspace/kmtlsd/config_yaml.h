/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_yaml.h - where in a YAML file each key stands and how its value is spelt. libcyaml
 * checks a file against a schema, but forgets lines once it is done and takes things the
 * daemon does not want in its configuration (aliases, tags, several documents); this index
 * refuses those first and gives later checks the line they complain about.
 */
#ifndef KMTLS_CONFIG_YAML_H
#define KMTLS_CONFIG_YAML_H

#include <stdbool.h>
#include <stddef.h>

#define KMTLS_YAML_KEY 256 /* longest dotted key, with its zero */
#define KMTLS_YAML_RULE 256

struct kmtls_yaml_entry {
	/* Dotted, "keepalive.idle"; of the list, for an item; "identity.backends[0].name" in a mapping
	 * that is an item. */
	char *key;
	int item; /* index in the list, -1: not an item */
	unsigned line; /* of the key, or of the item; from 1 */
	bool plain; /* a scalar without quotes */
	char *text; /* NULL: a list or a mapping */
};

struct kmtls_yaml {
	struct kmtls_yaml_entry *entries;
	unsigned count, size;
	unsigned line; /* of the first value, from 1; 0: there is none */
};

struct kmtls_yaml_error {
	unsigned line; /* 0: none */
	char key[KMTLS_YAML_KEY]; /* "": none */
	char rule[KMTLS_YAML_RULE];
};

/* -EINVAL and what is wrong in ret_error; -ENOMEM. */
int kmtls_yaml_index(const char *bytes, size_t length, struct kmtls_yaml *ret_yaml,
		     struct kmtls_yaml_error *ret_error);
void kmtls_yaml_free(struct kmtls_yaml *yaml);
/* NULL: the file does not have it. */
const struct kmtls_yaml_entry *kmtls_yaml_find(const struct kmtls_yaml *yaml, const char *key,
					       int item);

#endif
