/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_hello.h - are the first bytes of a connection a ClientHello of the mesh? A pure function
 * of what has been peeked at so far; nothing is taken.
 */
#ifndef KMTLS_CLIENT_HELLO_H
#define KMTLS_CLIENT_HELLO_H

#include <stddef.h>

/* As far as anyone looks, record headers included. Ours take a few hundred bytes. */
#define KMTLS_CLIENT_HELLO_MAX 16384

enum kmtls_client_hello {
	KMTLS_CLIENT_HELLO_PARTIAL, /* may become one: more bytes will tell */
	KMTLS_CLIENT_HELLO_OURS, /* complete, and offers ALPN kmtls/1 or its variant with rekey */
	KMTLS_CLIENT_HELLO_OTHER, /* no TLS, or TLS of somebody else; more bytes change nothing */
};

/* The first length bytes. From KMTLS_CLIENT_HELLO_MAX on the answer is never PARTIAL. */
enum kmtls_client_hello kmtls_client_hello_look(const unsigned char *bytes, size_t length);

#endif
