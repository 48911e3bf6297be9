/* SPDX-License-Identifier: Apache-2.0 */
/* settings.c - see settings.h. */
#include <errno.h>
#include <string.h>

#include "config_parts.h"
#include "daemon.h"
#include "flow_table.h"
#include "pressure.h"
#include "refusals.h"
#include "resumption.h"
#include "settings.h"
#include "shared.h"
#include "sources.h"

const struct kmtls_setting_range kmtls_setting_ranges[KMTLS_SETTING_COUNT] = {
	[KMTLS_SETTING_HANDSHAKE_TIMEOUT] = { "handshake_timeout", 1, 300, true, false, false },
	[KMTLS_SETTING_HANDSHAKES] = { "limits.handshakes", 0, 1048576, false, false, false },
	[KMTLS_SETTING_HANDSHAKES_PER_SOURCE] = { "limits.handshakes_per_source", 0, 1048576, false,
						  false, false },
	[KMTLS_SETTING_MEMORY_PERCENT] = { "limits.memory_percent", 0, 100, false, false, false },
	[KMTLS_SETTING_REFUSAL_LINES] = { "limits.refusal_lines", 0, 1000000, false, false, false },
	[KMTLS_SETTING_FLOWS_PER_POD] = { "limits.flows_per_pod", 0, 1048576, false, false, false },
	[KMTLS_SETTING_RENEW_AT] = { "identity.renew_at", 10, 95, false, false, false },
	[KMTLS_SETTING_SVID_TTL] = { "identity.svid_ttl", 10, 3650 * KMTLS_CONFIG_DAY, true, false,
				     false },
	[KMTLS_SETTING_ROOT_TTL] = { "identity.root_ttl", 10, 36500 * KMTLS_CONFIG_DAY, true, false,
				     false },
	[KMTLS_SETTING_KEY_TYPE] = { "identity.key_type", KMTLS_KEY_EC_P256, KMTLS_KEY_RSA_4096,
				     false, true, false },
	[KMTLS_SETTING_RESUMPTION] = { "resumption", 0, KMTLS_CONFIG_HOUR, true, false, false },
	[KMTLS_SETTING_RESUMPTION_SYMMETRIC] = { "resumption_symmetric", 0, 1, false, false, true },
};

int kmtls_setting_parse(enum kmtls_setting setting, const char *text, unsigned *ret_value)
{
	const struct kmtls_setting_range *range = &kmtls_setting_ranges[setting];
	size_t digits = strspn(text, "0123456789");
	enum kmtls_key_type type;
	unsigned value;

	if (range->key_type) {
		if (kmtls_key_type_parse(text, &type) < 0)
			return -EINVAL;
		*ret_value = type;
		return 0;
	}
	if (range->truth) {
		if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
			return -EINVAL;
		*ret_value = text[0] == 't';
		return 0;
	}
	if (kmtls_config_parse_duration(text, &value) < 0)
		return -EINVAL;
	if ((!range->duration && text[digits]) || value < range->from || value > range->to)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

/* NULL: there is none, or it has no such thing. */
static unsigned *place_in_backend(struct kmtls_config_backend *backend, enum kmtls_setting setting)
{
	if (!backend || !kmtls_backend_signs(backend->type))
		return NULL;
	if (setting == KMTLS_SETTING_SVID_TTL)
		return &backend->svid_ttl;
	if (setting == KMTLS_SETTING_KEY_TYPE)
		return &backend->key_type;
	return backend->type == KMTLS_BACKEND_BUILTIN ? &backend->root_ttl : NULL;
}

/* The worker's own copy: the keeper has another, and the file has the last word at the next start. */
static unsigned *place(const struct kmtls_daemon *daemon, enum kmtls_setting setting)
{
	struct kmtls_config *config = (struct kmtls_config *)daemon->config;

	switch (setting) {
	case KMTLS_SETTING_HANDSHAKE_TIMEOUT:
		return &config->handshake_timeout;
	case KMTLS_SETTING_HANDSHAKES:
		return &config->limits.handshakes;
	case KMTLS_SETTING_HANDSHAKES_PER_SOURCE:
		return &config->limits.handshakes_per_source;
	case KMTLS_SETTING_MEMORY_PERCENT:
		return &config->limits.memory_percent;
	case KMTLS_SETTING_REFUSAL_LINES:
		return &config->limits.refusal_lines;
	case KMTLS_SETTING_RENEW_AT:
		return &config->identity.renew_at;
	case KMTLS_SETTING_RESUMPTION:
		return &config->resumption;
	case KMTLS_SETTING_RESUMPTION_SYMMETRIC:
		return &config->resumption_symmetric;
	case KMTLS_SETTING_SVID_TTL:
	case KMTLS_SETTING_ROOT_TTL:
	case KMTLS_SETTING_KEY_TYPE:
		return place_in_backend(config->identity.enabled, setting);
	case KMTLS_SETTING_FLOWS_PER_POD:
	case KMTLS_SETTING_COUNT:
		break;
	}
	return &config->limits.flows_per_pod;
}

bool kmtls_setting_is_there(const struct kmtls_daemon *daemon, enum kmtls_setting setting)
{
	return place(daemon, setting) != NULL;
}

unsigned kmtls_setting_get(const struct kmtls_daemon *daemon, enum kmtls_setting setting)
{
	return __atomic_load_n(place(daemon, setting), __ATOMIC_RELAXED);
}

/* Those that have a copy of it. */
static void tell(struct kmtls_daemon *daemon, enum kmtls_setting setting)
{
	const struct kmtls_config *config = daemon->config;

	switch (setting) {
	case KMTLS_SETTING_HANDSHAKES:
	case KMTLS_SETTING_HANDSHAKES_PER_SOURCE:
		kmtls_sources_limit(daemon->sources, config->limits.handshakes_per_source,
				    config->limits.handshakes);
		break;
	case KMTLS_SETTING_MEMORY_PERCENT:
		kmtls_pressure_limit(daemon->pressure, config->limits.memory_percent);
		break;
	case KMTLS_SETTING_REFUSAL_LINES:
		kmtls_refusals_set_lines(config->limits.refusal_lines);
		break;
	case KMTLS_SETTING_FLOWS_PER_POD:
		kmtls_flow_table_limit(daemon->flows, config->limits.flows_per_pod);
		break;
	case KMTLS_SETTING_RESUMPTION: /* asked for with every handshake; a shorter time is another */
	case KMTLS_SETTING_RESUMPTION_SYMMETRIC: /* keys are taken from full handshakes from now on */
		kmtls_resumption_clear(daemon->resumption);
		break;
	case KMTLS_SETTING_RENEW_AT: /* with every SVID */
	case KMTLS_SETTING_SVID_TTL:
	case KMTLS_SETTING_ROOT_TTL:
	case KMTLS_SETTING_KEY_TYPE:
	case KMTLS_SETTING_HANDSHAKE_TIMEOUT: /* asked for with every handshake */
	case KMTLS_SETTING_COUNT:
		break;
	}
}

void kmtls_setting_set(struct kmtls_daemon *daemon, enum kmtls_setting setting, unsigned value)
{
	__atomic_store_n(place(daemon, setting), value, __ATOMIC_RELAXED);
	/* One more, so that 0 is none. */
	atomic_store(&daemon->shared->settings[setting], (__u64)value + 1);
	tell(daemon, setting);
}

void kmtls_settings_restore(struct kmtls_daemon *daemon)
{
	for (unsigned i = 0; i < KMTLS_SETTING_COUNT; i++) {
		__u64 kept = atomic_load(&daemon->shared->settings[i]);

		if (!kept || !kmtls_setting_is_there(daemon, (enum kmtls_setting)i))
			continue;
		*place(daemon, (enum kmtls_setting)i) = (unsigned)(kept - 1);
		if (i == KMTLS_SETTING_FLOWS_PER_POD)
			kmtls_flow_table_limit(daemon->flows, (unsigned)(kept - 1));
	}
}
