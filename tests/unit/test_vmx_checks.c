/*
 * tests/unit/test_vmx_checks.c -- every row of entry_checks.def broken once on a known-good VMCS.
 *
 * SDM 3C, "VM Entries": a control or host-state rule fails the instruction (errors 7 and 8), a guest-state
 * rule is a VM exit with reason 33 and the qualification of its kind. A row without a mutation here fails the
 * test.
 */
#include "test_vmx_kit.h"

struct broken {
    const char *row;
    void (*mutate)(struct vk *k, struct vmcs *v);
};

#define INJECT(type, vector) v->entry_interruption_info = (uint32_t)((vector) | (type) << 8 | INFO_VALID)
#define BAD_PHYS             BIT(60)
#define NOT_CANONICAL        BIT(60)

/* Guests of other kinds, valid as such. */
static void to_32bit(struct vmcs *v)
{
    v->entry_controls &= ~(uint32_t)ENTRYCTL_IA32E_MODE_GUEST;
    v->guest_efer = 0;
    v->guest_cr4 &= ~(uint64_t)CR4_PAE;
    v->guest_cs_ar = 11 | AR_S | AR_P | AR_DB | AR_G;
}
static void to_v86(struct vmcs *v)
{
    to_32bit(v);
    v->guest_rflags |= FLAG_VM;
#define SEGMENT(reg)                                                                                         \
    v->guest_##reg##_selector = 0x1000, v->guest_##reg##_base = 0x10000, v->guest_##reg##_limit = 0xffff,    \
    v->guest_##reg##_ar = 0xf3
    SEGMENT(cs);
    SEGMENT(ss);
    SEGMENT(ds);
    SEGMENT(es);
    SEGMENT(fs);
    SEGMENT(gs);
#undef SEGMENT
}
static void no_unrestricted(struct vmcs *v)
{
    v->proc2 &= ~(uint32_t)PROC2_UNRESTRICTED_GUEST;
}
static void to_virtual_interrupts(struct vmcs *v)
{
    v->proc2 |= PROC2_VIRTUAL_INTERRUPT_DELIVERY | PROC2_APIC_REGISTER_VIRTUALIZATION;
}
static void to_posted(struct vmcs *v)
{
    to_virtual_interrupts(v);
    v->pin |= PIN_PROCESS_POSTED_INTERRUPTS;
}
static void to_32bit_host(struct vk *k, struct vmcs *v)
{
    (void)k;
    v->exit_controls &= ~(uint32_t)EXITCTL_HOST_ADDRESS_SPACE_SIZE;
}

#define BREAK(name, ...)                                                                                     \
    static void break_##name(struct vk *k, struct vmcs *v)                                                   \
    {                                                                                                        \
        (void)k, (void)v;                                                                                    \
        __VA_ARGS__;                                                                                         \
    }

#define MUTATIONS                                                                                            \
    M(pin_reserved, v->pin |= BIT(1) << 8)                                                                   \
    M(proc_reserved, v->proc &= ~(uint32_t)BIT(1))                                                           \
    M(proc2_reserved, v->proc2 |= PROC2_ENABLE_PCONFIG)                                                      \
    M(cr3_target_count, v->cr3_target_count = 5)                                                             \
    M(io_bitmaps, v->io_bitmap_b = 1)                                                                        \
    M(msr_bitmap, v->msr_bitmap = BAD_PHYS)                                                                  \
    M(virtual_apic_address, v->virtual_apic_address += 8)                                                    \
    M(tpr_threshold_reserved, v->tpr_threshold = 0x10)                                                       \
    M(tpr_threshold_vtpr, v->tpr_threshold = 3; phys_store(&k->phys, VK_VAPIC + 0x80, 4, 0x20))              \
    M(virtual_nmis, v->pin &= ~(uint32_t)PIN_NMI_EXITING)                                                    \
    M(nmi_window, v->pin &= ~(uint32_t)PIN_VIRTUAL_NMIS; v->proc |= PROC_NMI_WINDOW_EXITING)                 \
    M(apic_access_address, v->proc2 |= PROC2_VIRTUALIZE_APIC_ACCESSES; v->apic_access_address = 1)           \
    M(apic_needs_tpr_shadow, v->proc &= ~(uint32_t)PROC_USE_TPR_SHADOW;                                      \
      v->proc2 |= PROC2_APIC_REGISTER_VIRTUALIZATION)                                                        \
    M(x2apic_and_page, v->proc2 |= PROC2_VIRTUALIZE_X2APIC_MODE | PROC2_VIRTUALIZE_APIC_ACCESSES)            \
    M(virtual_interrupt_exiting, to_virtual_interrupts(v);                                                   \
      v->pin &= ~(uint32_t)PIN_EXTERNAL_INTERRUPT_EXITING)                                                   \
    M(posted_controls, to_posted(v); v->exit_controls &= ~(uint32_t)EXITCTL_ACKNOWLEDGE_INTERRUPT)           \
    M(posted_vector, to_posted(v); v->posted_vector = 256)                                                   \
    M(posted_descriptor, to_posted(v); v->posted_descriptor = VK_POSTED + 32)                                \
    M(vpid_nonzero, v->vpid = 0)                                                                             \
    M(eptp, v->eptp = (v->eptp & ~7ull) | 4)                                                                 \
    M(pml_needs_ept, no_unrestricted(v); v->proc2 |= PROC2_ENABLE_PML;                                       \
      v->proc2 &= ~(uint32_t)PROC2_ENABLE_EPT)                                                               \
    M(pml_address, v->proc2 |= PROC2_ENABLE_PML; v->pml_address = 0x10)                                      \
    M(unrestricted_needs_ept, v->proc2 &= ~(uint32_t)PROC2_ENABLE_EPT)                                       \
    M(shadow_bitmaps, v->proc2 |= PROC2_VMCS_SHADOWING; v->vmread_bitmap = 4)                                \
    M(tsc_multiplier, v->proc2 |= PROC2_USE_TSC_SCALING)                                                     \
    M(vm_function_reserved, v->proc2 |= PROC2_ENABLE_VM_FUNCTIONS; v->vm_function_controls = 2)              \
    M(eptp_switching_needs_ept, no_unrestricted(v);                                                          \
      v->proc2 = (v->proc2 & ~(uint32_t)PROC2_ENABLE_EPT) | PROC2_ENABLE_VM_FUNCTIONS;                       \
      v->vm_function_controls = VMFUNC_EPTP_SWITCHING)                                                       \
    M(eptp_list_address, v->proc2 |= PROC2_ENABLE_VM_FUNCTIONS;                                              \
      v->vm_function_controls = VMFUNC_EPTP_SWITCHING; v->eptp_list_address = 8)                             \
    M(mode_based_needs_ept, no_unrestricted(v);                                                              \
      v->proc2 = (v->proc2 & ~(uint32_t)PROC2_ENABLE_EPT) | PROC2_MODE_BASED_EXECUTE_CONTROL)                \
    M(ve_information_address, v->proc2 |= PROC2_EPT_VIOLATION_VE; v->ve_information_address = 0x40)          \
    M(exit_reserved, v->exit_controls |= EXITCTL_CLEAR_BNDCFGS)                                              \
    M(save_timer, v->exit_controls |= EXITCTL_SAVE_PREEMPTION_TIMER)                                         \
    M(exit_store_list, v->exit_msr_store_count = 1; v->exit_msr_store_address = 8)                           \
    M(exit_load_list, v->exit_msr_load_count = 2; v->exit_msr_load_address = BIT(46) - 16)                   \
    M(entry_reserved, v->entry_controls |= ENTRYCTL_ENTRY_TO_SMM)                                            \
    M(event_type, INJECT(1, 32))                                                                             \
    M(event_vector, INJECT(EVENT_NMI, 3))                                                                    \
    M(event_error_code, INJECT(EVENT_HARDWARE_EXCEPTION, EXC_GP))                                            \
    M(event_reserved, INJECT(EVENT_HARDWARE_EXCEPTION, EXC_UD); v->entry_interruption_info |= BIT(20))       \
    M(event_error_reserved, INJECT(EVENT_HARDWARE_EXCEPTION, EXC_GP);                                        \
      v->entry_interruption_info |= INFO_ERROR_VALID; v->entry_exception_error = 0x10000)                    \
    M(event_length, INJECT(EVENT_SOFTWARE_INTERRUPT, 0x80); v->entry_instruction_length = 16)                \
    M(entry_load_list, v->entry_msr_load_count = 1; v->entry_msr_load_address = 1)                           \
    M(host_cr0, v->host_cr0 &= ~(uint64_t)CR0_NE)                                                            \
    M(host_cr4, v->host_cr4 &= ~(uint64_t)CR4_VMXE)                                                          \
    M(host_cr3, v->host_cr3 = BAD_PHYS)                                                                      \
    M(host_sysenter, v->host_sysenter_eip = NOT_CANONICAL)                                                   \
    M(host_perf, v->exit_controls |= EXITCTL_LOAD_PERF_GLOBAL_CTRL; v->host_perf_global_ctrl = 1)            \
    M(host_pat, v->host_pat = 2)                                                                             \
    M(host_efer_reserved, v->host_efer |= BIT(1))                                                            \
    M(host_efer_mode, v->host_efer &= ~(uint64_t)EFER_LME)                                                   \
    M(host_selectors_ti, v->host_gs_selector = 4)                                                            \
    M(host_cs_null, v->host_cs_selector = 0)                                                                 \
    M(host_tr_null, v->host_tr_selector = 0)                                                                 \
    M(host_ss_null, to_32bit_host(k, v); v->host_ss_selector = 0)                                            \
    M(host_bases, v->host_gdtr_base = NOT_CANONICAL)                                                         \
    M(mode_legacy, k->cpu->efer = 0)                                                                         \
    M(mode_long, to_32bit_host(k, v))                                                                        \
    M(host_32bit, to_32bit_host(k, v))                                                                       \
    M(host_64bit, v->host_rip = NOT_CANONICAL)                                                               \
    M(guest_cr0, v->guest_cr0 &= ~(uint64_t)CR0_NE)                                                          \
    M(guest_cr0_pg_pe, v->guest_cr0 &= ~(uint64_t)CR0_PE)                                                    \
    M(guest_cr4, v->guest_cr4 |= CR4_LA57)                                                                   \
    M(guest_debugctl, v->guest_debugctl = BIT(20))                                                           \
    M(guest_long_paging, v->guest_cr4 &= ~(uint64_t)CR4_PAE)                                                 \
    M(guest_pcide, to_32bit(v); v->guest_cr4 |= CR4_PCIDE)                                                   \
    M(guest_cr3, v->guest_cr3 = BAD_PHYS)                                                                    \
    M(guest_dr7, v->guest_dr7 |= BIT(32))                                                                    \
    M(guest_sysenter, v->guest_sysenter_esp = NOT_CANONICAL)                                                 \
    M(guest_perf, v->entry_controls |= ENTRYCTL_LOAD_PERF_GLOBAL_CTRL; v->guest_perf_global_ctrl = 2)        \
    M(guest_pat, v->guest_pat = 8)                                                                           \
    M(guest_efer_reserved, v->guest_efer |= BIT(9))                                                          \
    M(guest_efer_lma, v->guest_efer = 0)                                                                     \
    M(guest_efer_lme, v->guest_efer &= ~(uint64_t)EFER_LME)                                                  \
    M(guest_tr_ti, v->guest_tr_selector |= 4)                                                                \
    M(guest_ldtr_ti, v->guest_ldtr_ar = 2 | AR_P; v->guest_ldtr_selector = 4)                                \
    M(guest_ss_rpl, no_unrestricted(v); v->guest_ss_selector |= 3)                                           \
    M(guest_v86_base_cs, to_v86(v); v->guest_cs_base = 0)                                                    \
    M(guest_v86_base_ss, to_v86(v); v->guest_ss_base = 0)                                                    \
    M(guest_v86_base_ds, to_v86(v); v->guest_ds_base = 0)                                                    \
    M(guest_v86_base_es, to_v86(v); v->guest_es_base = 0)                                                    \
    M(guest_v86_base_fs, to_v86(v); v->guest_fs_base = 0)                                                    \
    M(guest_v86_base_gs, to_v86(v); v->guest_gs_base = 0)                                                    \
    M(guest_bases_canonical, v->guest_fs_base = NOT_CANONICAL)                                               \
    M(guest_ldtr_base, v->guest_ldtr_ar = 2 | AR_P; v->guest_ldtr_base = NOT_CANONICAL)                      \
    M(guest_cs_base, v->guest_cs_base = BIT(32))                                                             \
    M(guest_low_base_ss, v->guest_ss_base = BIT(32))                                                         \
    M(guest_low_base_ds, v->guest_ds_base = BIT(40))                                                         \
    M(guest_low_base_es, v->guest_es_base = BIT(46))                                                         \
    M(guest_v86_limit_cs, to_v86(v); v->guest_cs_limit = 0xfffff)                                            \
    M(guest_v86_limit_ss, to_v86(v); v->guest_ss_limit = 0)                                                  \
    M(guest_v86_limit_ds, to_v86(v); v->guest_ds_limit = 0)                                                  \
    M(guest_v86_limit_es, to_v86(v); v->guest_es_limit = 0)                                                  \
    M(guest_v86_limit_fs, to_v86(v); v->guest_fs_limit = 0)                                                  \
    M(guest_v86_limit_gs, to_v86(v); v->guest_gs_limit = 0)                                                  \
    M(guest_v86_ar_cs, to_v86(v); v->guest_cs_ar = 0xfb)                                                     \
    M(guest_v86_ar_ss, to_v86(v); v->guest_ss_ar = 0x93)                                                     \
    M(guest_v86_ar_ds, to_v86(v); v->guest_ds_ar = 0x93)                                                     \
    M(guest_v86_ar_es, to_v86(v); v->guest_es_ar = 0x93)                                                     \
    M(guest_v86_ar_fs, to_v86(v); v->guest_fs_ar = 0x93)                                                     \
    M(guest_v86_ar_gs, to_v86(v); v->guest_gs_ar = 0x93)                                                     \
    M(guest_cs_type, v->guest_cs_ar &= ~1u)                                                                  \
    M(guest_ss_type, v->guest_ss_ar &= ~2u)                                                                  \
    M(guest_type_ds, v->guest_ds_ar &= ~1u)                                                                  \
    M(guest_type_es, v->guest_es_ar = (v->guest_es_ar & ~15u) | 9)                                           \
    M(guest_type_fs, v->guest_fs_ar &= ~1u)                                                                  \
    M(guest_type_gs, v->guest_gs_ar &= ~1u)                                                                  \
    M(guest_cs_s, v->guest_cs_ar &= ~AR_S)                                                                   \
    M(guest_s_ss, v->guest_ss_ar &= ~AR_S)                                                                   \
    M(guest_s_ds, v->guest_ds_ar &= ~AR_S)                                                                   \
    M(guest_s_es, v->guest_es_ar &= ~AR_S)                                                                   \
    M(guest_s_fs, v->guest_fs_ar &= ~AR_S)                                                                   \
    M(guest_s_gs, v->guest_gs_ar &= ~AR_S)                                                                   \
    M(guest_cs_dpl, v->guest_cs_ar |= 3 << 5)                                                                \
    M(guest_ss_dpl, no_unrestricted(v); v->guest_ss_ar |= 3 << 5)                                            \
    M(guest_ss_dpl_real, to_32bit(v); v->guest_cr0 &= ~(uint64_t)(CR0_PE | CR0_PG);                          \
      v->guest_ss_ar |= 3 << 5; v->guest_cs_ar |= 3 << 5)                                                    \
    M(guest_dpl_ds, no_unrestricted(v); v->guest_ds_selector |= 3)                                           \
    M(guest_dpl_es, no_unrestricted(v); v->guest_es_selector |= 3)                                           \
    M(guest_dpl_fs, no_unrestricted(v); v->guest_fs_selector |= 3)                                           \
    M(guest_dpl_gs, no_unrestricted(v); v->guest_gs_selector |= 3)                                           \
    M(guest_cs_rights, v->guest_cs_ar &= ~AR_P)                                                              \
    M(guest_cs_unusable, v->guest_cs_ar |= BIT(17))                                                          \
    M(guest_cs_l_db, v->guest_cs_ar |= AR_DB)                                                                \
    M(guest_rights_ss, v->guest_ss_ar &= ~AR_G)                                                              \
    M(guest_rights_ds, v->guest_ds_limit = 0x123)                                                            \
    M(guest_rights_es, v->guest_es_ar &= ~AR_P)                                                              \
    M(guest_rights_fs, v->guest_fs_ar |= 0x100)                                                              \
    M(guest_rights_gs, v->guest_gs_ar |= BIT(20))                                                            \
    M(guest_tr, v->guest_tr_ar = 9 | AR_P)                                                                   \
    M(guest_ldtr, v->guest_ldtr_ar = 3 | AR_P)                                                               \
    M(guest_table_bases, v->guest_idtr_base = NOT_CANONICAL)                                                 \
    M(guest_table_limits, v->guest_gdtr_limit = 0x10000)                                                     \
    M(guest_rip_high, v->guest_cs_ar ^= AR_L | AR_DB; v->guest_rip = BIT(32))                                \
    M(guest_rip_canonical, v->guest_rip = NOT_CANONICAL)                                                     \
    M(guest_rflags_reserved, v->guest_rflags = 0)                                                            \
    M(guest_rflags_vm, v->guest_rflags |= FLAG_VM)                                                           \
    M(guest_rflags_if, INJECT(EVENT_EXTERNAL, 0x30))                                                         \
    M(activity_value, v->guest_activity = 4)                                                                 \
    M(activity_hlt_dpl, v->guest_activity = ACTIVITY_HLT; v->guest_ss_ar |= 3 << 5;                          \
      v->guest_cs_ar |= 3 << 5)                                                                              \
    M(activity_blocking, v->guest_activity = ACTIVITY_HLT;                                                   \
      v->guest_interruptibility = INTERRUPTIBILITY_MOV_SS)                                                   \
    M(activity_event, v->guest_activity = ACTIVITY_HLT; INJECT(EVENT_HARDWARE_EXCEPTION, EXC_UD))            \
    M(interruptibility_reserved, v->guest_interruptibility = 32)                                             \
    M(interruptibility_both, v->guest_rflags |= FLAG_IF; v->guest_interruptibility = 3)                      \
    M(interruptibility_sti_if, v->guest_interruptibility = INTERRUPTIBILITY_STI)                             \
    M(interruptibility_external, v->guest_rflags |= FLAG_IF; INJECT(EVENT_EXTERNAL, 0x30);                   \
      v->guest_interruptibility = INTERRUPTIBILITY_MOV_SS)                                                   \
    M(interruptibility_nmi_mov_ss, INJECT(EVENT_NMI, 2);                                                     \
      v->guest_interruptibility = INTERRUPTIBILITY_MOV_SS)                                                   \
    M(interruptibility_smi, v->guest_interruptibility = INTERRUPTIBILITY_SMI)                                \
    M(interruptibility_nmi_sti, v->guest_rflags |= FLAG_IF; INJECT(EVENT_NMI, 2);                            \
      v->guest_interruptibility = INTERRUPTIBILITY_STI)                                                      \
    M(interruptibility_virtual_nmi, INJECT(EVENT_NMI, 2); v->guest_interruptibility = INTERRUPTIBILITY_NMI)  \
    M(interruptibility_enclave, v->guest_interruptibility = INTERRUPTIBILITY_ENCLAVE)                        \
    M(pending_debug_reserved, v->guest_pending_debug = BIT(5))                                               \
    M(pending_debug_bs, v->guest_interruptibility = INTERRUPTIBILITY_MOV_SS; v->guest_rflags |= FLAG_TF)     \
    M(link_pointer_address, v->link_pointer = 0x123)                                                         \
    M(link_pointer_region, v->link_pointer = VK_DATA)                                                        \
    M(guest_pdptes, to_32bit(v); v->guest_cr4 |= CR4_PAE; v->guest_pdpte2 = 3)

#define M(name, ...) BREAK(name, __VA_ARGS__)
MUTATIONS
#undef M

static const struct broken table[] = {
#define M(name, ...) {#name, break_##name},
    MUTATIONS
#undef M
};

static const struct broken *mutation_of(const char *row)
{
    for (unsigned i = 0; i < ARRAY_LEN(table); i++)
        if (!strcmp(table[i].row, row))
            return &table[i];
    return NULL;
}

Test(vmx_checks, good_vmcs_enters)
{
    struct vk k;
    vk_init(&k);
    FILE *null = fopen("/dev/null", "w");
    cr_assert_eq(vmx_explain(k.cpu, null), 0u);
    fclose(null);
    vk_must_enter(&k);
    cr_assert_eq(k.cpu->rip, VK_GUEST_RIP);
    vk_free(&k);
}

Test(vmx_checks, every_row_broken_once)
{
    cr_assert_gt(check_row_count, 100u);
    for (unsigned i = 0; i < check_row_count; i++) {
        const struct check_info *r = &check_rows[i];
        const struct broken *b = mutation_of(r->name);
        cr_assert_not_null(b, "no mutation for %s", r->name);
        struct vk k;
        vk_init(&k);
        struct vmcs *v = vk_vmcs(&k);
        cr_assert(vmx_check_row(k.cpu, v, i), "%s fails on the good VMCS", r->name);
        b->mutate(&k, v);
        v->dirty = DIRTY_ALL;
        cr_assert_not(vmx_check_row(k.cpu, v, i), "%s still holds", r->name);

        int result = vk_enter(&k);
        cr_assert_not(k.cpu->vmx_non_root, "%s: entered", r->name);
        cr_assert_not(v->launched, "%s", r->name);
        switch (r->group) {
        case CHECK_CONTROL:
            cr_assert(result == 0 && vk_error(&k) == VMERR_ENTRY_CONTROLS, "%s: %u", r->name, vk_error(&k));
            break;
        case CHECK_HOST:
            cr_assert(result == 0 && vk_error(&k) == VMERR_ENTRY_HOST, "%s: %u", r->name, vk_error(&k));
            break;
        default: {
            static const uint8_t q[] = {
                [CHECK_GUEST] = 0, [CHECK_GUEST_PDPTE] = 2, [CHECK_GUEST_NMI] = 3, [CHECK_GUEST_LINK] = 4};
            cr_assert_eq(result, JUMP_RESUME, "%s: error %u", r->name, vk_error(&k));
            cr_assert_eq(v->exit_reason, 0x80000000u + EXIT_REASON_ENTRY_GUEST_STATE, "%s", r->name);
            cr_assert_eq(v->exit_qualification, q[r->group], "%s", r->name);
            cr_assert_eq(k.cpu->rip, VK_HOST_RIP, "%s", r->name);
            break;
        }
        }
        vk_free(&k);
    }
}

/* Inputs name real fields, so that explanations can print them. */
Test(vmx_checks, inputs_are_fields)
{
    for (unsigned i = 0; i < check_row_count; i++) {
        const char *p = check_rows[i].inputs;
        cr_assert(*p, "%s has no inputs", check_rows[i].name);
        while (*p) {
            size_t n = strcspn(p, " ");
            bool special = (n == 3 && !memcmp(p, "cpu", 3)) || (n == 6 && !memcmp(p, "memory", 6));
            cr_assert(special || vmcs_field_by_member(p, n), "%s: input %.*s", check_rows[i].name, (int)n, p);
            p += n + strspn(p + n, " ");
        }
    }
}

/* After a successful entry each row is broken by VMWRITE-like writes to its inputs: skipping must not hide
 * it. */
Test(vmx_checks, skipped_checks_notice_writes)
{
    for (unsigned i = 0; i < check_row_count; i++) {
        const struct check_info *r = &check_rows[i];
        struct vk k;
        vk_init(&k);
        vk_must_enter(&k);
        VK_TRY(&k, vmx_guard(k.cpu, GUARD_CPUID));
        struct vmcs *v = vk_vmcs(&k);
        cr_assert_eq(v->exit_reason, EXIT_REASON_CPUID);
        struct vmcs before = *v;
        mutation_of(r->name)->mutate(&k, v);
        struct vmcs after = *v;
        /* The same values again through VMWRITE, field by field. */
        *v = before;
        for (unsigned f = 0; f < vmcs_field_count; f++)
            if (vmcs_get(&after, &vmcs_fields[f]) != vmcs_get(&before, &vmcs_fields[f]))
                vmcs_write(v, &vmcs_fields[f], vmcs_fields[f].encoding, vmcs_get(&after, &vmcs_fields[f]));
        vk_enter(&k);
        cr_assert_not(k.cpu->vmx_non_root, "%s: entered", r->name);
        vk_free(&k);
    }
}

Test(vmx_checks, explain_names_the_rule)
{
    struct vk k;
    vk_init(&k);
    vk_vmcs(&k)->vpid = 0;
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    cr_assert_eq(vmx_explain(k.cpu, f), 1u);
    fclose(f);
    cr_assert(strstr(text, "VPID is 0000H") && strstr(text, "VM-Execution Control Fields"), "%s", text);
    free(text);
    vk_free(&k);
}
