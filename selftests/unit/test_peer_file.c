/* SPDX-License-Identifier: Apache-2.0 */
/* test_peer_file.c - files of peers: what is read, which rule is named, and what must be written. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "address.h"
#include "hash.h"
#include "peer_file.h"

static struct kmtls_peer_file_error error;

static int parse(const char *text, struct kmtls_peer_file *ret_file)
{
	memset(&error, 0, sizeof(error));
	return kmtls_peer_file_parse(text, strlen(text), ret_file, &error);
}

static const struct kmtls_peer_value *find(const struct kmtls_peer_file *file, const char *prefix)
{
	const struct kmtls_peer_entry *entry;
	struct kmtls_peer_key key;

	assert_int_equal(kmtls_prefix_parse(prefix, &key), 0);
	entry = kmtls_peer_table_find(&file->table, &key);
	assert_non_null(entry);
	return &entry->value;
}

static void reads(void **state)
{
	struct kmtls_peer_file file;
	const struct kmtls_peer_value *value;

	assert_int_equal(
		parse("# peers\n"
		      "\n"
		      "10.0.0.2 --id spiffe://example.org/ns/shop/sa/db\n"
		      "\t 10.96.0.0/16  --namespace shop\t--trust-domain=example.org # all\n"
		      "fd00:2::/64 --trust-domain example.org #\n"
		      "fd00:3::/64 --id=spiffe://example.org/ns/shop/sa/db\n"
		      "10.0.0.53/32 --port 53 --bypass --port=9153\n"
		      "0.0.0.0/0 --bypass",
		      &file),
		0);
	assert_int_equal(file.table.count, 6);
	assert_int_equal(file.name_count, 3);
	value = find(&file, "10.0.0.2");
	assert_int_equal(value->kind, KMTLS_PEER_MESH);
	assert_int_equal(value->match, KMTLS_MATCH_EXACT);
	assert_true(value->identity == kmtls_hash_text("spiffe://example.org/ns/shop/sa/db"));
	assert_memory_equal(value, find(&file, "fd00:3::/64"), sizeof(*value));
	value = find(&file, "10.96.0.0/16");
	assert_int_equal(value->match, KMTLS_MATCH_NAMESPACE);
	assert_true(value->identity == kmtls_hash_text("spiffe://example.org/ns/shop"));
	value = find(&file, "fd00:2::/64");
	assert_int_equal(value->match, KMTLS_MATCH_TRUST_DOMAIN);
	assert_true(value->identity == kmtls_hash_text("spiffe://example.org"));
	value = find(&file, "10.0.0.53");
	assert_int_equal(value->kind, KMTLS_PEER_BYPASS);
	assert_true(value->identity == 0);
	assert_int_equal(value->match, 0);
	assert_int_equal(value->port_count, 2);
	assert_int_equal(value->ports[0], 53);
	assert_int_equal(value->ports[1], 9153);
	assert_int_equal(find(&file, "0.0.0.0/0")->port_count, 0);
	for (size_t i = 0; i < file.name_count; i++) {
		assert_true(file.names[i].hash == kmtls_hash_text(file.names[i].text));
		assert_true(!i || file.names[i - 1].hash < file.names[i].hash);
	}
	kmtls_peer_file_free(&file);
	assert_int_equal(parse("", &file), 0);
	assert_int_equal(file.table.count, 0);
	kmtls_peer_file_free(&file);
}

#define GOOD "10.0.0.1 --bypass\n"
#define ID " --id spiffe://td/a"
#define NEEDED "--id ID, --trust-domain TD or --bypass: one of them is needed"
#define EXCLUDE "--id, --trust-domain and --bypass exclude each other"

static void refuses(void **state)
{
	static const struct {
		const char *text;
		unsigned line;
		const char *rule;
	} rows[] = {
		{ "x --bypass", 1, "x: must be an IP address or ADDRESS/LENGTH" },
		{ GOOD "\n# c\n10.0.0.0/33 --bypass\n", 4,
		  "10.0.0.0/33: prefix length must be 0 to 32" },
		{ "fd00::/129 --bypass", 1, "fd00::/129: prefix length must be 0 to 128" },
		{ "10.0.0.1/8 --bypass", 1, "10.0.0.1/8: bits are set beyond the prefix length" },
		{ "10.0.0.2", 1, NEEDED },
		{ "10.0.0.2 # --bypass", 1, NEEDED },
		{ "10.0.0.2 --namespace shop", 1,
		  "--namespace: only together with --trust-domain" },
		{ "10.0.0.2 --namespace shop --bypass", 1,
		  "--namespace: only together with --trust-domain" },
		{ "10.0.0.2 --bypass" ID, 1, EXCLUDE },
		{ "10.0.0.2 --trust-domain td" ID, 1, EXCLUDE },
		{ "10.0.0.2 --trust-domain td --bypass", 1, EXCLUDE },
		{ "10.0.0.2" ID ID, 1, "--id: is given twice" },
		{ "10.0.0.2 --port 1" ID, 1, "--port: only together with --bypass" },
		{ "10.0.0.2 --bypass --port 0", 1, "--port 0: must be a number from 1 to 65535" },
		{ "10.0.0.2 --bypass --port 65536", 1,
		  "--port 65536: must be a number from 1 to 65535" },
		{ "10.0.0.2 --bypass --port 080x", 1,
		  "--port 080x: must be a number from 1 to 65535" },
		{ "10.0.0.2 --bypass --port 5 --port 5", 1, "--port 5: is given twice" },
		{ "10.0.0.2 --bypass --port 1 --port 2 --port 3 --port 4 --port 5 --port 6 --port "
		  "7 "
		  "--port 8 --port 9",
		  1, "--port: at most 8 of them" },
		{ "10.0.0.2 --bypass --port", 1, "--port: a value is missing" },
		{ "10.0.0.2 --id --bypass", 1, "--id: a value is missing" },
		{ "10.0.0.2 --id= --bypass", 1, "--id: a value is missing" },
		{ "10.0.0.2 --bypass=1", 1, "--bypass: takes no value" },
		{ "10.0.0.2 --byp", 1, "--byp: unknown option" },
		{ "10.0.0.2 mesh", 1, "mesh: unexpected word" },
		{ "10.0.0.2 a b c d e f g h i j k l m n o p q r s t u v w x y z", 1,
		  "too many words" },
		{ "10.0.0.2 --id http://td/a", 1,
		  "--id http://td/a: it does not begin with spiffe://" },
		{ "10.0.0.2 --id spiffe://td", 1,
		  "--id spiffe://td: it names a trust domain, not a workload" },
		{ "10.0.0.2 --namespace a/b --trust-domain td", 1,
		  "--namespace a/b --trust-domain td: the namespace has a slash" },
		{ "10.0.0.2 --trust-domain TD", 1,
		  "--trust-domain TD: the trust domain has an upper-case letter" },
		{ "10.0.0.2 --bypass\r\n", 1, "a carriage return: lines end with a newline alone" },
		{ "10.0.0.2 --id spiffe://td/\xc3\xa4", 1, "a byte that is not printable ASCII" },
		{ "10.0.0.2 --bypass\x1b", 1, "a byte that is not printable ASCII" },
		/* Each prefix once, also where both lines say the same. */
		{ GOOD GOOD, 2, "10.0.0.1/32: is on line 1 already" },
		{ GOOD "10.0.0.1/32" ID, 2, "10.0.0.1/32: is on line 1 already" },
		{ "fd00::/16 --bypass\n10.9.0.0/16 --bypass\n10.9.0.0/16" ID "\nfd00::/16" ID, 3,
		  "10.9.0.0/16: is on line 2 already" },
		{ "::ffff:10.0.0.1 --bypass\n" GOOD, 2, "10.0.0.1/32: is on line 1 already" },
	};
	struct kmtls_peer_file file;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (parse(rows[i].text, &file) != -EINVAL)
			fail_msg("accepted: %s", rows[i].text);
		if (error.line != rows[i].line || strcmp(error.rule, rows[i].rule) != 0)
			fail_msg("%s: line %u: %s", rows[i].text, error.line, error.rule);
	}
}

static void refuses_bytes(void **state)
{
	char *big = malloc(KMTLS_PEER_FILE_MAX + 1);
	struct kmtls_peer_file file;

	assert_int_equal(kmtls_peer_file_parse("# a\0b\n", 6, &file, &error), -EINVAL);
	assert_string_equal(error.rule, "a zero byte");
	assert_non_null(big);
	memset(big, '#', KMTLS_PEER_FILE_MAX + 1);
	assert_int_equal(kmtls_peer_file_parse(big, KMTLS_PEER_LINE_MAX, &file, &error), 0);
	kmtls_peer_file_free(&file);
	assert_int_equal(kmtls_peer_file_parse(big, KMTLS_PEER_LINE_MAX + 1, &file, &error),
			 -EINVAL);
	assert_int_equal(error.line, 1);
	assert_string_equal(error.rule, "the line is longer than 4096 bytes");
	assert_int_equal(kmtls_peer_file_parse(big, KMTLS_PEER_FILE_MAX + 1, &file, &error),
			 -EINVAL);
	assert_int_equal(error.line, 0);
	assert_string_equal(error.rule, "longer than 64 MiB");
	free(big);
}

static void plans(void **state)
{
	struct kmtls_peer_file before, wanted;
	struct kmtls_peer_plan plan;

	assert_int_equal(parse("10.0.0.1 --bypass\n10.0.0.2 --bypass\n10.0.0.3 --bypass\n"
			       "10.0.0.0/8 --bypass\n",
			       &before),
			 0);
	assert_int_equal(parse("10.0.0.2 --bypass --port 1\n10.0.0.3 --bypass\n10.0.0.4 --bypass\n"
			       "10.0.0.0/9 --bypass\n",
			       &wanted),
			 0);
	assert_int_equal(kmtls_peer_plan_make(&before.table, &wanted.table, true, &plan), 0);
	assert_int_equal(plan.count[KMTLS_PEER_ADD], 2);
	assert_int_equal(plan.count[KMTLS_PEER_CHANGE], 1);
	assert_int_equal(plan.count[KMTLS_PEER_DELETE], 2);
	assert_int_equal(plan.unchanged, 1);
	assert_int_equal(plan.total, 5);
	assert_int_equal(plan.first[KMTLS_PEER_DELETE], 3);
	assert_int_equal(plan.steps[2].before.port_count, 0);
	assert_int_equal(plan.steps[2].after.port_count, 1);
	assert_int_equal(plan.steps[2].key.address.bytes[15], 2);
	assert_int_equal(plan.steps[3].key.prefix_len, 104);
	assert_int_equal(plan.steps[4].key.address.bytes[15], 1);
	kmtls_peer_plan_free(&plan);
	/* Without replace nothing is deleted. */
	assert_int_equal(kmtls_peer_plan_make(&before.table, &wanted.table, false, &plan), 0);
	assert_int_equal(plan.count[KMTLS_PEER_DELETE], 0);
	assert_int_equal(plan.unchanged, 3);
	kmtls_peer_plan_free(&plan);
	assert_int_equal(kmtls_peer_plan_make(&before.table, &before.table, true, &plan), 0);
	assert_int_equal(plan.total, 0);
	kmtls_peer_plan_free(&plan);
	kmtls_peer_file_free(&before);
	kmtls_peer_file_free(&wanted);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads),
		cmocka_unit_test(refuses),
		cmocka_unit_test(refuses_bytes),
		cmocka_unit_test(plans),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("peer_file", tests, NULL, NULL);
}
