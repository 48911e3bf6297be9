/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_daemon.c - `kmtls check`, what only the daemon can tell: does it answer, do its processes
 * live, what the kernel lets it do (it tries anew), the pods' SVIDs, and the clock they live by.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "cleanup.h"
#include "json.h"
#include "table.h"

#define JUMP 30 /* seconds that the clock may differ from where it was at the daemon's start */

static long long number(const json_t *object, const char *key)
{
	return (long long)json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : "";
}

void kmtls_check_ask_daemon(struct kmtls_check *check)
{
	struct kmtls_cli cli = *check->cli;

	cli.why = check->down;
	cli.why_size = sizeof(check->down);
	if (kmtls_client_call(&cli, "status", NULL, KMTLS_CLIENT_SECONDS, &check->status) ||
	    kmtls_client_call(&cli, "pod-list", NULL, KMTLS_CLIENT_SECONDS, &check->pods) ||
	    kmtls_client_call(&cli, "check", NULL, KMTLS_CLIENT_SECONDS, &check->probes))
		return;
	check->down[0] = '\0';
}

static void check_process(struct kmtls_check *check, const char *name)
{
	pid_t pid = (pid_t)number(check->status, name);

	if (pid > 0 && (kill(pid, 0) == 0 || errno == EPERM))
		kmtls_check_add(check, KMTLS_CHECK_OK, name, NULL, "the %s runs, pid %d", name,
				(int)pid);
	else
		kmtls_check_add(check, KMTLS_CHECK_FAILED, name,
				"look at the daemon's log; run kmtls in the daemon's pid namespace",
				"the %s, pid %d, is not there", name, (int)pid);
}

static void check_tls(struct kmtls_check *check)
{
	const char *error = text(check->probes, "tls_error");

	if (*error)
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "tls",
				"run `modprobe tls` and list tls in /etc/modules-load.d/kmtls.conf",
				"the daemon cannot use kernel TLS now: %s", error);
	else
		kmtls_check_add(check, KMTLS_CHECK_OK, "tls", NULL,
				"the daemon can use kernel TLS now");
}

static void check_rekey(struct kmtls_check *check)
{
	const char *error = text(check->probes, "rekey_error");
	bool offered = json_is_true(json_object_get(check->probes, "rekey_offered"));

	if (offered && !*error)
		kmtls_check_add(check, KMTLS_CHECK_OK, "rekey", NULL,
				"keys of flows are replaced before they wear out");
	else if (offered)
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "rekey", "restart kmtlsd",
				"the daemon promises to replace keys, and the kernel cannot: %s",
				error);
	else if (!*error)
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "rekey",
				"set rekey: auto (kmtlsd.conf(5))",
				"the kernel can replace keys, the daemon does not");
	else
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "rekey",
				"run a kernel of 6.14 or later, or see key_limit in kmtlsd.conf(5)",
				"the kernel cannot replace keys (%s): one is meant for %lld bytes",
				error, number(check->probes, "key_limit"));
}

/* What is off by itself is no fault: auto keeps from applications what they would notice. */
static void check_accel(struct kmtls_check *check)
{
	const char *error = text(check->probes, "accel_error");
	const char *defects = text(check->probes, "accel_defects");
	const char *preset = text(check->probes, "accel_default");

	if (*error && !strcmp(preset, "on"))
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "accel",
				"set accel: auto (kmtlsd.conf(5))",
				"accel: the default is on, and off is what pods get: %s", error);
	else if (*error)
		kmtls_check_add(check, KMTLS_CHECK_OK, "accel", NULL,
				"accel: the default is %s; auto is off, on is refused: %s", preset,
				error);
	else if (*defects)
		kmtls_check_add(
			check, KMTLS_CHECK_OK, "accel", NULL,
			"accel: the default is %s; auto is off, for with sk_msg on this kernel "
			"an application would notice: %s",
			preset, defects);
	else
		kmtls_check_add(check, KMTLS_CHECK_OK, "accel", NULL,
				"accel: the default is %s; auto is on, for sk_msg is sound on this "
				"kernel",
				preset);
}

static void check_limits(struct kmtls_check *check)
{
	long long usable = number(check->probes, "flows_usable");
	long long capacity = number(check->probes, "flows_capacity");
	long long nofile = number(check->probes, "nofile");

	if (usable < capacity)
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "nofile",
				"raise LimitNOFILE of the service, or lower max_flows",
				"%lld descriptors are enough for %lld of %lld flows", nofile,
				usable, capacity);
	else
		kmtls_check_add(check, KMTLS_CHECK_OK, "nofile", NULL,
				"%lld descriptors are enough for %lld flows", nofile, capacity);
	if (strcmp(text(check->status, "secrets"), "memfd-secret") == 0)
		kmtls_check_add(check, KMTLS_CHECK_OK, "secrets", NULL,
				"keys are in memory that only the daemon can read");
	else
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "secrets",
				"start the kernel with secretmem.enable=1, then kmtlsd anew",
				"keys are in locked memory, not in memfd_secret");
}

void kmtls_check_daemon(struct kmtls_check *check)
{
	check->group = "daemon";
	if (check->down[0]) {
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "reachable",
				"start kmtlsd: until then meshed connections are refused",
				"the daemon does not answer: %s", check->down);
		return;
	}
	kmtls_check_add(check, KMTLS_CHECK_OK, "reachable", NULL, "kmtlsd %s answers at %s",
			text(check->status, "version"), check->cli->socket);
	if (*text(check->status, "openssl")) /* an older daemon does not say */
		kmtls_check_add(check, KMTLS_CHECK_OK, "openssl", NULL, "it runs with OpenSSL %s",
				text(check->status, "openssl"));
	check_process(check, "keeper");
	check_process(check, "worker");
	check_tls(check);
	check_rekey(check);
	check_accel(check);
	check_limits(check);
}

/* ---- identity and clocks ---- */

/* Percent of the lifetime. */
static long long renew_at(const struct kmtls_check *check)
{
	return number(json_object_get(check->status, "identity"), "renew_at");
}

/* Is there anything that issues? Without it pods have no SVIDs, and need none. */
static bool check_enabled(struct kmtls_check *check)
{
	const json_t *identity = json_object_get(check->status, "identity");
	const json_t *upgrade = json_object_get(check->status, "upgrade");

	if (number(identity, "refused") && strcmp(text(upgrade, "outcome"), "rolled-back") == 0)
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "source",
				"put it right and reload: until then the one before holds",
				"the last configuration was refused: %s", text(upgrade, "why"));
	if (*text(identity, "source_error")) {
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "source",
				strcmp(text(identity, "type"), "files")
					? "look at the agent, its socket and its entries ('kmtls "
					  "identity'): until then SVIDs there are go on"
					: "look at the files and at who writes them: until then "
					  "SVIDs there are go on",
				"the backend %s %s: %s", text(identity, "enabled"),
				strcmp(text(identity, "source"), "waiting")
					? "does not take what it was given"
					: "waits",
				text(identity, "source_error"));
		return true;
	}
	if (*text(identity, "enabled")) {
		kmtls_check_add(check, KMTLS_CHECK_OK, "source", NULL,
				"SVIDs come from the backend %s (%s)", text(identity, "enabled"),
				text(identity, "type"));
		return true;
	}
	kmtls_check_add(check, KMTLS_CHECK_WARNING, "source",
			"name a backend in identity.enabled (kmtlsd.conf(5))",
			"no identity backend is enabled: mutual TLS is off");
	return false;
}

static void check_svid(struct kmtls_check *check, const json_t *pod, time_t now)
{
	long long before = number(pod, "svid_not_before"), after = number(pod, "svid_not_after");
	long long issued = number(pod, "svid_issued");
	const char *name = text(pod, "name");
	static const char advice[] =
		"look for 'svid not renewed' in the daemon's log, then at the identity source";
	char until[32];

	kmtls_table_time(after, until);
	if (!after)
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "svid", advice,
				"pod %s: has no SVID: its connections are refused", name);
	else if (after <= now)
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "svid", advice,
				"pod %s: the SVID has expired, %s: its connections are refused",
				name, until);
	else if (before > now)
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "svid", "set the clock of the node",
				"pod %s: the SVID is not valid before %lld s from now", name,
				before - (long long)now);
	/* By then it would have been renewed, at the latest. */
	else if ((after - now) * 100 < (after - issued) * (97 - renew_at(check)))
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "svid", advice,
				"pod %s: the SVID expires soon and is not renewed, %s", name,
				until);
	else
		kmtls_check_add(check, KMTLS_CHECK_OK, "svid", NULL, "pod %s: SVID valid until %s",
				name, until);
}

/* What the clock says now about when process pid began; -1: it cannot be told. */
static long long process_began(pid_t pid)
{
	struct timespec real, boot;
	char path[64], line[1024];
	unsigned long long ticks;
	const char *end;
	__cleanup_file FILE *file = NULL;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file || !fgets(line, sizeof(line), file))
		return -1;
	/* The name may hold anything; 20 fields follow it up to the one we want. */
	end = strrchr(line, ')');
	if (!end || sscanf(end + 1,
			   " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
			   "%*s %*s %llu",
			   &ticks) != 1)
		return -1;
	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	return real.tv_sec - boot.tv_sec +
	       (long long)(ticks / (unsigned long long)sysconf(_SC_CLK_TCK));
}

static void check_clock(struct kmtls_check *check, time_t now)
{
	long long began = process_began((pid_t)number(check->status, "keeper"));
	long long started = number(check->status, "started"), latest = 0, jump;
	const json_t *pod;
	size_t i;

	json_array_foreach (check->pods, i, pod) {
		long long before = number(pod, "svid_not_before");

		latest = before > latest ? before : latest;
	}
	if (latest > now) {
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "clock",
				"set the clock of the node, and keep it by NTP",
				"the clock is %lld s before the begin of an SVID",
				latest - (long long)now);
		return;
	}
	if (number(check->probes, "clock_behind")) {
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "clock",
				"set the clock; if it is right now, stop kmtlsd and start it anew",
				"the clock is %lld s behind a time it has had: certificates are "
				"judged by that time",
				number(check->probes, "clock_behind"));
		return;
	}
	jump = began < 0 ? 0 : began - started;
	if (llabs(jump) > JUMP)
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "clock",
				"keep the clock by NTP; peers whose clocks differ refuse SVIDs",
				"the clock has jumped by %+lld s since the daemon started", jump);
	else
		kmtls_check_add(
			check, KMTLS_CHECK_OK, "clock", NULL,
			"the clock fits the SVIDs and has not jumped since the daemon started");
}

static void check_crls(struct kmtls_check *check)
{
	long long files = number(check->probes, "crl_files");
	long long rejected = number(check->probes, "crl_rejected");

	if (rejected)
		kmtls_check_add(
			check, KMTLS_CHECK_FAILED, "crl",
			"look for 'CRL file not taken' in the daemon's log",
			"%lld of %lld CRL files cannot be taken; what was taken before is in use",
			rejected, files);
	else if (files)
		kmtls_check_add(check, KMTLS_CHECK_OK, "crl", NULL, "all %lld CRL files are in use",
				files);
}

void kmtls_check_identity(struct kmtls_check *check)
{
	time_t now = time(NULL);
	const json_t *pod;
	size_t i;

	check->group = "identity";
	if (check->down[0]) {
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "svid", "start kmtlsd",
				"SVIDs and clocks are not checked: the daemon does not answer");
		return;
	}
	check_clock(check, now);
	check_crls(check);
	if (!check_enabled(check))
		return;
	json_array_foreach (check->pods, i, pod)
		check_svid(check, pod, now);
}
