/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handover.h - everything a keeper has goes to another process: to a program it executes
 * (upgrade), or to one that asks through the control socket (take-over, for containers). The
 * worker is dead by then and nothing moves, so that the old keeper can go on if the new one
 * does not get ready.
 *
 *   new:  READY, or FAILED and a sentence             -> old
 *   old:  GO, and exits. End of file without GO means -> new: do not touch anything, exit.
 */
#ifndef KMTLS_HANDOVER_H
#define KMTLS_HANDOVER_H

#include <sys/types.h>

struct kmtls_daemon;

#define KMTLS_HANDOVER_READY 'R'
#define KMTLS_HANDOVER_FAILED 'F'
#define KMTLS_HANDOVER_GO 'G'
/* Seconds for the successor to get ready: it loads programs, and machines are slow. */
#define KMTLS_HANDOVER_TIMEOUT 60

/* ---- old keeper; nothing here allocates ---- */

/* Executes program --config config with everything open; the other end of the conversation in
 * *ret_socket. The child's pid, or -errno. */
pid_t kmtls_handover_execute(const struct kmtls_daemon *daemon, int shared_fd, const char *program,
			     const char *config, int *ret_socket);
/* Sends everything through socket. -errno. */
int kmtls_handover_send(const struct kmtls_daemon *daemon, int shared_fd, int socket);
/* Waits for the successor's word; calls tick every second meanwhile. 0: ready. -errno, and why (256
 * bytes). */
int kmtls_handover_await(int socket, void (*tick)(void *context), void *context, char *ret_why);
int kmtls_handover_go(int socket);
/* Kills a successor that failed, its worker and whatever else its program left behind: all have
 * copies of the descriptors, and become children of this process, their subreaper. */
void kmtls_handover_end(pid_t child);
/* Kills the process at the other end of a take-over that failed, if it can be seen from here. */
void kmtls_handover_end_peer(int socket);

/* ---- new keeper ---- */

/* Asks the daemon behind the control socket at path for everything it has and puts each
 * descriptor where it was there. The conversation's socket, or -errno and why. */
int kmtls_handover_receive(const char *path, int *ret_shared_fd, char *ret_why);
int kmtls_handover_tell(int socket, char word, const char *why);
/* Until the old keeper has said GO and is gone. -ECANCELED: it did not. */
int kmtls_handover_await_go(int socket);

#endif
