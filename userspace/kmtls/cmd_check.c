/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_check.c - kmtls check: is everything there that the mesh needs, and does it work. Marks as
 * `linkerd check` has them. What can be seen without the daemon is looked at without it.
 */
#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "cleanup.h"
#include "json.h"
#include "table.h"

#define BPF_DIR "/sys/fs/bpf/kmtls"

static const char *const level_names[] = { "ok", "warning", "failed" };

void kmtls_check_add(struct kmtls_check *check, enum kmtls_check_level level, const char *name,
		     const char *advice, const char *format, ...)
{
	__cleanup_free char *sentence = NULL;
	va_list list;

	va_start(list, format);
	if (vasprintf(&sentence, format, list) < 0)
		sentence = NULL;
	va_end(list);
	if (json_array_append_new(check->findings,
				  json_pack("{s:s, s:s, s:s, s:o, s:o}", "group", check->group,
					    "name", name, "level", level_names[level], "text",
					    kmtls_json_string(sentence ? sentence : ""), "advice",
					    kmtls_json_string(advice ? advice : ""))) < 0)
		kmtls_table_out_of_memory();
}

static enum kmtls_check_level level_of(const json_t *finding)
{
	const char *name = json_string_value(json_object_get(finding, "level"));
	unsigned level = KMTLS_CHECK_FAILED;

	while (level && strcmp(level_names[level], name))
		level--;
	return (enum kmtls_check_level)level;
}

static enum kmtls_check_level worst_of(const json_t *findings)
{
	enum kmtls_check_level worst = KMTLS_CHECK_OK;
	const json_t *finding;
	size_t i;

	json_array_foreach (findings, i, finding) {
		if (level_of(finding) > worst)
			worst = level_of(finding);
	}
	return worst;
}

static void print_finding(const json_t *finding)
{
	static const enum kmtls_colour colours[] = { KMTLS_GREEN, KMTLS_YELLOW, KMTLS_RED };
	static const char *const signs[] = { "√", "‼", "×" }, *const ascii[] = { "ok", "!!", "XX" };
	bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	const char *advice = json_string_value(json_object_get(finding, "advice"));
	enum kmtls_check_level level = level_of(finding);
	const char *code;

	code = kmtls_table_code(colours[level]);
	printf("  %s%s%s ", code, utf8 ? signs[level] : ascii[level], *code ? "\033[0m" : "");
	kmtls_table_put(KMTLS_PLAIN, json_string_value(json_object_get(finding, "text")));
	putchar('\n');
	if (level != KMTLS_CHECK_OK && *advice)
		printf("  %*s %s\n", utf8 ? 1 : 2, "", advice);
}

static void print_findings(const json_t *findings)
{
	static const char *const ends[] = { "all is fine", "there are warnings",
					    "something is wrong" };
	const char *group = "";
	const json_t *finding;
	size_t i;

	json_array_foreach (findings, i, finding) {
		const char *of = json_string_value(json_object_get(finding, "group"));

		if (strcmp(of, group)) {
			if (i)
				putchar('\n');
			kmtls_table_put(KMTLS_BOLD, of);
			putchar('\n');
		}
		group = of;
		print_finding(finding);
	}
	printf("\nresult: %s\n", ends[worst_of(findings)]);
}

/* The daemon's own answer, the option, what is the default. */
static const char *find_directory(const struct kmtls_check *check, const char *option)
{
	const char *told = json_string_value(json_object_get(check->status, "bpf_dir"));

	return option ? option : told ? told : BPF_DIR;
}

static void run(struct kmtls_check *check, const char *bpf_dir)
{
	kmtls_check_ask_daemon(check);
	check->bpf_dir = find_directory(check, bpf_dir);
	kmtls_check_kernel(check);
	kmtls_check_maps(check);
	kmtls_check_links(check);
	kmtls_check_daemon(check);
	kmtls_check_identity(check);
}

json_t *kmtls_check_report(struct kmtls_cli *cli, const char *bpf_dir)
{
	struct kmtls_check check = { .cli = cli, .findings = json_array() };
	json_t *report;

	run(&check, bpf_dir);
	report = json_pack("{s:s, s:o, s:o}", "result", level_names[worst_of(check.findings)],
			   "bpf_dir", kmtls_json_string(check.bpf_dir), "checks", check.findings);
	json_decref(check.status);
	json_decref(check.pods);
	json_decref(check.probes);
	return report;
}

int kmtls_cmd_check(struct kmtls_cli *cli, int argc, char **argv)
{
	const char *bpf_dir = NULL;
	const struct kmtls_option options[] = {
		{ .name = "--bpf-dir", .values = &bpf_dir, .limit = 1 },
		{ .name = NULL },
	};
	int err = kmtls_options_parse(cli, argc, argv, options, NULL, NULL);
	__cleanup_json json_t *report = NULL;
	const json_t *findings;

	if (!err && bpf_dir && bpf_dir[0] != '/')
		err = kmtls_cli_usage(cli, "--bpf-dir %s: must be an absolute path", bpf_dir);
	if (err)
		return err;
	setlocale(LC_CTYPE, "");
	report = kmtls_check_report(cli, bpf_dir);
	findings = json_object_get(report, "checks");
	if (cli->json)
		kmtls_client_print(report);
	else
		print_findings(findings);
	return worst_of(findings) == KMTLS_CHECK_FAILED ? KMTLS_EXIT_REFUSED : KMTLS_EXIT_OK;
}
