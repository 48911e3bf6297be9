/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mesh_maps.h - the whole policy in the pinned maps, as `kmtls apply` reads and writes it: modes,
 * authorizations and their default around the peers, which peer_maps.h writes. All or nothing;
 * the order, and why nothing is let through meanwhile, is mesh_plan.h's.
 */
#ifndef KMTLS_MESH_MAPS_H
#define KMTLS_MESH_MAPS_H

#include "mesh_file.h"
#include "mesh_plan.h"
#include "peer_maps.h"

struct kmtls_mesh_maps {
	struct kmtls_peer_maps peers;
	int modes, authorizations;
	size_t mode_capacity, authorization_capacity;
};

/* What the maps hold. */
struct kmtls_mesh_state {
	struct kmtls_mode_table modes; /* tables sorted */
	struct kmtls_authorization_table authorizations;
	struct kmtls_peer_table peers;
	__u32 authorization_default;
};

/* What is to be done. */
struct kmtls_mesh_change {
	struct kmtls_mesh_plan plan;
	struct kmtls_peer_plan peers;
	__u32 default_before, default_after; /* the same: it stays */
};

/* ret_why: KMTLS_PEER_MAPS_WHY bytes, as in peer_maps.h. */
int kmtls_mesh_maps_open(const char *directory, struct kmtls_mesh_maps *ret_maps, char *ret_why);
void kmtls_mesh_maps_close(struct kmtls_mesh_maps *maps);
int kmtls_mesh_maps_read(struct kmtls_mesh_maps *maps, struct kmtls_mesh_state *ret_state,
			 char *ret_why);
void kmtls_mesh_state_free(struct kmtls_mesh_state *state);

/* From state to file. prune: sections that the file does not have are empty; the default is not a
 * section. -ENOMEM. */
int kmtls_mesh_change_make(const struct kmtls_mesh_state *state, const struct kmtls_mesh_file *file,
			   bool prune, struct kmtls_mesh_change *ret_change);
bool kmtls_mesh_change_is_empty(const struct kmtls_mesh_change *change);
void kmtls_mesh_change_free(struct kmtls_mesh_change *change);

/* On failure all is as it was before and ret_why says so; or what could not be put back. Signals as
 * in kmtls_peer_maps_apply(). */
int kmtls_mesh_maps_apply(struct kmtls_mesh_maps *maps, const struct kmtls_mesh_state *state,
			  const struct kmtls_mesh_file *file,
			  const struct kmtls_mesh_change *change, char *ret_why);

#endif
