/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modes.h - the map `modes` as the daemon reads and writes it: what the configuration says for the
 * mesh, what the operator says for the rest, and which of it applies. The order of rules is
 * mode_rules.h's; no copy of the map is kept.
 */
#ifndef KMTLS_MODES_H
#define KMTLS_MODES_H

#include <stdbool.h>
#include <stdint.h>

#include "kmtls/abi.h"
#include "kmtls/mode_rules.h"

struct kmtls_bpf;
struct kmtls_config;

/*
 * Writes what the configuration says: the mesh's mode, both directions, and ports excluded for
 * all pods. At start it replaces the entries of these two kinds; entries for namespaces, pods and
 * pods' ports are the operator's and stay. ret_why: 256 bytes.
 */
int kmtls_modes_apply_config(struct kmtls_bpf *bpf, const struct kmtls_config *config,
			     char *ret_why);

/* The mesh-wide mode of one direction; strict when nothing is said. */
enum kmtls_mode kmtls_modes_mesh(struct kmtls_bpf *bpf, enum kmtls_direction direction);

/* What became of one rule. Rules that do not apply, or come after the one that decided, have been
 * looked at as well, so that people see what there is. */
struct kmtls_mode_consulted {
	struct kmtls_mode_key key; /* all zero: the rule does not apply */
	enum kmtls_mode mode; /* UNSET: nothing is said there */
	bool ignored; /* it would decide, were the mesh not strict */
	bool decided;
};

/* Where elements come from: at() is what is said by the element of that key, or UNSET. */
struct kmtls_modes_reader {
	enum kmtls_mode (*at)(void *context, const struct kmtls_mode_key *key);
	void *context;
};

/* As kmtls_modes_resolve(), without the map. */
enum kmtls_mode kmtls_modes_resolve_by(const struct kmtls_modes_reader *reader, __u64 pod_name,
				       __u64 pod_namespace, enum kmtls_direction direction,
				       __u16 port, struct kmtls_mode_consulted *ret_consulted);
/* What the element of exactly this key says. */
enum kmtls_mode kmtls_modes_at(struct kmtls_bpf *bpf, const struct kmtls_mode_key *key);

/*
 * As the programs decide, for a pod by the hashes of `pods`. port: of the destination, whichever
 * the direction. ret_consulted: KMTLS_MODE_RULE_COUNT elements by enum kmtls_mode_rule, or NULL.
 */
enum kmtls_mode kmtls_modes_resolve(struct kmtls_bpf *bpf, __u64 pod_name, __u64 pod_namespace,
				    enum kmtls_direction direction, __u16 port,
				    struct kmtls_mode_consulted *ret_consulted);

/* "off", "permissive", "strict"; "unset". */
const char *kmtls_mode_name(enum kmtls_mode mode);

#endif
