/* SPDX-License-Identifier: Apache-2.0 */
/* builtin.h - the built-in backend for tests, with the file of its root in a directory of their own. */
#ifndef KMTLS_TEST_BUILTIN_H
#define KMTLS_TEST_BUILTIN_H

#include "identity.h"

extern char builtin_directory[]; /* from builtin_setup_group() on */
extern char builtin_root[]; /* path in it */
extern struct kmtls_config_backend builtin_backend; /* of the options made last */

/* Anew, as if configured with this root file. */
struct kmtls_identity_options builtin_options(const char *root_file);
/* With these. Fails the test with the reason if it does not open. */
struct kmtls_identity *builtin_open(const char *root_file);

int builtin_setup_group(void **state);
int builtin_teardown_group(void **state);
/* What a test has left in the directory goes. */
int builtin_teardown(void **state);

#endif
