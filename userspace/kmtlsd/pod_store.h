/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pod_store.h - enrolled pods, remembered as small JSON files below run_dir/pods (which does
 * not survive a reboot, and need not: neither do namespaces).
 */
#ifndef KMTLS_POD_STORE_H
#define KMTLS_POD_STORE_H

#include "pods.h"

int kmtls_pod_store_open(const char *run_dir, char *ret_why); /* makes the directories */
int kmtls_pod_store_put(const char *run_dir, const struct kmtls_pod_spec *spec, char *ret_why);
bool kmtls_pod_store_has(const char *run_dir, const char *name);
/* Is a pod remembered that has this SPIFFE ID? Several may. */
bool kmtls_pod_store_uses(const char *run_dir, const char *id);
/* -ENOENT; else the caller frees *ret_id. */
int kmtls_pod_store_id(const char *run_dir, const char *name, char **ret_id);
void kmtls_pod_store_delete(const char *run_dir, const char *name);
/* Calls visit for each; a file that cannot be read is logged and left. */
void kmtls_pod_store_visit(const char *run_dir,
			   void (*visit)(void *context, const struct kmtls_pod_spec *spec),
			   void *context);

#endif
