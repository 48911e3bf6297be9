/* SPDX-License-Identifier: Apache-2.0 */
/* revocation.c - see revocation.h. */
#include "revocation.h"

#include <openssl/sha.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static __u64 *revoked;
static size_t revoked_count;
static __u64 generation;

__u64 kmtls_revocation_hash(const X509 *issuer, const ASN1_INTEGER *serial)
{
	const ASN1_BIT_STRING *key = X509_get0_pubkey_bitstr(issuer);
	unsigned char digest[SHA256_DIGEST_LENGTH];
	unsigned char buffer[SHA256_DIGEST_LENGTH + 1 + 64] = { 0 };
	size_t length = (size_t)serial->length;
	__u64 hash = 0;

	SHA256(key->data, (size_t)key->length, buffer);
	buffer[SHA256_DIGEST_LENGTH] = serial->type == V_ASN1_NEG_INTEGER;
	/* Certificates have no longer ones: verify_chain.c. */
	if (length > 64)
		length = 64;
	memcpy(buffer + SHA256_DIGEST_LENGTH + 1, serial->data, length);
	SHA256(buffer, SHA256_DIGEST_LENGTH + 1 + length, digest);
	for (int i = 0; i < 8; i++)
		hash = hash << 8 | digest[i];
	return hash ? hash : 1;
}

static int compare(const void *a, const void *b)
{
	__u64 left = *(const __u64 *)a, right = *(const __u64 *)b;

	return left < right ? -1 : left > right;
}

bool kmtls_revocation_holds(__u64 hash)
{
	bool found;

	if (!hash || !__atomic_load_n(&revoked_count, __ATOMIC_RELAXED))
		return false;
	pthread_rwlock_rdlock(&lock);
	found = bsearch(&hash, revoked, revoked_count, sizeof(hash), compare);
	pthread_rwlock_unlock(&lock);
	return found;
}

bool kmtls_revocation_replace(__u64 *hashes, size_t count)
{
	__u64 *old;
	bool changed;

	if (count)
		qsort(hashes, count, sizeof(*hashes), compare);
	pthread_rwlock_wrlock(&lock);
	changed = count != revoked_count ||
		  (count && memcmp(hashes, revoked, count * sizeof(*hashes)) != 0);
	if (changed)
		__atomic_add_fetch(&generation, 1, __ATOMIC_RELEASE);
	old = revoked;
	revoked = hashes;
	__atomic_store_n(&revoked_count, count, __ATOMIC_RELAXED);
	pthread_rwlock_unlock(&lock);
	free(old);
	return changed;
}

__u64 kmtls_revocation_generation(void)
{
	return __atomic_load_n(&generation, __ATOMIC_ACQUIRE);
}
