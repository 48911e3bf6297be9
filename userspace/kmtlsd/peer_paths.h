/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_paths.h - the intermediate CAs above the SVIDs of established flows' peers, for CRLs that
 * revoke one of them later: the certificates themselves are gone by then. Few peers have a path of
 * their own, so a slot has the number of one, and the paths are in the shared memory, where the next
 * worker finds them.
 */
#ifndef KMTLS_PEER_PATHS_H
#define KMTLS_PEER_PATHS_H

#include <linux/types.h>
#include <stdbool.h>

#include "tls.h"

struct kmtls_flow;
struct kmtls_flow_table;

#define KMTLS_PEER_PATHS 512

struct kmtls_peer_paths {
	/* kmtls_revocation_hash(), the SVID's issuer first; 0 from the root on. The first one is stored
	 * last: without it the place is free. */
	__u64 issuers[KMTLS_PEER_PATHS][KMTLS_TLS_INTERMEDIATES_MAX];
};

/*
 * Before the flow is established, in its loop's thread: writes its peer_path. issuers has
 * KMTLS_TLS_INTERMEDIATES_MAX elements. -ENOSPC: flows that are open have as many paths as there can be.
 */
int kmtls_peer_paths_put(struct kmtls_peer_paths *paths, const struct kmtls_flow_table *table,
			 struct kmtls_flow *flow, const __u64 *issuers);
/* A CA above the SVID of the flow's peer is revoked. In the loop's thread. */
bool kmtls_peer_paths_revoked(const struct kmtls_peer_paths *paths, const struct kmtls_flow *flow);

#endif
