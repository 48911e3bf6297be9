/* SPDX-License-Identifier: Apache-2.0 */
/* keeper_open.c - see keeper_open.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bpf_loader.h"
#include "cgroup.h"
#include "cleanup.h"
#include "daemon.h"
#include "flow_table.h"
#include "handover.h"
#include "keeper.h"
#include "keeper_open.h"
#include "ktls.h"
#include "log.h"
#include "netns.h"
#include "pods.h"
#include "rekey.h"
#include "sandbox.h"
#include "secret_region.h"
#include "shared.h"

/* What was open when this keeper began: a predecessor's, for workers to find. */
static struct kmtls_descriptor_set found;

/* Two sockets of a flow and the pipes of both directions. */
#define FLOW_DESCRIPTORS 6
/* Ours: eight of a pod, the rest is little. */
#define OWN_DESCRIPTORS (8 * KMTLS_PODS_MAX + 4096)

static rlim_t wanted_descriptors(unsigned max_flows)
{
	return (rlim_t)FLOW_DESCRIPTORS * max_flows + OWN_DESCRIPTORS;
}

static void raise_descriptor_limit(unsigned max_flows)
{
	rlim_t wanted = wanted_descriptors(max_flows);
	struct rlimit limit, raised = { .rlim_cur = wanted, .rlim_max = wanted };

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
		return;
	if (limit.rlim_max < wanted && setrlimit(RLIMIT_NOFILE, &raised) == 0)
		return;
	limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* How many flows there are descriptors for. No more than that are taken: flows that have sockets
 * and find no pipe would wait for each other. */
static unsigned count_usable(unsigned max_flows)
{
	rlim_t wanted = wanted_descriptors(max_flows), own;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
		return max_flows;
	own = limit.rlim_cur / 4 < OWN_DESCRIPTORS ? limit.rlim_cur / 4 : OWN_DESCRIPTORS;
	if ((limit.rlim_cur - own) / FLOW_DESCRIPTORS < max_flows)
		max_flows = (limit.rlim_cur - own) / FLOW_DESCRIPTORS;
	log_warning("few descriptors", "limit=%llu wanted=%llu flows=%u",
		    (unsigned long long)limit.rlim_cur, (unsigned long long)wanted, max_flows);
	return max_flows;
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

/* Two daemons on one set of maps would free each other's flows, and two in one run_dir enrol each
 * other's pods. The lock goes along with the descriptor, from keeper to keeper. file: in the
 * directory, or "." for itself: bpffs has no files. */
static int take_lock(const char *key, const char *directory, const char *file, char *ret_why)
{
	char path[PATH_MAX];
	int fd;

	if (mkdir(directory, 0700) < 0 && errno != EEXIST) {
		int err = -errno;

		snprintf(ret_why, KMTLS_WHY, "%.150s: cannot be made: %s", directory,
			 strerror(-err));
		return err;
	}
	snprintf(path, sizeof(path), "%s/%s", directory, file);
	fd = open(path,
		  file[0] == '.' ? O_RDONLY | O_DIRECTORY | O_CLOEXEC
				 : O_RDWR | O_CREAT | O_CLOEXEC,
		  0600);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	if (errno == EWOULDBLOCK)
		snprintf(ret_why, KMTLS_WHY,
			 "%.100s: another kmtlsd runs with this %s (--take-over takes its place)",
			 directory, key);
	else
		snprintf(ret_why, KMTLS_WHY, "%.150s: %s", directory, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -EBUSY;
}

static __u64 new_instance(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec * 1000000000ull + now.tv_nsec) ^ (__u64)getpid() << 44;
}

static int open_fresh(struct kmtls_daemon *daemon, int *ret_shared_fd, char *ret_why)
{
	int err;

	snprintf(ret_why, KMTLS_WHY, "no shared memory");
	err = kmtls_shared_create(&daemon->shared, ret_shared_fd);
	if (err)
		return err;
	daemon->shared->lock_fd = take_lock("run_dir", daemon->config->run_dir, "lock", ret_why);
	if (daemon->shared->lock_fd < 0)
		return daemon->shared->lock_fd;
	daemon->shared->maps_lock_fd = take_lock("bpf_dir", daemon->config->bpf_dir, ".", ret_why);
	if (daemon->shared->maps_lock_fd < 0)
		return daemon->shared->maps_lock_fd;
	err = kmtls_secret_region_create(daemon->config->max_flows, &daemon->secrets,
					 &daemon->shared->secret_fd, ret_why);
	kmtls_keeper_commit(daemon);
	return err;
}

/* What a predecessor has left; nothing of it is changed yet. */
static int open_inherited(struct kmtls_daemon *daemon, struct kmtls_config *config, int shared_fd,
			  char *ret_why)
{
	unsigned pinned = kmtls_bpf_pinned_entries(config->bpf_dir, KMTLS_MAP_FLOWS);
	int err;

	close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	err = kmtls_shared_map(shared_fd, &daemon->shared, ret_why);
	if (!err)
		err = kmtls_secret_region_map(daemon->shared->secret_fd, &daemon->secrets, ret_why);
	if (err)
		return err;
	daemon->inherited = daemon->gated = true;
	if (!pinned) {
		snprintf(ret_why, KMTLS_WHY, "%.150s: the flow table is not here", config->bpf_dir);
		return -ENOENT;
	}
	if (pinned != config->max_flows)
		log_warning("max_flows stays until the next full start", "now=%u configured=%u",
			    pinned, config->max_flows);
	config->max_flows = pinned;
	/* The ledger: programs of pods count in it. A predecessor may not have had one. */
	pinned = kmtls_bpf_pinned_entries(config->bpf_dir, KMTLS_MAP_UDP_LEDGER);
	if (pinned && pinned != config->max_udp_peers) {
		log_warning("max_udp_peers stays until the next full start", "now=%u configured=%u",
			    pinned, config->max_udp_peers);
		config->max_udp_peers = pinned;
	}
	return 0;
}

/* Asks the kernel what it can; the secrets themselves are workers' business. */
static int open_rekey(struct kmtls_daemon *daemon, char *ret_why)
{
	const struct kmtls_config *config = daemon->config;
	const struct kmtls_rekey_options options = {
		.wanted = config->rekey,
		.close_at_limit = config->close_at_key_limit,
		.limit = config->key_limit,
	};

	snprintf(ret_why, KMTLS_WHY, "out of memory");
	return kmtls_rekey_open(&options, kmtls_secret_of_flow(daemon->secrets, 0),
				config->max_flows, &daemon->rekey);
}

/*
 * An accepted socket is in the cgroup of its listener, and the program that remembers destinations
 * is attached there: a successor elsewhere would not know where adopted pods' connects want to go.
 */
static int check_cgroup(struct kmtls_daemon *daemon, char *ret_why)
{
	struct stat status;

	if (fstat(daemon->cgroup_fd, &status) < 0)
		return -errno;
	if (!daemon->inherited)
		daemon->shared->cgroup = status.st_ino;
	if (daemon->shared->cgroup == status.st_ino)
		return 0;
	snprintf(ret_why, KMTLS_WHY,
		 "the predecessor runs in another cgroup: set `cgroup` in both configurations");
	return -EXDEV;
}

/* The kernel's part, the same for all. */
static int open_kernel(struct kmtls_daemon *daemon, char *ret_why)
{
	const struct kmtls_config *config = daemon->config;
	int err;

	err = probe_ktls(ret_why);
	if (!err)
		err = kmtls_netns_init();
	if (err)
		return err;
	daemon->cgroup_fd = kmtls_cgroup_enter(config->cgroup, ret_why);
	if (daemon->cgroup_fd < 0)
		return daemon->cgroup_fd;
	err = check_cgroup(daemon, ret_why);
	if (err)
		return err;
	err = kmtls_bpf_open(config, &daemon->bpf, ret_why);
	if (!err)
		kmtls_accel_open(daemon);
	if (!err)
		err = kmtls_flow_table_open(daemon->bpf, config->max_flows,
					    config->limits.flows_per_pod, daemon->inherited,
					    &daemon->flows, ret_why);
	if (err)
		return err;
	err = open_rekey(daemon, ret_why);
	if (err)
		return err;
	daemon->flows->usable = count_usable(config->max_flows);
	daemon->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	daemon->go_fd = eventfd(0, EFD_CLOEXEC);
	return daemon->wake_fd < 0 || daemon->go_fd < 0 ? -errno : 0;
}

int kmtls_keeper_open(struct kmtls_daemon *daemon, struct kmtls_config *config,
		      const struct kmtls_keeper_options *options, int *ret_shared_fd,
		      int *ret_predecessor, char *ret_why)
{
	int shared_fd = options->inherit_fd, err;

	raise_descriptor_limit(config->max_flows);
	if (options->take_over) {
		*ret_predecessor = kmtls_handover_receive(options->take_over, &shared_fd, ret_why);
		if (*ret_predecessor < 0)
			return *ret_predecessor;
	}
	if (shared_fd >= 0) {
		err = kmtls_descriptor_set_fill(&found);
		if (!err)
			err = open_inherited(daemon, config, shared_fd, ret_why);
	} else {
		err = open_fresh(daemon, &shared_fd, ret_why);
	}
	if (err)
		return err;
	*ret_shared_fd = shared_fd;
	if (*ret_predecessor >= 0)
		kmtls_descriptor_set_remove(&found, *ret_predecessor);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		kmtls_descriptor_set_remove(&found, fd);
	kmtls_descriptor_set_remove(&found, shared_fd);
	kmtls_descriptor_set_remove(&found, daemon->shared->secret_fd);
	kmtls_descriptor_set_remove(&found, daemon->shared->lock_fd);
	kmtls_descriptor_set_remove(&found, daemon->shared->maps_lock_fd);
	return open_kernel(daemon, ret_why);
}

static int remove_found(void *context, int fd)
{
	if (kmtls_descriptor_set_has(&found, fd))
		kmtls_descriptor_set_remove(context, fd);
	return 0;
}

int kmtls_keeper_mark_core(struct kmtls_daemon *daemon)
{
	int err = kmtls_descriptor_set_fill(&daemon->core);

	if (!err)
		err = kmtls_descriptors_visit(remove_found, &daemon->core);
	kmtls_descriptor_set_free(&found);
	return err;
}

void kmtls_keeper_commit(struct kmtls_daemon *daemon)
{
	daemon->shared->instance = new_instance();
	daemon->shared->keeper = getpid();
	daemon->shared->stopping = false;
}

int kmtls_keeper_open_signals(int *ret_fd)
{
	static const int taken[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };
	sigset_t signals;

	sigemptyset(&signals);
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		sigaddset(&signals, taken[i]);
	sigprocmask(SIG_SETMASK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN); /* splice has no MSG_NOSIGNAL */
	*ret_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return *ret_fd < 0 ? -errno : 0;
}

void kmtls_keeper_pass_on_signals(int fd, pid_t successor)
{
	struct signalfd_siginfo signal;

	while (successor > 0 && read(fd, &signal, sizeof(signal)) == sizeof(signal))
		if (signal.ssi_signo != SIGCHLD)
			kill(successor, (int)signal.ssi_signo);
}

void kmtls_keeper_settle(void)
{
	if (kmtls_sandbox_oom(-1000) < 0)
		log_warning("the kernel may kill the keeper for memory", "err=%s",
			    kmtls_log_quote(strerror(errno)));
	/* The tables of a worker are touched where flows are: two megabytes at a time are too many. */
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	/* Orphans of a successor that fails come here. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}
