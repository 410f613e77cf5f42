/*
 * vmx_rows.c -- controls and exit reasons that the other images have no check of: INIT and SIPI, debug
 * controls, PAT, EFER, IA32_PERF_GLOBAL_CTRL, secondary controls off, RF in what an exit saves, the
 * APIC-access page once more. SDM 3C 24.6 to 24.8, 25.2 "Other Causes of VM
 * Exits", 26.3.2.1, 27.3.1, 27.3.3, 27.5.1, 29.4.
 */
#include "covers.h"
#include "vmx.h"

enum { IA32_PERF_GLOBAL_CTRL = 0x38f, VECTOR_IRQ = 0x61 };

GUEST_CODE(nothing, 64, "nop");
GUEST_CODE(sgdt, 64, "sgdt -16(%rsp)");
GUEST_CODE(spin, 64, "1: jmp 1b");
GUEST_CODE(self_init, 64,
           "mov $0xfee00300, %edi\n mov %ebx, 0x10(%rdi)\n movl $0x4500, (%rdi)\n nop\n nop\n nop\n nop");
GUEST_CODE(new_pat, 64, "mov $0x277, %ecx\n mov $0x00070406, %eax\n mov $0x00070404, %edx\n wrmsr");
GUEST_CODE(read_pat, 64, "mov $0x277, %ecx\n rdmsr");
GUEST_CODE(read_efer, 64, "mov $0xc0000080, %ecx\n rdmsr");
GUEST_CODE(toggle_sce, 64, "mov $0xc0000080, %ecx\n rdmsr\n xor $1, %eax\n wrmsr");
GUEST_CODE(read_debugctl, 64, "mov $0x1d9, %ecx\n rdmsr\n mov %db7, %rbx");
GUEST_CODE(read_perf, 64, "mov $0x38f, %ecx\n rdmsr");
GUEST_CODE(monitor, 64, "xor %ecx, %ecx\n xor %edx, %edx\n lea -64(%rsp), %rax\n monitor");
GUEST_CODE(mwait, 64, "xor %eax, %eax\n xor %ecx, %ecx\n mwait");
GUEST_CODE(rep_stos, 64, "cld\n sti\n rep stosb");
GUEST_CODE(apic_or, 64, "orl %eax, (%rbx)\n mov $7, %ecx");
GUEST_CODE(apic_xchg, 64, "xchgl %eax, (%rbx)");
GUEST_CODE(tpr_or, 64, "orl %eax, (%rbx)\n movl (%rbx), %edx");
GUEST_CODE(load_pdptes, 32, "movl %ebx, %cr3");

static bool ran(const struct vmx_exit *e)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_VMCALL;
}
static bool raised(const struct vmx_exit *e, unsigned vector)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_EXCEPTION && (e->interruption & 0xff) == vector;
}

/* -- Controls ------------------------------------------------------------------------------------------ */

static void secondary_off(void)
{
    COVERS(PROC_ACTIVATE_SECONDARY_CONTROLS);
    vmx_guest_reset();
    vmx_control_clear(VMCS_PROC_CONTROLS, PROC_SECONDARY);
    vmcs_set(VMCS_PROC2_CONTROLS, PROC2_DESCRIPTOR_TABLE_EXITING);
    struct vmx_exit e = vmx_run(sgdt);
    report("secondary-off", "SDM 3C 24.6.2: without \"activate secondary controls\" they are all 0", ran(&e),
           "reason %u", e.reason);
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_SECONDARY);
    e = vmx_run(sgdt);
    report("secondary-on", "SDM 3C 24.6.2", e.reason == EXIT_REASON_GDTR_IDTR, "reason %u", e.reason);
}

static void debug_controls(void)
{
    COVERS(ENTRYCTL_LOAD_DEBUG_CONTROLS);
    COVERS(EXITCTL_SAVE_DEBUG_CONTROLS);
    struct trap t = TRY(rdmsr(IA32_DEBUGCTL); wrmsr(IA32_DEBUGCTL, 2); wrmsr(IA32_DEBUGCTL, 0));
    if (t.vector != VECTOR_NONE) {
        report_skip("debug-controls", "SDM 3C 26.3.2.1", "no BTF in IA32_DEBUGCTL");
        return;
    }
    for (unsigned load = 0; load < 2; load++) {
        vmx_guest_reset();
        (load ? vmx_control_set : vmx_control_clear)(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_DEBUG);
        (load ? vmx_control_set : vmx_control_clear)(VMCS_EXIT_CONTROLS, EXIT_SAVE_DEBUG);
        vmcs_set(VMCS_GUEST_DR7, 0x455);
        vmcs_set(VMCS_GUEST_DEBUGCTL, 2);
        write_dr7(0x400);
        struct vmx_exit e = vmx_run(read_debugctl);
        char name[40];
        format_text(name, sizeof name, "debug-controls-%s", load ? "loaded" : "kept");
        if (!load && (vmx_must(IA32_VMX_ENTRY_CTLS) & ENTRY_LOAD_DEBUG)) {
            report_skip(name, "SDM 3C 26.3.2.1", "the control must be 1");
            continue;
        }
        report(name, "SDM 3C 26.3.2.1: DR7 and IA32_DEBUGCTL if \"load debug controls\"",
               ran(&e) && vmx_guest.rbx == (load ? 0x455 : 0x400) && vmx_guest.rax == (load ? 2 : 0),
               "reason %u DR7 %lx IA32_DEBUGCTL %lx", e.reason, vmx_guest.rbx, vmx_guest.rax);
        check_equal(load ? "debugctl-saved" : "debugctl-not-saved", "SDM 3C 27.3.1",
                    vmcs(VMCS_GUEST_DEBUGCTL), 2);
        check_equal("debugctl-host", "SDM 3C 27.5.1: IA32_DEBUGCTL is 0 after an exit", rdmsr(IA32_DEBUGCTL),
                    0);
    }
}

static void pat(void)
{
    COVERS(ENTRYCTL_LOAD_PAT);
    COVERS(EXITCTL_SAVE_PAT);
    COVERS(EXITCTL_LOAD_PAT);
    uint64_t host = rdmsr(IA32_PAT), guest = 0x0007040600070404;
    if (!vmx_can(IA32_VMX_ENTRY_CTLS, ENTRY_LOAD_PAT) ||
        !vmx_can(IA32_VMX_EXIT_CTLS, EXIT_SAVE_PAT | EXIT_LOAD_PAT)) {
        report_skip("pat", "SDM 3C 24.7.1", "no PAT controls");
        return;
    }
    vmx_guest_reset();
    vmx_control_clear(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_PAT);
    vmx_control_clear(VMCS_EXIT_CONTROLS, EXIT_SAVE_PAT | EXIT_LOAD_PAT);
    vmcs_set(VMCS_GUEST_PAT, guest);
    struct vmx_exit e = vmx_run(read_pat);
    uint64_t seen = vmx_guest.rdx << 32 | (uint32_t)vmx_guest.rax;
    report("pat-not-loaded", "SDM 3C 26.3.2.1", ran(&e) && seen == host, "reason %u PAT %lx", e.reason, seen);
    vmx_control_set(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_PAT);
    vmx_control_set(VMCS_EXIT_CONTROLS, EXIT_LOAD_PAT);
    vmcs_set(VMCS_HOST_PAT, host);
    e = vmx_run(read_pat);
    seen = vmx_guest.rdx << 32 | (uint32_t)vmx_guest.rax;
    report("pat-loaded", "SDM 3C 26.3.2.1: \"load IA32_PAT\"", ran(&e) && seen == guest, "reason %u PAT %lx",
           e.reason, seen);
    check_equal("pat-host-loaded", "SDM 3C 27.5.1: \"load IA32_PAT\"", rdmsr(IA32_PAT), host);
    e = vmx_run(new_pat);
    report("pat-not-saved", "SDM 3C 27.3.1", ran(&e) && vmcs(VMCS_GUEST_PAT) == guest, "%lx",
           vmcs(VMCS_GUEST_PAT));
    vmx_control_set(VMCS_EXIT_CONTROLS, EXIT_SAVE_PAT);
    e = vmx_run(new_pat);
    report("pat-saved", "SDM 3C 27.3.1: \"save IA32_PAT\"",
           ran(&e) && vmcs(VMCS_GUEST_PAT) == 0x0007040400070406, "reason %u PAT %lx", e.reason,
           vmcs(VMCS_GUEST_PAT));
    vmx_control_clear(VMCS_EXIT_CONTROLS, EXIT_LOAD_PAT);
    e = vmx_run(new_pat);
    report("pat-host-not-loaded", "SDM 3C 27.5.1", ran(&e) && rdmsr(IA32_PAT) == 0x0007040400070406, "%lx",
           rdmsr(IA32_PAT));
    wrmsr(IA32_PAT, host);
}

static void efer(void)
{
    COVERS(ENTRYCTL_LOAD_EFER);
    COVERS(EXITCTL_SAVE_EFER);
    COVERS(EXITCTL_LOAD_EFER);
    uint64_t host = rdmsr(IA32_EFER) | EFER_NXE;
    wrmsr(IA32_EFER, host & ~EFER_SCE);
    host &= ~EFER_SCE;
    if (!vmx_can(IA32_VMX_ENTRY_CTLS, ENTRY_LOAD_EFER) ||
        !vmx_can(IA32_VMX_EXIT_CTLS, EXIT_SAVE_EFER | EXIT_LOAD_EFER)) {
        report_skip("efer", "SDM 3C 24.7.1", "no EFER controls");
        return;
    }
    vmx_guest_reset();
    vmx_control_clear(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_EFER);
    vmx_control_clear(VMCS_EXIT_CONTROLS, EXIT_SAVE_EFER | EXIT_LOAD_EFER);
    vmcs_set(VMCS_GUEST_EFER, host | EFER_SCE);
    struct vmx_exit e = vmx_run(read_efer);
    report("efer-not-loaded", "SDM 3C 26.3.2.1", ran(&e) && (uint32_t)vmx_guest.rax == host,
           "reason %u EFER %lx", e.reason, vmx_guest.rax);
    vmx_control_set(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_EFER);
    vmx_control_set(VMCS_EXIT_CONTROLS, EXIT_LOAD_EFER);
    vmcs_set(VMCS_HOST_EFER, host);
    e = vmx_run(read_efer);
    report("efer-loaded", "SDM 3C 26.3.2.1: \"load IA32_EFER\"",
           ran(&e) && (uint32_t)vmx_guest.rax == (host | EFER_SCE), "reason %u EFER %lx", e.reason,
           vmx_guest.rax);
    check_equal("efer-host-loaded", "SDM 3C 27.5.1: \"load IA32_EFER\"", rdmsr(IA32_EFER), host);
    e = vmx_run(toggle_sce);
    report("efer-not-saved", "SDM 3C 27.3.1", ran(&e) && vmcs(VMCS_GUEST_EFER) == (host | EFER_SCE), "%lx",
           vmcs(VMCS_GUEST_EFER));
    vmx_control_set(VMCS_EXIT_CONTROLS, EXIT_SAVE_EFER);
    e = vmx_run(toggle_sce);
    report("efer-saved", "SDM 3C 27.3.1: \"save IA32_EFER\"", ran(&e) && vmcs(VMCS_GUEST_EFER) == host,
           "reason %u EFER %lx", e.reason, vmcs(VMCS_GUEST_EFER));
    vmx_control_clear(VMCS_EXIT_CONTROLS, EXIT_LOAD_EFER);
    e = vmx_run(toggle_sce);
    report("efer-host-not-loaded", "SDM 3C 27.5.1", ran(&e) && rdmsr(IA32_EFER) == (host | EFER_SCE), "%lx",
           rdmsr(IA32_EFER));
    wrmsr(IA32_EFER, host);
}

/* Without performance counters every bit of IA32_PERF_GLOBAL_CTRL is reserved, and the MSR is not there; the
 * controls are, and have their check. */
static void perf_global_ctrl(void)
{
    COVERS(ENTRYCTL_LOAD_PERF_GLOBAL_CTRL);
    COVERS(EXITCTL_LOAD_PERF_GLOBAL_CTRL);
    if (!vmx_can(IA32_VMX_ENTRY_CTLS, ENTRY_LOAD_PERF) || !vmx_can(IA32_VMX_EXIT_CTLS, EXIT_LOAD_PERF)) {
        report_skip("perf-global-ctrl", "SDM 3C 24.7.1", "no such controls");
        return;
    }
    bool counters = cpuid(10, 0).eax & 0xff;
    uint64_t reserved = 1ul << 63;
    vmx_guest_reset();
    vmx_control_set(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_PERF);
    vmx_control_set(VMCS_EXIT_CONTROLS, EXIT_LOAD_PERF);
    vmcs_set(VMCS_GUEST_PERF_GLOBAL_CTRL, 0);
    vmcs_set(VMCS_HOST_PERF_GLOBAL_CTRL, 0);
    struct vmx_exit e = vmx_run(nothing);
    report("perf-zero", "SDM 3C 26.2.2, 26.3.1.1: no reserved bit is set", ran(&e),
           "result %d error %u reason %x", e.result, e.error, e.reason);
    vmcs_set(VMCS_GUEST_PERF_GLOBAL_CTRL, reserved);
    e = vmx_run(nothing);
    report("perf-guest-reserved", "SDM 3C 26.3.1.1: reserved bits of IA32_PERF_GLOBAL_CTRL",
           e.reason == (EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_INVALID_GUEST), "result %d reason %x",
           e.result, e.reason);
    vmcs_set(VMCS_GUEST_PERF_GLOBAL_CTRL, 0);
    vmcs_set(VMCS_HOST_PERF_GLOBAL_CTRL, reserved);
    e = vmx_run(nothing);
    report("perf-host-reserved", "SDM 3C 26.2.2: reserved bits of IA32_PERF_GLOBAL_CTRL",
           e.result == VMX_FAIL_VALID && e.error == 8, "result %d error %u", e.result, e.error);
    vmcs_set(VMCS_HOST_PERF_GLOBAL_CTRL, 0);
    if (!counters) {
        check_trap("perf-msr-absent", "SDM 3B 18.2.2: the MSR comes with version 2 of CPUID.0AH",
                   TRY(rdmsr(IA32_PERF_GLOBAL_CTRL)), EXC_GP, 0);
        vmcs_set(VMCS_EXCEPTION_BITMAP, 1u << EXC_GP);
        e = vmx_run(read_perf);
        report("perf-msr-absent-guest", "SDM 3B 18.2.2", raised(&e, EXC_GP), "reason %u", e.reason);
    }
}

/* MONITOR and MWAIT raise #UD before they could exit when CPUID has neither. */
static void monitor_exiting(void)
{
    COVERS(PROC_MONITOR_EXITING);
    COVERS(PROC_MWAIT_EXITING);
    static const char rule[] = "SDM 3C 25.1.1: an invalid-opcode exception has priority over the exit";
    if (cpuid(1, 0).ecx & 1 << 3) {
        report_skip("monitor-ud", rule, "MONITOR is there: vmx_exits has its exit");
        return;
    }
    vmx_guest_reset();
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_MONITOR_EXITING | PROC_MWAIT_EXITING);
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1u << EXC_UD);
    struct vmx_exit e = vmx_run(monitor);
    report("monitor-ud", rule, raised(&e, EXC_UD), "result %d error %u reason %u", e.result, e.error,
           e.reason);
    e = vmx_run(mwait);
    report("mwait-ud", rule, raised(&e, EXC_UD), "result %d error %u reason %u", e.result, e.error, e.reason);
}

/* -- INIT and SIPI ------------------------------------------------------------------------------------- */

static volatile uint32_t sipi_go;

static void sends_sipis(unsigned id)
{
    (void)id;
    while (!sipi_go) {
        cpu_relax();
    }
    for (int i = 0; i < 20000; i++) {
        cpu_relax();
    }
    lapic_icr(0, 0x4612);
    for (;;) {
        asm volatile("cli; hlt");
    }
}

static void init_and_sipi(void)
{
    COVERS(EXIT_INIT_SIGNAL);
    COVERS(EXIT_SIPI);
    if (enabled("init-signal", "SDM 3C 25.2 INIT signals")) {
        vmx_guest_reset();
        vmx_guest.rbx = lapic_read(LAPIC_ID);
        struct vmx_exit e = vmx_run(self_init);
        report("init-signal", "SDM 3C 25.2: an INIT signal exits, and does nothing else",
               e.reason == EXIT_REASON_INIT_SIGNAL && e.qualification == 0 && e.rip > (uint64_t)self_init,
               "reason %u", e.reason);
    }
    static const char rule[] =
        "SDM 3C 25.2: a SIPI in the wait-for-SIPI state exits; qualification is its vector";
    if (!(rdmsr(IA32_VMX_MISC) >> 8 & 1)) {
        report_skip("sipi", rule, "no wait-for-SIPI activity state");
        return;
    }
    if (!enabled("sipi", rule) || !cpu_start(1, sends_sipis)) {
        report_skip("sipi", rule, "no second processor");
        return;
    }
    vmx_guest_reset();
    vmcs_set(VMCS_GUEST_RIP, (uint64_t)nothing);
    vmcs_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
    vmcs_set(VMCS_GUEST_ACTIVITY, 3);
    sipi_go = 1;
    struct vmx_exit e = vmx_enter();
    report("sipi", rule,
           e.reason == EXIT_REASON_SIPI && e.qualification == 0x12 && vmcs(VMCS_GUEST_ACTIVITY) == 3,
           "result %d error %u reason %x qualification %lx activity %lu", e.result, e.error, e.reason,
           e.qualification, vmcs(VMCS_GUEST_ACTIVITY));
}

/* -- RF in what an exit saves -------------------------------------------------------------------------- */

static uint8_t target[1 << 16];

static void saved_rf(void)
{
    static const char rule[] =
        "SDM 3C 27.3.3: RF as the image of the interrupt would have it: 1 between two iterations of REP";
    vmx_guest_reset();
    vmx_control_set(VMCS_PIN_CONTROLS, PIN_EXTERNAL_INTERRUPT_EXITING);
    vmx_control_set(VMCS_EXIT_CONTROLS, EXIT_ACK_INTERRUPT);
    lapic_enable();
    lapic_write(LAPIC_DIVIDE, 0xb);
    lapic_write(LAPIC_LVT_TIMER, VECTOR_IRQ);
    bool between = false;
    struct vmx_exit e = {0};
    for (uint32_t count = 200; count < 1u << 18 && !between; count = count * 3 / 2) {
        vmx_guest.rdi = (uint64_t)target;
        vmx_guest.rcx = sizeof target;
        lapic_write(LAPIC_INITIAL, count);
        e = vmx_run(rep_stos);
        lapic_write(LAPIC_INITIAL, 0);
        between = e.reason == EXIT_REASON_EXTERNAL_INTERRUPT && e.rip == (uint64_t)rep_stos + 2 &&
                  vmx_guest.rcx < sizeof target;
        if (e.reason == EXIT_REASON_EXTERNAL_INTERRUPT) {
            lapic_write(LAPIC_EOI, 0);
        }
    }
    report("rep-exit-rf", rule, between && e.rflags & RFLAGS_RF, "reason %u RIP +%lu RFLAGS %lx RCX %lx",
           e.reason, e.rip - (uint64_t)rep_stos, e.rflags, vmx_guest.rcx);
    asm volatile("sti; nop; nop; cli" ::: "memory");
    vmcs_set(VMCS_GUEST_RIP, (uint64_t)spin);
    vmcs_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    lapic_icr(lapic_read(LAPIC_ID) >> 24, VECTOR_IRQ);
    e = vmx_enter();
    if (e.reason != EXIT_REASON_EXTERNAL_INTERRUPT) {
        report("exit-rf-0", rule, false, "reason %u", e.reason);
        return;
    }
    lapic_write(LAPIC_EOI, 0);
    report("exit-rf-0", "SDM 3C 27.3.3: RF as it was, between two instructions", !(e.rflags & RFLAGS_RF),
           "RFLAGS %lx", e.rflags);
}

/* -- The APIC-access page ------------------------------------------------------------------------------ */

static uint8_t *vapic, *access_page;

static struct vmx_exit apic(const char *code, unsigned offset, uint32_t proc2)
{
    vmx_guest_reset();
    memset(vapic, 0, PAGE_SIZE);
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_TPR_SHADOW);
    vmcs_set(VMCS_VIRTUAL_APIC_ADDRESS, (uint64_t)vapic);
    vmcs_set(VMCS_APIC_ACCESS_ADDRESS, (uint64_t)access_page);
    vmcs_set(VMCS_TPR_THRESHOLD, 0);
    vmx_secondary(PROC2_APIC_ACCESSES | proc2);
    vmx_guest.rax = 0x30;
    vmx_guest.rbx = (uint64_t)access_page + offset;
    return vmx_run(code);
}

static void access_page_again(void)
{
    COVERS(PROC2_VIRTUALIZE_APIC_ACCESSES);
    static const char rule[] = "SDM 3C 27.2.1: bit 12 is W/R as a page fault would have it: RMW is a write";
    vapic = page_alloc();
    access_page = page_alloc();
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_APIC_ACCESSES)) {
        report_skip("access-rmw", rule, "no virtualize APIC accesses");
        return;
    }
    struct vmx_exit e = apic(apic_or, 0x300, 0);
    report("access-rmw", rule,
           e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification & 0xffff) == (0x300 | 1 << 12),
           "reason %u qualification %lx", e.reason, e.qualification);
    e = apic(apic_xchg, 0x20, 0);
    report("access-xchg", rule,
           e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification & 0xffff) == (0x20 | 1 << 12),
           "reason %u qualification %lx", e.reason, e.qualification);
    e = apic(tpr_or, 0x80, 0);
    report("access-rmw-tpr",
           "SDM 3C 29.4.2, 29.4.3: both halves of a read-modify-write of VTPR are virtualized",
           ran(&e) && vapic[0x80] == 0x30 && (uint32_t)vmx_guest.rdx == 0x30, "reason %u VTPR %x", e.reason,
           vapic[0x80]);
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_APIC_REGISTER)) {
        return;
    }
    e = apic(apic_or, 0x30, PROC2_APIC_REGISTER);
    report("access-rmw-version",
           "SDM 3C 29.4.3: a register that can be read, not written: the exit is a write",
           e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification & 0xffff) == (0x30 | 1 << 12),
           "reason %u qualification %lx", e.reason, e.qualification);
}

/* PAE paging in the guest, whose page-directory-pointer table lies in the APIC-access page: MOV to CR3 loads
 * it. */
static void pdptes_there(void)
{
    static const char rule[] =
        "SDM 3C 29.4.6.1 Guest-Physical Accesses: PDPTE loads by MOV to CR3 with EPT: type 15";
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_APIC_ACCESSES | PROC2_ENABLE_EPT)) {
        report_skip("access-pdpte", rule, "no EPT");
        return;
    }
    vmx_guest_reset();
    uint64_t *pdpt = page_alloc(), *pd = page_alloc();
    for (unsigned i = 0; i < 4; i++) {
        pdpt[i] = (uint64_t)pd | PTE_P;
    }
    for (unsigned i = 0; i < 512; i++) {
        pd[i] = (uint64_t)i << 21 | PTE_P | PTE_W | PTE_PS;
    }
    vmx_control_clear(VMCS_ENTRY_CONTROLS, ENTRY_IA32E_GUEST);
    vmx_control_clear(VMCS_PROC_CONTROLS, PROC_TPR_SHADOW);
    vmx_secondary(PROC2_APIC_ACCESSES | PROC2_ENABLE_EPT);
    vmcs_set(VMCS_EPT_POINTER, ept_identity(4));
    vmcs_set(VMCS_APIC_ACCESS_ADDRESS, (uint64_t)access_page);
    vmcs_set(VMCS_GUEST_CS_SELECTOR, SEL_CODE32);
    vmcs_set(VMCS_GUEST_CS_ACCESS, 0xc09b);
    vmcs_set(VMCS_GUEST_CR3, (uint64_t)pdpt);
    vmcs_set(VMCS_GUEST_CR4, (read_cr4() & ~CR4_PCIDE) | CR4_PAE);
    vmcs_set(VMCS_GUEST_EFER, rdmsr(IA32_EFER) & ~(EFER_LMA | EFER_LME));
    for (unsigned i = 0; i < 4; i++) {
        vmcs_set(VMCS_GUEST_PDPTE0 + 2 * i, pdpt[i]);
    }
    vmx_guest.rbx = (uint64_t)access_page;
    struct vmx_exit e = vmx_run(load_pdptes);
    report("access-pdpte", rule,
           e.reason == EXIT_REASON_APIC_ACCESS && (e.qualification >> 12 & 15) == 15 &&
               e.rip == (uint64_t)load_pdptes,
           "result %d error %u reason %x qualification %lx", e.result, e.error, e.reason, e.qualification);
}

void guest_main(void)
{
    lapic_enable();
    if (!vmx_start()) {
        check_trap("vmx-absent", "SDM 3C 30.3 VMCALL #UD without VMX", TRY_ASM("vmcall"), EXC_UD, 0);
        return;
    }
    secondary_off();
    debug_controls();
    pat();
    efer();
    perf_global_ctrl();
    monitor_exiting();
    saved_rf();
    access_page_again();
    pdptes_there();
    init_and_sipi();
    asm volatile("vmxoff");
}
