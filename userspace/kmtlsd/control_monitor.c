/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_monitor.c - the verb `monitor`: a client becomes a subscriber. And what happens without
 * a line in the log: programs refuse connections and count them, others write maps.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bpf_loader.h"
#include "control_request.h"
#include "daemon.h"
#include "log.h"
#include "monitor.h"
#include "policy.h"
#include "reason.h"
#include "shared.h"

#define PROGRAM_REASONS 32 /* 1..31 are decided in programs */

static bool is_reason(const char *name)
{
	for (unsigned reason = 1; reason < KMTLS_REASON_COUNT; reason++) {
		if (!strcmp(kmtls_reason_name(reason), name))
			return strcmp(name, "unknown") != 0;
	}
	return false;
}

int kmtls_control_monitor(struct kmtls_daemon *daemon, const json_t *arguments,
			  struct kmtls_text *result, char *ret_why)
{
	const char *pod = json_string_value(json_object_get(arguments, "pod"));
	const char *reason = json_string_value(json_object_get(arguments, "reason"));
	int err;

	if (reason && !is_reason(reason)) {
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "monitor: reason: %.64s: must be the name of a reason code", reason);
		return -EINVAL;
	}
	err = kmtls_monitor_subscribe(pod, reason, &daemon->subscription);
	if (err == -EBUSY)
		snprintf(ret_why, KMTLS_CONTROL_WHY, "monitor: at most %d at a time",
			 KMTLS_MONITOR_SUBSCRIBERS);
	if (err)
		return err;
	return kmtls_text_append_json(
		result, json_pack("{s:s, s:i, s:i, s:I}", "version", KMTLS_VERSION, "keeper",
				  daemon->shared->keeper, "worker", daemon->shared->worker,
				  "worker_starts", (json_int_t)daemon->shared->starts));
}

/* Tells what has been counted since the last time; the first time there is nothing to tell. */
static void tell_refusals(struct kmtls_daemon *daemon, bool tell)
{
	static __u64 before[PROGRAM_REASONS];

	for (unsigned reason = 1; reason < PROGRAM_REASONS; reason++) {
		__u64 now;

		if (!strcmp(kmtls_reason_name(reason), "unknown"))
			continue;
		now = kmtls_policy_counter(daemon->bpf, reason);
		if (tell && now > before[reason])
			log_debug("refused by a program", "reason=%s count=%llu text=%s",
				  kmtls_reason_name(reason),
				  (unsigned long long)(now - before[reason]),
				  kmtls_log_quote(kmtls_reason_text(reason)));
		before[reason] = now;
	}
}

static void tell_policy(struct kmtls_daemon *daemon, bool tell)
{
	static __u64 before;
	int fd = kmtls_bpf_map(daemon->bpf, KMTLS_MAP_SETTINGS);
	struct kmtls_settings settings;
	__u32 zero = 0;
	__u64 now;

	if (bpf_map_lookup_elem(fd, &zero, &settings) < 0)
		return;
	now = settings.generation;
	if (tell && now != before)
		log_debug("policy changed", "generation=%llu", (unsigned long long)now);
	before = now;
}

void kmtls_monitor_tick(struct kmtls_daemon *daemon)
{
	static time_t last;
	static bool told;
	struct timespec now;

	if (!kmtls_monitor_is_watched() || !daemon->bpf) {
		told = false;
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (told && now.tv_sec == last)
		return;
	last = now.tv_sec;
	tell_refusals(daemon, told);
	tell_policy(daemon, told);
	told = true;
}
