/* SPDX-License-Identifier: Apache-2.0 */
/* accel.c - see accel.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "accel.h"
#include "accel_probe.h"
#include "bpf_loader.h"
#include "daemon.h"
#include "log.h"

static const char *const names[] = {
	[KMTLS_ACCEL_AUTO] = "auto",
	[KMTLS_ACCEL_OFF] = "off",
	[KMTLS_ACCEL_ON] = "on",
};

void kmtls_accel_open(struct kmtls_daemon *daemon)
{
	struct kmtls_accel_kernel *kernel = &daemon->accel;
	char defects[KMTLS_ACCEL_TEXT];

	kernel->defects = kmtls_accel_probe();
	if (kernel->defects == -ENOBUFS)
		snprintf(kernel->why, sizeof(kernel->why),
			 "this kernel does not count redirected bytes against who does not read "
			 "them");
	else if (kernel->defects < 0)
		snprintf(kernel->why, sizeof(kernel->why), "sk_msg cannot be used: %s",
			 strerror(-kernel->defects));
	else if (kmtls_bpf_open_accel(daemon->bpf, kernel->why) == 0)
		kernel->usable = true;
	if (kernel->usable)
		kernel->why[0] = '\0';
	else
		log_warning("local legs cannot be accelerated", "why=%s",
			    kmtls_log_quote(kernel->why));
	if (kernel->usable)
		log_info("local legs can be accelerated", "auto=%s defects=%s",
			 kernel->defects ? "off" : "on",
			 kmtls_log_quote(kmtls_accel_defects(kernel->defects, defects)));
}

bool kmtls_accel_is_on(const struct kmtls_daemon *daemon, enum kmtls_accel choice)
{
	if (!daemon->accel.usable)
		return false;
	return choice == KMTLS_ACCEL_ON ||
	       (choice == KMTLS_ACCEL_AUTO && daemon->accel.defects == 0);
}

const char *kmtls_accel_name(enum kmtls_accel choice)
{
	return names[choice];
}

int kmtls_accel_parse(const char *text, enum kmtls_accel *ret_choice)
{
	if (!text) {
		*ret_choice = KMTLS_ACCEL_DEFAULT;
		return 0;
	}
	for (size_t i = KMTLS_ACCEL_AUTO; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]) == 0) {
			*ret_choice = (enum kmtls_accel)i;
			return 0;
		}
	}
	return -EINVAL;
}
