/* SPDX-License-Identifier: Apache-2.0 */
/* pki.h - somebody's PKI for tests, in files, and the backend that is to use it. */
#ifndef KMTLS_TEST_PKI_H
#define KMTLS_TEST_PKI_H

#include "certificates.h"
#include "identities.h"
#include "secret_region.h"

/* A root, intermediates i (nearest the root), j, k, and another root. */
enum { ROOT, I, J, K, OTHER, CAS };

struct pki {
	struct test_spec specs[CAS];
	struct test_certificate cas[CAS];
};

extern char pki_cert_file[64], pki_key_file[64], pki_bundle_file[64], pki_directory[64];
extern char pki_why[KMTLS_IDENTITY_WHY]; /* of the last refusal */
extern struct kmtls_config_backend pki_backend; /* names the files */

/* Of a group and of each test. */
int pki_setup_group(void **state);
int pki_teardown_group(void **state);
int pki_setup(void **state);
int pki_teardown(void **state);

/* What it will be, to be changed, and what it then is. */
void pki_plan(struct pki *pki);
void pki_make(struct pki *pki);
void pki_free(struct pki *pki);

/* Letters r, i, j, k, o: certificates; upper case: keys; e: an encrypted key, x: cut off, m: malformed,
 * g: garbage. bundle NULL: none. */
void pki_write_file(const char *path, const struct pki *pki, const char *parts);
void pki_write(const struct pki *pki, const char *cert, const char *key, const char *bundle);

int pki_try_open(struct kmtls_secret_region *secrets, bool prefer_kept,
		 struct kmtls_identity **ret_identity);
struct kmtls_identity *pki_must_open(void);
/* With exactly this sentence; %c, %k, %b at its begin and %c in it: the files. */
void pki_must_refuse(const char *wanted);

#endif
