/* SPDX-License-Identifier: Apache-2.0 */
/*
 * identity_agent.h - what the types of source behind a SPIFFE agent have in common: how an agent's
 * answer becomes material, how its state is told, roots for the next worker, and a little patience
 * with an agent that has just been asked.
 */
#ifndef KMTLS_IDENTITY_AGENT_H
#define KMTLS_IDENTITY_AGENT_H

#include <pthread.h>

#include "agent.h"
#include "identity.h"
#include "workload_identity.h"

struct kmtls_identity_agent {
	struct kmtls_identity identity; /* first: what the interface passes around */
	/* The type's: roots of the own trust domain as the agent says them, and how often they changed. */
	STACK_OF(X509) * (*told)(struct kmtls_identity_agent *agent, unsigned *ret_version);
	pthread_mutex_t lock; /* of all below, and of what a type has beside it */
	STACK_OF(X509) * kept; /* roots of a worker before, until the agent tells; NULL: none */
	unsigned kept_version; /* of the roots that the next worker has */
	unsigned patience; /* ms to wait for first answers, all together */
};

void kmtls_identity_agent_init(struct kmtls_identity_agent *agent,
			       const struct kmtls_identity_operations *operations,
			       const struct kmtls_identity_options *options,
			       STACK_OF(X509) * (*told)(struct kmtls_identity_agent * agent,
							unsigned *ret_version));
void kmtls_identity_agent_clear(struct kmtls_identity_agent *agent);
X509 *kmtls_identity_agent_authority(const struct kmtls_identity *identity);

/* -EINVAL and a sentence: pods of this node are of the own trust domain. */
int kmtls_identity_agent_check(const struct kmtls_identity *identity,
			       const struct kmtls_identity_subject *subject, char *ret_why);
int kmtls_identity_agent_fill(const struct kmtls_workload_identity *from,
			      struct kmtls_identity_material *ret_material, char *ret_why);
enum kmtls_identity_state kmtls_identity_agent_state(const struct kmtls_agent_view *view,
						     char *ret_why);

/* Waits while is_open() says so, not for long: an agent that is there answers within milliseconds, and
 * without an SVID a pod is refused. */
void kmtls_identity_agent_wait(struct kmtls_identity_agent *agent,
			       bool (*is_open)(struct kmtls_identity_agent *agent,
					       const struct kmtls_identity_subject *subject),
			       const struct kmtls_identity_subject *subject);

/* For the interface: what the agent says; none: what was kept. */
STACK_OF(X509) * kmtls_identity_agent_roots(struct kmtls_identity *identity,
					    const struct kmtls_identity_subject *subject);
/* Of what the agent says. */
unsigned kmtls_identity_agent_version(struct kmtls_identity_agent *agent);
/* For the interface: what the agent says, for the next worker, if it has something else. */
int kmtls_identity_agent_keep(const struct kmtls_identity *identity);

#endif
