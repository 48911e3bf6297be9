/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_maps.h - the pinned maps as `kmtls peer load` writes them, without the daemon: it would
 * have to hold a hundred thousand entries and what they replace, and its control socket is made
 * for single requests. All or nothing: what fails half-way is taken back.
 */
#ifndef KMTLS_PEER_MAPS_H
#define KMTLS_PEER_MAPS_H

#include <limits.h>
#include <stdbool.h>

#include "peer_file.h"

#define KMTLS_PEER_MAPS_WHY 512

/* What else is written with the peers, all or nothing (mesh_maps.h). Both return -errno. */
struct kmtls_peer_around {
	/* The first round after the texts, the second after the peers. */
	int (*write)(void *context, bool second);
	/* What was written of the second round, or of the first, as it was before it: the number of
	 * entries that are not. */
	size_t (*undo)(void *context, bool second);
	void *context;
};

struct kmtls_peer_maps {
	char directory[PATH_MAX];
	int lock_fd; /* of DIR/internal: one load at a time */
	int settings, peers, names, counters;
	size_t capacity; /* of peers */
	/* Called now and then while writing; may be NULL. */
	void (*progress)(const char *what, size_t done, size_t total);
	const struct kmtls_peer_around *around; /* may be NULL */
};

/* Everything that takes ret_why writes a sentence of at most KMTLS_PEER_MAPS_WHY bytes into it on
 * failure, and returns -errno. */

/* -EPROTO: maps of another version; -EWOULDBLOCK: another load runs. */
int kmtls_peer_maps_open(const char *directory, struct kmtls_peer_maps *ret_maps, char *ret_why);
void kmtls_peer_maps_close(struct kmtls_peer_maps *maps);

/* Sorted. */
int kmtls_peer_maps_read(struct kmtls_peer_maps *maps, struct kmtls_peer_table *ret_table,
			 char *ret_why);
/* The text of hash, or "". ret_text: KMTLS_SPIFFE_ID_MAX + 1 bytes. */
void kmtls_peer_maps_name(struct kmtls_peer_maps *maps, __u64 hash, char *ret_text);

/*
 * Texts first, then the plan. On failure all is as it was before and ret_why says so; or what
 * could not be put back. SIGINT, SIGTERM and SIGHUP count as failure (-EINTR); they stay blocked.
 */
int kmtls_peer_maps_apply(struct kmtls_peer_maps *maps, const struct kmtls_peer_file *file,
			  const struct kmtls_peer_plan *plan, char *ret_why);

/* ---- for mesh_maps.c and each other ---- */

/* Writes the sentence and returns err. */
int kmtls_peer_maps_fail(char *ret_why, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Another map of the directory; ret_capacity may be NULL. */
int kmtls_peer_maps_open_map(const char *directory, const char *name, __u32 key_size,
			     __u32 value_size, size_t *ret_capacity, char *ret_why);
/* A write was refused because a map is full: counted. */
void kmtls_peer_maps_count_full(struct kmtls_peer_maps *maps);
/* Somebody wants us to end. */
bool kmtls_peer_maps_is_interrupted(void);

#endif
