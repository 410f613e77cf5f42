/*
 * cpu/syscall.c -- SYSCALL, SYSRET, SYSENTER, SYSEXIT.
 *
 * SDM 2B, the pages of the instructions; SDM 3A, "Fast System Calls in 64-Bit Mode".
 * Segments are fixed: flat, present, from the selectors that the MSRs name; no descriptor is read.
 */
#include "cpu/system.h"

#include "cpu/flags.h"
#include "cpu/ir/helper.h"

#define AR_FLAT_CODE (AR_P | AR_S | AR_G | 11)
#define AR_FLAT_DATA (AR_P | AR_S | AR_G | AR_DB | 3)

static void flat_segments(struct cpu *cpu, uint16_t cs, uint16_t ss, unsigned cpl, bool long_mode)
{
    cpu->seg[SEG_CS] = (struct segment){
        .selector = cs, .limit = 0xffffffffu, .ar = AR_FLAT_CODE | cpl << 5 | (long_mode ? AR_L : AR_DB)};
    cpu->seg[SEG_SS] = (struct segment){.selector = ss, .limit = 0xffffffffu, .ar = AR_FLAT_DATA | cpl << 5};
    cpu->cpl = (uint8_t)cpl;
}

void helper_syscall(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    if (!(cpu->efer & EFER_SCE))
        cpu_raise_ud(cpu);
    uint64_t flags = cpu_rflags(cpu) & ~(uint64_t)FLAG_RF;
    cpu->r[REG_RCX] = cpu->next_rip;
    cpu->r[REG_R11] = flags;
    cpu_set_rflags(cpu, flags & ~cpu->msr.fmask);
    cpu->tf_masked = flags & cpu->msr.fmask & FLAG_TF;
    uint16_t cs = (uint16_t)(cpu->msr.star >> 32) & 0xfffc;
    flat_segments(cpu, cs, (uint16_t)(cs + 8), 0, true);
    cpu->next_rip = cpu->msr.lstar;
    cpu_level_changed(cpu);
}

/* size 3: to 64-bit mode, else to compatibility mode */
void helper_sysret(struct cpu *cpu, const struct uop *u)
{
    if (!(cpu->efer & EFER_SCE))
        cpu_raise_ud(cpu);
    bool wide = u->size == 3;
    uint64_t rip = wide ? cpu->r[REG_RCX] : (uint32_t)cpu->r[REG_RCX];
    if (!cpu_canonical(cpu, rip))
        cpu_raise_gp0(cpu);
    bool was_on = cpu->rflags & FLAG_IF;
    cpu_set_rflags(cpu, cpu->r[REG_R11] & 0x3c7fd7);
    cpu->rf_loaded = cpu->rflags & FLAG_RF;
    uint16_t base = (uint16_t)(cpu->msr.star >> 48);
    flat_segments(cpu, (uint16_t)((base + (wide ? 16 : 0)) | 3), (uint16_t)((base + 8) | 3), 3, wide);
    cpu->next_rip = rip;
    if (!was_on && (cpu->rflags & FLAG_IF))
        event_recheck(cpu);
    cpu_level_changed(cpu);
}

void helper_sysenter(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    uint16_t cs = (uint16_t)cpu->msr.sysenter_cs & 0xfffc;
    if (!cs)
        cpu_raise_gp0(cpu);
    bool wide = cpu_long_mode(cpu);
    cpu->rflags &= ~(uint64_t)(FLAG_VM | FLAG_IF);
    cpu->r[REG_RSP] = wide ? cpu->msr.sysenter_esp : (uint32_t)cpu->msr.sysenter_esp;
    flat_segments(cpu, cs, (uint16_t)(cs + 8), 0, wide);
    cpu->next_rip = wide ? cpu->msr.sysenter_eip : (uint32_t)cpu->msr.sysenter_eip;
    cpu_mode_changed(cpu);
}

/* size 3: to 64-bit mode */
void helper_sysexit(struct cpu *cpu, const struct uop *u)
{
    uint16_t cs = (uint16_t)cpu->msr.sysenter_cs & 0xfffc;
    bool wide = u->size == 3;
    if (!cs)
        cpu_raise_gp0(cpu);
    uint64_t rip = cpu->r[REG_RDX], rsp = cpu->r[REG_RCX];
    if (wide && (!cpu_canonical(cpu, rip) || !cpu_canonical(cpu, rsp)))
        cpu_raise_gp0(cpu);
    cpu->r[REG_RSP] = wide ? rsp : (uint32_t)rsp;
    uint16_t base = (uint16_t)(cs + (wide ? 32 : 16));
    flat_segments(cpu, (uint16_t)(base | 3), (uint16_t)((base + 8) | 3), 3, wide);
    cpu->next_rip = wide ? rip : (uint32_t)rip;
    cpu_mode_changed(cpu);
}
