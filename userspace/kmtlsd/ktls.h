/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ktls.h - kernel TLS on a socket: the ULP, keys, control records. Usage is what was found
 * safe on 6.1, 6.12 and 7.2 (docs/kernel.md); in particular the same key is never installed a
 * second time: the sequence would start anew and nonces would be used again. Another key takes its
 * place by KeyUpdate only (rekey.c).
 */
#ifndef KMTLS_KTLS_H
#define KMTLS_KTLS_H

#include <linux/types.h>
#include <stdbool.h>
#include <sys/types.h>

#include "key_schedule.h"

#define KMTLS_RECORD_ALERT 21
#define KMTLS_RECORD_HANDSHAKE 22
#define KMTLS_RECORD_DATA 23

/* 0; -ENOENT: the tls module is not loaded and cannot be; -errno. Opens a socket pair on
 * loopback for the probe. */
int kmtls_ktls_probe(void);

/* 0: keys can be replaced (since 6.14); -EBUSY: they cannot; -errno. Likewise. */
int kmtls_ktls_probe_rekey(void);

int kmtls_ktls_attach(int fd); /* TCP_ULP "tls" */
/* sequence: of the first record under this key. -EBUSY: already installed. */
int kmtls_ktls_install_tx(int fd, const struct kmtls_record_key *key, __u64 sequence);
int kmtls_ktls_install_rx(int fd, const struct kmtls_record_key *key, __u64 sequence);

enum kmtls_ktls_way { KMTLS_KTLS_TX, KMTLS_KTLS_RX };

/*
 * Which of two keys is the live one of a direction: 0 the first, 1 the second, -ESTALE neither;
 * -errno. ret_sequence (may be NULL): of the next record under it.
 */
int kmtls_ktls_which(int fd, enum kmtls_ktls_way way, const struct kmtls_record_key *first,
		     const struct kmtls_record_key *second, __u64 *ret_sequence);
/*
 * Replaces the live key, which must be old, by key, whose first record has sequence 0. Asks the
 * kernel first: -EALREADY: key is live, left alone; -ESTALE: neither is; -errno.
 */
int kmtls_ktls_replace(int fd, enum kmtls_ktls_way way, const struct kmtls_record_key *old,
		       const struct kmtls_record_key *key);

/* Next TX record sequence. The kernel hands out the key with it: wiped before returning. */
int kmtls_ktls_tx_sequence(int fd, __u16 cipher, __u64 *ret_sequence);

/* A record of a type that is not data, whole, non-blocking. 0, -EAGAIN, -errno. */
int kmtls_ktls_send(int fd, __u8 type, const void *record, size_t length);
/* An alert record {level, description}, non-blocking. 0, -EAGAIN, -errno. */
int kmtls_ktls_send_alert(int fd, __u8 level, __u8 description);

/*
 * Reads (or peeks at) the next record with its type, non-blocking, at most size bytes.
 * >= 0 bytes (0: end of stream, type is then 0), or -errno (-EAGAIN, -EBADMSG, -ECONNRESET).
 */
ssize_t kmtls_ktls_receive(int fd, bool peek, void *buffer, size_t size, __u8 *ret_type);

#endif
