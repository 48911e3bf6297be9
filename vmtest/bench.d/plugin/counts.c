/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counts.c - a plugin of QEMU's TCG for vmtest/profile: how many instructions the guest executed where,
 * between the marks that benchload sets around what it measures (benchclock.h).
 *
 * QEMU translates the guest's code in blocks. Each gets a counter of its own, which the translated code
 * itself adds to; a mark is a no-op with a number in it that nothing else has, and calls us. At the guest's
 * end a line for each block is written: address, instructions of it, how often it was executed. With
 * -icount a block that ends early is translated again as a shorter one, so the counts are exact but for page
 * faults.
 *
 * For functions that are asked about the same is counted by caller: that is the block before the function's
 * first one. What a function calls in turn is not counted with it.
 *
 * Arguments: out=FILE, and callee=FIRST-END (addresses, hexadecimal) for each such function. There is no package with QEMU's header of this interface: what of it is used here is
 * declared here, version 3 (QEMU 9.1 and later).
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../selftests/vm/tools/benchmark.h"

/* ---- QEMU's interface ---- */

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;

struct counter {
	struct qemu_plugin_scoreboard *score;
	size_t offset;
};

enum inline_operation { INLINE_ADD_U64, INLINE_STORE_U64 };
enum callback_flags { CALLBACK_NO_REGISTERS };

typedef void (*translated_callback)(uint64_t id, struct qemu_plugin_tb *block);
typedef void (*executed_callback)(unsigned cpu, void *data);
typedef void (*exit_callback)(uint64_t id, void *data);

extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, translated_callback callback);
extern void qemu_plugin_register_atexit_cb(uint64_t id, exit_callback callback, void *data);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *instruction,
						   executed_callback callback,
						   enum callback_flags flags, void *data);
extern void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *block,
							      enum inline_operation operation,
							      struct counter counter,
							      uint64_t value);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block,
						 executed_callback callback,
						 enum callback_flags flags, void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block,
							size_t index);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *instruction);
extern size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction, void *ret_data,
				    size_t size);
extern struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t size);
extern void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *score, unsigned cpu);

EXPORT extern int qemu_plugin_version;
EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

int qemu_plugin_version = 3;

/* ---- blocks ---- */

#define BLOCKS (1u << 20)
#define BUCKETS (1u << 19)

struct block {
	uint64_t address;
	uint32_t instructions;
	uint32_t next; /* of the same bucket, plus one */
	uint64_t executed; /* between marks */
};

static struct block blocks[BLOCKS];
static uint32_t buckets[BUCKETS], block_count;
static struct qemu_plugin_scoreboard *score; /* since the last mark, by block */
static struct qemu_plugin_scoreboard *last; /* the block that was executed last */
static bool overflow, begun, ever;
static const char *out;

/* The block's number. The same code is translated again now and then. */
static uint32_t find_block(uint64_t address, uint32_t instructions)
{
	uint32_t *bucket = &buckets[(address * 0x9e3779b97f4a7c15u) >> 45], number;

	for (number = *bucket; number; number = blocks[number - 1].next)
		if (blocks[number - 1].address == address &&
		    blocks[number - 1].instructions == instructions)
			return number - 1;
	if (block_count == BLOCKS - 1) {
		overflow = true;
		return block_count;
	}
	blocks[block_count] = (struct block){
		.address = address,
		.instructions = instructions,
		.next = *bucket,
	};
	*bucket = ++block_count;
	return block_count - 1;
}

/* ---- callers ---- */

#define CALLEES 8

struct callee {
	uint64_t first, end;
	uint32_t caller; /* the block that called it last */
	uint64_t instructions[BLOCKS], calls[BLOCKS]; /* by the caller's block */
};

static struct callee *callees[CALLEES];
static unsigned callee_count;

static bool add_callee(const char *range)
{
	struct callee *callee = calloc(1, sizeof(*callee));

	if (!callee || callee_count == CALLEES ||
	    sscanf(range, "%" SCNx64 "-%" SCNx64, &callee->first, &callee->end) != 2) {
		free(callee);
		return false;
	}
	callees[callee_count++] = callee;
	return true;
}

static struct callee *find_callee(uint64_t address)
{
	for (unsigned i = 0; i < callee_count; i++)
		if (address >= callees[i]->first && address < callees[i]->end)
			return callees[i];
	return NULL;
}

/* Before `last` becomes this block. */
static void in_callee(unsigned cpu, void *data)
{
	const struct block *block = &blocks[(uintptr_t)data];
	struct callee *callee = find_callee(block->address);

	if (block->address == callee->first)
		callee->caller = *(uint64_t *)qemu_plugin_scoreboard_find(last, cpu);
	if (!begun)
		return;
	callee->calls[callee->caller] += block->address == callee->first;
	callee->instructions[callee->caller] += block->instructions;
}

static void watch_callers(struct qemu_plugin_tb *block, uint32_t number)
{
	if (find_callee(blocks[number].address))
		qemu_plugin_register_vcpu_tb_exec_cb(block, in_callee, CALLBACK_NO_REGISTERS,
						     (void *)(uintptr_t)number);
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
		block, INLINE_STORE_U64, (struct counter){ .score = last }, number);
}

static void write_callers(FILE *file, const struct callee *callee)
{
	for (uint32_t i = 0; i < block_count; i++)
		if (callee->instructions[i])
			fprintf(file, "%" PRIx64 " %" PRIx64 " %" PRIu64 " %" PRIu64 "\n",
				callee->first, blocks[i].address, callee->instructions[i],
				callee->calls[i]);
}

/* ---- marks, and what QEMU calls ---- */

static void at_begin(unsigned cpu, void *data)
{
	memset(qemu_plugin_scoreboard_find(score, 0), 0, BLOCKS * sizeof(uint64_t));
	begun = ever = true;
}

static void at_end(unsigned cpu, void *data)
{
	const uint64_t *executed = qemu_plugin_scoreboard_find(score, 0);

	for (uint32_t i = 0; begun && i < block_count; i++)
		blocks[i].executed += executed[i];
	begun = false;
}

static void look_for_mark(struct qemu_plugin_insn *instruction)
{
	static const unsigned char begin[] = { BENCH_MARK_BYTES(BENCH_MARK_BEGIN) };
	static const unsigned char end[] = { BENCH_MARK_BYTES(BENCH_MARK_END) };
	unsigned char bytes[sizeof(begin)];

	if (qemu_plugin_insn_size(instruction) != sizeof(bytes) ||
	    qemu_plugin_insn_data(instruction, bytes, sizeof(bytes)) != sizeof(bytes))
		return;
	if (!memcmp(bytes, begin, sizeof(bytes)))
		qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_begin, CALLBACK_NO_REGISTERS,
						       NULL);
	if (!memcmp(bytes, end, sizeof(bytes)))
		qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_end, CALLBACK_NO_REGISTERS,
						       NULL);
}

static void on_translated(uint64_t id, struct qemu_plugin_tb *block)
{
	size_t count = qemu_plugin_tb_n_insns(block);
	uint32_t number = find_block(qemu_plugin_tb_vaddr(block), count);
	struct counter counter = { .score = score, .offset = number * sizeof(uint64_t) };

	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(block, INLINE_ADD_U64, counter, 1);
	if (callee_count)
		watch_callers(block, number);
	for (size_t i = 0; i < count; i++)
		look_for_mark(qemu_plugin_tb_get_insn(block, i));
}

/* No file: there is no profile, and vmtest/profile says so. */
static void on_exit_of_guest(uint64_t id, void *data)
{
	FILE *file;

	if (overflow || begun || !ever) {
		fprintf(stderr, "counts: %s\n",
			overflow ? "more blocks than there is room for"
			: ever	 ? "a begin without an end"
				 : "no mark was executed");
		return;
	}
	file = fopen(out, "w");
	for (uint32_t i = 0; file && i < block_count; i++)
		if (blocks[i].executed)
			fprintf(file, "%" PRIx64 " %" PRIu32 " %" PRIu64 "\n", blocks[i].address,
				blocks[i].instructions, blocks[i].executed);
	for (unsigned i = 0; file && i < callee_count; i++)
		write_callers(file, callees[i]);
	if (!file || fclose(file))
		perror("counts");
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4)) {
			out = argv[i] + 4;
		} else if (strncmp(argv[i], "callee=", 7) || !add_callee(argv[i] + 7)) {
			fprintf(stderr, "counts: %s is no argument\n", argv[i]);
			return -1;
		}
	}
	if (!out) {
		fprintf(stderr, "counts: out=FILE is missing\n");
		return -1;
	}
	score = qemu_plugin_scoreboard_new(BLOCKS * sizeof(uint64_t));
	last = qemu_plugin_scoreboard_new(sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
	qemu_plugin_register_atexit_cb(id, on_exit_of_guest, NULL);
	return 0;
}
