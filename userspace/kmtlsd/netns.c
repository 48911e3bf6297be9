/* SPDX-License-Identifier: Apache-2.0 */
/* netns.c - see netns.h. */
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "address.h"
#include "cleanup.h"
#include "netns.h"
#include "pods.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static int home_fd = -1;
static __thread __u64 current_cookie; /* 0: home */

int kmtls_netns_init(void)
{
	home_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return home_fd < 0 ? -errno : 0;
}

int kmtls_netns_enter(int fd, __u64 cookie)
{
	if (cookie && current_cookie == cookie)
		return 0;
	if (setns(fd, CLONE_NEWNET) < 0)
		return -errno;
	current_cookie = cookie;
	return 0;
}

int kmtls_netns_leave(void)
{
	return current_cookie ? kmtls_netns_enter(home_fd, 0) : 0;
}

int kmtls_netns_open(const char *path, char *ret_why)
{
	__cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct statfs filesystem;

	if (fd < 0) {
		int err = -errno;

		snprintf(ret_why, KMTLS_WHY, "%.150s: %s", path, strerror(-err));
		return err;
	}
	if (fstatfs(fd, &filesystem) < 0 || filesystem.f_type != NSFS_MAGIC ||
	    ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET) {
		snprintf(ret_why, KMTLS_WHY, "%.150s: not a network namespace", path);
		return -EINVAL;
	}
	return kmtls_take_fd(fd);
}

int kmtls_netns_cookie(int fd, __u64 *ret_cookie)
{
	__cleanup_fd int probe = -1;
	socklen_t length = sizeof(*ret_cookie);
	__u64 cookie;
	int err;

	if (setns(fd, CLONE_NEWNET) < 0)
		return -errno;
	probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	err = probe < 0 || getsockopt(probe, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0
		      ? -errno
		      : 0;
	if (setns(home_fd, CLONE_NEWNET) < 0)
		return -errno;
	current_cookie = 0;
	if (err)
		return err;
	*ret_cookie = cookie;
	return 0;
}

static void take_address(const struct ifaddrs *interface, struct kmtls_netns_addresses *to)
{
	struct sockaddr_storage storage = {};
	struct kmtls_endpoint endpoint;
	struct kmtls_address *primary;
	bool v6;

	if (!interface->ifa_addr || (interface->ifa_flags & IFF_LOOPBACK))
		return;
	v6 = interface->ifa_addr->sa_family == AF_INET6;
	if (!v6 && interface->ifa_addr->sa_family != AF_INET)
		return;
	memcpy(&storage, interface->ifa_addr,
	       v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	if (kmtls_endpoint_from_sockaddr(&storage, &endpoint) < 0 ||
	    to->count == KMTLS_NETNS_ADDRESSES)
		return;
	to->all[to->count++] = endpoint.address;
	/* fe80::/10 and 169.254/16 are the pod's, but not what it is known by. */
	if (v6 && IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)&storage)->sin6_addr))
		return;
	if (!v6 && endpoint.address.bytes[12] == 169 && endpoint.address.bytes[13] == 254)
		return;
	primary = v6 ? &to->primary6 : &to->primary4;
	if (kmtls_address_is_zero(primary))
		*primary = endpoint.address;
}

int kmtls_netns_addresses(int fd, __u64 cookie, struct kmtls_netns_addresses *ret_addresses)
{
	struct kmtls_netns_addresses addresses = {};
	struct ifaddrs *interfaces;
	int err;

	err = kmtls_netns_enter(fd, cookie);
	if (err)
		return err;
	err = getifaddrs(&interfaces) < 0 ? -errno : 0;
	if (!err) {
		for (struct ifaddrs *i = interfaces; i; i = i->ifa_next)
			take_address(i, &addresses);
		freeifaddrs(interfaces);
		*ret_addresses = addresses;
	}
	if (kmtls_netns_leave() < 0)
		return -errno;
	return err;
}

bool kmtls_netns_is_at(const char *path, int fd)
{
	struct stat there, here;

	if (fstat(fd, &here) < 0)
		return true;
	if (stat(path, &there) < 0)
		return errno != ENOENT && errno != ENOTDIR;
	return there.st_dev == here.st_dev && there.st_ino == here.st_ino;
}
