/* SPDX-License-Identifier: Apache-2.0 */
/* bpf_place.c - see bpf_place.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "bpf_place.h"

#define BPFFS "/sys/fs/bpf"

char *test_bpf_place(void)
{
	static char path[64];
	struct statfs status;

	if (statfs(BPFFS, &status) == 0 && status.f_type != BPF_FS_MAGIC &&
	    unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	    mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		print_message("# no bpffs can be mounted at " BPFFS "\n");
	snprintf(path, sizeof(path), BPFFS "/kmtls-unit-%d", (int)getpid());
	return path;
}

void test_require_bpf(bool is_there)
{
	if (is_there)
		return;
	if (getenv("KMTLS_REQUIRE_ROOT"))
		fail_msg("no BPF");
	print_message("# skipped: no BPF\n");
	skip();
}
