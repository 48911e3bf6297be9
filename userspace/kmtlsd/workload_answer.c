/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload_answer.c - from protobuf to the pieces that workload_identity.c checks. protobuf-c makes a
 * copy of each field, keys too: it gets memory that is wiped, and not without end.
 */
#include "workload_answer.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "delegated.pb-c.h"
#include "grpc.h"
#include "spiffe.h"
#include "wiping.h"
#include "workload.pb-c.h"
#include "workload_parts.h"

#define BUDGET (4 * (size_t)KMTLS_GRPC_MESSAGE_MAX)
#define refuse kmtls_workload_refuse

/* A message and the memory it is in. */
struct unpacked {
	struct kmtls_wiping_protobuf memory;
	ProtobufCMessage *message;
};

static int unpack(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t length,
		  struct unpacked *unpacked, char *ret_why)
{
	kmtls_wiping_protobuf_init(&unpacked->memory, BUDGET);
	unpacked->message =
		protobuf_c_message_unpack(descriptor, &unpacked->memory.allocator, length, bytes);
	if (unpacked->message)
		return 0;
	return refuse(-EINVAL, ret_why, "the answer is not the protobuf message it should be");
}

static void free_unpacked(struct unpacked *unpacked)
{
	if (unpacked->message)
		protobuf_c_message_free_unpacked(unpacked->message, &unpacked->memory.allocator);
}

#define __cleanup_unpacked __attribute__((cleanup(free_unpacked)))

/* ---- which SVID ---- */

static bool is_chosen(const struct kmtls_workload_choice *choice, const char *id, const char *hint)
{
	return (!choice->id || !strcmp(choice->id, id)) &&
	       (!choice->hint || !strcmp(choice->hint, hint));
}

/* first: the SPIFFE ID of the first one. */
static int not_chosen(const struct kmtls_workload_choice *choice, size_t count, const char *first,
		      char *ret_why)
{
	if (choice->id && choice->hint)
		return refuse(-EINVAL, ret_why,
			      "none of the %zu SVIDs has the SPIFFE ID %.70s and the hint %.40s; "
			      "the first is of %.70s",
			      count, choice->id, choice->hint, first);
	return refuse(-EINVAL, ret_why,
		      "none of the %zu SVIDs has the %s %.90s; the first is of %.90s", count,
		      choice->id ? "SPIFFE ID" : "hint", choice->id ? choice->id : choice->hint,
		      first);
}

static int check_count(size_t count, char *ret_why)
{
	if (count <= KMTLS_WORKLOAD_SVIDS_MAX)
		return 0;
	return refuse(-EINVAL, ret_why, "more than %d SVIDs in one answer",
		      KMTLS_WORKLOAD_SVIDS_MAX);
}

/* ---- bundles ---- */

/* One that is of no use is passed over; what the own one lacks shows when the SVID is joined. */
static int add_bundle(struct kmtls_workload_bundles *bundles, const char *name,
		      ProtobufCBinaryData der, char *ret_why)
{
	int err;

	if (bundles->count + bundles->skipped >= KMTLS_WORKLOAD_BUNDLES_MAX)
		return refuse(-EINVAL, ret_why, "more than %d bundles", KMTLS_WORKLOAD_BUNDLES_MAX);
	err = kmtls_workload_bundles_add(bundles, name, der, ret_why);
	if (err != -EINVAL)
		return err;
	bundles->skipped++;
	memcpy(bundles->skipped_why, ret_why, sizeof(bundles->skipped_why));
	return 0;
}

/* ---- Workload API ---- */

static const Kmtls__Workload__Svid *choose(const Kmtls__Workload__SvidAnswer *answer,
					   const struct kmtls_workload_choice *choice)
{
	for (size_t i = 0; i < answer->n_svids; i++)
		if (is_chosen(choice, answer->svids[i]->id, answer->svids[i]->hint))
			return answer->svids[i];
	return NULL;
}

/* Unlike those of others, the own bundle must be good. */
static int read_bundles(const Kmtls__Workload__SvidAnswer *answer,
			const Kmtls__Workload__Svid *svid, struct kmtls_workload_bundles *bundles,
			char *ret_why)
{
	char own[KMTLS_SPIFFE_ID_MAX + 1];
	struct kmtls_spiffe_id id;
	const char *rule;
	int err;

	if (kmtls_spiffe_id_parse(svid->id, strlen(svid->id), &id, &rule))
		return refuse(-EINVAL, ret_why, "the SVID's SPIFFE ID is none: %s", rule);
	snprintf(own, sizeof(own), "%.*s", (int)id.trust_domain_length,
		 svid->id + id.trust_domain_offset);
	err = kmtls_workload_bundles_add(bundles, own, svid->bundle, ret_why);
	for (size_t i = 0; !err && i < answer->n_federated; i++)
		err = add_bundle(bundles, answer->federated[i]->key, answer->federated[i]->value,
				 ret_why);
	if (!err)
		err = kmtls_workload_bundles_add_crls(bundles, answer->crls, answer->n_crls,
						      ret_why);
	return err;
}

static int make_identity(const Kmtls__Workload__SvidAnswer *answer,
			 const Kmtls__Workload__Svid *svid,
			 struct kmtls_workload_identity **ret_identity, char *ret_why)
{
	const struct kmtls_workload_raw raw = {
		.id = svid->id,
		.hint = svid->hint,
		.certificates = &svid->certificates,
		.certificate_count = 1,
		.key = svid->key,
	};
	struct kmtls_workload_bundles bundles = { 0 };
	struct kmtls_workload_identity *bare = NULL;
	int err = kmtls_workload_svid_make(&raw, &bare, ret_why);

	if (!err)
		err = read_bundles(answer, svid, &bundles, ret_why);
	if (!err)
		err = kmtls_workload_identity_join(bare, &bundles, NULL, 0, ret_identity, ret_why);
	kmtls_workload_identity_put(bare);
	kmtls_workload_bundles_free(&bundles);
	return err;
}

int kmtls_workload_answer_svid(const uint8_t *bytes, size_t length,
			       const struct kmtls_workload_choice *choice,
			       struct kmtls_workload_identity **ret_identity, char *ret_why)
{
	__cleanup_unpacked struct unpacked unpacked = { 0 };
	const Kmtls__Workload__SvidAnswer *answer;
	const Kmtls__Workload__Svid *svid;
	int err = unpack(&kmtls__workload__svid_answer__descriptor, bytes, length, &unpacked,
			 ret_why);

	if (err)
		return err;
	answer = (const Kmtls__Workload__SvidAnswer *)unpacked.message;
	if (!answer->n_svids)
		return refuse(-EINVAL, ret_why, "the answer has no SVID");
	err = check_count(answer->n_svids, ret_why);
	if (err)
		return err;
	svid = choose(answer, choice);
	return svid ? make_identity(answer, svid, ret_identity, ret_why)
		    : not_chosen(choice, answer->n_svids, answer->svids[0]->id, ret_why);
}

void kmtls_workload_svids_clear(struct kmtls_workload_svids *svids)
{
	while (svids->count)
		kmtls_workload_identity_put(svids->items[--svids->count]);
	*svids = (struct kmtls_workload_svids){ 0 };
}

static struct kmtls_workload_identity *find_svid(const struct kmtls_workload_svids *svids,
						 const char *id)
{
	for (size_t i = 0; i < svids->count; i++)
		if (!strcmp(svids->items[i]->id, id))
			return svids->items[i];
	return NULL;
}

/* What one breaks must not cost the others theirs. */
static int add_svid(const Kmtls__Workload__SvidAnswer *answer, const Kmtls__Workload__Svid *svid,
		    const struct kmtls_workload_svids *before, struct kmtls_workload_svids *svids,
		    char *ret_why)
{
	struct kmtls_workload_identity *identity;
	int err = make_identity(answer, svid, &identity, ret_why);

	if (err == -ENOMEM)
		return err;
	if (err) {
		svids->skipped++;
		snprintf(svids->skipped_why, sizeof(svids->skipped_why), "%.80s: %.170s", svid->id,
			 ret_why);
		identity = find_svid(before, svid->id);
		if (!identity)
			return 0;
		kmtls_workload_identity_get(identity);
	}
	svids->items[svids->count++] = identity;
	return 0;
}

int kmtls_workload_answer_svids(const uint8_t *bytes, size_t length, const char *hint,
				const struct kmtls_workload_svids *before,
				struct kmtls_workload_svids *svids, char *ret_why)
{
	const struct kmtls_workload_choice choice = { .hint = hint };
	__cleanup_unpacked struct unpacked unpacked = { 0 };
	const Kmtls__Workload__SvidAnswer *answer;
	int err = unpack(&kmtls__workload__svid_answer__descriptor, bytes, length, &unpacked,
			 ret_why);

	if (err)
		return err;
	answer = (const Kmtls__Workload__SvidAnswer *)unpacked.message;
	if (!answer->n_svids)
		return refuse(-EINVAL, ret_why, "the answer has no SVID");
	err = check_count(answer->n_svids, ret_why);
	for (size_t i = 0; !err && i < answer->n_svids; i++) {
		const Kmtls__Workload__Svid *svid = answer->svids[i];

		if (is_chosen(&choice, svid->id, svid->hint) && !find_svid(svids, svid->id))
			err = add_svid(answer, svid, before, svids, ret_why);
	}
	if (!err && !svids->count && svids->skipped)
		err = refuse(-EINVAL, ret_why, "%s", svids->skipped_why);
	else if (!err && !svids->count)
		err = not_chosen(&choice, answer->n_svids, answer->svids[0]->id, ret_why);
	if (err)
		kmtls_workload_svids_clear(svids);
	return err;
}

int kmtls_workload_answer_bundles(const uint8_t *bytes, size_t length,
				  struct kmtls_workload_bundles *bundles, char *ret_why)
{
	__cleanup_unpacked struct unpacked unpacked = { 0 };
	const Kmtls__Workload__BundlesAnswer *answer;
	int err = unpack(&kmtls__workload__bundles_answer__descriptor, bytes, length, &unpacked,
			 ret_why);

	if (err)
		return err;
	answer = (const Kmtls__Workload__BundlesAnswer *)unpacked.message;
	for (size_t i = 0; !err && i < answer->n_bundles; i++)
		err = add_bundle(bundles, answer->bundles[i]->key, answer->bundles[i]->value,
				 ret_why);
	if (!err)
		err = kmtls_workload_bundles_add_crls(bundles, answer->crls, answer->n_crls,
						      ret_why);
	if (err)
		kmtls_workload_bundles_free(bundles);
	return err;
}

/* ---- Delegated Identity API ---- */

void kmtls_workload_names_free(struct kmtls_workload_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->items[i]);
	free(names->items);
	*names = (struct kmtls_workload_names){ 0 };
}

static int copy_names(char *const *from, size_t count, struct kmtls_workload_names *names,
		      char *ret_why)
{
	if (count > KMTLS_WORKLOAD_BUNDLES_MAX)
		return refuse(-EINVAL, ret_why, "more than %d trust domains to federate with",
			      KMTLS_WORKLOAD_BUNDLES_MAX);
	/* Never NULL: that would mean all. */
	names->items = calloc(count + 1, sizeof(*names->items));
	for (size_t i = 0; names->items && i < count; i++) {
		names->items[i] = strdup(from[i]);
		if (!names->items[i])
			break;
		names->count++;
	}
	if (names->items && names->count == count)
		return 0;
	kmtls_workload_names_free(names);
	return refuse(-ENOMEM, ret_why, "out of memory");
}

/* "" where it has none, which nobody asks for and no check lets pass. */
static void write_id(const Kmtls__Delegated__SvidWithKey *entry, char *ret_id, size_t size)
{
	const Kmtls__Delegated__Id *id = entry->svid ? entry->svid->id : NULL;

	*ret_id = '\0';
	if (id && strlen(id->trust_domain) + strlen(id->path) + sizeof("spiffe://") <= size)
		snprintf(ret_id, size, "spiffe://%s%s", id->trust_domain, id->path);
}

static int make_svid(const Kmtls__Delegated__SvidAnswer *answer,
		     const struct kmtls_workload_choice *choice,
		     struct kmtls_workload_identity **ret_svid, char *ret_why)
{
	char id[KMTLS_SPIFFE_ID_MAX + 1];

	for (size_t i = 0; i < answer->n_svids; i++) {
		const Kmtls__Delegated__SvidWithKey *entry = answer->svids[i];

		write_id(entry, id, sizeof(id));
		if (!entry->svid)
			return refuse(-EINVAL, ret_why, "SVID %zu of the answer is empty", i + 1);
		if (is_chosen(choice, id, entry->svid->hint)) {
			const struct kmtls_workload_raw raw = {
				.id = id,
				.hint = entry->svid->hint,
				.certificates = entry->svid->certificates,
				.certificate_count = entry->svid->n_certificates,
				.key = entry->key,
			};
			return kmtls_workload_svid_make(&raw, ret_svid, ret_why);
		}
	}
	write_id(answer->svids[0], id, sizeof(id));
	return not_chosen(choice, answer->n_svids, id, ret_why);
}

int kmtls_delegated_answer_svid(const uint8_t *bytes, size_t length,
				const struct kmtls_workload_choice *choice,
				struct kmtls_workload_identity **ret_svid,
				struct kmtls_workload_names *names, char *ret_why)
{
	__cleanup_unpacked struct unpacked unpacked = { 0 };
	const Kmtls__Delegated__SvidAnswer *answer;
	int err = unpack(&kmtls__delegated__svid_answer__descriptor, bytes, length, &unpacked,
			 ret_why);

	if (err)
		return err;
	answer = (const Kmtls__Delegated__SvidAnswer *)unpacked.message;
	if (!answer->n_svids)
		return refuse(-ENOENT, ret_why, "the agent has no SVID for it");
	err = check_count(answer->n_svids, ret_why);
	if (!err)
		err = copy_names(answer->federates_with, answer->n_federates_with, names, ret_why);
	if (err)
		return err;
	err = make_svid(answer, choice, ret_svid, ret_why);
	if (err)
		kmtls_workload_names_free(names);
	return err;
}

int kmtls_delegated_answer_bundles(const uint8_t *bytes, size_t length,
				   struct kmtls_workload_bundles *bundles, char *ret_why)
{
	__cleanup_unpacked struct unpacked unpacked = { 0 };
	const Kmtls__Delegated__BundlesAnswer *answer;
	int err = unpack(&kmtls__delegated__bundles_answer__descriptor, bytes, length, &unpacked,
			 ret_why);

	if (err)
		return err;
	answer = (const Kmtls__Delegated__BundlesAnswer *)unpacked.message;
	for (size_t i = 0; !err && i < answer->n_bundles; i++)
		err = add_bundle(bundles, answer->bundles[i]->key, answer->bundles[i]->value,
				 ret_why);
	if (err)
		kmtls_workload_bundles_free(bundles);
	return err;
}
