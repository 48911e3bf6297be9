/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x25519_keys.h - new X25519 keys, for a provider whose X25519 is otherwise that of OpenSSL.
 *
 * OpenSSL multiplies the base point of a new key in portable C, the point of a peer in assembly: the
 * same multiplication, in constant time as well, and where the processor has ADX with half the
 * instructions. So the public key is derived here as a shared secret is, the peer being the base
 * point. Each side of a handshake makes one key.
 */
#ifndef KMTLS_X25519_KEYS_H
#define KMTLS_X25519_KEYS_H

#include <openssl/core.h>
#include <openssl/types.h>

/*
 * What to use in the place of keymgmt, the OSSL_FUNC_KEYMGMT_* of X25519, together with keyexch, its
 * OSSL_FUNC_KEYEXCH_*, of the same provider with this context. Random numbers are library's.
 * NULL: a function is not there that this needs. Once per process.
 */
const OSSL_DISPATCH *kmtls_x25519_keys_open(const OSSL_DISPATCH *keymgmt,
					    const OSSL_DISPATCH *keyexch, void *context,
					    OSSL_LIB_CTX *library);
void kmtls_x25519_keys_close(void);

#endif
