/* SPDX-License-Identifier: Apache-2.0 */
/* notify.c - see notify.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "notify.h"

/* systemd writes abstract names with an @ where the kernel wants a zero. A path ends with a
 * zero, an abstract name where its length says. */
static int parse_address(const char *text, struct kmtls_notify_socket *notify)
{
	size_t length = strlen(text);

	if ((text[0] != '/' && text[0] != '@') || length < 2)
		return -EINVAL;
	if (text[0] == '/')
		length++;
	if (length > sizeof(notify->address.sun_path))
		return -EINVAL;
	notify->address.sun_family = AF_UNIX;
	memcpy(notify->address.sun_path, text, length);
	if (text[0] == '@')
		notify->address.sun_path[0] = '\0';
	notify->length = offsetof(struct sockaddr_un, sun_path) + length;
	return 0;
}

int kmtls_notify_open(struct kmtls_notify_socket *ret_notify)
{
	const char *text = getenv("NOTIFY_SOCKET");
	struct kmtls_notify_socket notify = { .fd = -1 };
	int err;

	*ret_notify = notify;
	if (!text)
		return 0;
	err = parse_address(text, &notify);
	if (err)
		return err;
	/* Not connected: the manager may bind its socket anew while we run. */
	notify.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (notify.fd < 0)
		return -errno;
	*ret_notify = notify;
	return 0;
}

void kmtls_notify_close(struct kmtls_notify_socket *notify)
{
	if (notify->fd >= 0)
		close(notify->fd);
	notify->fd = -1;
}

int kmtls_notify_send(const struct kmtls_notify_socket *notify, const char *format, ...)
{
	char message[KMTLS_NOTIFY_MESSAGE];
	va_list arguments;
	ssize_t sent;
	int length;

	if (notify->fd < 0)
		return 0;
	va_start(arguments, format);
	length = vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	if (length < 0)
		return -EINVAL;
	/* Never in part: a number that lost its last digits names another process. */
	if ((size_t)length >= sizeof(message))
		return -EMSGSIZE;
	do
		sent = sendto(notify->fd, message, length, MSG_NOSIGNAL,
			      (const struct sockaddr *)&notify->address, notify->length);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

int kmtls_notify_reloading(const struct kmtls_notify_socket *notify, const char *status)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return kmtls_notify_send(notify, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=%s",
				 (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000,
				 status);
}

int kmtls_notify_main_pid(const struct kmtls_notify_socket *notify, pid_t pid)
{
	return kmtls_notify_send(notify, "MAINPID=%d", (int)pid);
}

/* 0: not set, or no number. */
static uint64_t number_of(const char *name)
{
	const char *text = getenv(name);
	uint64_t number;
	char *end;

	if (!text || text[0] < '0' || text[0] > '9')
		return 0;
	errno = 0;
	number = strtoull(text, &end, 10);
	return errno || *end ? 0 : number;
}

uint64_t kmtls_notify_watchdog_usec(void)
{
	if (getenv("WATCHDOG_PID") && number_of("WATCHDOG_PID") != (uint64_t)getpid())
		return 0;
	return number_of("WATCHDOG_USEC");
}

void kmtls_notify_pass_on_watchdog(void)
{
	/* Without a number it is whoever knows the interval. unsetenv() allocates nothing. */
	if (kmtls_notify_watchdog_usec())
		unsetenv("WATCHDOG_PID");
}
