/* SPDX-License-Identifier: Apache-2.0 */
/* keeper_open.h - what a keeper opens, or finds open, before its first worker. */
#ifndef KMTLS_KEEPER_OPEN_H
#define KMTLS_KEEPER_OPEN_H

struct kmtls_config;
struct kmtls_daemon;
struct kmtls_keeper_options;

/* A ladder; nothing another daemon uses is touched before it is sure that there is none. -errno
 * and why (256 bytes). *ret_predecessor is set by a take-over. */
int kmtls_keeper_open(struct kmtls_daemon *daemon, struct kmtls_config *config,
		      const struct kmtls_keeper_options *options, int *ret_shared_fd,
		      int *ret_predecessor, char *ret_why);
/* All that is open now and was not found open is the keeper's (daemon->core). */
int kmtls_keeper_mark_core(struct kmtls_daemon *daemon);
/* A descriptor that tells the signals a keeper answers to. -errno. */
int kmtls_keeper_open_signals(int *ret_fd);
/* Signals go to a process id: those that came during an upgrade are the successor's, if there is
 * one (not 0). */
void kmtls_keeper_pass_on_signals(int fd, pid_t successor);
/* What the process is from now on: last to be killed for memory, parent of orphans. */
void kmtls_keeper_settle(void);
/* The predecessor is gone: all is ours. */
void kmtls_keeper_commit(struct kmtls_daemon *daemon);

#endif
