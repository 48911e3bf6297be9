/* SPDX-License-Identifier: Apache-2.0 */
/* mesh_file_parts.h - one file being read, shared by mesh_file.c (nodes, the whole) and
 * mesh_file_sections.c (what its sections say). */
#ifndef KMTLS_MESH_FILE_PARTS_H
#define KMTLS_MESH_FILE_PARTS_H

#include <yaml.h>

#include "mesh_file.h"

struct kmtls_mesh_parse {
	yaml_document_t document;
	struct kmtls_mesh_file *file;
	struct kmtls_mesh_file_error *error;
};

/* -EINVAL, and what is wrong where. node may be NULL. */
int kmtls_mesh_fail(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *key,
		    const char *format, ...) __attribute__((format(printf, 4, 5)));
/* NULL: not a scalar, or one with a zero byte. */
const char *kmtls_mesh_text(const yaml_node_t *node);
yaml_node_t *kmtls_mesh_node(struct kmtls_mesh_parse *parse, int index);
int kmtls_mesh_port(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *key,
		    __u16 *ret_port);

/*
 * Calls take for each pair of a mapping, with its dotted key. An empty scalar is an empty mapping.
 * Keys that are there twice are refused where keys are few and known; elsewhere by what they
 * become.
 */
int kmtls_mesh_pairs(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *path,
		     int (*take)(struct kmtls_mesh_parse *parse, const char *path, const char *name,
				 const yaml_node_t *key, const yaml_node_t *value, void *context),
		     void *context);
/* For each element of a list; an empty scalar is an empty list. */
int kmtls_mesh_items(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *path,
		     int (*take)(struct kmtls_mesh_parse *parse, const char *path,
				 const yaml_node_t *item));

/* mesh_file_sections.c */
int kmtls_mesh_modes(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *path);
int kmtls_mesh_peers(struct kmtls_mesh_parse *parse, const yaml_node_t *node, const char *path);
int kmtls_mesh_authorizations(struct kmtls_mesh_parse *parse, const yaml_node_t *node,
			      const char *path);

#endif
