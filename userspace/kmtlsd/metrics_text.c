/* SPDX-License-Identifier: Apache-2.0 */
/* metrics_text.c - see metrics_text.h. */
#include "metrics_text.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name, *type, *labels, *help;
} metrics[] = {
#define METRIC(symbol, name, type, labels, help) { "kmtls_" name, #type, labels, help },
	KMTLS_METRICS(METRIC)
#undef METRIC
};

void kmtls_metrics_text_begin(struct kmtls_text *text, enum kmtls_metric metric)
{
	char line[512];

	snprintf(line, sizeof(line), "# HELP %s %s\n# TYPE %s %s\n", metrics[metric].name,
		 metrics[metric].help, metrics[metric].name, metrics[metric].type);
	kmtls_text_append_string(text, line);
}

/* A quote, a backslash or the end of a line would end the value, or make a sample of what comes
 * from outside. */
static void append_escaped(struct kmtls_text *text, const char *bytes)
{
	for (;;) {
		size_t plain = strcspn(bytes, "\\\"\n");

		kmtls_text_append(text, bytes, plain);
		bytes += plain;
		if (!*bytes)
			return;
		kmtls_text_append_string(text, *bytes == '\n'  ? "\\n"
					       : *bytes == '"' ? "\\\""
							       : "\\\\");
		bytes++;
	}
}

/* The format is UTF-8. */
static void append_value(struct kmtls_text *text, const char *value)
{
	__cleanup_json json_t *valid = kmtls_json_string(value);

	if (valid)
		append_escaped(text, json_string_value(valid));
	else
		text->err = text->err ? text->err : -ENOMEM;
}

void kmtls_metrics_text_sample(struct kmtls_text *text, enum kmtls_metric metric,
			       const char *const *values, __s64 value)
{
	const char *label = metrics[metric].labels;
	char number[32];

	kmtls_text_append_string(text, metrics[metric].name);
	for (unsigned i = 0; *label; i++) {
		size_t length = strcspn(label, " ");

		kmtls_text_append_string(text, i ? "," : "{");
		kmtls_text_append(text, label, length);
		kmtls_text_append_string(text, "=\"");
		append_value(text, values[i]);
		kmtls_text_append_string(text, "\"");
		label += length + (label[length] == ' ');
		if (!*label)
			kmtls_text_append_string(text, "}");
	}
	snprintf(number, sizeof(number), " %lld\n", (long long)value);
	kmtls_text_append_string(text, number);
}

void kmtls_metrics_text_one(struct kmtls_text *text, enum kmtls_metric metric, __s64 value)
{
	kmtls_metrics_text_begin(text, metric);
	kmtls_metrics_text_put(text, metric, value, NULL);
}
