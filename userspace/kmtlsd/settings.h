/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings.h - what of the configuration can be changed while the daemon runs. A changed value is
 * in the worker's copy of the configuration, and in the shared memory, so that the next worker has
 * it, too; it lasts until the daemon is started anew. What lives in a map is set there instead.
 */
#ifndef KMTLS_SETTINGS_H
#define KMTLS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

struct kmtls_daemon;

/* Their order is that of shared->settings: append only. */
enum kmtls_setting {
	KMTLS_SETTING_HANDSHAKE_TIMEOUT,
	KMTLS_SETTING_HANDSHAKES,
	KMTLS_SETTING_HANDSHAKES_PER_SOURCE,
	KMTLS_SETTING_MEMORY_PERCENT,
	KMTLS_SETTING_REFUSAL_LINES,
	KMTLS_SETTING_FLOWS_PER_POD,
	KMTLS_SETTING_RENEW_AT,
	/* Of the identity backend that is enabled; without one they are not there. */
	KMTLS_SETTING_SVID_TTL,
	KMTLS_SETTING_ROOT_TTL,
	KMTLS_SETTING_KEY_TYPE,
	KMTLS_SETTING_RESUMPTION,
	KMTLS_SETTING_RESUMPTION_SYMMETRIC,
	KMTLS_SETTING_COUNT
};

struct kmtls_setting_range {
	const char *name; /* as in kmtlsd.conf(5) */
	unsigned from, to;
	bool duration; /* seconds: "90", "90s", "5m" */
	bool key_type; /* a word: key_type.h */
	bool truth; /* a word: true or false */
};

extern const struct kmtls_setting_range kmtls_setting_ranges[KMTLS_SETTING_COUNT];

/* -EINVAL: text is not a value for it; kmtls_config_rule() says what is. */
int kmtls_setting_parse(enum kmtls_setting setting, const char *text, unsigned *ret_value);
/* Is there such a thing in this configuration? */
bool kmtls_setting_is_there(const struct kmtls_daemon *daemon, enum kmtls_setting setting);
unsigned kmtls_setting_get(const struct kmtls_daemon *daemon, enum kmtls_setting setting);
/* From now on, for whatever begins from now on. */
void kmtls_setting_set(struct kmtls_daemon *daemon, enum kmtls_setting setting, unsigned value);
/* A worker begins: as they were set for the one before. Before anything is opened that asks. */
void kmtls_settings_restore(struct kmtls_daemon *daemon);

#endif
