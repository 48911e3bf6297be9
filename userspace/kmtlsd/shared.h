/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared.h - one small memory that keeper and worker share and that goes along to the next
 * worker, and across an upgrade to the next keeper (it is a memfd). What is here can be acted
 * on by whoever comes after a kill -9: descriptors and where they belong, counts that are not
 * in the map yet, the request under way. Flows are not here but in the map `flows`; keys are
 * in the secret region.
 */
#ifndef KMTLS_SHARED_H
#define KMTLS_SHARED_H

#include <linux/types.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "kmtls/abi.h"
#include "kmtls/internal_maps.h"
#include "clock.h"
#include "peer_paths.h"
#include "pods.h"

#define KMTLS_SHARED_MAGIC 0x6b6d746c73736831ull
#define KMTLS_SHARED_PATH 4096
/* More than there are reasons, so that a later version can have some more and still take over. */
#define KMTLS_SHARED_COUNTERS 512
_Static_assert(KMTLS_REASON_COUNT <= KMTLS_SHARED_COUNTERS, "room for every reason");

/* What an enrolled pod has open. Everything else about it is in the pod store. */
struct kmtls_shared_pod {
	__u64 name; /* hash of the pod's name; stored last, 0: none */
	__u64 netns_cookie;
	__u64 attached_by; /* keeper that attached the programs, as in instance below */
	__s32 netns_fd, cgroup_fd;
	__s32 listeners[KMTLS_ACCEPTOR_COUNT];
	__s32 raw4, raw6;
	__s64 svid_issued; /* of the SVID it has, seconds since 1970 */
	__u32 rotations, rotation_failures; /* so far */
};

enum kmtls_request {
	KMTLS_REQUEST_NONE = 0,
	KMTLS_REQUEST_UPGRADE = 1, /* run the program at path instead of this one */
	KMTLS_REQUEST_TAKE_OVER = 2, /* hand everything to who asks on connection */
};

enum kmtls_outcome {
	KMTLS_OUTCOME_NONE = 0,
	KMTLS_OUTCOME_RUNNING = 1,
	KMTLS_OUTCOME_DONE = 2,
	KMTLS_OUTCOME_ROLLED_BACK = 3, /* why says why */
};

struct kmtls_shared {
	__u64 magic;
	__u32 size; /* of this struct: another version's is refused */
	__s32 secret_fd; /* the secret region */
	__s32 lock_fd, maps_lock_fd; /* hold run_dir/lock and bpf_dir */
	__s32 control_fd; /* the listening control socket, or -1 */
	__u64 instance; /* of the keeper: differs after an upgrade */
	__s32 keeper, worker; /* process ids */
	_Atomic __u32 starts; /* workers started so far */
	/* What the worker of which start (a number as in starts) has reached. */
	_Atomic __u32 prepared; /* gated: all that can fail before anything is touched */
	_Atomic __u32 serving; /* flows are moving */
	_Atomic __u32 ready; /* pods, new connections, control socket */
	_Atomic __u64 configured_by; /* the instance whose configuration is in the maps */
	_Atomic bool stopping; /* the worker is asked to end flows, not to leave them */
	_Atomic __u64 heartbeat; /* the worker's seconds of life */
	_Atomic __u32 log_level; /* set at run time; 0: as configured */
	_Atomic __u32 slots_used; /* slots from here on have never been used */
	atomic_ullong counters[KMTLS_SHARED_COUNTERS]; /* by reason, not in the map yet */

	/* To the keeper; the request is stored last. */
	_Atomic __u32 request;
	__s32 connection; /* TAKE_OVER: the asker's, the keeper's from then on */
	char path[KMTLS_SHARED_PATH]; /* UPGRADE */

	/* The last upgrade or take-over. */
	_Atomic __u32 upgrades; /* how many were begun */
	_Atomic __u32 outcome; /* of the last */
	char why[KMTLS_WHY];

	/* Of the daemon's cgroup: accepted sockets have that of their listener, and programs on it. */
	__u64 cgroup;
	_Atomic __u64 settings[16]; /* settings.h, set at run time: value + 1; 0: as configured */
	_Atomic __u32 identity_refused; /* configurations whose identity could not be used */
	_Atomic __u32 identity_not_taken; /* SVIDs and bundles that were given and are of no use */
	struct kmtls_clock clock; /* the latest time seen */
	_Atomic __s32 metrics_fd; /* the socket that metrics are served on, plus one; 0: none */
	/* The worker of which start takes in nothing new, and no handshake of it is half done. */
	_Atomic __u32 drained;
	__u64 spare[41]; /* zero, for later versions */

	struct kmtls_shared_pod pods[KMTLS_PODS_MAX];
	struct kmtls_peer_paths peer_paths;
};

/* A new one, and its descriptor; -errno. */
int kmtls_shared_create(struct kmtls_shared **ret_shared, int *ret_fd);
/* One that a predecessor made. -EPROTO: of another version. ret_why: 256 bytes. */
int kmtls_shared_map(int fd, struct kmtls_shared **ret_shared, char *ret_why);

/* Worker: remembers what a pod has open, or forgets it. */
struct kmtls_pod;
void kmtls_shared_pod_put(struct kmtls_shared *shared, const struct kmtls_pod *pod);
void kmtls_shared_pod_forget(struct kmtls_shared *shared, __u64 name);
/* Remembers how its rotation goes, if the pod is remembered. */
void kmtls_shared_pod_rotation(struct kmtls_shared *shared, struct kmtls_pod *pod);
/* Closes what an entry names that no pod has, and forgets it. */
void kmtls_shared_pod_close(struct kmtls_shared *shared, struct kmtls_shared_pod *entry);
/* NULL: not remembered. */
struct kmtls_shared_pod *kmtls_shared_pod_find(struct kmtls_shared *shared, __u64 name);

#endif
