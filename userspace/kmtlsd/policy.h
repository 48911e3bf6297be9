/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - the operator's maps as the daemon reads and writes them. There is no copy in
 * the daemon: each call goes to the map (the maps are the truth).
 */
#ifndef KMTLS_POLICY_H
#define KMTLS_POLICY_H

#include <stdbool.h>

#include "kmtls/abi.h"

struct kmtls_bpf;

/* The errno of a refused write, negative. A full map is counted, and always -ENOSPC: a hash says
 * E2BIG, a trie ENOSPC. */
int kmtls_policy_map_refused(int error);
/* After a change of a policy map. */
int kmtls_policy_bump_generation(struct kmtls_bpf *bpf);
int kmtls_policy_generation(struct kmtls_bpf *bpf, __u64 *ret_generation);

struct kmtls_peer_info {
	struct kmtls_peer_key key;
	struct kmtls_peer_value value;
	const char *id; /* MESH: the text of value.identity; "" if names does not have it */
};

/* match and text as in match.h. Replaces an entry of the same prefix. -EINVAL: text is not of that
 * form; -EEXIST: its hash names another text; -ENOSPC: map full. ret_why: 256 bytes. */
int kmtls_policy_peer_add_mesh(struct kmtls_bpf *bpf, const struct kmtls_peer_key *key,
			       enum kmtls_match match, const char *text, char *ret_why);
/* count 0: every port. -EINVAL: more than KMTLS_BYPASS_PORTS, or port 0. */
int kmtls_policy_peer_add_bypass(struct kmtls_bpf *bpf, const struct kmtls_peer_key *key,
				 const __u16 *ports, unsigned count, char *ret_why);
int kmtls_policy_peer_delete(struct kmtls_bpf *bpf, const struct kmtls_peer_key *key,
			     char *ret_why); /* -ENOENT */
/* In the map's order. A non-zero return of visit stops and is returned. */
int kmtls_policy_peer_visit(struct kmtls_bpf *bpf,
			    int (*visit)(void *context, const struct kmtls_peer_info *info),
			    void *context);
/* The most specific entry for address. -ENOENT. */
int kmtls_policy_peer_lookup(struct kmtls_bpf *bpf, const struct kmtls_address *address,
			     struct kmtls_peer_value *ret_value);

/* Stores text under its hash; once more after what refers to it has been stored, see
 * names_collect.h. -EEXIST: another text has this hash. -ENOSPC: the map is full. */
int kmtls_policy_name_put(struct kmtls_bpf *bpf, const char *text, __u64 *ret_hash);
/* That sentence, for whose name what is. ret_why: 256 bytes. */
void kmtls_policy_name_why(const char *what, int err, char *ret_why);
/* After -ENOSPC: throws away texts that nothing in a map refers to any more; all of them, also one
 * that was just put. Takes its time, so for the control thread only. false: none went. */
bool kmtls_policy_names_collect(struct kmtls_bpf *bpf);
/* ret_text: KMTLS_SPIFFE_ID_MAX + 1 bytes. -ENOENT. */
int kmtls_policy_name_get(struct kmtls_bpf *bpf, __u64 hash, char *ret_text);

/* Sum over CPUs of one counter. */
__u64 kmtls_policy_counter(struct kmtls_bpf *bpf, enum kmtls_reason reason);

#endif
