/* SPDX-License-Identifier: Apache-2.0 */
/* names_collect.h - removes texts of the names map that nothing refers to any more. */
#ifndef KMTLS_NAMES_COLLECT_H
#define KMTLS_NAMES_COLLECT_H

#include <linux/types.h>
#include <stddef.h>

/*
 * directory: where the operator's maps are pinned. Of candidates (NULL: all there are)
 * those go that are not in keep (sorted) and whose hash is in no key or value of another map
 * there. Every aligned 64-bit number of those maps counts as a hash, so a map needs no entry here:
 * at worst a text stays that might have gone.
 *
 * What is referred to by the time it was removed comes back. Who writes a text writes it, then the
 * reference, then the text once more if it has gone: so none is lost whenever this runs. A free slot
 * of the table of flows refers to nothing. -ENOMEM; -ENOENT: maps are missing that would have to be
 * asked; -errno of a map that could not be read: nothing was removed then.
 */
int kmtls_names_collect(const char *directory, const __u64 *candidates, size_t count,
			const __u64 *keep, size_t keep_count, size_t *ret_removed);

int kmtls_names_compare(const void *a, const void *b); /* of two __u64, for qsort() */

#endif
