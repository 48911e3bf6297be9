/* SPDX-License-Identifier: Apache-2.0 */
/*
 * known_chains.c - see known_chains.h. One table for all threads. A chain in it does not change and
 * is counted, so its lock is held for a look only.
 */
#include "known_chains.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "revocation.h"
#include "spiffe.h"

#define BUCKETS 512 /* a power of 2 */

struct chain {
	unsigned references; /* atomic */
	struct chain *next; /* in its bucket */
	struct chain *older, *newer; /* by last use */
	struct kmtls_known_chain_name name;
	STACK_OF(X509) * certificates; /* as presented, the leaf first */
	STACK_OF(X509) * roots; /* all that vouch for the trust domain, in their order */
	time_t not_before, not_after; /* of all certificates on the path */
	__u64 peer_certificate, peer_issuers[KMTLS_TLS_INTERMEDIATES_MAX];
	size_t domain_offset, domain_length; /* in peer_id */
	char peer_id[];
};

static struct {
	pthread_mutex_t lock;
	struct chain *buckets[BUCKETS];
	struct chain *oldest, *newest;
	unsigned count;
	size_t bytes;
	__u64 known_total, new_total;
} table = { .lock = PTHREAD_MUTEX_INITIALIZER };

static EVP_MD *sha256;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Fetching an algorithm costs more than using it: once per process, never freed. */
static void fetch_once(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	ERR_clear_error();
}

/* ---- names ---- */

/* DER says how long it is: one certificate cannot pass for the begin of another. */
static bool add_certificate(EVP_MD_CTX *context, X509 *certificate, size_t *bytes)
{
	unsigned char *der = NULL;
	int length = i2d_X509(certificate, &der);
	bool added = length > 0 && EVP_DigestUpdate(context, der, length) == 1;

	OPENSSL_free(der);
	if (added)
		*bytes += length;
	return added;
}

bool kmtls_known_chains_name(STACK_OF(X509) * presented, enum kmtls_role role,
			     struct kmtls_known_chain_name *ret_name)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool named;

	pthread_once(&once, fetch_once);
	memset(ret_name, 0, sizeof(*ret_name));
	ret_name->role = role;
	/* Before anything is verified: what changes meanwhile makes it void. */
	ret_name->revocations = kmtls_revocation_generation();
	named = context && sha256 && sk_X509_num(presented) > 0 &&
		EVP_DigestInit_ex(context, sha256, NULL) == 1;
	for (int i = 0; named && i < sk_X509_num(presented); i++)
		named = add_certificate(context, sk_X509_value(presented, i), &ret_name->bytes);
	if (named)
		named = EVP_DigestFinal_ex(context, ret_name->digest, NULL) == 1;
	EVP_MD_CTX_free(context);
	ERR_clear_error();
	return named;
}

static bool is_same(const struct kmtls_known_chain_name *a, const struct kmtls_known_chain_name *b)
{
	return a->role == b->role && a->revocations == b->revocations && a->bytes == b->bytes &&
	       !memcmp(a->digest, b->digest, sizeof(a->digest));
}

static struct chain **bucket_of(const struct kmtls_known_chain_name *name)
{
	unsigned number;

	memcpy(&number, name->digest, sizeof(number));
	return &table.buckets[number & (BUCKETS - 1)];
}

/* ---- chains ---- */

static void put(struct chain *chain)
{
	if (!chain || __atomic_sub_fetch(&chain->references, 1, __ATOMIC_ACQ_REL))
		return;
	sk_X509_pop_free(chain->certificates, X509_free);
	sk_X509_pop_free(chain->roots, X509_free);
	free(chain);
}

/* Under the lock, as all until the next headline. */
static void use(struct chain *chain)
{
	chain->older = table.newest;
	chain->newer = NULL;
	if (table.newest)
		table.newest->newer = chain;
	else
		table.oldest = chain;
	table.newest = chain;
}

static void unuse(struct chain *chain)
{
	if (chain->older)
		chain->older->newer = chain->newer;
	else
		table.oldest = chain->newer;
	if (chain->newer)
		chain->newer->older = chain->older;
	else
		table.newest = chain->older;
}

static void take_out(struct chain *chain)
{
	struct chain **place = bucket_of(&chain->name);

	while (*place != chain)
		place = &(*place)->next;
	*place = chain->next;
	unuse(chain);
	table.count--;
	table.bytes -= chain->name.bytes;
	put(chain);
}

static void put_in(struct chain *chain)
{
	struct chain **bucket = bucket_of(&chain->name);

	while (table.oldest && (table.count >= KMTLS_KNOWN_CHAINS_ROOM ||
				table.bytes + chain->name.bytes > KMTLS_KNOWN_CHAINS_BYTES))
		take_out(table.oldest);
	chain->next = *bucket;
	*bucket = chain;
	use(chain);
	table.count++;
	table.bytes += chain->name.bytes;
}

static bool are_same(STACK_OF(X509) * a, STACK_OF(X509) * b)
{
	if (!a || !b || sk_X509_num(a) != sk_X509_num(b))
		return false;
	for (int i = 0; i < sk_X509_num(a); i++) {
		X509 *left = sk_X509_value(a, i), *right = sk_X509_value(b, i);

		if (left != right && X509_cmp(left, right) != 0)
			return false;
	}
	return true;
}

/* X509_cmp_time() has a certificate expired in its last second already. */
static bool is_valid(const struct chain *chain, time_t now)
{
	return chain->not_before <= now && now < chain->not_after;
}

/* Several of one name differ in their roots: pods may have different bundles for one trust domain. */
static struct chain *look_up(const struct kmtls_known_chain_name *name,
			     const struct kmtls_trust *trust)
{
	struct chain *chain = *bucket_of(name);

	while (chain && !(is_same(&chain->name, name) &&
			  are_same(chain->roots,
				   kmtls_trust_roots(trust, chain->peer_id + chain->domain_offset,
						     chain->domain_length))))
		chain = chain->next;
	return chain;
}

/* ---- asked from outside ---- */

/* A reference of the caller's; NULL: it is not known. */
static struct chain *find(const struct kmtls_known_chain_name *name,
			  const struct kmtls_trust *trust)
{
	time_t now = kmtls_clock_now();
	struct chain *chain;

	pthread_mutex_lock(&table.lock);
	chain = look_up(name, trust);
	if (chain && !is_valid(chain, now)) {
		take_out(chain);
		chain = NULL;
	}
	if (chain) {
		unuse(chain);
		use(chain);
		__atomic_add_fetch(&chain->references, 1, __ATOMIC_RELAXED);
		table.known_total++;
	} else {
		table.new_total++;
	}
	pthread_mutex_unlock(&table.lock);
	return chain;
}

bool kmtls_known_chains_find(const struct kmtls_known_chain_name *name,
			     const struct kmtls_trust *trust, STACK_OF(X509) * presented,
			     struct kmtls_verify *verify)
{
	struct chain *chain = trust ? find(name, trust) : NULL;

	if (!chain)
		return false;
	strcpy(verify->peer_id, chain->peer_id); /* it came from there */
	verify->peer_not_before = chain->not_before;
	verify->peer_not_after = chain->not_after;
	verify->peer_certificate = chain->peer_certificate;
	memcpy(verify->peer_issuers, chain->peer_issuers, sizeof(verify->peer_issuers));
	for (int i = 0; i < sk_X509_num(presented); i++) {
		X509 *known = sk_X509_value(chain->certificates, i);

		X509_up_ref(known);
		X509_free(sk_X509_value(presented, i));
		sk_X509_set(presented, i, known);
	}
	put(chain);
	return true;
}

static struct chain *make(const struct kmtls_known_chain_name *name, STACK_OF(X509) * presented,
			  const struct kmtls_verify *verify)
{
	size_t length = strlen(verify->peer_id) + 1;
	struct chain *chain = calloc(1, sizeof(*chain) + length);
	struct kmtls_spiffe_id id;
	const char *rule;

	if (!chain)
		return NULL;
	chain->references = 1;
	chain->name = *name;
	chain->not_before = verify->peer_not_before;
	chain->not_after = verify->peer_not_after;
	chain->peer_certificate = verify->peer_certificate;
	memcpy(chain->peer_issuers, verify->peer_issuers, sizeof(chain->peer_issuers));
	memcpy(chain->peer_id, verify->peer_id, length);
	chain->certificates = X509_chain_up_ref(presented);
	if (chain->certificates && !kmtls_spiffe_id_parse(chain->peer_id, length - 1, &id, &rule)) {
		chain->domain_offset = id.trust_domain_offset;
		chain->domain_length = id.trust_domain_length;
		return chain;
	}
	put(chain);
	ERR_clear_error();
	return NULL;
}

void kmtls_known_chains_remember(const struct kmtls_known_chain_name *name,
				 const struct kmtls_trust *trust, STACK_OF(X509) * presented,
				 const struct kmtls_verify *verify)
{
	struct chain *chain =
		name->bytes <= KMTLS_KNOWN_CHAINS_BYTES ? make(name, presented, verify) : NULL;
	STACK_OF(X509) *roots = NULL;

	if (!chain)
		return; /* then it is verified again */
	roots = kmtls_trust_roots(trust, chain->peer_id + chain->domain_offset,
				  chain->domain_length);
	chain->roots = roots ? X509_chain_up_ref(roots) : NULL;
	if (!chain->roots) {
		put(chain);
		ERR_clear_error();
		return;
	}
	pthread_mutex_lock(&table.lock);
	if (look_up(name, trust))
		put(chain); /* another handshake was faster */
	else
		put_in(chain);
	pthread_mutex_unlock(&table.lock);
}

void kmtls_known_chains_count(__u64 *ret_known, __u64 *ret_new)
{
	pthread_mutex_lock(&table.lock);
	*ret_known = table.known_total;
	*ret_new = table.new_total;
	pthread_mutex_unlock(&table.lock);
}

void kmtls_known_chains_clear(void)
{
	pthread_mutex_lock(&table.lock);
	while (table.oldest)
		take_out(table.oldest);
	pthread_mutex_unlock(&table.lock);
}
