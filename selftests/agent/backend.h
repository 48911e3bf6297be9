/* SPDX-License-Identifier: Apache-2.0 */
/* backend.h - agentctl's third kind: identity backends of a configuration (backend.c). */
#ifndef KMTLS_AGENTCTL_BACKEND_H
#define KMTLS_AGENTCTL_BACKEND_H

#include <jansson.h>

int backend_open(const char *path);
/* The answer to one command. */
json_t *backend_obey(int count, char **words);
void backend_close(void);

#endif
