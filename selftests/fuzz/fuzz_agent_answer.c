/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_agent_answer.c - answers of SPIFFE agents: the first byte says of which of the four calls, the
 * rest is protobuf. What is accepted keeps what workload_identity.h promises, what is refused has a
 * sentence, and OpenSSL's queue of errors stays empty.
 */
#include <errno.h>
#include <openssl/err.h>
#include <stdbool.h>
#include <string.h>

#include "fuzz.h"
#include "spiffe.h"
#include "workload_answer.h"

static void check_bundles(const struct kmtls_workload_bundles *bundles)
{
	HOLDS(bundles->count + bundles->skipped <= KMTLS_WORKLOAD_BUNDLES_MAX + 1);
	for (size_t i = 0; i < bundles->count; i++) {
		const struct kmtls_workload_bundle *bundle = &bundles->items[i];
		const char *rule;

		HOLDS(kmtls_workload_trust_domain(bundle->trust_domain, &rule) ==
		      bundle->trust_domain);
		HOLDS(kmtls_workload_bundles_find(bundles, bundle->trust_domain) == bundle);
		HOLDS(sk_X509_num(bundle->roots) > 0 &&
		      sk_X509_num(bundle->roots) <= KMTLS_WORKLOAD_ROOTS_MAX);
	}
}

static void check_identity(const struct kmtls_workload_identity *identity)
{
	struct kmtls_spiffe_id id;
	const char *rule;

	HOLDS(!kmtls_spiffe_id_parse(identity->id, strlen(identity->id), &id, &rule));
	HOLDS(id.path_length && identity->leaf && identity->key && identity->chain);
	HOLDS(X509_check_private_key(identity->leaf, identity->key) == 1);
	HOLDS(sk_X509_num(identity->chain) <= KMTLS_WORKLOAD_CHAIN_MAX);
	check_bundles(&identity->bundles);
	if (identity->bundles.count)
		HOLDS(strlen(identity->bundles.items[0].trust_domain) == id.trust_domain_length &&
		      !memcmp(identity->bundles.items[0].trust_domain,
			      identity->id + id.trust_domain_offset, id.trust_domain_length));
}

static void check_refused(int err, const char *why)
{
	HOLDS(err == -EINVAL || err == -EKEYEXPIRED || err == -EEXIST || err == -ENOENT);
	HOLDS(*why && memchr(why, '\0', KMTLS_WORKLOAD_WHY));
}

/* All of them, twice, so that each has one before it. */
static void read_svids(const uint8_t *data, size_t size, bool first_is_good)
{
	struct kmtls_workload_svids before = { .count = 0 }, svids = { .count = 0 };
	char why[KMTLS_WORKLOAD_WHY] = "";
	int err = kmtls_workload_answer_svids(data, size, NULL, &before, &svids, why);

	HOLDS(!err || (!svids.count && !first_is_good));
	if (err)
		check_refused(err, why);
	for (size_t i = 0; i < svids.count; i++) {
		check_identity(svids.items[i]);
		for (size_t j = 0; j < i; j++)
			HOLDS(strcmp(svids.items[i]->id, svids.items[j]->id) != 0);
	}
	before = svids;
	svids = (struct kmtls_workload_svids){ .count = 0 };
	HOLDS(!err == !kmtls_workload_answer_svids(data, size, NULL, &before, &svids, why));
	HOLDS(svids.count == before.count && svids.skipped == before.skipped);
	kmtls_workload_svids_clear(&before);
	kmtls_workload_svids_clear(&svids);
}

static int read_svid(const uint8_t *data, size_t size, char *why)
{
	static const struct kmtls_workload_choice any;
	struct kmtls_workload_identity *identity;
	int err = kmtls_workload_answer_svid(data, size, &any, &identity, why);

	read_svids(data, size, !err);
	if (err)
		return err;
	check_identity(identity);
	HOLDS(identity->bundles.count);
	kmtls_workload_identity_put(identity);
	return 0;
}

static int read_delegated(const uint8_t *data, size_t size, char *why)
{
	static const struct kmtls_workload_choice any;
	struct kmtls_workload_names names = { 0 };
	struct kmtls_workload_identity *svid;
	int err = kmtls_delegated_answer_svid(data, size, &any, &svid, &names, why);

	if (err) {
		HOLDS(!names.items && !names.count);
		return err;
	}
	check_identity(svid);
	HOLDS(names.items);
	kmtls_workload_names_free(&names);
	kmtls_workload_identity_put(svid);
	return 0;
}

static int read_bundles(const uint8_t *data, size_t size, bool delegated, char *why)
{
	struct kmtls_workload_bundles bundles = { 0 };
	int err = delegated ? kmtls_delegated_answer_bundles(data, size, &bundles, why)
			    : kmtls_workload_answer_bundles(data, size, &bundles, why);

	if (err)
		HOLDS(!bundles.items && !bundles.count && !bundles.crls);
	check_bundles(&bundles);
	kmtls_workload_bundles_free(&bundles);
	return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char why[KMTLS_WORKLOAD_WHY] = "";
	int err;

	if (!size)
		return 0;
	switch (data[0] & 3) {
	case 0:
		err = read_svid(data + 1, size - 1, why);
		break;
	case 1:
		err = read_delegated(data + 1, size - 1, why);
		break;
	default:
		err = read_bundles(data + 1, size - 1, data[0] & 1, why);
	}
	if (err)
		check_refused(err, why);
	HOLDS(!ERR_peek_error());
	return 0;
}
