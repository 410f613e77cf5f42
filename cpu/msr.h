/*
 * cpu/msr.h -- the table of model-specific registers (msr.def), for msr.c, tests and traces.
 */
#ifndef CPU_MSR_H
#define CPU_MSR_H

#include "cpu/cpu.h"

/* SDM 4, "MSRs in the Ice Lake Processors"; IA32_DEBUGCTL: SDM 3B, "IA32_DEBUGCTL MSR". */
enum {
    MSR_LBR_SELECT = 0x1c8,
    MSR_LASTBRANCH_TOS = 0x1c9,
    MSR_LER_FROM_LIP = 0x1dd,
    MSR_LER_TO_LIP = 0x1de,
    MSR_LASTBRANCH_0_FROM_IP = 0x680,
    MSR_LASTBRANCH_0_TO_IP = 0x6c0,
    MSR_LBR_INFO_0 = 0xdc0,
};

enum msr_kind { MSR_STORED, MSR_CANONICAL, MSR_CONSTANT, MSR_COMPUTED, MSR_NOT_THERE };

struct msr_row {
    uint32_t first, last;
    uint8_t kind;     /* enum msr_kind */
    uint16_t feature; /* enum feature */
    const char *name;
    uint32_t offset; /* STORED, CANONICAL: of the uint64_t in struct cpu */
    uint64_t value;  /* STORED: bits that can be written; CONSTANT: what is read */
    bool (*get)(struct cpu *cpu, uint32_t index, uint64_t *value); /* COMPUTED; NULL: write-only */
    bool (*set)(struct cpu *cpu, uint32_t index, uint64_t value);  /* COMPUTED; NULL: read-only */
};
extern const struct msr_row msr_rows[]; /* sorted by address, disjoint */
extern const unsigned msr_row_count;
const struct msr_row *msr_find(uint32_t index); /* NULL: not in the table */

#endif
