/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - kmtlsd, the node daemon: its command line. What then stays is keeper.c, what works is
 * worker.c; what is pinned (programs, maps) stays when both go, so that meshed connections are
 * refused without them.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/limits.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "bpf_loader.h"
#include "config.h"
#include "handover.h"
#include "key_memory.h"
#include "keeper.h"
#include "log.h"
#include "pods.h"

#define EXIT_USAGE 2

static const char usage[] =
	"usage: kmtlsd --config FILE [--take-over SOCKET]\n"
	"       kmtlsd --uninstall --config FILE\n"
	"\n"
	"The kmtls node daemon: mutual TLS for enrolled pods, in the kernel.\n"
	"\n"
	"  --config FILE  configuration, see kmtlsd.conf(5)\n"
	"  --take-over SOCKET\n"
	"                 take everything over from the daemon behind this control socket,\n"
	"                 open connections included; that one ends when this one is ready\n"
	"  --uninstall    remove every pinned program and map, and exit; enrolled pods\n"
	"                 then talk plaintext as if kmtls had never been there\n"
	"  --version      print the versions of it and of OpenSSL, and exit\n"
	"  --help         print this text and exit\n";

struct options {
	bool uninstall;
	struct kmtls_keeper_options keeper;
};

/* A descriptor that a keeper has left open for its successor. Exits if it is none. */
static int parse_descriptor(const char *option, const char *text)
{
	char *end;
	long fd = strtol(text, &end, 10);

	if (*text && !*end && fd >= 0 && fd <= INT_MAX && fcntl((int)fd, F_GETFD) >= 0)
		return (int)fd;
	fprintf(stderr, "kmtlsd: %s: %s: is not an open descriptor\n", option, text);
	exit(EXIT_USAGE);
}

/* Exits on --help, --version and wrong usage. */
static void parse_options(int argc, char **argv, struct options *ret_options)
{
	static const struct option known[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "take-over", required_argument, NULL, 't' },
		{ "uninstall", no_argument, NULL, 'u' },
		/* A keeper executes its successor with these. */
		{ "inherit", required_argument, NULL, 'i' },
		{ "predecessor", required_argument, NULL, 'p' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{},
	};
	struct kmtls_keeper_options *keeper = &ret_options->keeper;
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'c':
			keeper->config_path = optarg;
			break;
		case 't':
			keeper->take_over = optarg;
			break;
		case 'i':
			keeper->inherit_fd = parse_descriptor("--inherit", optarg);
			break;
		case 'p':
			keeper->predecessor = parse_descriptor("--predecessor", optarg);
			break;
		case 'u':
			ret_options->uninstall = true;
			break;
		case 'V':
			printf("kmtlsd %s\nOpenSSL %s\n", KMTLS_VERSION,
			       OpenSSL_version(OPENSSL_FULL_VERSION_STRING));
			exit(EXIT_SUCCESS);
		case 'h':
			fputs(usage, stdout);
			exit(EXIT_SUCCESS);
		default:
			fputs(usage, stderr);
			exit(EXIT_USAGE);
		}
	}
	if (optind < argc || !keeper->config_path) {
		if (optind < argc)
			fprintf(stderr, "kmtlsd: %s: no such argument\n", argv[optind]);
		else
			fprintf(stderr, "kmtlsd: --config: is required\n");
		fputs(usage, stderr);
		exit(EXIT_USAGE);
	}
}

/* Where a new version of this program will be found. */
static const char *find_program(void)
{
	static const char deleted[] = " (deleted)";
	static char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (length < 0)
		return "/usr/sbin/kmtlsd";
	path[length] = '\0';
	if ((size_t)length > strlen(deleted) &&
	    strcmp(path + length - strlen(deleted), deleted) == 0)
		path[length - strlen(deleted)] = '\0';
	return path;
}

/* A successor that does not get as far as its keeper says so to its predecessor. */
static int refuse(const struct options *options, const char *why)
{
	fprintf(stderr, "kmtlsd: %s\n", why);
	if (options->keeper.predecessor >= 0)
		kmtls_handover_tell(options->keeper.predecessor, KMTLS_HANDOVER_FAILED, why);
	return EXIT_USAGE;
}

/* Is there a private key in the configuration itself? Then it is in this process's memory. */
static bool has_key(const struct kmtls_config *config)
{
	for (unsigned i = 0; i < config->identity.backends_count; i++)
		if (config->identity.backends[i].key)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	char error[KMTLS_CONFIG_ERROR], why[KMTLS_WHY] = "";
	struct options options = { .keeper = { .inherit_fd = -1, .predecessor = -1 } };
	struct kmtls_config *config;
	bool wipes = kmtls_key_memory_wipe_freed(); /* before anything of OpenSSL */
	int err;

	tzset(); /* the first line of the log would otherwise open a file, and allocate */
	parse_options(argc, argv, &options);
	if (!wipes)
		return refuse(&options, "OpenSSL does not let its memory be wiped");
	err = kmtls_config_load(options.keeper.config_path, &config, error);
	if (err)
		return refuse(&options, error);
	kmtls_log_set_level(config->log_level);
	if (has_key(config))
		prctl(PR_SET_DUMPABLE, 0);
	options.keeper.program = find_program();
	if (options.uninstall)
		err = kmtls_bpf_uninstall(config->bpf_dir, why);
	else
		err = kmtls_keeper_run(config, &options.keeper, why);
	kmtls_config_free(config);
	/* A worker that could not start has said why itself. */
	if (err && err != -ECHILD)
		log_error("cannot start", "err=%s", kmtls_log_quote(why[0] ? why : strerror(-err)));
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
