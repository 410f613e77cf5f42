/*
 * cpu/branch.c -- branches: single-stepping on them, and the records of the last ones.
 *
 * SDM 3B, "Last Branch, Interrupt, and Exception Recording for Processors based on Skylake
 * Microarchitecture", "Single-Stepping on Branches", "Filtering of Last Branch Records". While
 * IA32_DEBUGCTL.LBR is 1, or BTF with RFLAGS.TF, instructions run one by one (ATTN_SINGLE), so nothing here
 * costs anything else. event.c calls branch_before() and branch_after() around each of them, interrupt.c
 * branch_event(). MSR_LBR_INFO counts ticks as core clocks, and no branch is ever mispredicted. Whether a
 * conditional branch is taken is its condition's to say, which is looked at before it runs: one to the next
 * instruction may be taken.
 */
#include "cpu/system.h"

#include <string.h>

#include "cpu/flags.h"
#include "cpu/msr.h"

/* Numbered as the bits of MSR_LBR_SELECT that filter them. */
enum branch_class {
    BRANCH_NONE = 0,
    BRANCH_JCC = 2,
    BRANCH_NEAR_REL_CALL = 3,
    BRANCH_NEAR_IND_CALL = 4,
    BRANCH_NEAR_RET = 5,
    BRANCH_NEAR_IND_JMP = 6,
    BRANCH_NEAR_REL_JMP = 7,
    BRANCH_FAR = 8,
};
enum { SELECT_CPL_EQ_0 = 1 << 0, SELECT_CPL_NEQ_0 = 1 << 1, SELECT_CALL_STACK = 1 << 9, SELECT_ALL = 0x3ff };
#define INFO_CYCLES 0xffffull
#define INFO_FLAGS  BITS(63, 61)

static gva_t linear_rip(const struct cpu *cpu)
{
    return cpu_64bit(cpu) ? cpu->rip : (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip);
}

/* -- What an instruction is ---------------------------------------------------------------------------- */

static bool is_prefix(const struct cpu *cpu, uint8_t b)
{
    static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3};
    for (unsigned i = 0; i < ARRAY_LEN(prefixes); i++)
        if (b == prefixes[i])
            return true;
    return cpu_64bit(cpu) && (b & 0xf0) == 0x40; /* REX */
}

static enum branch_class class_0f(uint8_t b)
{
    switch (b) {
    case 0x05: /* SYSCALL, SYSRET, SYSENTER, SYSEXIT */
    case 0x07:
    case 0x34:
    case 0x35:
        return BRANCH_FAR;
    default:
        return (b & 0xf0) == 0x80 ? BRANCH_JCC : BRANCH_NONE;
    }
}

static enum branch_class class_ff(uint8_t modrm)
{
    static const uint8_t by_reg[8] = {
        [2] = BRANCH_NEAR_IND_CALL, [3] = BRANCH_FAR, [4] = BRANCH_NEAR_IND_JMP, [5] = BRANCH_FAR};
    return (enum branch_class)by_reg[modrm >> 3 & 7];
}

static enum branch_class class_of(const uint8_t *op)
{
    switch (op[0]) {
    case 0x0f:
        return class_0f(op[1]);
    case 0xff:
        return class_ff(op[1]);
    case 0xe0: /* LOOPcc, LOOP, JrCXZ */
    case 0xe1:
    case 0xe2:
    case 0xe3:
        return BRANCH_JCC;
    case 0xe8:
        return BRANCH_NEAR_REL_CALL;
    case 0xe9:
    case 0xeb:
        return BRANCH_NEAR_REL_JMP;
    case 0xc2:
    case 0xc3:
        return BRANCH_NEAR_RET;
    case 0x9a: /* CALL far, JMP far, RET far, IRET */
    case 0xea:
    case 0xca:
    case 0xcb:
    case 0xcf:
        return BRANCH_FAR;
    default:
        return (op[0] & 0xf0) == 0x70 ? BRANCH_JCC : BRANCH_NONE;
    }
}

/* Is the conditional branch at `op` going to be taken? */
static bool condition_met(const struct cpu *cpu, const uint8_t *op, bool prefix_67)
{
    if (op[0] == 0x0f)
        return flags_condition(cpu, op[1] & 15);
    if ((op[0] & 0xf0) == 0x70)
        return flags_condition(cpu, op[0] & 15);
    /* LOOPNE, LOOPE, LOOP and JrCXZ count in CX, ECX or RCX by the size of addresses. */
    unsigned bytes = cpu_64bit(cpu) ? 8 : cpu->seg[SEG_CS].ar & AR_DB ? 4 : 2;
    if (prefix_67)
        bytes = bytes == 4 ? 2 : 4;
    uint64_t mask = size_mask(bytes), count = cpu->r[REG_RCX] & mask;
    if (op[0] == 0xe3)
        return count == 0;
    bool wanted = op[0] == 0xe2 || flag_zf(cpu) == (op[0] & 1u);
    return count != 1 && wanted;
}

/* The bytes that a fetch would find, without any effect of one; false when it would fault, or reach a device.
 */
static bool fetch(struct cpu *cpu, gva_t linear, uint8_t *out, unsigned n)
{
    struct mmu_fault f;
    gpa_t gpa;
    if (!mmu_translate(&cpu->mmu, linear, MMU_EXEC, MMU_PROBE | MMU_NO_FILL, &gpa, &f))
        return false;
    const uint8_t *p = phys_ram(cpu->phys, gpa, n);
    if (p)
        memcpy(out, p, n);
    return p;
}

void branch_before(struct cpu *cpu)
{
    uint8_t bytes[32] = {0};
    unsigned n = 0;
    bool prefix_66 = false, prefix_67 = false;
    gva_t linear = linear_rip(cpu);
    unsigned here = MIN(15u, PAGE_SIZE - (unsigned)(linear & PAGE_MASK));
    cpu->branch_class = BRANCH_NONE;
    cpu->branch_from = linear;
    if (!fetch(cpu, linear, bytes, here))
        return;
    if (here < 15)
        fetch(cpu, cpu_64bit(cpu) ? linear + here : (uint32_t)(linear + here), bytes + here, 15 - here);
    for (; n < 14 && is_prefix(cpu, bytes[n]); n++) {
        prefix_66 |= bytes[n] == 0x66;
        prefix_67 |= bytes[n] == 0x67;
    }
    enum branch_class class = class_of(bytes + n);
    if (class == BRANCH_JCC && !condition_met(cpu, bytes + n, prefix_67))
        return;
    cpu->branch_class = (uint8_t) class;
    bool wide = cpu_64bit(cpu) || !(cpu->seg[SEG_CS].ar & AR_DB) == prefix_66;
    cpu->branch_next = linear + n + (wide ? 5 : 3);
}

/* -- Records ------------------------------------------------------------------------------------------- */

static void record(struct cpu *cpu, enum branch_class class, uint64_t from, uint64_t to)
{
    struct branch_records *b = &cpu->branches;
    if (b->select & (cpu->cpl ? SELECT_CPL_NEQ_0 : SELECT_CPL_EQ_0) || b->select >> class & 1)
        return;
    if (b->select & SELECT_CALL_STACK) {
        /* Returns take away what their calls have put there; a call to the next instruction is none. */
        bool call = class == BRANCH_NEAR_REL_CALL || class == BRANCH_NEAR_IND_CALL;
        if (class == BRANCH_NEAR_RET) {
            b->from[b->top] = b->to[b->top] = b->info[b->top] = 0;
            b->top = (b->top - 1) % LBR_DEPTH;
            return;
        }
        if (call && to == cpu->branch_next && class == BRANCH_NEAR_REL_CALL)
            return;
    }
    uint64_t now = cpu->clock->now;
    b->top = (b->top + 1) % LBR_DEPTH;
    b->from[b->top] = from;
    b->to[b->top] = to;
    b->info[b->top] = MIN(now - b->last_tick, INFO_CYCLES);
    b->last_tick = now;
}

bool branch_after(struct cpu *cpu)
{
    enum branch_class class = (enum branch_class)cpu->branch_class;
    gva_t to = linear_rip(cpu);
    cpu->branch_class = BRANCH_NONE;
    if (class == BRANCH_NONE)
        return false;
    if (cpu->msr.debugctl & DEBUGCTL_LBR)
        record(cpu, class, cpu->branch_from, to);
    return true;
}

void branch_event(struct cpu *cpu, gva_t from)
{
    struct branch_records *b = &cpu->branches;
    if (!(cpu->msr.debugctl & DEBUGCTL_LBR))
        return;
    b->ler_from = b->from[b->top];
    b->ler_to = b->to[b->top];
    record(cpu, BRANCH_FAR, from, linear_rip(cpu));
}

/* -- MSRs ---------------------------------------------------------------------------------------------- */

static uint64_t *records_msr(struct cpu *cpu, uint32_t index)
{
    struct branch_records *b = &cpu->branches;
    unsigned n = index % LBR_DEPTH;
    if (index == MSR_LBR_SELECT)
        return &b->select;
    if (index == MSR_LER_FROM_LIP)
        return &b->ler_from;
    if (index == MSR_LER_TO_LIP)
        return &b->ler_to;
    return index >= MSR_LBR_INFO_0 ? &b->info[n] : index >= MSR_LASTBRANCH_0_TO_IP ? &b->to[n] : &b->from[n];
}

bool branch_get_msr(struct cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = index == MSR_LASTBRANCH_TOS ? cpu->branches.top : *records_msr(cpu, index);
    return true;
}

bool branch_set_msr(struct cpu *cpu, uint32_t index, uint64_t value)
{
    if (index == MSR_LASTBRANCH_TOS) {
        if (value >= LBR_DEPTH)
            return false;
        cpu->branches.top = (uint32_t)value;
        return true;
    }
    uint64_t reserved = index == MSR_LBR_SELECT   ? ~(uint64_t)SELECT_ALL
                        : index >= MSR_LBR_INFO_0 ? ~(INFO_FLAGS | INFO_CYCLES)
                                                  : 0;
    if (value & reserved || (!reserved && !cpu_canonical_register(cpu, value)))
        return false;
    *records_msr(cpu, index) = value;
    return true;
}
