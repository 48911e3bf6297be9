/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.c - see worker.h. Start-up is a ladder. Flows come first: those a worker before this
 * one left move again within milliseconds; identity, pods and new connections follow.
 */
#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "authorization.h"
#include "bpf_loader.h"
#include "clock.h"
#include "control.h"
#include "counters.h"
#include "crl.h"
#include "daemon.h"
#include "expiry.h"
#include "flow_table.h"
#include "handshake.h"
#include "denials.h"
#include "hold.h"
#include "identity.h"
#include "key_memory.h"
#include "log.h"
#include "loop.h"
#include "metrics_server.h"
#include "pods.h"
#include "modes.h"
#include "pressure.h"
#include "refusals.h"
#include "rekey.h"
#include "resumption.h"
#include "review.h"
#include "sandbox.h"
#include "secret_region.h"
#include "settings.h"
#include "shared.h"
#include "sources.h"
#include "takeover.h"
#include "tls.h"
#include "worker.h"

static unsigned count_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* More loops than flows would have nothing to do. */
static unsigned count_loops(const struct kmtls_config *config)
{
	unsigned loops = config->workers ? config->workers : count_cpus();

	return loops < config->max_flows ? loops : config->max_flows;
}

static int open_identities(struct kmtls_daemon *daemon, char *ret_why)
{
	const struct kmtls_shared *shared = daemon->shared;
	const struct kmtls_identities_options options = {
		.config = daemon->config,
		.secrets = daemon->secrets,
		/* A keeper's first worker looks at files, the others need not. */
		.prefer_kept = !daemon->gated && shared->configured_by == shared->instance,
		.not_taken = &daemon->shared->identity_not_taken,
	};
	int err;

	kmtls_tls_configure(&(struct kmtls_tls_options){
		.rekey = daemon->rekey->offered,
		.prefer_chacha20 = daemon->config->prefer_chacha20,
	});
	err = kmtls_identities_open(&options, &daemon->identities, ret_why);
	if (err)
		atomic_fetch_add(&daemon->shared->identity_refused, 1);
	return err;
}

/* ---- after an upgrade: nothing is touched before the old version is gone ---- */

static int prepare(struct kmtls_daemon *daemon, char *why)
{
	eventfd_t go;
	int err;

	err = open_identities(daemon, why);
	if (err)
		return err;
	atomic_store(&daemon->shared->prepared, daemon->shared->starts);
	eventfd_write(daemon->wake_fd, 1);
	return eventfd_read(daemon->go_fd, &go) < 0 ? -errno : 0;
}

/* ---- start ---- */

/* What the configuration says goes into the maps once, at the start of a keeper: from then on
 * the maps are the truth. */
static int configure(struct kmtls_daemon *daemon, char *why)
{
	struct kmtls_shared *shared = daemon->shared;
	int err;

	if (shared->configured_by == shared->instance)
		return 0;
	err = kmtls_bpf_attach_daemon(daemon->bpf, daemon->cgroup_fd, why);
	if (!err)
		err = kmtls_modes_apply_config(daemon->bpf, daemon->config, why);
	if (!err)
		err = kmtls_authorization_apply_config(daemon->bpf, daemon->config, why);
	if (!err)
		atomic_store(&shared->configured_by, shared->instance);
	return err;
}

static int open_limits(struct kmtls_daemon *daemon)
{
	const struct kmtls_config *config = daemon->config;
	int err;

	kmtls_settings_restore(daemon);
	kmtls_refusals_set_lines(config->limits.refusal_lines);
	err = kmtls_sources_open(config->limits.handshakes_per_source, config->limits.handshakes,
				 config->max_flows + daemon->loops->count, &daemon->sources);
	if (!err)
		err = kmtls_resumption_open(&daemon->resumption);
	if (!err)
		err = kmtls_pressure_open(daemon->cgroup_fd, config->limits.memory_percent,
					  &daemon->pressure);
	return err;
}

/* New connections, from here on. */
static int open_rest(struct kmtls_daemon *daemon, struct kmtls_takeover *takeover, char *why)
{
	int err = configure(daemon, why);

	if (!err)
		err = open_limits(daemon);
	if (!err && !daemon->identities)
		err = open_identities(daemon, why);
	if (!err)
		err = kmtls_pods_open(daemon, daemon->cgroup_fd, &daemon->pods, why);
	if (!err)
		err = kmtls_hold_open(daemon, &daemon->hold, why);
	if (!err)
		err = kmtls_denials_open(daemon, &daemon->denials, why);
	if (err)
		return err;
	kmtls_review_tick(daemon); /* before anyone new asks: what cannot be read is known */
	kmtls_identities_keep(daemon->identities);
	kmtls_pods_restore(daemon->pods);
	kmtls_crl_tick(daemon); /* pods have brought the CAs that CRLs are checked by */
	kmtls_takeover_finish(takeover);
	err = kmtls_loops_admit(daemon->loops, daemon, why);
	if (!err)
		err = kmtls_metrics_server_open(daemon, &daemon->metrics);
	return err ? err : kmtls_control_open(daemon, &daemon->control, why);
}

static void tell_ready(struct kmtls_daemon *daemon)
{
	const struct kmtls_config *config = daemon->config;

	log_info("ready", "version=%s openssl=%s node=%s workers=%u max_flows=%u control=%s",
		 KMTLS_VERSION, OpenSSL_version(OPENSSL_FULL_VERSION_STRING),
		 kmtls_log_quote(config->node), daemon->loops->count, config->max_flows,
		 kmtls_log_quote(config->control_socket));
	atomic_store(&daemon->shared->ready, daemon->shared->starts);
	eventfd_write(daemon->wake_fd, 1);
}

/*
 * A burst of handshakes leaves as much in the heap as all of them needed at once. When a second has
 * passed without a new one, the kernel gets it back.
 */
static void trim_memory(void)
{
	static unsigned seen, trimmed;
	unsigned begun = kmtls_handshake_begun();

	if (begun == seen && begun != trimmed) {
		malloc_trim(0);
		trimmed = begun;
	}
	seen = begun;
}

static void tick(struct kmtls_daemon *daemon)
{
	atomic_fetch_add(&daemon->shared->heartbeat, 1);
	kmtls_pods_tick(daemon->pods);
	kmtls_counters_flush(daemon->bpf);
	kmtls_denials_tick(daemon->denials);
	kmtls_refusals_tick();
	kmtls_clock_tick();
	kmtls_expiry_tick(daemon);
	trim_memory();
}

/* Until a signal says stop; the daemon's once-a-second work meanwhile, and twice a second a look
 * whether authorizations, or SVIDs that others issue, have changed. */
static void serve(struct kmtls_daemon *daemon)
{
	const struct timespec half_a_second = { .tv_nsec = 500000000 };
	bool whole_second = false;
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, KMTLS_WORKER_DRAIN);
	for (int signal; (signal = sigtimedwait(&signals, NULL, &half_a_second)) != SIGTERM;) {
		if (signal == KMTLS_WORKER_DRAIN)
			kmtls_loops_drain(daemon->loops);
		kmtls_review_tick(daemon);
		kmtls_crl_tick(daemon);
		kmtls_identities_tick(daemon->identities);
		kmtls_pods_look_for_svids(daemon->pods);
		if (whole_second)
			tick(daemon);
		whole_second = !whole_second;
	}
}

/* Asked by the keeper to stop: flows end, listeners close. Killed by anyone else it just goes, and
 * the next worker carries on. */
static void stop(struct kmtls_daemon *daemon)
{
	if (!daemon->shared->stopping)
		return;
	log_info("stopping", NULL);
	kmtls_control_close(daemon->control);
	kmtls_metrics_server_close(daemon->metrics);
	kmtls_loops_close(daemon->loops);
	kmtls_counters_flush(daemon->bpf);
	kmtls_denials_close(daemon->denials);
	kmtls_hold_close(daemon->hold);
	kmtls_pressure_close(daemon->pressure);
	kmtls_sources_close(daemon->sources);
	kmtls_resumption_close(daemon->resumption);
	kmtls_pods_close(daemon->pods);
	kmtls_identities_close(daemon->identities);
}

static int run(struct kmtls_daemon *daemon, char *why)
{
	struct kmtls_takeover *takeover = NULL;
	int err;

	err = kmtls_takeover_open(daemon, &takeover, why);
	if (err)
		return err;
	if (daemon->gated)
		err = prepare(daemon, why);
	if (err)
		return err;
	kmtls_takeover_begin(takeover);
	err = kmtls_loops_open(daemon, count_loops(daemon->config), &daemon->loops, why);
	if (err)
		return err;
	atomic_store(&daemon->shared->serving, daemon->shared->starts);
	err = open_rest(daemon, takeover, why);
	kmtls_takeover_close(takeover);
	if (err)
		return err;
	tell_ready(daemon);
	serve(daemon);
	stop(daemon);
	return 0;
}

static void *run_thread(void *argument)
{
	struct kmtls_daemon *daemon = argument;
	char why[KMTLS_WHY] = "";
	int err = run(daemon, why);

	if (err)
		log_error("cannot start", "err=%s", kmtls_log_quote(why[0] ? why : strerror(-err)));
	if (err && daemon->gated)
		snprintf(daemon->shared->why, sizeof(daemon->shared->why), "%s",
			 why[0] ? why : strerror(-err));
	return (void *)(long)(err ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* The keeper's signals mean nothing here; the worker takes its two by sigtimedwait(). */
static void set_signals(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, KMTLS_WORKER_DRAIN);
	sigprocmask(SIG_SETMASK, &signals, NULL);
}

static int enter_sandbox(struct kmtls_daemon *daemon)
{
	char why[KMTLS_WHY] = "";
	int err = kmtls_sandbox_enter(daemon->config, why);

	if (err)
		log_error("cannot start", "err=%s", kmtls_log_quote(why));
	if (err && daemon->gated)
		snprintf(daemon->shared->why, sizeof(daemon->shared->why), "%s", why);
	return err;
}

static void open_key_memory(void)
{
	int err = kmtls_key_memory_open();

	if (err)
		log_warning("private keys in ordinary memory", "err=%s",
			    kmtls_log_quote(strerror(-err)));
}

int kmtls_worker_run(struct kmtls_daemon *daemon)
{
	pthread_t thread;
	void *status = (void *)(long)EXIT_FAILURE;

	/* Without a keeper there is nobody to go on after us: both die, and applications get a
	 * reset rather than a connection that nobody serves. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != daemon->keeper)
		return EXIT_FAILURE;
	prctl(PR_SET_NAME, "kmtlsd-worker");
	prctl(PR_SET_DUMPABLE, 0); /* there are keys in its memory */
	set_signals();
	kmtls_secret_region_lock(daemon->secrets);
	open_key_memory();
	if (enter_sandbox(daemon) < 0)
		return EXIT_FAILURE;
	kmtls_counters_open(daemon->shared->counters);
	kmtls_clock_open(&daemon->shared->clock);
	if (daemon->shared->log_level)
		kmtls_log_set_level(daemon->shared->log_level);
	/* A raw clone() leaves this thread with the keeper's id in the C library's memory; threads
	 * made from here have their own. */
	if (pthread_create(&thread, NULL, run_thread, daemon) == 0)
		pthread_join(thread, &status);
	return (int)(long)status;
}
