/*
 * cpu/debug.c -- debug registers: breakpoints on instructions, data and ports; MOV to and from DR.
 *
 * SDM 3B, "Debug, Branch Profile, TSC, and Intel Resource Director Technology Features", "Debug Registers".
 * Instruction breakpoints are faults, all others traps that wait in cpu->pending_db for the instruction
 * boundary. While data breakpoints are armed the processor runs with an empty TLB context (mem.c), so each
 * access is seen.
 */
#include "cpu/system.h"

#include "cpu/ir/helper.h"
#include "cpu/vmx/vmx.h"

enum breakpoint_kind { BREAK_INSTRUCTION, BREAK_WRITE, BREAK_IO, BREAK_ACCESS };

static bool enabled(const struct cpu *cpu, unsigned i)
{
    return cpu->dr[7] >> (i * 2) & 3;
}

static enum breakpoint_kind kind(const struct cpu *cpu, unsigned i)
{
    return (enum breakpoint_kind)(cpu->dr[7] >> (16 + i * 4) & 3);
}

/* LENn: 1, 2, 8, 4 bytes; 8 outside of 64-bit mode is undefined and taken as it is. */
static unsigned length(const struct cpu *cpu, unsigned i)
{
    static const uint8_t bytes[4] = {1, 2, 8, 4};
    return bytes[cpu->dr[7] >> (18 + i * 4) & 3];
}

static bool armed(const struct cpu *cpu, unsigned kinds)
{
    if (!(cpu->dr[7] & 0xff))
        return false;
    for (unsigned i = 0; i < 4; i++)
        if (enabled(cpu, i) && (kinds >> kind(cpu, i) & 1))
            return true;
    return false;
}

bool debug_instruction_armed(const struct cpu *cpu)
{
    return armed(cpu, 1 << BREAK_INSTRUCTION);
}

bool debug_data_armed(const struct cpu *cpu)
{
    return armed(cpu, 1 << BREAK_WRITE | 1 << BREAK_ACCESS);
}

static bool overlaps(const struct cpu *cpu, unsigned i, uint64_t address, unsigned size)
{
    uint64_t n = length(cpu, i), start = cpu->dr[i] & ~(n - 1);
    return address < start + n && start < address + size;
}

/* Bits B0..B3 of breakpoints of `kinds` that [address, address + size) meets; 0 when none of them is enabled.
 */
static uint64_t matches(const struct cpu *cpu, unsigned kinds, uint64_t address, unsigned size)
{
    uint64_t bits = 0;
    bool hit = false;
    for (unsigned i = 0; i < 4; i++) {
        if (!(kinds >> kind(cpu, i) & 1) || !overlaps(cpu, i, address, size))
            continue;
        bits |= BIT(i);
        hit |= enabled(cpu, i);
    }
    return hit ? bits : 0;
}

void debug_check_insn(struct cpu *cpu)
{
    gva_t linear = cpu_64bit(cpu) ? cpu->rip : (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip);
    uint64_t bits = matches(cpu, 1 << BREAK_INSTRUCTION, linear, 1);
    if (!bits || cpu->shadow_mov_ss || cpu->rep_rip == cpu->rip)
        return;
    struct event ev = {
        .vector = EXC_DB, .type = EVENT_HARDWARE_EXCEPTION, .qualification = bits, .trap = true};
    cpu_raise_event(cpu, &ev);
}

static void trap(struct cpu *cpu, uint64_t bits)
{
    if (!bits)
        return;
    cpu->pending_db |= bits;
    cpu->attention |= ATTN_DEBUG;
}

void debug_check_data(struct cpu *cpu, gva_t linear, unsigned size, bool write)
{
    trap(cpu, matches(cpu, 1 << BREAK_ACCESS | (write ? 1 << BREAK_WRITE : 0), linear, size));
}

void debug_check_io(struct cpu *cpu, uint16_t port, unsigned size)
{
    if ((cpu->cr4 & CR4_DE) && (cpu->dr[7] & 0xff))
        trap(cpu, matches(cpu, 1 << BREAK_IO, port, size));
}

/* -- MOV DR -------------------------------------------------------------------------------------------- */

/* DR4 and DR5 are DR6 and DR7 unless CR4.DE makes them undefined; general detect comes after the VM exit. */
static unsigned check_access(struct cpu *cpu, unsigned n, bool write, unsigned gpr)
{
    if (n == 4 || n == 5) {
        if (cpu->cr4 & CR4_DE)
            cpu_raise_ud(cpu);
        n += 2;
    }
    if (cpu->cpl != 0)
        cpu_raise_gp0(cpu);
    if (cpu->vmx_non_root)
        vmx_dr_access(cpu, n, write, gpr);
    if (cpu->dr[7] & DR7_GD) {
        struct event ev = {.vector = EXC_DB, .type = EVENT_HARDWARE_EXCEPTION, .qualification = DR6_BD};
        cpu_raise_event(cpu, &ev);
    }
    return n;
}

/* d: GPR; imm: debug register */
void helper_read_dr(struct cpu *cpu, const struct uop *u)
{
    unsigned n = check_access(cpu, (unsigned)u->imm, false, u->d);
    cpu->r[u->d] = cpu_64bit(cpu) ? cpu->dr[n] : (uint32_t)cpu->dr[n];
}

/* a: GPR; imm: debug register */
void helper_write_dr(struct cpu *cpu, const struct uop *u)
{
    unsigned n = check_access(cpu, (unsigned)u->imm, true, u->a);
    uint64_t v = cpu->r[u->a];
    if (!cpu_64bit(cpu))
        v = (uint32_t)v;
    if (n >= 6 && v >> 32)
        cpu_raise_gp0(cpu);
    if (n == 6)
        v = (v & (15 | DR6_BD | DR6_BS | DR6_BT)) | DR6_FIXED1;
    if (n == 7)
        v = (v & 0xffff23ff) | DR7_FIXED1;
    cpu->dr[n] = v;
    cpu_mode_changed(cpu);
}
