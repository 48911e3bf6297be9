/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.h - the process that stays. It opens what workers share (descriptors, flow table,
 * shared memory, programs and maps), makes a worker, makes the next one when that dies, and
 * hands everything to a new version of itself. It moves no bytes, knows no keys, uses no
 * OpenSSL, has one thread, and allocates nothing once the first worker runs.
 */
#ifndef KMTLS_KEEPER_H
#define KMTLS_KEEPER_H

struct kmtls_config;

struct kmtls_keeper_options {
	const char *program; /* path of this program, for an upgrade to its successor */
	const char *config_path; /* likewise */
	/* At most one of the two: */
	int inherit_fd,
		predecessor; /* executed by a keeper: its shared memory, its socket; or -1 */
	const char *take_over; /* control socket of a daemon to take over from, or NULL */
};

/* Until told to stop. 0; -errno and why (256 bytes): it could not start. */
int kmtls_keeper_run(struct kmtls_config *config, const struct kmtls_keeper_options *options,
		     char *ret_why);

#endif
