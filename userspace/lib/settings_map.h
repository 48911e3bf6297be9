/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings_map.h - changes of single fields of the map `settings`, which several processes write.
 * Each is one atomic store into the mmapped element: writing the element as a whole would put back
 * what somebody else has just changed.
 */
#ifndef KMTLS_SETTINGS_MAP_H
#define KMTLS_SETTINGS_MAP_H

#include "kmtls/abi.h"

/* fd: of the map. 0 or -errno. */
int kmtls_settings_map_bump(int fd); /* the generation, after a change of a policy map */
int kmtls_settings_map_put_default(int fd, __u32 authorization_default); /* nothing else */
int kmtls_settings_map_set_default(int fd, __u32 authorization_default); /* and the generation */

#endif
