/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pod_forget.c - what is left of a pod that is not, or not any more, enrolled: its place in the
 * store, its SVID, its flows.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "bpf_loader.h"
#include "flow_table.h"
#include "hash.h"
#include "log.h"
#include "loop.h"
#include "pod_store.h"
#include "pods_table.h"
#include "shared.h"
#include "svid_store.h"

void kmtls_pod_forget(struct kmtls_pods *pods, const char *name, const char *id)
{
	const char *run_dir = pods->daemon->config->run_dir;

	kmtls_pod_store_delete(run_dir, name);
	if (!kmtls_pod_store_uses(run_dir, id))
		kmtls_svid_store_delete(pods->daemon->secrets, id);
}

/*
 * Flows go on when a new worker cannot enrol their pod, and then nothing tells whose they are but
 * the identity: those of this one that belong to no enrolled pod are ended.
 */
static void reset_orphans(struct kmtls_pods *pods, const char *id)
{
	const struct kmtls_flow_table *table = pods->daemon->flows;
	__u64 identity = kmtls_hash_text(id), done = 0;

	for (unsigned slot = 0; slot < *table->used; slot++) {
		const struct kmtls_flow *flow = &table->slots[slot];
		__u64 cookie = flow->netns_cookie;
		struct kmtls_pod *pod;

		if (kmtls_flow_state(flow) == KMTLS_FLOW_FREE || flow->self_identity != identity ||
		    cookie == done)
			continue;
		pod = kmtls_pods_find(pods, cookie);
		if (!pod)
			kmtls_loops_reset_pod(pods->daemon->loops, cookie);
		kmtls_pod_put(pod);
		done = cookie;
	}
}

int kmtls_pod_remove_remembered(struct kmtls_pods *pods, const char *name, char *ret_why)
{
	struct kmtls_shared *shared = pods->daemon->shared;
	struct kmtls_shared_pod *entry;
	char *id = NULL;

	if (kmtls_pod_store_id(pods->daemon->config->run_dir, name, &id) == -ENOENT) {
		snprintf(ret_why, KMTLS_WHY, "pod %.150s: is not enrolled", name);
		return -ENOENT;
	}
	/* What an earlier worker had open for it. */
	entry = kmtls_shared_pod_find(shared, kmtls_hash_text(name));
	if (entry)
		kmtls_shared_pod_close(shared, entry);
	kmtls_bpf_detach_pod(pods->daemon->bpf, kmtls_hash_text(name));
	if (id)
		reset_orphans(pods, id);
	kmtls_pod_forget(pods, name, id ? id : "");
	free(id);
	log_info("pod removed", "pod=%s", kmtls_log_quote(name));
	return 0;
}
