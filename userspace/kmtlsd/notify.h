/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.h - what the service manager is told: sd_notify(3) without libsystemd. Nothing here
 * allocates, blocks or makes a thread.
 */
#ifndef KMTLS_NOTIFY_H
#define KMTLS_NOTIFY_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

/* The longest message, with its end. */
#define KMTLS_NOTIFY_MESSAGE 512

struct kmtls_notify_socket {
	int fd; /* -1: nobody wants to know */
	socklen_t length;
	struct sockaddr_un address;
};

/* Reads $NOTIFY_SOCKET, which stays set for those who come after an exec. 0 also when it is not
 * set: fd is -1 then and kmtls_notify_send() does nothing. -EINVAL: an address that is neither a
 * path nor an abstract name; -errno. After an error too, ret_notify can be used, and is silent. */
int kmtls_notify_open(struct kmtls_notify_socket *ret_notify);
void kmtls_notify_close(struct kmtls_notify_socket *notify);

/* Lines of sd_notify(3): "READY=1\nSTATUS=%u flows". A value must not hold a newline, which would
 * begin another one. -EMSGSIZE: longer than KMTLS_NOTIFY_MESSAGE, nothing was sent; -EAGAIN: the
 * manager's queue is full, try later; -errno. */
int kmtls_notify_send(const struct kmtls_notify_socket *notify, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* RELOADING=1 with the time that the manager wants to see beside it. READY=1 ends it. */
int kmtls_notify_reloading(const struct kmtls_notify_socket *notify, const char *status);
/* To be sent by the main process: pid takes its place. */
int kmtls_notify_main_pid(const struct kmtls_notify_socket *notify, pid_t pid);

/* How many microseconds may pass between two WATCHDOG=1 before the manager takes us for dead: send
 * one every half of it. 0: nobody watches this process. */
uint64_t kmtls_notify_watchdog_usec(void);
/* Before the fork of a child that will exec the next main process: the watchdog was promised to
 * this process by its number; from now on it is anybody's who has the environment. */
void kmtls_notify_pass_on_watchdog(void);

#endif
