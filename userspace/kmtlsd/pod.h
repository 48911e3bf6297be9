/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pod.h - one enrolled pod as the data path sees it. Reference counted: a handshake keeps
 * its pod while it runs; established flows keep only the namespace's cookie.
 */
#ifndef KMTLS_POD_H
#define KMTLS_POD_H

#include <linux/types.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "kmtls/abi.h"
#include "kmtls/internal_maps.h"
#include "accel.h"
#include "inject.h"
#include "netns.h"
#include "pod_svid.h"

struct kmtls_pods;
struct kmtls_svid;

struct kmtls_pod {
	atomic_int references;
	unsigned index, generation; /* of its place in the table; part of epoll tags */
	char *name, *netns_path, *cgroup_path, *id;
	__u64 name_hash, namespace_hash, identity_hash;
	int netns_fd, cgroup_fd;
	__u64 netns_cookie;
	struct kmtls_netns_addresses addresses;
	atomic_bool broken; /* a listener was closed under us */
	int listeners[KMTLS_ACCEPTOR_COUNT]; /* -1: the pod has no such family */
	struct kmtls_injector injector; /* answers to held connects */
	__u32 flags; /* KMTLS_POD_* of the pods map */
	enum kmtls_accel accel; /* what was asked for, here or in the configuration */
	/* After a take-over: descriptors are those of the worker before; so are the programs. */
	bool adopted, attached;
	pthread_mutex_t svid_lock;
	struct kmtls_svid *svid; /* under svid_lock; NULL: none valid */
	struct kmtls_pod_rotation rotation; /* under svid_lock */
	unsigned deserted; /* seconds without a path of the namespace and without a process */
};

/* The pod at a place, with a reference, if it is still of that generation; or NULL. */
struct kmtls_pod *kmtls_pods_get(struct kmtls_pods *pods, unsigned index, unsigned generation);
/* Likewise by the cookie of its namespace. */
struct kmtls_pod *kmtls_pods_find(struct kmtls_pods *pods, __u64 netns_cookie);
void kmtls_pod_put(struct kmtls_pod *pod);
/* Each of them; a non-zero return ends it and is returned. */
int kmtls_pods_each(struct kmtls_pods *pods, int (*visit)(void *context, struct kmtls_pod *pod),
		    void *context);
/* Its SVID now, with a reference; NULL when it has none that is valid. */
struct kmtls_svid *kmtls_pod_svid(struct kmtls_pod *pod);

#endif
