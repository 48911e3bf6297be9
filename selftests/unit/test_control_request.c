/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_control_request.c - one request line, one answer line: what is a request, what is refused
 * and in which words, before anything is done. The real table of verbs is asked only for what it
 * must refuse; verbs of its own stand in for what succeeds.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "control_request.h"
#include "daemon.h"

static int calls; /* of handlers */
static struct kmtls_daemon daemon_;

static int run_echo(struct kmtls_daemon *daemon, const json_t *arguments, struct kmtls_text *result,
		    char *ret_why)
{
	calls++;
	return kmtls_text_append_json(result, json_incref((json_t *)arguments));
}

static int run_fail(struct kmtls_daemon *daemon, const json_t *arguments, struct kmtls_text *result,
		    char *ret_why)
{
	calls++;
	kmtls_text_append_string(result, "[\"half\"");
	snprintf(ret_why, KMTLS_CONTROL_WHY, "thing: exists already");
	return -EEXIST;
}

static int run_fail_silently(struct kmtls_daemon *daemon, const json_t *arguments,
			     struct kmtls_text *result, char *ret_why)
{
	return -EIO;
}

/* A sentence cut in the middle of a character. */
static int run_fail_cut(struct kmtls_daemon *daemon, const json_t *arguments,
			struct kmtls_text *result, char *ret_why)
{
	strcpy(ret_why, "pod \xc3");
	return -EINVAL;
}

static int run_large(struct kmtls_daemon *daemon, const json_t *arguments,
		     struct kmtls_text *result, char *ret_why)
{
	static char filler[1024];
	json_int_t size =
		json_integer_value(json_array_get(json_object_get(arguments, "ports"), 0));

	memset(filler, 'x', sizeof(filler));
	kmtls_text_append_string(result, "\"");
	while (size-- && !kmtls_text_append(result, filler, sizeof(filler)))
		;
	return kmtls_text_append_string(result, "\"");
}

static const struct kmtls_control_verb verbs[] = {
	{ .name = "echo",
	  .arguments = { { "text", KMTLS_CONTROL_STRING, true },
			 { "flag", KMTLS_CONTROL_BOOLEAN, false },
			 { "ports", KMTLS_CONTROL_PORTS, false },
			 { "port", KMTLS_CONTROL_PORT, false } },
	  .run = run_echo },
	{ .name = "none", .run = run_echo },
	{ .name = "fail", .run = run_fail },
	{ .name = "fail-silently", .run = run_fail_silently },
	{ .name = "fail-cut", .run = run_fail_cut },
	{ .name = "large",
	  .arguments = { { "ports", KMTLS_CONTROL_PORTS, true } },
	  .run = run_large },
	{ .name = NULL },
};

struct request {
	const char *line;
	const char *name; /* NULL: message is the whole answer */
	const char *message; /* up to its '*', if it has one */
};

#define ASK(verb, arguments) "{\"version\":1,\"verb\":\"" verb "\",\"arguments\":" arguments "}"

static const struct request requests[] = {
	{ ASK("echo", "{\"text\":\"a\"}"), NULL,
	  "{\"version\":1,\"ok\":true,\"result\":{\"text\":\"a\"}}\n" },
	{ ASK("echo", "{\"text\":\"a\",\"flag\":false,\"ports\":[]}"), NULL,
	  "{\"version\":1,\"ok\":true,\"result\":{\"text\":\"a\",\"flag\":false,\"ports\":[]}}\n" },
	{ ASK("echo", "{\"text\":\"a\",\"ports\":[1,65535,3,4,5,6,7,8]}"), NULL,
	  "{\"version\":1,\"ok\":true,\"result\":{\"text\":\"a\",\"ports\":[1,65535,3,4,5,6,7,8]}}"
	  "\n" },
	{ "{\"version\":1,\"verb\":\"none\"}", NULL,
	  "{\"version\":1,\"ok\":true,\"result\":{}}\n" },
	{ " { \"verb\" : \"none\" , \"version\" : 1 } ", NULL,
	  "{\"version\":1,\"ok\":true,\"result\":{}}\n" },
	/* Not a request. The rest of the sentence is jansson's. */
	{ "", "EINVAL", "request: not JSON: *" },
	{ "nonsense", "EINVAL", "request: not JSON: *" },
	{ "[]", "EINVAL", "request: not a JSON object" },
	{ "{\"version\":1", "EINVAL", "request: not JSON: *" },
	{ "{} {}", "EINVAL", "request: not JSON: *" },
	{ "{\"version\":1,\"version\":1}", "EINVAL", "request: not JSON: duplicate object key *" },
	{ "{\"a\":\"\xff\"}", "EINVAL", "request: not JSON: *" },
	{ "{\"a\":\"\\u0000\"}", "EINVAL", "request: not JSON: *" },
	{ "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", "EINVAL", "request: nested deeper than 16" },
	{ "[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]", "EINVAL", "request: not a JSON object" },
	{ "{\"a\":\"[[[[[[[[[[[[[[[[[[[\"}", "EINVAL", "request: a: unknown field" },
	{ "{\"a\":\"\\\"[[[[[[[[[[[[[[[[[[[\"}", "EINVAL", "request: a: unknown field" },
	/* The envelope. */
	{ "{}", "EINVAL", "request: version: must be a number" },
	{ "{\"version\":\"1\",\"verb\":\"none\"}", "EINVAL", "request: version: must be a number" },
	{ "{\"version\":2,\"verb\":\"none\"}", "EPROTO",
	  "request: version: 2 is not spoken here, this daemon speaks 1" },
	{ "{\"version\":1}", "EINVAL", "request: verb: must be a string" },
	{ "{\"version\":1,\"verb\":7}", "EINVAL", "request: verb: must be a string" },
	{ "{\"version\":1,\"verb\":\"none\",\"colour\":1}", "EINVAL",
	  "request: colour: unknown field" },
	{ ASK("none", "[]"), "EINVAL", "request: arguments: must be an object" },
	{ ASK("none", "null"), "EINVAL", "request: arguments: must be an object" },
	{ ASK("ech", "{}"), "ENOSYS", "ech: unknown verb" },
	{ ASK("", "{}"), "ENOSYS", ": unknown verb" },
	{ ASK("Echo", "{}"), "ENOSYS", "Echo: unknown verb" },
	/* Arguments. */
	{ ASK("echo", "{}"), "EINVAL", "echo: text: is required" },
	{ "{\"version\":1,\"verb\":\"echo\"}", "EINVAL", "echo: text: is required" },
	{ ASK("echo", "{\"text\":\"\"}"), "EINVAL",
	  "echo: text: must be a string that is not empty" },
	{ ASK("echo", "{\"text\":7}"), "EINVAL", "echo: text: must be a string that is not empty" },
	{ ASK("echo", "{\"text\":null}"), "EINVAL",
	  "echo: text: must be a string that is not empty" },
	{ ASK("echo", "{\"text\":\"a\",\"flag\":1}"), "EINVAL",
	  "echo: flag: must be true or false" },
	{ ASK("echo", "{\"text\":\"a\",\"txt\":1}"), "EINVAL", "echo: txt: unknown argument" },
	{ ASK("none", "{\"text\":\"a\"}"), "EINVAL", "none: text: unknown argument" },
	{ ASK("echo", "{\"text\":\"a\",\"port\":0}"), "EINVAL",
	  "echo: port: must be a number from 1 to 65535" },
	{ ASK("echo", "{\"text\":\"a\",\"port\":65536}"), "EINVAL",
	  "echo: port: must be a number from 1 to 65535" },
	{ ASK("echo", "{\"text\":\"a\",\"port\":\"80\"}"), "EINVAL",
	  "echo: port: must be a number from 1 to 65535" },
	{ ASK("echo", "{\"text\":\"a\",\"ports\":80}"), "EINVAL",
	  "echo: ports: must be a list of ports" },
	{ ASK("echo", "{\"text\":\"a\",\"ports\":[0]}"), "EINVAL",
	  "echo: ports: each must be a number from 1 to 65535" },
	{ ASK("echo", "{\"text\":\"a\",\"ports\":[65536]}"), "EINVAL",
	  "echo: ports: each must be a number from 1 to 65535" },
	{ ASK("echo", "{\"text\":\"a\",\"ports\":[1.5]}"), "EINVAL",
	  "echo: ports: each must be a number from 1 to 65535" },
	{ ASK("echo", "{\"text\":\"a\",\"ports\":[\"80\"]}"), "EINVAL",
	  "echo: ports: each must be a number from 1 to 65535" },
	{ ASK("echo", "{\"text\":\"a\",\"ports\":[1,2,3,4,5,6,7,8,9]}"), "EINVAL",
	  "echo: ports: at most 8 ports" },
	/* What handlers say. */
	{ ASK("fail", "{}"), "EEXIST", "thing: exists already" },
	{ ASK("fail-silently", "{}"), "EIO", "Input/output error" },
	{ ASK("fail-cut", "{}"), "EINVAL", "pod ?" },
};

/* What the real table refuses, before a handler runs or before it looks at the pods. */
#define POD "{\"name\":\"a\",\"netns\":\"/n\",\"cgroup\":\"/c\",\"id\":\"x\""
static const struct request real_requests[] = {
	{ ASK("pod-add", "{\"name\":\"a\",\"cgroup\":\"/c\",\"id\":\"x\"}"), "EINVAL",
	  "pod-add: netns: is required" },
	{ ASK("pod-add", "{\"name\":\"a\",\"netns\":\"/n\",\"cgroup\":\"/c\"}"), "EINVAL",
	  "pod-add: id: is required" },
	{ ASK("pod-add", POD ",\"accel\":\"\"}"), "EINVAL",
	  "pod-add: accel: must be a string that is not empty" },
	{ ASK("pod-add", POD ",\"accel\":true}"), "EINVAL",
	  "pod-add: accel: must be a string that is not empty" },
	{ ASK("pod-add", POD ",\"accel\":null}"), "EINVAL",
	  "pod-add: accel: must be a string that is not empty" },
	{ ASK("pod-add", POD ",\"accel\":\"yes\"}"), "EINVAL",
	  "pod-add: accel: must be off, on or auto" },
	{ ASK("pod-add", POD ",\"accel\":\"On\"}"), "EINVAL",
	  "pod-add: accel: must be off, on or auto" },
	{ ASK("pod-add", POD ",\"accel\":\"on\"}"), "EOPNOTSUPP",
	  "pod-add: accel: not on this kernel: *" },
	{ ASK("pod-list", "{\"accel\":\"on\"}"), "EINVAL", "pod-list: accel: unknown argument" },
	{ ASK("pod-add", "{\"name\":[\"a\"]}"), "EINVAL",
	  "pod-add: name: must be a string that is not empty" },
	{ ASK("pod-del", "{}"), "EINVAL", "pod-del: name: is required" },
	{ ASK("pod-list", "{\"name\":\"a\"}"), "EINVAL", "pod-list: name: unknown argument" },
	{ ASK("peer-add", "{\"prefix\":\"10.0.0.0/8\"}"), "EINVAL",
	  "peer-add: id: is required, or trust_domain, or bypass" },
	{ ASK("peer-add", "{\"prefix\":\"10.0.0.0/8\",\"id\":\"x\",\"bypass\":true}"), "EINVAL",
	  "peer-add: id: cannot be together with bypass" },
	{ ASK("peer-add", "{\"prefix\":\"10.0.0.0/8\",\"id\":\"x\",\"trust_domain\":\"td\"}"),
	  "EINVAL", "peer-add: trust_domain: cannot be together with id or bypass" },
	{ ASK("peer-add", "{\"prefix\":\"10.0.0.0/8\",\"id\":\"x\",\"namespace\":\"n\"}"), "EINVAL",
	  "peer-add: namespace: only with trust_domain" },
	{ ASK("peer-add", "{\"prefix\":\"10.0.0.0/8\",\"trust_domain\":\"TD\"}"), "EINVAL",
	  "peer-add: trust_domain: the trust domain has an upper-case letter" },
	{ ASK("peer-add",
	      "{\"prefix\":\"10.0.0.0/8\",\"trust_domain\":\"td\",\"namespace\":\"a/b\"}"),
	  "EINVAL", "peer-add: namespace, trust_domain: the namespace has a slash" },
	{ ASK("peer-add", "{\"prefix\":\"10.0.0.0/8\",\"bypass\":false}"), "EINVAL",
	  "peer-add: bypass: must be true where it is given" },
	{ ASK("authz-add", "{\"action\":\"permit\",\"source\":\"any\",\"destination\":\"any\"}"),
	  "EINVAL", "authz-add: action: permit: must be allow, deny or dry-run" },
	{ ASK("authz-add", "{\"action\":\"allow\",\"source\":\"any\"}"), "EINVAL",
	  "authz-add: destination: is required" },
	{ ASK("authz-add", "{\"action\":\"deny\",\"source\":\"all\",\"destination\":\"any\"}"),
	  "EINVAL", "authz-add: source: all: must be any, a SPIFFE ID, *" },
	{ ASK("authz-add", "{\"action\":\"deny\",\"source\":\"any\",\"destination\":"
			   "\"namespace:shop\"}"),
	  "EINVAL", "authz-add: destination: namespace:shop: must be namespace:TRUST-DOMAIN/NAME" },
	{ ASK("authz-del", "{\"source\":\"any\",\"destination\":\"spiffe://a/b/\"}"), "EINVAL",
	  "authz-del: destination: spiffe://a/b/: the path ends with a slash" },
	{ ASK("authz-default", "{\"action\":\"dry-run\"}"), "EINVAL",
	  "authz-default: action: dry-run: must be allow or deny" },
	{ ASK("policy-set", "{}"), "EINVAL", "policy-set: mode: is required" },
	{ ASK("policy-set", "{\"mode\":\"Strict\"}"), "EINVAL",
	  "policy-set: mode: Strict: must be off, permissive or strict" },
	{ ASK("policy-set", "{\"mode\":\"unset\"}"), "EINVAL",
	  "policy-set: mode: unset: must be off, permissive or strict" },
	{ ASK("policy-set", "{\"mode\":\"off\",\"direction\":\"both\"}"), "EINVAL",
	  "policy-set: direction: must be inbound or outbound" },
	{ ASK("policy-set", "{\"mode\":\"off\",\"pod\":\"a\",\"namespace\":\"b\"}"), "EINVAL",
	  "policy-set: namespace: cannot be together with pod" },
	{ ASK("policy-set", "{\"mode\":\"off\",\"namespace\":\"a/b\"}"), "EINVAL",
	  "policy-set: namespace: must be of A-Z a-z 0-9 . _ -" },
	{ ASK("policy-set", "{\"mode\":\"off\",\"namespace\":\"a\",\"port\":80}"), "EINVAL",
	  "policy-set: port: cannot be together with namespace" },
	{ ASK("policy-set", "{\"mode\":\"off\",\"port\":0}"), "EINVAL",
	  "policy-set: port: must be a number from 1 to 65535" },
	{ ASK("policy-set", "{\"mode\":\"off\",\"now\":1}"), "EINVAL",
	  "policy-set: now: must be true or false" },
	{ ASK("policy-set", "{\"mode\":\"off\",\"pod\":\"a/b/c\"}"), "EINVAL",
	  "policy-set: pod: must be 1 to 127 of A-Z a-z 0-9 . _ -, with at most one / between" },
	{ ASK("policy-unset", "{}"), "EINVAL",
	  "policy-unset: the mesh always has a mode, which can only be set to another" },
	{ ASK("policy-unset", "{\"direction\":\"inbound\"}"), "EINVAL",
	  "policy-unset: the mesh always has a mode, which can only be set to another" },
	{ ASK("policy-unset", "{\"mode\":\"off\",\"pod\":\"a\"}"), "EINVAL",
	  "policy-unset: mode: unknown argument" },
	{ ASK("policy-dry-run", "{\"mode\":\"on\"}"), "EINVAL",
	  "policy-dry-run: mode: on: must be off, permissive or strict" },
	{ ASK("policy-dry-run", "{\"mode\":\"off\",\"now\":true}"), "EINVAL",
	  "policy-dry-run: now: unknown argument" },
	{ ASK("policy-show", "{\"pod\":\"a b\"}"), "EINVAL",
	  "policy-show: pod: must be 1 to 127 of A-Z a-z 0-9 . _ -, with at most one / between" },
	{ ASK("policy-show", "{\"port\":65536}"), "EINVAL",
	  "policy-show: port: must be a number from 1 to 65535" },
	{ ASK("authz-test", "{\"source\":\"spiffe://a/b\",\"destination\":\"any\",\"port\":1}"),
	  "EINVAL", "authz-test: destination: any: it does not begin with spiffe://" },
	{ ASK("authz-test", "{\"source\":\"any\",\"destination\":\"any\"}"), "EINVAL",
	  "authz-test: port: is required" },
	{ ASK("peer-add", "{\"prefix\":\"10.0.0.0/8\",\"id\":\"x\",\"ports\":[1]}"), "EINVAL",
	  "peer-add: ports: only with bypass" },
	{ ASK("peer-add", "{\"prefix\":\"10.0.0.1/40\",\"id\":\"x\"}"), "EINVAL",
	  "peer-add: prefix: 10.0.0.1/40: length must be 0 to 32" },
	{ ASK("peer-add", "{\"prefix\":\"fd00::/129\",\"id\":\"x\"}"), "EINVAL",
	  "peer-add: prefix: fd00::/129: length must be 0 to 128" },
	{ ASK("peer-add", "{\"prefix\":\"10.0.0.1/8\",\"id\":\"x\"}"), "EINVAL",
	  "peer-add: prefix: 10.0.0.1/8: bits set beyond the length" },
	{ ASK("peer-del", "{\"prefix\":\"host\"}"), "EINVAL",
	  "peer-del: prefix: host: not ADDRESS or ADDRESS/LEN" },
	{ ASK("flows", "{\"all\":true}"), "EINVAL", "flows: all: unknown argument" },
	{ ASK("flows", "{\"port\":0}"), "EINVAL", "flows: port: must be a number from 1 to 65535" },
	{ ASK("flows", "{\"state\":\"open\"}"), "EINVAL",
	  "flows: state: open: must be handshake, confirmed, established or closing" },
	{ ASK("flows", "{\"state\":\"unknown\"}"), "EINVAL",
	  "flows: state: unknown: must be handshake, confirmed, established or closing" },
	{ ASK("flows", "{\"peer\":\"10.0.0.1/8\"}"), "EINVAL",
	  "flows: peer: 10.0.0.1/8: not ADDRESS or ADDRESS/LEN" },
	{ ASK("top", "{\"count\":1}"), "EINVAL", "top: count: unknown argument" },
	{ ASK("check", "{\"fix\":true}"), "EINVAL", "check: fix: unknown argument" },
	{ ASK("monitor", "{\"reason\":\"because\"}"), "EINVAL",
	  "monitor: reason: because: must be the name of a reason code" },
	{ ASK("monitor", "{\"reason\":\"unknown\"}"), "EINVAL",
	  "monitor: reason: unknown: must be the name of a reason code" },
	{ ASK("settings-set", "{\"name\":\"identity.key_type\",\"value\":\"rsa\"}"), "EINVAL",
	  "identity.key_type: rsa: must be ec-p256, ec-p384, rsa-2048, rsa-3072 or rsa-4096" },
	{ ASK("identity-show", "{\"pod\":\"a\"}"), "EINVAL",
	  "identity-show: pod: unknown argument" },
	{ ASK("identity-renew", "{\"pod\":\"\"}"), "EINVAL",
	  "identity-renew: pod: must be a string that is not empty" },
	{ ASK("identity-ca", "{\"key\":true}"), "EINVAL", "identity-ca: key: unknown argument" },
	{ ASK("settings-set", "{\"name\":\"log_level\"}"), "EINVAL",
	  "settings-set: value: is required" },
	{ ASK("settings-set", "{\"name\":\"log_level\",\"value\":\"loud\"}"), "EINVAL",
	  "log_level: loud: must be error, warning, info or debug" },
	{ ASK("settings-set", "{\"name\":\"limits.handshakes\",\"value\":\"-1\"}"), "EINVAL",
	  "limits.handshakes: -1: must be a number from 0 to 1048576" },
	{ ASK("udp", "{\"port\":53}"), "EINVAL", "udp: port: unknown argument" },
	{ ASK("udp", "{\"pod\":\"\"}"), "EINVAL", "udp: pod: must be a string that is not empty" },
	{ ASK("udp", "{\"peer\":\"10.0.0.1/8\"}"), "EINVAL",
	  "udp: peer: 10.0.0.1/8: not ADDRESS or ADDRESS/LEN" },
	{ ASK("status", "{\"x\":1}"), "EINVAL", "status: x: unknown argument" },
	{ ASK("log", "{\"level\":\"loud\"}"), "EINVAL",
	  "log: level: loud: must be error, warning, info or debug" },
	{ ASK("log", "{\"level\":7}"), "EINVAL", "log: level: must be a string that is not empty" },
	{ ASK("log", "{\"level\":\"error\"}"), NULL,
	  "{\"version\":1,\"ok\":true,\"result\":{\"level\":\"error\",\"before\":\"info\"}}\n" },
	{ ASK("log", "{\"level\":\"info\"}"), NULL,
	  "{\"version\":1,\"ok\":true,\"result\":{\"level\":\"info\",\"before\":\"error\"}}\n" },
};

static void check_request(const struct kmtls_control_verb *table, const struct request *request)
{
	struct kmtls_text answer = { .limit = 0 };
	char expected[1024];
	int before = calls;

	assert_int_equal(kmtls_control_answer(&daemon_, table, request->line, strlen(request->line),
					      &answer),
			 0);
	if (request->name)
		snprintf(expected, sizeof(expected),
			 "{\"version\":1,\"ok\":false,\"error\":{\"errno\":\"%s\",\"message\":\"%"
			 "s\"}}\n",
			 request->name, request->message);
	else
		snprintf(expected, sizeof(expected), "%s", request->message);
	assert_int_equal(answer.bytes[answer.length - 1], '\n');
	answer.bytes[strchr(expected, '*') ? strcspn(expected, "*") : answer.length - 1] = '\0';
	expected[strcspn(expected, "*\n")] = '\0';
	assert_string_equal(answer.bytes, expected);
	if (request->name && !strcmp(request->name, "EINVAL"))
		assert_int_equal(calls, before); /* refused before anything was done */
	kmtls_text_free(&answer);
}

static void test_requests(void **state)
{
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		check_request(verbs, &requests[i]);
}

static void test_real_table(void **state)
{
	for (size_t i = 0; i < sizeof(real_requests) / sizeof(real_requests[0]); i++)
		check_request(kmtls_control_verbs, &real_requests[i]);
}

static void test_answer_limit(void **state)
{
	static const struct kmtls_control_verb *const table = verbs;
	const char *line = ASK("large", "{\"ports\":[65535]}");
	struct kmtls_text answer = { .limit = 0 }, text = { .limit = 4 };

	/* 65535 KiB fit into 64 MiB. */
	assert_int_equal(kmtls_control_answer(&daemon_, table, line, strlen(line), &answer), 0);
	assert_true(answer.length > 65535 * 1024);
	assert_memory_equal(answer.bytes, "{\"version\":1,\"ok\":true,", 23);
	kmtls_text_free(&answer);
	assert_int_equal(kmtls_text_append(&text, "12345", 5), -E2BIG);
	assert_int_equal(kmtls_text_append(&text, "1", 1), -E2BIG); /* sticks */
	kmtls_text_free(&text);
	assert_int_equal(kmtls_text_append(&text, "1234", 4), 0);
	kmtls_text_free(&text);
}

static int run_too_large(struct kmtls_daemon *daemon, const json_t *arguments,
			 struct kmtls_text *result, char *ret_why)
{
	run_large(daemon, arguments, result, ret_why);
	run_large(daemon, arguments, result, ret_why);
	return 0; /* a handler need not look */
}

static void test_answer_beyond_limit(void **state)
{
	static const struct kmtls_control_verb table[] = {
		{ .name = "huge",
		  .arguments = { { "ports", KMTLS_CONTROL_PORTS, true } },
		  .run = run_too_large },
		{ .name = NULL },
	};
	static const struct request request = { ASK("huge", "{\"ports\":[40000]}"), "E2BIG",
						"huge: the answer is longer than 64 MiB" };

	check_request(table, &request);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_real_table),
		cmocka_unit_test(test_answer_limit),
		cmocka_unit_test(test_answer_beyond_limit),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("control_request", tests, NULL, NULL);
}
