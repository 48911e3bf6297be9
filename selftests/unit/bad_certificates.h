/* SPDX-License-Identifier: Apache-2.0 */
/* bad_certificates.h - the table of test_bad_certificates.c: one broken rule in each row. */
#ifndef KMTLS_TEST_BAD_CERTIFICATES_H
#define KMTLS_TEST_BAD_CERTIFICATES_H

#include <stddef.h>

#include "certificates.h"

#define BAD_PARTNER "partner.org" /* a trust domain that is federated */
#define BAD_ROLE_ID "role" /* the ID that is expected of the peer */
#define BAD_CAS_MAX 12

enum bad_root {
	BAD_ROOT_OWN = 0,
	BAD_ROOT_PARTNER, /* of partner.org */
	BAD_ROOT_OTHER, /* in nobody's bundle */
};

struct bad_certificate {
	const char *name;
	struct test_spec leaf;
	const struct test_spec *cas[BAD_CAS_MAX]; /* from the root down to the leaf */
	enum bad_root root;
	bool self_signed;
	bool no_chain; /* the CAs are not sent */
	unsigned junk; /* more certificates behind the chain */
	void (*garble)(unsigned char **bytes, int *length); /* of the leaf, once it is signed */
	enum kmtls_reason reason; /* ours */
	int alert; /* what the peer gets */
	int alert_to_server; /* a server, if it gets another one */
	const char *detail; /* a part of what our log says; NULL: anything */
	enum kmtls_role only_role; /* the bad side's; 0: both */
};

extern const struct bad_certificate bad_certificates[];
extern const size_t bad_certificates_count;

/* Fills in the texts that are too long to be written down. */
void bad_certificates_prepare(void);

#endif
