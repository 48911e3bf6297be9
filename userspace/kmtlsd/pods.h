/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pods.h - enrolled pods: interception attached, listeners inside their network namespace,
 * an SVID kept fresh. Remembered below run_dir, so that a restarted daemon enrols them
 * again. Functions may be called from any thread; pod-add and pod-del take as long as it
 * takes to load a program, and do not stop the data path.
 */
#ifndef KMTLS_PODS_H
#define KMTLS_PODS_H

#include <linux/types.h>
#include <stdbool.h>
#include <time.h>

#include "accel.h"
#include "kmtls/abi.h"

#define KMTLS_POD_NAME_MAX 127
#define KMTLS_PODS_MAX 1024 /* entries of the pods map */
#define KMTLS_WHY 256 /* size of every ret_why */

struct kmtls_daemon;
struct kmtls_pods;

struct kmtls_pod_spec {
	const char *name; /* [A-Za-z0-9._-], or namespace/name; 1..127 bytes */
	const char *netns; /* absolute path, e.g. /run/netns/a */
	const char *cgroup; /* absolute path of a cgroup v2 directory */
	const char *id; /* SPIFFE ID of the daemon's trust domain */
	bool connect_at_once; /* connect() does not wait for the peer */
	enum kmtls_accel accel;
};

/* What pod-list shows. */
struct kmtls_pod_info {
	const char *name, *netns, *cgroup, *id;
	bool connect_at_once;
	enum kmtls_accel accel; /* what was asked for */
	bool accelerated; /* what is */
	__u64 netns_cookie;
	struct kmtls_address address4, address6; /* zero: none */
	time_t svid_issued, svid_not_before, svid_not_after; /* 0: no SVID now */
	unsigned flows; /* open now, handshakes included */
};

/* [A-Za-z0-9._-]+, or two of them with a slash between; at most KMTLS_POD_NAME_MAX. */
bool kmtls_pods_is_name(const char *name);

/* Also makes run_dir/pods. own_cgroup_fd: the daemon's, pods may not contain it. */
int kmtls_pods_open(struct kmtls_daemon *daemon, int own_cgroup_fd, struct kmtls_pods **ret_pods,
		    char *ret_why);
/* Enrols what was remembered; what cannot be enrolled is logged and stays refused. */
void kmtls_pods_restore(struct kmtls_pods *pods);
/* The pins stay, so that connects are refused and not sent in plaintext. */
void kmtls_pods_close(struct kmtls_pods *pods);
/* Once a second: renews SVIDs that are due, removes pods that are gone. */
void kmtls_pods_tick(struct kmtls_pods *pods);
/* Twice a second: SVIDs whose source has something new. */
void kmtls_pods_look_for_svids(struct kmtls_pods *pods);

/* -EEXIST, -EINVAL, -ENOENT, ...; ret_why names the thing and the rule. All or nothing. */
int kmtls_pods_add(struct kmtls_pods *pods, const struct kmtls_pod_spec *spec, char *ret_why);
/* Flows of the pod are reset. -ENOENT. */
int kmtls_pods_delete(struct kmtls_pods *pods, const char *name, char *ret_why);
/* Calls visit for each pod, in order of names; pointers are valid during the call only. */
void kmtls_pods_visit(struct kmtls_pods *pods,
		      void (*visit)(void *context, const struct kmtls_pod_info *info),
		      void *context);

#endif
