/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key_memory.h - where OpenSSL keeps keys. Three things it does not do by itself:
 *
 *  - private keys live in its secure heap, and that heap is in the same kind of memory as the secret
 *    region: memfd_secret(2) where the kernel allows it, else a locked memfd;
 *  - what it frees is wiped. Without that the traffic secrets of every handshake stay in the heap
 *    when the SSL object is gone (seen with 3.0: both of each connection).
 *
 *  - of an RSA key it keeps copies of the primes, outside that heap, from the first use on (Montgomery
 *    contexts; seen with 3.0). Every key is used once before anything else is done with it, and
 *    what OpenSSL allocates meanwhile is in the secure heap.
 *
 * So after the hand-over to the kernel the worker's own memory holds no key: a test reads all of it.
 */
#ifndef KMTLS_KEY_MEMORY_H
#define KMTLS_KEY_MEMORY_H

#include <openssl/evp.h>
#include <stdbool.h>

/* Bytes for private keys: as many pods as there can be, each with RSA of 4096 bits, twice. Pages that were
 * never written to take no memory. */
#define KMTLS_KEY_MEMORY_SIZE (16u << 20)

/* First of all, before anything of OpenSSL is called. false: too late. */
bool kmtls_key_memory_wipe_freed(void);

/* In a worker, before it makes keys: the secure heap. -errno: private keys are in ordinary memory,
 * that is locked if that is possible, and left out of core dumps. */
int kmtls_key_memory_open(void);

/* Between the two calls, what OpenSSL allocates in this thread is in the secure heap, while there is room. */
void kmtls_key_memory_all_secret(bool is_on);

/* Of every private key that was made or read, before it is used; key (NULL: so is the answer). */
EVP_PKEY *kmtls_key_memory_settle(EVP_PKEY *key);

#endif
