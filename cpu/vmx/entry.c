/*
 * vmx/entry.c -- VM entry: check the VMCS, load guest state, inject the event.
 *
 * SDM 3C, "VM Entries" (edition: docs/sdm-edition.md).
 * Reads:  current VMCS, capability MSRs.   Writes: struct cpu, exit-information fields.
 * Order:  control and host checks fail the instruction; guest checks and MSR loading end in a VM exit.
 * Skips:  a group of checks is not made again while nothing that it reads was written since it last passed:
 * by VMWRITE, or by the saving of guest state at a VM exit (enum DIRTY_* in vmcs.h). Rows that read memory,
 * the event to inject, RIP, RFLAGS and non-register state are always checked. Not here: the checks
 * (entry_checks.def), exits (exit.c). Watch:  --trace 'vmx_entry'                 Tests:
 * tests/unit/test_vmx_entry.c, test_vmx_checks.c
 */
#include "base/trace.h"
#include "cpu/vmx/internal.h"

/* -- Checks -------------------------------------------------------------------------------------------- */

static void log_failure(struct cpu *cpu, int row)
{
    const struct check_info *r = &check_rows[row];
    log_info(cpu->log, "cpu%u: VM entry refused, %s: %s (SDM 3C, \"%s\")", cpu->id, r->name, r->sentence,
             r->section);
}

static unsigned check_controls_and_host(struct cpu *cpu, struct vmcs *v)
{
    uint8_t mode = (uint8_t)(1 | (cpu_long_mode(cpu) ? 2 : 0));
    bool all = v->dirty & DIRTY_CONTROL || v->checked_mode != mode;
    int row = all ? vmx_check_controls(cpu, v) : vmx_check_memory(cpu, v);
    if (!all && row < 0 && v->entry_interruption_info & INFO_VALID)
        row = vmx_check_entry_controls(cpu, v);
    if (unlikely(row >= 0)) {
        log_failure(cpu, row);
        return VMERR_ENTRY_CONTROLS;
    }
    if (all || v->dirty & DIRTY_HOST) {
        row = vmx_check_host(cpu, v);
        if (row >= 0) {
            log_failure(cpu, row);
            return VMERR_ENTRY_HOST;
        }
        v->dirty &= (uint8_t) ~(DIRTY_CONTROL | DIRTY_HOST);
        v->checked_mode = mode;
        v->prepared = false;
    }
    if (unlikely(!v->prepared))
        vmx_prepare(v);
    return 0;
}

/* An unusable register may have had any bits. */
#define RIGHTS_OF_REGISTER 0x1f0ffu

static void note_rights(struct vmcs *v)
{
    uint32_t rights = 0;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        rights |= v->guest_segments[i].ar;
    v->odd_rights = rights & ~RIGHTS_OF_REGISTER || v->guest_cs_ar & AR_UNUSABLE;
}

/* The common case, in which every row of vmx_check_guest_rest() holds: 64-bit mode, nothing pending, blocked
 * or injected. */
static inline bool rest_is_plain(const struct vmcs *v)
{
    return !(v->guest_interruptibility | v->guest_activity | v->guest_pending_debug) &&
           !(v->entry_interruption_info & INFO_VALID) && v->link_pointer == ~0ull &&
           (v->guest_rflags & (BITS(63, 22) | FLAG_VM | BIT(15) | BIT(5) | BIT(3) | FLAG_1)) == FLAG_1 &&
           v->entry_controls & ENTRYCTL_IA32E_MODE_GUEST && v->guest_cs_ar & AR_L &&
           cpu_canonical_bits(v->guest_rip, 48);
}

/* In virtual-8086 mode the rows of segments are other ones: what passed before says nothing about them, nor
 * they about later. */
static void check_guest(struct cpu *cpu, struct vmcs *v)
{
    bool v86 = v->guest_rflags & FLAG_VM;
    int row = -1;
    if (v->dirty & DIRTY_GUEST) {
        v->guest_keyed = false;
        note_rights(v);
    }
    if (v->dirty & DIRTY_GUEST_REGISTERS)
        row = vmx_check_guest_registers(cpu, v);
    if (row < 0 && (v86 || v->dirty & DIRTY_GUEST_SEGMENTS))
        row = vmx_check_guest_segments(cpu, v);
    if (row < 0 && unlikely(!rest_is_plain(v)))
        row = vmx_check_guest_rest(cpu, v);
    if (likely(row < 0)) {
        v->dirty &= (uint8_t)(v86 ? ~DIRTY_GUEST_REGISTERS : ~DIRTY_GUEST);
        return;
    }
    log_failure(cpu, row);
    static const uint8_t qualification[] = {
        [CHECK_GUEST] = 0, [CHECK_GUEST_PDPTE] = 2, [CHECK_GUEST_NMI] = 3, [CHECK_GUEST_LINK] = 4};
    vmx_leave_block(cpu);
    vmx_entry_failed(cpu, EXIT_REASON_ENTRY_GUEST_STATE, qualification[check_rows[row].group]);
}

/* -- Loading ------------------------------------------------------------------------------------------- */

/* SDM 3C, "Loading Guest Control Registers, Debug Registers, and MSRs" */
static void load_registers(struct cpu *cpu, const struct vmcs *v)
{
    const uint64_t cr0_kept = BITS(28, 19) | BIT(17) | BITS(15, 6) | CR0_ET | CR0_NW | CR0_CD;
    bool ia32e = v->entry_controls & ENTRYCTL_IA32E_MODE_GUEST;
    cpu->cr0 = (v->guest_cr0 & ~cr0_kept) | (cpu->cr0 & cr0_kept);
    cpu->cr3 = v->guest_cr3;
    cpu->cr4 = v->guest_cr4;
    if (v->entry_controls & ENTRYCTL_LOAD_DEBUG_CONTROLS) {
        cpu->dr[7] = (v->guest_dr7 & ~(BIT(12) | BIT(14) | BIT(15))) | BIT(10);
        cpu->msr.debugctl = v->guest_debugctl;
    }
    cpu->msr.sysenter_cs = v->guest_sysenter_cs;
    cpu->msr.sysenter_esp = v->guest_sysenter_esp;
    cpu->msr.sysenter_eip = v->guest_sysenter_eip;
    if (v->entry_controls & ENTRYCTL_LOAD_EFER) {
        cpu->efer = v->guest_efer;
    } else {
        cpu->efer = (cpu->efer & ~(uint64_t)EFER_LMA) | (ia32e ? EFER_LMA : 0);
        if (cpu->cr0 & CR0_PG)
            cpu->efer = (cpu->efer & ~(uint64_t)EFER_LME) | (ia32e ? EFER_LME : 0);
    }
    if (v->entry_controls & ENTRYCTL_LOAD_PERF_GLOBAL_CTRL)
        cpu->msr.perf_global_ctrl = v->guest_perf_global_ctrl;
    if (v->entry_controls & ENTRYCTL_LOAD_PAT)
        cpu->msr.pat = v->guest_pat;
}

static void load_segments(struct cpu *cpu, const struct vmcs *v)
{
    memcpy(cpu->seg, v->guest_segments, sizeof(cpu->seg));
    if (unlikely(v->odd_rights)) {
        for (unsigned i = 0; i < SEG_COUNT; i++)
            cpu->seg[i].ar &= RIGHTS_OF_REGISTER;
        cpu->seg[SEG_CS].ar &= ~AR_UNUSABLE;
    }
    cpu->gdtr = (struct table_register){v->guest_gdtr_base, (uint16_t)v->guest_gdtr_limit};
    cpu->idtr = (struct table_register){v->guest_idtr_base, (uint16_t)v->guest_idtr_limit};
    cpu->cpl = v->guest_rflags & FLAG_VM ? 3 : (uint8_t)AR_DPL(v->guest_ss_ar);
}

static void load_pdptes(struct cpu *cpu, const struct vmcs *v)
{
    if (!(cpu->cr0 & CR0_PG) || !(cpu->cr4 & CR4_PAE) || cpu->efer & EFER_LMA)
        return;
    if (vmx_proc2(v) & PROC2_ENABLE_EPT) {
        cpu->pdpte[0] = v->guest_pdpte0;
        cpu->pdpte[1] = v->guest_pdpte1;
        cpu->pdpte[2] = v->guest_pdpte2;
        cpu->pdpte[3] = v->guest_pdpte3;
    } else {
        cpu_load_pdptes(cpu, cpu->cr3);
    }
}

/* SDM 3C, "Loading Guest Non-Register State"; "Delivery of Pending Debug Exceptions after VM Entry". */
static void load_rest(struct cpu *cpu, const struct vmcs *v)
{
    uint32_t i = v->guest_interruptibility;
    cpu->activity = (uint8_t)v->guest_activity;
    bool sti = i & INTERRUPTIBILITY_STI, mov_ss = i & INTERRUPTIBILITY_MOV_SS;
    cpu->shadow_sti = sti;
    cpu->shadow_mov_ss = mov_ss;
    if (unlikely(sti || mov_ss))
        cpu->attention |= ATTN_SHADOW;
    if (v->pin & PIN_VIRTUAL_NMIS) {
        cpu->vmx->virtual_nmi_blocked = i & INTERRUPTIBILITY_NMI;
        cpu->nmi_blocked = false;
    } else {
        cpu->nmi_blocked = i & INTERRUPTIBILITY_NMI;
    }
    bool injects = v->entry_interruption_info & INFO_VALID;
    unsigned type = INFO_TYPE(v->entry_interruption_info);
    uint64_t pending = v->guest_pending_debug & BIT(14);
    if (v->guest_pending_debug & BIT(12))
        pending |= v->guest_pending_debug & BITS(3, 0);
    /* An event that is not a software one takes their place. */
    if (injects && (type == EVENT_EXTERNAL || type == EVENT_NMI || type == EVENT_HARDWARE_EXCEPTION))
        pending = 0;
    cpu->pending_db = pending;
}

/* -- What is derived from the VMCS in non-root operation ----------------------------------------------- */

static uint64_t guards(const struct vmcs *v)
{
    uint32_t proc = v->proc, proc2 = vmx_proc2(v);
    uint64_t g = BIT(GUARD_CPUID) | BIT(GUARD_INVD) | BIT(GUARD_XSETBV) | BIT(GUARD_GETSEC) | BIT(GUARD_RSM) |
                 BIT(GUARD_VMX_INSN);
#define ON(word, control, guard)                                                                             \
    if (word & (control))                                                                                    \
    g |= BIT(GUARD_##guard)
#define OFF(word, control, guard)                                                                            \
    if (!(word & (control)))                                                                                 \
    g |= BIT(GUARD_##guard)
    ON(proc, PROC_HLT_EXITING, HLT);
    ON(proc, PROC_RDTSC_EXITING, RDTSC);
    ON(proc, PROC_RDTSC_EXITING, RDTSCP);
    ON(proc, PROC_RDPMC_EXITING, RDPMC);
    ON(proc, PROC_MWAIT_EXITING, MWAIT);
    ON(proc, PROC_MONITOR_EXITING, MONITOR);
    ON(proc, PROC_PAUSE_EXITING, PAUSE);
    ON(proc2, PROC2_PAUSE_LOOP_EXITING, PAUSE);
    ON(proc2, PROC2_WBINVD_EXITING, WBINVD);
    ON(proc2, PROC2_WBINVD_EXITING, WBNOINVD);
    ON(proc2, PROC2_RDRAND_EXITING, RDRAND);
    ON(proc2, PROC2_RDSEED_EXITING, RDSEED);
    ON(proc2, PROC2_DESCRIPTOR_TABLE_EXITING, DESCRIPTOR);
    OFF(proc2, PROC2_ENABLE_RDTSCP, RDTSCP);
    OFF(proc2, PROC2_ENABLE_RDTSCP, RDPID);
    OFF(proc2, PROC2_ENABLE_INVPCID, INVPCID);
    ON(proc, PROC_INVLPG_EXITING, INVPCID);
    OFF(proc2, PROC2_ENABLE_USER_WAIT_AND_PAUSE, UMWAIT);
    if (!(proc2 & PROC2_ENABLE_XSAVES_XRSTORS) || v->xss_exiting_bitmap)
        g |= BIT(GUARD_XSAVES) | BIT(GUARD_XRSTORS);
#undef ON
#undef OFF
    return g;
}

/* SDM 3C, "Loading Host Segment and Descriptor-Table Registers" */
static void prepare_host_segments(struct vmcs *v)
{
    bool wide = v->exit_controls & EXITCTL_HOST_ADDRESS_SPACE_SIZE;
    uint32_t code = 11 | AR_S | AR_P | AR_G | (wide ? AR_L : AR_DB);
    uint32_t data = 3 | AR_S | AR_P | AR_G | AR_DB;
    struct segment *s = v->host_segments;
    memset(s, 0, sizeof(v->host_segments));
    s[SEG_CS] = (struct segment){.selector = v->host_cs_selector, .limit = ~0u, .ar = code};
#define DATA(SEG, reg, b)                                                                                    \
    s[SEG] = (struct segment){.selector = v->host_##reg##_selector,                                          \
                              .base = b,                                                                     \
                              .limit = ~0u,                                                                  \
                              .ar = data | (v->host_##reg##_selector ? 0 : AR_UNUSABLE)}
    DATA(SEG_SS, ss, 0);
    DATA(SEG_DS, ds, 0);
    DATA(SEG_ES, es, 0);
    DATA(SEG_FS, fs, v->host_fs_base);
    DATA(SEG_GS, gs, v->host_gs_base);
#undef DATA
    s[SEG_TR] = (struct segment){
        .selector = v->host_tr_selector, .base = v->host_tr_base, .limit = 0x67, .ar = 11 | AR_P};
    s[SEG_LDTR] = (struct segment){.ar = AR_UNUSABLE};
}

void vmx_prepare(struct vmcs *v)
{
    v->guards = guards(v);
    prepare_host_segments(v);
    v->host_key_xcr0 = ~0ull;
    v->guest_choice = v->host_choice = (struct mmu_choice){.id = 0};
    v->prepared = true;
}

void vmx_update_attention(struct cpu *cpu)
{
    const struct vmx *x = cpu->vmx;
    const struct vmcs *v = x->vmcs;
    bool wanted = v->proc & (PROC_INTERRUPT_WINDOW_EXITING | PROC_NMI_WINDOW_EXITING) ||
                  x->virtual_interrupt || x->timer_deadline <= cpu->clock->now;
    if (wanted)
        cpu->attention |= ATTN_VMX;
    else
        cpu->attention &= ~(uint32_t)ATTN_VMX;
}

void vmx_derive(struct cpu *cpu)
{
    struct vmx *x = cpu->vmx;
    struct vmcs *v = x->vmcs;
    cpu->mmu.pml.enabled = false;
    cpu->mmu.pml.index = NULL;
    cpu->vmx_guards = 0;
    cpu->tsc_offset = 0;
    x->tsc_multiplier = 0;
    if (!cpu->vmx_non_root)
        return;
    if (!v->prepared)
        vmx_prepare(v);
    cpu->vmx_guards = v->guards;
    if (v->proc & PROC_USE_TSC_OFFSETTING) {
        cpu->tsc_offset = (int64_t)v->tsc_offset;
        if ((vmx_proc2(v) & PROC2_USE_TSC_SCALING) && v->tsc_multiplier != 1ull << TSC_MULTIPLIER_FRACTION)
            x->tsc_multiplier = v->tsc_multiplier;
    }
    if (vmx_proc2(v) & PROC2_ENABLE_PML) {
        cpu->mmu.pml.enabled = true;
        cpu->mmu.pml.address = v->pml_address;
        cpu->mmu.pml.index = &v->pml_index;
    }
    if (x->mtf_wait || x->mtf_now || x->trap_pending)
        cpu->attention |= ATTN_MTF;
    vmx_update_attention(cpu);
}

void vmx_mmu_mode(const struct cpu *cpu, struct mmu_mode *mode)
{
    mode->ept = false;
    mode->eptp = 0;
    mode->mbe = false;
    mode->apic_page = 0;
    if (!cpu->vmx_non_root)
        return;
    const struct vmcs *v = cpu->vmx->vmcs;
    uint32_t proc2 = vmx_proc2(v);
    if (proc2 & PROC2_ENABLE_EPT) {
        mode->ept = true;
        mode->eptp = v->eptp;
        mode->mbe = proc2 & PROC2_MODE_BASED_EXECUTE_CONTROL;
    }
    if (proc2 & PROC2_VIRTUALIZE_APIC_ACCESSES)
        mode->apic_page = v->apic_access_address | 1;
}

/* -- Event injection ----------------------------------------------------------------------------------- */

/* SDM 3C, "Event Injection". Does not return when an event goes through the guest's IDT. */
static void inject(struct cpu *cpu, const struct vmcs *v)
{
    uint32_t info = v->entry_interruption_info;
    if (!(info & INFO_VALID))
        return;
    if (INFO_TYPE(info) == EVENT_OTHER) {
        cpu->vmx->mtf_now = true;
        cpu->attention |= ATTN_MTF;
        return;
    }
    /* CR2, DR6 and DR7 are not changed by injection: CR2 is rewritten with its own value, DR6 gets no bits.
     */
    struct event ev = {.valid = true,
                       .vector = (uint8_t)INFO_VECTOR(info),
                       .type = (uint8_t)INFO_TYPE(info),
                       .has_error = info & INFO_ERROR_VALID,
                       .error_code = v->entry_exception_error,
                       .qualification = INFO_VECTOR(info) == EXC_PF ? cpu->cr2 : 0,
                       .insn_length = (uint8_t)v->entry_instruction_length,
                       .injected = true};
    cpu->activity = ACTIVITY_ACTIVE;
    cpu->shadow_sti = cpu->shadow_mov_ss = false;
    cpu->vmx->injecting = true;
    if (cpu->vmx->mtf_wait) {
        /* The delivery stands for the instruction that MTF would let run. */
        cpu->vmx->mtf_wait = false;
        cpu->vmx->mtf_now = true;
    }
    cpu_raise_event(cpu, &ev);
}

/* -- The entry ----------------------------------------------------------------------------------------- */

static void select_mode(struct cpu *cpu, struct vmcs *v)
{
    uint64_t flags = v->guest_rflags & (FLAG_AC | FLAG_VM);
    if (likely(v->guest_keyed && v->guest_key_flags == flags && v->guest_key_xcr0 == cpu->xcr0)) {
        cpu_mode_again(cpu, v->guest_key, &v->guest_choice);
        return;
    }
    cpu_mode_changed(cpu);
    v->guest_key = cpu->key;
    v->guest_key_flags = flags;
    v->guest_key_xcr0 = cpu->xcr0;
    v->guest_keyed = !v->entry_msr_load_count; /* WRMSR of the list may change the mode */
}

unsigned vmx_enter(struct cpu *cpu)
{
    struct vmx *x = cpu->vmx;
    struct vmcs *v = x->vmcs;
    unsigned error = check_controls_and_host(cpu, v);
    if (error)
        return error;
    check_guest(cpu, v);
    vmx_leave_block(cpu);

    load_registers(cpu, v);
    load_segments(cpu, v);
    cpu->rip = cpu->next_rip = v->guest_rip;
    cpu->r[REG_RSP] = v->guest_rsp;
    cpu_set_rflags(cpu, v->guest_rflags);
    load_pdptes(cpu, v);
    load_rest(cpu, v);
    if (v->entry_msr_load_count) {
        uint32_t failed = vmx_msr_load(cpu, v->entry_msr_load_address, v->entry_msr_load_count, true);
        if (failed)
            vmx_entry_failed(cpu, EXIT_REASON_ENTRY_MSR_LOADING, failed);
    }

    v->launched = true;
    x->entries++;
    x->ple_running = false;
    x->mtf_wait = v->proc & PROC_MONITOR_TRAP_FLAG;
    if (vmx_proc2(v) & PROC2_VMCS_SHADOWING && v->link_pointer != VMX_NO_VMCS) {
        x->linked_address = v->link_pointer;
        x->linked = vmx_cache_get(cpu, v->link_pointer);
    }
    cpu->vmx_non_root = true;
    cpu->insns_non_root -= cpu->clock->now; /* the exit adds its own tick */
    if (v->pin & PIN_ACTIVATE_PREEMPTION_TIMER)
        vmx_timer_start(cpu);
    if (cpu->pending_db)
        cpu->attention |= ATTN_DEBUG;
    if (cpu->nmi_pending)
        cpu->attention |= ATTN_NMI;
    if (cpu->init_pending)
        cpu->attention |= ATTN_INIT; /* blocked in VMX root operation only */
    if (cpu->activity != ACTIVITY_ACTIVE)
        cpu->attention |= ATTN_LEAVE; /* event_poll() puts the processor to sleep */
    vmx_apicv_entered(cpu);
    vmx_derive(cpu);
    select_mode(cpu, v);
    if (x->timer_deadline != CLOCK_NEVER)
        cpu_events_changed(cpu); /* nothing else here can make the next event a nearer one */
    trace_vmx_entry(cpu->trace, cpu->rip, v->vpid);
    inject(cpu, v);
    return 0;
}
