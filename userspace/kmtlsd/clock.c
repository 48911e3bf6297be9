/* SPDX-License-Identifier: Apache-2.0 */
/* clock.c - see clock.h. */
#include "clock.h"

#include <stdatomic.h>
#include <stddef.h>

#include "counters.h"
#include "log.h"
#include "reason.h"

static struct kmtls_clock *shared_clock;

void kmtls_clock_open(struct kmtls_clock *clock)
{
	shared_clock = clock;
	kmtls_clock_tick();
}

time_t kmtls_clock_judge(const struct kmtls_clock *clock, __s64 wall, __s64 boot)
{
	__s64 latest;

	if (!clock || !atomic_load_explicit(&clock->seen, memory_order_acquire))
		return wall;
	latest = boot + atomic_load_explicit(&clock->latest, memory_order_relaxed);
	return latest - wall > KMTLS_CLOCK_TOLERANCE ? latest : wall;
}

void kmtls_clock_see(struct kmtls_clock *clock, __s64 wall, __s64 boot)
{
	__s64 offset = wall - boot;

	if (!atomic_load(&clock->seen)) {
		atomic_store(&clock->latest, offset);
		atomic_store(&clock->window_lowest, offset);
		atomic_store(&clock->window_began, boot);
		atomic_store_explicit(&clock->seen, 1, memory_order_release);
		return;
	}
	if (offset < atomic_load(&clock->window_lowest))
		atomic_store(&clock->window_lowest, offset);
	if (boot - atomic_load(&clock->window_began) < KMTLS_CLOCK_SETTLE)
		return;
	if (atomic_load(&clock->window_lowest) > atomic_load(&clock->latest))
		atomic_store(&clock->latest, atomic_load(&clock->window_lowest));
	atomic_store(&clock->window_lowest, offset);
	atomic_store(&clock->window_began, boot);
}

/* Both at almost the same moment. */
static void read_clocks(__s64 *ret_wall, __s64 *ret_boot)
{
	struct timespec wall, boot;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	clock_gettime(CLOCK_REALTIME, &wall);
	*ret_wall = wall.tv_sec;
	*ret_boot = boot.tv_sec;
}

time_t kmtls_clock_now(void)
{
	__s64 wall, boot;

	if (!shared_clock)
		return time(NULL);
	read_clocks(&wall, &boot);
	return kmtls_clock_judge(shared_clock, wall, boot);
}

time_t kmtls_clock_behind(void)
{
	__s64 wall, boot;

	if (!shared_clock)
		return 0;
	read_clocks(&wall, &boot);
	return kmtls_clock_judge(shared_clock, wall, boot) - wall;
}

void kmtls_clock_tick(void)
{
	__s64 wall, boot;
	time_t behind;

	read_clocks(&wall, &boot);
	kmtls_clock_see(shared_clock, wall, boot);
	behind = kmtls_clock_judge(shared_clock, wall, boot) - wall;
	if (!behind == !atomic_load(&shared_clock->doubted))
		return;
	atomic_store(&shared_clock->doubted, behind != 0);
	if (!behind) {
		log_info("clock believed again", NULL);
		return;
	}
	kmtls_counters_add(KMTLS_REASON_CLOCK_BACK);
	log_warning("clock went back", "reason=%s seconds=%lld text=%s",
		    kmtls_reason_name(KMTLS_REASON_CLOCK_BACK), (long long)behind,
		    kmtls_log_quote("certificates are judged by the latest time seen; if the clock "
				    "is right now, start the daemon anew"));
}
