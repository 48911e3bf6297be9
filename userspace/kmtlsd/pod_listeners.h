/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pod_listeners.h - the daemon's listeners inside a pod, reached only through sk_lookup; and
 * the count of the pod's own listeners, which programs keep and the daemon seeds.
 */
#ifndef KMTLS_POD_LISTENERS_H
#define KMTLS_POD_LISTENERS_H

#include <linux/types.h>

struct kmtls_bpf;
struct kmtls_pod;

/* Opens pod->listeners and puts them into the acceptors map. */
int kmtls_pod_listeners_open(struct kmtls_bpf *bpf, struct kmtls_pod *pod, char *ret_why);
void kmtls_pod_listeners_close(struct kmtls_pod *pod);

/* Opens again what was closed under us, in the same places (descriptor numbers included). */
int kmtls_pod_listeners_mend(struct kmtls_bpf *bpf, struct kmtls_pod *pod, char *ret_why);

/* Brings the listeners map in line with the sockets the pod has now. */
int kmtls_pod_listeners_seed(struct kmtls_bpf *bpf, struct kmtls_pod *pod, char *ret_why);
/* Forgets everything counted for a namespace. */
void kmtls_pod_listeners_forget(struct kmtls_bpf *bpf, __u64 netns_cookie);

#endif
