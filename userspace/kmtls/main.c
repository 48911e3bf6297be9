/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the command line: global options and one table of verbs. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmtls/control.h"

#include "cli.h"

#define POLICY_WHERE "[--namespace NS | --pod POD] [--port N] [--inbound | --outbound]"

static const struct {
	const char *verb, *action; /* action NULL: the verb has none */
	int (*run)(struct kmtls_cli *cli, int argc, char **argv);
	const char *arguments, *summary;
} commands[] = {
	{ "pod", "add", kmtls_cmd_pod_add,
	  "NAME --netns PATH --cgroup PATH --id ID [--connect held|at-once] [--accel "
	  "(off|on|auto)]",
	  "enrol a pod" },
	{ "pod", "del", kmtls_cmd_pod_delete, "NAME", "remove a pod; its flows are reset" },
	{ "pod", "list", kmtls_cmd_pod_list, "", "show enrolled pods" },
	{ "peer", "add", kmtls_cmd_peer_add,
	  "PREFIX (--id ID | [--namespace NS] --trust-domain TD | --bypass [--port N]...)",
	  "say who is behind an address, or leave it in the clear" },
	{ "peer", "del", kmtls_cmd_peer_delete, "PREFIX", "forget a peer" },
	{ "peer", "load", kmtls_cmd_peer_load,
	  "FILE|- [--replace] [--dry-run | --diff] [--bpf-dir DIR]", "load peers from a file" },
	{ "peer", "list", kmtls_cmd_peer_list, "", "show peers" },
	{ "authz", "add", kmtls_cmd_authz_add, "(allow|deny|dry-run) SOURCE DESTINATION [--port N]",
	  "say who may connect to whom, or may not" },
	{ "authz", "del", kmtls_cmd_authz_delete, "SOURCE DESTINATION [--port N]",
	  "forget an authorization" },
	{ "authz", "list", kmtls_cmd_authz_list, "", "show authorizations" },
	{ "authz", "default", kmtls_cmd_authz_default, "[allow|deny]",
	  "show or set what holds where no authorization decides" },
	{ "authz", "test", kmtls_cmd_authz_test, "SOURCE-ID DESTINATION-ID PORT",
	  "tell what would be decided, and by what" },
	{ "policy", "show", kmtls_cmd_policy_show, "[POD] [--port N]",
	  "show modes, or what holds for a pod and what decides it" },
	{ "policy", "set", kmtls_cmd_policy_set, "(off|permissive|strict) " POLICY_WHERE " [--now]",
	  "say what must be encrypted: for the mesh, a namespace, a pod or a port" },
	{ "policy", "unset", kmtls_cmd_policy_unset, POLICY_WHERE " [--now]",
	  "say nothing there any more" },
	{ "policy", "dry-run", kmtls_cmd_policy_dry_run, "(off|permissive|strict) " POLICY_WHERE,
	  "tell what setting it would change" },
	{ "apply", NULL, kmtls_cmd_apply,
	  "-f FILE|- [--diff | --dry-run] [--prune] [--bpf-dir DIR]",
	  "make the policy what a file declares, all or nothing" },
	{ "explain", NULL, kmtls_cmd_explain, "SRC DST[:PORT] [--udp] | --flow ID",
	  "tell why a connection is encrypted, in plaintext or refused" },
	{ "flows", NULL, kmtls_cmd_flows,
	  "[--pod NAME] [--peer PREFIX] [--id ID] [--port N] [--state STATE] [-w [--interval S]]",
	  "show flows" },
	{ "udp", NULL, kmtls_cmd_udp, "[--pod NAME] [--peer PREFIX] [-w [--interval S]]",
	  "show what pods send and receive in the clear by UDP" },
	{ "monitor", NULL, kmtls_cmd_monitor, "[--pod NAME] [--reason REASON]",
	  "show what happens, as it happens" },
	{ "top", NULL, kmtls_cmd_top, "[--pod NAME] [-n COUNT] [--once] [--interval S]",
	  "show which pods send how much to whom, live" },
	{ "identity", "renew", kmtls_cmd_identity_renew, "[POD]",
	  "have SVIDs issued anew, of a pod or of all" },
	{ "identity", "ca", kmtls_cmd_identity_ca, "show [--backend NAME] [--key]",
	  "print the certificate of the CA that issues, or of another backend's" },
	{ "identity", NULL, kmtls_cmd_identity, "",
	  "show pods' SVIDs, when they are renewed, and where they come from" },
	{ "metrics", NULL, kmtls_cmd_metrics, "", "print what Prometheus would be told" },
	{ "settings", "get", kmtls_cmd_settings_get, "[NAME]",
	  "show the configuration as it is now" },
	{ "settings", "set", kmtls_cmd_settings_set, "NAME VALUE",
	  "change what can be changed at run time" },
	{ "dump", NULL, kmtls_cmd_dump, "[FILE]",
	  "write all there is to know, without secrets, for whoever is to help" },
	{ "check", NULL, kmtls_cmd_check, "[--bpf-dir DIR]",
	  "look whether all that the mesh needs is there and works" },
	{ "status", NULL, kmtls_cmd_status, "", "show the daemon's state and counters" },
	{ "upgrade", NULL, kmtls_cmd_upgrade, "[--program PATH]",
	  "replace the daemon by a new version of itself; flows go on" },
	{ "log", NULL, kmtls_cmd_log, "LEVEL", "set the daemon's log level" },
	{ "hash", NULL, kmtls_cmd_hash, "TEXT", "print the map key of an identity or a name" },
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void put_command(FILE *to, size_t i)
{
	fprintf(to, "kmtls %s%s%s%s%s", commands[i].verb, commands[i].action ? " " : "",
		commands[i].action ? commands[i].action : "", *commands[i].arguments ? " " : "",
		commands[i].arguments);
}

static void put_usage(FILE *to)
{
	fprintf(to, "usage: kmtls [--socket PATH] [--json] [--version] [--help] VERB ...\n\n");
	for (size_t i = 0; i < COMMANDS; i++) {
		fprintf(to, "  ");
		put_command(to, i);
		fprintf(to, "\n        %s\n", commands[i].summary);
	}
	fprintf(to, "\nSee kmtls(8).\n");
}

static void put_error(const struct kmtls_cli *cli, const char *format, va_list list)
{
	char text[1024];

	vsnprintf(text, sizeof(text), format, list);
	for (char *c = text; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
	fprintf(stderr, "kmtls%s%s: %s\n", *cli->verb ? " " : "", cli->verb, text);
}

void kmtls_cli_error(const struct kmtls_cli *cli, const char *format, ...)
{
	va_list list;

	if (cli->quiet)
		return;
	va_start(list, format);
	if (cli->why)
		vsnprintf(cli->why, cli->why_size, format, list);
	else
		put_error(cli, format, list);
	va_end(list);
}

int kmtls_cli_usage(const struct kmtls_cli *cli, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	put_error(cli, format, list);
	va_end(list);
	return KMTLS_EXIT_USAGE;
}

/* Options before the verb. -1: go on at *ret_next; otherwise an exit status. */
static int take_globals(struct kmtls_cli *cli, int argc, char **argv, int *ret_next)
{
	int i;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--help")) {
			put_usage(stdout);
			return KMTLS_EXIT_OK;
		}
		if (!strcmp(argv[i], "--version")) {
			printf("kmtls %s\n", KMTLS_VERSION);
			return KMTLS_EXIT_OK;
		}
		if (!strcmp(argv[i], "--json"))
			cli->json = true;
		else if (!strcmp(argv[i], "--socket") && i + 1 < argc && *argv[i + 1])
			cli->socket = argv[++i];
		else if (!strcmp(argv[i], "--socket"))
			return kmtls_cli_usage(cli, "--socket: a path is missing");
		else if (!strncmp(argv[i], "--socket=", 9) && argv[i][9])
			cli->socket = argv[i] + 9;
		else
			return kmtls_cli_usage(cli, "%s: unknown option, see kmtls --help",
					       argv[i]);
	}
	*ret_next = i;
	return -1;
}

static int unknown_command(struct kmtls_cli *cli, const char *verb, const char *action)
{
	char actions[64] = "";
	bool known = false;

	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i].verb, verb))
			continue;
		known = true;
		snprintf(actions + strlen(actions), sizeof(actions) - strlen(actions), "%s%s",
			 *actions ? ", " : "", commands[i].action);
	}
	if (!known)
		return kmtls_cli_usage(cli, "%s: unknown verb, see kmtls --help", verb);
	cli->verb = verb;
	if (!action)
		return kmtls_cli_usage(cli, "an action is missing: %s", actions);
	return kmtls_cli_usage(cli, "%s: unknown action, there are: %s", action, actions);
}

static bool wants_help(int argc, char **argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--"); i++) {
		if (!strcmp(argv[i], "--help"))
			return true;
	}
	return false;
}

static int run_command(struct kmtls_cli *cli, int argc, char **argv)
{
	static char verb[32];

	for (size_t i = 0; i < COMMANDS; i++) {
		int words = commands[i].action ? 2 : 1;

		if (argc < words || strcmp(commands[i].verb, argv[0]) ||
		    (words == 2 && strcmp(commands[i].action, argv[1])))
			continue;
		if (wants_help(argc - words, argv + words)) {
			printf("usage: ");
			put_command(stdout, i);
			printf("\n%s\n", commands[i].summary);
			return KMTLS_EXIT_OK;
		}
		snprintf(verb, sizeof(verb), "%s%s%s", commands[i].verb, words == 2 ? " " : "",
			 words == 2 ? commands[i].action : "");
		cli->verb = verb;
		return commands[i].run(cli, argc - words, argv + words);
	}
	if (wants_help(argc, argv)) {
		put_usage(stdout);
		return KMTLS_EXIT_OK;
	}
	return unknown_command(cli, argv[0], argc > 1 ? argv[1] : NULL);
}

/* Arguments travel as JSON, which is UTF-8; anything else would arrive as something else. */
static bool all_utf8(int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		json_t *string = json_string(argv[i]);

		if (!string)
			return false;
		json_decref(string);
	}
	return true;
}

int main(int argc, char **argv)
{
	const char *environment = getenv("KMTLS_SOCKET");
	struct kmtls_cli cli = { .socket = KMTLS_CONTROL_SOCKET, .verb = "" };
	int next = 0, status;

	if (environment && *environment)
		cli.socket = environment;
	status = take_globals(&cli, argc, argv, &next);
	if (status < 0 && next == argc) {
		put_usage(stderr);
		status = KMTLS_EXIT_USAGE;
	}
	if (status < 0 && !all_utf8(argc, argv))
		status = kmtls_cli_usage(&cli, "arguments must be UTF-8");
	if (status < 0)
		status = run_command(&cli, argc - next, argv + next);
	/* A list cut short by a full disk must not look complete. */
	if (fflush(stdout) || ferror(stdout)) {
		kmtls_cli_error(&cli, "standard output: %s", strerror(errno));
		status = status ? status : KMTLS_EXIT_REFUSED;
	}
	return status;
}
