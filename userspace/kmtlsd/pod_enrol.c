/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pod_enrol.c - a pod joins and leaves the mesh. Enrolment is a ladder; removal is its exact
 * reverse. The table's lock is held for looking up and for taking or leaving a place, not while
 * a pod is set up.
 */
#include <bpf/bpf.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "address.h"
#include "bpf_loader.h"
#include "cgroup.h"
#include "hash.h"
#include "log.h"
#include "loop.h"
#include "pod.h"
#include "pod_listeners.h"
#include "pod_store.h"
#include "pod_svid.h"
#include "pods.h"
#include "pods_table.h"
#include "policy.h"
#include "shared.h"
#include "spiffe.h"
#include "udp_ledger.h"

bool kmtls_pods_is_name(const char *name)
{
	const char *slash = strchr(name, '/');
	size_t length = strlen(name);

	if (!length || length > KMTLS_POD_NAME_MAX || slash == name ||
	    (slash && (!slash[1] || strchr(slash + 1, '/'))))
		return false;
	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("._-/", *c))
			return false;
	return true;
}

static int check_spec(struct kmtls_pods *pods, const struct kmtls_pod_spec *spec, char *ret_why)
{
	struct kmtls_spiffe_id id;
	const char *rule;
	struct kmtls_pod *pod;

	if (!kmtls_pods_is_name(spec->name)) {
		snprintf(ret_why, KMTLS_WHY,
			 "name: must be 1 to %d of A-Z a-z 0-9 . _ -, with at most one / between",
			 KMTLS_POD_NAME_MAX);
		return -EINVAL;
	}
	if (kmtls_spiffe_id_parse(spec->id, strlen(spec->id), &id, &rule) < 0) {
		snprintf(ret_why, KMTLS_WHY, "id: not a SPIFFE ID: %s", rule);
		return -EINVAL;
	}
	if (spec->netns[0] != '/' || spec->cgroup[0] != '/') {
		snprintf(ret_why, KMTLS_WHY, "%s: must be an absolute path",
			 spec->netns[0] != '/' ? "netns" : "cgroup");
		return -EINVAL;
	}
	pod = kmtls_pods_find_name(pods, spec->name);
	kmtls_pod_put(pod);
	if (pod) {
		snprintf(ret_why, KMTLS_WHY, "pod %s: is enrolled already", spec->name);
		return -EEXIST;
	}
	return 0;
}

static struct kmtls_pod *new_pod(const struct kmtls_pod_spec *spec)
{
	struct kmtls_pod *pod = calloc(1, sizeof(*pod));

	if (!pod)
		return NULL;
	pod->references = 1;
	pod->netns_fd = pod->cgroup_fd = -1;
	pod->injector.raw4 = pod->injector.raw6 = -1;
	pod->flags = spec->connect_at_once ? KMTLS_POD_CONNECT_AT_ONCE : 0;
	pod->accel = spec->accel;
	for (unsigned a = 0; a < KMTLS_ACCEPTOR_COUNT; a++)
		pod->listeners[a] = -1;
	pthread_mutex_init(&pod->svid_lock, NULL);
	pod->name = strdup(spec->name);
	pod->netns_path = strdup(spec->netns);
	pod->cgroup_path = strdup(spec->cgroup);
	pod->id = strdup(spec->id);
	if (!pod->name || !pod->netns_path || !pod->cgroup_path || !pod->id) {
		kmtls_pod_put(pod);
		return NULL;
	}
	return pod;
}

/* A pod that was enrolled under another kernel must not stay without connections for it. */
static void choose_accel(const struct kmtls_pods *pods, struct kmtls_pod *pod)
{
	if (pod->accel == KMTLS_ACCEL_DEFAULT)
		pod->accel = pods->daemon->config->accel;
	if (kmtls_accel_is_on(pods->daemon, pod->accel))
		pod->flags |= KMTLS_POD_ACCEL;
	else if (pod->accel == KMTLS_ACCEL_ON)
		log_warning("pod is not accelerated", "pod=%s why=%s", kmtls_log_quote(pod->name),
			    kmtls_log_quote(pods->daemon->accel.why));
}

/* Programs run for the cgroup and all below it: two pods on one line would be turned twice. */
static int check_cgroup(struct kmtls_pods *pods, const struct kmtls_pod *pod, char *ret_why)
{
	int err = 0;

	pthread_mutex_lock(&pods->lock);
	for (unsigned i = 0; !err && i < KMTLS_PODS_MAX; i++) {
		struct kmtls_pod *other = pods->table[i];

		if (!other || !kmtls_cgroup_is_within(pod->cgroup_fd, other->cgroup_fd))
			continue;
		snprintf(ret_why, KMTLS_WHY,
			 "%.100s: is, contains or is below the cgroup of pod %.100s",
			 pod->cgroup_path, other->name);
		err = -EEXIST;
	}
	pthread_mutex_unlock(&pods->lock);
	return err;
}

/*
 * What a worker before this one had open for the pod: listeners with connections waiting in them,
 * and a namespace that may not have its name any more. false: it had nothing that can be used.
 */
static bool adopt(struct kmtls_pods *pods, struct kmtls_pod *pod)
{
	struct kmtls_shared *shared = pods->daemon->shared;
	struct kmtls_shared_pod *entry = kmtls_shared_pod_find(shared, pod->name_hash);
	__u64 cookie;

	if (!entry)
		return false;
	if (kmtls_netns_cookie(entry->netns_fd, &cookie) < 0 || cookie != entry->netns_cookie) {
		kmtls_shared_pod_close(shared, entry);
		return false;
	}
	pod->netns_fd = entry->netns_fd;
	pod->cgroup_fd = entry->cgroup_fd;
	memcpy(pod->listeners, entry->listeners, sizeof(pod->listeners));
	pod->injector.raw4 = entry->raw4;
	pod->injector.raw6 = entry->raw6;
	pod->attached = entry->attached_by == shared->instance;
	pod->rotation.issued = entry->svid_issued;
	pod->rotation.rotations = entry->rotations;
	pod->rotation.failures = entry->rotation_failures;
	return true;
}

static int open_paths(struct kmtls_pods *pods, struct kmtls_pod *pod, char *ret_why)
{
	pod->netns_fd = kmtls_netns_open(pod->netns_path, ret_why);
	if (pod->netns_fd < 0)
		return pod->netns_fd;
	pod->cgroup_fd = kmtls_cgroup_open(pod->cgroup_path, pods->own_cgroup_fd, ret_why);
	return pod->cgroup_fd < 0 ? pod->cgroup_fd : 0;
}

/* Opens what the spec names, unless it is open, and learns what is inside. */
static int look_inside(struct kmtls_pods *pods, struct kmtls_pod *pod, char *ret_why)
{
	struct kmtls_pod *other;
	int err = 0;

	pod->adopted = adopt(pods, pod);
	if (!pod->adopted)
		err = open_paths(pods, pod, ret_why);
	if (!err)
		err = check_cgroup(pods, pod, ret_why);
	if (err)
		return err;
	err = kmtls_netns_cookie(pod->netns_fd, &pod->netns_cookie);
	if (!err)
		err = kmtls_netns_addresses(pod->netns_fd, pod->netns_cookie, &pod->addresses);
	if (err) {
		snprintf(ret_why, KMTLS_WHY, "%.150s: cannot be looked into: %s", pod->netns_path,
			 strerror(-err));
		return err;
	}
	if (kmtls_address_is_zero(&pod->addresses.primary4) &&
	    kmtls_address_is_zero(&pod->addresses.primary6)) {
		snprintf(ret_why, KMTLS_WHY, "%.150s: has no address but loopback",
			 pod->netns_path);
		return -EADDRNOTAVAIL;
	}
	other = kmtls_pods_find(pods, pod->netns_cookie);
	if (other) {
		snprintf(ret_why, KMTLS_WHY, "%.100s: is the network namespace of pod %.100s",
			 pod->netns_path, other->name);
		kmtls_pod_put(other);
		return -EEXIST;
	}
	return 0;
}

static int put_all_names(struct kmtls_bpf *bpf, struct kmtls_pod *pod)
{
	const char *slash = strchr(pod->name, '/');
	char namespace_[KMTLS_POD_NAME_MAX + 1];
	int err;

	err = kmtls_policy_name_put(bpf, pod->name, &pod->name_hash);
	if (!err)
		err = kmtls_policy_name_put(bpf, pod->id, &pod->identity_hash);
	if (!err && slash) {
		snprintf(namespace_, sizeof(namespace_), "%.*s", (int)(slash - pod->name),
			 pod->name);
		err = kmtls_policy_name_put(bpf, namespace_, &pod->namespace_hash);
	}
	return err;
}

static int put_names(struct kmtls_pods *pods, struct kmtls_pod *pod, char *ret_why)
{
	struct kmtls_bpf *bpf = pods->daemon->bpf;
	int err = put_all_names(bpf, pod);

	if (err == -ENOSPC && kmtls_policy_names_collect(bpf))
		err = put_all_names(bpf, pod);
	if (err)
		kmtls_policy_name_why("pod's name or identity", err, ret_why);
	return err;
}

static void delete_maps(struct kmtls_bpf *bpf, struct kmtls_pod *pod)
{
	bpf_map_delete_elem(kmtls_bpf_map(bpf, KMTLS_MAP_PODS), &pod->netns_cookie);
	for (unsigned i = 0; i < pod->addresses.count; i++) {
		struct kmtls_own_address_key key = { .netns = pod->netns_cookie,
						     .address = pod->addresses.all[i] };

		bpf_map_delete_elem(kmtls_bpf_map(bpf, KMTLS_MAP_OWN_ADDRESSES), &key);
	}
	kmtls_pod_listeners_forget(bpf, pod->netns_cookie);
	kmtls_udp_ledger_forget(bpf, pod->netns_cookie);
}

static int fill_maps(struct kmtls_bpf *bpf, struct kmtls_pod *pod, char *ret_why)
{
	struct kmtls_pod_value value = {
		.name = pod->name_hash,
		.namespace_ = pod->namespace_hash,
		.identity = pod->identity_hash,
		.address4 = pod->addresses.primary4,
		.address6 = pod->addresses.primary6,
		.flags = pod->flags,
	};
	struct stat status;
	__u32 one = 1;
	int err = 0;

	if (fstat(pod->cgroup_fd, &status) == 0)
		value.cgroup = status.st_ino;
	for (unsigned i = 0; !err && i < pod->addresses.count; i++) {
		struct kmtls_own_address_key key = { .netns = pod->netns_cookie,
						     .address = pod->addresses.all[i] };

		if (bpf_map_update_elem(kmtls_bpf_map(bpf, KMTLS_MAP_OWN_ADDRESSES), &key, &one,
					BPF_ANY) < 0)
			err = -errno;
	}
	if (!err && bpf_map_update_elem(kmtls_bpf_map(bpf, KMTLS_MAP_PODS), &pod->netns_cookie,
					&value, BPF_ANY) < 0)
		err = -errno;
	if (!err)
		err = put_all_names(bpf, pod); /* again: see names_collect.h */
	if (err) {
		snprintf(ret_why, KMTLS_WHY, "the pods map refused the entry: %s",
			 err == -E2BIG ? "it is full" : strerror(-err));
		delete_maps(bpf, pod);
		return err;
	}
	err = kmtls_udp_ledger_begin(bpf, pod->netns_cookie);
	if (err) /* what is not counted is no reason to leave the pod without encryption */
		log_warning("UDP of the pod is not counted", "pod=%s err=%s",
			    kmtls_log_quote(pod->name), kmtls_log_quote(strerror(-err)));
	return 0;
}

static int take_place(struct kmtls_pods *pods, struct kmtls_pod *pod, char *ret_why)
{
	int err = -ENOSPC;

	snprintf(ret_why, KMTLS_WHY, "%d pods are enrolled, there is no place for more",
		 KMTLS_PODS_MAX);
	pthread_mutex_lock(&pods->lock);
	for (unsigned i = 0; err && i < KMTLS_PODS_MAX; i++) {
		if (pods->table[i])
			continue;
		pod->index = i;
		pod->generation = ++pods->next_generation;
		pods->table[i] = kmtls_pod_get(pod);
		err = 0;
	}
	pthread_mutex_unlock(&pods->lock);
	return err;
}

static void leave_place(struct kmtls_pods *pods, struct kmtls_pod *pod)
{
	pthread_mutex_lock(&pods->lock);
	pods->table[pod->index] = NULL;
	pthread_mutex_unlock(&pods->lock);
	kmtls_pod_put(pod);
}

static int open_listeners(struct kmtls_bpf *bpf, struct kmtls_pod *pod, char *ret_why)
{
	int err = kmtls_pod_listeners_seed(bpf, pod, ret_why);

	return err ? err : kmtls_pod_listeners_open(bpf, pod, ret_why);
}

/* Listeners before programs: nothing is steered to where nobody listens. */
static int enrol(struct kmtls_pods *pods, struct kmtls_pod *pod, char *ret_why)
{
	struct kmtls_bpf *bpf = pods->daemon->bpf;
	int err;

	err = fill_maps(bpf, pod, ret_why);
	if (err)
		return err;
	if (!pod->adopted)
		err = open_listeners(bpf, pod, ret_why);
	if (err)
		goto undo_maps;
	err = take_place(pods, pod, ret_why);
	if (err)
		goto undo_maps;
	err = kmtls_loops_add_pod(pods->daemon->loops, pod);
	if (err) {
		snprintf(ret_why, KMTLS_WHY, "the event loops refused the pod: %s", strerror(-err));
		goto undo_place;
	}
	if (!pod->attached)
		err = kmtls_bpf_attach_pod(bpf, pod->name_hash, pod->cgroup_fd, pod->netns_fd,
					   pod->netns_cookie, ret_why);
	if (err)
		goto undo_loops;
	kmtls_shared_pod_put(pods->daemon->shared, pod);
	if (pod->adopted) /* the program has counted all the time */
		return 0;
	/*
	 * Once more, for sockets that began to listen before the program was there. No reason to
	 * detach what may have been adopted: a listener that is missed is refused.
	 */
	if (kmtls_pod_listeners_seed(bpf, pod, ret_why) < 0)
		log_warning("listeners not counted again", "pod=%s why=%s",
			    kmtls_log_quote(pod->name), kmtls_log_quote(ret_why));
	return 0;

undo_loops:
	kmtls_loops_remove_pod(pods->daemon->loops, pod);
undo_place:
	leave_place(pods, pod);
undo_maps:
	delete_maps(bpf, pod);
	return err;
}

int kmtls_pod_enrol(struct kmtls_pods *pods, const struct kmtls_pod_spec *spec, char *ret_why)
{
	struct kmtls_pod *pod;
	int err;

	err = check_spec(pods, spec, ret_why);
	if (err)
		return err;
	pod = new_pod(spec);
	if (!pod) {
		snprintf(ret_why, KMTLS_WHY, "out of memory");
		return -ENOMEM;
	}
	choose_accel(pods, pod);
	pod->name_hash = kmtls_hash_text(pod->name);
	err = look_inside(pods, pod, ret_why);
	if (!err)
		err = kmtls_pod_svid_first(pods, pod, ret_why);
	if (!err)
		err = put_names(pods, pod, ret_why);
	if (!err)
		err = enrol(pods, pod, ret_why);
	if (!err) {
		char text4[KMTLS_ENDPOINT_TEXT], text6[KMTLS_ENDPOINT_TEXT];

		log_info("pod enrolled", "pod=%s id=%s netns=%s address4=%s address6=%s",
			 kmtls_log_quote(pod->name), kmtls_log_quote(pod->id),
			 kmtls_log_quote(pod->netns_path),
			 kmtls_address_format(&pod->addresses.primary4, text4, sizeof(text4)),
			 kmtls_address_format(&pod->addresses.primary6, text6, sizeof(text6)));
	}
	/* Its descriptors are about to be closed. */
	if (err)
		kmtls_shared_pod_forget(pods->daemon->shared, pod->name_hash);
	kmtls_pod_put(pod); /* the table has its own reference */
	return err;
}

static int remove_pod(struct kmtls_pods *pods, const char *name, char *ret_why)
{
	struct kmtls_pod *pod = kmtls_pods_find_name(pods, name);

	if (!pod)
		return kmtls_pod_remove_remembered(pods, name, ret_why);
	/* First, so that whoever comes after a crash does not take the rest for granted. */
	kmtls_shared_pod_forget(pods->daemon->shared, pod->name_hash);
	kmtls_bpf_detach_pod(pods->daemon->bpf, pod->name_hash);
	kmtls_loops_remove_pod(pods->daemon->loops, pod);
	leave_place(pods, pod);
	kmtls_loops_reset_pod(pods->daemon->loops, pod->netns_cookie);
	delete_maps(pods->daemon->bpf, pod);
	kmtls_pod_forget(pods, pod->name, pod->id);
	log_info("pod removed", "pod=%s", kmtls_log_quote(pod->name));
	kmtls_pod_put(pod);
	return 0;
}

void kmtls_pod_remove_gone(struct kmtls_pods *pods, struct kmtls_pod *pod, const char *why)
{
	char ignored[KMTLS_WHY];

	pthread_mutex_lock(&pods->change);
	/* Who has the name by now may be someone else. */
	if (pods->table[pod->index] == pod) {
		log_info("pod gone", "pod=%s why=%s", kmtls_log_quote(pod->name),
			 kmtls_log_quote(why));
		remove_pod(pods, pod->name, ignored);
	}
	pthread_mutex_unlock(&pods->change);
}

int kmtls_pods_add(struct kmtls_pods *pods, const struct kmtls_pod_spec *spec, char *ret_why)
{
	int err;

	const char *run_dir = pods->daemon->config->run_dir;
	bool remembered;

	pthread_mutex_lock(&pods->change);
	err = check_spec(pods, spec, ret_why);
	if (!err) {
		/* First the memory: enrolled and not remembered would be plaintext after a restart. */
		remembered = kmtls_pod_store_has(run_dir, spec->name);
		err = kmtls_pod_store_put(run_dir, spec, ret_why);
		if (!err)
			err = kmtls_pod_enrol(pods, spec, ret_why);
		if (err && !remembered)
			kmtls_pod_store_delete(run_dir, spec->name);
	}
	pthread_mutex_unlock(&pods->change);
	return err;
}

int kmtls_pods_delete(struct kmtls_pods *pods, const char *name, char *ret_why)
{
	int err;

	pthread_mutex_lock(&pods->change);
	err = remove_pod(pods, name, ret_why);
	pthread_mutex_unlock(&pods->change);
	return err;
}
