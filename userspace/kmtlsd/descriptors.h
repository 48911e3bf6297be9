/* SPDX-License-Identifier: Apache-2.0 */
/*
 * descriptors.h - the table of open descriptors, which outlives workers: walking it, and sets of
 * descriptors. Nothing here allocates but kmtls_descriptor_set_fill().
 */
#ifndef KMTLS_DESCRIPTORS_H
#define KMTLS_DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>

/* Calls visit with each open descriptor but the one used for looking. A non-zero return of visit
 * ends the walk and is returned; -errno. */
int kmtls_descriptors_visit(int (*visit)(void *context, int fd), void *context);

/* Bits by number. */
struct kmtls_descriptor_set {
	unsigned long *bits;
	unsigned size; /* numbers it has room for */
};

/* All that are open now. -ENOMEM, -errno. */
int kmtls_descriptor_set_fill(struct kmtls_descriptor_set *set);
void kmtls_descriptor_set_free(struct kmtls_descriptor_set *set);
/* A number beyond the room is not in the set, and cannot be put there. */
void kmtls_descriptor_set_add(struct kmtls_descriptor_set *set, int fd);
void kmtls_descriptor_set_remove(struct kmtls_descriptor_set *set, int fd);
bool kmtls_descriptor_set_has(const struct kmtls_descriptor_set *set, int fd);

#endif
