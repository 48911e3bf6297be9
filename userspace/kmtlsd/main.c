/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - kmtlsd, the node daemon. Start-up is a ladder; what is pinned (programs, maps)
 * stays when the daemon goes, so that meshed connections are refused without it.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bpf_loader.h"
#include "cgroup.h"
#include "config.h"
#include "control.h"
#include "counters.h"
#include "daemon.h"
#include "flow_table.h"
#include "hold.h"
#include "identity.h"
#include "ktls.h"
#include "log.h"
#include "loop.h"
#include "netns.h"
#include "pods.h"
#include "policy.h"
#include "rekey.h"
#include "tls.h"

#define EXIT_USAGE 2

static const char usage[] =
	"usage: kmtlsd --config FILE\n"
	"       kmtlsd --uninstall --config FILE\n"
	"\n"
	"The kmtls node daemon: mutual TLS for enrolled pods, in the kernel.\n"
	"\n"
	"  --config FILE  configuration, see kmtlsd.conf(5)\n"
	"  --uninstall    remove every pinned program and map, and exit; enrolled pods\n"
	"                 then talk plaintext as if kmtls had never been there\n"
	"  --version      print the version and exit\n"
	"  --help         print this text and exit\n";

static unsigned count_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* Each has a share of the flow table, so there are not more than flows. */
static unsigned count_workers(const struct kmtls_config *config)
{
	unsigned workers = config->workers ? config->workers : count_cpus();

	return workers < config->max_flows ? workers : config->max_flows;
}

/* Two sockets a flow, a pipe per busy direction (few are busy at a time), some of our own. */
static void raise_descriptor_limit(unsigned max_flows)
{
	rlim_t wanted = 4ull * max_flows + 4096;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
		return;
	if (limit.rlim_max < wanted) {
		struct rlimit raised = { .rlim_cur = wanted, .rlim_max = wanted };

		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			return;
	}
	limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < wanted)
		log_warning("few descriptors", "limit=%llu wanted=%llu",
			    (unsigned long long)limit.rlim_cur, (unsigned long long)wanted);
}

static int probe_ktls(char *ret_why)
{
	int err = kmtls_ktls_probe();

	if (err == -ENOENT)
		snprintf(ret_why, KMTLS_WHY,
			 "this kernel has no TLS: load the module with `modprobe tls` (and list it "
			 "in /etc/modules-load.d/kmtls.conf)");
	else if (err)
		snprintf(ret_why, KMTLS_WHY, "kernel TLS does not work here: %s", strerror(-err));
	return err;
}

/* Blocks the signals that serve() takes, in every thread made from here on. */
static void block_signals(sigset_t *ret_signals)
{
	sigemptyset(ret_signals);
	sigaddset(ret_signals, SIGTERM);
	sigaddset(ret_signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, ret_signals, NULL);
	signal(SIGPIPE, SIG_IGN); /* splice has no MSG_NOSIGNAL */
}

/* Until a signal says stop; the daemon's once-a-second work meanwhile. */
static void serve(struct kmtls_daemon *daemon, const sigset_t *signals)
{
	const struct timespec second = { .tv_sec = 1 };
	int signal_number;

	do {
		signal_number = sigtimedwait(signals, NULL, &second);
		kmtls_pods_tick(daemon->pods);
		kmtls_counters_flush(daemon->bpf);
	} while (signal_number < 0);
	log_info("stopping", "signal=%s", strsignal(signal_number));
}

static int open_identity(struct kmtls_daemon *daemon, char *ret_why)
{
	const struct kmtls_config *config = daemon->config;
	struct kmtls_identity_builtin_options options = {
		.trust_domain = config->identity.trust_domain,
		.root_file = config->identity.builtin.root_file,
		.root_ttl = config->identity.builtin.root_ttl,
		.svid_ttl = config->identity.builtin.svid_ttl,
	};

	return kmtls_identity_builtin_open(&options, &daemon->identity, ret_why);
}

static int open_rekey(struct kmtls_daemon *daemon)
{
	const struct kmtls_config *config = daemon->config;
	const struct kmtls_rekey_options options = {
		.wanted = config->rekey,
		.close_at_limit = config->close_at_key_limit,
		.limit = config->key_limit,
	};
	int err = kmtls_rekey_open(&options, NULL, config->max_flows, &daemon->rekey);

	if (!err)
		kmtls_tls_configure(&(struct kmtls_tls_options){
			.rekey = daemon->rekey->offered,
			.prefer_chacha20 = config->prefer_chacha20,
		});
	return err;
}

static int run(const struct kmtls_config *config, char *why)
{
	struct kmtls_daemon daemon = { .config = config, .started = time(NULL) };
	unsigned workers = count_workers(config);
	sigset_t signals;
	int cgroup_fd, err;

	block_signals(&signals);
	raise_descriptor_limit(config->max_flows);
	err = probe_ktls(why);
	if (!err)
		err = kmtls_netns_init();
	if (err)
		return err;
	cgroup_fd = kmtls_cgroup_enter(config->cgroup, why);
	if (cgroup_fd < 0)
		return cgroup_fd;
	err = kmtls_bpf_open(config, cgroup_fd, &daemon.bpf, why);
	if (err)
		goto close_cgroup;
	err = kmtls_policy_apply_config(daemon.bpf, config, why);
	if (err)
		goto close_bpf;
	err = kmtls_flow_table_open(daemon.bpf, config->max_flows, &daemon.flows, why);
	if (err)
		goto close_bpf;
	err = open_rekey(&daemon);
	if (err)
		goto close_flows;
	err = open_identity(&daemon, why);
	if (err)
		goto close_rekey;
	err = kmtls_pods_open(&daemon, cgroup_fd, &daemon.pods, why);
	if (err)
		goto close_identity;
	err = kmtls_hold_open(&daemon, &daemon.hold, why);
	if (err)
		goto close_pods;
	err = kmtls_loops_open(&daemon, workers, &daemon.loops, why);
	if (err)
		goto close_hold;
	kmtls_pods_restore(daemon.pods);
	err = kmtls_control_open(&daemon, &daemon.control, why);
	if (err)
		goto close_loops;

	log_info("ready", "version=%s node=%s workers=%u max_flows=%u control=%s", KMTLS_VERSION,
		 kmtls_log_quote(config->node), workers, config->max_flows,
		 kmtls_log_quote(config->control_socket));
	serve(&daemon, &signals);

	kmtls_control_close(daemon.control);
close_loops:
	kmtls_loops_close(daemon.loops);
	kmtls_counters_flush(daemon.bpf);
close_hold:
	kmtls_hold_close(daemon.hold);
close_pods:
	kmtls_pods_close(daemon.pods);
close_identity:
	kmtls_identity_close(daemon.identity);
close_rekey:
	kmtls_rekey_close(daemon.rekey);
close_flows:
	kmtls_flow_table_close(daemon.flows);
close_bpf:
	kmtls_bpf_close(daemon.bpf);
close_cgroup:
	close(cgroup_fd);
	return err;
}

struct options {
	const char *config;
	bool uninstall;
};

/* Exits on --help, --version and wrong usage. */
static void parse_options(int argc, char **argv, struct options *ret_options)
{
	static const struct option known[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "uninstall", no_argument, NULL, 'u' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'c':
			ret_options->config = optarg;
			break;
		case 'u':
			ret_options->uninstall = true;
			break;
		case 'V':
			puts("kmtlsd " KMTLS_VERSION);
			exit(EXIT_SUCCESS);
		case 'h':
			fputs(usage, stdout);
			exit(EXIT_SUCCESS);
		default:
			fputs(usage, stderr);
			exit(EXIT_USAGE);
		}
	}
	if (optind < argc || !ret_options->config) {
		if (optind < argc)
			fprintf(stderr, "kmtlsd: %s: no such argument\n", argv[optind]);
		else
			fprintf(stderr, "kmtlsd: --config: is required\n");
		fputs(usage, stderr);
		exit(EXIT_USAGE);
	}
}

int main(int argc, char **argv)
{
	char error[KMTLS_CONFIG_ERROR], why[KMTLS_WHY] = "";
	struct options options = {};
	struct kmtls_config *config;
	int err;

	parse_options(argc, argv, &options);
	err = kmtls_config_load(options.config, &config, error);
	if (err) {
		fprintf(stderr, "kmtlsd: %s\n", error);
		return EXIT_USAGE;
	}
	kmtls_log_set_level(config->log_level);
	if (options.uninstall)
		err = kmtls_bpf_uninstall(config->bpf_dir, why);
	else
		err = run(config, why);
	kmtls_config_free(config);
	if (err)
		log_error("cannot start", "err=%s", kmtls_log_quote(why[0] ? why : strerror(-err)));
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
