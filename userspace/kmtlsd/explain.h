/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain.h - why a connection would be encrypted, in plaintext or refused: each rule that is
 * consulted, in order, and the one that decides, as far as this node can see. Decides nothing
 * itself: mode_rules.h, decision_rules.h and authorization.h do, for explain as for connections.
 *
 * What there is, is asked for through a view, so that nothing here needs a map.
 */
#ifndef KMTLS_EXPLAIN_H
#define KMTLS_EXPLAIN_H

#include <jansson.h>
#include <stdbool.h>

#include "kmtls/abi.h"
#include "kmtls/internal_maps.h"

#include "authorization.h"
#include "pods.h"

/* An enrolled pod of this node. */
struct kmtls_explain_pod {
	char name[KMTLS_POD_NAME_MAX + 1];
	char id[KMTLS_SPIFFE_ID_MAX + 1];
	__u64 netns; /* cookie */
	bool known; /* the programs find it in `pods`; if not, value is zero */
	struct kmtls_pod_value value;
	bool has_svid; /* a valid one */
};

struct kmtls_explain_view {
	void *context;
	/* 0 or -ENOENT. */
	int (*pod_by_name)(void *context, const char *name, struct kmtls_explain_pod *ret_pod);
	int (*pod_by_address)(void *context, const struct kmtls_address *address,
			      struct kmtls_explain_pod *ret_pod);
	bool (*is_own)(void *context, __u64 netns, const struct kmtls_address *address);
	bool (*is_listening)(void *context, __u64 netns, const struct kmtls_endpoint *local);
	/* Is it bound to a device? As kmtls_listener_look() (listener.h); what cannot be known is 0. */
	int (*listener_look)(void *context, __u64 netns, const struct kmtls_endpoint *local,
			     char *ret_text);
	bool (*has_acceptor)(void *context, __u64 netns, enum kmtls_acceptor acceptor);
	enum kmtls_mode (*mode_at)(void *context, const struct kmtls_mode_key *key);
	/* The entry that decides, and its prefix. -ENOENT: there is none. */
	int (*peer)(void *context, const struct kmtls_address *address,
		    struct kmtls_peer_key *ret_key, struct kmtls_peer_value *ret_value);
	/* KMTLS_SPIFFE_ID_MAX + 1 bytes. */
	int (*name)(void *context, __u64 hash, char *ret_text);
	/* ret_why: KMTLS_AUTHORIZATION_WHY bytes. */
	void (*authorize)(void *context, const char *source, const char *destination, __u16 port,
			  struct kmtls_authorization_verdict *ret_verdict, char *ret_why);
};

struct kmtls_explain_question {
	const char *source, *destination; /* a pod's name, or an address */
	__u16 port; /* of the destination; 0: any */
	bool udp;
	/* Who the client has proved to be, where that is known; NULL: the peers map is believed. */
	const char *source_id;
};

/*
 * ret_answer, a new object:
 *   source, destination   {name ("" if it is no pod here), address, id ("" if not known)}
 *   port, protocol
 *   steps                 [{stage, rule, state, text}]; stage: outbound, inbound, identity,
 *                         authorization; state: see docs/explain.md; one is "decides"
 *   result                encrypted, plaintext, refused
 *   decided_by            rule of the deciding step
 *   reason                name of the reason code that is counted, or ""
 *   sees                  what the application that connects sees, or ""
 *   expected              whom the server must prove to be, or ""
 *   text                  the result as a sentence
 * -EINVAL and a sentence of 256 bytes: the question cannot be answered here; -ENOMEM.
 */
int kmtls_explain(const struct kmtls_explain_view *view,
		  const struct kmtls_explain_question *question, json_t **ret_answer,
		  char *ret_why);

#endif
