/* SPDX-License-Identifier: Apache-2.0 */
/* diag.h - sock_diag(7): what sockets the kernel has, in one network namespace. */
#ifndef KMTLS_DIAG_H
#define KMTLS_DIAG_H

#include "kmtls/abi.h"

/* The calling thread must be inside the namespace (netns.h). A non-zero return of visit stops
 * and is returned. */
int kmtls_diag_listeners(int (*visit)(void *context, const struct kmtls_endpoint *local),
			 void *context);

/* How the kernel runs TLS on one connected TCP socket: KMTLS_OFFLOAD_*. local and remote are
 * its ends; cookie its SO_COOKIE. */
int kmtls_diag_tls(const struct kmtls_endpoint *local, const struct kmtls_endpoint *remote,
		   __u64 cookie, __u8 *ret_tx, __u8 *ret_rx);

#endif
