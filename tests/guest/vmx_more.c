/*
 * vmx_more.c -- PAUSE loops, XSAVES, GETSEC, VMFUNC, VMCALL in compatibility mode, and MSR lists that fail.
 * SDM 3C 24.6.13 "Controls for PAUSE-Loop Exiting", 25.1 "Instructions That Cause VM Exits", 26.4 "Loading
 * MSRs", 26.8 "VM-Entry Failures During or After Loading Guest State", 27.4 "Saving MSRs".
 */
#include "covers.h"
#include "vmx.h"

#define EXIT_REASON_FAILED_MSR (EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_MSR_LOADING)

GUEST_CODE(pause_loop, 64, "mov $20000, %ecx\n 1: pause\n loop 1b");
GUEST_CODE(pause_slow, 64, "mov $40, %ecx\n 1: pause\n mov $300, %edx\n 2: dec %edx\n jnz 2b\n loop 1b");
GUEST_CODE(xsaves, 64, "mov $-1, %eax\n mov $-1, %edx\n xsaves (%rbx)");
GUEST_CODE(xrstors, 64, "mov $-1, %eax\n mov $-1, %edx\n xrstors (%rbx)");
GUEST_CODE(getsec, 64, "xor %eax, %eax\n .byte 0x0f, 0x37");
GUEST_CODE(vmfunc, 64, "xor %eax, %eax\n xor %ecx, %ecx\n vmfunc");
GUEST_CODE(compat_vmcall, 32, "nop");
GUEST_CODE(compat_vmread, 32, "vmread %eax, %ecx");
GUEST_CODE(nothing, 64, "nop");

static bool ran(const struct vmx_exit *e)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_VMCALL;
}
static bool raised(const struct vmx_exit *e, unsigned vector)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_EXCEPTION && (e->interruption & 0xff) == vector;
}

/* -- PAUSE loops --------------------------------------------------------------------------------------- */
static void ple_setup(uint32_t gap, uint32_t window)
{
    vmx_guest_reset();
    vmx_secondary(PROC2_PAUSE_LOOP_EXITING);
    vmcs_set(VMCS_PLE_GAP, gap);
    vmcs_set(VMCS_PLE_WINDOW, window);
}

static void pause_loops(void)
{
    COVERS(PROC2_PAUSE_LOOP_EXITING);
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_PAUSE_LOOP_EXITING)) {
        report_skip("pause-loop", "SDM 3C 24.6.13", "no PAUSE-loop exiting");
        return;
    }
    ple_setup(200, 4000);
    struct vmx_exit e = vmx_run(pause_loop);
    report("pause-loop",
           "SDM 3C 25.1.3 PAUSE: executions at most PLE_Gap apart for longer than PLE_Window exit",
           e.reason == EXIT_REASON_PAUSE && e.rip == (uint64_t)pause_loop + 5 && e.length == 2 &&
               (vmx_guest.rcx & 0xffffffff) < 20000 && (vmx_guest.rcx & 0xffffffff) > 20000 - 4001,
           "reason %u RIP +%lu length %u RCX %lx", e.reason, e.rip - (uint64_t)pause_loop, e.length,
           vmx_guest.rcx);
    ple_setup(200, 0x7fffffff);
    e = vmx_run(pause_loop);
    report("pause-window", "SDM 3C 24.6.13: a loop shorter than PLE_Window does not exit", ran(&e),
           "reason %u", e.reason);
    ple_setup(40, 2000);
    e = vmx_run(pause_slow);
    report("pause-gap", "SDM 3C 24.6.13: executions farther apart than PLE_Gap are no loop", ran(&e),
           "reason %u RCX %lx", e.reason, vmx_guest.rcx);
    ple_setup(200, 4000);
    vmcs_set(VMCS_GUEST_CS_SELECTOR, SEL_USER_CODE64 | 3);
    vmcs_set(VMCS_GUEST_CS_ACCESS, 0xa0fb);
    vmcs_set(VMCS_GUEST_SS_SELECTOR, SEL_USER_DATA | 3);
    vmcs_set(VMCS_GUEST_SS_ACCESS, 0xc0f3);
    e = vmx_run(pause_loop);
    report("pause-ring3", "SDM 3C 25.1.3 PAUSE: with CPL > 0 the loop is not looked at", ran(&e),
           "result %d error %u reason %u", e.result, e.error, e.reason);
    ple_setup(200, 0x7fffffff);
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_PAUSE_EXITING);
    e = vmx_run(pause_loop);
    report("pause-exiting-first", "SDM 3C 25.1.3 PAUSE: \"PAUSE exiting\" exits whatever the loop",
           e.reason == EXIT_REASON_PAUSE && (vmx_guest.rcx & 0xffffffff) == 20000, "reason %u RCX %lx",
           e.reason, vmx_guest.rcx);
}

/* -- XSAVES, XRSTORS ----------------------------------------------------------------------------------- */
static void xsave_instructions(void)
{
    COVERS(PROC2_ENABLE_XSAVES_XRSTORS);
    bool has = (cpuid(1, 0).ecx & 1u << 26) && (cpuid(0xd, 1).eax & 8);
    if (!has || !vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_XSAVES)) {
        report_skip("xsaves", "SDM 3C 25.1.3", "no XSAVES");
        return;
    }
    uint8_t *area = page_alloc();
    struct cpuid d = cpuid(0xd, 1);
    for (unsigned restore = 0; restore < 2; restore++) {
        const char *code = restore ? xrstors : xsaves, *name = restore ? "xrstors" : "xsaves";
        char text[40];
        for (unsigned enable = 0; enable < 2; enable++) {
            vmx_guest_reset();
            if (enable) {
                vmx_secondary(PROC2_ENABLE_XSAVES);
                vmcs_set(VMCS_XSS_EXITING_BITMAP, ~0ul);
            }
            vmcs_set(VMCS_GUEST_CR4, read_cr4() | CR4_OSXSAVE | CR4_OSFXSR);
            vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_UD | 1 << EXC_GP);
            memset(area, 0, PAGE_SIZE);
            ((uint64_t *)area)[65] = 1ul << 63; /* XCOMP_BV */
            vmx_guest.rbx = (uint64_t)area;
            struct vmx_exit e = vmx_run(code);
            format_text(text, sizeof text, "%s-%s", name, enable ? "no-exit" : "disabled");
            report(text,
                   enable ? "SDM 3C 25.1.3: IA32_XSS & EDX:EAX & XSS-exiting bitmap is 0 as IA32_XSS is"
                          : "SDM 3C 25.3: #UD if \"enable XSAVES/XRSTORS\" is 0",
                   enable ? ran(&e) : raised(&e, EXC_UD), "result %d error %u reason %u interruption %x",
                   e.result, e.error, e.reason, e.interruption);
        }
        format_text(text, sizeof text, "%s-exit", name);
        if (!d.ecx) {
            report_skip(text, "SDM 3C 25.1.3", "IA32_XSS has no bit");
            continue;
        }
        uint32_t bit = d.ecx & -d.ecx;
        vmx_guest_reset();
        vmx_secondary(PROC2_ENABLE_XSAVES);
        vmcs_set(VMCS_XSS_EXITING_BITMAP, bit);
        vmcs_set(VMCS_GUEST_CR4, read_cr4() | CR4_OSXSAVE | CR4_OSFXSR);
        wrmsr(IA32_XSS, bit);
        vmx_guest.rbx = (uint64_t)area;
        struct vmx_exit e = vmx_run(code);
        wrmsr(IA32_XSS, 0);
        report(text, "SDM 3C 25.1.3 XSS-Exiting Bitmap; Table 27-13",
               e.reason == (restore ? EXIT_REASON_XRSTORS : EXIT_REASON_XSAVES) &&
                   e.rip == (uint64_t)code + 10,
               "reason %u RIP +%lu", e.reason, e.rip - (uint64_t)code);
    }
}

/* -- GETSEC, VMFUNC, VMCALL ---------------------------------------------------------------------------- */
static void others(void)
{
    vmx_guest_reset();
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_UD);
    struct vmx_exit e = vmx_run(getsec);
    report("getsec-without-smx", "SDM 2D GETSEC: #UD with CR4.SMXE 0, and no exit", raised(&e, EXC_UD),
           "reason %u", e.reason);
    vmx_guest_reset();
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_UD);
    e = vmx_run(vmfunc);
    report("vmfunc-not-enabled", "SDM 3C 25.5.5.2: #UD if \"enable VM functions\" is 0", raised(&e, EXC_UD),
           "reason %u", e.reason);
    check_trap("vmfunc-root", "SDM 3C 30.3 VMFUNC: #UD in VMX root operation",
               TRY_ASM("xor %%eax, %%eax; vmfunc"), EXC_UD, 0);
    vmx_guest_reset();
    vmcs_set(VMCS_GUEST_CS_SELECTOR, SEL_CODE32);
    vmcs_set(VMCS_GUEST_CS_ACCESS, 0xc09b);
    e = vmx_run(compat_vmcall);
    report("vmcall-compatibility",
           "SDM 3C 30.3 VMCALL: exits in compatibility mode, too: its #UD is root operation's",
           ran(&e) && e.length == 3, "reason %u length %u", e.reason, e.length);
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_UD);
    e = vmx_run(compat_vmread);
    report("vmread-compatibility", "SDM 3C 30.3 VMREAD: #UD in compatibility mode comes before the exit",
           raised(&e, EXC_UD), "reason %u", e.reason);
}

/* -- MSR lists ----------------------------------------------------------------------------------------- */
struct list_entry {
    uint32_t index, reserved;
    uint64_t value;
};

static void msr_lists(void)
{
    static const struct {
        const char *name, *rule;
        struct list_entry entry;
    } bad[] = {
        {"entry-list-gs-base", "SDM 3C 26.4: IA32_GS_BASE may not be in the list", {IA32_GS_BASE, 0, 0}},
        {"entry-list-x2apic", "SDM 3C 26.4: an MSR of x2APIC mode may not be in the list", {0x808, 0, 0}},
        {"entry-list-reserved", "SDM 3C 26.4: bits 63:32 must be 0", {IA32_SYSENTER_CS, 1, 0}},
        {"entry-list-value",
         "SDM 3C 26.4: a value that WRMSR would refuse",
         {IA32_KERNEL_GS_BASE, 0, 1ul << 63}},
        {"entry-list-unknown", "SDM 3C 26.4: an MSR that is not there", {0x4fff, 0, 0}},
        {"entry-list-microcode", "SDM 3C 26.4: IA32_BIOS_UPDT_TRIG may not be in the list", {0x79, 0, 0}},
    };
    struct list_entry *list = page_alloc(), *store = page_alloc();
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        list[0] = (struct list_entry){IA32_KERNEL_GS_BASE, 0, 0x4444 + i};
        list[1] = bad[i].entry;
        vmx_guest_reset();
        vmcs_set(VMCS_ENTRY_MSR_LOAD, (uint64_t)list);
        vmcs_set(VMCS_ENTRY_MSR_LOAD_COUNT, 2);
        struct vmx_exit e = vmx_run(nothing);
        report(bad[i].name, bad[i].rule,
               e.result == VMX_OK && e.reason == EXIT_REASON_FAILED_MSR && e.qualification == 2 &&
                   rdmsr(IA32_KERNEL_GS_BASE) == 0x4444 + i,
               "result %d reason %x qualification %lx first %lx", e.result, e.reason, e.qualification,
               rdmsr(IA32_KERNEL_GS_BASE));
    }
    wrmsr(IA32_KERNEL_GS_BASE, 0);
    /* What such a failure leaves alone. */
    list[0] = (struct list_entry){IA32_GS_BASE, 0, 0};
    vmx_guest_reset();
    vmcs_set(VMCS_ENTRY_MSR_LOAD, (uint64_t)list);
    vmcs_set(VMCS_ENTRY_MSR_LOAD_COUNT, 1);
    vmcs_set(VMCS_EXIT_MSR_STORE, (uint64_t)store);
    vmcs_set(VMCS_EXIT_MSR_STORE_COUNT, 1);
    store[0] = (struct list_entry){IA32_SYSENTER_CS, 0, 0x5555};
    vmcs_set(VMCS_ENTRY_INTERRUPTION_INFO, 1u << 31 | 3 << 8 | EXC_UD);
    vmcs_set(VMCS_GUEST_SYSENTER_EIP, 0x7777);
    struct vmx_exit e = vmx_run(nothing);
    report("entry-failure-keeps",
           "SDM 3C 26.8: the event stays valid, guest state and the MSR-store area are not written",
           e.reason == EXIT_REASON_FAILED_MSR && e.qualification == 1 &&
               vmcs(VMCS_ENTRY_INTERRUPTION_INFO) >> 31 && e.rip == (uint64_t)nothing &&
               vmcs(VMCS_GUEST_SYSENTER_EIP) == 0x7777 && store[0].value == 0x5555,
           "reason %x qualification %lx info %lx RIP %lx stored %lx", e.reason, e.qualification,
           vmcs(VMCS_ENTRY_INTERRUPTION_INFO), e.rip, store[0].value);
    check_equal("entry-failure-host", "SDM 3C 26.8: host state is loaded", rdmsr(IA32_SYSENTER_EIP),
                vmcs(VMCS_HOST_SYSENTER_EIP));
    vmcs_set(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
    vmcs_set(VMCS_ENTRY_INTERRUPTION_INFO, 0);
    e = vmx_run(nothing);
    report("entry-failure-launch-state", "SDM 3C 26.8: the launch state stays clear: VMLAUNCH again",
           ran(&e) && store[0].value == vmcs(VMCS_GUEST_SYSENTER_CS),
           "result %d error %u reason %x stored %lx", e.result, e.error, e.reason, store[0].value);
    /* The TSC in the store list. */
    store[0] = (struct list_entry){IA32_TSC, 0, 0};
    vmx_guest_reset();
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_TSC_OFFSETTING);
    vmcs_set(VMCS_TSC_OFFSET, 1ul << 50);
    vmcs_set(VMCS_EXIT_MSR_STORE, (uint64_t)store);
    vmcs_set(VMCS_EXIT_MSR_STORE_COUNT, 1);
    uint64_t before = rdtsc();
    e = vmx_run(nothing);
    report("store-list-tsc",
           "SDM 3C 24.6.5: the offset is for instructions of the guest; the list has the processor's TSC",
           ran(&e) && store[0].value >= before && store[0].value <= rdtsc(), "%lx, before %lx",
           store[0].value, before);
}

void guest_main(void)
{
    if (!vmx_start()) {
        check_trap("vmx-absent", "SDM 3C 30.3 VMCALL #UD without VMX", TRY_ASM("vmcall"), EXC_UD, 0);
        return;
    }
    pause_loops();
    xsave_instructions();
    others();
    msr_lists();
    asm volatile("vmxoff");
}
