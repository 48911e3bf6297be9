/* SPDX-License-Identifier: Apache-2.0 */
/* outbound.h - a pod's application connects: turned connections, and dialing their peers. */
#ifndef KMTLS_OUTBOUND_H
#define KMTLS_OUTBOUND_H

struct kmtls_handshake;
struct kmtls_loop;
struct kmtls_pod;

/* A connection was accepted on one of the pod's listeners for turned connects. Owns fd. */
void kmtls_outbound_accept(struct kmtls_loop *loop, struct kmtls_pod *pod, int fd);
/* The wire socket became writable, or failed. */
void kmtls_outbound_dialed(struct kmtls_handshake *handshake);

#endif
