/* SPDX-License-Identifier: Apache-2.0 */
/* outbound.h - a pod's application connects: turned connections, and dialing their peers. */
#ifndef KMTLS_OUTBOUND_H
#define KMTLS_OUTBOUND_H

#include "kmtls/internal_maps.h"

struct kmtls_flow;
struct kmtls_handshake;
struct kmtls_loop;
struct kmtls_pod;

/* A connection was accepted on one of the pod's listeners for turned connects. Owns fd. */
void kmtls_outbound_accept(struct kmtls_loop *loop, struct kmtls_pod *pod, int fd);

/*
 * A connect of the pod's is held: prepares the handshake that answers it. application is the
 * local end its socket has. The SYN was answered if there is none (NULL). event may go away.
 */
struct kmtls_handshake *kmtls_outbound_prepare(struct kmtls_loop *loop, struct kmtls_pod *pod,
					       const struct kmtls_socket *turned,
					       const struct kmtls_endpoint *application,
					       const struct kmtls_event *event);
/* Dials; the handshake may be gone afterwards. */
void kmtls_outbound_dial(struct kmtls_handshake *handshake);
/* The wire socket became writable, or failed. */
void kmtls_outbound_dialed(struct kmtls_handshake *handshake);
/* The flow is established, and says so: gives back what the local socket's storage holds, which is
 * for who finds that socket without a slot. */
void kmtls_outbound_settle(struct kmtls_loop *loop, const struct kmtls_flow *flow);

#endif
