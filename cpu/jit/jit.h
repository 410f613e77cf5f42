/*
 * cpu/jit/jit.h -- translation of blocks to host code, and the way in and out of it.
 *
 * Promise: a translated block does what the interpreter does with its micro-ops, instruction for instruction;
 * the two may take turns at any block boundary. Without a back end for the host jit_new() gives NULL and
 * everything is interpreted.
 *
 *     b = block at cpu->rip;  if (b->code || jit_translate(j, cpu, b)) jit_run(j, cpu, b->code);
 *
 * Between blocks, and whenever C code runs, all guest state is in struct cpu and the arithmetic flags are in
 * their two words (cpu/flags.h).
 */
#ifndef CPU_JIT_JIT_H
#define CPU_JIT_JIT_H

#include "base/error.h"
#include "cpu/exec.h"

struct jit;
struct jit_edge;

struct jit_stats {
    uint64_t blocks, refused, bytes, links, flushes;
    uint64_t evictions, evicted;  /* regions of code memory that were emptied for new code; blocks in them */
    uint64_t exits, dead, misses; /* of translated code: all, by a dropped block, by the jump cache */
    uint64_t steps[UOP_COUNT];    /* micro-ops that were run in C, by kind */
    uint64_t helpers[256];        /* helpers called, by number */
};

/* limit: bytes of host code; the oldest goes when there is more. NULL with e empty: no back end for this
 * host; with e set: what went wrong. */
struct jit *jit_new(size_t limit, struct error *e);
void jit_free(struct jit *j);
/* Gives c a back end; blocks are translated after `hot` runs, code takes `limit` bytes at most (0: the
 * defaults). */
bool jit_attach(struct code_cache *c, uint32_t hot, uint64_t limit, struct error *e);

/* Sets b->code; other blocks may lose theirs, and an edge that is known from before may be gone, when
 * jit_statistics()->evictions has changed. No processor is inside. False: this block is interpreted for ever.
 */
bool jit_translate(struct jit *j, struct cpu *cpu, struct block *b);
/* b is not to be entered any more. */
void jit_drop(struct jit *j, struct block *b);
/* Forgets all code: no block may have a `code` any more, no processor is inside. */
void jit_flush(struct jit *j);

/* Why translated code came back. In cpu->jit_edge these values stand instead of an edge. */
enum jit_exit {
    JIT_LEFT,   /* an event, or a successor that has no code yet */
    JIT_BUDGET, /* the budget does not cover the block at cpu->rip */
    JIT_TUNE,   /* a measurement of the block at cpu->rip is complete; nothing of it has run */
    JIT_DEAD,   /* the jump cache led to a dropped block; nothing has run since */
};

/* Runs from `code` until the budget, an event or an unknown successor ends it; cpu->rip is set then. */
enum jit_exit jit_run(struct jit *j, struct cpu *cpu, void *code);
/* The exit through which the last jit_run() ended, when it was a direct jump within a page; else NULL. */
struct jit_edge *jit_exit_edge(struct cpu *cpu);
/* Lets that exit lead to `to` (same page, same key) from now on. */
void jit_link(struct jit *j, struct jit_edge *edge, struct block *to);

/* While translated code runs (cpu->jit_running): drops the calls to C that it has made; then delivers
 * cpu->event, when `event` is true, and goes on at cpu->rip. */
NORETURN void jit_unwind(struct cpu *cpu, bool event);

/* b is at cpu->rip where the budget ended, so it may be hot. */
void jit_sample(struct jit *j, struct cpu *cpu, struct block *b);
/* After JIT_TUNE. */
void jit_measured(struct jit *j, struct cpu *cpu, struct block *b);

/* Jump cache: code for a RIP in the present mode and context, or NULL; sets REG_PAGE when found. */
void *jit_lookup(struct jit *j, struct cpu *cpu);
void jit_remember(struct jit *j, struct cpu *cpu, struct block *b);

/* Writes a line for each translated block to /tmp/perf-PID.map, as `perf` wants it. */
bool jit_perf_map(struct jit *j, struct error *e);
const struct jit_stats *jit_statistics(const struct jit *j);

#endif
