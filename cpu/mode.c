/*
 * cpu/mode.c -- what is derived from the mode registers: block key, TLB context, single stepping; RFLAGS as a
 * whole.
 *
 * Keys: cpu/exec.h. Everything here is a pure function of described state, so it is no state itself.
 */
#include "cpu/system.h"

#include "cpu/exec.h"
#include "cpu/flags.h"
#include "cpu/lapic.h"
#include "cpu/mem.h"
#include "cpu/vmx/vmx.h"

uint64_t cpu_rflags(const struct cpu *cpu)
{
    return cpu->rflags | flags_arith(cpu) | FLAG_1;
}

void cpu_set_rflags(struct cpu *cpu, uint64_t value)
{
    static const uint64_t known = FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_RF |
                                  FLAG_VM | FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID;
    flags_set_arith(cpu, value);
    cpu->rflags = (value & known & ~(uint64_t)FLAGS_ARITH) | FLAG_1;
}

void cpu_set_zf(struct cpu *cpu, bool zf)
{
    uint64_t f = flags_arith(cpu) & ~(uint64_t)FLAG_ZF;
    flags_set_arith(cpu, zf ? f | FLAG_ZF : f);
}

/* Base 0, limit 4 GB, usable, and of a type that no access through it can fault on. */
static bool flat(const struct segment *s, bool code, bool protected_mode)
{
    if (s->base != 0 || s->limit != 0xffffffffu || (s->ar & AR_UNUSABLE))
        return false;
    if (!protected_mode)
        return !(AR_TYPE(s->ar) & 4) || (AR_TYPE(s->ar) & 8);
    if (code)
        return (AR_TYPE(s->ar) & 10) == 10;
    return (AR_TYPE(s->ar) & 14) == 2;
}

/* What of the key depends on the CPL. */
static uint32_t level_key(const struct cpu *cpu)
{
    uint32_t key = (uint32_t)cpu->cpl << KEY_CPL_SHIFT;
    key |= (cpu->cr0 & CR0_AM) && (cpu->rflags & FLAG_AC) && cpu->cpl == 3 ? KEY_AC : 0;
    key |= (cpu->cr4 & CR4_TSD) && cpu->cpl ? KEY_TSD : 0;
    key |= (cpu->cr4 & CR4_UMIP) && cpu->cpl ? KEY_UMIP : 0;
    return key;
}

/* A new input goes to the comment of cpu_mode_restored(), too, and into the images of cpu/vmx. */
static uint32_t make_key(const struct cpu *cpu)
{
    const struct segment *s = cpu->seg;
    bool pe = cpu_protected(cpu);
    uint32_t key = level_key(cpu);
    if (cpu_64bit(cpu))
        key |= KEY_L | KEY_FLAT;
    else if (flat(&s[SEG_ES], false, pe) && flat(&s[SEG_CS], true, pe) && flat(&s[SEG_SS], false, pe) &&
             flat(&s[SEG_DS], false, pe))
        key |= KEY_FLAT;
    if (!(key & KEY_L)) {
        key |= s[SEG_CS].ar & AR_DB ? KEY_D : 0;
        key |= s[SEG_SS].ar & AR_DB ? KEY_SS_B : 0;
    }
    key |= pe ? KEY_PE : 0;
    key |= cpu->cr0 & CR0_PG ? KEY_PG : 0;
    key |= cpu_v86(cpu) ? KEY_VM : 0;
    key |= cpu->cr0 & CR0_TS ? KEY_TS : 0;
    key |= cpu->cr0 & CR0_EM ? KEY_EM : 0;
    key |= cpu->cr0 & CR0_MP ? KEY_MP : 0;
    key |= cpu->cr0 & CR0_NE ? KEY_NE : 0;
    key |= cpu->cr4 & CR4_OSFXSR ? KEY_OSFXSR : 0;
    key |= cpu->cr4 & CR4_OSXMMEXCPT ? KEY_OSXMMEXCPT : 0;
    key |= cpu->cr4 & CR4_OSXSAVE ? KEY_OSXSAVE : 0;
    key |= (cpu->xcr0 & 6) == 6 ? KEY_AVX : 0;
    return key;
}

/* A register that was just written. Not together with its neighbours, as compilers would load it: a host
 * waits until a narrow store has left for its cache before a wider load gets the bytes. */
static inline uint64_t alone(const uint64_t *r)
{
    return *(const volatile uint64_t *)r;
}

static void select_context(struct cpu *cpu)
{
    struct mmu_mode mode = {.cr0 = alone(&cpu->cr0),
                            .cr3 = alone(&cpu->cr3),
                            .cr4 = alone(&cpu->cr4),
                            .efer = alone(&cpu->efer),
                            .pkru = cpu->pkru,
                            .cpl = cpu->cpl == 3 ? 3 : 0,
                            .maxphyaddr = cpu->model->maxphyaddr};
    mode.ac = mode.cpl == 0 && (cpu->cr4 & CR4_SMAP) && (cpu->rflags & FLAG_AC);
    if ((cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE) && !(cpu->efer & EFER_LMA))
        for (unsigned i = 0; i < 4; i++)
            mode.pdpte[i] = cpu->pdpte[i];
    if (cpu->vmx_non_root)
        vmx_mmu_mode(cpu, &mode);
    cpu->tlb = mmu_select(&cpu->mmu, &mode);
    if (unlikely(debug_data_armed(cpu))) {
        /* One empty context stands for all: what is remembered by context must not survive a change. */
        cpu->tlb = (struct tlb *)(uintptr_t)&mem_blank_tlb;
        cpu->mmu.generation++;
    }
}

void cpu_mode_changed(struct cpu *cpu)
{
    cpu_mode_restored(cpu, make_key(cpu));
}

void cpu_level_changed(struct cpu *cpu)
{
    if (!(cpu->key & KEY_L) || !cpu_64bit(cpu)) {
        cpu_mode_changed(cpu);
        return;
    }
    const uint32_t parts = 3u << KEY_CPL_SHIFT | KEY_AC | KEY_TSD | KEY_UMIP;
    cpu_mode_restored(cpu, (cpu->key & ~parts) | level_key(cpu));
}

/* What of the new mode, and of the flags that came with it, the loop must look at. */
static inline void look(struct cpu *cpu)
{
    if ((cpu->rflags & (FLAG_TF | FLAG_RF)) || unlikely(cpu->msr.debugctl & DEBUGCTL_LBR) ||
        unlikely(cpu->dr[7] & 0xff && debug_instruction_armed(cpu)))
        cpu->attention |= ATTN_SINGLE;
    else if (cpu->attention & ATTN_SINGLE)
        /* The running instruction still ends by event_after_instruction(). */
        cpu->attention = (cpu->attention & ~(uint32_t)ATTN_SINGLE) | ATTN_LEAVE;
    if ((cpu->rflags & FLAG_IF) || cpu->vmx_non_root)
        if (lapic_pending(cpu))
            cpu->attention |= ATTN_INTR;
    if (cpu->nmi_pending)
        cpu->attention |= ATTN_NMI;
    if (unlikely((cpu->rflags & FLAG_VIF) && (cpu->rflags & FLAG_VIP)))
        cpu->attention |= ATTN_LEAVE; /* v86_check_pending() */
}

void cpu_mode_restored(struct cpu *cpu, uint32_t key)
{
    cpu->key = key;
    select_context(cpu);
    look(cpu);
}

/* Are the registers that mmu_mode is made of those of m? Register by register: they have just been written,
 * and a wider load would wait for that. */
static inline bool same_registers(const struct cpu *cpu, const struct mmu_mode *m)
{
    uint8_t level = cpu->cpl == 3 ? 3 : 0;
    bool ac = level == 0 && (cpu->cr4 & CR4_SMAP) && (cpu->rflags & FLAG_AC);
    return m->cr3 == cpu->cr3 && m->cr0 == cpu->cr0 && m->cr4 == cpu->cr4 && m->efer == cpu->efer &&
           m->pkru == cpu->pkru && m->cpl == level && m->ac == ac;
}

void cpu_mode_again(struct cpu *cpu, uint32_t key, struct mmu_choice *c)
{
    /* Armed breakpoints: select_context() has more to do. PAE paging: the PDPTEs belong to the mode. */
    bool plain = !(cpu->dr[7] & 0xff) && (cpu->efer & EFER_LMA || !(cpu->cr0 & CR0_PG));
    struct tlb *t = NULL;
    if (likely(plain && same_registers(cpu, &c->mode)))
        t = mmu_select_again(&cpu->mmu, c);
    if (likely(t)) {
        cpu->key = key;
        cpu->tlb = t;
        look(cpu);
        return;
    }
    cpu_mode_restored(cpu, key);
    *c = (struct mmu_choice){.id = 0};
    if (plain)
        mmu_remember(&cpu->mmu, c);
}

bool cpu_loaded(struct cpu *cpu, struct error *e)
{
    cpu->attention = 0;
    cpu->block = NULL;
    if (cpu->nmi_pending)
        cpu->attention |= ATTN_NMI;
    if (cpu->smi_pending)
        cpu->attention |= ATTN_SMI;
    if (cpu->init_pending)
        cpu->attention |= ATTN_INIT;
    if (cpu->sipi_pending)
        cpu->attention |= ATTN_SIPI;
    if (cpu->shadow_sti || cpu->shadow_mov_ss)
        cpu->attention |= ATTN_SHADOW;
    if (cpu->pending_db)
        cpu->attention |= ATTN_DEBUG;
    if (cpu->activity != ACTIVITY_ACTIVE)
        cpu->attention |= ATTN_LEAVE;
    cpu->stops = 0;
    /* CR8 is a view of the TPR; what is pending depends on IA32_APIC_BASE, which is not in the APIC's
     * section. */
    lapic_set_tpr(cpu, lapic_tpr(cpu));
    lapic_place(cpu);
    if (!vmx_loaded(cpu, e))
        return false;
    cpu_mode_changed(cpu);
    event_recheck(cpu);
    return true;
}
