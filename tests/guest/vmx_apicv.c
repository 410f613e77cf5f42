/*
 * vmx_apicv.c -- APIC virtualization: SDM 3C chapter 29 "APIC Virtualization and Virtual Interrupts".
 *
 * The guest's APIC page is an ordinary page whose address is the APIC-access address; registers of the
 * virtual APIC are in the virtual-APIC page.
 */
#include "covers.h"
#include "vmx.h"

GUEST_CODE(read_cr8_code, 64, "mov %cr8, %rax");
GUEST_CODE(write_cr8_code, 64, "mov %rax, %cr8\n mov $7, %ecx");
GUEST_CODE(apic_read, 64, "movl (%rbx), %eax");
GUEST_CODE(apic_write, 64, "movl %eax, (%rbx)\n mov $7, %ecx");
GUEST_CODE(apic_fetch, 64, "call *%rbx");
GUEST_CODE(apic_read8, 64, "movb (%rbx), %al");
GUEST_CODE(apic_read_q, 64, "movq (%rbx), %rax");
GUEST_CODE(apic_write_q, 64, "movq %rax, (%rbx)");
GUEST_CODE(apic_read_x, 64, "movups (%rbx), %xmm0");
GUEST_CODE(apic_cross_fetch, 64, "jmp *%rbx");
GUEST_CODE(nops, 64, "nop\n nop\n nop\n nop");
GUEST_CODE(sti_write, 64, "sti\n nop\n movl %eax, (%rbx)\n nop\n nop\n cli");
GUEST_CODE(guest_rdmsr, 64, "rdmsr");
GUEST_CODE(guest_wrmsr, 64, "wrmsr\n mov $7, %ebx");
GUEST_CODE(sti_wait, 64, "sti\n mov $100, %ecx\n 1: pause\n loop 1b\n cli");

static uint8_t *vapic, *access_page;
static uint32_t *vapic_register(unsigned offset)
{
    return (uint32_t *)(vapic + offset);
}
static void vapic_bit(unsigned base, unsigned vector)
{
    *vapic_register(base + vector / 32 * 16) |= 1u << (vector & 31);
}
static bool vapic_test(unsigned base, unsigned vector)
{
    return *vapic_register(base + vector / 32 * 16) >> (vector & 31) & 1;
}

static volatile unsigned taken;
static volatile uint64_t taken_vector;
static bool handler(struct trap_frame *f)
{
    taken++;
    taken_vector = f->vector;
    return true;
}

static bool ran(const struct vmx_exit *e)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_VMCALL;
}

static void setup(uint32_t proc2)
{
    vmx_guest_reset();
    memset(vapic, 0, PAGE_SIZE);
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_TPR_SHADOW);
    vmcs_set(VMCS_VIRTUAL_APIC_ADDRESS, (uint64_t)vapic);
    vmcs_set(VMCS_APIC_ACCESS_ADDRESS, (uint64_t)access_page);
    vmcs_set(VMCS_TPR_THRESHOLD, 0);
    for (unsigned i = 0; i < 4; i++) {
        vmcs_set(VMCS_EOI_EXIT_BITMAP0 + 2 * i, 0);
    }
    vmcs_set(VMCS_GUEST_INTERRUPT_STATUS, 0);
    if (proc2) {
        vmx_secondary(proc2);
    }
    if (proc2 & PROC2_VIRTUAL_INTERRUPT_DELIVERY) {
        vmx_control_set(VMCS_PIN_CONTROLS, PIN_EXTERNAL_INTERRUPT_EXITING);
    }
    taken = 0;
}

static struct vmx_exit run(const char *code, uint64_t rax, uint64_t rbx)
{
    vmx_guest.rax = rax;
    vmx_guest.rbx = rbx;
    vmx_guest.rcx = 0;
    return vmx_run(code);
}

static struct vmx_exit apic(const char *code, unsigned offset, uint64_t value)
{
    return run(code, value, (uint64_t)access_page + offset);
}

/* -- TPR shadow ---------------------------------------------------------------------------------------- */
static void tpr_shadow(void)
{
    COVERS(PROC_USE_TPR_SHADOW);
    COVERS(EXIT_TPR_BELOW_THRESHOLD);
    setup(0);
    *vapic_register(0x80) = 0x60;
    struct vmx_exit e = run(read_cr8_code, 0, 0);
    report("cr8-read", "SDM 3C 29.3 Virtualizing CR8-Based TPR Accesses", ran(&e) && vmx_guest.rax == 6,
           "reason %u RAX %lx", e.reason, vmx_guest.rax);
    e = run(write_cr8_code, 9, 0);
    report("cr8-write", "SDM 3C 29.3", ran(&e) && *vapic_register(0x80) == 0x90, "reason %u VTPR %x",
           e.reason, *vapic_register(0x80));
    vmcs_set(VMCS_TPR_THRESHOLD, 5);
    e = run(write_cr8_code, 4, 0);
    report("tpr-below-threshold", "SDM 3C 29.1.2 TPR Virtualization: exit 43, a trap",
           e.reason == EXIT_REASON_TPR_BELOW_THRESHOLD && *vapic_register(0x80) == 0x40 &&
               e.rip == (uint64_t)write_cr8_code + 4,
           "reason %u VTPR %x RIP +%lu", e.reason, *vapic_register(0x80), e.rip - (uint64_t)write_cr8_code);
    *vapic_register(0x80) = 0x50;
    e = run(write_cr8_code, 5, 0);
    report("tpr-at-threshold", "SDM 3C 29.1.2: equal is not below", ran(&e), "reason %u", e.reason);
}

/* -- APIC-access page ---------------------------------------------------------------------------------- */
static void access_exits(void)
{
    COVERS(PROC2_VIRTUALIZE_APIC_ACCESSES);
    COVERS(PROC2_APIC_REGISTER_VIRTUALIZATION);
    COVERS(EXIT_APIC_ACCESS);
    COVERS(EXIT_APIC_WRITE);
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_APIC_ACCESSES)) {
        report_skip("apic-access", "SDM 3C 29.4", "no virtualize APIC accesses");
        return;
    }
    setup(PROC2_APIC_ACCESSES);
    vmx_control_clear(VMCS_PROC_CONTROLS, PROC_TPR_SHADOW);
    struct vmx_exit e = apic(apic_read, 0x80, 0);
    report("access-read", "SDM 3C Table 27-6: offset, linear read",
           e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification & 0xffff) == 0x80,
           "reason %u qualification %lx", e.reason, e.qualification);
    e = apic(apic_write, 0x300, 0);
    report("access-write", "SDM 3C Table 27-6: linear write; a fault",
           e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification & 0xffff) == (0x300 | 1 << 12) &&
               e.rip == (uint64_t)apic_write,
           "reason %u qualification %lx", e.reason, e.qualification);
    if (enabled("access-fetch", "SDM 3C Table 27-6")) {
        e = apic(apic_fetch, 0x10, 0);
        report("access-fetch", "SDM 3C Table 27-6: instruction fetch",
               e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification & 0xffff) == (0x10 | 2 << 12),
               "reason %u qualification %lx", e.reason, e.qualification);
    }
    setup(PROC2_APIC_ACCESSES);
    *vapic_register(0x80) = 0x30;
    e = apic(apic_read, 0x80, 0);
    report("access-tpr-read", "SDM 3C 29.4.2: reads of offset 080H with a TPR shadow",
           ran(&e) && (uint32_t)vmx_guest.rax == 0x30, "reason %u RAX %lx", e.reason, vmx_guest.rax);
    e = apic(apic_write, 0x80, 0xa0);
    report("access-tpr-write", "SDM 3C 29.4.3: writes of offset 080H",
           ran(&e) && *vapic_register(0x80) == 0xa0, "reason %u VTPR %x", e.reason, *vapic_register(0x80));
    e = apic(apic_read, 0x20, 0);
    report("access-id-read", "SDM 3C 29.4.2: other offsets exit",
           e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification & 0xffff) == 0x20,
           "reason %u qualification %lx", e.reason, e.qualification);
    /* Accesses that begin before the page, or end behind it, or are wide. */
    uint8_t *before = access_page - 8;
    memset(before, 0x90, 8);
    static const struct {
        const char *name, *code;
        int at;
        uint32_t qualification;
    } wide[] = {
        {"access-cross-read", apic_read_q, -4, 0},       {"access-cross-write", apic_write_q, -4, 1 << 12},
        {"access-cross-end", apic_read_q, 0xffc, 0xffc}, {"access-wide", apic_read_q, 0x80, 0x80},
        {"access-wide-sse", apic_read_x, 0x80, 0x80},    {"access-cross-sse", apic_read_x, -8, 0}};
    for (unsigned i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        setup(PROC2_APIC_ACCESSES);
        vmcs_set(VMCS_GUEST_CR4, read_cr4() | CR4_OSFXSR);
        e = run(wide[i].code, 0, (uint64_t)access_page + (uint64_t)wide[i].at);
        report(
            wide[i].name,
            "SDM 3C 29.4.2, 29.4.3: only up to 32 bits within one register; the rest exits, and does nothing",
            e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification & 0xffff) == wide[i].qualification &&
                (wide[i].code != apic_write_q || before[4] == 0x90) && e.rip == (uint64_t)wide[i].code,
            "reason %u qualification %lx byte before %x", e.reason, e.qualification, before[4]);
    }
    if (enabled("access-cross-fetch", "SDM 3C Table 27-6")) {
        setup(PROC2_APIC_ACCESSES);
        before[7] = 0xb8; /* MOV EAX, imm32: four bytes of it in the page */
        e = run(apic_cross_fetch, 0, (uint64_t)&before[7]);
        report("access-cross-fetch", "SDM 3C Table 27-6: the second part of an instruction",
               e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification & 0xffff) == 2 << 12 &&
                   e.rip == (uint64_t)&before[7],
               "reason %u qualification %lx RIP %lx", e.reason, e.qualification, e.rip);
    }
    if (vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_EPT) && enabled("access-walk", "SDM 3C 29.4.6.1")) {
        /* A page table that lies, after EPT, in the APIC-access page. */
        uint64_t *pml4 = page_alloc(), *table = (uint64_t *)access_page;
        memcpy(pml4, boot_pml4, PAGE_SIZE);
        pml4[1] = (uint64_t)table | PTE_P | PTE_W;
        setup(PROC2_APIC_ACCESSES | PROC2_ENABLE_EPT);
        vmcs_set(VMCS_EPT_POINTER, ept_identity(4));
        vmcs_set(VMCS_GUEST_CR3, (uint64_t)pml4);
        e = run(apic_read, 0, 1ul << 39 | 3ul << 30);
        report("access-walk",
               "SDM 3C 29.4.6.1 Guest-Physical Accesses: a paging-structure entry there: type 15",
               e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification & 0xffff) == (3 * 8 | 15 << 12),
               "reason %u qualification %lx", e.reason, e.qualification);
        /* The same while an event is delivered: the guest's stack for it is behind that table. */
        setup(PROC2_APIC_ACCESSES | PROC2_ENABLE_EPT);
        vmcs_set(VMCS_EPT_POINTER, ept_identity(4));
        vmcs_set(VMCS_GUEST_CR3, (uint64_t)pml4);
        vmcs_set(VMCS_GUEST_IDTR_BASE, 1ul << 39 | 3ul << 30);
        vmcs_set(VMCS_ENTRY_INTERRUPTION_INFO, 1u << 31 | 3 << 8 | EXC_UD);
        e = run(nops, 0, 0);
        report("access-walk-delivery",
               "SDM 3C Table 27-6: type 10 during event delivery; IDT-vectoring information",
               e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification & 0xffff) == (3 * 8 | 10 << 12) &&
                   e.vectoring == (1u << 31 | 3 << 8 | EXC_UD),
               "reason %u qualification %lx vectoring %x", e.reason, e.qualification, e.vectoring);
    }
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_APIC_REGISTER)) {
        report_skip("apic-register", "SDM 3C 29.4.2", "no APIC-register virtualization");
        return;
    }
    setup(PROC2_APIC_ACCESSES | PROC2_APIC_REGISTER);
    *vapic_register(0x20) = 0x5000000;
    e = apic(apic_read, 0x20, 0);
    report("register-read", "SDM 3C 29.4.2 APIC-register virtualization: ID",
           ran(&e) && (uint32_t)vmx_guest.rax == 0x5000000, "reason %u RAX %lx", e.reason, vmx_guest.rax);
    e = apic(apic_read, 0x90, 0);
    report("register-read-apr", "SDM 3C 29.4.2: offset 090H is not in the list",
           e.reason == EXIT_REASON_APIC_ACCESS, "reason %u", e.reason);
    e = apic(apic_read, 0x22, 0);
    report("register-read-straddle",
           "SDM 3C 29.4.2: an access that leaves the low 4 bytes of a register exits",
           e.reason == EXIT_REASON_APIC_ACCESS, "reason %u", e.reason);
    e = apic(apic_read8, 0x23, 0);
    report("register-read-byte", "SDM 3C 29.4.2: a byte of the low 4", ran(&e) && (vmx_guest.rax & 0xff) == 5,
           "reason %u RAX %lx", e.reason, vmx_guest.rax);
    e = apic(apic_write, 0xf0, 0x1ff);
    report("register-write", "SDM 3C 29.4.3.3 APIC-Write VM Exits: exit 56, a trap; the page has the value",
           e.reason == EXIT_REASON_APIC_WRITE && e.qualification == 0xf0 && *vapic_register(0xf0) == 0x1ff &&
               e.rip == (uint64_t)apic_write + 2,
           "reason %u qualification %lx SVR %x RIP +%lu", e.reason, e.qualification, *vapic_register(0xf0),
           e.rip - (uint64_t)apic_write);
    e = apic(apic_write, 0x30, 0);
    report("register-write-version", "SDM 3C 29.4.3: offset 030H is not in the list",
           e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification & 0xffff) == (0x30 | 1 << 12), "reason %u",
           e.reason);
}

/* -- Virtual interrupts -------------------------------------------------------------------------------- */
static void virtual_interrupts(void)
{
    COVERS(PROC2_VIRTUAL_INTERRUPT_DELIVERY);
    COVERS(PROC2_VIRTUALIZE_X2APIC_MODE);
    COVERS(PIN_PROCESS_POSTED_INTERRUPTS);
    COVERS(EXIT_VIRTUALIZED_EOI);
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_VIRTUAL_INTERRUPT_DELIVERY)) {
        report_skip("virtual-interrupt", "SDM 3C 29.2", "no virtual-interrupt delivery");
        return;
    }
    const uint32_t all = PROC2_APIC_ACCESSES | PROC2_APIC_REGISTER | PROC2_VIRTUAL_INTERRUPT_DELIVERY;
    trap_handlers[0x81] = trap_handlers[0x91] = handler;
    setup(all);
    vapic_bit(0x200, 0x91);
    vmcs_set(VMCS_GUEST_INTERRUPT_STATUS, 0x91);
    struct vmx_exit e = run(sti_wait, 0, 0);
    report("delivered", "SDM 3C 29.2.2 Virtual-Interrupt Delivery: through the guest's IDT",
           ran(&e) && taken == 1 && taken_vector == 0x91, "reason %u taken %u vector %lx", e.reason, taken,
           taken_vector);
    report("delivered-state", "SDM 3C 29.2.2: VIRR clear, VISR set, RVI 0, SVI and VPPR new",
           !vapic_test(0x200, 0x91) && vapic_test(0x100, 0x91) &&
               vmcs(VMCS_GUEST_INTERRUPT_STATUS) == 0x9100 && *vapic_register(0xa0) == 0x90,
           "status %lx VPPR %x", vmcs(VMCS_GUEST_INTERRUPT_STATUS), *vapic_register(0xa0));
    /* A lower one waits for EOI. */
    vapic_bit(0x200, 0x81);
    vmcs_set(VMCS_GUEST_INTERRUPT_STATUS, 0x9181);
    e = run(sti_wait, 0, 0);
    check_equal("lower-waits", "SDM 3C 29.2.1 Evaluation of Pending Virtual Interrupts: RVI[7:4] > VPPR[7:4]",
                taken, 1);
    e = run(sti_write, 0, (uint64_t)access_page + 0xb0);
    report("eoi-virtualized", "SDM 3C 29.1.4 EOI Virtualization, then delivery",
           ran(&e) && taken == 2 && taken_vector == 0x81 && !vapic_test(0x100, 0x91) &&
               vmcs(VMCS_GUEST_INTERRUPT_STATUS) == 0x8100,
           "reason %u taken %u status %lx", e.reason, taken, vmcs(VMCS_GUEST_INTERRUPT_STATUS));
    vmcs_set(VMCS_EOI_EXIT_BITMAP2, 1ul << (0x81 - 128));
    e = apic(apic_write, 0xb0, 0);
    report("eoi-exit", "SDM 3C 29.1.4: EOI-exit bitmap: exit 45, qualification is the vector",
           e.reason == EXIT_REASON_VIRTUALIZED_EOI && e.qualification == 0x81 &&
               e.rip == (uint64_t)apic_write + 2,
           "reason %u qualification %lx", e.reason, e.qualification);
    /* IF, TPR, interrupt window. */
    setup(all);
    vapic_bit(0x200, 0x91);
    vmcs_set(VMCS_GUEST_INTERRUPT_STATUS, 0x91);
    e = run(nops, 0, 0);
    report("held-by-if", "SDM 3C 29.2.2: needs RFLAGS.IF = 1", ran(&e) && taken == 0, "taken %u", taken);
    *vapic_register(0x80) = 0x90;
    e = run(sti_wait, 0, 0);
    report("held-by-tpr", "SDM 3C 29.1.3 PPR Virtualization at VM entry",
           ran(&e) && taken == 0 && *vapic_register(0xa0) == 0x90, "taken %u VPPR %x", taken,
           *vapic_register(0xa0));
    e = run(sti_write, 0x20, (uint64_t)access_page + 0x80);
    report("tpr-lowered", "SDM 3C 29.1.2: TPR virtualization evaluates pending interrupts",
           ran(&e) && taken == 1, "reason %u taken %u", e.reason, taken);
    /* Self-IPI by the ICR. */
    setup(all);
    e = run(sti_write, 0x40091, (uint64_t)access_page + 0x300);
    report("self-ipi", "SDM 3C 29.1.5 Self-IPI Virtualization", ran(&e) && taken == 1 && taken_vector == 0x91,
           "reason %u taken %u", e.reason, taken);
    e = apic(apic_write, 0x300, 0x00091);
    report("icr-not-self", "SDM 3C 29.4.3.2: any other ICR write is an APIC-write exit",
           e.reason == EXIT_REASON_APIC_WRITE && e.qualification == 0x300, "reason %u qualification %lx",
           e.reason, e.qualification);
    /* x2APIC mode. */
    if (vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_X2APIC)) {
        setup(PROC2_X2APIC | PROC2_APIC_REGISTER | PROC2_VIRTUAL_INTERRUPT_DELIVERY);
        *vapic_register(0x80) = 0x70;
        vmx_guest.rcx = 0x808;
        e = vmx_run(guest_rdmsr);
        report("x2apic-tpr-read", "SDM 3C 29.5 Virtualizing MSR-Based APIC Accesses",
               ran(&e) && vmx_guest.rax == 0x70, "reason %u RAX %lx", e.reason, vmx_guest.rax);
        vmx_guest = (struct vmx_registers){.rcx = 0x808, .rax = 0x30};
        e = vmx_run(guest_wrmsr);
        report("x2apic-tpr-write", "SDM 3C 29.5", ran(&e) && *vapic_register(0x80) == 0x30,
               "reason %u VTPR %x", e.reason, *vapic_register(0x80));
        vapic_bit(0x100, 0x91);
        vmcs_set(VMCS_GUEST_INTERRUPT_STATUS, 0x9100);
        vmx_guest = (struct vmx_registers){.rcx = 0x80b};
        e = vmx_run(guest_wrmsr);
        report("x2apic-eoi", "SDM 3C 29.5: WRMSR to the EOI register",
               ran(&e) && !vapic_test(0x100, 0x91) && vmcs(VMCS_GUEST_INTERRUPT_STATUS) == 0,
               "reason %u status %lx", e.reason, vmcs(VMCS_GUEST_INTERRUPT_STATUS));
        vmx_guest = (struct vmx_registers){.rcx = 0x83f, .rax = 0x91};
        e = vmx_run(guest_wrmsr);
        report("x2apic-self-ipi", "SDM 3C 29.5: WRMSR to the self-IPI register",
               ran(&e) && vapic_test(0x200, 0x91) && (vmcs(VMCS_GUEST_INTERRUPT_STATUS) & 0xff) == 0x91,
               "reason %u status %lx", e.reason, vmcs(VMCS_GUEST_INTERRUPT_STATUS));
        vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_GP);
        vmx_guest = (struct vmx_registers){.rcx = 0x80b, .rax = 1};
        e = vmx_run(guest_wrmsr);
        report("x2apic-eoi-nonzero", "SDM 3C 29.5: #GP(0) for a non-zero EOI",
               e.reason == EXIT_REASON_EXCEPTION && (e.interruption & 0xff) == EXC_GP, "reason %u", e.reason);
    }
    /* Posted interrupts. */
    if (vmx_can(IA32_VMX_PINBASED_CTLS, PIN_POSTED_INTERRUPTS)) {
        uint64_t *descriptor = page_alloc();
        lapic_enable();
        setup(all);
        vmx_control_set(VMCS_PIN_CONTROLS, PIN_POSTED_INTERRUPTS | PIN_EXTERNAL_INTERRUPT_EXITING);
        vmx_control_set(VMCS_EXIT_CONTROLS, EXIT_ACK_INTERRUPT);
        vmcs_set(VMCS_POSTED_INTERRUPT_VECTOR, 0xf2);
        vmcs_set(VMCS_POSTED_INTERRUPT_DESCRIPTOR, (uint64_t)descriptor);
        descriptor[0x91 / 64] = 1ul << (0x91 & 63);
        descriptor[4] = 1;
        lapic_write(LAPIC_ICR, 0x400f2);
        e = run(sti_wait, 0, 0);
        report(
            "posted",
            "SDM 3C 29.6 Posted-Interrupt Processing: no exit, PIR moves to VIRR, ON is cleared, EOI is sent",
            ran(&e) && taken == 1 && taken_vector == 0x91 && !(descriptor[4] & 1) && !descriptor[0x91 / 64] &&
                !(lapic_read(LAPIC_ISR + 0x70) >> 18 & 1),
            "reason %u taken %u vector %lx ON %lx ISR %x", e.reason, taken, taken_vector, descriptor[4],
            lapic_read(LAPIC_ISR + 0x70));
        lapic_write(LAPIC_ICR, 0x400f3);
        e = run(sti_wait, 0, 0);
        report("posted-other-vector", "SDM 3C 29.6: another vector exits",
               e.reason == EXIT_REASON_EXTERNAL_INTERRUPT && (e.interruption & 0xff) == 0xf3,
               "reason %u interruption %x", e.reason, e.interruption);
        lapic_write(LAPIC_EOI, 0);
    } else {
        report_skip("posted", "SDM 3C 29.6", "no posted interrupts");
    }
}

void guest_main(void)
{
    if (!vmx_start()) {
        check_trap("vmx-absent", "SDM 3C 30.3 VMCALL #UD without VMX", TRY_ASM("vmcall"), EXC_UD, 0);
        return;
    }
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS, PROC_TPR_SHADOW)) {
        report_skip("apicv", "SDM 3C 29", "no TPR shadow");
        return;
    }
    vapic = page_alloc();
    access_page =
        (uint8_t *)page_alloc_aligned(2 * PAGE_SIZE) + PAGE_SIZE; /* with a page of ours before it */
    tpr_shadow();
    access_exits();
    virtual_interrupts();
    asm volatile("vmxoff");
}
