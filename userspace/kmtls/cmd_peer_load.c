/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_peer_load.c - kmtls peer load: a file of peers, checked as a whole before anything is
 * written. The daemon is only asked where its maps are.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "cli.h"
#include "json.h"
#include "match.h"
#include "peer_maps.h"

struct load {
	const char *path; /* for messages */
	bool replace, dry_run, diff;
	struct kmtls_peer_file file;
	struct kmtls_peer_table before;
	struct kmtls_peer_plan plan;
	struct kmtls_peer_maps maps;
};

static const char *const actions[KMTLS_PEER_ACTIONS] = { "added", "changed", "deleted" };

/* ---- the file ---- */

static int read_file(struct kmtls_cli *cli, struct load *load)
{
	/* One byte more than may be, so that the parser sees that it is too long. */
	__cleanup_text struct kmtls_text text = { .limit = KMTLS_PEER_FILE_MAX + 65536 };
	struct kmtls_peer_file_error error = { .line = 0 };
	int err = kmtls_options_read(&load->path, &text);

	if (err && err != -E2BIG)
		return kmtls_cli_usage(cli, "%s: %s", load->path, strerror(-err));
	err = kmtls_peer_file_parse(text.bytes ? text.bytes : "",
				    err ? KMTLS_PEER_FILE_MAX + 1u : text.length, &load->file,
				    &error);
	if (err == -ENOMEM)
		kmtls_cli_error(cli, "out of memory");
	else if (err && error.line)
		kmtls_cli_usage(cli, "%s:%u: %s", load->path, error.line, error.rule);
	else if (err)
		kmtls_cli_usage(cli, "%s: %s", load->path, error.rule);
	return err == -ENOMEM ? KMTLS_EXIT_REFUSED : err ? KMTLS_EXIT_USAGE : 0;
}

/* ---- what it says ---- */

static bool is_time(void)
{
	static struct timespec last;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if ((now.tv_sec - last.tv_sec) * 1000 + (now.tv_nsec - last.tv_nsec) / 1000000 < 100)
		return false;
	last = now;
	return true;
}

static void show_progress(const char *what, size_t done, size_t total)
{
	if (done == total)
		fprintf(stderr, "\r\033[K");
	else if (is_time())
		fprintf(stderr, "\r%s: %zu of %zu\033[K", what, done, total);
	fflush(stderr);
}

static int compare_names(const void *a, const void *b)
{
	const struct kmtls_peer_name *left = a, *right = b;

	return (left->hash > right->hash) - (left->hash < right->hash);
}

/* An entry as a line of a file has it. */
static void format_value(struct load *load, const struct kmtls_peer_value *value,
			 struct kmtls_text *text)
{
	char id[KMTLS_SPIFFE_ID_MAX + 1], word[32];

	if (value->kind == KMTLS_PEER_BYPASS) {
		kmtls_text_append_string(text, "--bypass");
		for (unsigned i = 0; i < value->port_count && i < KMTLS_BYPASS_PORTS; i++) {
			snprintf(word, sizeof(word), " --port %u", value->ports[i]);
			kmtls_text_append_string(text, word);
		}
		return;
	}
	kmtls_peer_maps_name(&load->maps, value->identity, id);
	if (!*id) {
		const struct kmtls_peer_name key = { .hash = value->identity }, *name;

		name = bsearch(&key, load->file.names, load->file.name_count, sizeof(key),
			       compare_names);
		if (name)
			strcpy(id, name->text);
	}
	snprintf(word, sizeof(word), "%s ",
		 value->kind != KMTLS_PEER_MESH ? "unknown" : kmtls_match_name(value->match));
	kmtls_text_append_string(text, word);
	kmtls_text_append_string(text, *id ? id : "(no text)");
}

static json_t *describe(struct load *load, const struct kmtls_peer_value *value)
{
	__cleanup_text struct kmtls_text text = { .limit = 0 };

	format_value(load, value, &text);
	return json_stringn(text.bytes, text.length);
}

static void put_step(struct load *load, unsigned action, const struct kmtls_peer_step *step,
		     json_t *list)
{
	json_t *before = action == KMTLS_PEER_ADD ? NULL : describe(load, &step->before);
	json_t *after = action == KMTLS_PEER_DELETE ? NULL : describe(load, &step->after);
	char prefix[KMTLS_ENDPOINT_TEXT];

	kmtls_prefix_format(&step->key, prefix, sizeof(prefix));
	if (list) {
		json_array_append_new(list, json_pack("{s:s, s:s, s:o*, s:o*}", "prefix", prefix,
						      "action", actions[action], "before", before,
						      "after", after));
		return;
	}
	if (before)
		printf("- %s %s\n", prefix, json_string_value(before));
	if (after)
		printf("+ %s %s\n", prefix, json_string_value(after));
	json_decref(before);
	json_decref(after);
}

static void put_diff(struct load *load, json_t *list)
{
	for (unsigned action = 0; action < KMTLS_PEER_ACTIONS; action++)
		for (size_t i = 0; i < load->plan.count[action]; i++)
			put_step(load, action, &load->plan.steps[load->plan.first[action] + i],
				 list);
}

static void put_result(const struct kmtls_cli *cli, struct load *load, bool written)
{
	const size_t *count = load->plan.count;
	__cleanup_json json_t *result = NULL;

	if (!cli->json) {
		if (load->diff)
			put_diff(load, NULL);
		printf("%zu %s, %zu changed, %zu deleted, %zu unchanged%s\n", count[KMTLS_PEER_ADD],
		       "added", count[KMTLS_PEER_CHANGE], count[KMTLS_PEER_DELETE],
		       load->plan.unchanged, written ? "" : " (nothing was written)");
		return;
	}
	result = json_pack("{s:I, s:I, s:I, s:I, s:b}", "added", (json_int_t)count[KMTLS_PEER_ADD],
			   "changed", (json_int_t)count[KMTLS_PEER_CHANGE], "deleted",
			   (json_int_t)count[KMTLS_PEER_DELETE], "unchanged",
			   (json_int_t)load->plan.unchanged, "written", (int)written);
	if (load->diff) {
		json_t *list = json_array();

		put_diff(load, list);
		json_object_set_new(result, "changes", list);
	}
	kmtls_client_print(result);
}

/* ---- the verb ---- */

static int run(struct kmtls_cli *cli, struct load *load)
{
	bool write = !load->dry_run && !load->diff;
	char why[KMTLS_PEER_MAPS_WHY] = "out of memory";
	int err = kmtls_peer_maps_read(&load->maps, &load->before, why);

	if (!err)
		err = kmtls_peer_plan_make(&load->before, &load->file.table, load->replace,
					   &load->plan);
	if (!err && write) {
		load->maps.progress = isatty(STDERR_FILENO) ? show_progress : NULL;
		err = kmtls_peer_maps_apply(&load->maps, &load->file, &load->plan, why);
	}
	if (err) {
		kmtls_cli_error(cli, "%s", why);
		return KMTLS_EXIT_REFUSED;
	}
	put_result(cli, load, write);
	return KMTLS_EXIT_OK;
}

int kmtls_cmd_peer_load(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "FILE", NULL };
	struct load load = { .maps = { .lock_fd = -1 } };
	__cleanup_json json_t *status = NULL;
	char why[KMTLS_PEER_MAPS_WHY];
	const char *directory = NULL;
	const struct kmtls_option options[] = {
		{ .name = "--replace", .flag = &load.replace },
		{ .name = "--dry-run", .flag = &load.dry_run },
		{ .name = "--diff", .flag = &load.diff },
		{ .name = "--bpf-dir", .values = &directory, .limit = 1 },
		{ .name = NULL },
	};
	int err = kmtls_options_parse(cli, argc, argv, options, names, &load.path);

	if (!err)
		err = read_file(cli, &load);
	if (err)
		return err;
	err = kmtls_client_directory(cli, &directory, &status);
	if (!err && kmtls_peer_maps_open(directory, &load.maps, why)) {
		kmtls_cli_error(cli, "%s", why);
		err = KMTLS_EXIT_REFUSED;
	} else if (!err) {
		err = run(cli, &load);
		kmtls_peer_maps_close(&load.maps);
	}
	kmtls_peer_plan_free(&load.plan);
	kmtls_peer_table_free(&load.before);
	kmtls_peer_file_free(&load.file);
	return err;
}
