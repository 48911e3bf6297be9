/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bpf_links.h - attachments that outlive the daemon: a pinned link is re-pointed to the new
 * program atomically (no packet sees neither), or replaced when it belongs to a cgroup or
 * namespace that is gone.
 */
#ifndef KMTLS_BPF_LINKS_H
#define KMTLS_BPF_LINKS_H

struct bpf_program;

int kmtls_bpf_link_cgroup(struct bpf_program *program, int cgroup_fd, const char *path,
			  char *ret_why);
int kmtls_bpf_link_netns(struct bpf_program *program, int netns_fd, const char *path,
			 char *ret_why);
/* Unlinks every pin below directory, deepest first, and the directory. */
void kmtls_bpf_links_remove(const char *directory);

#endif
