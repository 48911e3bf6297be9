/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pods.c - see pods.h: who is enrolled, and what a restarted daemon makes of
 * what it finds. Adding and removing: pod_enrol.c;
 * their SVIDs: pod_svid.c.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "bpf_loader.h"
#include "cgroup.h"
#include "flow_table.h"
#include "hash.h"
#include "log.h"
#include "loop.h"
#include "pod.h"
#include "pod_listeners.h"
#include "pod_store.h"
#include "pod_svid.h"
#include "pods.h"
#include "pods_table.h"
#include "shared.h"
#include "svid.h"
#include "udp_ledger.h"

/* How long a namespace may be without path and processes: one may be about to come. */
#define DESERTED_SECONDS 2

/* ---- looking up ---- */

struct kmtls_pod *kmtls_pod_get(struct kmtls_pod *pod)
{
	if (pod)
		atomic_fetch_add(&pod->references, 1);
	return pod;
}

void kmtls_pod_put(struct kmtls_pod *pod)
{
	if (!pod || atomic_fetch_sub(&pod->references, 1) != 1)
		return;
	/* Only now: an event loop may have been accepting until here. */
	kmtls_pod_listeners_close(pod);
	kmtls_injector_close(&pod->injector);
	if (pod->netns_fd >= 0)
		close(pod->netns_fd);
	if (pod->cgroup_fd >= 0)
		close(pod->cgroup_fd);
	kmtls_svid_put(pod->svid);
	pthread_mutex_destroy(&pod->svid_lock);
	free(pod->name);
	free(pod->netns_path);
	free(pod->cgroup_path);
	free(pod->id);
	free(pod);
}

struct kmtls_pod *kmtls_pods_get(struct kmtls_pods *pods, unsigned index, unsigned generation)
{
	struct kmtls_pod *pod;

	pthread_mutex_lock(&pods->lock);
	pod = index < KMTLS_PODS_MAX ? pods->table[index] : NULL;
	if (pod && pod->generation != generation)
		pod = NULL;
	pod = kmtls_pod_get(pod);
	pthread_mutex_unlock(&pods->lock);
	return pod;
}

struct kmtls_pod *kmtls_pods_find(struct kmtls_pods *pods, __u64 netns_cookie)
{
	struct kmtls_pod *pod = NULL;

	pthread_mutex_lock(&pods->lock);
	for (unsigned i = 0; !pod && i < KMTLS_PODS_MAX; i++)
		if (pods->table[i] && pods->table[i]->netns_cookie == netns_cookie)
			pod = kmtls_pod_get(pods->table[i]);
	pthread_mutex_unlock(&pods->lock);
	return pod;
}

struct kmtls_pod *kmtls_pods_find_name(struct kmtls_pods *pods, const char *name)
{
	struct kmtls_pod *pod = NULL;

	pthread_mutex_lock(&pods->lock);
	for (unsigned i = 0; !pod && i < KMTLS_PODS_MAX; i++)
		if (pods->table[i] && strcmp(pods->table[i]->name, name) == 0)
			pod = kmtls_pod_get(pods->table[i]);
	pthread_mutex_unlock(&pods->lock);
	return pod;
}

/* Someone inside the pod with CAP_NET_ADMIN has closed our listeners (SOCK_DESTROY). */
static void mend(struct kmtls_pods *pods, struct kmtls_pod *pod)
{
	char why[KMTLS_WHY];
	int err;

	err = kmtls_pod_listeners_mend(pods->daemon->bpf, pod, why);
	if (!err)
		err = kmtls_loops_add_pod(pods->daemon->loops, pod);
	if (err)
		log_error("listeners not opened again", "pod=%s err=%s", kmtls_log_quote(pod->name),
			  kmtls_log_quote(strerror(-err)));
	else
		log_warning("listeners opened again", "pod=%s", kmtls_log_quote(pod->name));
}

/*
 * Our own listeners keep a namespace alive whose pod is long gone, so no event tells: look. A pod
 * is gone when its cgroup is, for no process can connect any more that the programs see; or when
 * its namespace has no path and its cgroup no process. A pod that runs on without a path is none
 * of our business.
 */
static const char *why_gone(struct kmtls_pod *pod)
{
	int populated = kmtls_cgroup_populated(pod->cgroup_fd);

	if (populated == -ENOENT)
		return "its cgroup was removed";
	if (populated || kmtls_netns_is_at(pod->netns_path, pod->netns_fd))
		pod->deserted = 0;
	else if (++pod->deserted >= DESERTED_SECONDS)
		return "its network namespace has no path, its cgroup no process";
	return NULL;
}

void kmtls_pods_tick(struct kmtls_pods *pods)
{
	for (unsigned i = 0; i < KMTLS_PODS_MAX; i++) {
		const char *gone = NULL;
		struct kmtls_pod *pod;

		pthread_mutex_lock(&pods->lock);
		pod = kmtls_pod_get(pods->table[i]);
		pthread_mutex_unlock(&pods->lock);
		if (pod)
			gone = why_gone(pod);
		if (gone) {
			kmtls_pod_remove_gone(pods, pod, gone);
			kmtls_pod_put(pod);
			continue;
		}
		if (pod && atomic_exchange(&pod->broken, false))
			mend(pods, pod);
		if (pod)
			kmtls_pod_svid_tick(pods, pod);
		kmtls_pod_put(pod);
	}
}

void kmtls_pods_look_for_svids(struct kmtls_pods *pods)
{
	for (unsigned i = 0; i < KMTLS_PODS_MAX; i++) {
		struct kmtls_pod *pod;

		pthread_mutex_lock(&pods->lock);
		pod = kmtls_pod_get(pods->table[i]);
		pthread_mutex_unlock(&pods->lock);
		if (pod)
			kmtls_pod_svid_look(pods, pod);
		kmtls_pod_put(pod);
	}
}

/* ---- listing ---- */

static int compare_names(const void *a, const void *b)
{
	return strcmp((*(struct kmtls_pod *const *)a)->name, (*(struct kmtls_pod *const *)b)->name);
}

static unsigned get_all(struct kmtls_pods *pods, struct kmtls_pod **ret_all)
{
	unsigned count = 0;

	pthread_mutex_lock(&pods->lock);
	for (unsigned i = 0; i < KMTLS_PODS_MAX; i++)
		if (pods->table[i])
			ret_all[count++] = kmtls_pod_get(pods->table[i]);
	pthread_mutex_unlock(&pods->lock);
	qsort(ret_all, count, sizeof(*ret_all), compare_names);
	return count;
}

int kmtls_pods_each(struct kmtls_pods *pods, int (*visit)(void *context, struct kmtls_pod *pod),
		    void *context)
{
	struct kmtls_pod *all[KMTLS_PODS_MAX] = {};
	unsigned count = get_all(pods, all);
	int err = 0;

	for (unsigned i = 0; i < count; i++) {
		if (!err)
			err = visit(context, all[i]);
		kmtls_pod_put(all[i]);
	}
	return err;
}

void kmtls_pods_visit(struct kmtls_pods *pods,
		      void (*visit)(void *context, const struct kmtls_pod_info *info),
		      void *context)
{
	struct kmtls_flow_count flows[KMTLS_PODS_MAX] = {};
	struct kmtls_pod *all[KMTLS_PODS_MAX] = {};
	unsigned count = get_all(pods, all);

	for (unsigned i = 0; i < count; i++)
		flows[i].netns_cookie = all[i]->netns_cookie;
	kmtls_flow_table_count(pods->daemon->flows, flows, count);
	for (unsigned i = 0; i < count; i++) {
		struct kmtls_pod *pod = all[i];
		struct kmtls_svid *svid = kmtls_pod_svid(pod);
		struct kmtls_pod_info info = {
			.name = pod->name,
			.netns = pod->netns_path,
			.cgroup = pod->cgroup_path,
			.id = pod->id,
			.connect_at_once = pod->flags & KMTLS_POD_CONNECT_AT_ONCE,
			.accel = pod->accel,
			.accelerated = pod->flags & KMTLS_POD_ACCEL,
			.netns_cookie = pod->netns_cookie,
			.address4 = pod->addresses.primary4,
			.address6 = pod->addresses.primary6,
			.svid_issued = svid ? kmtls_pod_svid_issued(pod) : 0,
			.svid_not_before = svid ? svid->not_before : 0,
			.svid_not_after = svid ? svid->not_after : 0,
			.flows = kmtls_flow_count_of(flows, count, pod->netns_cookie),
		};

		visit(context, &info);
		kmtls_svid_put(svid);
		kmtls_pod_put(pod);
	}
}

/* ---- start and stop ---- */

static void restore_one(void *context, const struct kmtls_pod_spec *spec)
{
	struct kmtls_pods *pods = context;
	char why[KMTLS_WHY] = "";
	int err;

	/* A thousand of them take a while. */
	atomic_fetch_add(&pods->daemon->shared->heartbeat, 1);
	pthread_mutex_lock(&pods->change);
	err = kmtls_pod_enrol(pods, spec, why);
	pthread_mutex_unlock(&pods->change);
	/*
	 * Gone is who has no cgroup: no process is left that could connect. All else is a failure,
	 * and what is still attached refuses, as it must.
	 */
	if (err && access(spec->cgroup, F_OK) < 0 && errno == ENOENT) {
		log_info("pod forgotten", "pod=%s why=%s", kmtls_log_quote(spec->name),
			 kmtls_log_quote(why));
		kmtls_bpf_detach_pod(pods->daemon->bpf, kmtls_hash_text(spec->name));
		kmtls_pod_forget(pods, spec->name, spec->id);
	} else if (err) {
		log_error("pod not enrolled again", "pod=%s why=%s", kmtls_log_quote(spec->name),
			  kmtls_log_quote(why));
	}
}

static void sweep_own_addresses(struct kmtls_bpf *bpf, __u64 cookie)
{
	int fd = kmtls_bpf_map(bpf, KMTLS_MAP_OWN_ADDRESSES);
	struct kmtls_own_address_key key, next;
	bool more = bpf_map_get_next_key(fd, NULL, &next) == 0;

	while (more) {
		key = next;
		more = bpf_map_get_next_key(fd, &key, &next) == 0;
		if (key.netns == cookie)
			bpf_map_delete_elem(fd, &key);
	}
}

/* Of a map by namespaces' cookies: forget() for those whose pod is not enrolled. */
static void sweep_map(struct kmtls_pods *pods, enum kmtls_map map,
		      void (*forget)(struct kmtls_bpf *bpf, __u64 cookie))
{
	struct kmtls_bpf *bpf = pods->daemon->bpf;
	int fd = kmtls_bpf_map(bpf, map);
	__u64 cookie, next;
	bool more = bpf_map_get_next_key(fd, NULL, &next) == 0;

	while (more) {
		struct kmtls_pod *pod;

		cookie = next;
		more = bpf_map_get_next_key(fd, &cookie, &next) == 0;
		pod = kmtls_pods_find(pods, cookie);
		if (!pod)
			forget(bpf, cookie);
		kmtls_pod_put(pod);
	}
}

/*
 * Entries of namespaces that went while no daemon ran. A pod that could not be enrolled again
 * has no entry either; its programs, still attached, refuse what they do not know.
 */
static void forget_pod(struct kmtls_bpf *bpf, __u64 cookie)
{
	bpf_map_delete_elem(kmtls_bpf_map(bpf, KMTLS_MAP_PODS), &cookie);
	sweep_own_addresses(bpf, cookie);
	kmtls_pod_listeners_forget(bpf, cookie);
}

void kmtls_pods_restore(struct kmtls_pods *pods)
{
	kmtls_pod_store_visit(pods->daemon->config->run_dir, restore_one, pods);
	sweep_map(pods, KMTLS_MAP_PODS, forget_pod);
	/* Likewise: whoever is not enrolled any more is not counted any more. */
	sweep_map(pods, KMTLS_MAP_UDP_TOTALS, kmtls_udp_ledger_forget);
}

int kmtls_pods_open(struct kmtls_daemon *daemon, int own_cgroup_fd, struct kmtls_pods **ret_pods,
		    char *ret_why)
{
	struct kmtls_pods *pods;
	int err;

	err = kmtls_pod_store_open(daemon->config->run_dir, ret_why);
	if (err)
		return err;
	pods = calloc(1, sizeof(*pods));
	if (!pods) {
		snprintf(ret_why, KMTLS_WHY, "out of memory");
		return -ENOMEM;
	}
	pods->daemon = daemon;
	pods->own_cgroup_fd = own_cgroup_fd;
	pthread_mutex_init(&pods->change, NULL);
	pthread_mutex_init(&pods->lock, NULL);
	pthread_mutex_init(&pods->renewal, NULL);
	*ret_pods = pods;
	return 0;
}

void kmtls_pods_close(struct kmtls_pods *pods)
{
	if (!pods)
		return;
	for (unsigned i = 0; i < KMTLS_PODS_MAX; i++)
		kmtls_pod_put(pods->table[i]);
	pthread_mutex_destroy(&pods->renewal);
	pthread_mutex_destroy(&pods->lock);
	pthread_mutex_destroy(&pods->change);
	free(pods);
}
