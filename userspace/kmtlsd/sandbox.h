/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - what a worker gives up before it listens to anybody: capabilities, programs,
 * processes, and every system call it has no use for. docs/security.md says which and why.
 */
#ifndef KMTLS_SANDBOX_H
#define KMTLS_SANDBOX_H

struct kmtls_config;

/* The process's own oom_score_adj, -1000 (never killed) to 1000. -EACCES: lower than it was, and
 * no CAP_SYS_RESOURCE. */
int kmtls_sandbox_oom(int value);

/*
 * For the rest of the process's life, and for all threads it makes from here on; there must not be
 * another one yet (-EBUSY). A refused call returns EPERM and leaves a line in the kernel's log
 * (audit, type 1326). -errno with a sentence in ret_why (KMTLS_WHY bytes); some of it may be in
 * force then, so the process must end.
 */
int kmtls_sandbox_enter(const struct kmtls_config *config, char *ret_why);

#endif
