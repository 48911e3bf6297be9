/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.h - what the parts of `kmtls check` share: a list of findings. A part asks the kernel, the
 * pins or the daemon, and adds what it found; cmd_check.c prints.
 */
#ifndef KMTLS_CHECK_H
#define KMTLS_CHECK_H

#include <jansson.h>

#include "cli.h"

enum kmtls_check_level {
	KMTLS_CHECK_OK,
	KMTLS_CHECK_WARNING,
	KMTLS_CHECK_FAILED,
};

struct kmtls_check {
	const struct kmtls_cli *cli;
	const char *bpf_dir; /* where pins are looked for */
	const char *group; /* of what is added next */
	json_t *findings; /* objects with group, name, level, text, advice */
	/* The daemon's answers; NULL: it did not give one. */
	json_t *status, *pods, *probes;
	char down[256]; /* why there are none */
};

/* One finding. advice: what to do, NULL for one that is fine. */
void kmtls_check_add(struct kmtls_check *check, enum kmtls_check_level level, const char *name,
		     const char *advice, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

/* Runs all; the report as --json prints it. */
json_t *kmtls_check_report(struct kmtls_cli *cli, const char *bpf_dir);

/* check_kernel.c, check_maps.c, check_links.c, check_daemon.c */
void kmtls_check_kernel(struct kmtls_check *check);
void kmtls_check_maps(struct kmtls_check *check);
void kmtls_check_links(struct kmtls_check *check);
void kmtls_check_ask_daemon(struct kmtls_check *check);
void kmtls_check_daemon(struct kmtls_check *check);
void kmtls_check_identity(struct kmtls_check *check);

#endif
