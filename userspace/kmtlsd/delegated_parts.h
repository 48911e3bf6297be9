/* SPDX-License-Identifier: Apache-2.0 */
/* delegated_parts.h - shared by delegated_identity.c (the source) and delegated_pod.c (one pod). */
#ifndef KMTLS_DELEGATED_PARTS_H
#define KMTLS_DELEGATED_PARTS_H

#include <pthread.h>
#include <stdbool.h>

#include "delegated_identity.h"

struct kmtls_delegated_identity {
	struct kmtls_agent *agent;
	void (*changed)(struct kmtls_delegated_identity *source, uint64_t key, void *context);
	void *context;
	pthread_mutex_t lock; /* of all below; of calls: they are the thread's */
	struct kmtls_agent_view view;
	struct kmtls_workload_bundles bundles; /* the last good ones */
	bool has_bundles;
	struct kmtls_delegated_pod *pods;
	size_t pod_count;
};

struct kmtls_delegated_pod {
	struct kmtls_delegated_identity *source;
	struct kmtls_delegated_pod *next;
	uint64_t key;
	bool removed; /* for the thread to free */
	bool changed; /* to be told */
	/* The call: what is asked, when. */
	const char *path;
	uint8_t *request;
	size_t request_length;
	struct kmtls_workload_choice choice;
	char *wanted_id, *wanted_hint; /* what choice points to */
	char *name; /* NULL: not known */
	struct kmtls_grpc_call *call; /* NULL: none is open */
	int64_t retry; /* when to call again, ms */
	struct kmtls_agent_pause pause;
	struct kmtls_agent_view view;
	/* The last good answer, and what it is together with the bundles. */
	struct kmtls_workload_identity *svid, *identity;
	struct kmtls_workload_names names;
};

/* All with the lock held; the last three on the thread. */
int kmtls_delegated_pod_new(struct kmtls_delegated_identity *source, uint64_t key,
			    const struct kmtls_delegated_workload *workload,
			    struct kmtls_delegated_pod **ret_pod, char *ret_why);
void kmtls_delegated_pod_free(struct kmtls_delegated_pod *pod);
/* Makes the identity anew out of SVID and bundles. */
void kmtls_delegated_pod_join(struct kmtls_delegated_pod *pod);
/* Drops what it has; why is for the log. */
void kmtls_delegated_pod_take_back(struct kmtls_delegated_pod *pod, const char *why);
void kmtls_delegated_pod_call(struct kmtls_delegated_pod *pod, struct kmtls_grpc *grpc);

#endif
