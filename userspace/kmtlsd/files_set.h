/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files_set.h - SVID, key and trust bundle as somebody else has written them into a directory
 * (spiffe-helper, cert-manager's csi-driver-spiffe, Vault agent), read as one thing: all three of
 * the same state of the directory, and checked, so that whoever gets one may use it.
 */
#ifndef KMTLS_FILES_SET_H
#define KMTLS_FILES_SET_H

#include <openssl/x509.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#include "kmtls/abi.h"

#define KMTLS_FILES 3 /* SVID, key, bundle */

/* Where they are. Names are without a slash; trust_domain is that of the SVID. */
struct kmtls_files_place {
	const char *directory;
	const char *names[KMTLS_FILES];
	const char *trust_domain;
};

/* By what a state of the directory is told from another. All zero: nothing could be seen. */
struct kmtls_files_mark {
	struct kmtls_files_stamp {
		dev_t device;
		ino_t inode;
		off_t size;
		struct timespec modified, changed;
	} stamps[2 + KMTLS_FILES]; /* the directory, what ..data leads to, the files */
};

struct kmtls_files_set {
	EVP_PKEY *key;
	X509 *leaf;
	STACK_OF(X509) * chain; /* nearest issuer first; NULL: leaf only */
	STACK_OF(X509) * roots;
	char id[KMTLS_SPIFFE_ID_MAX + 1];
	time_t not_after; /* of the leaf */
};

/*
 * -errno and a sentence that names file and rule in ret_why (256 bytes); -ENOENT: the directory or a
 * file is not there; -EAGAIN: it changes faster than it can be read. ret_mark is that of what was
 * read, also if it was refused.
 */
int kmtls_files_set_read(const struct kmtls_files_place *place, struct kmtls_files_set *ret_set,
			 struct kmtls_files_mark *ret_mark, char *ret_why);
/* Whether the directory looks as it did then. */
bool kmtls_files_mark_holds(const struct kmtls_files_place *place,
			    const struct kmtls_files_mark *mark);
void kmtls_files_set_clear(struct kmtls_files_set *set);

/* files_check.c: the rules. The chain of set is as in the file, the leaf first; a root at its end is
 * taken away. */
int kmtls_files_set_check(const struct kmtls_files_place *place, struct kmtls_files_set *set,
			  char *ret_why);

#endif
