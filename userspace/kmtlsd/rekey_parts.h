/* SPDX-License-Identifier: Apache-2.0 */
/* rekey_parts.h - between rekey.c and rekey_limit.c. */
#ifndef KMTLS_REKEY_PARTS_H
#define KMTLS_REKEY_PARTS_H

#include "rekey.h"

/* Of the flow in the slot; NULL: its keys cannot be replaced. */
struct kmtls_rekey_secrets *kmtls_rekey_secrets_of(struct kmtls_loop *loop, unsigned slot);
/* A KeyUpdate, if there is room for it now, and the next key. ask: the peer shall send one too. */
enum kmtls_reason kmtls_rekey_send(struct kmtls_loop *loop, unsigned slot, bool ask);

#endif
