/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload_api.h - SVIDs by the SPIFFE Workload API, kept up to date by a thread. The agent decides by
 * our process who we are: one SVID, or the first of several, or all that it has for us.
 */
#ifndef KMTLS_WORKLOAD_API_H
#define KMTLS_WORKLOAD_API_H

#include <stdbool.h>

#include "agent.h"
#include "workload_answer.h"

struct kmtls_workload_api;

struct kmtls_workload_api_options {
	struct kmtls_agent_options agent;
	struct kmtls_workload_choice choice; /* copied */
	bool all; /* not one SVID, but all (with the hint of choice); find() has them */
	/* Called on the thread whenever get() has something else to give, also if that is nothing
	 * any more; it may be before open() has returned. May call everything but close(). */
	void (*changed)(struct kmtls_workload_api *api, void *context);
	void *context;
};

/* Returns before there is an answer. -EINVAL, -ENOMEM, -errno and a sentence (KMTLS_GRPC_WHY). */
int kmtls_workload_api_open(const struct kmtls_workload_api_options *options,
			    struct kmtls_workload_api **ret_api, char *ret_why);
void kmtls_workload_api_close(struct kmtls_workload_api *api); /* NULL is fine */

/* The rest: any thread. */

/* A reference to the last good one; NULL: there is none, or it has expired, or was taken back. */
struct kmtls_workload_identity *kmtls_workload_api_get(struct kmtls_workload_api *api);
/* By its SPIFFE ID. ret_version: another number whenever it is another SVID or has other bundles, or
 * what was not there is worth another question; 0: there was no answer. */
struct kmtls_workload_identity *kmtls_workload_api_find(struct kmtls_workload_api *api,
							const char *id, unsigned *ret_version);
/* The roots of a trust domain that any of them has, to be freed with sk_X509_pop_free(); may be empty.
 * NULL: no memory. ret_version: another number whenever there may be others. */
STACK_OF(X509) * kmtls_workload_api_roots(struct kmtls_workload_api *api, const char *trust_domain,
					  unsigned *ret_version);
void kmtls_workload_api_look(struct kmtls_workload_api *api, struct kmtls_agent_view *ret_view);
/* Waits no longer for the next try. */
void kmtls_workload_api_retry(struct kmtls_workload_api *api);

#endif
