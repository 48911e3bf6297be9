/* SPDX-License-Identifier: Apache-2.0 */
/* inbound.h - someone connects to a pod: steered connections, and the way to the application. */
#ifndef KMTLS_INBOUND_H
#define KMTLS_INBOUND_H

struct kmtls_handshake;
struct kmtls_loop;
struct kmtls_pod;

/* A connection from outside was accepted on the pod's behalf. Owns fd. */
void kmtls_inbound_accept(struct kmtls_loop *loop, struct kmtls_pod *pod, int fd);
/*
 * A plaintext relay of which nothing has been taken: the client is of the mesh after all, its
 * ClientHello was late. The application's connection is reset, and the client's begun anew.
 */
void kmtls_inbound_accept_again(struct kmtls_loop *loop, unsigned slot);
/* The client is verified and authorized, or speaks plaintext and may: connect to the application. */
void kmtls_inbound_deliver(struct kmtls_handshake *handshake);
/* The socket towards the application became writable, or failed. */
void kmtls_inbound_delivered(struct kmtls_handshake *handshake);

#endif
