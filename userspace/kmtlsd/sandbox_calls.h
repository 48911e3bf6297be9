/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_calls.h - the allow-list of sandbox.c. */
#ifndef KMTLS_SANDBOX_CALLS_H
#define KMTLS_SANDBOX_CALLS_H

#include <stdint.h>

/* The call is allowed if (argument & mask) == value. */
struct kmtls_sandbox_rule {
	int call;
	unsigned argument;
	uint64_t mask, value;
};

extern const int kmtls_sandbox_calls[]; /* with any arguments */
extern const unsigned kmtls_sandbox_calls_count;
extern const struct kmtls_sandbox_rule kmtls_sandbox_rules[];
extern const unsigned kmtls_sandbox_rules_count;

#endif
