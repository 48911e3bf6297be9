/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.c - see sandbox.h. */
#include <cap-ng.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "cleanup.h"
#include "pods.h"
#include "sandbox.h"
#include "sandbox_calls.h"

/* Why each of them: docs/security.md. */
static const unsigned kept[] = {
	CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_RAW, CAP_SYS_ADMIN, CAP_SYS_PTRACE,
};
#define KEPT (sizeof(kept) / sizeof(kept[0]))

int kmtls_sandbox_oom(int value)
{
	__cleanup_file FILE *file = fopen("/proc/self/oom_score_adj", "we");

	if (!file)
		return -errno;
	return fprintf(file, "%d", value) < 0 || fflush(file) ? -errno : 0;
}

/* A keeper must not be killed, so that flows go on; a worker may be. Who asked for more than 0
 * shall have it. */
static int leave_oom_protection(char *ret_why)
{
	__cleanup_fd int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
	char text[16] = "";
	int err = 0;

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		err = -EIO;
	else if (text[0] == '-')
		err = kmtls_sandbox_oom(0);
	if (err)
		snprintf(ret_why, KMTLS_WHY, "sandbox: oom_score_adj: %s", strerror(-err));
	return err;
}

/* Capabilities and filters are a thread's: one made earlier would keep them all. */
static int check_alone(char *ret_why)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned count = 0;

	if (!tasks) {
		int err = -errno;

		snprintf(ret_why, KMTLS_WHY, "sandbox: /proc/self/task: %s", strerror(-err));
		return err;
	}
	while ((entry = readdir(tasks)))
		count += entry->d_name[0] != '.';
	closedir(tasks);
	if (count == 1)
		return 0;
	snprintf(ret_why, KMTLS_WHY, "sandbox: the process has %u threads already", count);
	return -EBUSY;
}

static int check_kept(char *ret_why)
{
	if (capng_get_caps_process()) {
		snprintf(ret_why, KMTLS_WHY, "sandbox: own capabilities cannot be read");
		return -EIO;
	}
	for (unsigned i = 0; i < KEPT; i++) {
		char name[32];

		if (capng_have_capability(CAPNG_PERMITTED, kept[i]))
			continue;
		snprintf(name, sizeof(name), "%s", capng_capability_to_name(kept[i]));
		for (char *c = name; *c; c++)
			*c = *c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c;
		snprintf(ret_why, KMTLS_WHY, "sandbox: started without CAP_%s, which it needs",
			 name);
		return -EPERM;
	}
	return 0;
}

static bool is_kept(unsigned capability)
{
	for (unsigned i = 0; i < KEPT; i++)
		if (kept[i] == capability)
			return true;
	return false;
}

/* capng_apply() of 0.8.3 leaves the bounding set as it is, and says nothing, where it may not
 * change it. */
static bool is_bounded(void)
{
	int there;

	for (unsigned i = 0; (there = prctl(PR_CAPBSET_READ, i, 0, 0, 0)) >= 0; i++)
		if (there && !is_kept(i))
			return false;
	return true;
}

static int drop_capabilities(char *ret_why)
{
	int err = check_kept(ret_why);

	if (err)
		return err;
	capng_clear(CAPNG_SELECT_ALL);
	for (unsigned i = 0; i < KEPT; i++)
		capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET,
			     kept[i]);
	if (capng_apply(CAPNG_SELECT_ALL) == 0 && is_bounded())
		return 0;
	snprintf(ret_why, KMTLS_WHY,
		 "sandbox: capabilities cannot be dropped (which takes CAP_SETPCAP)");
	return -EPERM;
}

static int add_rules(scmp_filter_ctx filter)
{
	/* 32 bits of the argument, as the kernel takes a process id. */
	const struct scmp_arg_cmp itself = {
		.arg = 0,
		.op = SCMP_CMP_MASKED_EQ,
		.datum_a = UINT32_MAX,
		.datum_b = (uint32_t)getpid(),
	};
	int err = 0;

	for (unsigned i = 0; !err && i < kmtls_sandbox_calls_count; i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, kmtls_sandbox_calls[i], 0);
	for (unsigned i = 0; !err && i < kmtls_sandbox_rules_count; i++) {
		const struct kmtls_sandbox_rule *rule = &kmtls_sandbox_rules[i];

		err = seccomp_rule_add(
			filter, SCMP_ACT_ALLOW, rule->call, 1,
			SCMP_CMP(rule->argument, SCMP_CMP_MASKED_EQ, rule->mask, rule->value));
	}
	/* abort() */
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, itself);
	return err;
}

/*
 * The C library makes threads with clone3(), whose flags no filter can look at, and with clone() if
 * there is no clone3(). This answer is expected, so it gets a filter of its own that does not log.
 */
static int hide_clone3(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int err = filter ? 0 : -ENOMEM;

	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (!err)
		err = seccomp_load(filter);
	seccomp_release(filter);
	return err;
}

static int load_filter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int err = filter ? 0 : -ENOMEM;

	/* A thread that is killed alone would leave flows without their loop. */
	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	/* Refused calls leave a line in the kernel's log. */
	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	/* A binary tree: some calls with rules are made for every connection. */
	if (!err)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!err)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone3), 0);
	if (!err)
		err = add_rules(filter);
	if (!err)
		err = seccomp_load(filter);
	seccomp_release(filter);
	return err;
}

int kmtls_sandbox_enter(const struct kmtls_config *config, char *ret_why)
{
	int err = check_alone(ret_why);

	if (err)
		return err;
	/* Modules that OpenSSL's configuration names are code, which cannot be loaded later. */
	if (!OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, NULL)) {
		snprintf(ret_why, KMTLS_WHY, "sandbox: OpenSSL does not start");
		return -EIO;
	}
	err = leave_oom_protection(ret_why);
	if (err)
		return err;
	err = drop_capabilities(ret_why);
	if (err)
		return err;
	/* This sets no_new_privs too. */
	err = hide_clone3();
	if (!err)
		err = load_filter();
	if (err)
		snprintf(ret_why, KMTLS_WHY, "sandbox: no seccomp filter: %s", strerror(-err));
	return err;
}
