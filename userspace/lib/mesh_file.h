/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mesh_file.h - a whole declared policy, as `kmtls apply` takes it. YAML; kmtls-apply(8) has the
 * form. Walked node by node, since each complaint needs the line of what it is about, of an
 * element of a list too. Parsing touches nothing but memory.
 */
#ifndef KMTLS_MESH_FILE_H
#define KMTLS_MESH_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "kmtls/abi.h"
#include "mesh_plan.h"
#include "peer_file.h"

#define KMTLS_MESH_FILE_MAX (16u << 20) /* bytes */

struct kmtls_mesh_file {
	/* Sections that the file has, be they empty. */
	bool has_modes, has_peers, has_authorizations;
	struct kmtls_mode_table modes; /* sorted */
	struct kmtls_authorization_table authorizations; /* sorted */
	struct kmtls_peer_file peers; /* its names are those of the whole file */
	__u32 authorization_default; /* enum kmtls_authorization_default; UNSET: not said */
};

struct kmtls_mesh_file_error {
	unsigned line; /* 0: of the file as a whole */
	char key[256]; /* dotted; "": none. May hold bytes of the file. */
	char rule[512];
};

/* bytes may hold anything. 0; -EINVAL and ret_error; -ENOMEM. */
int kmtls_mesh_file_parse(const char *bytes, size_t length, struct kmtls_mesh_file *ret_file,
			  struct kmtls_mesh_file_error *ret_error);
void kmtls_mesh_file_free(struct kmtls_mesh_file *file);

#endif
