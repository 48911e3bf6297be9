/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h - what the verbs of kmtls share: global options, exit statuses, checked arguments
 * and the call to the daemon. Each verb is one function in a cmd_*.c; main.c has the table.
 */
#ifndef KMTLS_CLI_H
#define KMTLS_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "kmtls/abi.h"

enum kmtls_exit {
	KMTLS_EXIT_OK = 0,
	KMTLS_EXIT_REFUSED = 1, /* by the daemon, or it cannot be reached */
	KMTLS_EXIT_USAGE = 2,
};

struct kmtls_cli {
	const char *socket; /* path of the control socket */
	const char *verb; /* "pod add", for messages; "" before it is known */
	bool json; /* print the daemon's result as it is */
	bool quiet; /* no errors: the caller tries again */
	char *why; /* errors go here, not to stderr; NULL: to stderr */
	size_t why_size;
};

/* One line on stderr: "kmtls VERB: ...". Control bytes become '?'. */
void kmtls_cli_error(const struct kmtls_cli *cli, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The same, for a wrong argument; returns KMTLS_EXIT_USAGE. */
int kmtls_cli_usage(const struct kmtls_cli *cli, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- options.c: strict, no abbreviations; each returns 0 or KMTLS_EXIT_USAGE ---------- */

struct kmtls_option {
	const char *name; /* "--netns"; NULL ends the list */
	bool *flag; /* for an option without a value, else NULL */
	const char **values; /* room for limit values */
	unsigned limit;
	unsigned *count; /* how often it was given; may be NULL */
};

/* Fills options and exactly the operands named (NULL-terminated); --json is understood
 * everywhere, "--" ends the options. */
int kmtls_options_parse(struct kmtls_cli *cli, int argc, char **argv,
			const struct kmtls_option *options, const char *const *operand_names,
			const char **ret_operands);

int kmtls_options_prefix(const struct kmtls_cli *cli, const char *text);
int kmtls_options_spiffe_id(const struct kmtls_cli *cli, const char *option, const char *text);
int kmtls_options_number(const struct kmtls_cli *cli, const char *option, const char *text,
			 unsigned from, unsigned to, unsigned *ret_number);
int kmtls_options_reason(const struct kmtls_cli *cli, const char *option, const char *text);
/* An existing path made absolute. *ret_path is freed by the caller. */
int kmtls_options_path(const struct kmtls_cli *cli, const char *option, const char *text,
		       char **ret_path);

/* All of a file ("-": standard input, which *path then says in words). -errno; -E2BIG beyond the
 * text's limit. */
struct kmtls_text;
int kmtls_options_read(const char **path, struct kmtls_text *text);

/* ---- client.c ------------------------------------------------------------------------- */

#define KMTLS_CLIENT_SECONDS 10 /* for most verbs */

/*
 * Asks the daemon; takes the reference to arguments (NULL: none). Prints what went wrong and
 * returns KMTLS_EXIT_REFUSED, or returns KMTLS_EXIT_OK with *ret_result to be put.
 */
int kmtls_client_call(const struct kmtls_cli *cli, const char *verb, json_t *arguments,
		      unsigned seconds, json_t **ret_result);
/*
 * The same for a verb after whose answer lines follow: *ret_events gives them, without end, and is
 * to be closed.
 */
int kmtls_client_subscribe(const struct kmtls_cli *cli, const char *verb, json_t *arguments,
			   json_t **ret_result, FILE **ret_events);
/* For verbs without a result of interest: calls, prints the result if --json. */
int kmtls_client_do(const struct kmtls_cli *cli, const char *verb, json_t *arguments,
		    unsigned seconds);
void kmtls_client_print(const json_t *result);
/* Where the daemon has pinned its maps; *ret_status holds the text. Nothing is asked if *directory
 * is set. */
int kmtls_client_directory(struct kmtls_cli *cli, const char **directory, json_t **ret_status);

/* ---- verbs: exit status --------------------------------------------------------------- */

int kmtls_cmd_pod_add(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_pod_delete(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_pod_list(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_peer_add(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_peer_delete(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_peer_load(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_peer_list(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_authz_add(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_authz_delete(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_authz_list(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_authz_default(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_authz_test(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_policy_show(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_policy_set(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_policy_unset(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_policy_dry_run(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_explain(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_apply(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_flows(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_udp(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_settings_get(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_settings_set(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_top(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_metrics(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_dump(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_monitor(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_check(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_identity(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_identity_renew(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_identity_ca(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_status(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_upgrade(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_log(struct kmtls_cli *cli, int argc, char **argv);
int kmtls_cmd_hash(struct kmtls_cli *cli, int argc, char **argv);

#endif
