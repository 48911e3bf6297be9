/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_library.h - the part of OpenSSL that handshakes use: everything of its default provider but
 * what reads keys, and with two things of our own in the place of OpenSSL's: the key derivation of
 * TLS 1.3 (tls13_kdf.h), by which application secrets come out, and new X25519 keys (x25519_keys.h).
 *
 * d2i_X509() tries to read the public key at once. OpenSSL 3.0 makes a list of all readers it has
 * for that, each time, which costs ten times as much as the rest of the certificate. A peer shows
 * the same certificate again and again, so libssl gets a library context without readers, in which
 * the key is just not read; certificates whose keys are known take the places of those
 * (known_chains.h), or the chain is read anew where there are readers (verify.c).
 */
#ifndef KMTLS_TLS_LIBRARY_H
#define KMTLS_TLS_LIBRARY_H

#include <openssl/types.h>

/*
 * For SSL_CTX_new_ex(). NULL, OpenSSL's own: its configuration has other providers than the default
 * one, FIPS for example, and what it asks for holds for handshakes, too. Borrowed, for
 * as long as the process lives.
 */
OSSL_LIB_CTX *kmtls_tls_library(void);

#endif
