/* SPDX-License-Identifier: Apache-2.0 */
/*
 * benchmark.h - the marks around what benchload measures. A mark does nothing: it is a no-op whose bytes
 * nothing else has, for the plugin of vmtest/profile to find.
 */
#ifndef BENCHMARK_H
#define BENCHMARK_H

#define BENCH_MARK_BEGIN 0x01
#define BENCH_MARK_END 0x02

/* nopl DISPLACEMENT(%rax), the displacement being "kmt" and the mark. */
#define BENCH_MARK_BYTES(mark) 0x0f, 0x1f, 0x80, 0x6b, 0x6d, 0x74, mark

#define BENCH_TEXT(...) #__VA_ARGS__
#define BENCH_BYTES(...) ".byte " BENCH_TEXT(__VA_ARGS__)
#ifdef __x86_64__
#define BENCH_MARK(mark) __asm__ volatile(BENCH_BYTES(BENCH_MARK_BYTES(mark))::: "memory")
#else
#define BENCH_MARK(mark) ((void)0)
#endif

#endif
