/* SPDX-License-Identifier: Apache-2.0 */
/* flow_log.h - the end of an established flow, counted and told. */
#ifndef KMTLS_FLOW_LOG_H
#define KMTLS_FLOW_LOG_H

#include "kmtls/abi.h"

struct kmtls_loop;

/* Before the slot's fields are gone. */
void kmtls_flow_log_end(struct kmtls_loop *loop, unsigned slot, enum kmtls_reason reason);

#endif
