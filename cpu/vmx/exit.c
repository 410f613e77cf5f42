/*
 * vmx/exit.c -- VM exit: record why, save guest state, load host state.
 *
 * SDM 3C, "VM Exits": exit information; saving guest state; saving MSRs; loading host state; loading MSRs;
 * VMX aborts. Reads:  struct cpu, host-state area, VM-exit controls.   Writes: current VMCS, struct cpu.
 * Order:  as in the chapter; nothing here can fault, an MSR or PDPTE that cannot be loaded is a VMX abort.
 * Not here: whether to exit (intercept.c, apicv.c, timer.c), instruction information (insn_info.c).
 * Watch:  --trace 'vmx_exit'                               Tests: tests/unit/test_vmx_entry.c
 */
#include "base/trace.h"
#include "cpu/exec.h"
#include "cpu/flags.h"
#include "cpu/profile.h"
#include "cpu/vmx/internal.h"

enum { ABORT_SAVE_MSR = 1, ABORT_HOST_PDPTE = 2, ABORT_LOAD_MSR = 4, ABORT_HOST_ADDRESS_SPACE = 6 };

/* What exists in non-root operation only. */
static void leave_non_root(struct cpu *cpu)
{
    struct vmx *x = cpu->vmx;
    cpu->vmx_non_root = false;
    cpu->vmx_guards = 0;
    cpu->tsc_offset = 0;
    x->tsc_multiplier = 0;
    cpu->mmu.pml.enabled = false;
    cpu->mmu.pml.index = NULL;
    x->linked = NULL;
    x->linked_address = VMX_NO_VMCS;
    if (unlikely(x->timer_deadline != CLOCK_NEVER))
        vmx_timer_stop(cpu);
    x->ple_running = x->virtual_nmi_blocked = x->injecting = false;
    x->mtf_wait = x->mtf_now = x->trap_pending = x->virtual_interrupt = false;
    cpu->attention &= ~(uint32_t)(ATTN_VMX | ATTN_MTF | ATTN_SHADOW | ATTN_DEBUG);
}

/* SDM 3C, "VMX Aborts": the indicator is written to the VMCS region and the processor shuts down. */
static NORETURN void abort_vmx(struct cpu *cpu, uint32_t indicator)
{
    phys_store(cpu->phys, cpu->vmx->current + VMCS_REGION_ABORT, 4, indicator);
    log_error(cpu->log, "cpu%u: VMX abort %u: the processor shuts down", cpu->id, indicator);
    if (cpu->vmx_non_root) {
        cpu->insns_non_root += cpu->clock->now;
        leave_non_root(cpu);
    }
    cpu->vmx_on = false;
    cpu->rep_rip = REP_NONE;
    cpu->event.valid = cpu->delivering.valid = false;
    cpu->shadow_sti = cpu->shadow_mov_ss = false;
    cpu->activity = ACTIVITY_SHUTDOWN;
    cpu->stops |= 1;
    cpu->attention |= ATTN_STOP | ATTN_LEAVE;
    cpu_mode_changed(cpu);
    cpu_resume(cpu);
}

/* -- Saving -------------------------------------------------------------------------------------------- */

/* Word by word: memcmp() would be a call, and its wide loads would wait for a base that was just written. */
static inline bool same_segments(const struct segment a[SEG_COUNT], const struct segment b[SEG_COUNT])
{
    const uint8_t *p = (const uint8_t *)a, *q = (const uint8_t *)b;
    uint64_t differ = 0;
#pragma GCC unroll 24
    for (unsigned i = 0; i < SEG_COUNT * sizeof(struct segment); i += 8) {
        uint64_t x, y;
        memcpy(&x, p + i, 8);
        memcpy(&y, q + i, 8);
        differ |= x ^ y;
    }
    return !differ;
}

/* Saving notes what differs from what was there, so that the checks of the next entry know what to look at.
 */
static void save_segments(struct cpu *cpu, struct vmcs *v)
{
    /* The saved SS.DPL is the CPL even if SS is unusable or was loaded in real-address mode. */
    struct segment *ss = &cpu->seg[SEG_SS];
    if (AR_DPL(ss->ar) != cpu->cpl)
        ss->ar = (ss->ar & ~(3u << 5)) | (uint32_t)cpu->cpl << 5;
    /* Padding may differ though no register does: then the checks are made once too often, which nobody sees.
     */
    if (unlikely(!same_segments(v->guest_segments, cpu->seg))) {
        memcpy(v->guest_segments, cpu->seg, sizeof(v->guest_segments));
        v->dirty |= DIRTY_GUEST_SEGMENTS;
    }
}

/* SDM 3C, "Saving Control Registers, Debug Registers, and MSRs" */
static void save_registers(struct cpu *cpu, struct vmcs *v)
{
    uint64_t changed = 0;
    if (v->guest_cr0 != cpu->cr0)
        v->dirty |= DIRTY_GUEST;
    v->guest_cr0 = cpu->cr0;
#define SAVE(member, value) changed |= v->member ^ (value), v->member = (value)
    SAVE(guest_cr3, cpu->cr3);
    SAVE(guest_cr4, cpu->cr4);
    SAVE(guest_sysenter_cs, (uint32_t)cpu->msr.sysenter_cs);
    SAVE(guest_sysenter_esp, cpu->msr.sysenter_esp);
    SAVE(guest_sysenter_eip, cpu->msr.sysenter_eip);
    SAVE(guest_gdtr_base, cpu->gdtr.base);
    SAVE(guest_gdtr_limit, cpu->gdtr.limit);
    SAVE(guest_idtr_base, cpu->idtr.base);
    SAVE(guest_idtr_limit, cpu->idtr.limit);
    if (v->exit_controls & EXITCTL_SAVE_DEBUG_CONTROLS) {
        SAVE(guest_dr7, cpu->dr[7]);
        SAVE(guest_debugctl, cpu->msr.debugctl);
    }
    if (v->exit_controls & EXITCTL_SAVE_PAT)
        SAVE(guest_pat, cpu->msr.pat);
    if (v->exit_controls & EXITCTL_SAVE_EFER)
        SAVE(guest_efer, cpu->efer);
#undef SAVE
    if (changed)
        v->dirty |= DIRTY_GUEST_REGISTERS;
    uint32_t ia32e = cpu->efer & EFER_LMA ? ENTRYCTL_IA32E_MODE_GUEST : 0;
    if ((v->entry_controls & ENTRYCTL_IA32E_MODE_GUEST) != ia32e) {
        v->entry_controls ^= ENTRYCTL_IA32E_MODE_GUEST;
        v->dirty = DIRTY_ALL;
    }
    if (vmx_proc2(v) & PROC2_ENABLE_EPT && cpu->cr0 & CR0_PG && cpu->cr4 & CR4_PAE &&
        !(cpu->efer & EFER_LMA)) {
        v->guest_pdpte0 = cpu->pdpte[0];
        v->guest_pdpte1 = cpu->pdpte[1];
        v->guest_pdpte2 = cpu->pdpte[2];
        v->guest_pdpte3 = cpu->pdpte[3];
    }
}

/* SDM 3C, "Saving Non-Register State" */
static void save_rest(struct cpu *cpu, struct vmcs *v)
{
    struct vmx *x = cpu->vmx;
    bool nmi = v->pin & PIN_VIRTUAL_NMIS ? x->virtual_nmi_blocked : cpu->nmi_blocked;
    v->guest_interruptibility = (cpu->shadow_sti ? INTERRUPTIBILITY_STI : 0) |
                                (cpu->shadow_mov_ss ? INTERRUPTIBILITY_MOV_SS : 0) |
                                (nmi ? INTERRUPTIBILITY_NMI : 0);
    v->guest_activity = cpu->activity;
    uint64_t db = cpu->pending_db & (BITS(3, 0) | BIT(14));
    v->guest_pending_debug = db | (db & BITS(3, 0) ? BIT(12) : 0);
    if (v->pin & PIN_ACTIVATE_PREEMPTION_TIMER && v->exit_controls & EXITCTL_SAVE_PREEMPTION_TIMER)
        v->preemption_timer = vmx_timer_value(cpu);
}

/* -- MSR lists ----------------------------------------------------------------------------------------- */

/* MSRs that the lists may not hold (SDM 3C, "Loading MSRs", "Saving MSRs"). */
static bool list_msr_refused(uint32_t index, bool load, bool entry)
{
    if (index >> 8 == 8)
        return true; /* x2APIC */
    if (load && (index == 0xc0000100 || index == 0xc0000101))
        return true; /* FS and GS base come from the segment state */
    if (load && (index == 0x79 || index == 0x8b) && entry)
        return true;                       /* microcode update */
    return index == 0x9b || index == 0x9e; /* SMM */
}

uint32_t vmx_msr_load(struct cpu *cpu, gpa_t list, uint32_t count, bool entry)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t head = cpu_phys_read(cpu, list + 16 * (uint64_t)i, 8);
        uint64_t value = cpu_phys_read(cpu, list + 16 * (uint64_t)i + 8, 8);
        if (i >= MISC_MSR_LIST_MAX || head >> 32 || list_msr_refused((uint32_t)head, true, entry) ||
            !cpu_wrmsr(cpu, (uint32_t)head, value))
            return i + 1;
    }
    return 0;
}

uint32_t vmx_msr_store(struct cpu *cpu, gpa_t list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t head = cpu_phys_read(cpu, list + 16 * (uint64_t)i, 8), value;
        if (i >= MISC_MSR_LIST_MAX || head >> 32 || list_msr_refused((uint32_t)head, false, false) ||
            !cpu_rdmsr(cpu, (uint32_t)head, &value))
            return i + 1;
        cpu_phys_write(cpu, list + 16 * (uint64_t)i + 8, 8, value);
    }
    return 0;
}

/* -- Host state ---------------------------------------------------------------------------------------- */

/* SDM 3C, "Loading Host Control Registers, Debug Registers, MSRs" */
static void load_host_registers(struct cpu *cpu, const struct vmcs *v)
{
    const uint64_t cr0_kept = BITS(63, 32) | BITS(28, 19) | BIT(17) | BITS(15, 6) | CR0_ET | CR0_NW | CR0_CD;
    bool wide = v->exit_controls & EXITCTL_HOST_ADDRESS_SPACE_SIZE;
    cpu->cr0 = (v->host_cr0 & ~cr0_kept) | (cpu->cr0 & cr0_kept);
    cpu->cr3 = v->host_cr3 & BITS(cpu->model->maxphyaddr - 1, 0);
    cpu->cr4 = wide ? v->host_cr4 | CR4_PAE : v->host_cr4 & ~(uint64_t)CR4_PCIDE;
    cpu->dr[7] = 0x400;
    cpu->msr.debugctl = 0;
    cpu->msr.sysenter_cs = v->host_sysenter_cs;
    cpu->msr.sysenter_esp = v->host_sysenter_esp;
    cpu->msr.sysenter_eip = v->host_sysenter_eip;
    if (v->exit_controls & EXITCTL_LOAD_PERF_GLOBAL_CTRL)
        cpu->msr.perf_global_ctrl = v->host_perf_global_ctrl;
    if (v->exit_controls & EXITCTL_LOAD_PAT)
        cpu->msr.pat = v->host_pat;
    if (v->exit_controls & EXITCTL_LOAD_EFER)
        cpu->efer = v->host_efer;
    cpu->efer &= ~(uint64_t)(EFER_LMA | EFER_LME);
    if (wide)
        cpu->efer |= EFER_LMA | EFER_LME;
}

static void load_host(struct cpu *cpu, struct vmcs *v)
{
    if (unlikely(!v->prepared))
        vmx_prepare(v);
    load_host_registers(cpu, v);
    memcpy(cpu->seg, v->host_segments, sizeof(cpu->seg));
    cpu->gdtr = (struct table_register){v->host_gdtr_base, 0xffff};
    cpu->idtr = (struct table_register){v->host_idtr_base, 0xffff};
    cpu->cpl = 0;
    cpu->rip = cpu->next_rip = v->host_rip;
    cpu->r[REG_RSP] = v->host_rsp;
    cpu->rflags = FLAG_1;
    flags_set_arith(cpu, 0);
    cpu->activity = ACTIVITY_ACTIVE;
    cpu->shadow_sti = cpu->shadow_mov_ss = false;
    cpu->pending_db = 0;
    cpu->rep_rip = REP_NONE;
    cpu->event.valid = cpu->delivering.valid = false;

    if (cpu->vmx_non_root)
        cpu->insns_non_root += cpu->clock->now;
    leave_non_root(cpu);
    /* Interrupts that the guest's state held back are looked at again. */
    if (cpu->nmi_pending)
        cpu->attention |= ATTN_NMI;

    bool pae = cpu->cr0 & CR0_PG && cpu->cr4 & CR4_PAE && !(cpu->efer & EFER_LMA);
    if (pae) {
        cpu_mode_changed(cpu); /* the PDPTEs are at a physical address of the host, no longer of the guest */
        if (!cpu_load_pdptes(cpu, cpu->cr3))
            abort_vmx(cpu, ABORT_HOST_PDPTE);
    }
    if (likely(v->host_key_xcr0 == cpu->xcr0)) {
        cpu_mode_again(cpu, v->host_key, &v->host_choice);
    } else {
        cpu_mode_changed(cpu);
        v->host_key = cpu->key;
        v->host_key_xcr0 = cpu->xcr0;
    }
    if (v->exit_msr_load_count && vmx_msr_load(cpu, v->exit_msr_load_address, v->exit_msr_load_count, false))
        abort_vmx(cpu, ABORT_LOAD_MSR);
    cpu_events_changed(cpu);
}

/* After cpu_sync(). Another cpu_sync() then changes nothing, so nothing called on the way puts the old RIP
 * back. */
void vmx_leave_block(struct cpu *cpu)
{
    if (cpu->block) {
        block_pay(cpu, cpu->uop->insn - cpu->block->insn_count);
        cpu->block = NULL;
    }
}

/* -- The exit ------------------------------------------------------------------------------------------ */

/* IDT-vectoring information: the event whose delivery the exit interrupts. SDM 3C, "Information for VM Exits
 * During Event Delivery". */
static void record_vectoring(const struct cpu *cpu, struct vmcs *v, const struct event *d)
{
    v->idt_vectoring_info = (uint32_t)(d->vector | (unsigned)d->type << 8 | INFO_VALID);
    if (d->has_error && cpu_protected(cpu)) {
        v->idt_vectoring_info |= INFO_ERROR_VALID;
        v->idt_vectoring_error = d->error_code;
    }
}

static bool software_event(unsigned type)
{
    return type == EVENT_SOFTWARE_INTERRUPT || type == EVENT_PRIVILEGED_SOFTWARE_EXCEPTION ||
           type == EVENT_SOFTWARE_EXCEPTION;
}

void vmx_make_exit(struct cpu *cpu, const struct vmx_exit *e)
{
    struct vmx *x = cpu->vmx;
    struct vmcs *v = x->vmcs;
    vmx_leave_block(cpu);

    v->exit_reason = e->reason;
    v->exit_qualification = e->qualification;
    v->exit_interruption_info = e->interruption_info;
    if (e->interruption_info & INFO_ERROR_VALID)
        v->exit_interruption_error = e->interruption_error;
    v->exit_instruction_length = e->length;
    v->idt_vectoring_info = 0;
    bool vectoring = cpu->delivering.valid && !e->no_vectoring;
    if (vectoring) {
        record_vectoring(cpu, v, &cpu->delivering);
        if (software_event(cpu->delivering.type))
            v->exit_instruction_length = cpu->delivering.insn_length;
    }
    v->entry_interruption_info &= ~(uint32_t)INFO_VALID;

    save_registers(cpu, v);
    save_segments(cpu, v);
    v->guest_rip = cpu->rip;
    v->guest_rsp = cpu->r[REG_RSP];
    v->guest_rflags = cpu_rflags(cpu);
    /* SDM 3C, "Saving RIP, RSP, RFLAGS, and SSP": during delivery, RF as the event would have pushed it. */
    unsigned rf = e->rf;
    if (vectoring && e->reason != EXIT_REASON_EXCEPTION_NMI)
        rf = event_rf(cpu, &cpu->delivering) ? RF_SET : RF_CLEAR;
    if (rf == RF_CLEAR)
        v->guest_rflags &= ~(uint64_t)FLAG_RF;
    if (rf == RF_SET)
        v->guest_rflags |= FLAG_RF;
    save_rest(cpu, v);
    x->exits[e->reason < EXIT_REASON_COUNT ? e->reason : 0]++;
    trace_vmx_exit(cpu->trace, e->reason, e->qualification, cpu->rip);

    if (v->exit_msr_store_count && vmx_msr_store(cpu, v->exit_msr_store_address, v->exit_msr_store_count))
        abort_vmx(cpu, ABORT_SAVE_MSR);
    if (e->nmi)
        cpu->nmi_blocked = true;
    if (unlikely(cpu_long_mode(cpu) && !(v->exit_controls & EXITCTL_HOST_ADDRESS_SPACE_SIZE)))
        abort_vmx(cpu, ABORT_HOST_ADDRESS_SPACE);
    load_host(cpu, v);
}

void vmx_exit(struct cpu *cpu, const struct vmx_exit *e)
{
    vmx_make_exit(cpu, e);
    cpu_resume(cpu);
}

void vmx_make_exit_insn(struct cpu *cpu, unsigned reason, uint64_t qualification)
{
    cpu_sync(cpu);
    struct vmx_exit e = {.reason = (uint16_t)reason,
                         .rf = RF_CLEAR,
                         .qualification = qualification,
                         .length = cpu_insn_length(cpu)};
    vmx_make_exit(cpu, &e);
}

void vmx_exit_insn(struct cpu *cpu, unsigned reason, uint64_t qualification)
{
    vmx_make_exit_insn(cpu, reason, qualification);
    cpu_resume(cpu);
}

void vmx_exit_event(struct cpu *cpu, unsigned reason, uint64_t qualification)
{
    struct vmx_exit e = {.reason = (uint16_t)reason, .no_vectoring = true, .qualification = qualification};
    vmx_exit(cpu, &e);
}

void vmx_exit_after_insn(struct cpu *cpu, unsigned reason, uint64_t qualification)
{
    struct vmx *x = cpu->vmx;
    x->trap_pending = true;
    x->trap_reason = (uint16_t)reason;
    x->trap_qualification = qualification;
    cpu->attention |= ATTN_MTF | ATTN_LEAVE;
}

/* SDM 3C, "VM-Entry Failures During or After Loading Guest State" */
void vmx_entry_failed(struct cpu *cpu, unsigned reason, uint64_t qualification)
{
    struct vmcs *v = cpu->vmx->vmcs;
    v->exit_reason = (uint32_t)(reason | EXIT_REASON_ENTRY_FAILURE);
    v->exit_qualification = qualification;
    cpu->vmx->exits[reason]++;
    trace_vmx_exit(cpu->trace, v->exit_reason, qualification, v->guest_rip);
    load_host(cpu, v);
    cpu_resume(cpu);
}
