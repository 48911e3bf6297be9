/* SPDX-License-Identifier: Apache-2.0 */
/* accel.h - which pods' local legs are short-circuited by sk_msg (docs/accel.md). */
#ifndef KMTLS_ACCEL_H
#define KMTLS_ACCEL_H

#include <stdbool.h>

struct kmtls_daemon;

enum kmtls_accel {
	KMTLS_ACCEL_DEFAULT, /* as the configuration says; of a pod only */
	KMTLS_ACCEL_AUTO, /* where the application would notice nothing of it */
	KMTLS_ACCEL_OFF,
	KMTLS_ACCEL_ON,
};

/* What the kernel can do. The keeper's. */
struct kmtls_accel_kernel {
	bool usable; /* the programs are attached */
	int defects; /* kmtls_accel_probe() */
	char why[256]; /* it is not usable */
};

/* Asks the kernel, and attaches the programs if they can be; whatever comes of it, the daemon can run. */
void kmtls_accel_open(struct kmtls_daemon *daemon);

/* Is a pod accelerated that is enrolled with this choice? */
bool kmtls_accel_is_on(const struct kmtls_daemon *daemon, enum kmtls_accel choice);

const char *kmtls_accel_name(enum kmtls_accel choice);
/* "off", "on", "auto"; NULL is the default. -EINVAL */
int kmtls_accel_parse(const char *text, enum kmtls_accel *ret_choice);

#endif
