/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_events.h - a YAML file as a stream of events, before anything is made of it. */
#ifndef KMTLS_YAML_EVENTS_H
#define KMTLS_YAML_EVENTS_H

#include <stddef.h>
#include <yaml.h>

struct kmtls_yaml_visitor {
	void *context;
	/* Not 0: ends the walk. */
	int (*take)(void *context, const yaml_event_t *event);
	/* It is no YAML; what is wrong is in the parser. Its result is the walk's. */
	int (*refuse)(void *context, const yaml_parser_t *parser);
};

/* 0, -ENOMEM, or what the visitor says. */
int kmtls_yaml_visit(const char *bytes, size_t length, const struct kmtls_yaml_visitor *visitor);

#endif
