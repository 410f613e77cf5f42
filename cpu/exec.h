/*
 * cpu/exec.h -- blocks of translated instructions, their cache, and the loop that runs them.
 *
 * A block is keyed by guest-physical address and by the mode bits below, never by CR3, VPID, PCID or EPT
 * pointer.
 */
#ifndef CPU_EXEC_H
#define CPU_EXEC_H

#include <stdio.h>
#include "cpu/cpu.h"

/* Block key (cpu->key). */
enum {
    KEY_L = 1 << 0,    /* 64-bit mode */
    KEY_D = 1 << 1,    /* CS.D: default operand and address size 32 */
    KEY_SS_B = 1 << 2, /* stack address size 32 (outside 64-bit mode) */
    KEY_FLAT = 1 << 3, /* ES, CS, SS, DS: base 0, limit 4G, usable, writable/readable as expected (always in
                          64-bit mode) */
    KEY_CPL_SHIFT = 4, /* two bits */
    KEY_PE = 1 << 6,
    KEY_VM = 1 << 7,
    KEY_TS = 1 << 8,
    KEY_EM = 1 << 9,
    KEY_MP = 1 << 10,
    KEY_OSFXSR = 1 << 11,
    KEY_OSXSAVE = 1 << 12,
    KEY_AVX = 1 << 13, /* XCR0 has SSE and AVX */
    KEY_AC = 1 << 14,  /* CR0.AM, RFLAGS.AC and CPL 3: alignment is checked */
    KEY_TSD = 1 << 15, /* RDTSC needs CPL 0 */
    KEY_UMIP = 1 << 16,
    KEY_OSXMMEXCPT = 1 << 17,
    KEY_NE = 1 << 18, /* CR0.NE */
    KEY_PG = 1 << 19,
};
#define KEY_CPL(key) ((key) >> KEY_CPL_SHIFT & 3)

/* What PAUSE takes: its latency since Skylake (Intel's optimization manual, "Pause Latency in Skylake Client
 * Microarchitecture"). A guest that waits for a time to pass executes the fewer instructions. */
#define PAUSE_TICKS 140

enum block_way { WAY_UNKNOWN, WAY_TAKEN, WAY_ON };

struct block {
    gpa_t gpa;  /* of its first byte */
    gpa_t gpa2; /* page of the second part when its only instruction crosses a page; else 0 */
    uint32_t key;
    uint16_t insn_count, uop_count;
    bool valid; /* cleared when its bytes are written */
    struct uop *uops;
    struct ir_insn *insns;
    struct block *hash_next, *page_next, *page2_next;
    struct block *link[2];       /* direct successors in the same page: taken, not taken; the interpreter's */
    void *code;                  /* host code, or NULL */
    struct jit_block *jit;       /* what the back end keeps of it */
    uint32_t runs;               /* by the interpreter, while there is a back end */
    bool refused;                /* by the back end */
    uint8_t samples, tune;       /* cpu/jit/tune.c: times it was met, enum jit_tune */
    uint8_t measure, near_first; /* number of its measurement; of its first remembered page */
    uint32_t near_sites;         /* which of its memory accesses have one */
    uint8_t way;                 /* enum block_way: where its conditional end goes */
    bool path;                   /* made of several blocks, with SIDE exits: cpu/path.c */
    struct profile_row *profile; /* with --profile, else NULL */
};

/* Blocks of one unoptimised instruction, for what happens at exact instruction boundaries. */
#define KEY_SINGLE BIT(31)

struct code_cache;
struct code_cache *code_cache_new(struct phys *phys, struct error *e);
void code_cache_free(struct code_cache *c);
/* Drops everything (loading state, key meaning changed). */
void code_cache_clear(struct code_cache *c);

/* Runs b (at most insn_limit instructions of it when not 0) from its first micro-op; returns at the block's
 * end with cpu->rip set. */
void interp_run(struct cpu *cpu, struct block *b);
/* Runs one micro-op of b; true: it ended the block, or jumped. For back ends, which do the rest themselves.
 */
bool interp_step(struct cpu *cpu, struct block *b, const struct uop *u);
/* After a slow micro-op u that wants to leave: completes its instruction (or the block when it is the last
 * one) and stops with cpu->rip set. */
void interp_finish(struct cpu *cpu, struct block *b, const struct uop *u, uint64_t generation);
/* Goes on in the middle of b. */
void interp_rest(struct cpu *cpu, struct block *b, const struct uop *u);
bool interp_leave_wanted(const struct cpu *cpu, uint64_t generation);

/* Developer's view, cpu/dump.c: what -d in_asm, op and out_asm show of a block that was just translated. */
void dump_block(struct cpu *cpu, const struct block *b, uint64_t rip);
/* Disassembly of code of a mode (block key), a line an instruction. */
void dump_guest_code(FILE *out, uint32_t key, uint64_t rip, const uint8_t *bytes, size_t n);
void dump_host_code(struct cpu *cpu, const struct block *b, const uint8_t *code, size_t size);

#endif
