/* SPDX-License-Identifier: Apache-2.0 */
/* netlink.h - one question to the kernel that has one answer. What is a list goes through libnl (diag.c). */
#ifndef KMTLS_NETLINK_H
#define KMTLS_NETLINK_H

#include <linux/netlink.h>
#include <stddef.h>

#define KMTLS_NETLINK_ROOM 4096

union kmtls_netlink_answer {
	struct nlmsghdr header;
	char bytes[KMTLS_NETLINK_ROOM];
};

/*
 * In the namespace of the calling thread. The answer is of that type and has at least so many bytes
 * after its header. The kernel's own error, e.g. -ENOENT; -EPROTO: another answer.
 */
int kmtls_netlink_ask(int protocol, const struct nlmsghdr *question, int type, size_t size,
		      union kmtls_netlink_answer *ret_answer);

#endif
