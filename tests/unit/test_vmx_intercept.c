/*
 * tests/unit/test_vmx_intercept.c -- what exits in non-root operation, with exact qualification.
 *
 * SDM 3C, "VMX Non-Root Operation"; "Exit Qualification".
 */
#include "test_vmx_kit.h"

/* Each guard: the control that arms it, the exit it makes; without the control it is silent. */
Test(vmx_intercept, guards)
{
    static const struct {
        unsigned guard;
        uint32_t proc, proc2;
        unsigned reason;
    } rows[] = {
        {GUARD_CPUID, 0, 0, EXIT_REASON_CPUID},
        {GUARD_INVD, 0, 0, EXIT_REASON_INVD},
        {GUARD_XSETBV, 0, 0, EXIT_REASON_XSETBV},
        {GUARD_HLT, PROC_HLT_EXITING, 0, EXIT_REASON_HLT},
        {GUARD_RDTSC, PROC_RDTSC_EXITING, 0, EXIT_REASON_RDTSC},
        {GUARD_RDTSCP, PROC_RDTSC_EXITING, 0, EXIT_REASON_RDTSCP},
        {GUARD_RDPMC, PROC_RDPMC_EXITING, 0, EXIT_REASON_RDPMC},
        {GUARD_PAUSE, PROC_PAUSE_EXITING, 0, EXIT_REASON_PAUSE},
        {GUARD_MWAIT, PROC_MWAIT_EXITING, 0, EXIT_REASON_MWAIT},
        {GUARD_MONITOR, PROC_MONITOR_EXITING, 0, EXIT_REASON_MONITOR},
        {GUARD_INVPCID, PROC_INVLPG_EXITING, 0, EXIT_REASON_INVPCID},
        {GUARD_WBINVD, 0, PROC2_WBINVD_EXITING, EXIT_REASON_WBINVD},
        {GUARD_WBNOINVD, 0, PROC2_WBINVD_EXITING, EXIT_REASON_WBINVD},
        {GUARD_RDRAND, 0, PROC2_RDRAND_EXITING, EXIT_REASON_RDRAND},
        {GUARD_RDSEED, 0, PROC2_RDSEED_EXITING, EXIT_REASON_RDSEED},
        {GUARD_DESCRIPTOR, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_GDTR_IDTR_ACCESS},
    };
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        uint32_t proc = v->proc, proc2 = v->proc2;
        if (rows[i].proc || rows[i].proc2) {
            vk_must_enter(&k);
            cr_assert_eq(k.cpu->vmx_guards >> rows[i].guard & 1, 0u, "guard %u", rows[i].guard);
            VK_TRY(&k, vmx_guard(k.cpu, GUARD_CPUID));
        }
        v->proc |= rows[i].proc;
        v->proc2 |= rows[i].proc2;
        v->dirty = DIRTY_ALL;
        vk_must_enter(&k);
        cr_assert(k.cpu->vmx_guards >> rows[i].guard & 1, "guard %u", rows[i].guard);
        cr_assert_eq(VK_TRY(&k, vmx_guard(k.cpu, rows[i].guard)), JUMP_RESUME);
        vk_assert_exit(&k, rows[i].reason, 0);
        v->proc = proc;
        v->proc2 = proc2;
        v->dirty = DIRTY_ALL;
    }
    /* Instructions that the controls take away. */
    static const struct {
        unsigned guard;
        uint32_t proc2;
    } undefined[] = {
        {GUARD_RDTSCP, PROC2_ENABLE_RDTSCP},          {GUARD_RDPID, PROC2_ENABLE_RDTSCP},
        {GUARD_INVPCID, PROC2_ENABLE_INVPCID},        {GUARD_XSAVES, PROC2_ENABLE_XSAVES_XRSTORS},
        {GUARD_XRSTORS, PROC2_ENABLE_XSAVES_XRSTORS}, {GUARD_RSM, 0}};
    for (unsigned i = 0; i < ARRAY_LEN(undefined); i++) {
        v->proc2 &= ~undefined[i].proc2;
        v->dirty = DIRTY_ALL;
        vk_must_enter(&k);
        cr_assert(k.cpu->vmx_guards >> undefined[i].guard & 1);
        cr_assert_eq(VK_TRY(&k, vmx_guard(k.cpu, undefined[i].guard)), JUMP_EVENT);
        cr_assert_eq(k.cpu->event.vector, EXC_UD);
        k.cpu->event.valid = false;
        VK_TRY(&k, vmx_guard(k.cpu, GUARD_CPUID));
        v->proc2 |= undefined[i].proc2;
    }
    vk_free(&k);
}

Test(vmx_intercept, xsaves_bitmap)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    v->xss_exiting_bitmap = BIT(8);
    vk_must_enter(&k);
    k.cpu->msr.xss = BIT(8);
    k.cpu->r[REG_RAX] = 3;
    k.cpu->r[REG_RDX] = 0;
    vmx_guard(k.cpu, GUARD_XSAVES);
    k.cpu->r[REG_RAX] = 0x103;
    cr_assert_eq(VK_TRY(&k, vmx_guard(k.cpu, GUARD_XRSTORS)), JUMP_RESUME);
    vk_assert_exit(&k, EXIT_REASON_XRSTORS, 0);
    vk_free(&k);
}

Test(vmx_intercept, control_registers)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    struct cpu *c = k.cpu;
    v->cr0_mask = CR0_TS | CR0_PE | CR0_CD;
    v->cr0_shadow = CR0_PE;
    v->cr4_mask = CR4_VMXE;
    v->cr4_shadow = 0;
    v->proc |=
        PROC_CR3_LOAD_EXITING | PROC_CR3_STORE_EXITING | PROC_CR8_LOAD_EXITING | PROC_CR8_STORE_EXITING;
    v->cr3_target_count = 2;
    v->cr3_target1 = 0x5000;
    vk_must_enter(&k);
    uint64_t cr0 = c->cr0;
    cr_assert_eq(vmx_read_cr(c, 0, cr0, 1), (cr0 & ~v->cr0_mask) | CR0_PE);
    cr_assert_eq(vmx_read_cr_shadow(c, 0, cr0), (cr0 & ~v->cr0_mask) | CR0_PE);
    cr_assert_eq(vmx_read_cr(c, 4, c->cr4, 1), c->cr4 & ~(uint64_t)CR4_VMXE);
    cr_assert_eq(vmx_write_cr(c, 0, CR0_PE | CR0_MP, 1),
                 (uint64_t)(CR0_MP | CR0_PE)); /* host-owned bits stay */
    cr_assert_eq(vmx_write_cr(c, 4, CR4_PAE, 1), (uint64_t)(CR4_PAE | CR4_VMXE));
    cr_assert_eq(vmx_write_cr(c, 3, 0x5000, 1), 0x5000u);
    cr_assert_eq(vmx_clts(c), false); /* shadow TS is 0 */
    cr_assert_eq(vmx_lmsw(c, CR0_MP | CR0_PE, false, 0), cr0 | CR0_MP);
#define EXITS(statement, q)                                                                                  \
    cr_assert_eq(VK_TRY(&k, statement), JUMP_RESUME);                                                        \
    vk_assert_exit(&k, EXIT_REASON_CR_ACCESS, q);                                                            \
    vk_must_enter(&k)
    EXITS(vmx_write_cr(c, 0, CR0_PE | CR0_TS, 5), 0x500);
    EXITS(vmx_write_cr(c, 4, CR4_VMXE, 12), 0xc04);
    EXITS(vmx_write_cr(c, 3, 0x6000, 2), 0x203);
    EXITS(vmx_read_cr(c, 3, 0, 3), 0x313);
    EXITS(vmx_write_cr(c, 8, 1, 4), 0x408);
    EXITS(vmx_read_cr(c, 8, 1, 15), 0xf18);
    EXITS(vmx_lmsw(c, CR0_TS | CR0_PE, false, 0), 0x30 | (uint64_t)(CR0_TS | CR0_PE) << 16);
    EXITS(vmx_lmsw(c, CR0_TS, true, 0x1234), 0x70 | (uint64_t)CR0_TS << 16);
    cr_assert_eq(v->guest_linear_address, 0x1234u);
    v->cr0_shadow |= CR0_TS;
    EXITS(vmx_clts(c), 0x20);
#undef EXITS
    vk_free(&k);
}

Test(vmx_intercept, debug_registers_invlpg_task_switch)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    vk_must_enter(&k);
    vmx_dr_access(k.cpu, 7, true, 0);
    vmx_invlpg(k.cpu, 0x1000);
    VK_TRY(&k, vmx_task_switch(k.cpu, 0x28, 2));
    vk_assert_exit(&k, EXIT_REASON_TASK_SWITCH, 0x80000028u);
    v->proc |= PROC_MOV_DR_EXITING | PROC_INVLPG_EXITING;
    v->dirty = DIRTY_ALL;
    vk_must_enter(&k);
    VK_TRY(&k, vmx_dr_access(k.cpu, 7, false, 3));
    vk_assert_exit(&k, EXIT_REASON_DR_ACCESS, 0x317);
    vk_must_enter(&k);
    VK_TRY(&k, vmx_invlpg(k.cpu, 0xffff800000001000ull));
    vk_assert_exit(&k, EXIT_REASON_INVLPG, 0xffff800000001000ull);
    vk_free(&k);
}

Test(vmx_intercept, msr_bitmaps)
{
    struct vk k;
    vk_init(&k);
    static const struct {
        uint32_t index, offset;
    } rows[] = {{0, 0}, {0x1fff, 0x3ff}, {0xc0000000, 0x400}, {0xc0001fff, 0x7ff}, {0x277, 0x4e}};
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
        for (unsigned write = 0; write < 2; write++) {
            gpa_t at = VK_MSR_BITMAP + rows[i].offset + write * 2048;
            uint64_t value = 0;
            vk_must_enter(&k);
            cr_assert_not(vmx_msr_access(k.cpu, rows[i].index, write, &value));
            phys_store(&k.phys, at, 1, BIT(rows[i].index & 7));
            cr_assert_not(vmx_msr_access(k.cpu, rows[i].index, !write, &value));
            cr_assert_eq(VK_TRY(&k, vmx_msr_access(k.cpu, rows[i].index, write, &value)), JUMP_RESUME);
            vk_assert_exit(&k, write ? EXIT_REASON_WRMSR : EXIT_REASON_RDMSR, 0);
            phys_store(&k.phys, at, 1, 0);
        }
    uint64_t value;
    vk_must_enter(&k);
    VK_TRY(&k, vmx_msr_access(k.cpu, 0x2000, false, &value)); /* outside both ranges */
    vk_assert_exit(&k, EXIT_REASON_RDMSR, 0);
    vk_free(&k);
}

Test(vmx_intercept, io)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    phys_store(&k.phys, VK_IO_A + 0x3f8 / 8, 1, 1);
    phys_store(&k.phys, VK_IO_B + (0x8001 & 0x7fff) / 8, 1, 2);
    struct vmx_io in = {.port = 0x3f7, .size = 1, .in = true};
    vk_must_enter(&k);
    vmx_io(k.cpu, &in);
    in.size = 2; /* reaches 3F8H */
    VK_TRY(&k, vmx_io(k.cpu, &in));
    vk_assert_exit(&k, EXIT_REASON_IO_INSTRUCTION, 0x3f70009);
    vk_must_enter(&k);
    struct vmx_io outs = {.port = 0x8000,
                          .size = 4,
                          .string = true,
                          .rep = true,
                          .asize = ASIZE_64,
                          .seg = SEG_FS,
                          .linear = 0x5555};
    VK_TRY(&k, vmx_io(k.cpu, &outs));
    vk_assert_exit(&k, EXIT_REASON_IO_INSTRUCTION, 0x80000033u);
    cr_assert_eq(v->exit_instruction_info, 2u << 7 | 4u << 15);
    cr_assert_eq(v->guest_linear_address, 0x5555u);
    vk_must_enter(&k);
    struct vmx_io wrap = {.port = 0xffff, .size = 2, .immediate = false};
    VK_TRY(&k, vmx_io(k.cpu, &wrap));
    vk_assert_exit(&k, EXIT_REASON_IO_INSTRUCTION, 0xffff0001u);
    v->proc &= ~(uint32_t)PROC_USE_IO_BITMAPS;
    v->dirty = DIRTY_ALL;
    vk_must_enter(&k);
    vmx_io(k.cpu, &outs);
    VK_TRY(&k, vmx_guard(k.cpu, GUARD_CPUID));
    v->proc |= PROC_UNCONDITIONAL_IO_EXITING;
    v->dirty = DIRTY_ALL;
    vk_must_enter(&k);
    struct vmx_io imm = {.port = 0x80, .size = 1, .immediate = true};
    VK_TRY(&k, vmx_io(k.cpu, &imm));
    vk_assert_exit(&k, EXIT_REASON_IO_INSTRUCTION, 0x800040);
    vk_free(&k);
}

Test(vmx_intercept, ept_faults)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    vk_must_enter(&k);
    struct mmu_fault f = {
        .kind = MMU_FAULT_EPT_VIOLATION, .gpa = 0x123456, .linear = 0x789, .qualification = 0x182};
    VK_TRY(&k, vmx_ept_fault(k.cpu, &f));
    vk_assert_exit(&k, EXIT_REASON_EPT_VIOLATION, 0x182);
    cr_assert_eq(v->guest_physical_address, 0x123456u);
    cr_assert_eq(v->guest_linear_address, 0x789u);
    f.kind = MMU_FAULT_EPT_MISCONFIG;
    f.gpa = 0xfee00000;
    vk_must_enter(&k);
    VK_TRY(&k, vmx_ept_fault(k.cpu, &f));
    vk_assert_exit(&k, EXIT_REASON_EPT_MISCONFIGURATION, 0);
    cr_assert_eq(v->guest_physical_address, 0xfee00000u);
    f.kind = MMU_FAULT_PML_FULL;
    vk_must_enter(&k);
    VK_TRY(&k, vmx_ept_fault(k.cpu, &f));
    vk_assert_exit(&k, EXIT_REASON_PML_FULL, 0);
    vk_must_enter(&k);
    VK_TRY(&k, vmx_triple_fault(k.cpu));
    vk_assert_exit(&k, EXIT_REASON_TRIPLE_FAULT, 0);
    vk_free(&k);
}

Test(vmx_intercept, init_and_sipi)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    vk_must_enter(&k);
    VK_TRY(&k, vmx_poll_init(k.cpu));
    vk_assert_exit(&k, EXIT_REASON_INIT_SIGNAL, 0);
    v->guest_activity = ACTIVITY_WAIT_SIPI;
    vk_must_enter(&k);
    cr_assert_eq(k.cpu->activity, ACTIVITY_WAIT_SIPI);
    VK_TRY(&k, vmx_poll_sipi(k.cpu, 0x9a));
    vk_assert_exit(&k, EXIT_REASON_SIPI, 0x9a);
    cr_assert_eq(v->guest_activity, (uint32_t)ACTIVITY_WAIT_SIPI);
    cr_assert_eq(k.cpu->activity, ACTIVITY_ACTIVE);
    vk_free(&k);
}

Test(vmx_intercept, pause_loop)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    v->proc2 |= PROC2_PAUSE_LOOP_EXITING;
    v->ple_gap = 128;
    v->ple_window = 4096;
    vk_must_enter(&k);
    unsigned pauses = 0;
    for (unsigned i = 0; i < 3; i++) { /* loops with a wide gap between them are not one loop */
        k.clock.now += 1000;
        vmx_guard(k.cpu, GUARD_PAUSE);
    }
    while (VK_TRY(&k, vmx_guard(k.cpu, GUARD_PAUSE)) == 0) {
        k.clock.now += 100;
        pauses++;
        cr_assert_lt(pauses, 100u);
    }
    cr_assert_eq(pauses, 41u, "%u", pauses);
    vk_assert_exit(&k, EXIT_REASON_PAUSE, 0);
    vk_free(&k);
}
