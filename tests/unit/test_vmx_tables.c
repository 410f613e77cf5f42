/*
 * tests/unit/test_vmx_tables.c -- walks every row of vmcs.def, controls.def and exit_reasons.def.
 *
 * SDM 3D, appendixes "VMX Capability Reporting Facility", "Field Encoding in VMCS", "VMX Basic Exit Reasons".
 */
#include "test_vmx_kit.h"

Test(vmx_tables, fields_found_by_encoding)
{
    cr_assert_gt(vmcs_field_count, 140u, "%u", vmcs_field_count);
    unsigned found = 0;
    for (uint32_t e = 0; e <= 0xffff; e++) {
        const struct vmcs_field *f = e & 0x9000 ? NULL : vmcs_field(e & ~1u);
        if (f && !(e & 1)) {
            cr_assert_eq(f->encoding, e);
            found++;
        }
    }
    cr_assert_eq(found, vmcs_field_count);
    for (unsigned i = 0; i < vmcs_field_count; i++) {
        const struct vmcs_field *f = &vmcs_fields[i];
        cr_assert_eq(vmcs_field(f->encoding), f, "%s", f->name);
        cr_assert_eq(vmcs_field_by_member(f->member, strlen(f->member)), f, "%s", f->name);
        static const uint8_t size[4] = {2, 8, 4, 8};
        cr_assert_eq(f->size, size[VMCS_ENCODING_WIDTH(f->encoding)], "%s", f->name);
    }
}

Test(vmx_tables, unsupported_encodings)
{
    struct vk k;
    vk_init(&k);
    const struct vmx_caps *c = &k.cpu->vmx->caps;
    cr_assert_null(vmcs_field_supported(c, 0x2030)); /* sub-page permissions are not there */
    cr_assert_null(vmcs_field_supported(c, 0x0801)); /* no upper half of a 16-bit field */
    cr_assert_null(vmcs_field_supported(c, 0x10000));
    cr_assert_null(vmcs_field_supported(c, BIT(32) | 0x0800));
    cr_assert_null(vmcs_field_supported(c, 0x8800));
    cr_assert_not_null(vmcs_field_supported(c, 0x2001));
    /* A field goes away with the control that makes it exist. */
    for (unsigned i = 0; i < vmcs_field_count; i++) {
        const struct vmcs_field *f = &vmcs_fields[i];
        struct vmx_caps less = *c;
        cr_assert_not_null(vmcs_field_supported(&less, f->encoding), "%s", f->name);
        if (f->word == CONTROL_WORDS)
            continue;
        less.allowed1[f->word] &= ~f->control;
        cr_assert_null(vmcs_field_supported(&less, f->encoding), "%s", f->name);
    }
    vk_free(&k);
}

static uint64_t vmread(struct vk *k, uint32_t encoding)
{
    k->cpu->r[REG_RCX] = encoding;
    k->cpu->r[REG_RAX] = 0x5555;
    struct uop u = {.d = REG_RAX, .b = REG_RCX, .a = REG_ZERO};
    cr_assert_eq(vk_run(k, helper_vmread, &u), 0);
    return k->cpu->r[REG_RAX];
}

static void vmwrite(struct vk *k, uint32_t encoding, uint64_t value)
{
    k->cpu->r[REG_RCX] = encoding;
    k->cpu->r[REG_RAX] = value;
    struct uop u = {.d = REG_RAX, .b = REG_RCX, .a = REG_ZERO};
    cr_assert_eq(vk_run(k, helper_vmwrite, &u), 0);
}

/* What translated code may do by itself gives what the helpers give. */
Test(vmx_tables, field_places)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    cr_assert_eq(*(struct vmcs **)k.cpu->vmx, v);
    struct vmx_field_place p;
    for (unsigned i = 0; i < vmcs_field_count; i++) {
        const struct vmcs_field *f = &vmcs_fields[i];
        uint64_t value = 0xfedcba9876543210ull * (2 * i + 1);
        cr_assert(vmx_field_place(k.cpu, f->encoding, &p), "%s", f->name);
        cr_assert_not(p.computed, "%s", f->name);
        v->dirty = 0;
        vmwrite(&k, f->encoding, value);
        cr_assert_eq(load_le((uint8_t *)v + p.offset, p.size), value & size_mask(p.size), "%s", f->name);
        cr_assert_eq(((uint8_t *)v)[p.dirty_offset], p.dirty, "%s", f->name);
        if (VMCS_ENCODING_WIDTH(f->encoding) == VMCS_WIDTH_64)
            cr_assert(vmx_field_place(k.cpu, f->encoding | 1, &p) && p.computed, "%s", f->name);
    }
    cr_assert_not(vmx_field_place(k.cpu, 0x2030, &p));
    cr_assert_not(vmx_field_place(k.cpu, 0x0801, &p));
    cr_assert_not(vmx_field_place(k.cpu, BIT(40) | 0x681e, &p));
    vk_free(&k);
}

/* VMWRITE, VMREAD of every field, upper halves, then VMCLEAR, VMPTRLD: the region keeps them. */
Test(vmx_tables, vmread_vmwrite_sweep)
{
    struct vk k;
    vk_init(&k);
    for (unsigned i = 0; i < vmcs_field_count; i++) {
        const struct vmcs_field *f = &vmcs_fields[i];
        uint64_t value = 0x0123456789abcdefull * (2 * i + 1);
        vmwrite(&k, f->encoding, value);
        cr_assert(vk_succeeded(&k), "%s", f->name);
        cr_assert_eq(vmread(&k, f->encoding), value & size_mask(f->size), "%s", f->name);
        if (VMCS_ENCODING_WIDTH(f->encoding) != VMCS_WIDTH_64)
            continue;
        cr_assert_eq(vmread(&k, f->encoding | 1), value >> 32);
        vmwrite(&k, f->encoding | 1, 0xffffffff00000000ull | i);
        cr_assert_eq(vmread(&k, f->encoding), (uint64_t)i << 32 | (uint32_t)value, "%s", f->name);
        vmwrite(&k, f->encoding, value);
    }
    vk_run_m64(&k, helper_vmclear, VK_VMCS, 0);
    cr_assert(vk_succeeded(&k));
    cr_assert_null(vk_vmcs(&k));
    vmread(&k, 0x6800);
    cr_assert(vk_fail_invalid(&k));
    vk_run_m64(&k, helper_vmptrld, VK_VMCS, 0);
    for (unsigned i = 0; i < vmcs_field_count; i++) {
        const struct vmcs_field *f = &vmcs_fields[i];
        cr_assert_eq(vmread(&k, f->encoding), (0x0123456789abcdefull * (2 * i + 1)) & size_mask(f->size),
                     "%s", f->name);
    }
    vmread(&k, 0x2030);
    cr_assert_eq(vk_error(&k), VMERR_UNSUPPORTED_FIELD);
    vk_free(&k);
}

static uint64_t cap(struct vk *k, uint32_t index)
{
    uint64_t v;
    cr_assert(vmx_rdmsr(k->cpu, index, &v), "MSR %x", index);
    return v;
}

Test(vmx_tables, capability_msrs)
{
    struct vk k;
    vk_init(&k);
    static const struct {
        uint32_t plain, true_;
        uint32_t default1;
    } words[] = {
        [WORD_PIN] = {IA32_VMX_PINBASED_CTLS, IA32_VMX_TRUE_PINBASED_CTLS, PIN_DEFAULT1},
        [WORD_PROC] = {IA32_VMX_PROCBASED_CTLS, IA32_VMX_TRUE_PROCBASED_CTLS, PROC_DEFAULT1},
        [WORD_PROC2] = {IA32_VMX_PROCBASED_CTLS2, IA32_VMX_PROCBASED_CTLS2, 0},
        [WORD_EXITCTL] = {IA32_VMX_EXIT_CTLS, IA32_VMX_TRUE_EXIT_CTLS, EXITCTL_DEFAULT1},
        [WORD_ENTRYCTL] = {IA32_VMX_ENTRY_CTLS, IA32_VMX_TRUE_ENTRY_CTLS, ENTRYCTL_DEFAULT1},
    };
    cr_assert_gt(control_row_count, 60u);
    for (unsigned w = 0; w < ARRAY_LEN(words); w++) {
        uint64_t plain = cap(&k, words[w].plain), precise = cap(&k, words[w].true_);
        cr_assert_eq(plain >> 32, precise >> 32);
        cr_assert_eq((uint32_t)plain, words[w].default1);
        cr_assert_eq((uint32_t)precise & ~(uint32_t)plain, 0u);           /* TRUE only relaxes */
        cr_assert_eq((uint32_t)precise & ~(uint32_t)(precise >> 32), 0u); /* must-be-1 may be 1 */
    }
    for (unsigned i = 0; i < control_row_count; i++) {
        const struct control_info *r = &control_rows[i];
        bool wanted = r->feature != FEAT_NEVER && (r->feature == FEAT_ALWAYS || k.model.has[r->feature]);
        uint64_t precise = cap(&k, words[r->word].true_);
        cr_assert_eq(precise >> (32 + r->bit) & 1, wanted, "%s", r->name);
        cr_assert_eq(precise >> r->bit & 1, 0u, "%s can be 0", r->name);
        cr_assert_str_eq(control_bit_name(r->word, r->bit), r->text);
    }
    uint64_t basic = cap(&k, IA32_VMX_BASIC);
    cr_assert_eq(basic & BIT(31), 0u);
    cr_assert_eq(basic >> 32 & 0x1fff, 4096u);
    cr_assert_eq(basic & BIT(48), 0u);
    cr_assert_eq(basic >> 50 & 15, 6u);
    cr_assert_eq(basic & (BIT(54) | BIT(55)), BIT(54) | BIT(55));
    uint64_t misc = cap(&k, IA32_VMX_MISC);
    cr_assert_geq(misc & 31, 2u);
    cr_assert_eq(misc >> 6 & 7, 7u);
    cr_assert_eq(misc >> 16 & 0x1ff, 4u);
    cr_assert(misc & BIT(29));
    cr_assert_eq(cap(&k, IA32_VMX_VMCS_ENUM), 0x32u);
    cr_assert_eq(cap(&k, IA32_VMX_EPT_VPID_CAP), 0xf0106334141ull);
    cr_assert_eq(cap(&k, IA32_VMX_CR0_FIXED0), 0x80000021u);
    cr_assert_eq(cap(&k, IA32_VMX_CR4_FIXED0), 0x2000u);
    cr_assert_eq(cap(&k, IA32_VMX_CR4_FIXED1) & CR4_LA57, 0u);
    uint64_t v;
    cr_assert_eq(cap(&k, IA32_VMX_VMFUNC), 1u);
    cr_assert_not(vmx_rdmsr(k.cpu, 0x492, &v));
    vk_free(&k);
}

/* What KVM of Linux 6.1 refuses to start without, and what its default parameters ask for. */
Test(vmx_tables, kvm_requirements)
{
    struct vk k;
    vk_init(&k);
    const uint32_t *may = k.cpu->vmx->caps.allowed1;
#define HAS(word, bits) cr_assert_eq(may[WORD_##word] & (uint32_t)(bits), (uint32_t)(bits))
    HAS(PIN, PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS |
                 PIN_PROCESS_POSTED_INTERRUPTS | PIN_ACTIVATE_PREEMPTION_TIMER);
    HAS(PROC, PROC_HLT_EXITING | PROC_CR8_LOAD_EXITING | PROC_CR8_STORE_EXITING | PROC_CR3_LOAD_EXITING |
                  PROC_CR3_STORE_EXITING | PROC_UNCONDITIONAL_IO_EXITING | PROC_MOV_DR_EXITING |
                  PROC_USE_TSC_OFFSETTING | PROC_MWAIT_EXITING | PROC_MONITOR_EXITING | PROC_INVLPG_EXITING |
                  PROC_RDPMC_EXITING | PROC_INTERRUPT_WINDOW_EXITING | PROC_NMI_WINDOW_EXITING |
                  PROC_USE_TPR_SHADOW | PROC_USE_MSR_BITMAPS | PROC_ACTIVATE_SECONDARY_CONTROLS);
    HAS(PROC2, PROC2_VIRTUALIZE_APIC_ACCESSES | PROC2_ENABLE_EPT | PROC2_ENABLE_VPID |
                   PROC2_UNRESTRICTED_GUEST | PROC2_APIC_REGISTER_VIRTUALIZATION |
                   PROC2_VIRTUAL_INTERRUPT_DELIVERY | PROC2_VMCS_SHADOWING | PROC2_ENABLE_PML |
                   PROC2_PAUSE_LOOP_EXITING);
    HAS(EXITCTL,
        EXITCTL_SAVE_DEBUG_CONTROLS | EXITCTL_ACKNOWLEDGE_INTERRUPT | EXITCTL_HOST_ADDRESS_SPACE_SIZE);
    HAS(ENTRYCTL, ENTRYCTL_LOAD_DEBUG_CONTROLS | ENTRYCTL_IA32E_MODE_GUEST);
#undef HAS
    /* KVM complains about a load control at entry without its pair at exit. */
    cr_assert_eq(!(may[WORD_ENTRYCTL] & ENTRYCTL_LOAD_PAT), !(may[WORD_EXITCTL] & EXITCTL_LOAD_PAT));
    cr_assert_eq(!(may[WORD_ENTRYCTL] & ENTRYCTL_LOAD_EFER), !(may[WORD_EXITCTL] & EXITCTL_LOAD_EFER));
    cr_assert_eq(!(may[WORD_ENTRYCTL] & ENTRYCTL_LOAD_PERF_GLOBAL_CTRL),
                 !(may[WORD_EXITCTL] & EXITCTL_LOAD_PERF_GLOBAL_CTRL));
    cr_assert_eq(!(may[WORD_ENTRYCTL] & ENTRYCTL_LOAD_BNDCFGS), !(may[WORD_EXITCTL] & EXITCTL_CLEAR_BNDCFGS));
    vk_free(&k);
}

Test(vmx_tables, exit_reason_names)
{
    unsigned named = 0;
    for (unsigned i = 0; i < VMX_EXIT_REASONS; i++)
        named += strcmp(vmx_exit_reason_name(i), "RESERVED") != 0;
    cr_assert_eq(named, 62u, "%u", named);
    cr_assert_str_eq(vmx_exit_reason_name(EXIT_REASON_EPT_VIOLATION), "EPT_VIOLATION");
    cr_assert_str_eq(vmx_exit_reason_name(35), "RESERVED");
    cr_assert_str_eq(vmx_exit_reason_name(0x80000021u), "ENTRY_GUEST_STATE");
}

Test(vmx_tables, state_is_described)
{
    struct state_gap gaps[8];
    cr_assert_eq(state_coverage(&vmcs_state, gaps, 8), 0u);
    cr_assert_eq(state_coverage(&vmx_state, gaps, 8), 0u, "at %u", gaps[0].offset);
}
