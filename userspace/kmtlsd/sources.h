/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sources.h - who is in the middle of an inbound handshake. A stranger may open connections and
 * say nothing, or say it slowly; each costs a slot, a descriptor and an SSL object until
 * handshake_timeout. So a source, which is an IPv4 address or the /64 of an IPv6 address, may
 * have some in progress, and all together some more. Any thread.
 */
#ifndef KMTLS_SOURCES_H
#define KMTLS_SOURCES_H

#include "kmtls/abi.h"

struct kmtls_sources;

/* 0: no limit. room: sources there can be at all. -ENOMEM. */
int kmtls_sources_open(unsigned per_source, unsigned total, unsigned room,
		       struct kmtls_sources **ret_sources);
void kmtls_sources_close(struct kmtls_sources *sources);

/* Other limits from now on; who is over them stays. */
void kmtls_sources_limit(struct kmtls_sources *sources, unsigned per_source, unsigned total);

/* One more. -EDQUOT: this source has as many as it may, -ENOSPC: all together have. */
int kmtls_sources_enter(struct kmtls_sources *sources, const struct kmtls_address *address);
void kmtls_sources_leave(struct kmtls_sources *sources, const struct kmtls_address *address);

#endif
