/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * abi.h - what the BPF programs, the daemon, the command line and any other
 * controller agree on: keys and values of the pinned maps, and reason codes.
 *
 * Every map named here is pinned under the daemon's bpf directory (default
 * /sys/fs/bpf/kmtls) and may be read and written by bpftool. All structs have
 * fixed sizes and explicit padding; padding is written as zero. Integers are in
 * host byte order unless said otherwise. Addresses are always 16 bytes in
 * network order, IPv4 as ::ffff:a.b.c.d.
 *
 * Changing a size or an offset here means raising KMTLS_ABI_VERSION.
 */
#ifndef KMTLS_ABI_H
#define KMTLS_ABI_H

#include <linux/types.h>

#define KMTLS_ABI_VERSION 1u

/* Longest SPIFFE ID in bytes (SPIFFE-ID section 2.3). */
#define KMTLS_SPIFFE_ID_MAX 2048
/* Ports a BYPASS prefix can name; none named means every port. */
#define KMTLS_BYPASS_PORTS 8

struct kmtls_address {
	__u8 bytes[16];
} __attribute__((aligned(4)));

struct kmtls_endpoint {
	struct kmtls_address address;
	__u16 port; /* host order */
	__u16 pad;
};

/* ---- settings: one element ------------------------------------------------ */

enum kmtls_mode {
	KMTLS_MODE_UNSET = 0, /* nothing said at this scope: ask the next wider one */
	KMTLS_MODE_OFF = 1, /* not intercepted, plaintext */
	KMTLS_MODE_PERMISSIVE = 2,
	KMTLS_MODE_STRICT = 3, /* mutual TLS or nothing */
};

struct kmtls_settings {
	__u32 abi_version; /* KMTLS_ABI_VERSION; checked before anything is touched */
	/* enum kmtls_authorization_default; an unknown value is treated as deny */
	__u32 authorization_default;
	__u64 generation; /* bumped by whoever writes a policy map */
};

/* ---- modes: hash ------------------------------------------------------------ */

enum kmtls_scope {
	KMTLS_SCOPE_MESH = 1, /* id 0, port 0 */
	KMTLS_SCOPE_NAMESPACE = 2, /* id: hash of the namespace's text */
	KMTLS_SCOPE_POD = 3, /* id: hash of the pod's name */
	KMTLS_SCOPE_PORT = 4, /* id: hash of the pod's name, or 0 for every pod */
};

enum kmtls_direction {
	KMTLS_INBOUND = 1,
	KMTLS_OUTBOUND = 2,
};

struct kmtls_mode_key {
	__u64 id;
	__u8 scope; /* enum kmtls_scope */
	__u8 direction; /* enum kmtls_direction */
	__u16 port; /* host order; 0 unless scope is KMTLS_SCOPE_PORT */
	__u32 pad;
};

struct kmtls_mode_value {
	__u32 mode; /* enum kmtls_mode; an unknown value is treated as strict */
};

/* ---- peers: longest-prefix trie ---------------------------------------------- */

enum kmtls_peer_kind {
	KMTLS_PEER_MESH = 1, /* speaks mutual TLS, as the identity below */
	KMTLS_PEER_BYPASS = 2, /* plaintext, on the ports below only */
};

enum kmtls_match {
	KMTLS_MATCH_EXACT = 1, /* identity: hash of the SPIFFE ID */
	/* Of the ID cut off after its namespace, spiffe://TRUST-DOMAIN/ns/NAME. An ID has one if its
	 * path begins with /ns/NAME/. */
	KMTLS_MATCH_NAMESPACE = 2,
	KMTLS_MATCH_TRUST_DOMAIN = 3, /* of the ID cut off after it, spiffe://TRUST-DOMAIN */
	KMTLS_MATCH_ANY = 4, /* authorizations only; the hash is 0 */
};

struct kmtls_peer_key {
	__u32 prefix_len; /* 0..128; an IPv4 prefix is its length + 96 */
	struct kmtls_address address;
};

struct kmtls_peer_value {
	__u64 identity; /* MESH: hash of what `match` says; its text is in `names` */
	__u8 kind; /* enum kmtls_peer_kind; an unknown value is refused */
	__u8 match; /* enum kmtls_match; an unknown value is refused */
	__u8 port_count; /* BYPASS: how many of ports[] are set; 0 is every port */
	__u8 pad[5];
	__u16 ports[KMTLS_BYPASS_PORTS]; /* host order */
};

/* ---- authorizations: hash -------------------------------------------------------- */

/* Who may connect to whom; asked by the server's daemon (docs/authorization.md). A field this
 * version cannot read is read as the widest it could mean, and the action as deny. */
struct kmtls_authorization_key {
	__u64 source; /* hash, of what the kind says */
	__u64 destination;
	__u8 source_kind; /* enum kmtls_match */
	__u8 destination_kind; /* enum kmtls_match */
	__u16 port; /* of the destination, host order; 0: any */
	__u32 pad;
};

enum kmtls_authorization_action {
	KMTLS_AUTHORIZATION_ALLOW = 1,
	KMTLS_AUTHORIZATION_DENY = 2, /* beats every allow */
	KMTLS_AUTHORIZATION_DRY_RUN = 3, /* counts what it would deny, and decides nothing */
};

struct kmtls_authorization_value {
	__u32 action; /* enum kmtls_authorization_action */
};

/* What holds where no entry decides. */
enum kmtls_authorization_default {
	KMTLS_AUTHORIZATION_DEFAULT_UNSET = 0, /* nobody has said anything: allow */
	KMTLS_AUTHORIZATION_DEFAULT_ALLOW = 1,
	KMTLS_AUTHORIZATION_DEFAULT_DENY = 2,
};

/* ---- names: hash, 64-bit hash -> text ----------------------------------------- */

/*
 * The key is the first eight bytes of SHA-256 of the text, read as a big-endian
 * number: `printf %s TEXT | sha256sum | cut -c1-16` prints it in hex.
 */
struct kmtls_name_value {
	__u32 length;
	char text[KMTLS_SPIFFE_ID_MAX + 4]; /* zero-terminated, zero-filled */
};

/* ---- pods: hash, netns cookie -> pod --------------------------------------------- */

/* The application's connect() succeeds at once, before the peer has been reached. */
#define KMTLS_POD_CONNECT_AT_ONCE 1u
/* The pod's local legs are short-circuited by sk_msg (docs/accel.md). */
#define KMTLS_POD_ACCEL 2u

struct kmtls_pod_value {
	__u64 name; /* hash of the pod's name */
	__u64 namespace_; /* hash of the namespace's text, 0 if it has none */
	__u64 identity; /* hash of the SPIFFE ID */
	__u64 cgroup; /* cgroup id */
	struct kmtls_address address4; /* primary addresses; all zero: has none */
	struct kmtls_address address6;
	__u32 flags; /* KMTLS_POD_* */
	__u32 pad;
};

/* ---- udp_ledger: LRU hash; udp_totals: hash, netns cookie -> the same sums for the pod --- */

struct kmtls_udp_key {
	__u64 netns; /* cookie */
	struct kmtls_endpoint remote; /* port 0: the packet did not show its ports */
	__u32 protocol; /* 17 UDP, 136 UDP-Lite */
};

/* Bytes are payload: neither IP nor UDP headers. */
struct kmtls_udp_value {
	__u64 sent_packets, sent_bytes;
	__u64 received_packets, received_bytes;
	__u64 first, last; /* CLOCK_BOOTTIME, ns; of the totals, first is the enrolment */
};

/* ---- flows: BPF_F_MMAPABLE array, slot -> flow ------------------------------------- */

enum kmtls_flow_state {
	KMTLS_FLOW_FREE = 0,
	KMTLS_FLOW_HANDSHAKE = 1, /* nothing of the application has been moved */
	KMTLS_FLOW_ESTABLISHED = 2, /* keys are in the kernel on the wire socket, or cipher is 0 */
	KMTLS_FLOW_CLOSING = 3, /* both ended; descriptors are being closed */
	/* Client: the peer has accepted and the keys are in the kernel; the application's held SYN
	 * is on its way to the daemon. */
	KMTLS_FLOW_CONFIRMED = 4,
};

enum kmtls_role {
	KMTLS_ROLE_CLIENT = 1, /* the pod connected */
	KMTLS_ROLE_SERVER = 2, /* the pod accepted */
};

enum kmtls_notify {
	KMTLS_NOTIFY_NONE = 0,
	KMTLS_NOTIFY_INTENT = 1, /* sequence stored, close_notify may have gone out */
	KMTLS_NOTIFY_SENT = 2,
};

/* One direction of a flow. Byte counts are never stored: FIONREAD on the pipe tells. */
struct kmtls_flow_direction {
	__s32 pipe_read; /* descriptors of the pipe that holds bytes, or -1 */
	__s32 pipe_write;
	__u8 source_closed; /* to_local: close_notify was seen on the wire; plaintext: a FIN */
	__u8 notify; /* to_wire: enum kmtls_notify; plaintext: SENT before the FIN */
	__u8 pad[6];
	__u64 notify_sequence; /* to_wire: TX record sequence before close_notify */
};

/* The server's word that its application has accepted: the first record it sends. */
enum kmtls_ticket {
	KMTLS_TICKET_NONE = 0, /* not (or no longer) to be sent */
	KMTLS_TICKET_DUE = 1, /* TX sequence 0: not sent yet; higher: it went out */
};

#define KMTLS_OFFLOAD_NONE 0
#define KMTLS_OFFLOAD_SW 1
#define KMTLS_OFFLOAD_HW 2

struct kmtls_flow {
	__u32 state; /* enum kmtls_flow_state; stored last, with release order */
	__u32 generation; /* of the slot; with the slot's index it names the flow */
	__s32 local_fd; /* towards the application */
	__s32 wire_fd; /* towards the peer: kernel TLS, or plain TCP */
	/* SO_COOKIE of both, so that a reused number is noticed. CONFIRMED: the local one is that of
	 * the application's own socket, which the connection will bring along. */
	__u64 local_cookie;
	__u64 wire_cookie;
	struct kmtls_flow_direction to_wire;
	struct kmtls_flow_direction to_local;
	__u64 netns_cookie; /* of the pod */
	__u64 self_identity; /* hashes, texts in `names` */
	__u64 peer_identity;
	struct kmtls_endpoint self; /* the pod's address and port on the wire */
	struct kmtls_endpoint peer;
	__u64 started; /* seconds since the epoch */
	/* End of the peer's SVID, seconds since the epoch; when it has passed, that of a later one if a
	 * handshake has shown one. */
	__u64 peer_not_after;
	/* TLS 1.3 cipher suite, e.g. 0x1301. 0 when ESTABLISHED: a plaintext relay, its wire is plain TCP,
	 * the peer has no identity; role SERVER only */
	__u16 cipher;
	__u8 role; /* enum kmtls_role */
	__u8 ticket; /* server: enum kmtls_ticket */
	__u32 rekeys; /* keys replaced, both directions together */
	__u32 syn_sequence; /* CONFIRMED: of the held SYN */
	/* ESTABLISHED: enum kmtls_reason for which it is being reset, 0: it is not. The error it was
	 * seen by cannot be asked of the kernel again. */
	__u32 reset_reason;
	/* Of a connection that may be plaintext: nothing has been taken from either socket, but looked
	 * at. HANDSHAKE: can be begun anew. ESTABLISHED: nobody has said anything, and the client may
	 * still turn out to be of the mesh. */
	__u8 untaken;
	/* ESTABLISHED: the peer's SVID has expired, and it was said so: the configuration keeps it */
	__u8 peer_expired_kept;
	/* The local leg is in a sockhash: it is read, not spliced (docs/accel.md). */
	__u8 accel;
	/* Bytes of the local leg may be in the worker's memory, and nowhere else. */
	__u8 in_hand;
	/* ESTABLISHED: the intermediate CAs above the peer's SVID, by a number of the daemon's; 0: none, or
	 * not known */
	__u32 peer_path;
	/* The peer's SVID: the first eight bytes of SHA-256 of SHA-256 of its issuer's public key, a sign
	 * byte and the serial number. 0: not known; an earlier version stored none. */
	__u64 peer_certificate;
};

/* ---- peer_expiries: LRU hash, the end of the peer's SVID in the newest handshake ------------ */

struct kmtls_peer_expiry_key {
	__u64 self_identity, peer_identity; /* as in struct kmtls_flow */
};

struct kmtls_peer_expiry_value {
	__u64 not_after; /* seconds since the epoch */
};

/* ---- reason codes and counters ------------------------------------------------------ */

/*
 * X(number, SYMBOL, "name", "what it means"). One list for programs, daemon, logs,
 * counters, command line and docs. Numbers are never reused.
 * 1..31 are decided in BPF, 32..95 end a handshake, 96.. end an established flow, 115.. are
 * counters of what else happened; 78 and 92 end a flow; 29..31 and 93..95 are counters, too.
 */
#define KMTLS_REASONS(X)                                                                         \
	X(0, NONE, "none", "no reason: nothing was refused")                                     \
	X(1, NO_PEER, "no-peer", "strict: the destination is not in the peers map")              \
	X(2, NO_DAEMON, "no-daemon", "the daemon's listener is not there")                       \
	X(3, NO_LISTENER, "no-listener", "no application listens on the destination port")       \
	X(4, BAD_POLICY, "bad-policy", "a policy map holds a value this version cannot read")    \
	X(5, POD_UNKNOWN, "pod-unknown", "the network namespace is not an enrolled pod")         \
	X(6, STORAGE_FAILED, "storage-failed", "no memory to remember the destination")          \
	X(7, NOT_TCP, "not-tcp", "a stream protocol that cannot be meshed")                      \
	X(8, RING_FULL, "ring-full", "the daemon lags behind: a SYN waits for its repetition")   \
	X(9, ADDRESS_TAKEN, "address-taken", "an application bound an address of the daemon")    \
	X(10, BACKSTOP, "backstop", "plaintext packets of pods dropped in strict mode")          \
	X(29, RESUMED_SYMMETRIC, "resumed-symmetric",                                            \
	  "those of them with symmetric cryptography only")                                      \
	X(30, RESUMED, "resumed", "handshakes that stood on an earlier one of the same pair")    \
	X(31, SYMMETRIC_REFUSED, "symmetric-refused",                                            \
	  "handshakes with symmetric cryptography only that became others")                      \
	X(32, NO_DESTINATION, "no-destination",                                                  \
	  "a local connection reached the daemon without a remembered destination")              \
	X(33, NO_IDENTITY, "no-identity", "the pod has no valid SVID")                           \
	X(34, TABLE_FULL, "table-full", "the flow table is full")                                \
	X(35, NO_RESOURCES, "no-resources", "out of descriptors or memory")                      \
	X(36, DIAL_REFUSED, "dial-refused", "the peer refused the TCP connection")               \
	X(37, DIAL_UNREACHABLE, "dial-unreachable", "no route to the peer")                      \
	X(38, DIAL_TIMEOUT, "dial-timeout",                                                      \
	  "the peer, or our application, did not answer the TCP connection")                     \
	X(39, DIAL_FAILED, "dial-failed", "the TCP connection to the peer failed")               \
	X(40, HANDSHAKE_TIMEOUT, "handshake-timeout", "the handshake took too long")             \
	X(41, HANDSHAKE_FAILED, "handshake-failed", "TLS protocol error")                        \
	X(42, HANDSHAKE_RESET, "handshake-reset", "the peer went away during the handshake")     \
	X(43, NOT_MESH, "not-mesh", "the peer does not speak TLS 1.3 with ALPN kmtls/1")         \
	X(44, UNKNOWN_CA, "unknown-ca", "the peer's SVID does not chain to the trust bundle")    \
	X(45, SVID_EXPIRED, "svid-expired", "the peer's SVID or a CA above it has expired")      \
	X(46, SVID_NOT_YET_VALID, "svid-not-yet-valid",                                          \
	  "the peer's SVID or a CA above it is not valid yet")                                   \
	X(47, SVID_INVALID, "svid-invalid", "the peer's certificate breaks X.509 rules")         \
	X(48, SVID_NO_ID, "svid-no-id", "the peer's certificate has no URI SAN")                 \
	X(49, SVID_MANY_IDS, "svid-many-ids", "the peer's certificate has several URI SANs")     \
	X(50, SVID_BAD_ID, "svid-bad-id", "the peer's URI SAN is not a valid SPIFFE ID")         \
	X(51, SVID_IS_CA, "svid-is-ca", "the peer's leaf certificate is a CA")                   \
	X(52, SVID_KEY_USAGE, "svid-key-usage",                                                  \
	  "the peer's leaf lacks digitalSignature or may sign certificates")                     \
	X(53, SVID_EXTENDED_KEY_USAGE, "svid-extended-key-usage",                                \
	  "the peer's leaf has an extended key usage that excludes its role")                    \
	X(54, SVID_WEAK_KEY, "svid-weak-key", "the peer's key is of a type or size not allowed") \
	X(55, NO_CERTIFICATE, "no-certificate", "the peer presented no certificate")             \
	X(56, WRONG_PEER, "wrong-peer",                                                          \
	  "the server's SPIFFE ID is not the one the peers map promises")                        \
	X(57, DENIED, "denied", "authorization denies this source")                              \
	X(58, REFUSED_BY_PEER, "refused-by-peer", "the peer sent a TLS alert")                   \
	X(59, REFUSED_UNKNOWN_CA, "refused-unknown-ca", "the peer does not trust our CA")        \
	X(60, REFUSED_CERTIFICATE, "refused-certificate", "the peer does not accept our SVID")   \
	X(61, REFUSED_EXPIRED, "refused-expired", "the peer says our SVID has expired")          \
	X(62, REFUSED_DENIED, "refused-denied", "the peer's authorization denies us")            \
	X(63, REFUSED_BY_APPLICATION, "refused-by-application",                                  \
	  "the application behind the peer refused the connection")                              \
	X(64, APPLICATION_REFUSED, "application-refused",                                        \
	  "our application refused the connection")                                              \
	X(65, KTLS_FAILED, "ktls-failed", "the kernel did not take the keys")                    \
	X(66, EARLY_DATA, "early-data", "bytes arrived where the handshake allows none")         \
	X(67, LOCAL_GONE, "local-gone", "the application went away during the handshake")        \
	X(68, POD_REMOVED, "pod-removed", "the pod was removed during the handshake")            \
	X(69, STALE, "stale", "the application connected anew with the same socket")             \
	X(70, INJECT_FAILED, "inject-failed", "a held SYN could not be sent on or answered")     \
	X(71, LOCAL_TIMEOUT, "local-timeout", "the application did not complete its connect")    \
	X(72, NO_PROMISE, "no-promise", "the peers map promises no identity for the address")    \
	X(73, TOO_MANY_HANDSHAKES, "too-many-handshakes",                                        \
	  "handshakes in progress: too many of one source, or of all")                           \
	X(74, POD_LIMIT, "pod-limit", "the pod has as many flows as one pod may have")           \
	X(75, MEMORY_PRESSURE, "memory-pressure",                                                \
	  "the daemon is close to the memory limit of its cgroup")                               \
	X(76, WOULD_DENY, "would-deny",                                                          \
	  "let through, although a dry-run authorization would deny it")                         \
	X(77, LISTENER_DEVICE, "listener-device",                                                \
	  "our application's listener is bound to a device that cannot take the connection")     \
	X(78, ACCEL_CUT, "accel-cut",                                                            \
	  "the daemon's worker died while bytes of an accelerated leg were in its memory")       \
	X(80, INTERRUPTED, "interrupted", "the daemon's worker died during the handshake")       \
	X(81, UNKNOWN_TRUST_DOMAIN, "unknown-trust-domain",                                      \
	  "there is no trust bundle for the peer's trust domain")                                \
	X(82, SVID_MALFORMED, "svid-malformed", "the peer's certificate cannot be parsed")       \
	X(83, CHAIN_TOO_LONG, "chain-too-long", "the peer's chain has too many certificates")    \
	X(84, CHAIN_TOO_LARGE, "chain-too-large",                                                \
	  "a certificate of the peer, or all of them, have too many bytes")                      \
	X(85, REVOKED, "revoked", "the peer's SVID or a CA above it is revoked by a CRL")        \
	X(86, ISSUER_NOT_CA, "issuer-not-ca",                                                    \
	  "an issuer of the peer's SVID is not a CA that may sign it")                           \
	X(87, PATH_LENGTH, "path-length", "a CA of the peer's chain may not have a CA below it") \
	X(88, NAME_CONSTRAINTS, "name-constraints",                                              \
	  "the peer's SVID is outside of the name constraints of a CA above it")                 \
	X(89, CRITICAL_EXTENSION, "critical-extension",                                          \
	  "a certificate of the peer has a critical extension not known here")                   \
	X(90, WEAK_SIGNATURE, "weak-signature",                                                  \
	  "a certificate of the peer is signed with an algorithm not allowed")                   \
	X(91, CA_BAD_ID, "ca-bad-id",                                                            \
	  "a CA above the peer's SVID is of another trust domain, or a workload's")              \
	X(92, PEER_REVOKED, "peer-revoked",                                                      \
	  "the SVID of an established flow's peer, or a CA above it, is revoked")                \
	X(93, CRL_REJECTED, "crl-rejected", "CRL files that were not taken")                     \
	X(94, CLOCK_BACK, "clock-back", "times the clock went back further than is tolerated")   \
	X(95, PEER_EXPIRED_KEPT, "peer-expired-kept",                                            \
	  "flows kept although the peer's SVID has expired")                                     \
	X(96, ENDED, "ended", "both sides ended in order")                                       \
	X(97, LOCAL_RESET, "local-reset", "the application reset the connection")                \
	X(98, PEER_RESET, "peer-reset", "the peer reset the connection")                         \
	X(99, TRUNCATED, "truncated", "the wire ended without close_notify")                     \
	X(100, BAD_RECORD, "bad-record", "a TLS record could not be decrypted")                  \
	X(101, UNEXPECTED_RECORD, "unexpected-record",                                           \
	  "a TLS record of a kind that is not expected here")                                    \
	X(102, PEER_ALERT, "peer-alert", "the peer sent a fatal TLS alert")                      \
	X(103, RELAY_FAILED, "relay-failed", "the kernel refused to move bytes")                 \
	X(104, STOPPED, "stopped", "the daemon stopped")                                         \
	X(105, POD_DELETED, "pod-deleted", "the pod was removed")                                \
	X(106, LINGER_TIMEOUT, "linger-timeout", "the peer never closed its side")               \
	X(107, PEER_TIMEOUT, "peer-timeout", "the peer does not answer any more")                \
	X(108, UNAUTHORIZED, "unauthorized", "authorization denies this source by now")          \
	X(109, FORBIDDEN, "forbidden", "plaintext flow that the mode forbids by now")            \
	X(110, KEY_LIMIT, "key-limit",                                                           \
	  "a key has encrypted as much as it may, and cannot be replaced")                       \
	X(111, PEER_REKEYED, "peer-rekeyed",                                                     \
	  "the peer sent a KeyUpdate that cannot be followed here")                              \
	X(112, REKEY_STORM, "rekey-storm", "the peer sent KeyUpdate after KeyUpdate")            \
	X(113, REKEY_FAILED, "rekey-failed",                                                     \
	  "the kernel did not take a new key, or holds one that is not ours")                    \
	X(114, PEER_EXPIRED, "peer-expired",                                                     \
	  "the peer's SVID has expired, and no handshake showed a newer one")                    \
	X(115, MAP_FULL, "map-full", "writes that a full map of the operator refused")           \
	X(116, PLAINTEXT, "plaintext", "flows relayed in plaintext")                             \
	X(117, ACCEPT_PAUSED, "accept-paused",                                                   \
	  "pauses in accepting: out of descriptors or memory")                                   \
	X(118, STRAY_RESET, "stray-reset",                                                       \
	  "resets on loopback that the connection's other end had not sent: dropped")            \
	X(119, PIPE_WAIT, "pipe-wait", "flows that waited for descriptors of a pipe")            \
	X(120, ESTABLISHED, "established", "flows that completed the handshake")                 \
	X(121, PASSED, "passed", "connects left alone: not meshed by policy")                    \
	X(122, INTERCEPTED, "intercepted", "connects turned towards the daemon")                 \
	X(123, STEERED, "steered", "inbound connections turned towards the daemon")              \
	X(124, HELD, "held", "SYNs held until the peer has accepted")                            \
	X(125, RETRIED, "retried", "handshakes tried once more after a reset")                   \
	X(126, REKEYED, "rekeyed", "keys of established flows that were replaced")               \
	X(127, KEY_LIMIT_NEAR, "key-limit-near",                                                 \
	  "keys that reached half of what they may encrypt and were not replaced")

enum kmtls_reason {
#define KMTLS_REASON_ENUM(number, symbol, name, text) KMTLS_REASON_##symbol = number,
	KMTLS_REASONS(KMTLS_REASON_ENUM)
#undef KMTLS_REASON_ENUM
		KMTLS_REASON_COUNT = 128, /* elements of `counters`, a per-CPU array of __u64 */
};

#define KMTLS_ASSERT_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type " size")
KMTLS_ASSERT_SIZE(struct kmtls_address, 16);
KMTLS_ASSERT_SIZE(struct kmtls_endpoint, 20);
KMTLS_ASSERT_SIZE(struct kmtls_settings, 16);
KMTLS_ASSERT_SIZE(struct kmtls_mode_key, 16);
KMTLS_ASSERT_SIZE(struct kmtls_mode_value, 4);
KMTLS_ASSERT_SIZE(struct kmtls_peer_key, 20);
KMTLS_ASSERT_SIZE(struct kmtls_peer_value, 32);
KMTLS_ASSERT_SIZE(struct kmtls_authorization_key, 24);
KMTLS_ASSERT_SIZE(struct kmtls_authorization_value, 4);
KMTLS_ASSERT_SIZE(struct kmtls_name_value, 2056);
KMTLS_ASSERT_SIZE(struct kmtls_pod_value, 72);
KMTLS_ASSERT_SIZE(struct kmtls_udp_key, 32);
KMTLS_ASSERT_SIZE(struct kmtls_udp_value, 48);
KMTLS_ASSERT_SIZE(struct kmtls_flow_direction, 24);
KMTLS_ASSERT_SIZE(struct kmtls_flow, 192);
KMTLS_ASSERT_SIZE(struct kmtls_peer_expiry_key, 16);
KMTLS_ASSERT_SIZE(struct kmtls_peer_expiry_value, 8);

#endif
