/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash.h - the 64-bit hash that names identities, namespaces and pods in map keys:
 * the first eight bytes of SHA-256 of the text, big-endian (see abi.h, names).
 */
#ifndef KMTLS_HASH_H
#define KMTLS_HASH_H

#include <linux/types.h>
#include <stddef.h>

__u64 kmtls_hash_text(const char *text);
__u64 kmtls_hash_bytes(const char *bytes, size_t length);

#endif
