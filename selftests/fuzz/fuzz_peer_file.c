/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_peer_file.c - libFuzzer target: a file of peers as `kmtls peer load` reads it. Beside the
 * sanitizers: what was accepted is sorted and each prefix once, each mesh entry has its text, and
 * written out again it is read as the same.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iinclude -Iuserspace/lib \
 *       selftests/fuzz/fuzz_peer_file.c \
 *       userspace/lib/{peer_file,peer_table,match,spiffe,address,hash}.c -lcrypto
 *
 * Seeds: selftests/fuzz/corpus/peer_file.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "hash.h"
#include "match.h"
#include "peer_file.h"

#define REQUIRE(condition)                                           \
	do {                                                         \
		if (!(condition)) {                                  \
			fprintf(stderr, "broken: %s\n", #condition); \
			abort();                                     \
		}                                                    \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *find_text(const struct kmtls_peer_file *file, __u64 hash)
{
	for (size_t i = 0; i < file->name_count; i++)
		if (file->names[i].hash == hash)
			return file->names[i].text;
	return NULL;
}

static void write_entry(const struct kmtls_peer_file *file, const struct kmtls_peer_entry *entry,
			FILE *to)
{
	const struct kmtls_peer_value *value = &entry->value;
	char prefix[KMTLS_ENDPOINT_TEXT];
	const char *text, *rule, *path;

	fprintf(to, "%s", kmtls_prefix_format(&entry->key, prefix, sizeof(prefix)));
	if (value->kind == KMTLS_PEER_BYPASS) {
		fprintf(to, " --bypass");
		for (unsigned i = 0; i < value->port_count; i++)
			fprintf(to, " --port %u", value->ports[i]);
	} else {
		REQUIRE(value->kind == KMTLS_PEER_MESH);
		text = find_text(file, value->identity);
		REQUIRE(text && kmtls_match_check(value->match, text, strlen(text), &rule) == 0);
		path = strchr(text + strlen("spiffe://"), '/');
		if (value->match == KMTLS_MATCH_EXACT)
			fprintf(to, " --id=%s", text);
		else
			fprintf(to, " --trust-domain=%.*s",
				(int)(path ? path - text : (long)strlen(text)) - 9, text + 9);
		if (value->match == KMTLS_MATCH_NAMESPACE)
			fprintf(to, " --namespace=%s", path + strlen("/ns/"));
	}
	fputc('\n', to);
}

static void check(const struct kmtls_peer_file *file)
{
	struct kmtls_peer_file_error error;
	struct kmtls_peer_file again;
	struct kmtls_peer_plan plan;
	char *text = NULL;
	size_t length = 0;
	FILE *to = open_memstream(&text, &length);

	for (size_t i = 0; i < file->name_count; i++)
		REQUIRE(file->names[i].hash == kmtls_hash_text(file->names[i].text) &&
			(!i || file->names[i - 1].hash < file->names[i].hash));
	for (size_t i = 0; i < file->table.count; i++) {
		const struct kmtls_peer_entry *entry = &file->table.entries[i];

		REQUIRE(!i || kmtls_peer_key_compare(&entry[-1].key, &entry->key) < 0);
		REQUIRE(kmtls_peer_table_find(&file->table, &entry->key) == entry);
		write_entry(file, entry, to);
	}
	fclose(to);
	REQUIRE(kmtls_peer_file_parse(text, length, &again, &error) == 0);
	REQUIRE(again.name_count == file->name_count);
	REQUIRE(kmtls_peer_plan_make(&file->table, &again.table, true, &plan) == 0);
	REQUIRE(plan.total == 0 && plan.unchanged == file->table.count);
	kmtls_peer_plan_free(&plan);
	kmtls_peer_file_free(&again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kmtls_peer_file_error error = { .line = 0 };
	struct kmtls_peer_file file;

	if (kmtls_peer_file_parse((const char *)data, size, &file, &error)) {
		REQUIRE(error.rule[0] && strlen(error.rule) < sizeof(error.rule));
		return 0;
	}
	check(&file);
	kmtls_peer_file_free(&file);
	return 0;
}
