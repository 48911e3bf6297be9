/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inbound_peek.h - where plaintext is allowed: what does the client speak? Its first bytes are
 * looked at and left where they are (docs/permissive.md).
 */
#ifndef KMTLS_INBOUND_PEEK_H
#define KMTLS_INBOUND_PEEK_H

#include <stdbool.h>

#include "kmtls/abi.h"

struct kmtls_bpf;
struct kmtls_handshake;
struct kmtls_pod;

/* Not asked again while the connection is there. */
bool kmtls_inbound_allows_plaintext(struct kmtls_bpf *bpf, const struct kmtls_pod *pod,
				    const struct kmtls_endpoint *self,
				    const struct kmtls_endpoint *peer);

enum kmtls_first_bytes {
	KMTLS_FIRST_NOTHING, /* none yet */
	KMTLS_FIRST_PARTIAL, /* what may become a ClientHello */
	KMTLS_FIRST_MESH, /* a ClientHello that offers our ALPN */
	KMTLS_FIRST_PLAIN, /* what is not for us, or the end */
	KMTLS_FIRST_FAILED, /* the connection is gone: *ret_error */
};
enum kmtls_first_bytes kmtls_inbound_look(int fd, int *ret_error);
/* The peer has ended, or reset: nothing more than what is there will come. */
bool kmtls_inbound_has_ended(int fd);

/* ---- the stage PEEKING. The handshake may be gone afterwards. ---- */

void kmtls_inbound_peek_begin(struct kmtls_handshake *handshake);
void kmtls_inbound_peek(struct kmtls_handshake *handshake); /* something has come */
void kmtls_inbound_peek_expire(struct kmtls_handshake *handshake); /* nothing has, in time */
/* The application has accepted a plaintext connection: relays. */
void kmtls_inbound_relay_plain(struct kmtls_handshake *handshake);

#endif
