/*
 * tests/unit/test_vmx_entry.c -- VM entry and exit: what is loaded, injected, saved and recorded.
 *
 * SDM 3C, "VM Entries", "VM Exits".
 */
#include "test_vmx_kit.h"

static int exit_by_cpuid(struct vk *k)
{
    return VK_TRY(k, vmx_guard(k->cpu, GUARD_CPUID));
}

Test(vmx_entry, state_goes_in_and_out)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    struct cpu *c = k.cpu;
    v->guest_fs_base = 0x1234000;
    v->guest_gs_base = 0x7fff00001000;
    v->guest_sysenter_cs = 0x10;
    v->guest_sysenter_esp = 0x5000;
    v->guest_sysenter_eip = 0x6000;
    v->guest_gdtr_base = 0x9000;
    v->guest_gdtr_limit = 0x57;
    v->guest_rflags = FLAG_1 | FLAG_IF | FLAG_CF | FLAG_ZF | FLAG_IOPL;
    v->guest_dr7 = 0x401;
    v->guest_pat = 0x0606060606060606ull;
    v->tsc_offset = (uint64_t)-1000;
    v->host_fs_base = 0x111000;
    v->host_gs_base = 0x222000;
    v->host_tr_base = 0x333000;
    v->host_gdtr_base = 0x444000;
    v->host_idtr_base = 0x555000;
    c->dr[7] = 0x402;
    vk_must_enter(&k);
    cr_assert_eq(c->seg[SEG_FS].base, 0x1234000u);
    cr_assert_eq(c->seg[SEG_GS].base, 0x7fff00001000u);
    cr_assert_eq(c->msr.sysenter_eip, 0x6000u);
    cr_assert_eq(c->gdtr.limit, 0x57);
    cr_assert_eq(cpu_rflags(c), (uint64_t)(FLAG_1 | FLAG_IF | FLAG_CF | FLAG_ZF | FLAG_IOPL));
    cr_assert_eq(c->dr[7], 0x401u);
    cr_assert_eq(c->msr.pat, 0x0606060606060606ull);
    cr_assert_eq(c->r[REG_RSP], VK_GUEST_RSP);
    cr_assert_eq(vmx_tsc(c, 5000), 4000u);
    cr_assert(c->seg[SEG_LDTR].ar & AR_UNUSABLE);
    c->seg[SEG_FS].base = 0x77000;
    c->r[REG_RSP] -= 8;
    c->rip = VK_GUEST_RIP + 2;
    cpu_set_rflags(c, FLAG_1 | FLAG_SF);
    exit_by_cpuid(&k);
    vk_assert_exit(&k, EXIT_REASON_CPUID, 0);
    cr_assert_eq(v->guest_fs_base, 0x77000u);
    cr_assert_eq(v->guest_rsp, VK_GUEST_RSP - 8);
    cr_assert_eq(v->guest_rip, VK_GUEST_RIP + 2);
    cr_assert_eq(v->guest_rflags, (uint64_t)(FLAG_1 | FLAG_SF));
    cr_assert_eq(v->guest_pat, 0x0606060606060606ull);
    cr_assert_eq(v->guest_dr7, 0x401u);
    cr_assert_eq(v->idt_vectoring_info & INFO_VALID, 0u);
    cr_assert_eq(c->rip, VK_HOST_RIP);
    cr_assert_eq(c->r[REG_RSP], VK_HOST_RSP);
    cr_assert_eq(cpu_rflags(c), (uint64_t)FLAG_1);
    cr_assert_eq(c->dr[7], 0x400u);
    cr_assert_eq(c->msr.pat, 0x0007040600070406ull);
    cr_assert_eq(c->seg[SEG_FS].base, 0x111000u);
    cr_assert(c->seg[SEG_FS].ar & AR_UNUSABLE); /* selector 0 */
    cr_assert_eq(c->seg[SEG_TR].base, 0x333000u);
    cr_assert_eq(c->seg[SEG_TR].limit, 0x67u);
    cr_assert_eq(c->gdtr.limit, 0xffff);
    cr_assert_eq(c->idtr.base, 0x555000u);
    cr_assert_eq(vmx_tsc(c, 5000), 5000u);
    cr_assert_eq(c->vmx_guards, 0u);
    vk_free(&k);
}

/* SDM 3C, "Time-Stamp Counter Offset and Multiplier" */
Test(vmx_entry, tsc_scaling)
{
    static const struct {
        uint64_t multiplier, offset, tsc, want;
    } cases[] = {{BIT(48), 0, 12345, 12345},
                 {BIT(49), 100, 12345, 24790},
                 {BIT(47), -1ull, 1001, 499},
                 {~0ull, 0, 1, 0xffff},
                 {1, 7, BIT(50), 11}};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct vk k;
        vk_init(&k);
        struct vmcs *v = vk_vmcs(&k);
        v->proc |= PROC_USE_TSC_OFFSETTING;
        v->proc2 |= PROC2_USE_TSC_SCALING;
        v->tsc_multiplier = cases[i].multiplier;
        v->tsc_offset = cases[i].offset;
        v->dirty = DIRTY_ALL;
        vk_must_enter(&k);
        cr_assert_eq(vmx_tsc(k.cpu, cases[i].tsc), cases[i].want, "%u", i);
        exit_by_cpuid(&k);
        cr_assert_eq(vmx_tsc(k.cpu, cases[i].tsc), cases[i].tsc, "%u", i);
        vk_free(&k);
    }
}

/* Kept block keys follow what they depend on: each time the key is what the registers say. */
Test(vmx_entry, kept_keys)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    struct cpu *c = k.cpu;
    for (unsigned i = 0; i < 16; i++) {
        vmcs_write(v, vmcs_field(0x6800), 0x6800, (v->guest_cr0 & ~(uint64_t)CR0_TS) | (i & 1 ? CR0_TS : 0));
        v->guest_rflags = FLAG_1 | (i & 2 ? FLAG_AC : 0);
        vmcs_write(v, vmcs_field(0x6c00), 0x6c00, (v->host_cr0 & ~(uint64_t)CR0_MP) | (i & 4 ? CR0_MP : 0));
        c->xcr0 = i & 8 ? 7 : 3;
        for (unsigned twice = 0; twice < 2; twice++) {
            vk_must_enter(&k);
            uint32_t key = c->key;
            cpu_mode_changed(c);
            cr_assert_eq(key, c->key, "guest %u %u", i, twice);
            exit_by_cpuid(&k);
            key = c->key;
            cpu_mode_changed(c);
            cr_assert_eq(key, c->key, "host %u %u", i, twice);
        }
    }
    vk_free(&k);
}

/* Real-address mode guest by "unrestricted guest". */
Test(vmx_entry, real_mode_guest)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    v->entry_controls &= ~(uint32_t)ENTRYCTL_IA32E_MODE_GUEST;
    v->guest_efer = 0;
    v->guest_cr0 = CR0_NE | CR0_ET;
    v->guest_cr4 = CR4_VMXE;
    v->guest_cs_ar = 3 | AR_S | AR_P;
    v->guest_cs_limit = 0xffff;
    vk_must_enter(&k);
    cr_assert_not(cpu_protected(k.cpu));
    cr_assert(vmx_cr0_allowed(k.cpu, CR0_NE));
    cr_assert_not(vmx_cr0_allowed(k.cpu, 0));
    exit_by_cpuid(&k);
    cr_assert(k.cpu->efer & EFER_LMA);
    cr_assert_eq(v->guest_cr0 & (CR0_PE | CR0_PG), 0u);
    vk_free(&k);
}

Test(vmx_entry, injection)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    struct cpu *c = k.cpu;
    v->exception_bitmap = ~0u; /* an injected event is not intercepted */
    v->entry_interruption_info =
        (uint32_t)(EXC_PF | EVENT_HARDWARE_EXCEPTION << 8 | INFO_ERROR_VALID | INFO_VALID);
    v->entry_exception_error = 6;
    c->cr2 = 0xabc;
    cr_assert_eq(vk_enter(&k), JUMP_EVENT);
    cr_assert(c->event.valid && c->event.vector == EXC_PF && c->event.error_code == 6 && c->event.has_error);
    cr_assert_eq(c->event.qualification, 0xabcu);
    vmx_event(c, &c->event); /* returns */
    cr_assert(c->vmx_non_root);
    /* A fault in its delivery exits with IDT-vectoring information. */
    c->delivering = c->event;
    struct event gp = {.valid = true,
                       .vector = EXC_GP,
                       .type = EVENT_HARDWARE_EXCEPTION,
                       .has_error = true,
                       .error_code = 0x33};
    cr_assert_eq(VK_TRY(&k, vmx_event(c, &gp)), JUMP_RESUME);
    vk_assert_exit(&k, EXIT_REASON_EXCEPTION_NMI, 0);
    cr_assert_eq(v->exit_interruption_info, 0x80000b00u | EXC_GP);
    cr_assert_eq(v->exit_interruption_error, 0x33u);
    cr_assert_eq(v->idt_vectoring_info, 0x80000b00u | EXC_PF);
    cr_assert_eq(v->idt_vectoring_error, 6u);
    cr_assert_eq(v->entry_interruption_info & INFO_VALID, 0u);
    cr_assert(v->guest_rflags & FLAG_RF);
    vk_free(&k);
}

Test(vmx_entry, page_fault_mask_and_match)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    for (unsigned i = 0; i < 64; i++) {
        uint32_t error = i & 7, mask = i >> 3, match = (i >> 3) & 5;
        bool bit = i & 1;
        v->exception_bitmap = bit ? BIT(EXC_PF) : 0;
        v->pf_error_mask = mask;
        v->pf_error_match = match;
        vk_must_enter(&k);
        struct event pf = {.vector = EXC_PF,
                           .type = EVENT_HARDWARE_EXCEPTION,
                           .has_error = true,
                           .error_code = error,
                           .qualification = 0x1000 + i};
        bool exits = ((error & mask) == match) == bit;
        int r = VK_TRY(&k, vmx_event(k.cpu, &pf));
        cr_assert_eq(r != 0, exits, "%u", i);
        if (exits)
            vk_assert_exit(&k, EXIT_REASON_EXCEPTION_NMI, 0x1000 + i);
        else
            exit_by_cpuid(&k);
    }
    vk_free(&k);
}

Test(vmx_entry, msr_lists)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    v->entry_msr_load_count = v->exit_msr_store_count = v->exit_msr_load_count = 1;
    v->entry_msr_load_address = VK_LIST;
    v->exit_msr_store_address = VK_LIST + 16;
    v->exit_msr_load_address = VK_LIST + 32;
    for (unsigned i = 0; i < 3; i++) {
        phys_store(&k.phys, VK_LIST + 16 * i, 8, 0xc0000082);
        phys_store(&k.phys, VK_LIST + 16 * i + 8, 8, 0x1000 * (i + 1));
    }
    vk_must_enter(&k);
    cr_assert_eq(k.cpu->msr.lstar, 0x1000u);
    k.cpu->msr.lstar = 0x9000;
    exit_by_cpuid(&k);
    vk_assert_exit(&k, EXIT_REASON_CPUID, 0);
    cr_assert_eq(phys_load(&k.phys, VK_LIST + 16 + 8, 8), 0x9000u);
    cr_assert_eq(k.cpu->msr.lstar, 0x3000u);
    /* An MSR that must not be in the list: reason 34, number of the entry. */
    phys_store(&k.phys, VK_LIST, 8, 0xc0000100);
    cr_assert_eq(vk_enter(&k), JUMP_RESUME);
    vk_assert_exit(&k, 0x80000000u + EXIT_REASON_ENTRY_MSR_LOADING, 1);
    cr_assert_eq(k.cpu->rip, VK_HOST_RIP);
    vk_free(&k);
}

Test(vmx_entry, preemption_timer)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    struct cpu *c = k.cpu;
    v->pin |= PIN_ACTIVATE_PREEMPTION_TIMER;
    v->exit_controls |= EXITCTL_SAVE_PREEMPTION_TIMER;
    v->preemption_timer = 10;
    k.clock.now = 1000 * 32 + 7;
    c->slice_end = k.clock.now + 100000;
    c->budget = 100000;
    vk_must_enter(&k);
    uint64_t deadline = vmx_next_deadline(c);
    cr_assert_eq(deadline, 1010u * 32);
    k.clock.now = deadline - 1;
    vmx_poll_preemption_timer(c); /* not yet */
    cr_assert_eq(vmx_timer_value(c), 1u);
    k.clock.now = deadline - 32 * 4;
    exit_by_cpuid(&k);
    cr_assert_eq(v->preemption_timer, 4u);
    cr_assert_eq(vmx_next_deadline(c), CLOCK_NEVER);
    vk_must_enter(&k);
    k.clock.now = vmx_next_deadline(c);
    cr_assert_not(c->attention & ATTN_VMX);
    clock_run(&k.clock);
    cr_assert(c->attention & ATTN_VMX);
    cr_assert_eq(VK_TRY(&k, vmx_poll_preemption_timer(c)), JUMP_RESUME);
    vk_assert_exit(&k, EXIT_REASON_PREEMPTION_TIMER, 0);
    cr_assert_eq(v->preemption_timer, 0u);
    vk_must_enter(&k); /* value 0 expires at once */
    cr_assert(c->attention & ATTN_VMX);
    vk_free(&k);
}

Test(vmx_entry, monitor_trap_flag)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    v->proc |= PROC_MONITOR_TRAP_FLAG;
    vk_must_enter(&k);
    cr_assert(k.cpu->attention & ATTN_MTF);
    vmx_poll_mtf(k.cpu); /* lets one instruction run */
    cr_assert(k.cpu->vmx_non_root && k.cpu->attention & ATTN_SINGLE);
    cr_assert_eq(VK_TRY(&k, vmx_poll_mtf(k.cpu)), JUMP_RESUME);
    vk_assert_exit(&k, EXIT_REASON_MONITOR_TRAP_FLAG, 0);
    /* Injected: before the first instruction. */
    v->proc &= ~(uint32_t)PROC_MONITOR_TRAP_FLAG;
    v->entry_interruption_info = (uint32_t)(EVENT_OTHER << 8 | INFO_VALID);
    v->dirty = DIRTY_ALL;
    vk_must_enter(&k);
    cr_assert_eq(VK_TRY(&k, vmx_poll_mtf(k.cpu)), JUMP_RESUME);
    vk_assert_exit(&k, EXIT_REASON_MONITOR_TRAP_FLAG, 0);
    vk_free(&k);
}

Test(vmx_entry, nmi_and_windows)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    struct cpu *c = k.cpu;
    vk_must_enter(&k);
    c->nmi_pending = true;
    cr_assert_eq(VK_TRY(&k, vmx_poll_nmi(c)), JUMP_RESUME);
    vk_assert_exit(&k, EXIT_REASON_EXCEPTION_NMI, 0);
    cr_assert_eq(v->exit_interruption_info, 0x80000202u);
    cr_assert(c->nmi_blocked && !c->nmi_pending);

    v->proc |= PROC_NMI_WINDOW_EXITING | PROC_INTERRUPT_WINDOW_EXITING;
    v->guest_interruptibility = INTERRUPTIBILITY_NMI;
    v->dirty = DIRTY_ALL;
    vk_must_enter(&k);
    cr_assert_not(c->nmi_blocked);
    cr_assert(vmx_nmi_blocked(c));
    vmx_poll_nmi_window(c);
    vmx_poll_interrupt_window(c); /* IF is 0 */
    vmx_iret(c);
    cr_assert_not(vmx_nmi_blocked(c));
    cr_assert_eq(VK_TRY(&k, vmx_poll_nmi_window(c)), JUMP_RESUME);
    vk_assert_exit(&k, EXIT_REASON_NMI_WINDOW, 0);
    cr_assert_eq(v->guest_interruptibility, 0u);
    v->guest_rflags |= FLAG_IF;
    vk_must_enter(&k);
    cr_assert_eq(VK_TRY(&k, vmx_poll_interrupt_window(c)), JUMP_RESUME);
    vk_assert_exit(&k, EXIT_REASON_INTERRUPT_WINDOW, 0);
    vk_free(&k);
}

/* A fault in the IRET that ended blocking says so (bit 12), so that the hypervisor can block again. */
Test(vmx_entry, nmi_unblocking_due_to_iret)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    v->exception_bitmap = BIT(EXC_GP);
    v->guest_interruptibility = INTERRUPTIBILITY_NMI;
    vk_must_enter(&k);
    vmx_iret(k.cpu);
    struct event gp = {.vector = EXC_GP, .type = EVENT_HARDWARE_EXCEPTION, .has_error = true};
    VK_TRY(&k, vmx_event(k.cpu, &gp));
    cr_assert_eq(v->exit_interruption_info, 0x80001b00u | EXC_GP);
    cr_assert_eq(v->guest_interruptibility, 0u);
    vk_free(&k);
}

Test(vmx_entry, state_round_trip)
{
    struct vk k;
    vk_init(&k);
    vk_must_enter(&k);
    uint64_t hash = state_hash(&vmx_state, k.cpu->vmx, 0);
    struct vmx *copy = calloc(1, sizeof(*copy));
    memcpy(copy, k.cpu->vmx, sizeof(*copy));
    struct error e;
    copy->vmcs = NULL;
    cr_assert(vmx_state.after_load(copy, &e), "%s", e.message);
    cr_assert_eq(copy->vmcs, &copy->cache[vk_vmcs(&k) - k.cpu->vmx->cache]);
    cr_assert_eq(state_hash(&vmx_state, copy, 0), hash);
    copy->current = 0x5000;
    cr_assert_not(vmx_state.after_load(copy, &e));
    free(copy);
    vk_free(&k);
}

/* SDM 3C, "VMX Aborts": the indicator in the VMCS region, and the processor shuts down outside VMX operation.
 */
static void assert_abort(struct vk *k, uint32_t indicator)
{
    cr_assert_eq(VK_TRY(k, vmx_guard(k->cpu, GUARD_CPUID)), JUMP_RESUME);
    cr_assert_eq((uint32_t)phys_load(&k->phys, VK_VMCS + VMCS_REGION_ABORT, 4), indicator);
    cr_assert(!k->cpu->vmx_on && !k->cpu->vmx_non_root && k->cpu->activity == ACTIVITY_SHUTDOWN);
    cr_assert(k->cpu->attention & ATTN_STOP && k->cpu->stops & 1);
    /* A snapshot that is taken then can be loaded. */
    struct error e;
    cr_assert(cpu_state.after_load(k->cpu, &e), "%s", e.message);
    cr_assert(vmx_state.after_load(k->cpu->vmx, &e), "%s", e.message);
    cr_assert(cpu_loaded(k->cpu, &e), "%s", e.message);
    vk_free(k);
}

Test(vmx_entry, aborts)
{
    struct vk k;
    /* 1: an MSR of the store list cannot be read. */
    vk_init(&k);
    vk_vmcs(&k)->exit_msr_store_count = 1;
    vk_vmcs(&k)->exit_msr_store_address = VK_LIST;
    phys_store(&k.phys, VK_LIST, 8, 0x4fff);
    vk_must_enter(&k);
    assert_abort(&k, 1);
    /* The same while the guest has an event in delivery, a linked VMCS and a timer. */
    vk_init(&k);
    vk_vmcs(&k)->exit_msr_store_count = 1;
    vk_vmcs(&k)->exit_msr_store_address = VK_LIST;
    vk_vmcs(&k)->pin |= PIN_ACTIVATE_PREEMPTION_TIMER;
    vk_vmcs(&k)->preemption_timer = 1000;
    phys_store(&k.phys, VK_LIST, 8, 0x4fff);
    vk_must_enter(&k);
    k.cpu->delivering = (struct event){.valid = true, .vector = 0x40, .type = EVENT_EXTERNAL};
    k.cpu->shadow_sti = true;
    assert_abort(&k, 1);
    /* 4: one of the load list cannot be written. */
    vk_init(&k);
    vk_vmcs(&k)->exit_msr_load_count = 1;
    vk_vmcs(&k)->exit_msr_load_address = VK_LIST;
    phys_store(&k.phys, VK_LIST, 8, 0xc0000100);
    vk_must_enter(&k);
    assert_abort(&k, 4);
    /* 6: the guest is in IA-32e mode, the host is not. */
    vk_init(&k);
    vk_must_enter(&k);
    vk_vmcs(&k)->exit_controls &= ~(uint32_t)EXITCTL_HOST_ADDRESS_SPACE_SIZE;
    assert_abort(&k, 6);
    /* 2: a PDPTE of a 32-bit host has a reserved bit. */
    vk_init(&k);
    vk_must_enter(&k);
    k.cpu->efer = 0;
    vk_vmcs(&k)->exit_controls &= ~(uint32_t)(EXITCTL_HOST_ADDRESS_SPACE_SIZE | EXITCTL_LOAD_EFER);
    vk_vmcs(&k)->host_cr3 = VK_PDPT32;
    phys_store(&k.phys, VK_PDPT32, 8, 7);
    assert_abort(&k, 2);
}
