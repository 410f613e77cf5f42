/*
 * cpu/profile.h -- how often each block ran, in VMX root and non-root operation, for --profile.
 *
 * A row belongs to a guest-physical address and a mode (block key), not to a block: what was dropped or
 * evicted keeps its counts, and the same code made again goes on counting. Blocks of one instruction
 * (KEY_SINGLE) count in the row of the same address. Translated code and interpreter count at a block's
 * entry; what a fault, a VM exit or an early leave has not done is taken back, so the sum over all rows is
 * the number of instructions that were completed, the same for every executor.
 */
#ifndef CPU_PROFILE_H
#define CPU_PROFILE_H

#include "base/error.h"
#include "cpu/exec.h"

#define PROFILE_ROWS_MAX (1u << 20) /* what comes later goes to row 0 */

/* By level: 0 outside VMX operation and in VMX root operation, 1 in VMX non-root operation. Offsets of the
 * first two members are part of translated code. */
struct profile_row {
    uint64_t executions[2];
    uint64_t instructions[2]; /* an iteration of a repeated string instruction is one */
    gpa_t gpa;
    gva_t linear; /* where it was first met */
    uint32_t key;
    uint16_t insn_count, length; /* of the block as it was last made, and its bytes */
    uint8_t *bytes;              /* NULL: not in RAM */
};

struct profile;
struct profile *profile_new(struct error *e);
void profile_free(struct profile *p);
/* The row of a block that was just made from linear address `linear`. */
struct profile_row *profile_row(struct profile *p, const struct phys *phys, gva_t linear,
                                const struct block *b);
/* All rows; row 0 is the sum of what had no room. */
const struct profile_row *profile_rows(const struct profile *p, uint32_t *count);

/* The interpreter begins b. */
static inline void profile_enter(struct cpu *cpu, const struct block *b)
{
    struct profile_row *r = b->profile;
    if (likely(!r))
        return;
    cpu->profile_level = cpu->vmx_non_root;
    r->executions[cpu->profile_level]++;
    r->instructions[cpu->profile_level] += b->insn_count;
}

/* The running block is charged n instructions more, or less. */
static inline void block_pay(struct cpu *cpu, int64_t n)
{
    struct profile_row *r = cpu->block->profile;
    cpu->budget -= n;
    if (unlikely(r != NULL))
        r->instructions[cpu->profile_level] += (uint64_t)n;
}

#endif
