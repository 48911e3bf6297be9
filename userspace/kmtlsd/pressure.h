/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pressure.h - how close the daemon is to the memory limit of its cgroup, or of one above it. The
 * sockets of flows are counted there, so a few that stall may hold as much as thousands that do
 * not. Where little is left, new connections are refused, before the kernel kills all.
 */
#ifndef KMTLS_PRESSURE_H
#define KMTLS_PRESSURE_H

#include <stdbool.h>

struct kmtls_pressure;

/* percent of memory.max from which on it is high, 0: never. Cgroups without a limit do not count,
 * nor do those that have no memory controller at this moment. -ENOMEM. */
int kmtls_pressure_open(int cgroup_fd, unsigned percent, struct kmtls_pressure **ret_pressure);
void kmtls_pressure_close(struct kmtls_pressure *pressure);

void kmtls_pressure_limit(struct kmtls_pressure *pressure, unsigned percent); /* from now on */

/* Looks at most ten times a second. Any thread. */
bool kmtls_pressure_is_high(struct kmtls_pressure *pressure);

#endif
