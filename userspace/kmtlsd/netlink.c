/* SPDX-License-Identifier: Apache-2.0 */
/* netlink.c - see netlink.h. */
#include "netlink.h"

#include <errno.h>
#include <sys/socket.h>

#include "cleanup.h"

int kmtls_netlink_ask(int protocol, const struct nlmsghdr *question, int type, size_t size,
		      union kmtls_netlink_answer *ret_answer)
{
	__cleanup_fd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	const struct nlmsghdr *header = &ret_answer->header;
	ssize_t length;

	if (fd < 0 || send(fd, question, question->nlmsg_len, 0) < 0)
		return -errno;
	/* The kernel has answered by the time send() returns. */
	length = recv(fd, ret_answer, sizeof(*ret_answer), MSG_DONTWAIT);
	if (length < 0)
		return -errno;
	if (length >= (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) &&
	    header->nlmsg_type == NLMSG_ERROR &&
	    ((const struct nlmsgerr *)NLMSG_DATA(header))->error)
		return ((const struct nlmsgerr *)NLMSG_DATA(header))->error;
	return length >= (ssize_t)NLMSG_LENGTH(size) && header->nlmsg_type == type ? 0 : -EPROTO;
}
