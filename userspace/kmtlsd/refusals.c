/* SPDX-License-Identifier: Apache-2.0 */
/* refusals.c - see refusals.h. */
#include <stdatomic.h>

#include "log.h"
#include "reason.h"
#include "refusals.h"

static atomic_uint limit; /* 0: none */
static atomic_uint seen[KMTLS_REASON_COUNT]; /* in this second */

void kmtls_refusals_set_lines(unsigned lines)
{
	atomic_store(&limit, lines);
}

bool kmtls_refusals_worth_a_line(enum kmtls_reason reason)
{
	unsigned lines = atomic_load(&limit);

	return atomic_fetch_add(&seen[reason], 1) < lines || !lines;
}

void kmtls_refusals_tick(void)
{
	unsigned lines = atomic_load(&limit);

	for (unsigned reason = 0; reason < KMTLS_REASON_COUNT; reason++) {
		unsigned count = atomic_load(&seen[reason]) ? atomic_exchange(&seen[reason], 0) : 0;

		if (lines && count > lines)
			log_warning("log lines left out", "reason=%s suppressed=%u",
				    kmtls_reason_name(reason), count - lines);
	}
}
