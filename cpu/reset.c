/*
 * cpu/reset.c -- a processor's life: creation, power-up and RESET, INIT.
 *
 * SDM 3A, table "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT".
 * Departure: what firmware sets up before it starts an operating system, and which guests rely on, is preset
 * here, because a direct boot has no firmware: IA32_FEATURE_CONTROL (locked, VMX enabled) and the MTRRs
 * (write-back below the hole and above 4 GB, uncached in the hole and at A0000H).
 */
#include "cpu/system.h"

#include <string.h>
#include "base/trace.h"
#include "cpu/flags.h"
#include "cpu/lapic.h"
#include "cpu/vmx/vmx.h"

static void reset_segments(struct cpu *cpu)
{
    static const enum seg_reg data[] = {SEG_ES, SEG_SS, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < ARRAY_LEN(data); i++)
        cpu->seg[data[i]] = (struct segment){.limit = 0xffff, .ar = 0x93};
    cpu->seg[SEG_CS] = (struct segment){.selector = 0xf000, .base = 0xffff0000, .limit = 0xffff, .ar = 0x9b};
    cpu->seg[SEG_LDTR] = (struct segment){.limit = 0xffff, .ar = AR_P | SYS_LDT};
    cpu->seg[SEG_TR] = (struct segment){.limit = 0xffff, .ar = AR_P | SYS_TSS_BUSY};
    cpu->gdtr = cpu->idtr = (struct table_register){.limit = 0xffff};
}

static void reset_msrs(struct cpu *cpu)
{
    struct msr_state *m = &cpu->msr;
    memset(m, 0, sizeof(*m));
    m->misc_enable = BIT(0) | BIT(11) | BIT(12); /* fast strings; no BTS, no PEBS */
    m->feature_control = BIT(0) | (cpu_has(cpu, FEAT_VMX) ? BIT(2) : 0);
    m->pat = 0x0007040600070406ull;
    m->mcg_ctl = ~0ull;
    m->ucode_rev = (uint64_t)IA32_MICROCODE_REVISION << 32;
    m->mtrr_def_type = BIT(11) | BIT(10) | 6;
    for (unsigned i = 0; i < 11; i++)
        m->mtrr_fixed[i] = 0x0606060606060606ull;
    m->mtrr_fixed[2] = 0; /* A0000H..BFFFFH: display memory */
    m->mtrr_base[0] = 0xc0000000;
    m->mtrr_mask[0] = (BITS(cpu->model->maxphyaddr - 1, 30)) | BIT(11);
}

static void reset_floating_point(struct cpu *cpu)
{
    memset(&cpu->x87, 0, sizeof(cpu->x87));
    cpu->x87.fcw = 0x40;
    cpu->x87.ftw = 0xff; /* tag word 5555H: zeros, not empty */
    memset(cpu->v, 0, sizeof(cpu->v));
    cpu->mxcsr = 0x1f80;
    cpu->xcr0 = 1;
}

void cpu_reset(struct cpu *cpu, bool init)
{
    trace_cpu_reset(cpu->trace, cpu->id, init);
    memset(cpu->r, 0, sizeof(cpu->r));
    cpu->r[REG_RDX] = cpuid_signature(cpu->model);
    cpu_set_rflags(cpu, FLAG_1);
    cpu->rip = cpu->next_rip = 0xfff0;
    cpu->cr0 = init ? (cpu->cr0 & (CR0_CD | CR0_NW)) | CR0_ET : 0x60000010;
    cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->efer = 0;
    memset(cpu->pdpte, 0, sizeof(cpu->pdpte));
    memset(cpu->dr, 0, sizeof(cpu->dr));
    cpu->dr[6] = DR6_FIXED1;
    cpu->dr[7] = DR7_FIXED1;
    cpu->cpl = 0;
    reset_segments(cpu);
    cpu->shadow_sti = cpu->shadow_mov_ss = cpu->rf_loaded = cpu->tf_masked = false;
    cpu->nmi_blocked = cpu->nmi_pending = cpu->smi_pending = cpu->init_pending = false;
    cpu->pending_db = 0;
    cpu->rep_rip = REP_NONE;
    cpu->event.valid = cpu->delivering.valid = false;
    if (!init)
        cpu->sipi_pending = false;
    cpu->attention = cpu->sipi_pending ? ATTN_SIPI : 0;
    vmx_reset(cpu);
    if (!init) {
        cpu->pkru = 0;
        cpu->stops = 0;
        cpu->sipi_vector = 0;
        cpu->random_state = 0x6472u + cpu->id;
        reset_floating_point(cpu);
        reset_msrs(cpu);
        memset(&cpu->branches, 0, sizeof(cpu->branches));
    }
    lapic_reset(cpu, init);
    bool bsp = cpu->msr.apic_base & BIT(8);
    cpu->activity = bsp ? ACTIVITY_ACTIVE : ACTIVITY_WAIT_SIPI;
    if (!bsp)
        cpu->attention |= ATTN_LEAVE;
    cpu_mode_changed(cpu);
}

bool cpu_init(struct cpu *cpu, const struct cpu_wiring *w, struct error *e)
{
    memset(cpu, 0, sizeof(*cpu));
    cpu->phys = w->phys;
    cpu->bus = w->bus;
    cpu->clock = w->clock;
    cpu->log = w->log;
    cpu->trace = w->trace;
    cpu->code = w->code;
    cpu->stubs = w->stubs;
    cpu->model = w->model;
    cpu->intr = w->intr;
    cpu->id = w->id;
    cpu->cpu_count = w->cpu_count;
    if (!mmu_init(&cpu->mmu, w->phys, e))
        return false;
    if (!vmx_init(cpu, e) || !lapic_init(cpu, e)) {
        cpu_free(cpu);
        return false;
    }
    cpu_reset(cpu, false);
    return true;
}

void cpu_free(struct cpu *cpu)
{
    if (cpu->lapic)
        lapic_free(cpu);
    if (cpu->vmx)
        vmx_free(cpu);
    mmu_free(&cpu->mmu);
}
