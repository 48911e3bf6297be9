/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ktls.h - kernel TLS on a socket: the ULP, keys, control records. Usage is what was found
 * safe on 6.1, 6.12 and 7.2 (docs/kernel.md); in particular TLS_TX is never set twice
 * (7.2 would restart the sequence and reuse nonces).
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

int kmtls_ktls_attach(int fd); /* TCP_ULP "tls" */
/* sequence: of the first record under this key. -EBUSY: already installed. */
int kmtls_ktls_install_tx(int fd, const struct kmtls_record_key *key, __u64 sequence);
int kmtls_ktls_install_rx(int fd, const struct kmtls_record_key *key, __u64 sequence);

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
