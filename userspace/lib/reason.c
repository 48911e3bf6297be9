/* SPDX-License-Identifier: Apache-2.0 */
/* reason.c - names and texts of the reason codes, from the one list in abi.h. */
#include "reason.h"

#include <stdbool.h>
#include <stddef.h>

static const struct {
	const char *name, *text;
} reasons[KMTLS_REASON_COUNT] = {
#define REASON_ENTRY(number, symbol, name_, text_) [number] = { name_, text_ },
	KMTLS_REASONS(REASON_ENTRY)
#undef REASON_ENTRY
};

static bool is_known(enum kmtls_reason reason)
{
	/* The value may come from a map or the control socket: anything is possible. */
	return (unsigned)reason < KMTLS_REASON_COUNT && reasons[reason].name;
}

const char *kmtls_reason_name(enum kmtls_reason reason)
{
	return is_known(reason) ? reasons[reason].name : "unknown";
}

const char *kmtls_reason_text(enum kmtls_reason reason)
{
	return is_known(reason) ? reasons[reason].text : "unknown";
}
