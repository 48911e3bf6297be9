/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pods_table.h - the table of enrolled pods, shared by pods.c (looking up, SVIDs, start and
 * stop) and pod_enrol.c (adding and removing).
 */
#ifndef KMTLS_PODS_TABLE_H
#define KMTLS_PODS_TABLE_H

#include <pthread.h>

#include "pod.h"
#include "pods.h"

struct kmtls_pods {
	struct kmtls_daemon *daemon;
	int own_cgroup_fd;
	pthread_mutex_t change; /* held while a pod is added or deleted */
	pthread_mutex_t lock; /* of the table */
	pthread_mutex_t renewal; /* one SVID at a time: by the clock and by hand */
	struct kmtls_pod *table[KMTLS_PODS_MAX];
	unsigned next_generation;
};

/* Each takes a reference for the caller. */
struct kmtls_pod *kmtls_pod_get(struct kmtls_pod *pod); /* NULL is fine */
struct kmtls_pod *kmtls_pods_find_name(struct kmtls_pods *pods, const char *name);

/* Enrols without remembering. Both with pods->change held. */
int kmtls_pod_enrol(struct kmtls_pods *pods, const struct kmtls_pod_spec *spec, char *ret_why);

/* Out of the store; its SVID, too, unless another pod has the same ID. */
void kmtls_pod_forget(struct kmtls_pods *pods, const char *name, const char *id);

/* One that could not be enrolled again is refused by what is still attached, until it is removed.
 * -ENOENT and why. */
int kmtls_pod_remove_remembered(struct kmtls_pods *pods, const char *name, char *ret_why);

/* Removes this very pod, if it is still there, because it is gone, as why says. */
void kmtls_pod_remove_gone(struct kmtls_pods *pods, struct kmtls_pod *pod, const char *why);

#endif
