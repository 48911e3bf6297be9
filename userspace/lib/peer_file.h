/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_file.h - a file of peers, as `kmtls peer load` takes it. One entry per line, written like
 * the arguments of `kmtls peer add`:
 *
 *   # comment; also after an entry
 *   10.0.0.2          --id spiffe://example.org/ns/shop/sa/db
 *   10.96.0.0/16      --namespace shop --trust-domain example.org
 *   fd00:2::/64       --trust-domain example.org
 *   10.0.0.53/32      --bypass --port 53 --port 9153
 *
 * Parsing touches nothing but memory.
 */
#ifndef KMTLS_PEER_FILE_H
#define KMTLS_PEER_FILE_H

#include <stddef.h>

#include "kmtls/abi.h"
#include "peer_table.h"

#define KMTLS_PEER_FILE_MAX (64u << 20) /* bytes */
#define KMTLS_PEER_LINE_MAX 4096 /* bytes, without the newline */

/* A text that goes into `names`. */
struct kmtls_peer_name {
	__u64 hash;
	char *text;
};

struct kmtls_peer_file {
	struct kmtls_peer_table table; /* sorted, each prefix once */
	struct kmtls_peer_name *names; /* sorted by hash, each once */
	size_t name_count, name_size;
};

struct kmtls_peer_file_error {
	unsigned line; /* 0: of the file as a whole */
	char rule[512]; /* may hold bytes of the file */
};

/* bytes may hold anything. 0; -EINVAL and ret_error; -ENOMEM. */
int kmtls_peer_file_parse(const char *bytes, size_t length, struct kmtls_peer_file *ret_file,
			  struct kmtls_peer_file_error *ret_error);

/* For files of another form (mesh_file.h): entries are appended to table, texts with this, and
 * kmtls_peer_file_finish() makes the rest hold. -ENOMEM; -EINVAL and ret_error. */
int kmtls_peer_file_add_name(struct kmtls_peer_file *file, const char *text, __u64 *ret_hash);
int kmtls_peer_file_finish(struct kmtls_peer_file *file, struct kmtls_peer_file_error *ret_error);
void kmtls_peer_file_free(struct kmtls_peer_file *file);

#endif
