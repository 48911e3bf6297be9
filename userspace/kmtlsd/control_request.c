/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_request.c - see control_request.h. Everything about a request is checked before
 * its handler runs, and what is not in the table is refused by name: a misspelt argument
 * that is silently ignored would be a policy that is silently not there.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kmtls/abi.h"
#include "kmtls/control.h"

#include "control_request.h"

static int fail(char *ret_why, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(char *ret_why, int err, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(ret_why, KMTLS_CONTROL_WHY, format, list);
	va_end(list);
	return err;
}

static bool is_port(const json_t *value)
{
	return json_is_integer(value) && json_integer_value(value) >= 1 &&
	       json_integer_value(value) <= 65535;
}

static int check_ports(const char *verb, const char *name, const json_t *value, char *ret_why)
{
	const json_t *item;
	size_t i;

	if (!json_is_array(value))
		return fail(ret_why, -EINVAL, "%s: %s: must be a list of ports", verb, name);
	if (json_array_size(value) > KMTLS_BYPASS_PORTS)
		return fail(ret_why, -EINVAL, "%s: %s: at most %d ports", verb, name,
			    KMTLS_BYPASS_PORTS);
	json_array_foreach (value, i, item) {
		if (!is_port(item))
			return fail(ret_why, -EINVAL,
				    "%s: %s: each must be a number from 1 to 65535", verb, name);
	}
	return 0;
}

static int check_value(const char *verb, const struct kmtls_control_argument *argument,
		       const json_t *value, char *ret_why)
{
	switch (argument->type) {
	case KMTLS_CONTROL_STRING:
		if (json_is_string(value) && json_string_length(value))
			return 0;
		return fail(ret_why, -EINVAL, "%s: %s: must be a string that is not empty", verb,
			    argument->name);
	case KMTLS_CONTROL_BOOLEAN:
		if (json_is_boolean(value))
			return 0;
		return fail(ret_why, -EINVAL, "%s: %s: must be true or false", verb,
			    argument->name);
	case KMTLS_CONTROL_PORT:
		if (is_port(value))
			return 0;
		return fail(ret_why, -EINVAL, "%s: %s: must be a number from 1 to 65535", verb,
			    argument->name);
	case KMTLS_CONTROL_PORTS:
		return check_ports(verb, argument->name, value, ret_why);
	}
	return fail(ret_why, -EINVAL, "%s: %s: of unknown type", verb, argument->name);
}

static const struct kmtls_control_argument *find_argument(const struct kmtls_control_verb *verb,
							  const char *name)
{
	const struct kmtls_control_argument *argument;

	for (argument = verb->arguments; argument->name; argument++) {
		if (!strcmp(argument->name, name))
			return argument;
	}
	return NULL;
}

static int check_arguments(const struct kmtls_control_verb *verb, json_t *arguments, char *ret_why)
{
	const struct kmtls_control_argument *argument;
	const char *name;
	json_t *value;
	int err;

	json_object_foreach (arguments, name, value) {
		argument = find_argument(verb, name);
		if (!argument)
			return fail(ret_why, -EINVAL, "%s: %s: unknown argument", verb->name, name);
		err = check_value(verb->name, argument, value, ret_why);
		if (err)
			return err;
	}
	for (argument = verb->arguments; argument->name; argument++) {
		if (argument->required && !json_object_get(arguments, argument->name))
			return fail(ret_why, -EINVAL, "%s: %s: is required", verb->name,
				    argument->name);
	}
	return 0;
}

/* The fields around the arguments. */
static int check_envelope(json_t *request, char *ret_why)
{
	const json_t *version = json_object_get(request, "version");
	const json_t *arguments = json_object_get(request, "arguments");
	const char *name;
	json_t *value;

	json_object_foreach (request, name, value) {
		if (strcmp(name, "version") && strcmp(name, "verb") && strcmp(name, "arguments"))
			return fail(ret_why, -EINVAL, "request: %s: unknown field", name);
	}
	if (!json_is_integer(version))
		return fail(ret_why, -EINVAL, "request: version: must be a number");
	if (json_integer_value(version) != KMTLS_CONTROL_VERSION)
		return fail(ret_why, -EPROTO,
			    "request: version: %" JSON_INTEGER_FORMAT
			    " is not spoken here, this daemon speaks %d",
			    json_integer_value(version), KMTLS_CONTROL_VERSION);
	if (!json_is_string(json_object_get(request, "verb")))
		return fail(ret_why, -EINVAL, "request: verb: must be a string");
	if (arguments && !json_is_object(arguments))
		return fail(ret_why, -EINVAL, "request: arguments: must be an object");
	return 0;
}

static int run_request(struct kmtls_daemon *daemon, const struct kmtls_control_verb *verb,
		       json_t *request, struct kmtls_text *answer, char *ret_why)
{
	__cleanup_json json_t *arguments = json_incref(json_object_get(request, "arguments"));
	int err;

	for (; verb->name; verb++) {
		if (!strcmp(verb->name, json_string_value(json_object_get(request, "verb"))))
			break;
	}
	if (!verb->name)
		return fail(ret_why, -ENOSYS, "%s: unknown verb",
			    json_string_value(json_object_get(request, "verb")));
	if (!arguments)
		arguments = json_object();
	err = check_arguments(verb, arguments, ret_why);
	if (err)
		return err;
	kmtls_text_append_string(answer, "{\"version\":1,\"ok\":true,\"result\":");
	err = verb->run(daemon, arguments, answer, ret_why);
	kmtls_text_append_string(answer, "}\n");
	if (!err)
		err = answer->err;
	if (answer->err == -E2BIG)
		fail(ret_why, 0, "%s: the answer is longer than %u MiB", verb->name,
		     KMTLS_CONTROL_ANSWER_MAX >> 20);
	return err;
}

int kmtls_control_answer_error(struct kmtls_text *answer, int err, const char *message)
{
	const char *name = strerrorname_np(-err);

	kmtls_text_append_json(answer, json_pack("{s:i, s:b, s:{s:s, s:o*}}", "version",
						 KMTLS_CONTROL_VERSION, "ok", 0, "error", "errno",
						 name ? name : "EIO", "message",
						 kmtls_json_string(message)));
	return kmtls_text_append_string(answer, "\n");
}

int kmtls_control_answer(struct kmtls_daemon *daemon, const struct kmtls_control_verb *verbs,
			 const char *line, size_t length, struct kmtls_text *answer)
{
	__cleanup_json json_t *request = NULL;
	char why[KMTLS_CONTROL_WHY] = "", bare[KMTLS_CONTROL_WHY];
	int err;

	answer->limit = KMTLS_CONTROL_ANSWER_MAX;
	err = kmtls_json_parse(line, length, &request, bare);
	if (err)
		fail(why, err, "request: %.240s", bare);
	else
		err = check_envelope(request, why);
	if (!err)
		err = run_request(daemon, verbs, request, answer, why);
	if (!err)
		return 0;
	kmtls_text_free(answer);
	return kmtls_control_answer_error(answer, err, *why ? why : strerror(-err));
}
