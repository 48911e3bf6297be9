/* SPDX-License-Identifier: Apache-2.0 */
/* bpf_place.h - where a test that loads the daemon's programs pins them. */
#ifndef KMTLS_TEST_BPF_PLACE_H
#define KMTLS_TEST_BPF_PLACE_H

#include <stdbool.h>

/* A path of this process' own on a bpffs; nothing is there yet. Where no bpffs is mounted, root gets one
 * in a mount namespace that this process enters, and nobody else sees. */
char *test_bpf_place(void);

/* First in a test: without BPF it is skipped, with KMTLS_REQUIRE_ROOT it fails. */
void test_require_bpf(bool is_there);

#endif
