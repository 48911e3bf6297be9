/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_names.h - the pins below BPF-DIR/links: what the daemon attaches, and what `kmtls check`
 * looks for. Of a pod they are in a directory named by the hash of the pod's name.
 */
#ifndef KMTLS_LINK_NAMES_H
#define KMTLS_LINK_NAMES_H

/* X(name): on the daemon's cgroup. */
#define KMTLS_DAEMON_LINKS(X) \
	X("daemon")           \
	X("daemon_reset")

/* X(name): on a pod's cgroup, one object for all pods (bpf_loader.c checks their number). */
#define KMTLS_POD_SHARED_LINKS(X) \
	X("bind4")                \
	X("bind6")                \
	X("sockops")              \
	X("reset")                \
	X("hold")                 \
	X("getpeername4")         \
	X("getpeername6")         \
	X("getsockname4")         \
	X("getsockname6")         \
	X("connect4")             \
	X("connect6")

/* X(name): on a pod's cgroup, an instance for each pod. */
#define KMTLS_POD_OWN_LINKS(X) \
	X("udp_sent")          \
	X("udp_received")      \
	X("backstop")

/* On a pod's network namespace. */
#define KMTLS_POD_NETNS_LINK "sk_lookup"

#define KMTLS_LINK_ONE(name) +1
#define KMTLS_POD_SHARED_LINK_COUNT (0 KMTLS_POD_SHARED_LINKS(KMTLS_LINK_ONE))

#endif
