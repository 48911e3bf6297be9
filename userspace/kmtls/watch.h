/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h - the same again and again: on a terminal in the same place, elsewhere below. */
#ifndef KMTLS_WATCH_H
#define KMTLS_WATCH_H

#include "cli.h"

struct kmtls_watch {
	bool on;
	const char *interval; /* as it was typed; NULL: 2 */
};

/* What a verb adds to its options. */
#define KMTLS_WATCH_OPTIONS(watch)                                                         \
	{ .name = "-w", .flag = &(watch).on }, { .name = "--watch", .flag = &(watch).on }, \
	{                                                                                  \
		.name = "--interval", .values = &(watch).interval, .limit = 1              \
	}

/* Before and after a page. -EIO: standard output does not take it any more. */
void kmtls_watch_begin_page(const struct kmtls_cli *cli);
int kmtls_watch_end_page(const struct kmtls_cli *cli);
/* Seconds, 1 to 3600. 0 or KMTLS_EXIT_USAGE. */
int kmtls_watch_interval(const struct kmtls_cli *cli, const struct kmtls_watch *watch,
			 unsigned *ret_seconds);
/*
 * Calls show, once or until it fails or standard output does. show prints; its exit status is
 * returned.
 */
int kmtls_watch_run(const struct kmtls_cli *cli, const struct kmtls_watch *watch,
		    int (*show)(const struct kmtls_cli *cli, void *context), void *context);

#endif
