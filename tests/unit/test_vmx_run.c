/*
 * tests/unit/test_vmx_run.c -- guest instructions run for real between VMRESUME and the exit: length,
 * information, qualification, RIP.
 *
 * The host is VMLAUNCH/VMRESUME at VK_CODE and HLT at VK_HOST_RIP; the guest's bytes lie at VK_GUEST_RIP.
 * SDM 3C, "Information for VM Exits Due to Instruction Execution"; "Virtual Interrupts"; "Monitor Trap Flag".
 */
#include "test_vmx_kit.h"

/* Enters the guest with these bytes and runs until the host halts. */
static void run_guest(struct vk *k, const void *bytes, size_t n)
{
    struct cpu *c = k->cpu;
    static const uint8_t vmlaunch[] = {0x0f, 0x01, 0xc2}, vmresume[] = {0x0f, 0x01, 0xc3}, hlt[] = {0xf4};
    phys_write(&k->phys, VK_CODE, vk_vmcs(k)->launched ? vmresume : vmlaunch, 3);
    phys_write(&k->phys, VK_HOST_RIP, hlt, 1);
    phys_write(&k->phys, vk_vmcs(k)->guest_rip, bytes, n);
    vk_root_state(k);
    c->attention = 0;
    for (unsigned i = 0; i < 50 && c->activity == ACTIVITY_ACTIVE; i++) {
        uint64_t used = cpu_run(c, 10000);
        cr_assert_leq(used, 10000u);
        clock_run(&k->clock);
    }
    cr_assert_eq(c->activity, ACTIVITY_HLT, "rip %llx", (unsigned long long)c->rip);
    cr_assert_not(c->vmx_non_root);
}

struct form {
    const char *name;
    uint8_t bytes[12];
    uint8_t before; /* bytes of instructions that run first */
    uint8_t length;
    uint16_t reason;
    uint64_t qualification;
    uint32_t info;        /* ~0: not defined */
    uint32_t proc, proc2; /* controls to add */
};

static const struct form forms[] = {
    {"cpuid", {0x0f, 0xa2}, 0, 2, EXIT_REASON_CPUID, 0, ~0u, 0, 0},
    {"nop; cpuid", {0x90, 0x90, 0x0f, 0xa2}, 2, 2, EXIT_REASON_CPUID, 0, ~0u, 0, 0},
    {"hlt", {0xf4}, 0, 1, EXIT_REASON_HLT, 0, ~0u, PROC_HLT_EXITING, 0},
    {"invd", {0x0f, 0x08}, 0, 2, EXIT_REASON_INVD, 0, ~0u, 0, 0},
    {"wbinvd", {0x0f, 0x09}, 0, 2, EXIT_REASON_WBINVD, 0, ~0u, 0, PROC2_WBINVD_EXITING},
    {"rdtsc", {0x0f, 0x31}, 0, 2, EXIT_REASON_RDTSC, 0, ~0u, PROC_RDTSC_EXITING, 0},
    {"rdtscp", {0x0f, 0x01, 0xf9}, 0, 3, EXIT_REASON_RDTSCP, 0, ~0u, PROC_RDTSC_EXITING, 0},
    {"rdpmc", {0x0f, 0x33}, 0, 2, EXIT_REASON_RDPMC, 0, ~0u, PROC_RDPMC_EXITING, 0},
    {"pause", {0xf3, 0x90}, 0, 2, EXIT_REASON_PAUSE, 0, ~0u, PROC_PAUSE_EXITING, 0},
    {"vmcall", {0x0f, 0x01, 0xc1}, 0, 3, EXIT_REASON_VMCALL, 0, ~0u, 0, 0},
    {"vmxoff", {0x0f, 0x01, 0xc4}, 0, 3, EXIT_REASON_VMXOFF, 0, ~0u, 0, 0},
    {"rdrand r9d",
     {0x41, 0x0f, 0xc7, 0xf1},
     0,
     4,
     EXIT_REASON_RDRAND,
     0,
     9 << 3 | 1 << 11,
     0,
     PROC2_RDRAND_EXITING},
    {"rdseed rax", {0x48, 0x0f, 0xc7, 0xf8}, 0, 4, EXIT_REASON_RDSEED, 0, 2 << 11, 0, PROC2_RDSEED_EXITING},
    {"mov cr3, rdi", {0x0f, 0x22, 0xdf}, 0, 3, EXIT_REASON_CR_ACCESS, 0x703, ~0u, PROC_CR3_LOAD_EXITING, 0},
    {"mov rsi, cr3", {0x0f, 0x20, 0xde}, 0, 3, EXIT_REASON_CR_ACCESS, 0x613, ~0u, PROC_CR3_STORE_EXITING, 0},
    {"mov dr7, rax", {0x0f, 0x23, 0xf8}, 0, 3, EXIT_REASON_DR_ACCESS, 7, ~0u, PROC_MOV_DR_EXITING, 0},
    {"invlpg [rbx+8]",
     {0x0f, 0x01, 0x7b, 0x08},
     0,
     4,
     EXIT_REASON_INVLPG,
     VK_DATA + 8,
     ~0u,
     PROC_INVLPG_EXITING,
     0},
    {"out 0x80, al", {0xe6, 0x80}, 0, 2, EXIT_REASON_IO_INSTRUCTION, 0x800040, ~0u, 0, 0},
    {"in eax, dx", {0xed}, 0, 1, EXIT_REASON_IO_INSTRUCTION, 0x10b, ~0u, 0, 0},
    {"rep outsb", {0xf3, 0x6e}, 0, 2, EXIT_REASON_IO_INSTRUCTION, 0x30, 2 << 7 | 3 << 15, 0, 0},
    {"rdmsr", {0x0f, 0x32}, 0, 2, EXIT_REASON_RDMSR, 0, ~0u, 0, 0},
    {"wrmsr", {0x0f, 0x30}, 0, 2, EXIT_REASON_WRMSR, 0, ~0u, 0, 0},
    {"sgdt [rbx+rsi*4-0x10]",
     {0x0f, 0x01, 0x44, 0xb3, 0xf0},
     0,
     5,
     EXIT_REASON_GDTR_IDTR_ACCESS,
     (uint64_t)-16,
     2 | 2 << 7 | 1 << 11 | 3 << 15 | 6 << 18 | 3 << 23,
     0,
     PROC2_DESCRIPTOR_TABLE_EXITING},
    {"lidt [rip+0x20]",
     {0x0f, 0x01, 0x1d, 0x20, 0, 0, 0},
     0,
     7,
     EXIT_REASON_GDTR_IDTR_ACCESS,
     VK_GUEST_RIP + 7 + 0x20,
     2 << 7 | 1 << 11 | 3 << 15 | 1 << 22 | 1 << 27 | 3u << 28,
     0,
     PROC2_DESCRIPTOR_TABLE_EXITING},
    {"str ecx",
     {0x0f, 0x00, 0xc9},
     0,
     3,
     EXIT_REASON_LDTR_TR_ACCESS,
     0,
     1 << 10 | 1 << 3 | 1 << 28,
     0,
     PROC2_DESCRIPTOR_TABLE_EXITING},
    {"vmptrld [rbx]",
     {0x0f, 0xc7, 0x33},
     0,
     3,
     EXIT_REASON_VMPTRLD,
     0,
     2 << 7 | 3 << 15 | 1 << 22 | 3 << 23,
     0,
     0},
    {"vmread rax, rcx", {0x0f, 0x78, 0xc8}, 0, 3, EXIT_REASON_VMREAD, 0, 1 << 10 | 1 << 28, 0, 0},
    {"vmwrite rdx, [rbx]",
     {0x0f, 0x79, 0x13},
     0,
     3,
     EXIT_REASON_VMWRITE,
     0,
     2 << 7 | 3 << 15 | 1 << 22 | 3 << 23 | 2 << 28,
     0,
     0},
    {"invept rsi, fs:[rbx]",
     {0x64, 0x66, 0x0f, 0x38, 0x80, 0x33},
     0,
     6,
     EXIT_REASON_INVEPT,
     0,
     2 << 7 | 4 << 15 | 1 << 22 | 3 << 23 | 6 << 28,
     0,
     0},
    {"invpcid rax, [rbx]",
     {0x66, 0x0f, 0x38, 0x82, 0x03},
     0,
     5,
     EXIT_REASON_INVPCID,
     0,
     2 << 7 | 3 << 15 | 1 << 22 | 3 << 23,
     PROC_INVLPG_EXITING,
     0},
};

Test(vmx_run, instruction_exits)
{
    for (unsigned i = 0; i < ARRAY_LEN(forms); i++) {
        const struct form *f = &forms[i];
        struct vk k;
        vk_init(&k);
        struct vmcs *v = vk_vmcs(&k);
        v->proc |= f->proc;
        v->proc2 |= f->proc2;
        for (unsigned b = 0; b < 4096; b += 8) { /* all MSRs and ports exit */
            phys_store(&k.phys, VK_MSR_BITMAP + b, 8, ~0ull);
            phys_store(&k.phys, VK_IO_A + b, 8, ~0ull);
        }
        k.cpu->r[REG_RBX] = VK_DATA;
        k.cpu->r[REG_RCX] = 1;
        k.cpu->r[REG_RDX] = 0;
        k.cpu->r[REG_RSI] = 0;
        if (f->bytes[0] == 0xed)
            k.cpu->r[REG_RDX] = 0; /* port 0, size 4: qualification below */
        run_guest(&k, f->bytes, sizeof(f->bytes));
        uint64_t q = f->bytes[0] == 0xed ? 0xbu : f->qualification;
        cr_assert_eq(v->exit_reason, f->reason, "%s: reason %x", f->name, v->exit_reason);
        cr_assert_eq(v->exit_qualification, q, "%s: qualification %llx", f->name,
                     (unsigned long long)v->exit_qualification);
        cr_assert_eq(v->guest_rip, VK_GUEST_RIP + f->before, "%s", f->name);
        cr_assert_eq(v->exit_instruction_length, f->length, "%s: length %u", f->name,
                     v->exit_instruction_length);
        if (f->info != ~0u)
            cr_assert_eq(v->exit_instruction_info, f->info, "%s: information %x, not %x", f->name,
                         v->exit_instruction_info, f->info);
        vk_free(&k);
    }
}

/* EPT violation of a write to a read-only page, with the instruction's length; then a misconfiguration. */
Test(vmx_run, ept)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    static const uint8_t store[] = {0x48, 0x89, 0x03}; /* mov [rbx], rax */
    phys_store(&k.phys, VK_EPT + 0x1000, 8, (VK_EPT + 0x2000) | 7);
    for (unsigned i = 0; i < 4; i++)
        phys_store(&k.phys, VK_EPT + 0x2000 + 8 * i, 8, (uint64_t)i << 21 | 7 | 6 << 3 | 1 << 7);
    phys_store(&k.phys, VK_EPT + 0x2000 + 8, 8, 1ull << 21 | 5 | 6 << 3 | 1 << 7); /* 2..4 MB: no writing */
    k.cpu->r[REG_RBX] = 0x200010;
    run_guest(&k, store, sizeof(store));
    cr_assert_eq(v->exit_reason, EXIT_REASON_EPT_VIOLATION, "%x", v->exit_reason);
    cr_assert_eq(v->exit_qualification & 0x1bf, 0x1aau, "%llx", (unsigned long long)v->exit_qualification);
    cr_assert_eq(v->guest_physical_address, 0x200010u);
    cr_assert_eq(v->guest_linear_address, 0x200010u);
    cr_assert_eq(v->exit_instruction_length, 3u);
    phys_store(&k.phys, VK_EPT + 0x2000 + 8, 8, 1ull << 21 | 2 | 6 << 3 | 1 << 7); /* write without read */
    k.cpu->r[REG_RBX] = 0x200010;
    run_guest(&k, store, sizeof(store));
    cr_assert_eq(v->exit_reason, EXIT_REASON_EPT_MISCONFIGURATION, "%x", v->exit_reason);
    cr_assert_eq(v->guest_physical_address, 0x200010u);
    cr_assert_eq(v->exit_instruction_length, 3u);
    vk_free(&k);
}

/* One instruction at a time by MTF. */
Test(vmx_run, monitor_trap_flag)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    v->proc |= PROC_MONITOR_TRAP_FLAG;
    static const uint8_t code[] = {0x90, 0x48, 0xff, 0xc0, 0x90, 0x90}; /* nop; inc rax; nop; nop */
    static const uint8_t at[] = {1, 4, 5};
    for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
        uint64_t start = v->guest_rip;
        run_guest(&k, code + (start - VK_GUEST_RIP), sizeof(code) - (start - VK_GUEST_RIP));
        cr_assert_eq(v->exit_reason, EXIT_REASON_MONITOR_TRAP_FLAG, "%x", v->exit_reason);
        cr_assert_eq(v->guest_rip, VK_GUEST_RIP + at[i]);
    }
    vk_free(&k);
}

/* The timer ends an endless loop at its exact tick. */
Test(vmx_run, preemption_timer_ends_a_loop)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    v->pin |= PIN_ACTIVATE_PREEMPTION_TIMER;
    v->preemption_timer = 20;
    static const uint8_t loop[] = {0x48, 0xff, 0xc0, 0xeb, 0xfb}; /* inc rax; jmp */
    k.cpu->r[REG_RAX] = 0;
    run_guest(&k, loop, sizeof(loop));
    cr_assert_eq(v->exit_reason, EXIT_REASON_PREEMPTION_TIMER, "%x", v->exit_reason);
    cr_assert(k.cpu->r[REG_RAX] >= 300 && k.cpu->r[REG_RAX] <= 320, "%llu",
              (unsigned long long)k.cpu->r[REG_RAX]);
    vk_free(&k);
}

/* An exception that the bitmap asks for; one that it does not and that ends in a triple fault without an IDT.
 */
Test(vmx_run, exceptions)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    static const uint8_t ud2[] = {0x0f, 0x0b}, int3[] = {0xcc};
    v->exception_bitmap = BIT(EXC_UD) | BIT(EXC_BP);
    run_guest(&k, ud2, sizeof(ud2));
    cr_assert_eq(v->exit_reason, EXIT_REASON_EXCEPTION_NMI);
    cr_assert_eq(v->exit_interruption_info, 0x80000306u);
    cr_assert_eq(v->guest_rip, VK_GUEST_RIP);
    cr_assert(v->guest_rflags & FLAG_RF);
    v->guest_rflags = FLAG_1;
    run_guest(&k, int3, sizeof(int3));
    cr_assert_eq(v->exit_interruption_info, 0x80000603u, "%x", v->exit_interruption_info);
    cr_assert_eq(v->exit_instruction_length, 1u);
    v->exception_bitmap = 0;
    v->guest_idtr_limit = 0;
    v->dirty = DIRTY_ALL;
    run_guest(&k, ud2, sizeof(ud2));
    cr_assert_eq(v->exit_reason, EXIT_REASON_TRIPLE_FAULT, "%x", v->exit_reason);
    cr_assert_eq(v->idt_vectoring_info & INFO_VALID, 0u);
    vk_free(&k);
}

/* Self-IPI through the APIC-access page is delivered through the guest's IDT without an exit; EOI too. */
Test(vmx_run, virtual_interrupt_delivered)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    v->proc2 |= PROC2_VIRTUALIZE_APIC_ACCESSES | PROC2_APIC_REGISTER_VIRTUALIZATION |
                PROC2_VIRTUAL_INTERRUPT_DELIVERY;
    v->guest_idtr_base = VK_DATA;
    v->guest_gdtr_base = VK_DATA + 0x1800;
    phys_store(&k.phys, VK_DATA + 0x1808, 8, 0x00af9b000000ffffull); /* 64-bit code, selector 8 */
    phys_store(&k.phys, VK_DATA + 0x1810, 8, 0x00cf93000000ffffull);
    uint64_t handler = VK_GUEST_RIP + 0x100;
    phys_store(&k.phys, VK_DATA + 16 * 0x41, 8,
               (handler & 0xffff) | 8 << 16 | 0x8e00ull << 32 | handler >> 16 << 48);
    static const uint8_t code[] = {
        0xfb,                                           /* sti */
        0xc7, 0x83, 0x00, 0x03, 0, 0, 0x41, 0, 0x04, 0, /* mov dword [rbx+300h], 40041h */
        0x90, 0x0f, 0x01, 0xc1,                         /* nop; vmcall */
    };
    static const uint8_t interrupt[] = {
        0x48, 0xff, 0xc0,                      /* inc rax */
        0xc7, 0x83, 0xb0, 0, 0, 0, 0, 0, 0, 0, /* mov dword [rbx+0b0h], 0 */
        0x48, 0xcf,                            /* iretq */
    };
    phys_write(&k.phys, handler, interrupt, sizeof(interrupt));
    k.cpu->r[REG_RBX] = VK_APIC_PAGE;
    k.cpu->r[REG_RAX] = 0;
    run_guest(&k, code, sizeof(code));
    cr_assert_eq(v->exit_reason, EXIT_REASON_VMCALL, "%x at %llx", v->exit_reason,
                 (unsigned long long)v->guest_rip);
    cr_assert_eq(k.cpu->r[REG_RAX], 1u);
    cr_assert_eq(v->guest_interrupt_status, 0);
    vk_free(&k);
}

/* The window opens after STI and its shadow. */
Test(vmx_run, interrupt_window)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    v->proc |= PROC_INTERRUPT_WINDOW_EXITING;
    static const uint8_t code[] = {0x90, 0xfb, 0x90, 0x90, 0xf4}; /* nop; sti; nop; nop; hlt */
    run_guest(&k, code, sizeof(code));
    cr_assert_eq(v->exit_reason, EXIT_REASON_INTERRUPT_WINDOW, "%x", v->exit_reason);
    cr_assert_eq(v->guest_rip, VK_GUEST_RIP + 3, "%llx", (unsigned long long)v->guest_rip);
    vk_free(&k);
}

/* PML logs the page of a first write, counts down, and exits when the log is full. */
Test(vmx_run, page_modification_log)
{
    struct vk k;
    vk_init(&k);
    struct vmcs *v = vk_vmcs(&k);
    v->proc2 |= PROC2_ENABLE_PML;
    v->pml_index = 511;
    static const uint8_t code[] = {0x48, 0x89, 0x03, 0x0f, 0x01, 0xc1}; /* mov [rbx], rax; vmcall */
    phys_store(&k.phys, VK_EPT + 0x1000, 8, (VK_EPT + 0x2000) | 7);
    for (unsigned i = 0; i < 4; i++)
        phys_store(&k.phys, VK_EPT + 0x2000 + 8 * i, 8,
                   (uint64_t)i << 21 | 7 | 6 << 3 | 1 << 7 | (i ? 0 : 3 << 8));
    k.cpu->r[REG_RBX] = 0x212340;
    run_guest(&k, code, sizeof(code));
    cr_assert_eq(v->exit_reason, EXIT_REASON_VMCALL, "%x", v->exit_reason);
    cr_assert_eq(v->pml_index, 510);
    cr_assert_eq(phys_load(&k.phys, VK_PML + 8 * 511, 8), 0x212000u);
    v->pml_index = 0xffff;
    v->guest_rip = VK_GUEST_RIP;
    k.cpu->r[REG_RBX] = 0x412340;
    run_guest(&k, code, sizeof(code));
    cr_assert_eq(v->exit_reason, EXIT_REASON_PML_FULL, "%x", v->exit_reason);
    cr_assert_eq(v->guest_rip, VK_GUEST_RIP);
    vk_free(&k);
}
