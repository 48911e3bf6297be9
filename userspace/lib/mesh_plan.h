/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mesh_plan.h - modes and authorizations in memory, sorted, and what must be written to get from
 * one set of them to another without ever allowing what neither allows. For that each entry that
 * changes goes through a middle: as strict as the stricter of before and after. First every middle
 * is written, then the peers map, then what shall be in the end.
 *
 * Modes of the mesh are the last of the first round and the first of the second, and of any other
 * entries the order does not matter: under a strict mesh entries are ignored, and what is said of a
 * port of every pod stands out.
 */
#ifndef KMTLS_MESH_PLAN_H
#define KMTLS_MESH_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "kmtls/abi.h"

/* In place of a mode or an action: there is no entry. */
#define KMTLS_MESH_NONE 0xffffffffu

struct kmtls_mode_entry {
	struct kmtls_mode_key key;
	__u32 mode;
	unsigned line; /* of the file, or 0 */
};

struct kmtls_mode_table {
	struct kmtls_mode_entry *entries;
	size_t count, size;
};

struct kmtls_authorization_entry {
	struct kmtls_authorization_key key;
	__u32 action;
	unsigned line;
};

struct kmtls_authorization_table {
	struct kmtls_authorization_entry *entries;
	size_t count, size;
};

int kmtls_mode_table_append(struct kmtls_mode_table *table, const struct kmtls_mode_entry *entry);
/* By key, then by line; as bytes, so that readers agree. */
void kmtls_mode_table_sort(struct kmtls_mode_table *table);
int kmtls_authorization_table_append(struct kmtls_authorization_table *table,
				     const struct kmtls_authorization_entry *entry);
void kmtls_authorization_table_sort(struct kmtls_authorization_table *table);

/* What becomes of one entry; NONE where there is none. */
struct kmtls_mesh_step {
	__u32 before, middle, after;
};

struct kmtls_mode_step {
	struct kmtls_mode_key key;
	struct kmtls_mesh_step step;
};

struct kmtls_authorization_step {
	struct kmtls_authorization_key key;
	struct kmtls_mesh_step step;
};

struct kmtls_mesh_plan {
	struct kmtls_mode_step *modes; /* in the order of the first round */
	struct kmtls_authorization_step *authorizations;
	size_t mode_count, authorization_count;
	size_t modes_added, authorizations_added;
};

/* All tables sorted, each key once. has_*: the section is to become exactly what is wanted;
 * else it is left alone. -ENOMEM. */
int kmtls_mesh_plan_make(const struct kmtls_mode_table *modes_before,
			 const struct kmtls_mode_table *modes_wanted, bool has_modes,
			 const struct kmtls_authorization_table *authorizations_before,
			 const struct kmtls_authorization_table *authorizations_wanted,
			 bool has_authorizations, struct kmtls_mesh_plan *ret_plan);
void kmtls_mesh_plan_free(struct kmtls_mesh_plan *plan);

#endif
