/* SPDX-License-Identifier: Apache-2.0 */
/* benchclock.h - how benchload measures: what passed, what the machine slept and was busy of it. */
#ifndef BENCHCLOCK_H
#define BENCHCLOCK_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "benchmark.h"

static inline _Noreturn void fail(const char *what)
{
	fprintf(stderr, "benchload: %s: %s\n", what, strerror(errno));
	exit(1);
}

struct reading {
	uint64_t elapsed, idle, busy;
};

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Nanoseconds that CPUs slept, to the nanosecond; 0 where the kernel does not say. */
static inline uint64_t idle_ns(void)
{
	FILE *file = fopen("/proc/timer_list", "re");
	unsigned long long value;
	uint64_t sum = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " .idle_sleeptime : %llu", &value) == 1)
			sum += value;
	if (file)
		fclose(file);
	return sum;
}

/* Of all CPUs, user, system and interrupts, in ticks of 10 ms. */
static inline uint64_t busy_ns(void)
{
	FILE *file = fopen("/proc/stat", "re");
	unsigned long long user, nice, system, idle, wait, irq, softirq;

	if (!file || fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system,
			    &idle, &wait, &irq, &softirq) != 7)
		fail("/proc/stat");
	fclose(file);
	return (user + nice + system + irq + softirq) *
	       (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* For vmtest/profile, once: where the program and its libraries are in memory. */
static inline void tell_mappings(void)
{
	const char *directory = getenv("BENCH_PROFILE");
	char path[4096], block[65536];
	static bool told;
	FILE *from, *to;
	size_t size;

	if (told || !directory)
		return;
	told = true;
	snprintf(path, sizeof(path), "%s/maps.%d", directory, (int)getpid());
	from = fopen("/proc/self/maps", "re");
	to = fopen(path, "we");
	if (!from || !to)
		fail(path);
	while ((size = fread(block, 1, sizeof(block), from)) > 0)
		fwrite(block, 1, size, to);
	fclose(from);
	if (fclose(to))
		fail(path);
}

static inline void start(struct reading *ret_reading)
{
	tell_mappings();
	ret_reading->busy = busy_ns();
	ret_reading->idle = idle_ns();
	ret_reading->elapsed = now_ns();
	BENCH_MARK(BENCH_MARK_BEGIN);
}

static inline void stop(struct reading *reading)
{
	BENCH_MARK(BENCH_MARK_END);
	reading->elapsed = now_ns() - reading->elapsed;
	reading->idle = idle_ns() - reading->idle;
	reading->busy = busy_ns() - reading->busy;
}

static inline int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

/* times: of the single operations, or NULL. */
static inline void print(const struct reading *readings, unsigned runs, uint64_t count,
			 uint64_t *times)
{
	printf("{\"runs\": [");
	for (unsigned i = 0; i < runs; i++)
		printf("%s{\"elapsed\": %llu, \"idle\": %llu, \"busy\": %llu, \"count\": %llu}",
		       i ? ", " : "", (unsigned long long)readings[i].elapsed,
		       (unsigned long long)readings[i].idle, (unsigned long long)readings[i].busy,
		       (unsigned long long)count);
	printf("]");
	if (times) {
		qsort(times, runs * count, sizeof(*times), compare);
		printf(", \"percentiles\": [");
		for (unsigned i = 0; i <= 100; i++)
			printf("%s%llu", i ? ", " : "",
			       (unsigned long long)times[(runs * count - 1) * i / 100]);
		printf("]");
	}
	printf("}\n");
}

#endif
