/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * internal_maps.h - keys and values of the maps pinned under internal/: what the programs
 * and the daemon pass each other about single sockets. Not for operators; may change with
 * KMTLS_ABI_VERSION.
 */
#ifndef KMTLS_INTERNAL_MAPS_H
#define KMTLS_INTERNAL_MAPS_H

#include "kmtls/abi.h"

/*
 * Where connects are turned to. IPv4: 127.64.0.0/10 by a hash of the destination, one port.
 * IPv6 has a single loopback address, so there (and for sockets bound to a device, which
 * cannot reach loopback and are turned to the pod's own address) the port varies. Each
 * destination thus has the pod's whole ephemeral port range.
 */
#define KMTLS_INTERCEPT_NET 0x7f400000u /* 127.64.0.0, host order */
#define KMTLS_INTERCEPT_HOSTS 0x003fffffu /* 22 bits */
#define KMTLS_INTERCEPT_PORT 15001
/* Where the daemon's own listeners are bound (IPv6: ::1), on ports no application wants: sk_lookup
 * picks them, wherever they are. */
#define KMTLS_LISTENER_ADDRESS4 0x7ffffffeu /* 127.255.255.254, host order */
#define KMTLS_LISTENER_PORT_TURNED 1
#define KMTLS_LISTENER_PORT_INBOUND 2
#define KMTLS_INTERCEPT_PORTS_BASE 15104
#define KMTLS_INTERCEPT_PORTS 1024

enum kmtls_socket_kind {
	KMTLS_SOCKET_CONNECTING = 1, /* application's, turned by connect4|6 */
	KMTLS_SOCKET_TURNED = 2, /* daemon's accepted end of that */
	KMTLS_SOCKET_DELIVERING = 3, /* daemon's, towards the accepting application */
	KMTLS_SOCKET_ACCEPTED = 4, /* application's accepted end of that */
	KMTLS_SOCKET_PLAIN = 5, /* application's, accepted in plaintext without the daemon */
};

/* Options of the application's socket at connect(), to be set on the wire socket. */
struct kmtls_socket_options {
	__u32 priority; /* SO_PRIORITY */
	__u32 user_timeout; /* TCP_USER_TIMEOUT, ms */
	__u32 keep_idle, keep_interval, keep_count; /* seconds, seconds, probes */
	__u8 keepalive; /* SO_KEEPALIVE */
	__u8 traffic_class; /* IP_TOS or IPV6_TCLASS */
	__u8 pad[2];
};

/* Its SYN is held until the peer's application has accepted. */
#define KMTLS_SOCKET_HELD 1u
/* The application bound it to a port of its own choice. */
#define KMTLS_SOCKET_BOUND 2u

/* Its pod is accelerated: both ends of its leg go into the sockhashes below. */
#define KMTLS_SOCKET_ACCEL 4u

/* sockets: SK_STORAGE. Applications' sockets have it for as long as they live, the daemon's until their
 * leg (DELIVERING) or their flow (TURNED) is established: it is 384 bytes of the kernel's. */
struct kmtls_socket {
	__u32 kind; /* enum kmtls_socket_kind */
	__u32 flags; /* KMTLS_SOCKET_*; CONNECTING, TURNED */
	__u64 cookie; /* of the application's socket; CONNECTING, TURNED */
	__u64 netns; /* cookie; CONNECTING, TURNED */
	struct kmtls_endpoint peer; /* whom the application talks to, in truth */
	struct kmtls_endpoint intercept; /* CONNECTING, TURNED: what it was turned to */
	struct kmtls_socket_options options; /* CONNECTING, TURNED */
	__u16 shown_port; /* CONNECTING: the port on the wire, where it is another one; or 0 */
	__u16 pad[3];
};

/*
 * dials: LRU hash, from both ends of a CONNECTING socket to what it holds, between its SYN and
 * the daemon's accept. callers: LRU hash, likewise for DELIVERING, to the client. Both ends,
 * because legs to different places may share a local port.
 */
struct kmtls_leg_key {
	__u64 netns; /* cookie */
	struct kmtls_endpoint from, to; /* as the connecting end sees them */
};

struct kmtls_local_key {
	__u64 netns; /* cookie */
	struct kmtls_endpoint local;
	__u32 pad;
};

/*
 * verdicts: LRU hash, socket cookie -> what was decided about its SYN. Left behind on purpose:
 * repetitions of a SYN may still be in the ring buffer when it has been decided.
 */
struct kmtls_verdict {
	__u32 sequence; /* host order, of the SYN it is about; another one is a new connect */
	__u8 pass; /* 1: may leave; 0: has been answered */
	__u8 answer; /* enum kmtls_inject, for repetitions: the first may have got lost */
	__u16 port; /* pass: of the wire, host order */
};

/*
 * turned_names: LRU hash, both ends -> peer, for MPTCP sockets only: what getpeername
 * is asked about there is not the socket that connected.
 */

/*
 * accel_applications, accel_daemons: sockhashes, socket cookie -> socket, the two ends of local legs of
 * pods that are accelerated (docs/accel.md). accel_legs: LRU hash, both ends -> this, until the
 * connecting end has found the accepted one. accel_peers: SK_STORAGE of each end.
 */
struct kmtls_accel_end {
	__u64 cookie; /* 0: not there yet */
	__u64 socket; /* the kernel's address of it: valid as long as the sockhash has the cookie */
};

struct kmtls_accel_leg {
	struct kmtls_accel_end connecting, accepted;
};

enum kmtls_accel_state {
	KMTLS_ACCEL_NEW = 0, /* nothing was sent */
	KMTLS_ACCEL_REDIRECT = 1, /* straight into the peer's queue */
	KMTLS_ACCEL_PASS = 2, /* by TCP */
};

struct kmtls_accel_peer {
	struct kmtls_accel_end peer;
	__u32 state; /* enum kmtls_accel_state */
	__u32 pad;
};

/* events: ring buffer, from the programs to the daemon. */
enum kmtls_event_type {
	KMTLS_EVENT_SYN = 1, /* a SYN is held */
	KMTLS_EVENT_GONE = 2, /* a socket gave up connecting */
};

/* IPv4 or IPv6 and TCP headers with all options fit. */
#define KMTLS_EVENT_PACKET 128

struct kmtls_event {
	__u32 type; /* enum kmtls_event_type */
	__u32 packet_length; /* SYN: bytes of packet[] */
	__u64 netns;
	__u64 cookie;
	struct kmtls_socket socket; /* SYN */
	__u8 packet[KMTLS_EVENT_PACKET]; /* SYN: network and TCP header */
};

/* Who refused. */
enum kmtls_hook {
	KMTLS_HOOK_CONNECT = 1, /* connect() */
	KMTLS_HOOK_LOOKUP = 2, /* a SYN that came in */
	KMTLS_HOOK_BACKSTOP = 3, /* a packet on its way out */
};

/*
 * denials: ring buffer, what the programs refused and have counted, for the log. Apart from events,
 * and nobody is woken by it: a pod that tries in a loop what it may not do costs neither held SYNs
 * their room nor the daemon its time.
 */
struct kmtls_denied {
	__u32 reason; /* enum kmtls_reason */
	__u32 hook; /* enum kmtls_hook */
	__u64 netns; /* cookie */
	struct kmtls_endpoint source, destination; /* port 0: not known */
};

/*
 * listeners: hash, {netns, address, port} -> how many sockets of the pod listen there, loopback
 * left out; 0 is none. {netns, ::, 0} counts those there was no room for: as long as it is not 0
 * any port may be listening, and the application is asked.
 */

/* own_addresses: hash, {netns, address} -> 1 */
struct kmtls_own_address_key {
	__u64 netns;
	struct kmtls_address address;
};

/* acceptors: sockhash of the daemon's listeners */
enum kmtls_acceptor {
	KMTLS_ACCEPTOR_TURNED4 = 0,
	KMTLS_ACCEPTOR_TURNED6 = 1,
	KMTLS_ACCEPTOR_INBOUND4 = 2,
	KMTLS_ACCEPTOR_INBOUND6 = 3,
	KMTLS_ACCEPTOR_COUNT
};

struct kmtls_acceptor_key {
	__u64 netns;
	__u32 acceptor; /* enum kmtls_acceptor */
	__u32 pad;
};

KMTLS_ASSERT_SIZE(struct kmtls_socket_options, 24);
KMTLS_ASSERT_SIZE(struct kmtls_socket, 96);
KMTLS_ASSERT_SIZE(struct kmtls_leg_key, 48);
KMTLS_ASSERT_SIZE(struct kmtls_local_key, 32);
KMTLS_ASSERT_SIZE(struct kmtls_verdict, 8);
KMTLS_ASSERT_SIZE(struct kmtls_event, 248);
KMTLS_ASSERT_SIZE(struct kmtls_denied, 56);
KMTLS_ASSERT_SIZE(struct kmtls_own_address_key, 24);
KMTLS_ASSERT_SIZE(struct kmtls_acceptor_key, 16);
KMTLS_ASSERT_SIZE(struct kmtls_accel_leg, 32);
KMTLS_ASSERT_SIZE(struct kmtls_accel_peer, 24);

#endif
