/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_control.c - the control protocol: any bytes as a line to the daemon. The verbs and their
 * arguments are the real ones; a handler of our own stands for theirs, which need a kernel, and
 * uses arguments as they do. Whatever was asked, the answer is one line of JSON of the protocol.
 */
#include <string.h>

#include "address.h"
#include "control_request.h"
#include "fuzz.h"
#include "kmtls/control.h"
#include "spiffe.h"

#define VERBS_MAX 64

/* The name says what a handler would take it for. */
static void use(const char *name, const json_t *value)
{
	const char *text = json_string_value(value), *rule = NULL;
	struct kmtls_spiffe_id id;
	struct kmtls_peer_key key;
	char formatted[KMTLS_ENDPOINT_TEXT];

	if (json_is_string(value)) {
		/* Zero bytes would cut it short. */
		HOLDS(*text && strlen(text) == json_string_length(value));
		if (kmtls_prefix_parse(text, &key) == 0)
			kmtls_prefix_format(&key, formatted, sizeof(formatted));
		if (kmtls_spiffe_id_parse(text, strlen(text), &id, &rule))
			HOLDS(rule && *rule);
	} else if (json_is_array(value)) {
		HOLDS(json_array_size(value) <= KMTLS_BYPASS_PORTS);
		for (size_t i = 0; i < json_array_size(value); i++) {
			json_int_t port = json_integer_value(json_array_get(value, i));

			HOLDS(port >= 1 && port <= 65535);
		}
	} else if (json_is_integer(value)) {
		HOLDS(json_integer_value(value) >= 1 && json_integer_value(value) <= 65535);
	} else {
		HOLDS(json_is_boolean(value));
	}
	HOLDS(*name);
}

/* Gives the arguments back, so that what went in is what comes out. */
static int run(struct kmtls_daemon *daemon, const json_t *arguments, struct kmtls_text *result,
	       char *ret_why)
{
	const char *name;
	json_t *value;

	HOLDS(json_is_object(arguments) && !*ret_why);
	json_object_foreach ((json_t *)arguments, name, value)
		use(name, value);
	return kmtls_text_append_json(result, json_incref((json_t *)arguments));
}

static void check_answer(const struct kmtls_text *answer)
{
	char why[256];
	json_t *json = NULL;

	HOLDS(answer->length && answer->bytes[answer->length - 1] == '\n');
	HOLDS(!memchr(answer->bytes, '\n', answer->length - 1));
	HOLDS(kmtls_json_parse(answer->bytes, answer->length - 1, &json, why) == 0);
	HOLDS(json_integer_value(json_object_get(json, "version")) == KMTLS_CONTROL_VERSION);
	if (json_is_true(json_object_get(json, "ok"))) {
		HOLDS(json_object_get(json, "result"));
	} else {
		const json_t *error = json_object_get(json, "error");

		HOLDS(json_is_false(json_object_get(json, "ok")));
		HOLDS(json_string_length(json_object_get(error, "errno")) > 1);
		HOLDS(json_string_length(json_object_get(error, "message")));
	}
	json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct kmtls_control_verb verbs[VERBS_MAX];
	struct kmtls_text answer = { .limit = 0 };

	for (size_t i = 0; !verbs[0].name || kmtls_control_verbs[i].name; i++) {
		HOLDS(i < VERBS_MAX - 1);
		verbs[i] = kmtls_control_verbs[i];
		verbs[i].run = run;
	}
	if (size > KMTLS_CONTROL_LINE_MAX)
		return 0;
	HOLDS(kmtls_control_answer(NULL, verbs, (const char *)data, size, &answer) == 0);
	check_answer(&answer);
	kmtls_text_free(&answer);
	return 0;
}
