/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener.c - see listener.h. A connection from loopback to one of the pod's addresses has, for the
 * kernel, come in by the device that has the address. A listener that is bound to it takes it, and
 * answers by it: to another address than those of that device the answer would leave the pod. So our
 * end is bound to the device as well.
 */
#include "listener.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "address.h"
#include "cleanup.h"
#include "diag.h"
#include "netlink.h"
#include "netns.h"

#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif

static int bind_to_device(int fd, unsigned device)
{
	return setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &device, sizeof(device)) < 0 ? -errno
											 : 0;
}

int kmtls_listener_bind(int fd, const struct kmtls_listener *listener)
{
	const struct kmtls_endpoint source = { .address = listener->source };
	struct sockaddr_storage address;
	socklen_t length = kmtls_endpoint_to_sockaddr(&source, &address);
	int err = bind_to_device(fd, listener->device), one = 1;

	if (err)
		return err;
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	return bind(fd, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
}

/* ---- devices ---- */

/* No SIOCGIFNAME: the sandbox has few ioctls. */
static const char *device_name(unsigned device, char *buffer)
{
	__cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t length = IF_NAMESIZE;

	if (fd < 0 || bind_to_device(fd, device) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, buffer, &length) < 0)
		snprintf(buffer, IF_NAMESIZE, "%u", device);
	return buffer;
}

/*
 * Is it an address of the device? As for the listener's answer: does its way, by this device, stay
 * inside? (The source that the kernel would choose says nothing: it may be another device's.)
 */
static bool has_address(unsigned device, const struct kmtls_address *address)
{
	bool v4 = kmtls_address_is_v4(address);
	size_t size = v4 ? 4 : 16;
	struct {
		struct nlmsghdr header;
		struct rtmsg route;
		struct rtattr oif_header;
		unsigned oif;
		struct rtattr to_header;
		__u8 to[16];
	} question = {
		.header = {
			.nlmsg_len = offsetof(typeof(question), to) + size,
			.nlmsg_type = RTM_GETROUTE,
			.nlmsg_flags = NLM_F_REQUEST,
		},
		.route = {
			.rtm_family = v4 ? AF_INET : AF_INET6,
			.rtm_dst_len = size * 8,
		},
		.oif_header = { .rta_len = RTA_LENGTH(sizeof(unsigned)), .rta_type = RTA_OIF },
		.oif = device,
		.to_header = { .rta_len = RTA_LENGTH(size), .rta_type = RTA_DST },
	};
	union kmtls_netlink_answer answer;

	memcpy(question.to, address->bytes + 16 - size, size);
	return kmtls_netlink_ask(NETLINK_ROUTE, &question.header, RTM_NEWROUTE,
				 sizeof(struct rtmsg), &answer) == 0 &&
	       ((const struct rtmsg *)NLMSG_DATA(&answer.header))->rtm_type == RTN_LOCAL;
}

static void say_no_address(unsigned device, const struct kmtls_endpoint *local, char *ret_why)
{
	char address[KMTLS_ENDPOINT_TEXT], name[IF_NAMESIZE];

	snprintf(ret_why, KMTLS_LISTENER_WHY, "bound to %s, which does not have %.46s",
		 device_name(device, name),
		 kmtls_address_format(&local->address, address, sizeof(address)));
}

/* ---- all listeners of a port ---- */

struct search {
	const struct kmtls_endpoint *local;
	bool unbound; /* one is found that is bound to nothing */
	unsigned with, without; /* devices that have the address, or not: one of each, or 0 */
};

static bool is_any(const struct kmtls_address *address)
{
	static const struct kmtls_address any4 = { .bytes = { [10] = 0xff, [11] = 0xff } };

	return kmtls_address_is_zero(address) || kmtls_address_equal(address, &any4);
}

static int see(void *context, const struct kmtls_endpoint *listening, unsigned device)
{
	struct search *search = context;

	if (listening->port != search->local->port ||
	    (!is_any(&listening->address) &&
	     !kmtls_address_equal(&listening->address, &search->local->address)))
		return 0;
	if (!device)
		search->unbound = true;
	else if (has_address(device, &search->local->address))
		search->with = device;
	else
		search->without = device;
	return 0;
}

int kmtls_listener_look(const struct kmtls_endpoint *local, char *ret_why)
{
	struct search search = { .local = local };
	int err = kmtls_diag_listeners(see, &search);

	if (err)
		return err;
	if (search.with) {
		device_name(search.with, ret_why);
		return 1;
	}
	if (search.unbound || !search.without)
		return 0;
	say_no_address(search.without, local, ret_why);
	return -ENODEV;
}

/* ---- the one of a connection ---- */

/* The device the connection came in by; 0 where that cannot be told, by which no bound listener is
 * reached. */
static unsigned arrived_by(int fd, bool v4)
{
	int level = v4 ? IPPROTO_IP : IPPROTO_IPV6, one = 1, zero = 0;
	union {
		struct cmsghdr align;
		char bytes[256];
	} options;
	struct msghdr message = { .msg_control = &options };
	unsigned device = 0;
	socklen_t length = sizeof(options);
	struct cmsghdr *c;

	/* The kernel gives what the application has asked to be told of. */
	setsockopt(fd, level, v4 ? IP_PKTINFO : IPV6_RECVPKTINFO, &one, sizeof(one));
	if (getsockopt(fd, level, v4 ? IP_PKTOPTIONS : IPV6_2292PKTOPTIONS, &options, &length) < 0)
		length = 0;
	setsockopt(fd, level, v4 ? IP_PKTINFO : IPV6_RECVPKTINFO, &zero, sizeof(zero));
	message.msg_controllen = length;
	for (c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (v4 && c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
			device = ((const struct in_pktinfo *)CMSG_DATA(c))->ipi_ifindex;
		else if (!v4 && c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
			device = ((const struct in6_pktinfo *)CMSG_DATA(c))->ipi6_ifindex;
	}
	return device;
}

/* None takes it: is one bound to another device? */
static int say_none(const struct kmtls_endpoint *local, unsigned device, char *ret_why)
{
	char bound[KMTLS_LISTENER_WHY], name[IF_NAMESIZE];
	int look = kmtls_listener_look(local, bound);

	if (look == -ENODEV)
		snprintf(ret_why, KMTLS_LISTENER_WHY, "%s", bound);
	else if (look == 1)
		snprintf(ret_why, KMTLS_LISTENER_WHY, "bound to %.15s, the connection came by %s",
			 bound, device_name(device, name));
	return look == -ENODEV || look == 1 ? -ENODEV : -ECONNREFUSED;
}

static bool is_among(const struct kmtls_netns_addresses *own, const struct kmtls_address *address)
{
	for (unsigned i = 0; i < own->count; i++)
		if (kmtls_address_equal(&own->all[i], address))
			return true;
	return false;
}

/* local may be younger than the pod's enrolment, when its addresses were read. NULL: they are all of other
 * devices. */
static const struct kmtls_address *find_source(const struct kmtls_listener *listener,
					       const struct kmtls_address *local,
					       const struct kmtls_netns_addresses *own)
{
	if (is_among(own, local))
		return local;
	for (unsigned i = 0; i < own->count; i++)
		if (kmtls_address_is_v4(&own->all[i]) == kmtls_address_is_v4(local) &&
		    has_address(listener->device, &own->all[i]))
			return &own->all[i];
	return NULL;
}

static int find_way(const struct kmtls_endpoint *local, const struct kmtls_netns_addresses *own,
		    struct kmtls_listener *listener, char *ret_why)
{
	const struct kmtls_address *source;
	char name[IF_NAMESIZE];

	if (!has_address(listener->device, &local->address)) {
		say_no_address(listener->device, local, ret_why);
		return -ENODEV;
	}
	source = find_source(listener, &local->address, own);
	if (!source) {
		snprintf(ret_why, KMTLS_LISTENER_WHY,
			 "bound to %s, which has no address that the pod was enrolled with",
			 device_name(listener->device, name));
		return -ENODEV;
	}
	listener->source = *source;
	return 0;
}

int kmtls_listener_find(int wire_fd, const struct kmtls_endpoint *local,
			const struct kmtls_netns_addresses *own,
			struct kmtls_listener *ret_listener, char *ret_why)
{
	struct kmtls_listener listener = { .device = 0 };
	unsigned device = arrived_by(wire_fd, kmtls_address_is_v4(&local->address)), bound = 0;
	int err = kmtls_diag_listener_of(local, device, &bound);

	if (err == -ENOENT)
		return say_none(local, device, ret_why);
	listener.device = bound;
	if (!err && bound)
		err = find_way(local, own, &listener, ret_why);
	if (!err)
		*ret_listener = listener;
	return err;
}
