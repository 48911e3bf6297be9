/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delegated_identity.h - SVIDs of many pods by the SPIRE agent's Delegated Identity API, kept up to
 * date by one thread over one connection to the agent's admin socket. The agent must list the
 * daemon's own SPIFFE ID in authorized_delegates.
 */
#ifndef KMTLS_DELEGATED_IDENTITY_H
#define KMTLS_DELEGATED_IDENTITY_H

#include "agent.h"
#include "workload_answer.h"

#define KMTLS_DELEGATED_PODS_MAX 4096
#define KMTLS_DELEGATED_SELECTORS_MAX 32
#define KMTLS_DELEGATED_SELECTOR_MAX 1024 /* bytes of one */

/* How the agent is told which workload is meant: by selectors, or by a process of it. */
struct kmtls_delegated_workload {
	const char *const
		*selectors; /* "TYPE:VALUE", as k8s:ns:shop, k8s:sa:web, k8s:pod-uid:... */
	size_t selector_count;
	int pid; /* as the agent sees it; 0: by selectors */
	struct kmtls_workload_choice choice;
	const char *name; /* of the pod, for the log; NULL: it has none */
};

struct kmtls_delegated_identity;

struct kmtls_delegated_identity_options {
	struct kmtls_agent_options agent;
	/* Called on the thread whenever get(key) has something else to give, also if that is nothing
	 * any more; it may be before add() has returned. May call everything but close(). */
	void (*changed)(struct kmtls_delegated_identity *source, uint64_t key, void *context);
	void *context;
};

/* Returns before there is an answer. -EINVAL, -ENOMEM, -errno and a sentence (KMTLS_GRPC_WHY). */
int kmtls_delegated_identity_open(const struct kmtls_delegated_identity_options *options,
				  struct kmtls_delegated_identity **ret_source, char *ret_why);
void kmtls_delegated_identity_close(struct kmtls_delegated_identity *source); /* NULL is fine */

/* The rest: any thread. key is the caller's name for the pod. */

/* Copies. -EEXIST: the key is taken; -EINVAL, -E2BIG, -ENOMEM; a sentence (KMTLS_GRPC_WHY). */
int kmtls_delegated_identity_add(struct kmtls_delegated_identity *source, uint64_t key,
				 const struct kmtls_delegated_workload *workload, char *ret_why);
/* -ENOENT. No changed() for it any more, save one that is under way. */
int kmtls_delegated_identity_remove(struct kmtls_delegated_identity *source, uint64_t key);
/* A reference; NULL: there is none, or it has expired, or was taken back. */
struct kmtls_workload_identity *
kmtls_delegated_identity_get(struct kmtls_delegated_identity *source, uint64_t key);
/* The roots of a trust domain, to be freed with sk_X509_pop_free(); empty if there is no bundle of it.
 * NULL: no memory. ret_version: another number whenever bundles have come. */
STACK_OF(X509) * kmtls_delegated_identity_roots(struct kmtls_delegated_identity *source,
						const char *trust_domain, unsigned *ret_version);
/* Of the connection and its stream of bundles. */
void kmtls_delegated_identity_look(struct kmtls_delegated_identity *source,
				   struct kmtls_agent_view *ret_view);
/* Of one pod. -ENOENT. */
int kmtls_delegated_identity_look_at(struct kmtls_delegated_identity *source, uint64_t key,
				     struct kmtls_agent_view *ret_view);
/* Waits no longer for the next try, of anything. */
void kmtls_delegated_identity_retry(struct kmtls_delegated_identity *source);

#endif
