/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mode_rules.h - which mode applies to a connection of a pod: in what order the elements of
 * `modes` are consulted, and which of them decides. Pure, and the only place that knows: the
 * programs decide by it, the daemon shows and explains by it.
 *
 * The most specific element that says something decides: port of the pod, port of every pod, pod,
 * namespace, mesh. Nothing below a strict mesh overrides it: there an element of a pod, of a pod's
 * port or of a namespace is ignored unless it is strict itself. A port of every pod is said for
 * the mesh as a whole, like the mesh's mode, and is not ignored (excluded ports).
 *
 * A mesh of which nothing is said is strict, and so is a mode nobody knows.
 */
#ifndef KMTLS_MODE_RULES_H
#define KMTLS_MODE_RULES_H

#include <stdbool.h>

#include "kmtls/abi.h"

/* In this order, after the mesh's own; the mesh decides where none of them does. */
enum kmtls_mode_rule {
	KMTLS_MODE_RULE_POD_PORT,
	KMTLS_MODE_RULE_PORT, /* of every pod */
	KMTLS_MODE_RULE_POD,
	KMTLS_MODE_RULE_NAMESPACE,
	KMTLS_MODE_RULE_MESH,
	KMTLS_MODE_RULE_COUNT
};

/* The element a rule reads. port: of the destination, whichever the direction. false: the rule
 * does not apply, the pod has no namespace. */
static __always_inline bool kmtls_mode_rule_key(enum kmtls_mode_rule rule, __u64 pod_name,
						__u64 pod_namespace, __u8 direction, __u16 port,
						struct kmtls_mode_key *ret_key)
{
	struct kmtls_mode_key key = { .direction = direction };

	switch (rule) {
	case KMTLS_MODE_RULE_POD_PORT:
		key.scope = KMTLS_SCOPE_PORT;
		key.id = pod_name;
		key.port = port;
		break;
	case KMTLS_MODE_RULE_PORT:
		key.scope = KMTLS_SCOPE_PORT;
		key.port = port;
		break;
	case KMTLS_MODE_RULE_POD:
		key.scope = KMTLS_SCOPE_POD;
		key.id = pod_name;
		break;
	case KMTLS_MODE_RULE_NAMESPACE:
		if (!pod_namespace)
			return false;
		key.scope = KMTLS_SCOPE_NAMESPACE;
		key.id = pod_namespace;
		break;
	default:
		key.scope = KMTLS_SCOPE_MESH;
	}
	*ret_key = key;
	return true;
}

/* What an element's number means where something is said: an unknown one is strict. */
static __always_inline enum kmtls_mode kmtls_mode_read(__u32 mode)
{
	return mode > KMTLS_MODE_STRICT ? KMTLS_MODE_STRICT : (enum kmtls_mode)mode;
}

/* The mesh's own mode, from its element (UNSET if there is none). */
static __always_inline enum kmtls_mode kmtls_mode_of_mesh(__u32 mode)
{
	return mode == KMTLS_MODE_UNSET ? KMTLS_MODE_STRICT : kmtls_mode_read(mode);
}

/* Whether mode, which a rule's element holds, is passed over because the mesh is strict. */
static __always_inline bool kmtls_mode_is_ignored(enum kmtls_mode_rule rule, enum kmtls_mode mode,
						  enum kmtls_mode mesh)
{
	return mesh == KMTLS_MODE_STRICT && mode != KMTLS_MODE_STRICT && mode != KMTLS_MODE_UNSET &&
	       rule != KMTLS_MODE_RULE_PORT && rule != KMTLS_MODE_RULE_MESH;
}

#endif
