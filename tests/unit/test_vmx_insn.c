/*
 * tests/unit/test_vmx_insn.c -- the VMX instructions: every check in its order, error numbers, VMCS
 * shadowing.
 *
 * SDM 3C, "VMX Instruction Reference"; "VM Instruction Error Numbers".
 */
#include "test_vmx_kit.h"

static struct uop none;

static void expect_exception(struct vk *k, int result, unsigned vector)
{
    cr_assert_eq(result, JUMP_EVENT);
    cr_assert(k->cpu->event.valid && k->cpu->event.vector == vector, "vector %u", k->cpu->event.vector);
    k->cpu->event.valid = false;
}

Test(vmx_insn, vmxon)
{
    struct vk k;
    vk_init(&k);
    struct cpu *c = k.cpu;
    cr_assert_eq(vk_run_m64(&k, helper_vmxon, VK_VMXON, 0), 0);
    cr_assert_eq(vk_error(&k), VMERR_VMXON_IN_ROOT);
    cr_assert_eq(vk_run(&k, helper_vmxoff, &none), 0);
    cr_assert(!c->vmx_on && vk_succeeded(&k));
    expect_exception(&k, vk_run(&k, helper_vmxoff, &none), EXC_UD);
    vk_run_m64(&k, helper_vmxon, 0x123, 0);
    cr_assert(vk_fail_invalid(&k) && !c->vmx_on);
    vk_run_m64(&k, helper_vmxon, BIT(50), 0);
    cr_assert(vk_fail_invalid(&k));
    vk_run_m64(&k, helper_vmxon, VK_DATA, 0); /* another revision identifier */
    cr_assert(vk_fail_invalid(&k));
    c->msr.feature_control = 1;
    expect_exception(&k, vk_run_m64(&k, helper_vmxon, VK_VMXON, 0), EXC_GP);
    c->msr.feature_control = 5;
    c->cpl = 3;
    expect_exception(&k, vk_run_m64(&k, helper_vmxon, VK_VMXON, 0), EXC_GP);
    c->cpl = 0;
    c->cr0 &= ~(uint64_t)CR0_NE;
    expect_exception(&k, vk_run_m64(&k, helper_vmxon, VK_VMXON, 0), EXC_GP);
    c->cr0 |= CR0_NE;
    c->cr4 &= ~(uint64_t)CR4_VMXE;
    expect_exception(&k, vk_run_m64(&k, helper_vmxon, VK_VMXON, 0), EXC_UD);
    c->cr4 |= CR4_VMXE;
    c->seg[SEG_CS].ar &= ~AR_L; /* compatibility mode */
    expect_exception(&k, vk_run_m64(&k, helper_vmxon, VK_VMXON, 0), EXC_UD);
    c->seg[SEG_CS].ar |= AR_L;
    cr_assert_eq(vk_run_m64(&k, helper_vmxon, VK_VMXON, 0), 0);
    cr_assert(vk_succeeded(&k) && c->vmx_on);
    cr_assert_null(vk_vmcs(&k));
    vk_run(&k, helper_vmlaunch, &none);
    cr_assert(vk_fail_invalid(&k));
    vk_free(&k);
}

Test(vmx_insn, vmcs_pointers)
{
    struct vk k;
    vk_init(&k);
    static const struct {
        uint64_t address;
        uint32_t clear, load;
    } bad[] = {{0x123, VMERR_VMCLEAR_ADDRESS, VMERR_VMPTRLD_ADDRESS},
               {BIT(46), VMERR_VMCLEAR_ADDRESS, VMERR_VMPTRLD_ADDRESS},
               {VK_VMXON, VMERR_VMCLEAR_VMXON, VMERR_VMPTRLD_VMXON},
               {VK_DATA, 0, VMERR_VMPTRLD_REVISION}};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        vk_run_m64(&k, helper_vmptrld, bad[i].address, 0);
        cr_assert_eq(vk_error(&k), bad[i].load, "%u", i);
        vk_run_m64(&k, helper_vmclear, bad[i].address, 0);
        cr_assert_eq(vk_error(&k), bad[i].clear, "%u", i);
    }
    k.cpu->r[REG_T0] = VK_DATA + 8;
    struct uop u = {.a = REG_T0, .am = AM(0, ASIZE_64, SEG_DS, 0)};
    cr_assert_eq(vk_run(&k, helper_vmptrst, &u), 0);
    cr_assert_eq(phys_load(&k.phys, VK_DATA + 8, 8), (uint64_t)VK_VMCS);
    vk_run_m64(&k, helper_vmclear, VK_VMCS, 0);
    k.cpu->r[REG_T0] = VK_DATA + 8;
    vk_run(&k, helper_vmptrst, &u);
    cr_assert_eq(phys_load(&k.phys, VK_DATA + 8, 8), ~0ull);
    vk_free(&k);
}

/* More VMCSs than the cache holds: evicted ones come back from memory with all their fields. */
Test(vmx_insn, eviction)
{
    struct vk k;
    vk_init(&k);
    enum { COUNT = 3 * VMX_CACHE_SIZE };
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < COUNT; i++) {
            gpa_t at = 0x100000 + 0x1000 * i;
            phys_store(&k.phys, at, 4, VMCS_REVISION_ID);
            vk_run_m64(&k, helper_vmptrld, at, 0);
            cr_assert(vk_succeeded(&k));
            if (pass == 0) {
                vk_vmcs(&k)->guest_rip = i * 0x1111;
                vk_vmcs(&k)->vpid = (uint16_t)i;
                vk_vmcs(&k)->launched = i & 1;
            } else {
                cr_assert_eq(vk_vmcs(&k)->guest_rip, i * 0x1111);
                cr_assert_eq(vk_vmcs(&k)->vpid, i);
                cr_assert_eq(vk_vmcs(&k)->launched, i & 1);
            }
        }
    vk_free(&k);
}

Test(vmx_insn, launch_state)
{
    struct vk k;
    vk_init(&k);
    vk_run(&k, helper_vmresume, &none);
    cr_assert_eq(vk_error(&k), VMERR_VMRESUME_NOT_LAUNCHED);
    k.cpu->shadow_mov_ss = true;
    vk_run(&k, helper_vmlaunch, &none);
    cr_assert_eq(vk_error(&k), VMERR_ENTRY_MOV_SS);
    k.cpu->shadow_mov_ss = false;
    vk_must_enter(&k);
    VK_TRY(&k, vmx_guard(k.cpu, GUARD_CPUID));
    vk_assert_exit(&k, EXIT_REASON_CPUID, 0);
    vk_run(&k, helper_vmlaunch, &none);
    cr_assert_eq(vk_error(&k), VMERR_VMLAUNCH_NOT_CLEAR);
    vk_must_enter(&k);
    VK_TRY(&k, vmx_guard(k.cpu, GUARD_CPUID));
    vk_run_m64(&k, helper_vmclear, VK_VMCS, 0);
    vk_run_m64(&k, helper_vmptrld, VK_VMCS, 0);
    cr_assert_not(vk_vmcs(&k)->launched);
    vk_must_enter(&k);
    vk_free(&k);
}

Test(vmx_insn, vmcall_in_root)
{
    struct vk k;
    vk_init(&k);
    vk_run(&k, helper_vmcall, &none);
    cr_assert_eq(vk_error(&k), VMERR_VMCALL_ROOT);
    vk_free(&k);
}

Test(vmx_insn, invept_invvpid)
{
    struct vk k;
    vk_init(&k);
    uint64_t eptp = VK_EPT | 6 | 3 << 3;
    vk_run_m64(&k, helper_invept, eptp, 0);
    cr_assert_eq(vk_error(&k), VMERR_INVALID_OPERAND);
    vk_run_m64(&k, helper_invept, eptp, 1);
    cr_assert(vk_succeeded(&k));
    vk_run_m64(&k, helper_invept, eptp ^ 1, 1);
    cr_assert_eq(vk_error(&k), VMERR_INVALID_OPERAND);
    vk_run_m64(&k, helper_invept, eptp ^ 1, 2);
    cr_assert(vk_succeeded(&k));
    vk_run_m64(&k, helper_invept, eptp, 3);
    cr_assert_eq(vk_error(&k), VMERR_INVALID_OPERAND);

    phys_store(&k.phys, VK_DATA + 8, 8, 0x1000);
    for (unsigned type = 0; type < 5; type++) {
        vk_run_m64(&k, helper_invvpid, 1, type);
        cr_assert_eq(vk_succeeded(&k), type < 4);
        vk_run_m64(&k, helper_invvpid, 0, type);
        cr_assert_eq(vk_succeeded(&k), type == 2);
        vk_run_m64(&k, helper_invvpid, 0x10001, type);
        cr_assert_not(vk_succeeded(&k));
    }
    phys_store(&k.phys, VK_DATA + 8, 8, BIT(60));
    vk_run_m64(&k, helper_invvpid, 1, 0);
    cr_assert_eq(vk_error(&k), VMERR_INVALID_OPERAND);
    vk_run_m64(&k, helper_invvpid, 1, 1);
    cr_assert(vk_succeeded(&k));
    vk_free(&k);
}

/* In non-root operation each of them exits, at any CPL. */
Test(vmx_insn, exits_in_non_root)
{
    static const struct {
        helper_fn *fn;
        unsigned reason;
    } rows[] = {{helper_vmxon, EXIT_REASON_VMXON},       {helper_vmxoff, EXIT_REASON_VMXOFF},
                {helper_vmclear, EXIT_REASON_VMCLEAR},   {helper_vmptrld, EXIT_REASON_VMPTRLD},
                {helper_vmptrst, EXIT_REASON_VMPTRST},   {helper_vmread, EXIT_REASON_VMREAD},
                {helper_vmwrite, EXIT_REASON_VMWRITE},   {helper_vmlaunch, EXIT_REASON_VMLAUNCH},
                {helper_vmresume, EXIT_REASON_VMRESUME}, {helper_vmcall, EXIT_REASON_VMCALL},
                {helper_invept, EXIT_REASON_INVEPT},     {helper_invvpid, EXIT_REASON_INVVPID}};
    struct vk k;
    vk_init(&k);
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        vk_must_enter(&k);
        k.cpu->cpl = i & 1 ? 3 : 0;
        cr_assert_eq(vk_run(&k, rows[i].fn, &none), JUMP_RESUME);
        vk_assert_exit(&k, rows[i].reason, 0);
        cr_assert_eq(vmx_exit_count(k.cpu, rows[i].reason), 1u);
        vk_vmcs(&k)->guest_ss_ar &= ~(3u << 5);
    }
    cr_assert_eq(vmx_entry_count(k.cpu), ARRAY_LEN(rows));
    vk_free(&k);
}

Test(vmx_insn, vmcs_shadowing)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    struct cpu *c = k.cpu;
    /* The current VMCS cannot be a shadow VMCS at entry, but it can be loaded, read and written. */
    vk_run_m64(&k, helper_vmptrld, VK_SHADOW, 0);
    cr_assert(vk_succeeded(&k));
    vk_vmcs(&k)->guest_rsp = 0x7777;
    vk_run(&k, helper_vmlaunch, &none);
    cr_assert(vk_fail_invalid(&k));
    vk_run_m64(&k, helper_vmclear, VK_SHADOW, 0);
    vk_run_m64(&k, helper_vmptrld, VK_VMCS, 0);
    v = vk_vmcs(&k);
    v->proc2 |= PROC2_VMCS_SHADOWING;
    v->link_pointer = VK_SHADOW;
    v->dirty = DIRTY_ALL;
    phys_store(&k.phys, VK_VMREAD + 0x681e / 8, 1, BIT(0x681e & 7)); /* guest RIP exits */
    vk_must_enter(&k);
    struct uop u = {.d = REG_RAX, .b = REG_RCX, .a = REG_ZERO};
    c->r[REG_RCX] = 0x681c;
    cr_assert_eq(vk_run(&k, helper_vmread, &u), 0);
    cr_assert(vk_succeeded(&k) && c->r[REG_RAX] == 0x7777);
    c->r[REG_RAX] = 0x8888;
    cr_assert_eq(vk_run(&k, helper_vmwrite, &u), 0);
    c->r[REG_RCX] = 0x2030;
    cr_assert_eq(vk_run(&k, helper_vmread, &u), 0);
    cr_assert_eq(c->vmx->linked->instruction_error, VMERR_UNSUPPORTED_FIELD);
    c->r[REG_RCX] = 0x681e;
    cr_assert_eq(vk_run(&k, helper_vmread, &u), JUMP_RESUME);
    vk_assert_exit(&k, EXIT_REASON_VMREAD, 0);
    vk_run_m64(&k, helper_vmptrld, VK_SHADOW, 0);
    cr_assert_eq(vk_vmcs(&k)->guest_rsp, 0x8888u);
    vk_free(&k);
}
