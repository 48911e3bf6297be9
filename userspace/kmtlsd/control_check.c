/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_check.c - what of `kmtls check` only the daemon can tell: what the kernel lets this very
 * process do. It is tried now, not remembered from the start; but for sk_msg, which only the keeper may
 * try. The rest is in `status` and `pod-list`, or can be seen from outside.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>

#include "accel_probe.h"
#include "clock.h"
#include "config.h"
#include "control_request.h"
#include "crl.h"
#include "daemon.h"
#include "flow_table.h"
#include "ktls.h"
#include "rekey.h"

static json_int_t soft_limit(int resource)
{
	struct rlimit limit = { .rlim_cur = 0 };

	getrlimit(resource, &limit);
	return limit.rlim_cur > LLONG_MAX ? LLONG_MAX : (json_int_t)limit.rlim_cur;
}

/* "": none. */
static const char *error_text(int err)
{
	return err == -EBUSY ? "it can from 6.14 on" : err ? strerror(-err) : "";
}

int kmtls_control_check(struct kmtls_daemon *daemon, const json_t *arguments,
			struct kmtls_text *result, char *ret_why)
{
	int tls = kmtls_ktls_probe(), rekey = kmtls_ktls_probe_rekey();
	const struct kmtls_accel_kernel *accel = &daemon->accel;
	char defects[KMTLS_ACCEL_TEXT] = "";

	if (accel->usable)
		kmtls_accel_defects((unsigned)accel->defects, defects);

	return kmtls_text_append_json(
		result,
		json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			  "tls_error", error_text(tls), "rekey_error", error_text(rekey),
			  "accel_error", accel->why, "accel_defects", defects, "accel_default",
			  kmtls_accel_name(daemon->config->accel), "rekey_offered",
			  (int)daemon->rekey->offered, "key_limit",
			  (json_int_t)daemon->config->key_limit, "nofile",
			  soft_limit(RLIMIT_NOFILE), "memlock", soft_limit(RLIMIT_MEMLOCK),
			  "flows_usable", (json_int_t)daemon->flows->usable, "flows_capacity",
			  (json_int_t)daemon->flows->capacity, "clock_behind",
			  (json_int_t)kmtls_clock_behind(), "crl_files",
			  (json_int_t)daemon->config->identity.crl_files_count, "crl_rejected",
			  (json_int_t)kmtls_crl_rejected()));
}
