/*
 * cpu/system.c -- system instructions that need no file of their own: flags, descriptor-table registers, HLT,
 * PAUSE, time, random numbers, INVLPG and INVPCID, FS and GS bases, CPUID, RDMSR and WRMSR.
 *
 * SDM 2, the pages of the instructions. Privilege and mode checks that depend on the block key are the
 * lifter's. Not here: fast system calls (syscall.c), ports (io.c), control and debug registers (cr.c,
 * debug.c).
 */
#include "cpu/system.h"

#include "base/trace.h"
#include "cpu/exec.h"
#include "cpu/flags.h"
#include "cpu/ir/helper.h"
#include "cpu/lapic.h"
#include "cpu/vmx/vmx.h"

/* -- Flags --------------------------------------------------------------------------------------------- */

/* a: image; size: operand. SDM 2B, POPF: table "Effect of POPF/POPFD on the EFLAGS Register". */
void helper_popf(struct cpu *cpu, const struct uop *u)
{
    uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
    if (u->size > 1)
        mask |= FLAG_AC | FLAG_ID;
    if (cpu->cpl <= cpu_iopl(cpu))
        mask |= FLAG_IF;
    if (cpu->cpl == 0)
        mask |= FLAG_IOPL;
    uint64_t old = cpu_rflags(cpu), value = (old & ~mask) | (cpu->r[u->a] & mask);
    if (u->size > 1)
        value &= ~(uint64_t)FLAG_RF;
    cpu_set_rflags(cpu, value);
    if (value & ~old & FLAG_IF)
        event_recheck(cpu);
    if ((value ^ old) & (FLAG_TF | FLAG_AC | FLAG_RF))
        cpu_mode_changed(cpu);
}

void helper_cli(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    if (cpu->cpl > cpu_iopl(cpu))
        v86_set_vif(cpu, false);
    else
        event_set_if(cpu, false);
}

void helper_sti(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    if (cpu->cpl > cpu_iopl(cpu)) {
        v86_set_vif(cpu, true);
        return;
    }
    if (cpu->rflags & FLAG_IF)
        return;
    event_set_if(cpu, true);
    cpu->shadow_sti = true;
    cpu->attention |= ATTN_SHADOW;
}

/* imm: 1 STAC, 0 CLAC */
void helper_set_ac(struct cpu *cpu, const struct uop *u)
{
    cpu->rflags = u->imm ? cpu->rflags | FLAG_AC : cpu->rflags & ~(uint64_t)FLAG_AC;
    cpu_mode_restored(cpu, cpu->key); /* CPL is 0: AC is not in the key */
}

/* -- Descriptor-table registers ------------------------------------------------------------------------ */

static struct table_register *table(struct cpu *cpu, const struct uop *u)
{
    return u->imm ? &cpu->idtr : &cpu->gdtr;
}

/* a: effective address; am: segment; size: operand; imm: 1 IDTR, 0 GDTR */
void helper_load_table(struct cpu *cpu, const struct uop *u)
{
    bool wide = cpu_64bit(cpu);
    enum seg_reg seg = AM_SEG(u->am);
    uint16_t limit = (uint16_t)cpu_read(cpu, seg, cpu->r[u->a], 2);
    uint64_t base = cpu_read(cpu, seg, cpu->r[u->a] + 2, wide ? 8 : 4);
    if (wide && !cpu_canonical_register(cpu, base))
        cpu_raise_gp0(cpu);
    if (!wide && u->size == 1)
        base &= 0xffffff;
    *table(cpu, u) = (struct table_register){.base = base, .limit = limit};
}

void helper_store_table(struct cpu *cpu, const struct uop *u)
{
    const struct table_register *t = table(cpu, u);
    enum seg_reg seg = AM_SEG(u->am);
    unsigned wide = cpu_64bit(cpu) ? 8 : 4;
    gva_t linear = cpu_linear(cpu, seg, cpu->r[u->a], 2 + wide, MEM_WRITE);
    cpu_probe(cpu, linear, 2 + wide, MEM_WRITE, 0);
    cpu_write(cpu, seg, cpu->r[u->a], 2, t->limit);
    cpu_write(cpu, seg, cpu->r[u->a] + 2, wide, t->base);
}

/* -- Waiting ------------------------------------------------------------------------------------------- */

void helper_hlt(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    cpu->activity = ACTIVITY_HLT;
    cpu->attention |= ATTN_LEAVE;
    event_recheck(cpu);
}

/* Ends the processor's turn, so that another may do what this one waits for. */
/* It ends its block, so what it waits is seen by the next one's budget check, or by the loop. */
void helper_pause(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    cpu->budget -= PAUSE_TICKS - 1;
    cpu->paused += PAUSE_TICKS - 1;
    if (cpu->vmx_non_root)
        cpu->paused_non_root += PAUSE_TICKS - 1;
    if (cpu->cpu_count > 1) {
        cpu->stops |= 2;
        cpu->attention |= ATTN_STOP;
    }
}

/* -- Time ---------------------------------------------------------------------------------------------- */

static uint64_t visible_tsc(struct cpu *cpu)
{
    uint64_t tsc = cpu_tsc(cpu);
    return cpu->vmx_non_root ? vmx_tsc(cpu, tsc) : tsc;
}

/* imm: 1 RDTSCP */
void helper_rdtsc(struct cpu *cpu, const struct uop *u)
{
    uint64_t tsc = visible_tsc(cpu);
    cpu->r[REG_RAX] = (uint32_t)tsc;
    cpu->r[REG_RDX] = tsc >> 32;
    if (u->imm)
        cpu->r[REG_RCX] = (uint32_t)cpu->msr.tsc_aux;
}

void helper_rdpid(struct cpu *cpu, const struct uop *u)
{
    cpu->r[u->d] = (uint32_t)cpu->msr.tsc_aux;
}

/* There are no counters (CPUID 0AH, version 0), so every index is reserved. */
void helper_rdpmc(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    cpu_raise_gp0(cpu);
}

/* -- Random numbers: a generator of the machine's state (splitmix64) ----------------------------------- */

/* d: register; size */
void helper_random(struct cpu *cpu, const struct uop *u)
{
    uint64_t z = cpu->random_state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    uint64_t *r = &cpu->r[u->d];
    *r = u->size == 1 ? (*r & ~0xffffull) | (z & 0xffff) : u->size == 2 ? (uint32_t)z : z;
    flags_set_arith(cpu, FLAG_CF);
}

/* -- Translations: coherent, so only the operands are checked ------------------------------------------ */

/* a: effective address; am: segment */
void helper_invlpg(struct cpu *cpu, const struct uop *u)
{
    if (!cpu->vmx_non_root)
        return;
    enum seg_reg seg = AM_SEG(u->am);
    bool based = seg >= SEG_FS || !cpu_64bit(cpu);
    gva_t linear = cpu->r[u->a] + (based ? cpu->seg[seg].base : 0);
    vmx_invlpg(cpu, cpu_64bit(cpu) ? linear : (uint32_t)linear);
}

/* a: effective address of the descriptor; am: segment; b: type */
void helper_invpcid(struct cpu *cpu, const struct uop *u)
{
    uint64_t type = cpu->r[u->b];
    if (!cpu_64bit(cpu))
        type = (uint32_t)type;
    if (type > 3)
        cpu_raise_gp0(cpu);
    enum seg_reg seg = AM_SEG(u->am);
    gva_t linear = cpu_linear(cpu, seg, cpu->r[u->a], 16, MEM_READ);
    cpu_probe(cpu, linear, 16, MEM_READ, 0);
    uint64_t pcid = cpu_read(cpu, seg, cpu->r[u->a], 8), address = cpu_read(cpu, seg, cpu->r[u->a] + 8, 8);
    if (type < 2 && !(cpu->cr4 & CR4_PCIDE) && (pcid & 0xfff))
        cpu_raise_gp0(cpu);
    if (type < 2 && pcid >> 12)
        cpu_raise_gp0(cpu);
    if (type == 0 && !cpu_canonical_register(cpu, address))
        cpu_raise_gp0(cpu);
}

/* -- FS and GS bases ----------------------------------------------------------------------------------- */

void helper_swapgs(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    uint64_t base = cpu->seg[SEG_GS].base;
    cpu->seg[SEG_GS].base = cpu->msr.kernel_gs_base;
    cpu->msr.kernel_gs_base = base;
}

static void need_fsgsbase(struct cpu *cpu)
{
    if (!(cpu->cr4 & CR4_FSGSBASE))
        cpu_raise_ud(cpu);
}

/* d: register; size; aux2: SEG_FS or SEG_GS */
void helper_read_base(struct cpu *cpu, const struct uop *u)
{
    need_fsgsbase(cpu);
    uint64_t base = cpu->seg[u->aux2].base;
    cpu->r[u->d] = u->size == 3 ? base : (uint32_t)base;
}

/* a: register */
void helper_write_base(struct cpu *cpu, const struct uop *u)
{
    need_fsgsbase(cpu);
    uint64_t base = u->size == 3 ? cpu->r[u->a] : (uint32_t)cpu->r[u->a];
    if (!cpu_canonical_register(cpu, base))
        cpu_raise_gp0(cpu);
    cpu->seg[u->aux2].base = base;
}

/* -- CPUID, RDMSR, WRMSR ------------------------------------------------------------------------------- */

void helper_cpuid(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    uint32_t out[4];
    cpu_cpuid(cpu, (uint32_t)cpu->r[REG_RAX], (uint32_t)cpu->r[REG_RCX], out);
    cpu->r[REG_RAX] = out[0];
    cpu->r[REG_RBX] = out[1];
    cpu->r[REG_RCX] = out[2];
    cpu->r[REG_RDX] = out[3];
}

void helper_rdmsr(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    uint32_t index = (uint32_t)cpu->r[REG_RCX];
    uint64_t v = 0;
    bool done = cpu->vmx_non_root && vmx_msr_access(cpu, index, false, &v);
    if (!done) {
        if (!cpu_rdmsr(cpu, index, &v))
            cpu_raise_gp0(cpu);
        if (index == 0x10 && cpu->vmx_non_root)
            v = vmx_tsc(cpu, v);
    }
    trace_msr_read(cpu->trace, index, v, cpu->rip);
    cpu->r[REG_RAX] = (uint32_t)v;
    cpu->r[REG_RDX] = v >> 32;
}

void helper_wrmsr(struct cpu *cpu, const struct uop *u)
{
    (void)u;
    uint32_t index = (uint32_t)cpu->r[REG_RCX];
    uint64_t v = (uint32_t)cpu->r[REG_RAX] | cpu->r[REG_RDX] << 32;
    uint64_t efer = cpu->efer, debugctl = cpu->msr.debugctl;
    trace_msr_write(cpu->trace, index, v, cpu->rip);
    if (!(cpu->vmx_non_root && vmx_msr_access(cpu, index, true, &v)) && !cpu_wrmsr(cpu, index, v))
        cpu_raise_gp0(cpu);
    cpu_events_changed(cpu);
    if (efer != cpu->efer || debugctl != cpu->msr.debugctl)
        cpu_mode_changed(cpu);
}
