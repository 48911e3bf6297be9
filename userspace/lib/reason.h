/* SPDX-License-Identifier: Apache-2.0 */
/* reason.h - names and texts of the reason codes in abi.h. */
#ifndef KMTLS_REASON_H
#define KMTLS_REASON_H

#include "kmtls/abi.h"

/* "unknown" for numbers that are not in the list; never NULL. */
const char *kmtls_reason_name(enum kmtls_reason reason);
const char *kmtls_reason_text(enum kmtls_reason reason);

#endif
