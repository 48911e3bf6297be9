/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls13_kdf.h - the key derivation of TLS 1.3 (RFC 8446, section 7.1) as an algorithm of a provider,
 * on the hashes of OpenSSL's own.
 *
 * A handshake derives thirty times at each end. OpenSSL 3.0 copies what it is given, then looks for
 * hash and HMAC by their names, twice each time, which costs several times as much as the hashes
 * themselves. And only who derives a secret can have it: otherwise libssl tells it as a line of text,
 * and the four that nobody asked for as well (key_schedule.h).
 */
#ifndef KMTLS_TLS13_KDF_H
#define KMTLS_TLS13_KDF_H

#include <openssl/core.h>
#include <stdbool.h>

/* false: OpenSSL has not all of the hashes. */
bool kmtls_tls13_kdf_works(void);

/*
 * OSSL_FUNC_KDF_*, for "TLS13-KDF". All that a derivation needs comes with it, as from libssl: what is
 * set before it is refused. The modes are OpenSSL's EXTRACT_ONLY and EXPAND_ONLY. Tells
 * kmtls_traffic_secrets_derived() what it has expanded.
 */
extern const OSSL_DISPATCH kmtls_tls13_kdf_functions[];

#endif
