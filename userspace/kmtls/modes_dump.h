/* SPDX-License-Identifier: Apache-2.0 */
/* modes_dump.h - the map of modes as JSON, whether the daemon answers or not. */
#ifndef KMTLS_MODES_DUMP_H
#define KMTLS_MODES_DUMP_H

#include <jansson.h>

/* A list of objects; one with an error if the map cannot be read. NULL: no memory. */
json_t *kmtls_modes_dump(const char *bpf_dir);

#endif
