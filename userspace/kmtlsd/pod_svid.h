/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pod_svid.h - the SVID of a pod: from the source, from the secret region after a worker died,
 * renewed in time. A handshake takes a reference and keeps what it began with.
 */
#ifndef KMTLS_POD_SVID_H
#define KMTLS_POD_SVID_H

#include <linux/types.h>
#include <stdbool.h>
#include <time.h>

#include "identity.h"

struct kmtls_daemon;
struct kmtls_pod;
struct kmtls_pods;

#define KMTLS_POD_SVID_WHY 256

/* How its rotation goes; under svid_lock. */
struct kmtls_pod_rotation {
	time_t issued; /* the SVID it has; 0: none was */
	time_t due; /* of the next try */
	__u32 rotations, failures; /* since it was enrolled; workers that died do not count */
	unsigned in_a_row; /* failures since the last success */
	char last_error[KMTLS_POD_SVID_WHY]; /* "": the last try went well */
	unsigned version; /* of what the source gave, or could not, when it was asked last */
	bool warned; /* of one that is due and has no successor */
};

/* For `kmtls identity`. Texts are those of the caller's buffers. */
struct kmtls_pod_svid_info {
	const char *name, *id; /* of the pod */
	__u64 netns_cookie;
	const char *source; /* the backend's name; "": of none that is configured, or no SVID */
	char serial[64]; /* hexadecimal; "": no SVID */
	char issuer[256]; /* distinguished name, RFC 2253 */
	time_t not_before, not_after;
	struct kmtls_pod_rotation rotation;
	enum kmtls_identity_state state_code; /* of the source, for this pod */
	const char *state, *why; /* likewise: kmtls_identity_state_name() */
};

/* The source is asked; after a take-over its SVID may still be there. Without a source that is
 * enabled a pod has none; nor has it one yet if SVIDs are given and this one was not. */
int kmtls_pod_svid_first(struct kmtls_pods *pods, struct kmtls_pod *pod, char *ret_why);
/* When the SVID it has was issued; 0: none was. */
time_t kmtls_pod_svid_issued(struct kmtls_pod *pod);
/* If it is time. */
void kmtls_pod_svid_tick(struct kmtls_pods *pods, struct kmtls_pod *pod);
/* If the source has something new. */
void kmtls_pod_svid_look(struct kmtls_pods *pods, struct kmtls_pod *pod);
/* Now, of one pod or (NULL) all. -ENOENT; the first failure, after all were tried. */
int kmtls_pod_svid_renew(struct kmtls_pods *pods, const char *name, unsigned *ret_count,
			 char *ret_why);
/* In order of names; what info points to is valid during the call only. */
void kmtls_pod_svid_visit(struct kmtls_pods *pods,
			  void (*visit)(void *context, const struct kmtls_pod_svid_info *info),
			  void *context);
/* The same without source, serial and issuer, which take their time. */
void kmtls_pod_svid_visit_quickly(struct kmtls_pods *pods,
				  void (*visit)(void *context,
						const struct kmtls_pod_svid_info *info),
				  void *context);

#endif
