/*
 * vmx_func.c -- VM functions and EPTP switching, and TSC scaling.
 * SDM 3C 24.6.5 "Time-Stamp Counter Offset and Multiplier", 24.6.14 "VM-Function Controls", 25.3 "Changes to
 * Instruction Behavior in VMX Non-Root Operation", 25.5.6 "VM Functions", 26.2.1.1 "VM-Execution Control
 * Fields".
 *
 * Each of the EPT hierarchies maps WINDOW to a frame of its own, and everything else one to one.
 */
#include "covers.h"
#include "vmx.h"

#define WINDOW      0x40000000ul
#define HIERARCHIES 64
#define EPT_WB      (6ul << 3)
#define EPT_A       (1ul << 8)
#define EPT_D       (1ul << 9)
#define EPTP_AD     (1ul << 6)
#define SCALE_ONE   (1ul << 48)

GUEST_CODE(g_tsc, 64, "rdtsc");
GUEST_CODE(g_tscp, 64, "rdtscp");
GUEST_CODE(g_tsc_msr, 64, "mov $0x10, %ecx\n rdmsr");
GUEST_CODE(g_tsc_write, 64, "mov $0x10, %ecx\n mov $0x5555, %eax\n mov $0x1234, %edx\n wrmsr");
GUEST_CODE(g_spin, 64, "sti\n 1: rdtsc\n jmp 1b");
GUEST_CODE(g_vmfunc, 64, "vmfunc");
GUEST_CODE(g_switch, 64,
           "mov (%rbx), %rsi\n xor %eax, %eax\n stc\n vmfunc\n pushf\n pop %rdx\n mov (%rbx), %rdi");
GUEST_CODE(g_switch_32, 32, "mov (%ebx), %esi\n xor %eax, %eax\n vmfunc\n mov (%ebx), %edi");
GUEST_CODE(g_write_both, 64, "movb $1, (%rbx)\n xor %eax, %eax\n vmfunc\n movb $2, (%rbx)");
GUEST_CODE(g_lock_vmfunc, 64, ".byte 0xf0\n vmfunc");
GUEST_CODE(g_prefix_vmfunc, 64, ".byte 0x66\n vmfunc");
GUEST_CODE(g_tour, 64,
           "xor %edi, %edi\n mov $1000, %r8d\n"
           "1: xor %ecx, %ecx\n"
           "2: xor %eax, %eax\n vmfunc\n add (%rbx), %rdi\n inc %ecx\n cmp $64, %ecx\n jne 2b\n"
           "dec %r8d\n jnz 1b");

static uint64_t *list, eptp[HIERARCHIES];
static uint64_t *frame[HIERARCHIES];
static uint64_t cap;

static bool ran(const struct vmx_exit *e)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_VMCALL;
}
static bool raised(const struct vmx_exit *e, unsigned vector)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_EXCEPTION && (e->interruption & 0xff) == vector;
}
static bool refused(const struct vmx_exit *e)
{
    return e->result == VMX_FAIL_VALID && e->error == 7;
}

/* -- TSC scaling --------------------------------------------------------------------------------------- */
static void scaling(uint64_t multiplier, uint64_t offset)
{
    vmx_guest_reset();
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_TSC_OFFSETTING);
    vmx_secondary(PROC2_TSC_SCALING);
    vmcs_set(VMCS_TSC_MULTIPLIER, multiplier);
    vmcs_set(VMCS_TSC_OFFSET, offset);
}

static uint64_t scaled(uint64_t tsc, uint64_t multiplier, uint64_t offset)
{
    return (uint64_t)((unsigned __int128)tsc * multiplier >> 48) + offset;
}

/* The guest's TSC lies between what the host's TSC before and after would be to it. */
static void scaled_read(const char *name, const char *rule, const char *code, uint64_t multiplier,
                        uint64_t offset)
{
    scaling(multiplier, offset);
    vmx_secondary(PROC2_ENABLE_RDTSCP);
    uint64_t before = scaled(rdtsc(), multiplier, offset);
    struct vmx_exit e = vmx_run(code);
    uint64_t after = scaled(rdtsc(), multiplier, offset);
    uint64_t got = vmx_guest.rdx << 32 | (uint32_t)vmx_guest.rax;
    report(name, rule, ran(&e) && got - before <= after - before,
           "result %d error %u reason %u: %lx, not %lx..%lx", e.result, e.error, e.reason, got, before,
           after);
}

static volatile bool deadline_seen;
static bool deadline_handler(struct trap_frame *frame)
{
    (void)frame;
    deadline_seen = true;
    lapic_write(LAPIC_EOI, 0);
    return true;
}

/* The deadline of the local APIC is a value of the TSC itself, whatever the guest reads. */
static void scaled_deadline(void)
{
    const char *name = "tsc-scaling-deadline",
               *rule = "SDM 3C 25.3: scaling is for RDTSC, RDTSCP and RDMSR only";
    if (!(cpuid(1, 0).ecx & 1u << 24)) {
        report_skip(name, rule, "no TSC-deadline timer");
        return;
    }
    lapic_enable();
    trap_handlers[0x40] = deadline_handler;
    scaling(SCALE_ONE / 4, 0);
    vmx_control_set(VMCS_PIN_CONTROLS, PIN_EXTERNAL_INTERRUPT_EXITING);
    lapic_write(LAPIC_LVT_TIMER, 0x40040);
    asm volatile("mfence" ::: "memory");
    uint64_t deadline = rdtsc() + 20000;
    wrmsr(0x6e0, deadline);
    struct vmx_exit e = vmx_run(g_spin);
    uint64_t after = rdtsc();
    uint64_t guest = vmx_guest.rdx << 32 | (uint32_t)vmx_guest.rax;
    asm volatile("sti; nop; cli");
    lapic_write(LAPIC_LVT_TIMER, 0x10040);
    report(name, rule,
           e.reason == EXIT_REASON_EXTERNAL_INTERRUPT && after >= deadline && guest < deadline &&
               deadline_seen,
           "result %d reason %u: after %lx, deadline %lx, guest %lx", e.result, e.reason, after, deadline,
           guest);
}

static void tsc_scaling(void)
{
    COVERS(PROC2_USE_TSC_SCALING);
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_TSC_SCALING)) {
        report_skip("tsc-scaling", "SDM 3C 24.6.5", "no TSC scaling");
        return;
    }
    const char *rule = "SDM 3C 25.3 RDTSC: (TSC * multiplier >> 48) + offset";
    scaled_read("tsc-scaling-double", rule, g_tsc, SCALE_ONE * 2, 0);
    scaled_read("tsc-scaling-offset", rule, g_tsc, SCALE_ONE * 3 / 2, 1ul << 40);
    scaled_read("tsc-scaling-negative-offset", rule, g_tsc, SCALE_ONE / 2, -0x123456789ul);
    scaled_read("tsc-scaling-largest", rule, g_tsc, ~0ul, 5);
    scaled_read("tsc-scaling-rdtscp", "SDM 3C 25.3 RDTSCP", g_tscp, SCALE_ONE * 5, 77);
    scaled_read("tsc-scaling-rdmsr", "SDM 3C 25.3 RDMSR of IA32_TIME_STAMP_COUNTER", g_tsc_msr, SCALE_ONE * 5,
                77);
    if (cpuid(7, 0).ebx & 2) {
        wrmsr(0x3b, 1ul << 36);
        scaled_read("tsc-scaling-adjust", "SDM 3B 17.17.3: IA32_TSC_ADJUST is part of the TSC that is scaled",
                    g_tsc, SCALE_ONE * 2, 9);
        wrmsr(0x3b, 0);
    } else {
        report_skip("tsc-scaling-adjust", "SDM 3B 17.17.3", "no IA32_TSC_ADJUST");
    }

    scaling(SCALE_ONE * 16, 1ul << 50);
    vmx_control_clear(VMCS_PROC_CONTROLS, PROC_TSC_OFFSETTING);
    uint64_t before = rdtsc();
    struct vmx_exit e = vmx_run(g_tsc);
    uint64_t after = rdtsc(), got = vmx_guest.rdx << 32 | (uint32_t)vmx_guest.rax;
    report("tsc-scaling-without-offsetting", "SDM 3C 24.6.5: no effect if \"use TSC offsetting\" is 0",
           ran(&e) && got >= before && got <= after, "reason %u: %lx, not %lx..%lx", e.reason, got, before,
           after);
    scaling(SCALE_ONE * 2, 0);
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_RDTSC_EXITING);
    e = vmx_run(g_tsc);
    report("tsc-scaling-exiting", "SDM 3C 25.1.3: \"RDTSC exiting\" comes first",
           e.reason == EXIT_REASON_RDTSC, "reason %u", e.reason);
    scaling(SCALE_ONE * 2, 1ul << 40);
    uint64_t saved = rdtsc();
    e = vmx_run(g_tsc_write);
    uint64_t written = rdtsc() - 0x123400005555ul;
    wrmsr(0x10, saved + written);
    report("tsc-scaling-wrmsr", "SDM 3C 25.3: WRMSR writes the TSC itself", ran(&e) && written < 1ul << 30,
           "reason %u, %lx since", e.reason, written);
    if (cpuid(7, 0).ebx & 2) {
        wrmsr(0x3b, 0);
    }
    scaled_deadline();
    if (enabled("tsc-multiplier-0", "SDM 3C 26.2.1.1")) {
        scaling(0, 0);
        e = vmx_run(g_tsc);
        report("tsc-multiplier-0", "SDM 3C 26.2.1.1: the multiplier must not be 0", refused(&e),
               "result %d error %u reason %u", e.result, e.error, e.reason);
    }
    vmx_control_clear(VMCS_PROC2_CONTROLS, PROC2_TSC_SCALING);
    e = vmx_run(g_tsc);
    report("tsc-multiplier-unused", "SDM 3C 26.2.1.1: not looked at without \"use TSC scaling\"", ran(&e),
           "result %d error %u reason %u", e.result, e.error, e.reason);
}

/* -- VM functions -------------------------------------------------------------------------------------- */
static void setup(void)
{
    vmx_guest_reset();
    vmx_secondary(PROC2_ENABLE_EPT | PROC2_ENABLE_VMFUNC);
    vmcs_set(VMCS_EPT_POINTER, eptp[0]);
    vmcs_set(VMCS_VMFUNC_CONTROLS, 1);
    vmcs_set(VMCS_EPTP_LIST, (uint64_t)list);
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1u << EXC_UD | 1u << EXC_PF | 1u << EXC_GP);
    for (unsigned i = 0; i < HIERARCHIES; i++) {
        *(volatile uint64_t *)&list[i] = eptp[i];
    }
}

static struct vmx_exit run(const char *code, uint64_t rax, uint64_t rcx)
{
    vmx_guest = (struct vmx_registers){0};
    vmx_guest.rax = rax;
    vmx_guest.rbx = WINDOW;
    vmx_guest.rcx = rcx;
    return vmx_run(code);
}

/* A hierarchy of its own for WINDOW; what lies elsewhere is shared with the first. */
static uint64_t hierarchy(uint64_t first)
{
    uint64_t *pml4 = page_alloc(), *pdpt = page_alloc(), *directory = page_alloc();
    memcpy(pml4, (void *)(first & PTE_ADDRESS), PAGE_SIZE);
    memcpy(pdpt, (void *)(pml4[0] & PTE_ADDRESS), PAGE_SIZE);
    memcpy(directory, (void *)(pdpt[WINDOW >> 30] & PTE_ADDRESS), PAGE_SIZE);
    pml4[0] = (uint64_t)pdpt | 7;
    pdpt[WINDOW >> 30] = (uint64_t)directory | 7;
    return (uint64_t)pml4 | 3 << 3 | 6;
}

static void exits_59(const char *name, const char *rule, uint64_t rax, uint64_t rcx)
{
    struct vmx_exit e = run(g_vmfunc, rax, rcx);
    report(name, rule,
           e.result == VMX_OK && e.reason == EXIT_REASON_VMFUNC && e.length == 3 &&
               e.rip == (uint64_t)g_vmfunc && e.qualification == 0 && vmcs(VMCS_EPT_POINTER) == eptp[0],
           "result %d error %u reason %u length %u RIP +%lx EPTP %lx", e.result, e.error, e.reason, e.length,
           e.rip - (uint64_t)g_vmfunc, vmcs(VMCS_EPT_POINTER));
}

static void undefined(const char *name, const char *rule, const char *code, uint64_t rax)
{
    struct vmx_exit e = run(code, rax, 0);
    report(name, rule, raised(&e, EXC_UD) && e.rip == (uint64_t)code, "result %d reason %u interruption %x",
           e.result, e.reason, e.interruption);
}

static void bad_eptp(const char *name, uint64_t value)
{
    setup();
    *(volatile uint64_t *)&list[3] = value;
    exits_59(name, "SDM 3C 25.5.6.3: VM exit if the entry is no valid EPTP value", 0, 3);
}

static void switching(void)
{
    const char *rule = "SDM 3C 25.5.6.3 EPTP Switching";
    setup();
    struct vmx_exit e = run(g_switch, 0, 1);
    report("eptp-switch", rule,
           ran(&e) && vmx_guest.rsi == *frame[0] && vmx_guest.rdi == *frame[1] &&
               vmcs(VMCS_EPT_POINTER) == eptp[1],
           "result %d error %u reason %u: %lx then %lx, EPTP %lx", e.result, e.error, e.reason, vmx_guest.rsi,
           vmx_guest.rdi, vmcs(VMCS_EPT_POINTER));
    report("eptp-switch-registers", "SDM 3C 25.5.6.3: no register and no flag is modified",
           ran(&e) && vmx_guest.rax == 0 && vmx_guest.rcx == 1 && vmx_guest.rbx == WINDOW &&
               (vmx_guest.rdx & 0x8d5) == 0x45,
           "RAX %lx RCX %lx RFLAGS %lx", vmx_guest.rax, vmx_guest.rcx, vmx_guest.rdx);
    setup();
    e = run(g_switch, 0, 5ul << 32 | 2);
    report("eptp-switch-ecx", "SDM 3C 25.5.6.3: ECX selects, bits 63:32 of RCX do not count",
           ran(&e) && vmx_guest.rdi == *frame[2], "reason %u %lx", e.reason, vmx_guest.rdi);
    setup();
    vmcs_set(VMCS_GUEST_CS_SELECTOR, SEL_USER_CODE64 | 3);
    vmcs_set(VMCS_GUEST_CS_ACCESS, 0xa0fb);
    vmcs_set(VMCS_GUEST_SS_SELECTOR, SEL_USER_DATA | 3);
    vmcs_set(VMCS_GUEST_SS_ACCESS, 0xc0f3);
    page_map(boot_pml4, WINDOW, WINDOW | PTE_P | PTE_W | PTE_U | PTE_PS, 2);
    e = run(g_switch, 0, 3);
    report("eptp-switch-ring-3", "SDM 3C 25.5.6.2: a VM function may be used at any CPL",
           ran(&e) && vmx_guest.rsi == *frame[0] && vmx_guest.rdi == *frame[3],
           "result %d error %u reason %u %lx %lx", e.result, e.error, e.reason, vmx_guest.rsi, vmx_guest.rdi);
    setup();
    vmcs_set(VMCS_GUEST_CS_SELECTOR, SEL_CODE32);
    vmcs_set(VMCS_GUEST_CS_ACCESS, 0xc09b);
    e = run(g_switch_32, 0, 4);
    report("eptp-switch-compatibility", "SDM 3C 30.3 VMFUNC: in compatibility mode as in 64-bit mode",
           ran(&e) && vmx_guest.rdi == (uint32_t)*frame[4], "result %d error %u reason %u %lx", e.result,
           e.error, e.reason, vmx_guest.rdi);
    setup();
    vmcs_set(VMCS_EPTP_LIST, (uint64_t)list + PAGE_SIZE);
    list[PAGE_SIZE / 8 + 511] = eptp[5];
    e = run(g_switch, 0, 511);
    report("eptp-switch-last", "SDM 3C 24.6.14: the list has 512 entries",
           ran(&e) && vmx_guest.rdi == *frame[5], "reason %u %lx", e.reason, vmx_guest.rdi);

    uint64_t want = 0;
    for (unsigned i = 0; i < HIERARCHIES; i++) {
        want += *frame[i] * 1000;
    }
    setup();
    e = run(g_tour, 0, 0);
    report("eptp-switch-tour", "SDM 3C 25.5.6.3: 64 hierarchies, 1000 times each",
           ran(&e) && vmx_guest.rdi == want && vmcs(VMCS_EPT_POINTER) == eptp[HIERARCHIES - 1],
           "reason %u sum %lx, want %lx", e.reason, vmx_guest.rdi, want);

    /* A change of a hierarchy that is not in use. */
    uint64_t *entry = ept_entry(eptp[1], WINDOW, 1), old = *entry;
    setup();
    e = run(g_switch, 0, 1);
    *(volatile uint64_t *)entry = (uint64_t)frame[9] | EPT_WB | 7;
    invept(1, eptp[1]);
    setup();
    e = run(g_switch, 0, 1);
    report("eptp-switch-invept", "SDM 3C 28.4.3.1: INVEPT reaches hierarchies that are not in use",
           ran(&e) && vmx_guest.rdi == *frame[9], "reason %u %lx", e.reason, vmx_guest.rdi);
    *(volatile uint64_t *)entry = old & ~7ul;
    invept(1, eptp[1]);
    setup();
    e = run(g_switch, 0, 1);
    report("eptp-switch-violation", "SDM 3C 25.5.6.3: the new hierarchy governs the next access",
           e.reason == EXIT_REASON_EPT_VIOLATION && e.physical == WINDOW && vmx_guest.rsi == *frame[0] &&
               vmcs(VMCS_EPT_POINTER) == eptp[1],
           "reason %u physical %lx", e.reason, e.physical);
    *(volatile uint64_t *)entry = old;
    invept(1, eptp[1]);
    /* Fetches, too: the code's page is not there in hierarchy 6. */
    uint64_t *code = ept_entry(eptp[6], (uint64_t)g_switch, 1);
    uint64_t code_old = *code;
    *(volatile uint64_t *)code = 0;
    invept(1, eptp[6]);
    setup();
    e = run(g_vmfunc, 0, 6);
    report("eptp-switch-fetch",
           "SDM 3C 25.5.6.3: VMFUNC completes, the next instruction's fetch is the new EPT's",
           e.reason == EXIT_REASON_EPT_VIOLATION && (e.qualification & 7) == 4 &&
               e.rip == (uint64_t)g_vmfunc + 3,
           "reason %u qualification %lx RIP +%lx", e.reason, e.qualification, e.rip - (uint64_t)g_vmfunc);
    *(volatile uint64_t *)code = code_old;
    invept(1, eptp[6]);
}

static void flags_and_log(void)
{
    if (!(cap & 1 << 21)) {
        report_skip("eptp-switch-dirty", "SDM 3C 28.3.5", "no EPT accessed and dirty flags");
        return;
    }
    uint64_t *one = ept_entry(eptp[0], WINDOW, 1), *two = ept_entry(eptp[1], WINDOW, 1);
    *(volatile uint64_t *)one &= ~(EPT_A | EPT_D);
    *(volatile uint64_t *)two &= ~(EPT_A | EPT_D);
    invept(2, 0);
    setup();
    list[1] = eptp[1] | EPTP_AD;
    struct vmx_exit e = run(g_write_both, 0, 1);
    report("eptp-switch-dirty", "SDM 3C 28.3.5: bit 6 of the new EPTP says whether flags are set",
           ran(&e) && !(*one & (EPT_A | EPT_D)) && (*two & EPT_A) && (*two & EPT_D) &&
               vmcs(VMCS_EPT_POINTER) == (eptp[1] | EPTP_AD),
           "result %d error %u reason %u: %lx and %lx", e.result, e.error, e.reason, *one, *two);
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_PML)) {
        report_skip("eptp-switch-pml", "SDM 3C 28.3.6", "no PML");
        return;
    }
    *(volatile uint64_t *)one &= ~EPT_D;
    *(volatile uint64_t *)two &= ~EPT_D;
    invept(2, 0);
    uint64_t *log = page_alloc();
    setup();
    vmcs_set(VMCS_EPT_POINTER, eptp[0] | EPTP_AD);
    list[1] = eptp[1] | EPTP_AD;
    vmx_secondary(PROC2_ENABLE_PML);
    vmcs_set(VMCS_PML_ADDRESS, (uint64_t)log);
    vmcs_set(VMCS_GUEST_PML_INDEX, 511);
    e = run(g_write_both, 0, 1);
    unsigned found = 0;
    for (uint64_t i = vmcs(VMCS_GUEST_PML_INDEX) + 1; i < 512; i++) {
        found += (log[i] & ~0xffful) == WINDOW;
    }
    report("eptp-switch-pml", "SDM 3C 28.3.6: one log, whatever EPTP set the dirty flag",
           ran(&e) && found == 2 && (*one & EPT_D) && (*two & EPT_D),
           "result %d reason %u found %u index %lx", e.result, e.reason, found, vmcs(VMCS_GUEST_PML_INDEX));
}

static void rules(void)
{
    setup();
    exits_59("eptp-list-512", "SDM 3C 25.5.6.3: VM exit if ECX >= 512", 0, 512);
    exits_59("eptp-list-largest", "SDM 3C 25.5.6.3: VM exit if ECX >= 512", 0, 0xffffffff);
    exits_59("vmfunc-1", "SDM 3C 25.5.6.2: VM exit if the VM function is not enabled", 1, 0);
    exits_59("vmfunc-63", "SDM 3C 25.5.6.2: VM exit if the VM function is not enabled", 63, 0);
    undefined("vmfunc-64", "SDM 3C 25.5.6.2: #UD if EAX is greater than 63", g_vmfunc, 64);
    undefined("vmfunc-eax", "SDM 3C 25.5.6.2: #UD if EAX is greater than 63", g_vmfunc, 0xffffffff);
    undefined("vmfunc-lock", "SDM 3C 30.3 VMFUNC: #UD with a LOCK prefix", g_lock_vmfunc, 0);
    if (enabled("vmfunc-operand-size", "SDM 3C 30.3 VMFUNC")) {
        undefined("vmfunc-operand-size", "SDM 3C 30.3 VMFUNC: NP, so #UD with prefix 66H", g_prefix_vmfunc,
                  0);
    }
    struct vmx_exit e = run(g_switch, 0, 7);
    e = run(g_vmfunc, 7ul << 32, 8);
    report("vmfunc-rax-high", "SDM 3C 25.5.6.2: EAX selects, bits 63:32 of RAX do not count",
           ran(&e) && vmcs(VMCS_EPT_POINTER) == eptp[8], "reason %u", e.reason);
    setup();
    vmcs_set(VMCS_VMFUNC_CONTROLS, 0);
    exits_59("vmfunc-none", "SDM 3C 25.5.6.2: VM exit with no VM function enabled", 0, 1);
    setup();
    vmx_control_clear(VMCS_PROC2_CONTROLS, PROC2_ENABLE_VMFUNC);
    undefined("vmfunc-off", "SDM 3C 25.5.6.2: #UD if \"enable VM functions\" is 0", g_vmfunc, 0);
    bad_eptp("eptp-list-type", eptp[3] ^ 1);
    bad_eptp("eptp-list-length", eptp[3] ^ 8);
    bad_eptp("eptp-list-reserved", eptp[3] | 1 << 11);
    bad_eptp("eptp-list-wide", eptp[3] | 1ul << physical_bits());
    bad_eptp("eptp-list-zero", 0);
}

static void entry(const char *name, const char *rule, bool fails)
{
    struct vmx_exit e = run(g_tsc, 0, 0);
    report(name, rule, fails ? refused(&e) : ran(&e), "result %d error %u reason %u", e.result, e.error,
           e.reason);
}

static void entry_rules(void)
{
    check_equal("vmfunc-capability", "SDM 3D A.11: IA32_VMX_VMFUNC bit 0 is EPTP switching",
                rdmsr(IA32_VMX_VMFUNC) & 1, 1);
    setup();
    vmcs_set(VMCS_VMFUNC_CONTROLS, ~rdmsr(IA32_VMX_VMFUNC));
    entry("entry-vmfunc-reserved", "SDM 3C 26.2.1.1: reserved bits of the VM-function controls", true);
    vmx_control_clear(VMCS_PROC2_CONTROLS, PROC2_ENABLE_VMFUNC);
    entry("entry-vmfunc-off", "SDM 3C 26.2.1.1: not looked at without \"enable VM functions\"", false);
    setup();
    vmx_control_clear(VMCS_PROC2_CONTROLS, PROC2_ENABLE_EPT);
    entry("entry-eptp-switching-without-ept", "SDM 3C 26.2.1.1: EPTP switching needs EPT", true);
    vmcs_set(VMCS_VMFUNC_CONTROLS, 0);
    entry("entry-vmfunc-without-ept", "SDM 3C 26.2.1.1: no VM function, no need of EPT", false);
    setup();
    vmcs_set(VMCS_EPTP_LIST, (uint64_t)list | 8);
    entry("entry-eptp-list-aligned", "SDM 3C 26.2.1.1: bits 11:0 of the EPTP-list address", true);
    vmcs_set(VMCS_EPTP_LIST, 1ul << physical_bits());
    entry("entry-eptp-list-wide", "SDM 3C 26.2.1.1: the EPTP-list address within the physical-address width",
          true);
    vmcs_set(VMCS_VMFUNC_CONTROLS, 0);
    entry("entry-eptp-list-unused", "SDM 3C 26.2.1.1: not looked at without EPTP switching", false);
    check_trap("vmfunc-root", "SDM 3C 30.3 VMFUNC: #UD in VMX root operation",
               TRY_ASM("xor %%eax, %%eax; vmfunc"), EXC_UD, 0);
}

static void vm_functions(void)
{
    COVERS(PROC2_ENABLE_VM_FUNCTIONS);
    COVERS(EXIT_VMFUNC);
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS2, PROC2_ENABLE_EPT | PROC2_ENABLE_VMFUNC)) {
        report_skip("vmfunc", "SDM 3C 25.5.6", "no VM functions");
        return;
    }
    cap = rdmsr(IA32_VMX_EPT_VPID_CAP);
    list = page_alloc_aligned(2 * PAGE_SIZE);
    eptp[0] = ept_identity(2);
    for (unsigned i = 1; i < HIERARCHIES; i++) {
        eptp[i] = hierarchy(eptp[0]);
    }
    /* The code that hierarchy 6 lacks lies in a directory that the others share: it gets its own. */
    uint64_t *pdpt = (uint64_t *)(*ept_entry(eptp[6], 0, 4) & PTE_ADDRESS), *directory = page_alloc();
    memcpy(directory, (void *)(pdpt[0] & PTE_ADDRESS), PAGE_SIZE);
    pdpt[0] = (uint64_t)directory | 7;
    for (unsigned i = 0; i < HIERARCHIES; i++) {
        frame[i] = page_alloc();
        *frame[i] = 0x1111 * (i + 1) + ((uint64_t)i << 40);
        *ept_entry(eptp[i], WINDOW, 1) = (uint64_t)frame[i] | EPT_WB | 7;
    }
    switching();
    flags_and_log();
    rules();
    entry_rules();
}

void guest_main(void)
{
    if (!vmx_start()) {
        check_trap("vmx-absent", "SDM 3C 30.3 VMCALL #UD without VMX", TRY_ASM("vmcall"), EXC_UD, 0);
        return;
    }
    tsc_scaling();
    vm_functions();
    asm volatile("vmxoff");
}
