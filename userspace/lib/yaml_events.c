/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_events.c - see yaml_events.h. */
#include <errno.h>
#include <stdbool.h>

#include "yaml_events.h"

int kmtls_yaml_visit(const char *bytes, size_t length, const struct kmtls_yaml_visitor *visitor)
{
	yaml_parser_t parser;
	yaml_event_t event;
	bool end = false;
	int err = 0;

	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, length);
	while (!err && !end) {
		if (!yaml_parser_parse(&parser, &event)) {
			err = visitor->refuse(visitor->context, &parser);
			break;
		}
		end = event.type == YAML_STREAM_END_EVENT;
		err = visitor->take(visitor->context, &event);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	return err;
}
