/* SPDX-License-Identifier: Apache-2.0 */
/* workload_parts.h - shared by workload_bundles.c and workload_identity.c. */
#ifndef KMTLS_WORKLOAD_PARTS_H
#define KMTLS_WORKLOAD_PARTS_H

#include "workload_identity.h"

/* Writes the sentence, empties OpenSSL's queue and returns err. */
int kmtls_workload_refuse(int err, char *ret_why, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Appends every certificate; what: for the sentence. */
int kmtls_workload_read_certificates(ProtobufCBinaryData der, const char *what, int max,
				     STACK_OF(X509) * to, char *ret_why);
struct kmtls_workload_bundle *kmtls_workload_bundles_extend(struct kmtls_workload_bundles *bundles);

#endif
