/* SPDX-License-Identifier: Apache-2.0 */
/* written.h - a directory with SVID, key and bundle, as others write them, for tests. */
#ifndef KMTLS_TEST_WRITTEN_H
#define KMTLS_TEST_WRITTEN_H

#include "certificates.h"

#define WRITTEN_SVID "svid.pem"
#define WRITTEN_KEY "svid_key.pem"
#define WRITTEN_BUNDLE "bundle.pem"

/* What signs: a root, one CA below it, another root. */
struct written_pki {
	struct test_certificate root, ca, other;
};

extern char
	written_path[64]; /* a directory of the test's own; made by setup, removed by teardown */

int written_setup(void **state);
int written_teardown(void **state);

struct written_pki written_pki_make(void);
void written_pki_free(struct written_pki *pki);

/* A leaf below ca. */
struct test_certificate written_leaf(const struct written_pki *pki, const struct test_spec *spec);
/* One file below written_path, by way of another name. parts: l the leaf, c, r, o the CAs; in upper case
 * their keys; x: a certificate cut off, g: garbage. */
void written_file(const char *name, const struct written_pki *pki,
		  const struct test_certificate *leaf, const char *parts);
/* A whole set for id into directory (below written_path, "" is itself), which is made. */
void written_set(const char *directory, const struct written_pki *pki, const char *id);
/* Turns the symbolic link name to target at once. */
void written_link(const char *name, const char *target);
/* As Kubernetes has it: a directory of this number, ..data turned to it, the names lead through it. */
void written_generation(unsigned number, const struct written_pki *pki, const char *id);

#endif
